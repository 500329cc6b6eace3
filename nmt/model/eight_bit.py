"""A matrix in 8 bits an element, for the products of search.

Search multiplies few rows by large matrices that never change, and what it wants is an order of hypotheses. Processors
with AVX-512 VNNI multiply bytes four times as fast as float32, those with AMX many times so, and a matrix of bytes
passes through the cache in a quarter of the time. The numbers are those of ``integers.py``: with W [m, k] and rows x
[n, k], both cut into segments g, of 512 places or less, and each segment with a scale of its own::

    s_jg = max_k |W_jk| / 127,  Q_jk = round(W_jk / s_jg);     r_ig = max_k |x_ik| / 127,  p_ik = round(x_ik / r_ig)
    x_i . W_j  ~  sum_g r_ig s_jg sum_{k in g} p_ik Q_jk

The sums of segments are exact in 32 bits. Rows come in parts, each of which begins a segment (a word's embedding is ten
times smaller than the state beside it), and their scales are found anew at every step, so that nothing needs
calibration. ``eight_bit.c`` has what is made of the products.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from nmt.model.gating import Gating
from nmt.model.integers import IntegerMatrix, Kind
from nmt.model.library import compiled, in_rows, multiplies_integers, side_by_side

# columns that are made at a time, parts of rows; as in eight_bit.c
_PANEL, _PARTS = 64, 4
_BLOCKS = 4


def serves(matrix: Tensor) -> bool:
    """Say whether this processor multiplies by the matrix [m, k] in bytes, and whether that is worth it.

    Where sums are shorter than a few vectors, and results fewer than a panel, there is little to save; what is so
    small, as the position that local-p predicts, is often what everything else hangs on.
    """
    fits = matrix.dtype == torch.float32 and matrix.device.type == "cpu" and min(matrix.shape) >= _PANEL
    return fits and multiplies_integers()


@final
class ByteMatrix:
    """A matrix [m, k] in bytes, laid out when it is known how wide the parts of rows are; it must not change before.

    Args:
        matrix: W.
        bias: b [m], for :meth:`advance` and :meth:`choose`; None: 0.
        gating: its rows are the pre-activations of such a cell.

    Attributes:
        advances: whether :meth:`advance` serves it: cells with four blocks that fill whole panels.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None = None, gating: Gating | None = None) -> None:
        self.columns, self.inner = matrix.shape
        bias = matrix.new_zeros(self.columns) if bias is None else bias
        beyond = -self.columns % _PANEL
        self.advances = gating is not None and gating.blocks == _BLOCKS and not beyond
        self.bias = functional.pad(bias, (0, beyond), value=float("-inf"))
        self._bias_by_units = _by_units(bias) if self.advances else None
        self._matrix, self._gating = matrix, gating
        self._laid_out: dict[tuple[int, ...], IntegerMatrix] = {}

    def product(self, parts: Sequence[Tensor]) -> Tensor:
        """Return rows @ W^T [n, m], without bias, for rows given as parts that stand side by side, [n, k] together."""
        parts, place = self._meet(parts)
        results = parts[0].new_empty(len(parts[0]), self.columns)
        compiled().product_of_bytes(side_by_side(parts), len(results), place, results.data_ptr())
        return results

    def advance(self, parts: Sequence[Tensor], cell: Tensor, hidden: Tensor, new: Tensor) -> None:
        """Write h', c' [n, H] of a cell with pre-activations rows @ W^T + b, and c."""
        assert self._bias_by_units is not None and self._gating is not None
        parts, place = self._meet(parts, by_units=True)
        cell = cell.contiguous()
        given = (each.data_ptr() for each in (self._bias_by_units, cell, hidden, new))
        compiled().cell_of_bytes(self._gating.kind, side_by_side(parts), len(cell), place, *given)

    def choose(self, rows: Tensor, count: int, never: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best of softmax(rows @ W^T + b) as :func:`nmt.model.kernels.choose` does."""
        parts, place = self._meet([rows])
        best, pieces = self.bias.new_empty(len(rows), count), never.new_empty(len(rows), count)
        given = self.bias.data_ptr(), never.data_ptr(), len(never), count, best.data_ptr(), pieces.data_ptr()
        compiled().choose_of_bytes(side_by_side(parts), len(rows), place, *given)
        return best, pieces

    def _meet(self, parts: Sequence[Tensor], *, by_units: bool = False) -> tuple[Sequence[Tensor], Any]:
        """Return parts as ``eight_bit.c`` takes them, and where the matrix is that was laid out for them."""
        rows = [part.shape[0] for part in parts]
        assert sum(part.shape[1] for part in parts) == self.inner and rows.count(rows[0]) == len(rows)
        parts = [in_rows(part) for part in (parts if len(parts) <= _PARTS else [torch.cat(list(parts), 1)])]
        widths = tuple(part.shape[1] for part in parts)
        if (by_units, *widths) not in self._laid_out:
            matrix = _by_units(self._matrix) if by_units else self._matrix
            self._laid_out[by_units, *widths] = IntegerMatrix(matrix.split(widths, 1), Kind.bytes)
        return parts, ctypes.byref(self._laid_out[by_units, *widths].place)


def _by_units(blocks: Tensor) -> Tensor:
    """Return the blocks of 16 units, of 16 others, .., where there was the first of all units, the second of all, .."""
    return blocks.unflatten(0, (_BLOCKS, -1, _PANEL // _BLOCKS)).transpose(0, 1).flatten(0, 2).contiguous()
