"""What the two wirings share: the recurrent stack, its state, its start."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nmt.model.attention import Attended, Attention, AttentionState, Prepared
from nmt.model.cells import Advance, CellName, CellState, make_cell
from nmt.model.decoder.bridge import Bridge
from nmt.model.decoder.readout import Read, Readout
from nmt.model.decoder.self_attention import CausalSelfAttention, LookBack, NoSelfAttention, Past
from nmt.model.dropout import Drop, Dropout
from nmt.model.encoder.base import Encoded
from nmt.model.products import current

log = logging.getLogger(__name__)

ReadWord = Callable[[Tensor | None, CellState], CellState]
"""(what is fed, state of the first layer) -> its state after a word that is known."""


class Recurrence:
    """What the steps of one recurrence use, each prepared once, when first used: shared operands, and dropout masks.

    Args:
        decoder: whose recurrence it is.
    """

    def __init__(self, decoder: "Decoder") -> None:
        self._decoder = decoder

    @cached_property
    def read_projected(self) -> Advance:
        """The first layer's step function, for a word whose projection has been made with others'."""
        return self._decoder.cells[0].prepare()  # pyright: ignore

    @cached_property
    def read_word(self) -> Advance:
        """The first layer's step function, for a word alone."""
        return self._decoder.cells[0].prepare_whole()  # pyright: ignore

    @cached_property
    def upper(self) -> tuple[Advance, ...]:
        """Of each layer above the first, its step function."""
        return tuple(cell.prepare_whole() for cell in self._decoder.cells[1:])  # pyright: ignore

    @cached_property
    def between(self) -> tuple[Drop, ...]:
        """Of each layer above the first, dropout on its input from below."""
        return tuple(self._decoder.dropout.prepare() for _ in self._decoder.cells[1:])  # pyright: ignore

    @cached_property
    def look_back(self) -> LookBack:
        """What the top layer's output becomes by looking at those before it."""
        return self._decoder.self_attention.prepare()

    @cached_property
    def read(self) -> Read:
        """The readout."""
        return self.prepare_read()

    @cached_property
    def drop(self) -> Drop:
        """Dropout on the readout."""
        return self._decoder.dropout.prepare()

    def prepare_read(self) -> Read:
        """Prepare the readout once more, for use outside the recurrence."""
        return self._decoder.readout.prepare()


class DecoderState(NamedTuple):
    """Where decoding stands, for B sentences with K hypotheses each.

    Attributes:
        memory: the source, as attention has prepared it.
        attention: what attention remembers, parts [B, K, ..].
        recurrence: what the steps use.
        layers: of each layer, its cell's state; parts [B, K, H].
        top: output of the top layer after its look back, [B, K, H]: what asks attention and is read.
        past: what the look back remembers, parts [B, K, t, ..].
        feed: the fed readout [B, K, F]; None without input feeding.
        position: t, the number of target tokens read.
    """

    memory: Prepared
    attention: AttentionState
    recurrence: Recurrence
    layers: tuple[CellState, ...]
    top: Tensor
    past: Past
    feed: Tensor | None
    position: int

    def select(self, beams: Tensor, sentences: Tensor | None = None) -> "DecoderState":
        """Return the state whose hypothesis (i, k) is today's (sentences[i], beams[i, k]).

        Args:
            beams: [B', K'] hypothesis numbers.
            sentences: [B'] sentence numbers; None keeps all, in place.
        """
        count = self.top.shape[1]
        first = torch.arange(len(beams), device=beams.device) if sentences is None else sentences
        rows = (first.unsqueeze(1) * count + beams).flatten()

        picked: dict[tuple[int, ...], Tensor] = {}

        def pick(tensor: Tensor) -> Tensor:
            # a hidden state may be the top too
            place = tensor.data_ptr(), *tensor.shape, *tensor.stride()
            if place not in picked:
                picked[place] = tensor.flatten(0, 1).index_select(0, rows).view(*beams.shape, *tensor.shape[2:])
            return picked[place]

        return self._replace(
            memory=self.memory if sentences is None else self.memory.select(sentences),
            attention=tuple(pick(part) for part in self.attention),
            layers=tuple(tuple(pick(part) for part in state) for state in self.layers),
            top=pick(self.top),
            past=tuple(pick(part) for part in self.past),
            feed=None if self.feed is None else pick(self.feed),
        )


