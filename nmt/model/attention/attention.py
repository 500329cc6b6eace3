"""Attention, composed of a score, an alignment and a context."""

from typing import NamedTuple, final

from torch import Tensor, nn

from nmt.errors import ConfigError
from nmt.model.attention.base import Alignment, Context, Memory, Score
from nmt.model.encoder.base import Encoded


class Attended(NamedTuple):
    """The result of attending: context [B, Q, M] and weights [B, Q, S]."""

    context: Tensor
    weights: Tensor


@final
class Attention(nn.Module):
    """context = read(align(score(query, keys)), values).

    Raises:
        ConfigError: an alignment without weights under a context that reads them, or the reverse, or under a score.
    """

    def __init__(self, score: Score, alignment: Alignment, context: Context) -> None:
        super().__init__()
        if alignment.weighs != context.reads_weights:
            given = "gives weights" if alignment.weighs else "gives no weights"
            read = "reads weights" if context.reads_weights else "reads no weights"
            raise ConfigError(
                f"attention/alignment={type(alignment).__name__} {given} but "
                f"attention/context={type(context).__name__} {read}; "
                "context=fixed goes with alignment=none and with no other"
            )
        if score.compares and not alignment.weighs:
            raise ConfigError(
                f"attention/alignment=none uses no scores: attention/score={type(score).__name__} would never learn; "
                "take attention/score=constant"
            )
        self.score = score
        self.alignment = alignment
        self.context = context

    def prepare(self, source: Encoded) -> Memory:
        """Do, once for the batch, all that does not depend on the decoder."""
        return Memory(
            keys=self.score.prepare(source),
            values=self.context.prepare(source),
            mask=source.mask,
            lengths=source.lengths,
            alignment=self.alignment.prepare(),
        )

    def forward(self, query: Tensor, memory: Memory, positions: Tensor | int) -> Attended:
        """Attend with queries [B, Q, H] made for target positions t (a number, or [Q])."""
        scores = self.score(query, memory.keys)
        weights = self.alignment(scores, query, memory, positions)
        return Attended(self.context(weights, memory.values), weights)
