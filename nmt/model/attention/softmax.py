"""Global alignments: every position may be read."""

from typing import final

from torch import Tensor

from nmt.model.attention.base import Alignment, Memory, masked_softmax


@final
class Softmax(Alignment):
    """weights = softmax(scores) over all real positions (Bahdanau et al. 2015, eq. 6; Luong et al. 2015, eq. 7)."""

    def allowed(self, memory: Memory, positions: Tensor) -> Tensor:
        """Return all real positions, [1, B, S]."""
        return memory.mask.unsqueeze(0)

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S]."""
        return masked_softmax(scores, memory.mask.unsqueeze(1))


@final
class NoAlignment(Alignment):
    """No weights at all: zero everywhere, for the context that does not read them."""

    weighs = False

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return zeros [B, Q, S]."""
        return scores.new_zeros(scores.shape)
