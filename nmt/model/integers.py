r"""Products of whole numbers, for training on processors that multiply those faster than float32.

AVX-512 VNNI, which Intel's servers have had since 2019, multiplies pairs of 16-bit numbers, or fours of 8 bits, and
adds up in 32 bits: twice as many at a time as float32, or four times. The numbers are affine (Jacob et al. 2018,
arXiv:1712.05877v1, eq. 1: r = S (q - Z)) with Z = 0. With W [m, k] and rows x [n, k], both cut into segments g of 512
places, each with a scale of its own::

    s_jg = size(W_jg) / N,  Q_jk = round(W_jk / s_jg);     r_ig = size(x_ig) / N,  p_ik = round(x_ik / r_ig + c_ik)
    x_i . W_j  ~  sum_g r_ig s_jg sum_{k in g} p_ik Q_jk

In 16 bits the size of a segment is its norm, and not its largest element: by Cauchy and Schwarz no sum of products is
larger than N^2, which with N = 32,000 fits in 32 bits, so that sums are exact. An element is wrong by at most half a
scale: a product of random vectors of 512 places by 3e-4 of its size, of which bf16 misses 2.4e-3. What is far below its
segment's norm has fewer digits, where bf16 has eight bits of each: that is why segments are short.

In 8 bits the size is that of the largest element and N = 127; sums are exact anyway, and a product of random vectors is
wrong by 1e-2 of its size. That is little beside what a batch, or dropout, changes of a gradient, if only it has no
tendency. What stands beside a much larger number in its segment, as most probabilities of a softmax do, would always be
rounded to 0; so gradients are rounded up or down as by the flip of a coin that makes their mean right (Gupta et al.
2015, arXiv:1502.02551v1, sec. 3: stochastic rounding), where the coin, c_ik between -1/2 and 1/2, is a fixed number of
each place. All else is rounded to the nearest: there c is 0. Where only differences count, of numbers that have more in
common than they differ by, an error of a hundredth of the numbers is too large: keys of attention are made in 16 bits.

All but the factors stays in float32; two factors are held in float16 until they meet, the gradients of logits
(:data:`HALVES`), which may be far smaller than what they stand beside, and attention's keys and values.

``integers.c`` has the layout and the products. Each number of a product is a sum in one order, whatever the rows
beside it, but for the coins, which are those of their number, and whatever the number of threads.
"""

import copy
import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import Self, final

import torch
from torch import Tensor

from nmt.model.library import Matrix, compiled, multiplies_integers

# columns of a panel, places of a segment, words of 32 bits in a vector; as in integers.c
_PANEL, _SEGMENT, _VECTOR = 32, 512, 16
# what is smaller than that squared is not worth it
_LEAST = 64
# what rows may be in
_ROWS = (torch.float32, torch.float16)

HALVES = 2.0**14
"""By what numbers below 1 are multiplied in float16, which so holds them to 5e-4 of their value down to 4e-9."""


def serves(matrix: Tensor) -> bool:
    """Say whether this processor multiplies whole numbers, and whether that is worth it for the matrix [m, k]."""
    return (
        matrix.dtype == torch.float32
        and matrix.device.type == "cpu"
        and matrix.dim() == 2
        and min(matrix.shape) >= _LEAST
        and multiplies_integers()
    )


class Kind(IntEnum):
    """What the factors of a product are rounded to; as in kernels.h."""

    shorts = 0
    """16 bits"""
    bytes = 1
    """8 bits"""
    bytes_of_gradients = 2
    """8 bits, and the rows up or down, since they are gradients"""


