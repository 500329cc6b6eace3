"""Several attentions side by side, each in a smaller space of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from nmt.errors import ConfigError
from nmt.model.attention.annotations import SharedAnnotations
from nmt.model.attention.attention import AttentionParts, SingleAttention, total_penalty
from nmt.model.attention.base import Attended, Attention, AttentionState, Memory, Prepared
from nmt.model.attention.contexts import WeightedMean
from nmt.model.encoder.base import Encoded
from nmt.model.kernels import added, flipped
from nmt.model.products import Factor, Linear, Operand, Rounding, Stack, current, outer, rounded, rounded_rows
from nmt.model.recurrence import AttendSteps


@dataclass(frozen=True)
class HeadsMemory(Prepared):
    """A batch of sentences as several heads see it.

    Attributes:
        heads: of each head, its keys and values.
        query: projects the queries of all heads.
        output: maps the contexts of all heads to the context.
    """

    heads: tuple[Memory, ...]
    query: Operand
    output: Operand

    def select(self, sentences: Tensor) -> "HeadsMemory":
        """Return the memory of the sentences [B'] of the batch."""
        return replace(self, heads=tuple(head.select(sentences) for head in self.heads))


@final
class MultiHeadAttention(Attention):
    r"""c = W_o [c_1; ..; c_n], c_i = sum_j alpha_ij W_v^i h_j, alpha_i = align(score_i(W_q^i q, W_k^i h_j)); no bias.

    Vaswani et al. 2017, arXiv:1706.03762v7, section 3.2.2, in a recurrent decoder; with the score ``scaled_dot`` and
    the alignment ``softmax`` it is their formula. Differs: here each head is a complete attention as the configuration
    describes it, with a score, an alignment and coverage of its own; no dropout on the weights. The weights reported
    are the mean over the heads. A projection that the score does not look at is idle: W_q under ``pooling``, W_k under
    ``location``, both under ``constant``.

    Args:
        parts: makes the parts of each head.
        query_size: H.
        source_size: M, of an encoder state and of the context.
        heads: n.
        head_size: of a head's queries, keys and values; None: M / n.

    Raises:
        ConfigError: M is no multiple of n and no ``head_size`` is given, or the context is not ``weighted_mean``.
    """

    def __init__(
        self,
        parts: AttentionParts,
        query_size: int,
        source_size: int,
        heads: int = 4,
        head_size: int | None = None,
    ) -> None:
        super().__init__()
        self.head_size = _checked_size(heads, head_size, source_size)
        self.size = source_size
        self.annotations = parts.annotations(source_size)
        width = heads * self.head_size
        self.query = Linear(query_size, width, bias=False)
        self.key = Linear(self.annotations.key_size, width, bias=False, of_keys=True)
        self.value = Linear(self.annotations.value_size, width, bias=False)
        self.output = Linear(width, source_size, bias=False)
        own = replace(parts, annotations=SharedAnnotations)
        self.heads = nn.ModuleList(own.single(self.head_size, self.head_size) for _ in range(heads))
        first = self._singles()[0]
        if not isinstance(first.context, WeightedMean):
            raise ConfigError(
                f"attention/form=multi_head reads a weighted mean in each head, but attention/context is "
                f"{type(first.context).__name__}; take attention/context=weighted_mean"
            )
        self.weighs, self.asks, self.learns = first.weighs, first.asks, first.learns
        self.recurrent = first.recurrent

    def prepare(self, source: Encoded) -> HeadsMemory:
        """Project keys and values of all heads at once."""
        keys, values = self.annotations(source)
        projected = zip(self._split(self.key(keys.states)), self._split(self.value(values.states)), strict=True)
        sources = (replace(source, states=key, values=value) for key, value in projected)
        return HeadsMemory(
            heads=tuple(head.prepare(own) for head, own in zip(self._singles(), sources, strict=True)),
            query=self.query.prepare(),
            output=self.output.prepare(),
        )

    def start(self, source: Encoded) -> AttentionState:
        """Return the states of all heads, one head after the other."""
        return tuple(part for head in self._singles() for part in head.start(source))

    def forward(self, query: Tensor, memory: HeadsMemory, positions: Tensor | int, state: AttentionState) -> Attended:
        """Attend with every head."""
        given = zip(self._singles(), self._split(memory.query(query)), memory.heads, self._share(state), strict=True)
        attended = [head(asked, own, positions, past) for head, asked, own, past in given]
        heads = torch.stack([each.weights for each in attended], 2)
        return Attended(
            context=memory.output(torch.cat([each.context for each in attended], -1)),
            weights=heads.mean(2),
            state=tuple(part for each in attended for part in each.state),
            notes=tuple(note for each in attended for note in each.notes),
            heads=heads,
        )

    def by_hand(self, memory: HeadsMemory, positions: Tensor) -> AttendSteps | None:
        """Return all steps with a derivative written by hand, where the heads have one."""
        if self.recurrent:
            return None
        given = zip(self._singles(), memory.heads, strict=True)
        found = [head.by_hand(own, positions) for head, own in given]
        heads = [head for head in found if head is not None]
        if len(heads) < len(found):
            return None
        return _HeadsSteps(heads, self.query.weight, self.output.weight, len(positions), rounding=current().rounding)

    def penalty(self, attended: Attended, nll: Tensor, mask: Tensor) -> Tensor | None:
        """Return the sum of what the heads add to the loss."""
        if attended.heads is None:
            # gone through by hand, of which there is nothing that adds
            return None
        each = zip(self._singles(), attended.heads.unbind(2), self._share(attended.notes), strict=True)
        return total_penalty(
            *(
                head.penalty(attended._replace(weights=weights, notes=notes, heads=None), nll, mask)
                for head, weights, notes in each
            )
        )

    def _singles(self) -> list[SingleAttention]:
        """Return the heads."""
        return list(self.heads)  # pyright: ignore

    def _split(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Cut [.., n d] into the heads' own [.., d]."""
        return projected.split(self.head_size, -1)

    def _share(self, parts: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        """Yield each head's own of what all have in equal number."""
        each = len(parts) // len(self.heads)
        return (parts[each * i : each * (i + 1)] for i in range(len(self.heads)))


class _HeadsSteps(AttendSteps):
    """Vaswani et al.'s section 3.2.2 at all steps: c = W_o [c_1; ..; c_n], c_i as head i has it for the query W_q^i q.

    Backwards [d c_1; ..; d c_n] = W_o^T d c, and d q = sum_i (W_q^i)^T d (W_q^i q), of which each head has its own.

    Args:
        heads: the steps of each.
        query: W_q [n d, H].
        output: W_o [M, n d].
        steps: T.
        rounding: of the factors.
    """

    def __init__(
        self, heads: Sequence[AttendSteps], query: Tensor, output: Tensor, steps: int, *, rounding: Rounding
    ) -> None:
        self.heads, self.steps, self.rounding = heads, steps, rounding
        self.tensors = (*(tensor for head in heads for tensor in head.tensors), query, output)

    def begin(self) -> None:
        """Make the buffers."""
        query, output = self.tensors[-2:]
        for head in self.heads:
            head.begin()
        self.matrices = rounded(query, self.rounding), rounded(output, self.rounding)
        self.query, self.output = (Factor(matrix, rounding=self.rounding) for matrix in self.matrices)
        weights, batch = self.heads[0].weights, self.heads[0].weights.shape[1]
        self.weights, self.contexts = torch.empty_like(weights), weights.new_empty(self.steps, batch, len(output))
        # a head's queries side by side
        self.asked = weights.new_empty(self.steps, len(self.heads), batch, len(query) // len(self.heads))
        self.read = Stack.empty(self.matrices[1], self.steps, batch, output.shape[1])

    def step(self, t: int, query: Tensor, low: Tensor | None = None) -> Tensor:
        """Return the context; see the base."""
        asked, read = self.asked[t], self._by_head(self.read.steps[t])
        asked.copy_(self._of_heads(self.query.times_transposed(rounded(query, self.rounding))))
        for head, own, into in zip(self.heads, asked, read, strict=True):
            head.step(t, own, into)
        torch.mean(torch.stack([head.weights[t] for head in self.heads]), 0, out=self.weights[t])
        self.contexts[t].copy_(self.output.times_transposed(self.read.steps[t]))
        if low is not None:
            low.copy_(self.contexts[t])
        return self.contexts[t]

    def begin_back(self, of_contexts: Tensor | None, of_weights: Tensor | None) -> None:
        """Make the buffers of the gradients."""
        for head in self.heads:
            head.begin_back(None, None)
        steps, batch, size = self.contexts.shape
        self.of_contexts = Stack.empty(self.matrices[1], steps, batch, size)
        self.of_asked = Stack.empty(self.matrices[0], steps, batch, len(self.matrices[0]))

    def back(self, t: int, of_context: Sequence[Tensor], of_weights: Tensor | None = None) -> Tensor:
        """Return the query's gradient; see the base."""
        of_contexts, of_asked = self.of_contexts.steps[t], self.of_asked.steps[t]
        of_contexts.copy_(added(of_context, self.contexts[t]))
        of_read = self._by_head(self.output.times(of_contexts))
        of_each = None if of_weights is None else of_weights / len(self.heads)
        for head, given, into in zip(self.heads, of_read, self._by_head(of_asked), strict=True):
            found = head.back(t, [given], of_each)
            if found is None:
                into.zero_()
            else:
                into.copy_(found)
        return self.query.times(of_asked)

    def finish(self, queries: Tensor) -> None:
        """Note the queries."""
        self._queries = queries
        for number, head in enumerate(self.heads):
            head.finish(self.asked[:, number])

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Return the gradients of the heads, W_q and W_o."""
        rows, dtype = rounded_rows(self._queries, self.rounding), self.contexts.dtype
        of_query = outer(flipped(self.of_asked.rows), rows, self.rounding).to(dtype)
        of_output = outer(flipped(self.of_contexts.rows), self.read.rows, self.rounding).to(dtype)
        return *(each for head in self.heads for each in head.gradients()), of_query, of_output

    def _by_head(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Cut rows [B, n d] into the heads' own [B, d]."""
        return rows.chunk(len(self.heads), 1)

    def _of_heads(self, rows: Tensor) -> Tensor:
        """Return them as [n, B, d]."""
        return rows.unflatten(1, (len(self.heads), -1)).transpose(0, 1)


def _checked_size(heads: int, head_size: int | None, source_size: int) -> int:
    """Return the size of a head."""
    for name, value in (("heads", heads), ("head_size", head_size)):
        if value is not None and value < 1:
            raise ConfigError(f"attention.form.{name}={value} is not accepted; it must be at least 1")
    if head_size is not None:
        return head_size
    if source_size % heads:
        raise ConfigError(
            f"attention.form.heads={heads} does not divide the encoder's {source_size} units; "
            "take another number of heads or give attention.form.head_size"
        )
    return source_size // heads