class Decoded(NamedTuple):
    """What the decoder made of Q target words a sentence: of one step in search (Q = K), of a whole target (Q = T).

    Attributes:
        readouts: [B, Q, F], dropout applied.
        states: [B, Q, H], the decoder states that the readouts read.
        embedded: [B, Q, E], the words read.
        attended: contexts, weights.
        state: the decoder's state after the last of them.
    """

    readouts: Tensor
    states: Tensor
    embedded: Tensor
    attended: Attended
    state: DecoderState

    @property
    def weights(self) -> Tensor:
        """Attention weights [B, Q, S]."""
        return self.attended.weights


def join(steps: Sequence[Attended]) -> Attended:
    """Put the steps of a recurrence, [B, 1, ..] each, one after the other."""
    heads = [step.heads for step in steps if step.heads is not None]
    return Attended(
        context=torch.cat([step.context for step in steps], 1),
        weights=torch.cat([step.weights for step in steps], 1),
        state=steps[-1].state,
        notes=tuple(torch.cat(part, 1) for part in zip(*(step.notes for step in steps), strict=True)),
        heads=torch.cat(heads, 1) if heads else None,
    )


class Decoder(nn.Module, ABC):
    """A recurrent decoder with attention.

    Args:
        embedding_size: E.
        attention: the attention.
        readout: the readout.
        bridge: makes the first state.
        cell: ``rnn``, ``gru`` or ``lstm``.
        hidden_size: H.
        layers: number of layers.
        residual: add a layer's input to its output, from the second layer on.
        layer_norm: layer-normalised cells.
        dropout: between layers and on the readout.
        variational_dropout: one dropout mask for all steps of a sentence.
        feed_size: size of what enters the first layer inside the recurrence (context, fed readout); 0 for nothing.
        self_attention: the look back of the top states at those before them; None for none.

    Attributes:
        updates_with_context: whether a step's context makes its state, so that another context is another state.
    """

    updates_with_context: bool
    # what of the wiring has no derivative written by hand
    _without_derivative: str = ""
    _told: bool = False

    def __init__(
        self,
        *,
        embedding_size: int,
        attention: Attention,
        readout: Readout,
        bridge: Bridge,
        cell: CellName,
        hidden_size: int,
        layers: int,
        residual: bool,
        layer_norm: bool,
        dropout: float,
        variational_dropout: bool,
        feed_size: int,
        self_attention: CausalSelfAttention | None = None,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.readout = readout
        self.bridge = bridge
        self.self_attention = NoSelfAttention() if self_attention is None else self_attention
        self.residual = residual
        self.cells = nn.ModuleList(
            make_cell(
                cell,
                hidden_size if depth else embedding_size,
                hidden_size,
                feed_size=0 if depth else feed_size,
                layer_norm=layer_norm,
            )
            for depth in range(layers)
        )
        self.dropout = Dropout(dropout, variational=variational_dropout)

    def start(self, encoded: Encoded) -> DecoderState:
        """Return the state before the first step, one hypothesis a sentence."""
        layers = tuple(tuple(part.unsqueeze(1) for part in state) for state in self.bridge(encoded))
        top = layers[-1][0]
        return DecoderState(
            memory=self.attention.prepare(encoded),
            attention=self.attention.start(encoded),
            recurrence=Recurrence(self),
            layers=layers,
            top=top,
            past=self.self_attention.start(top),
            feed=self._first_feed(top),
            position=0,
        )

    def project(self, embedded: Tensor) -> Tensor:
        """Return the part of the first layer's pre-activations that the words give; see :meth:`Cell.project`."""
        return self.cells[0].project(embedded)  # pyright: ignore

    def step(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """Read one word a hypothesis, embedded [B, K, E]."""
        return self._step(partial(state.recurrence.read_word, embedded), embedded, state)

    @abstractmethod
    def _step(self, read: ReadWord, embedded: Tensor, state: DecoderState) -> Decoded:
        """One step; the first layer reads the word by ``read``."""

    @abstractmethod
    def forward(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """Read a whole target, embedded [B, T, E], from a state of one hypothesis a sentence."""

    def _parts_by_hand(self, embedded: Tensor, state: DecoderState) -> dict[str, Any] | None:
        """Return the stack and attention with derivatives written by hand, as :class:`Unrolled` takes them.

        None where plain arithmetic is asked for, where no gradient is (buffers of all steps would be for nothing), or
        where one of them has none, which the log tells once.
        """
        settings, steps = current(), embedded.shape[1]
        if not settings.fast or not torch.is_grad_enabled():
            return None
        positions = torch.arange(state.position, state.position + steps, device=embedded.device)
        attend = self.attention.by_hand(state.memory, positions)
        states = [tuple(part.squeeze(1) for part in layer) for layer in state.layers]
        words: list[Tensor | None] = [embedded.transpose(0, 1), *(None for _ in self.cells[1:])]
        given = zip(self.cells, states, words, strict=True)
        found = [cell.by_hand(before, steps, each) for cell, before, each in given]  # pyright: ignore
        layers = [layer for layer in found if layer is not None]
        missing = {
            "this attention": attend is None,
            "layer-normalised cells": len(layers) < len(found),
            "decoder.self_attention": type(self.self_attention) is not NoSelfAttention,
            self._without_derivative: bool(self._without_derivative),
        }
        if attend is None or any(missing.values()):
            self._tell_slow(", ".join(name for name, is_missing in missing.items() if is_missing))
            return None
        masks = [self.dropout.factors(below[0], steps) for below in states[:-1]]
        return {"layers": layers, "masks": masks, "residual": self.residual, "attend": attend}

    def _tell_slow(self, missing: str) -> None:
        """Say once, where it is trained, that the decoder goes step by step."""
        if self.training and not self._told:
            log.info("the decoder goes step by step, which is slower: no derivative is written by hand for %s", missing)
            self._told = True

    def _after(self, state: DecoderState, finals: Sequence[Tensor], steps: int, **changes: Any) -> DecoderState:
        """Return the state after so many steps that ended in ``finals``, h and c [B, H] of each layer."""
        parts, kept = [part.unsqueeze(1) for part in finals], self.cells[0].parts
        layers = tuple(both[:kept] for both in zip(parts[::2], parts[1::2], strict=True))  # pyright: ignore
        return state._replace(layers=layers, position=state.position + steps, **changes)

    def _read(self, states: Tensor, embedded: Tensor, attended: Attended, after: DecoderState) -> Decoded:
        """Make the readouts of these states, words and contexts, dropout applied."""
        use = after.recurrence
        return Decoded(use.drop(use.read(states, embedded, attended.context)), states, embedded, attended, after)

    def _first_feed(self, like: Tensor) -> Tensor | None:
        """Return what is fed at the first step."""
        return None

    def _update(self, read: ReadWord, feed: Tensor | None, state: DecoderState) -> DecoderState:
        """Advance all layers by one step, the first as ``read`` does, and look back."""
        use = state.recurrence
        layers = [read(feed, state.layers[0])]
        output = layers[0][0]
        for drop, advance, old in zip(use.between, use.upper, state.layers[1:], strict=True):
            below = drop(output)
            layers.append(advance(below, None, old))
            output = layers[-1][0] + below if self.residual else layers[-1][0]
        return self._look_back(output, state)._replace(layers=tuple(layers), position=state.position + 1)

    def _update_all(
        self, embedded: Tensor, state: DecoderState, feeds: Tensor | None = None
    ) -> tuple[Tensor, tuple[CellState, ...]]:
        """Advance all layers over a whole target, where what enters the first is known beforehand.

        Args:
            embedded: [B, T, E].
            state: of one hypothesis a sentence.
            feeds: [B, T, F]; None: nothing is fed.

        Returns:
            The top layer's outputs [B, T, H], and all layers' states at the end.
        """
        output, below, layers = embedded, embedded, []
        for depth, (cell, first) in enumerate(zip(self.cells, state.layers, strict=True)):
            below = state.recurrence.between[depth - 1](output) if depth else output
            fed = None if depth or feeds is None else feeds.transpose(0, 1)
            hidden, last = cell.run(below.transpose(0, 1), tuple(part.squeeze(1) for part in first), fed)  # pyright: ignore
            layers.append(tuple(part.unsqueeze(1) for part in last))
            output = hidden.transpose(0, 1)
            output = output + below if self.residual and depth else output
        return output, tuple(layers)

    def _look_back(self, output: Tensor, state: DecoderState) -> DecoderState:
        """Return the state with this output [B, K, H] of the top layer, after its look back, on top."""
        tops, past = state.recurrence.look_back(output.unsqueeze(2), state.past)
        return state._replace(top=tops.squeeze(2), past=past)


def words_by_step(project: Callable[[Tensor], Tensor], embedded: Tensor) -> tuple[Tensor, ...]:
    """Project all words at once and split by step: [B, T, E] -> T tensors [B, 1, ..], each contiguous."""
    return project(embedded.transpose(0, 1)).unsqueeze(2).unbind(0)
