"""The three functions of attention, as interfaces: score, alignment, context; and what they remember of a sentence.

A new score, alignment or context is one subclass in one file and one YAML under ``configs/attention``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nmt.model.encoder.base import Encoded
from nmt.model.products import Operand


@dataclass(frozen=True)
class Keys:
    """What a score prepared: of the sentences (their keys, first axis B) and for the steps (the query's projection)."""

    sentences: Operand | Tensor | None = None
    steps: Operand | None = None

    def select(self, sentences: Tensor) -> "Keys":
        """Return the keys of the sentences [B'] of the batch."""
        return replace(self, sentences=select_sentences(self.sentences, sentences))


@dataclass(frozen=True)
class Memory:
    """A batch of sentences as attention sees it, prepared once and read at every step.

    Attributes:
        keys: what the score prepared.
        values: what the context prepared.
        mask: [B, S], True on real tokens, EOS among them.
        lengths: [B], source tokens without EOS.
        alignment: what the alignment prepared for its steps.
    """

    keys: Keys
    values: Operand | Tensor
    mask: Tensor
    lengths: Tensor
    alignment: Operand | None

    def select(self, sentences: Tensor) -> "Memory":
        """Return the memory of the sentences [B'] of the batch."""
        values = select_sentences(self.values, sentences)
        assert values is not None
        return Memory(
            self.keys.select(sentences),
            values,
            self.mask.index_select(0, sentences),
            self.lengths.index_select(0, sentences),
            self.alignment,
        )


def select_sentences(prepared: Operand | Tensor | None, sentences: Tensor) -> Operand | Tensor | None:
    """Take rows [B'] of the first axis of something prepared."""
    if prepared is None:
        return None
    return prepared.select(sentences) if isinstance(prepared, Operand) else prepared.index_select(0, sentences)


def masked_softmax(scores: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over the last axis where ``allowed`` is True, exactly 0 elsewhere, and in a row with nothing allowed."""
    # the lowest number and not minus infinity, nor a score that is: a row with nothing allowed would be 0 / 0
    lowest = torch.finfo(scores.dtype).min
    allowed = allowed & (scores > lowest)
    return torch.softmax(torch.where(allowed, scores, lowest), dim=-1) * allowed


class Score(nn.Module, ABC):
    """How well each query matches each key.

    Attributes:
        compares: False if the score is the same whatever the query and the keys.
    """

    compares: bool = True

    @abstractmethod
    def prepare(self, source: Encoded) -> Keys:
        """Do, once for the batch, all that does not depend on the query."""

    @abstractmethod
    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S] of the queries [B, Q, H]; values on padding are of no consequence.

        A score of minus infinity forbids a position.
        """


class Alignment(nn.Module, ABC):
    """How scores become weights over positions.

    Attributes:
        weighs: False if there are no weights (all zero), so that nothing is aligned or drawn.
    """

    weighs: bool = True

    def prepare(self) -> Operand | None:
        """Return what the steps need of this module's own parameters."""
        return None

    @abstractmethod
    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S], exactly zero on padding.

        Args:
            scores: [B, Q, S].
            query: [B, Q, H].
            memory: the batch.
            positions: the target position t of each query: one number for all or [Q].
        """


class Context(nn.Module, ABC):
    """What is read with the weights.

    Attributes:
        size: of a context vector.
        reads_weights: False if the context does not depend on them.
    """

    size: int
    reads_weights: bool = True

    @abstractmethod
    def prepare(self, source: Encoded) -> Operand | Tensor:
        """Do, once for the batch, all that does not depend on the weights."""

    @abstractmethod
    def forward(self, weights: Tensor, values: Operand | Tensor) -> Tensor:
        """Return context vectors [B, Q, size] for weights [B, Q, S]."""
