"""The places where a loss is computed, as rows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from nmt.model.dropout import steps_first

# devices on which looking at a tensor's values costs nothing
_WITHOUT_WAITING = ("cpu",)


@dataclass(frozen=True)
class Rows:
    """The places of a mask at which something is computed, as n rows.

    On a CPU these are the places where the mask is True. Elsewhere they are all places: to count the True ones the host
    would have to wait for the device, and a shape that follows from values cannot be part of a CUDA graph. What is
    computed where the mask is False is dropped by :meth:`spread`.

    Attributes:
        mask: [A, B].
        indices: [n], places in the flattened mask, ascending; None for all.
    """

    mask: Tensor
    indices: Tensor | None

    @classmethod
    def of(cls, mask: Tensor) -> Self:
        """Return the rows of a mask [A, B]."""
        compact = mask.device.type in _WITHOUT_WAITING
        return cls(mask, mask.flatten().nonzero().squeeze(1) if compact else None)

    @property
    def real(self) -> Tensor | None:
        """[n], True on rows where the mask is True; None where all are."""
        return self.mask.flatten() if self.indices is None else None

    def take(self, values: Tensor) -> Tensor:
        """Return the rows of values: [A, B, ..] -> [n, ..]."""
        if self.indices is None:
            return values.flatten(0, 1)
        if steps_first(values):
            # as they lie: to put them in another order first would take as long again
            return values.transpose(0, 1).flatten(0, 1).index_select(0, self._by_step)
        return values.flatten(0, 1).index_select(0, self.indices)

    @cached_property
    def _by_step(self) -> Tensor:
        """[n], the same places in the transpose of the mask."""
        assert self.indices is not None
        rows, columns = self.mask.shape
        return self.indices % columns * rows + self.indices // columns

    def spread(self, values: Tensor, otherwise: float = 0.0) -> Tensor:
        """Put values [n] back to their places [A, B], with ``otherwise`` where the mask is False."""
        if self.indices is None:
            return torch.where(self.mask, values.view(self.mask.shape), otherwise)
        wide = values.new_full((self.mask.numel(),), otherwise)
        return wide.index_copy(0, self.indices, values).view(self.mask.shape)
