"""Recurrent cells: tanh RNN, GRU, LSTM, plain or layer-normalised, with an optional second input inside the recurrence.

A cell's input has two parts. ``inputs`` are known for all steps (embeddings, the layer below): their products leave the
loop (:meth:`Cell.project`, :meth:`Cell.run`). ``feed`` is known only at its step (a context, Luong's fed readout) and
enters inside.

Layer normalisation follows Ba et al. 2016 (arXiv:1607.06450v1): the RNN normalises the sum of what input and recurrence
give (eq. 4); the LSTM the two apart, and its cell once more before its tanh (eqs. 20-22); the GRU the two apart, and in
each the gates and the candidate apart (eqs. 26-27). The normalisation brings the bias, so the products have none.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nmt.model.gating import GRU, LSTM, RNN, Gating, side_by_side
from nmt.model.layer import Layer, at_ends, run_side_by_side
from nmt.model.products import Linear, Operand, after_each_other, current, product

CellState = tuple[Tensor, ...]
"""(h,) of RNN and GRU, (h, c) of the LSTM; each [.., H]."""
Advance = Callable[[Tensor, Tensor | None, CellState], CellState]
CellName = Literal["rnn", "gru", "lstm"]


class Cell(nn.Module, ABC):
    """One recurrent cell.

    Args:
        input_size: size of ``inputs``.
        hidden_size: H.
        feed_size: size of ``feed``; 0 for none.
        layer_norm: layer-normalised, as the module says.
    """

    gates: int
    """Number of gates G, whose weights are [G * H, ..]."""
    gating: Gating
    """What becomes of its P blocks of pre-activations, where it is not layer-normalised."""
    parts: int = 1
    """Number of tensors in a state."""

    def __init__(self, input_size: int, hidden_size: int, *, feed_size: int = 0, layer_norm: bool = False) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.layer_norm = layer_norm
        width = self.gates * hidden_size
        self.input = Linear(input_size, width, bias=not layer_norm)
        self.feed = Linear(feed_size, width, bias=False) if feed_size else None
        self.recurrent = Linear(hidden_size, width, bias=False)
        for block in self.recurrent.weight.data.split(hidden_size):
            nn.init.orthogonal_(block)

    def project(self, inputs: Tensor) -> Tensor:
        """Return the inputs' part of the pre-activations, with any bias, as what :meth:`prepare` returns takes it.

        From [.., I] to [.., G * H], or, in fast arithmetic, [.., P * H].
        """
        if not self._is_fast():
            return self.input(inputs)
        return product(inputs, self.gating.rows_of_inputs(self.input.weight), self._whole_bias())

    def prepare(self) -> Advance:
        """Return the step function ``(projected input, feed, state) -> state`` for one recurrence."""
        if not self._is_fast():
            return self._prepare_plain()
        fed = [] if self.feed is None else [self.feed.weight]
        fed_part = Operand([*fed, self.recurrent.weight], gating=self.gating)

        def advance(projected: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            given = _present(feed, state[0])
            low = fed_part.low(*(part.flatten(0, -2) for part in given))
            if low is not None:
                return _update(self.gating, projected, low, state[-1])[: self.parts]
            return _Update.apply(self.gating, projected, fed_part(torch.cat(given, -1)), state[-1])[: self.parts]

        return advance

    @abstractmethod
    def _prepare_plain(self) -> Advance:
        """Return the same in plain arithmetic, layer-normalised or not."""

    def prepare_whole(self) -> Advance:
        """Return the step function ``(input, feed, state) -> state``, which projects the input itself."""
        if not self._is_fast() or torch.is_grad_enabled():
            advance = self.prepare()
            if self._is_fast():
                project = Operand(self.gating.rows_of_inputs(self.input.weight), self._biases())
            else:
                project = self.input.prepare()
            return lambda inputs, feed, state: advance(project(inputs), feed, state)
        weights = [self.input.weight, *([] if self.feed is None else [self.feed.weight]), self.recurrent.weight]
        all_at_once = Operand(weights, self._biases(), gating=self.gating)

        def advance_whole(inputs: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            given, cell = [part.flatten(0, -2) for part in (inputs, *_present(feed, state[0]))], state[-1]
            hidden, new = (torch.empty_like(cell, memory_format=torch.contiguous_format) for _ in range(2))
            all_at_once.advance(given, cell.flatten(0, -2), hidden.flatten(0, -2), new.flatten(0, -2))
            return (hidden, new)[: self.parts]

        return advance_whole

    def zero_state(self, like: Tensor, *rows: int) -> CellState:
        """Return a state of zeros [rows.., H] of the type and device of ``like``."""
        return tuple(like.new_zeros(*rows, self.hidden_size) for _ in range(self.parts))

    def run(
        self, inputs: Tensor, state: CellState, feeds: Tensor | None = None, ends: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        """Run over a whole sequence.

        Args:
            inputs: [T, B, I], steps first.
            state: the initial state, [B, H] each.
            feeds: [T, B, F], known beforehand here; None: nothing is fed.
            ends: [B], after how many steps a row ends, 1 to T; None: after all.

        Returns:
            All hidden states [T, B, H], and the state at each row's end.
        """
        if not self._is_fast():
            return self._run_plain(inputs, state, feeds, ends)
        weights = [self.input.weight]
        if feeds is not None:
            assert self.feed is not None
            inputs, weights = torch.cat([inputs, feeds], -1), [*weights, self.feed.weight]
        return self._run_all([self], [inputs], [state], [weights], ends)[0]

    @classmethod
    def run_together(
        cls,
        cells: Sequence["Cell"],
        inputs: Sequence[Tensor],
        states: Sequence[CellState],
        ends: Tensor | None = None,
    ) -> list[tuple[Tensor, CellState]]:
        """Run cells of this kind over a sequence each, all of one shape, as :meth:`run` does (the two directions)."""
        if not cells[0]._is_fast():
            given = zip(cells, inputs, states, strict=True)
            return [cell.run(each, state, ends=ends) for cell, each, state in given]
        return cls._run_all(cells, inputs, states, [[cell.input.weight] for cell in cells], ends)

    def by_hand(self, state: CellState, steps: int, words: Tensor | None = None) -> Layer | None:
        """Return the cell over so many steps with a derivative written by hand; None where there is none.

        Args:
            state: the initial state, [B, H] each.
            steps: T.
            words: [T, B, I], ``inputs`` known beforehand, while ``feed`` is fed; None: ``inputs`` are what is fed.
        """
        if self.layer_norm:
            return None
        fed, known = self.input.weight, None
        if words is not None:
            fed, known = None if self.feed is None else self.feed.weight, (words, self.input.weight)
        return self._layer(state, steps, fed, known)

    def _is_fast(self) -> bool:
        return current().fast and not self.layer_norm

    def _biases(self) -> list[Tensor]:
        """Return what the bias of all blocks is made of, where there is no normalisation."""
        assert self.input.bias is not None
        return [self.input.bias]

    def _whole_bias(self) -> Tensor:
        bias = after_each_other(self._biases())
        assert bias is not None
        return bias

    def _layer(self, state: CellState, steps: int, fed: Tensor | None, words: tuple[Tensor, Tensor] | None) -> Layer:
        """Return the layer, given weights of what is fed, and of words known beforehand, with these."""
        rows = self.gating.rows_of_inputs
        return Layer(
            self.gating,
            (state[0], state[-1]),
            self.gating.rows_of_state(self.recurrent.weight),
            self._whole_bias(),
            fed=None if fed is None else rows(fed),
            words=None if words is None else (words[0], rows(words[1])),
            steps=steps,
            rounding=current().rounding,
        )

    def _run_plain(
        self, inputs: Tensor, state: CellState, feeds: Tensor | None, ends: Tensor | None
    ) -> tuple[Tensor, CellState]:
        advance = self.prepare()
        steps = []
        for t, gates in enumerate(self.project(inputs).unbind(0)):
            state = advance(gates, None if feeds is None else feeds[t], state)
            steps.append(state)
        parts = list(zip(*steps, strict=True))
        hidden = torch.stack(parts[0])
        if ends is None:
            return hidden, state
        return hidden, at_ends(ends, hidden, *(torch.stack(part) for part in parts[1:]))

    @staticmethod
    def _run_all(
        cells: Sequence["Cell"],
        inputs: Sequence[Tensor],
        states: Sequence[CellState],
        weights: Sequence[Sequence[Tensor]],
        ends: Tensor | None,
    ) -> list[tuple[Tensor, CellState]]:
        """Run, given the inputs' weights, each as parts that stand side by side."""
        if not torch.is_grad_enabled():
            given = zip(cells, inputs, states, weights, strict=True)
            return [cell._run_without_gradients(*each, ends) for cell, *each in given]  # pyright: ignore
        layers = []
        for cell, given, state, parts in zip(cells, inputs, states, weights, strict=True):
            words = given, side_by_side(parts)
            layers.append(cell._layer(state, len(given), None, words))
        found = run_side_by_side(layers, ends)
        return [(all_[0], all_[1:][: cell.parts]) for cell, all_ in zip(cells, found, strict=True)]

    def _run_without_gradients(
        self, inputs: Tensor, state: CellState, weights: Sequence[Tensor], ends: Tensor | None
    ) -> tuple[Tensor, CellState]:
        """Run over a whole sequence, step by step in what fits the cache: one product of [x_t; h_{t-1}] a step."""
        both = Operand([*weights, self.recurrent.weight], self._biases(), gating=self.gating)
        hidden, cell = state[0], state[-1]
        hiddens, cells = (hidden.new_empty(len(inputs), *hidden.shape) for _ in range(2))
        for given, next_hidden, next_cell in zip(inputs, hiddens, cells, strict=True):
            both.advance([given, hidden], cell, next_hidden, next_cell)
            hidden, cell = next_hidden, next_cell
        return hiddens, at_ends(ends, hiddens, cells)[: self.parts]

    def _split_recurrence(self) -> Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]]:
        """Return ``(projected, feed, h) -> (input's and feed's part, recurrent part)`` of the pre-activations."""
        recurrent, feeding = self.recurrent.prepare(), None if self.feed is None else self.feed.prepare()

        def parts(projected: Tensor, feed: Tensor | None, hidden: Tensor) -> tuple[Tensor, Tensor]:
            inputs = projected if feeding is None or feed is None else projected + feeding(feed)
            return inputs, recurrent(hidden)

        return parts


