"""A matrix in 8 bits an element, for the products of search.

Search multiplies few rows by large matrices that never change, and what it wants is an order of hypotheses. Processors
with AVX-512 VNNI multiply bytes four times as fast as float32, and a matrix of bytes passes through the cache in a
quarter of the time. The numbers are affine (Jacob et al. 2018, arXiv:1712.05877v1, eq. 1: r = S (q - Z)) with Z = 0.
With W [m, k] and rows x [n, k]::

    s_j = max_k |W_jk| / 127,  Q_jk = round(W_jk / s_j);     r_i = max_k |x_ik| / 127,  p_ik = round(x_ik / r_i)
    x_i . W_j  ~  r_i s_j sum_k p_ik Q_jk

The sums are exact in 32 bits. Each matrix row has a scale, and so has each part of each of the other rows (a word's
embedding is ten times smaller than the state beside it), found anew at every step, so that nothing needs calibration.
``eight_bit.c`` has the layout and the products.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from nmt.model.library import compiled, in_rows, multiplies_integers, side_by_side

# columns of a panel, elements that are multiplied at once, parts of rows; as in eight_bit.c
_PANEL, _QUAD, _PARTS = 64, 4, 4
_GATES = 4


def serves(matrix: Tensor, *, of_gates: bool = False) -> bool:
    """Say whether this processor multiplies by the matrix [m, k] in bytes, and whether that is worth it.

    Where sums are shorter than a few vectors, and results fewer than a panel, there is little to save; what is so
    small, as the position that local-p predicts, is often what everything else hangs on.
    """
    fits = matrix.dtype == torch.float32 and matrix.device.type == "cpu" and min(matrix.shape) >= _PANEL
    fits = fits and not (of_gates and len(matrix) % _PANEL)
    return fits and multiplies_integers()


@final
class ByteMatrix:
    """A matrix [m, k] in bytes.

    Args:
        matrix: W.
        bias: b [m], for :meth:`lstm` and :meth:`choose`; None: 0.
        of_gates: its rows are the gates i, f, o, g of an LSTM, for :meth:`lstm` alone, and m a multiple of 64.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None = None, *, of_gates: bool = False) -> None:
        self.columns, inner = matrix.shape
        self.inner = inner
        panels = -(-self.columns // _PANEL)
        bias = matrix.new_zeros(self.columns) if bias is None else bias
        beyond = panels * _PANEL - self.columns
        self.bias = _by_units(bias) if of_gates else functional.pad(bias, (0, beyond), value=float("-inf"))
        self.panels = torch.empty(panels, -(-inner // _QUAD), _PANEL, _QUAD, dtype=torch.uint8)
        self.scales = torch.empty(panels * _PANEL)
        self._native, rows = compiled(), matrix.contiguous()
        sizes = rows.stride(0), *rows.shape, _QUAD * self.panels.shape[1], of_gates
        self._native.lay_out_bytes(rows.data_ptr(), *sizes, self.panels.data_ptr(), self.scales.data_ptr())

    def product(self, parts: Sequence[Tensor]) -> Tensor:
        """Return rows @ W^T [n, m], without bias, for rows given as parts that stand side by side, [n, k] together."""
        parts = self._accepted(parts)
        results = parts[0].new_empty(parts[0].shape[0], self.columns)
        given = self.panels.data_ptr(), self.scales.data_ptr(), _QUAD * self.panels.shape[1], self.columns
        self._native.product_of_bytes(side_by_side(parts), len(results), *given, results.data_ptr())
        return results

    def lstm(self, parts: Sequence[Tensor], cell: Tensor, hidden: Tensor, new: Tensor) -> None:
        """Write h', c' [n, H] of an LSTM with pre-activations rows @ W^T + b, and c."""
        parts, cell = self._accepted(parts), cell.contiguous()
        given = (each.data_ptr() for each in (self.panels, self.scales, self.bias))
        results = (each.data_ptr() for each in (cell, hidden, new))
        sizes = _QUAD * self.panels.shape[1], cell.shape[1]
        self._native.lstm_of_bytes(side_by_side(parts), len(cell), *given, *sizes, *results)

    def choose(self, rows: Tensor, count: int, never: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best of softmax(rows @ W^T + b) as :func:`nmt.model.kernels.choose` does."""
        parts = self._accepted([rows])
        best, pieces = self.bias.new_empty(len(rows), count), never.new_empty(len(rows), count)
        given = (each.data_ptr() for each in (self.panels, self.scales, self.bias))
        sizes = _QUAD * self.panels.shape[1], self.columns, never.data_ptr(), len(never), count
        self._native.choose_of_bytes(side_by_side(parts), len(rows), *given, *sizes, best.data_ptr(), pieces.data_ptr())
        return best, pieces

    def _accepted(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return parts as ``eight_bit.c`` takes them; they may share a scale then."""
        widths, rows = [part.shape[1] for part in parts], [part.shape[0] for part in parts]
        assert sum(widths) == self.inner and rows.count(rows[0]) == len(rows)
        if len(parts) <= _PARTS and not any(width % _QUAD for width in widths[:-1]):
            return [in_rows(part) for part in parts]
        return [in_rows(torch.cat(list(parts), 1))]


def _by_units(gates: Tensor) -> Tensor:
    """Return the gates of 16 units, of 16 others, .., where there were all units' i, all units' f, .."""
    return gates.unflatten(0, (_GATES, -1, _PANEL // _GATES)).transpose(0, 1).flatten(0, 2).contiguous()
