r"""Products in 16 bits, for training on processors that multiply whole numbers faster than float32.

AVX-512 VNNI, which Intel's servers have had since 2019, multiplies pairs of 16-bit numbers and adds up in 32 bits,
twice as many at a time as float32. The numbers are affine (Jacob et al. 2018, arXiv:1712.05877v1, eq. 1: r = S (q - Z))
with Z = 0. With W [m, k] and rows x [n, k], both cut into segments g of 512 places, each with a scale of its own::

    s_jg = ||W_jg|| / N,  Q_jk = round(W_jk / s_jg);     r_ig = ||x_ig|| / N,  p_ik = round(x_ik / r_ig)
    x_i . W_j  ~  sum_g r_ig s_jg sum_{k in g} p_ik Q_jk

A scale is made of the norm, and not of the largest element: by Cauchy and Schwarz no sum of products is larger than
N^2, which with N = 32,000 fits in 32 bits, so that sums are exact. An element is wrong by at most half a scale: a
product of random vectors of 512 places by 3e-4 of its size, of which bf16 misses 2.4e-3. What is far below its
segment's norm has fewer digits, where bf16 has eight bits of each: that is why segments are short. All but the factors
stays in float32; two factors are held in float16 until they meet, the gradients of logits (:data:`HALVES`), which may
be far smaller than what they stand beside, and attention's keys and values.

``sixteen_bit.c`` has the layout and the products. Each number of a product is a sum in one order, whatever the rows
beside it and the number of threads.
"""

import copy
import ctypes
from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor

from nmt.model.library import compiled, multiplies_integers

# columns of a panel, places of a segment, pairs of places in a vector; as in sixteen_bit.c
_PANEL, _SEGMENT, _PAIRS = 32, 512, 16
# what is smaller than that squared is not worth it
_LEAST = 64
# what rows may be in
_ROWS = (torch.float32, torch.float16)

HALVES = 2.0**14
"""By what numbers below 1 are multiplied in float16, which so holds them to 5e-4 of their value down to 4e-9."""


def serves(matrix: Tensor) -> bool:
    """Say whether this processor multiplies by the matrix [m, k] in 16 bits, and whether that is worth it."""
    return (
        matrix.dtype == torch.float32
        and matrix.device.type == "cpu"
        and matrix.dim() == 2
        and min(matrix.shape) >= _LEAST
        and multiplies_integers()
    )


