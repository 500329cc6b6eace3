"""Products of float32 rows with a matrix that many of them meet, a few at a time, faster than MKL's.

A recurrence multiplies 80 rows by the same matrix at every step. MKL lays the matrix out for itself each time, and its
innermost loop reads more instructions than a shared core has time for. Here a matrix is laid out once (``panels.c``):
64 columns of the product to a panel, so that six rows and a panel meet in registers (Goto & van de Geijn 2008, Anatomy
of High-Performance Matrix Multiplication; what they pack for one product is kept for the next). The product
of 80 rows with a gate matrix of 2048 x 1024 takes three quarters of MKL's time on the processor it was measured on;
large matrices that meet once are as fast by MKL.

Each number of a product is a sum in one order, whatever the rows beside it and the number of threads.
"""

import torch
from torch import Tensor

from nmt.model.library import Matrix, compiled, in_rows, multiplies_floats

_WIDTH = 64
# what is smaller than that squared is not worth it
_LEAST = 64


def serves(matrix: Tensor) -> bool:
    """Say whether :class:`Panels` can be made of a matrix, and are worth it."""
    return (
        matrix.dtype == torch.float32
        and matrix.device.type == "cpu"
        and matrix.dim() == 2
        and min(matrix.shape) >= _LEAST
        and 1 in matrix.stride()
        and multiplies_floats()
    )


class Panels:
    """A matrix [m, k] laid out for products of rows [n, k] with its transpose.

    Args:
        matrix: float32; its rows or its columns lie side by side.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.columns, depth = matrix.shape
        self._panels = matrix.new_empty(-(-self.columns // _WIDTH), depth, _WIDTH)
        self._native = compiled()
        given = matrix.data_ptr(), *matrix.stride(), *matrix.shape
        self._native.lay_out_floats(*given, self._panels.data_ptr())

    @property
    def place(self) -> Matrix:
        """Where the panels are; they have no scales."""
        return Matrix(self._panels.data_ptr(), None, self.columns, self._panels.shape[1], 0)

    def product(self, rows: Tensor, into: Tensor | None = None) -> Tensor:
        """Return ``rows @ matrix^T``, [n, k] -> [n, m], written to ``into`` [n, m], which is contiguous, if given."""
        assert rows.shape[1] == self._panels.shape[1] and rows.dtype == torch.float32
        result = rows.new_empty(len(rows), self.columns) if into is None else into
        assert result.is_contiguous()
        rows = in_rows(rows)
        given = rows.data_ptr(), rows.stride(0), *rows.shape, self._panels.data_ptr()
        self._native.product_of_floats(*given, self.columns, result.data_ptr())
        return result
