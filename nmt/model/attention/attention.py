"""Attention with one distribution, composed of a score, an alignment and a context; and the maker of such parts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import Tensor

from nmt.errors import ConfigError
from nmt.model.attention.annotations import Annotations, SharedAnnotations
from nmt.model.attention.base import Alignment, Attended, Attention, AttentionState, Context, Memory, Score
from nmt.model.attention.coverage import NoCoverage
from nmt.model.encoder.base import Encoded
from nmt.model.recurrence import AttendSteps


@dataclass(frozen=True)
class AttentionParts:
    """Makes the parts of attention as the configuration describes them, in the sizes asked for.

    Attributes:
        annotations: (source size) -> keys and values of an encoded batch.
        score: (query size H, key size) -> a score.
        coverage: (score, query size H) -> what past weights do to it.
        alignment: (query size H) -> an alignment.
        context: (value size, source size) -> a context.
    """

    annotations: Callable[[int], Annotations]
    score: Callable[[int, int], Score]
    coverage: Callable[[Score, int], NoCoverage]
    alignment: Callable[[int], Alignment]
    context: Callable[[int, int], Context]

    def single(self, query_size: int, source_size: int) -> "SingleAttention":
        """Return attention with one distribution."""
        return SingleAttention(self, query_size, source_size)


@final
class SingleAttention(Attention):
    """context = read(align(score(query, keys)), values).

    Args:
        parts: makes its parts.
        query_size: H.
        source_size: M, size of the encoder's states.

    Raises:
        ConfigError: an alignment without weights under a context that reads them, or the reverse, or under a score or
            coverage; keys and values of their own under a context that reads none; coverage of positions that the score
            does not tell apart.
    """

    def __init__(self, parts: AttentionParts, query_size: int, source_size: int) -> None:
        super().__init__()
        self.annotations = parts.annotations(source_size)
        self.score = parts.score(query_size, self.annotations.key_size)
        self.alignment = parts.alignment(query_size)
        self.context = parts.context(self.annotations.value_size, source_size)
        self.coverage = parts.coverage(self.score, query_size)
        self._check()
        self.size = self.context.size
        self.weighs = self.alignment.weighs
        self.asks = self.score.asks or self.alignment.asks or self.coverage.recurrent
        self.learns = self.weighs and not self.alignment.samples and (self.score.compares or self.alignment.asks)
        self.recurrent = self.alignment.recurrent or self.coverage.recurrent

    def prepare(self, source: Encoded) -> Memory:
        """Do, once for the batch, all that does not depend on the decoder."""
        keys, values = self.annotations(source)
        return Memory(
            keys=self.score.prepare(keys),
            values=self.context.prepare(values),
            mask=source.mask,
            lengths=source.lengths,
            alignment=self.alignment.prepare(),
        )

    def start(self, source: Encoded) -> AttentionState:
        """Return the alignment's state, then that of coverage."""
        given = source.mask, source.states
        return (*self.alignment.start(*given), *self.coverage.start(*given))

    def forward(self, query: Tensor, memory: Memory, positions: Tensor | int, state: AttentionState) -> Attended:
        """Attend with queries [B, Q, H] made for target positions t (a number, or [Q])."""
        past, coverage = state[: self.alignment.state_parts], state[self.alignment.state_parts :]
        scores = self.coverage(self.score, query, memory.keys, coverage)
        weights, past, notes = self.alignment.align(scores, query, memory, positions, past)
        after = (*past, *self.coverage.update(coverage, weights))
        return Attended(self.context(weights, memory.values), weights, after, notes)

    def by_hand(self, memory: Memory, positions: Tensor) -> AttendSteps | None:
        """Return attention with a derivative written by hand, where score, alignment and context all have one."""
        if self.recurrent:
            return None
        score = self.score.by_hand(memory.keys, len(positions))
        values = self.context.averaged(memory.values)
        return None if score is None or values is None else self.alignment.by_hand(score, values, memory, positions)

    def penalty(self, attended: Attended, nll: Tensor, mask: Tensor) -> Tensor | None:
        """Return the alignment's and coverage's parts of the loss."""
        return total_penalty(
            self.alignment.penalty(attended.notes, nll, mask), self.coverage.penalty(attended.weights, mask)
        )

    def _check(self) -> None:
        """Refuse parts that cannot work together."""
        alignment, context = self.alignment, self.context
        if alignment.weighs != context.reads_weights:
            given = "gives weights" if alignment.weighs else "gives no weights"
            read = "reads weights" if context.reads_weights else "reads no weights"
            raise ConfigError(
                f"attention/alignment={type(alignment).__name__} {given} but "
                f"attention/context={type(context).__name__} {read}; "
                "context=fixed goes with alignment=none and with no other"
            )
        if alignment.weighs:
            if self.coverage.recurrent and not self.score.compares:
                raise ConfigError(
                    "attention.coverage=true tells positions apart by how much of them was read, but "
                    f"attention/score={type(self.score).__name__} reads all alike, so that it would never learn"
                )
            return
        if self.score.compares:
            raise ConfigError(
                f"attention/alignment=none uses no scores: attention/score={type(self.score).__name__} would never "
                "learn; take attention/score=constant"
            )
        if self.coverage.recurrent:
            raise ConfigError("attention.coverage=true sums weights, but attention/alignment=none gives none")
        if not isinstance(self.annotations, SharedAnnotations):
            raise ConfigError(
                "attention/context=fixed reads no annotations, so that "
                f"attention/annotations={type(self.annotations).__name__} would change nothing; "
                "take attention/annotations=shared"
            )


def total_penalty(*penalties: Tensor | None) -> Tensor | None:
    """Return the sum of those that are not None; None where all are."""
    given = [penalty for penalty in penalties if penalty is not None]
    return sum(given[1:], given[0]) if given else None