@final
class RNNCell(Cell):
    """h_t = tanh(W x_t + U h_{t-1} + b) (Elman 1990)."""

    gates = 1
    gating = RNN

    def __init__(self, input_size: int, hidden_size: int, *, feed_size: int = 0, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
        self.norm = nn.LayerNorm(hidden_size) if layer_norm else nn.Identity()

    def _prepare_plain(self) -> Advance:
        parts = self._split_recurrence()

        def advance(projected: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            inputs, recurrent = parts(projected, feed, state[0])
            return (torch.tanh(self.norm(inputs + recurrent)),)

        return advance


class _ApartNorm(nn.Module):
    """Layer normalisation of a GRU's gates [.., 2 H] and of its candidate [.., H], each apart."""

    def __init__(self, hidden_size: int, *, bias: bool) -> None:
        super().__init__()
        self.gates = nn.LayerNorm(2 * hidden_size, bias=bias)
        self.candidate = nn.LayerNorm(hidden_size, bias=bias)
        self.sizes = [2 * hidden_size, hidden_size]

    def forward(self, activations: Tensor) -> Tensor:
        """Normalise [.., 3 H]."""
        gates, candidate = activations.split(self.sizes, dim=-1)
        return torch.cat([self.gates(gates), self.candidate(candidate)], dim=-1)


@final
class GRUCell(Cell):
    """Gated recurrent unit.

    r = sigmoid(W_r x + U_r h), z = sigmoid(W_z x + U_z h), n = tanh(W_n x + r * (U_n h + b_n)),
    h' = (1 - z) * n + z * h.

    Differs: torch's formulation; Cho et al. 2014 (arXiv:1406.1078) apply the reset gate before the product,
    U_n (r * h), and Bahdanau et al. 2015 (A.1.1) give the new value z and the old one 1 - z.
    """

    gates = 3
    gating = GRU

    def __init__(self, input_size: int, hidden_size: int, *, feed_size: int = 0, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
        self.candidate_bias = nn.Parameter(torch.zeros(hidden_size))
        self.input_norm = _ApartNorm(hidden_size, bias=True) if layer_norm else nn.Identity()
        self.recurrent_norm = _ApartNorm(hidden_size, bias=False) if layer_norm else nn.Identity()

    def _biases(self) -> list[Tensor]:
        return [*super()._biases(), self.candidate_bias]

    def _prepare_plain(self) -> Advance:
        parts = self._split_recurrence()
        size = self.hidden_size

        def advance(projected: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            inputs, recurrent = parts(projected, feed, state[0])
            inputs, recurrent = self.input_norm(inputs), self.recurrent_norm(recurrent)
            reset, update = torch.sigmoid(inputs[..., : 2 * size] + recurrent[..., : 2 * size]).chunk(2, dim=-1)
            recurrent_candidate = recurrent[..., 2 * size :] + self.candidate_bias
            candidate = torch.tanh(inputs[..., 2 * size :] + reset * recurrent_candidate)
            return (torch.lerp(candidate, state[0], update),)

        return advance


@final
class LSTMCell(Cell):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with Gers et al.'s forget gate, its bias 1).

    i, f, o = sigmoid(..), g = tanh(..), c' = f * c + i * g, h' = o * tanh(c'); the gates lie in the order i, f, o, g.
    """

    gates = 4
    gating = LSTM
    parts = 2

    def __init__(self, input_size: int, hidden_size: int, *, feed_size: int = 0, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
        width = self.gates * hidden_size
        self.input_norm = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.recurrent_norm = nn.LayerNorm(width, bias=False) if layer_norm else nn.Identity()
        self.cell_norm = nn.LayerNorm(hidden_size) if layer_norm else nn.Identity()
        bias = self.input_norm.bias if isinstance(self.input_norm, nn.LayerNorm) else self.input.bias
        assert bias is not None
        bias.data[hidden_size : 2 * hidden_size] = 1.0

    def _prepare_plain(self) -> Advance:
        parts = self._split_recurrence()

        def advance(projected: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            inputs, recurrent = parts(projected, feed, state[0])
            gates = self.input_norm(inputs) + self.recurrent_norm(recurrent)
            sigmoids, candidate = gates.split([3 * self.hidden_size, self.hidden_size], dim=-1)
            entering, kept, shown = torch.sigmoid(sigmoids).chunk(3, dim=-1)
            new = kept * state[1] + entering * torch.tanh(candidate)
            return shown * torch.tanh(self.cell_norm(new)), new

        return advance


def _present(feed: Tensor | None, hidden: Tensor) -> tuple[Tensor, ...]:
    return (hidden,) if feed is None else (feed, hidden)


def _update(of: Gating, projected: Tensor, products: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return h', c' [.., H] of two parts of pre-activations, [.., P * H] and [n, P * H], and c; no derivative."""
    flat = cell.reshape(-1, cell.shape[-1])
    hidden, new = torch.empty_like(flat), torch.empty_like(flat)
    of.forward(products, flat, hidden, new, inputs=projected.reshape(len(flat), -1))
    return hidden.view(cell.shape), new.view(cell.shape)


class _Update(torch.autograd.Function):
    """(two parts of the pre-activations [.., P * H], c [.., H]) -> (h', c')."""

    @staticmethod
    def forward(ctx: Any, of: Gating, projected: Tensor, given: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        flat = cell.reshape(-1, cell.shape[-1])
        inputs, products = (part.reshape(len(flat), -1) for part in (projected, given))
        gates = torch.empty_like(products)
        hidden, new = (torch.empty_like(flat) for _ in range(2))
        squashed = torch.empty_like(flat) if of.squashes else None
        of.forward(products, flat, hidden, new, inputs=inputs, gates=gates, squashed=squashed)
        ctx.of = of
        ctx.save_for_backward(gates, flat, squashed)
        return hidden.view(cell.shape), new.view(cell.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gates, cell, squashed = ctx.saved_tensors
        of_hidden, of_cell = gradients[0].reshape(cell.shape), gradients[1].reshape(cell.shape).clone()
        of_gates = torch.empty_like(gates)
        ctx.of.back(gates, cell, squashed, [of_hidden], of_cell, of_gates)
        of_part = of_gates.view(*gradients[0].shape[:-1], -1)
        return None, of_part, of_part, of_cell.view(gradients[1].shape)


_CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}


def make_cell(name: CellName, input_size: int, hidden_size: int, *, feed_size: int, layer_norm: bool) -> Cell:
    """Construct the cell of that name."""
    return _CELLS[name](input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
