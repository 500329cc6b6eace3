"""What attention reads: the weighted mean of the annotations, or a fixed vector."""

from typing import final

from torch import Tensor

from nmt.model.attention.base import Context
from nmt.model.encoder.base import Encoded
from nmt.model.products import Operand


@final
class WeightedMean(Context):
    """c_i = sum_j alpha_ij h_j (Bahdanau et al. 2015, arXiv:1409.0473v7, eq. 5)."""

    def __init__(self, value_size: int) -> None:
        super().__init__()
        self.size = value_size

    def prepare(self, source: Encoded) -> Operand:
        """The annotations themselves are the values."""
        return Operand(source.states, transposed=False)

    def averaged(self, values: Operand | Tensor) -> Tensor:
        """Return the annotations."""
        assert isinstance(values, Operand)
        return values.matrix

    def forward(self, weights: Tensor, values: Operand | Tensor) -> Tensor:
        """Return contexts [B, Q, M]."""
        assert isinstance(values, Operand)
        return values(weights)


@final
class FixedContext(Context):
    """The same vector at every step: C, the encoder's summary of the sentence (Cho et al. 2014, arXiv:1406.1078).

    For a bidirectional RNN C is its forward state at the last position beside its backward state at the first, never
    the last column of the outputs, whose backward half has read one token; for an encoder without recurrence the mean
    of the annotations that attention would read.
    """

    reads_weights = False

    def __init__(self, source_size: int) -> None:
        super().__init__()
        self.size = source_size

    def prepare(self, source: Encoded) -> Tensor:
        """Return C, [B, M]."""
        return source.summary

    def forward(self, weights: Tensor, values: Operand | Tensor) -> Tensor:
        """Return C for every query, [B, Q, M]."""
        assert isinstance(values, Tensor)
        return values.unsqueeze(1).expand(-1, weights.shape[1], -1)