@final
class ShortMatrix:
    """A matrix [m, k] in 16 bits, laid out for products of rows [n, k] with its transpose.

    Args:
        matrix: float32.
    """

    def __init__(self, matrix: Tensor) -> None:
        lines = _in_lines(matrix)
        (layout,) = self._begin([lines], 1)
        compiled().lay_out_shorts(ctypes.byref(layout), None)

    @classmethod
    def both(cls, *parts: Tensor) -> tuple[Self, Self]:
        """Return the matrix whose parts stand side by side, and its transpose; a large one is read once for the two."""
        # a part begins with a segment of its own
        apart = not any(part.shape[1] % _SEGMENT for part in parts[:-1])
        lines = [_in_lines(part) for part in (parts if apart else (torch.cat(parts, 1),))]
        matrix, turned = cls.__new__(cls), cls.__new__(cls)
        layouts = matrix._begin(lines, 1), turned._begin([part.t() for part in lines], 0)
        for one, other in zip(*layouts, strict=True):
            compiled().lay_out_shorts(ctypes.byref(one), ctypes.byref(other))
        return matrix, turned

    def _begin(self, parts: Sequence[Tensor], axis: int) -> list["_Layout"]:
        """Make room for parts that stand side by side, or one below the other, and say where each goes."""
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        self.columns, self._depth = shape
        panels, pairs = -(-self.columns // (2 * _PANEL)) * 2, -(-self._depth // (2 * _PAIRS)) * _PAIRS
        self._panels = torch.empty(panels, pairs, _PANEL, 2, dtype=torch.int16)
        self._scales = torch.empty(-(-self._depth // _SEGMENT), panels * _PANEL)
        begin, found = 0, []
        for part in parts:
            into = self._panels[:, begin // 2 :] if axis else self._panels[begin // _PANEL :]
            scales = self._scales[begin // _SEGMENT :] if axis else self._scales[:, begin:]
            given = part.data_ptr(), *part.stride(), *part.shape, pairs, panels * _PANEL
            found.append(_Layout(*given, into.data_ptr(), scales.data_ptr()))
            begin += part.shape[axis]
        return found

    @property
    def place(self) -> tuple[int, int | None, int, int]:
        """Where the panels are, and their scales; columns, depth."""
        return self._panels.data_ptr(), self._scales.data_ptr(), self.columns, self._depth

    def scaled(self, factor: float) -> Self:
        """Return this matrix times a factor."""
        found = copy.copy(self)
        found._scales = self._scales * factor
        return found

    def product(self, rows: Tensor, into: Tensor | None = None, *, more: bool = False) -> Tensor:
        """Return ``rows @ matrix^T``, [n, k] -> [n, m], written to ``into`` [n, m], which is contiguous, if given.

        The rows may be in float16. With ``more`` it is added to what is there.
        """
        result = torch.empty(len(rows), self.columns) if into is None else into
        _multiply(rows, [self], [result], more=more)
        return result

    def cross_entropy(
        self,
        rows: Tensor,
        bias: Tensor,
        targets: Tensor,
        real: Tensor | None,
        smoothing: float,
        nll: Tensor,
        of_bias: Tensor | None = None,
        gradient: Tensor | None = None,
    ) -> None:
        """Write each row's nll, of logits ``rows @ matrix^T + bias`` [n, m], which are made and used in the caches.

        Args:
            rows: [n, k].
            bias: [m].
            targets: [n] ids, int64; the nll of one that is no column is not a number.
            real: [n], False on rows that count for nothing; None where all count.
            smoothing: e.
            nll: [n].
            of_bias: [m], to which the sum of the gradients of the smoothed loss is added; see cross_entropy.py.
            gradient: [n, m] float16, where those gradients go, times ``HALVES``, without the targets' own part,
                -(1 - e) [v = y]; None: none are wanted.
        """
        rows = rows if rows.stride(1) == 1 else rows.contiguous()
        panels, scales, columns, depth = self.place
        assert rows.shape[1] == depth and rows.dtype == torch.float32
        assert all(each is None or each.is_contiguous() for each in (bias, targets, real, nll, of_bias, gradient))
        assert gradient is None or (gradient.dtype == torch.float16 and of_bias is not None)
        wanted, sums, found = (None if each is None else each.data_ptr() for each in (real, of_bias, gradient))
        layer = panels, scales, columns, bias.data_ptr()
        given = targets.data_ptr(), wanted, smoothing, HALVES, nll.data_ptr(), sums, found
        compiled().cross_entropy_of_shorts(rows.data_ptr(), rows.stride(0), len(rows), depth, *layer, *given)


class _Layout(ctypes.Structure):
    """As in sixteen_bit.c."""

    _fields_ = [
        ("places", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("column", "inner", "columns", "depth", "pairs", "room")),
        ("panels", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
    ]


class _Product(ctypes.Structure):
    """As in kernels.h."""

    _fields_ = [
        ("panels", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("columns", ctypes.c_int64),
        ("results", ctypes.c_void_p),
        ("more", ctypes.c_int64),
    ]


def products(rows: Tensor, matrices: Sequence[ShortMatrix]) -> tuple[list[Tensor], Tensor]:
    """Return ``rows @ matrix^T`` of each, and the sums of the rows [n], whose columns have their elements side by side.

    The rows are read once for all of it.
    """
    results, rows = [torch.empty(len(rows), each.columns) for each in matrices], _in_lines(rows)
    sums = torch.empty(-(-rows.shape[1] // _SEGMENT), len(rows)) if rows.stride(0) == 1 < rows.stride(1) else None
    _multiply(rows, matrices, results, more=False, sums=sums)
    return results, rows.sum(1) if sums is None else sums.sum(0)


def _multiply(
    rows: Tensor,
    matrices: Sequence[ShortMatrix],
    results: Sequence[Tensor],
    *,
    more: bool,
    sums: Tensor | None = None,
) -> None:
    found = []
    for matrix, result in zip(matrices, results, strict=True):
        panels, scales, columns, depth = matrix.place
        assert rows.shape[1] == depth and rows.dtype in _ROWS and result.is_contiguous()
        found.append(_Product(panels, scales, columns, result.data_ptr(), more))
    rows, given = _in_lines(rows), (_Product * len(found))(*found)
    half = rows.dtype == torch.float16
    totals = None if sums is None else sums.data_ptr()
    compiled().products_of_shorts(rows.data_ptr(), half, *rows.stride(), *rows.shape, given, len(found), totals)


def _in_lines(matrix: Tensor) -> Tensor:
    """Return a matrix whose rows, or columns, have their elements side by side."""
    return matrix if 1 in matrix.stride() else matrix.contiguous()
