"""Several attentions side by side, each in a smaller space of its own."""

from collections.abc import Iterator
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
from nmt.model.products import Linear, Operand


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

    def penalty(self, attended: Attended, nll: Tensor, mask: Tensor) -> Tensor | None:
        """Return the sum of what the heads add to the loss."""
        assert attended.heads is not None
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