@final
class IntegerMatrix:
    """A matrix [m, k] of whole numbers, laid out for products of rows [n, k] with its transpose.

    Args:
        matrix: float32; or parts of it that stand side by side, where a segment ends, too.
        kind: what it, and rows that meet it, are rounded to.
    """

    def __init__(self, matrix: Tensor | Sequence[Tensor], kind: Kind = Kind.shorts) -> None:
        lines = [_in_lines(part) for part in ([matrix] if isinstance(matrix, Tensor) else matrix)]
        for layout in self._begin(lines, 1, kind):
            compiled().lay_out_integers(ctypes.byref(layout), None)

    @classmethod
    def both(cls, *parts: Tensor, kinds: tuple[Kind, Kind] = (Kind.shorts, Kind.shorts)) -> tuple[Self, Self]:
        """Return the matrix whose parts stand side by side, and its transpose; a large one is read once for the two."""
        # a part begins with a segment of its own
        apart = not any(part.shape[1] % _SEGMENT for part in parts[:-1])
        lines = [_in_lines(part) for part in (parts if apart else (torch.cat(parts, 1),))]
        matrix, turned = cls.__new__(cls), cls.__new__(cls)
        layouts = matrix._begin(lines, 1, kinds[0]), turned._begin([part.t() for part in lines], 0, kinds[1])
        for one, other in zip(*layouts, strict=True):
            compiled().lay_out_integers(ctypes.byref(one), ctypes.byref(other))
        return matrix, turned

    def _begin(self, parts: Sequence[Tensor], axis: int, kind: Kind) -> list["_Layout"]:
        """Make room for parts that stand side by side, or one below the other, and say where each goes."""
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        self.columns, self._depth = shape
        self._kind, places = kind, 2 if kind is Kind.shorts else 4
        depths = [part.shape[1] for part in parts] if axis else [self._depth]
        # a part's begin with a vector, and a segment, of their own
        words = [-(-depth // (places * _VECTOR)) * _VECTOR for depth in depths]
        segments, panels = [-(-depth // _SEGMENT) for depth in depths], -(-self.columns // (2 * _PANEL)) * 2
        self._panels = torch.empty(panels, sum(words), _PANEL, dtype=torch.int32)
        self._scales = torch.empty(sum(segments), panels * _PANEL)
        column, found = 0, []
        for n, part in enumerate(parts):
            into = self._panels[:, sum(words[:n]) :] if axis else self._panels[column // _PANEL :]
            scales = self._scales[sum(segments[:n]) :] if axis else self._scales[:, column:]
            given = part.data_ptr(), *part.stride(), *part.shape, sum(words), panels * _PANEL, kind
            found.append(_Layout(*given, into.data_ptr(), scales.data_ptr()))
            column += part.shape[0]
        return found

    @property
    def place(self) -> Matrix:
        """Where the panels are, and their scales."""
        return Matrix(self._panels.data_ptr(), self._scales.data_ptr(), self.columns, self._depth, self._kind)

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
        assert rows.shape[1] == self._depth and rows.dtype == torch.float32
        assert all(each is None or each.is_contiguous() for each in (bias, targets, real, nll, of_bias, gradient))
        assert gradient is None or (gradient.dtype == torch.float16 and of_bias is not None)
        wanted, sums, found = (None if each is None else each.data_ptr() for each in (real, of_bias, gradient))
        layer = ctypes.byref(self.place), bias.data_ptr()
        given = targets.data_ptr(), wanted, smoothing, HALVES, nll.data_ptr(), sums, found
        compiled().cross_entropy_of_integers(rows.data_ptr(), rows.stride(0), len(rows), *layer, *given)


class _Layout(ctypes.Structure):
    """As in integers.c."""

    _fields_ = [
        ("places", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("column", "inner", "columns", "depth", "words", "room", "kind")),
        ("panels", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
    ]


class _Product(ctypes.Structure):
    """As in kernels.h."""

    _fields_ = [
        ("by", Matrix),
        ("results", ctypes.c_void_p),
        ("more", ctypes.c_int64),
    ]


def products(rows: Tensor, matrices: Sequence[IntegerMatrix]) -> tuple[list[Tensor], Tensor]:
    """Return ``rows @ matrix^T`` of each, and the sums of the rows [n], whose columns have their elements side by side.

    The rows are read once for all of it.
    """
    results, rows = [torch.empty(len(rows), each.columns) for each in matrices], _in_lines(rows)
    sums = torch.empty(-(-rows.shape[1] // _SEGMENT), len(rows)) if rows.stride(0) == 1 < rows.stride(1) else None
    _multiply(rows, matrices, results, more=False, sums=sums)
    return results, rows.sum(1) if sums is None else sums.sum(0)


def _multiply(
    rows: Tensor,
    matrices: Sequence[IntegerMatrix],
    results: Sequence[Tensor],
    *,
    more: bool,
    sums: Tensor | None = None,
) -> None:
    found = []
    assert len({matrix._kind for matrix in matrices}) == 1
    for matrix, result in zip(matrices, results, strict=True):
        place = matrix.place
        assert rows.shape[1] == place.depth and rows.dtype in _ROWS and result.is_contiguous()
        found.append(_Product(place, result.data_ptr(), more))
    rows, given = _in_lines(rows), (_Product * len(found))(*found)
    half = rows.dtype == torch.float16
    totals = None if sums is None else sums.data_ptr()
    compiled().products_of_integers(rows.data_ptr(), half, *rows.stride(), len(rows), given, len(found), totals)


def _in_lines(matrix: Tensor) -> Tensor:
    """Return a matrix whose rows, or columns, have their elements side by side."""
    return matrix if 1 in matrix.stride() else matrix.contiguous()
