"""Attention and its parts, as interfaces: score, alignment, context; what they keep of a sentence and of past steps.

A new score, alignment or context is one subclass in one file and one YAML under ``configs/attention``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nmt.model.encoder.base import Encoded
from nmt.model.kernels import soften
from nmt.model.products import Operand, current
from nmt.model.recurrence import Attend, AttendSteps, StepScore

AttentionState = tuple[Tensor, ...]
"""What attention remembers of past steps, each part [B, K, ..]; empty where every step stands for itself."""


@dataclass(frozen=True)
class Keys:
    """What a score prepared: of the sentences (their keys, first axis B) and for the steps (the query's projection)."""

    sentences: Operand | Tensor | None = None
    steps: Operand | None = None

    def select(self, sentences: Tensor) -> "Keys":
        """Return the keys of the sentences [B'] of the batch."""
        return replace(self, sentences=select_sentences(self.sentences, sentences))


class Prepared(ABC):
    """A batch of sentences as attention sees it, prepared once and read at every step."""

    @abstractmethod
    def select(self, sentences: Tensor) -> "Prepared":
        """Return what was prepared of the sentences [B'] of the batch."""


@dataclass(frozen=True)
class Memory(Prepared):
    """A batch of sentences as one score, one alignment and one context see it.

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
    if not (torch.is_grad_enabled() and scores.requires_grad):
        found = soften(scores, allowed)
        if found is not None:
            return found
    # the lowest number and not minus infinity, nor a score that is: a row with nothing allowed would be 0 / 0
    lowest = torch.finfo(scores.dtype).min
    allowed = allowed & (scores > lowest)
    return torch.softmax(torch.where(allowed, scores, lowest), dim=-1) * allowed


def one_hot_argmax(weights: Tensor) -> Tensor:
    """Return 1 at the largest weight of the last axis, the first of equal ones, else 0; zeros where all are 0."""
    largest, position = weights.detach().max(-1, keepdim=True)
    return torch.zeros_like(weights).scatter(-1, position, (largest > 0).to(weights.dtype))


class Score(nn.Module, ABC):
    """How well each query matches each key.

    Attributes:
        compares: False if the score is the same whatever the query and the keys.
        asks: False if it is the same whatever the query.
    """

    compares: bool = True
    asks: bool = True

    @abstractmethod
    def prepare(self, source: Encoded) -> Keys:
        """Do, once for the batch, all that does not depend on the query."""

    @abstractmethod
    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S] of the queries [B, Q, H]; values on padding are of no consequence.

        A score of minus infinity forbids a position.
        """

    def shift_size(self, query_size: int) -> int:
        """Return the size of the direction in which :meth:`forward_shifted` moves the keys, given H."""
        return query_size

    def by_hand(self, keys: Keys, steps: int) -> StepScore | None:
        """Return the score with a derivative written by hand, for that many steps; None where there is none."""
        return None

    def forward_shifted(self, query: Tensor, keys: Keys, direction: Tensor, amounts: Tensor) -> Tensor:
        """Return the scores of keys moved along one direction: k_j + a_j d (what coverage does to them).

        For a bilinear score q^T (k_j + a_j d) = score + (q^T d) a_j, which is also what scores without keys do.

        Args:
            query: [B, Q, H].
            keys: as prepared.
            direction: d, of size :meth:`shift_size`.
            amounts: a, [B, Q, S].
        """
        return self(query, keys) + (query @ direction).unsqueeze(-1) * amounts


class Aligned(NamedTuple):
    """Weights [B, Q, S], the alignment's state after them, and what ``Alignment.penalty`` wants back, [B, Q, ..]."""

    weights: Tensor
    state: AttentionState
    notes: tuple[Tensor, ...] = ()


class Alignment(nn.Module, ABC):
    """How scores become weights over positions.

    An alignment whose steps stand for themselves defines ``forward``; one that looks back at its last step defines
    ``start`` and ``align`` too, and says ``recurrent``.

    Attributes:
        weighs: False if there are no weights (all zero), so that nothing is aligned or drawn.
        asks: whether the weights depend on the query, the scores apart.
        samples: whether training draws one position by chance and gives it all the weight.
        recurrent: whether a step needs the state of the step before, so that steps cannot be made at once.
        state_parts: number of tensors in its state.
    """

    weighs: bool = True
    asks: bool = False
    samples: bool = False
    recurrent: bool = False
    state_parts: int = 0

    def prepare(self) -> Operand | None:
        """Return what the steps need of this module's own parameters."""
        return None

    def start(self, mask: Tensor, like: Tensor) -> AttentionState:
        """Return the state before the first step, parts [B, 1, ..].

        Args:
            mask: [B, S].
            like: a tensor of the type that the state should have.
        """
        return ()

    def align(
        self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int, state: AttentionState
    ) -> Aligned:
        """Return the weights and the state after them; arguments as in ``forward``, and the state before."""
        return Aligned(self(scores, query, memory, positions), state)

    def allowed(self, memory: Memory, positions: Tensor) -> Tensor | None:
        """Return the positions [T or 1, B, S] over which the weights at target positions [T] are the scores' softmax.

        None where they are something else, or depend on the query in another way.
        """
        return None

    def by_hand(self, score: StepScore, values: Tensor, memory: Memory, positions: Tensor) -> AttendSteps | None:
        """Return all steps at target positions [T] with a derivative written by hand; None where there is none.

        Args:
            score: the scores, so written.
            values: [B, S, M], of which contexts are weighted means.
            memory: the batch.
            positions: [T].
        """
        allowed = self.allowed(memory, positions)
        if allowed is None:
            return None
        return Attend(score, allowed, values, len(positions), rounding=current().rounding)

    def penalty(self, notes: tuple[Tensor, ...], nll: Tensor, mask: Tensor) -> Tensor | None:
        """Return what is added to the loss, summed over real target tokens; None for nothing.

        Args:
            notes: those of all target positions, [B, T, ..].
            nll: [B, T], negative log-likelihood of each target token, without gradient.
            mask: [B, T], True on real target tokens.
        """
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

    def averaged(self, values: Operand | Tensor) -> Tensor | None:
        """Return the vectors [B, S, size] of which contexts are weighted means; None where they are something else."""
        return None

    @abstractmethod
    def forward(self, weights: Tensor, values: Operand | Tensor) -> Tensor:
        """Return context vectors [B, Q, size] for weights [B, Q, S]."""


class Attended(NamedTuple):
    """The result of attending.

    Attributes:
        context: [B, Q, M].
        weights: [B, Q, S]; of several heads their mean.
        state: of the attention after these steps.
        notes: what :meth:`Attention.penalty` wants back, each [B, Q, ..].
        heads: [B, Q, N, S], the weights of each of several heads; None of one.
    """

    context: Tensor
    weights: Tensor
    state: AttentionState = ()
    notes: tuple[Tensor, ...] = ()
    heads: Tensor | None = None


class Attention(nn.Module, ABC):
    """What a decoder asks with its state, and what it is given.

    Attributes:
        size: M, of a context vector.
        weighs: False if there are no weights to align, score and draw.
        asks: whether the weights depend on the query.
        learns: whether a loss on the weights teaches attention: not where there are none, where nothing that learns is
            in them, or where training samples one position.
        recurrent: whether a step needs the state of the step before.
    """

    size: int
    weighs: bool
    asks: bool
    learns: bool
    recurrent: bool

    @abstractmethod
    def prepare(self, source: Encoded) -> Prepared:
        """Do, once for the batch, all that does not depend on the decoder."""

    @abstractmethod
    def start(self, source: Encoded) -> AttentionState:
        """Return the state before the first step."""

    @abstractmethod
    def forward(self, query: Tensor, memory: Any, positions: Tensor | int, state: AttentionState) -> Attended:
        """Attend.

        Args:
            query: [B, Q, H].
            memory: what was prepared.
            positions: the target position t of each query: one number for all, or [Q].
            state: what is remembered of the steps before.
        """

    def by_hand(self, memory: Any, positions: Tensor) -> AttendSteps | None:
        """Return attention with a derivative written by hand, for a recurrence over target positions [T].

        None where there is none.
        """
        return None

    def penalty(self, attended: Attended, nll: Tensor, mask: Tensor) -> Tensor | None:
        """Return what is added to the loss, summed over real target tokens; None for nothing.

        Args:
            attended: of all target positions; Q is T.
            nll: [B, T], negative log-likelihood of each target token, without gradient.
            mask: [B, T], True on real target tokens.
        """
        return None
