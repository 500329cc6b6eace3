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

from nmt.model.kernels import lstm_back, lstm_forward
from nmt.model.layer import Layer, at_ends, run_side_by_side
from nmt.model.products import Linear, Operand, current

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
    """Number of gates G; their pre-activations are [.., G * H]."""
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
        """Return the inputs' part of the gates' pre-activations, with any bias: [.., I] -> [.., G * H]."""
        return self.input(inputs)

    def prepare_whole(self) -> Advance:
        """Return the step function ``(input, feed, state) -> state``, which projects the input itself."""
        project, advance = self.input.prepare(), self.prepare()
        return lambda inputs, feed, state: advance(project(inputs), feed, state)

    def zero_state(self, like: Tensor, *rows: int) -> CellState:
        """Return a state of zeros [rows.., H] of the type and device of ``like``."""
        return tuple(like.new_zeros(*rows, self.hidden_size) for _ in range(self.parts))

    @abstractmethod
    def prepare(self) -> Advance:
        """Return the step function ``(projected input, feed, state) -> state`` for one recurrence."""

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

    @classmethod
    def run_together(
        cls,
        cells: Sequence["Cell"],
        inputs: Sequence[Tensor],
        states: Sequence[CellState],
        ends: Tensor | None = None,
    ) -> list[tuple[Tensor, CellState]]:
        """Run cells of this kind over a sequence each, all of one shape, as :meth:`run` does (the two directions)."""
        return [cell.run(each, state, ends=ends) for cell, each, state in zip(cells, inputs, states, strict=True)]

    def by_hand(self, state: CellState, steps: int, words: Tensor | None = None) -> Layer | None:
        """Return the cell over so many steps with a derivative written by hand; None where there is none.

        Args:
            state: h_0, c_0 [B, H].
            steps: T.
            words: [T, B, I], ``inputs`` known beforehand, while ``feed`` is fed; None: ``inputs`` are what is fed.
        """
        return None

    def _fused_recurrence(self) -> Operand:
        """Return what makes their part of the pre-activations of [feed; h], or of h where nothing is fed."""
        if self.feed is None:
            return self.recurrent.prepare()
        return Operand([self.feed.weight, self.recurrent.weight])

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

    def __init__(self, input_size: int, hidden_size: int, *, feed_size: int = 0, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
        self.norm = nn.LayerNorm(hidden_size) if layer_norm else nn.Identity()

    def prepare(self) -> Advance:
        """Return the step function."""
        fed_part = self._fused_recurrence()
        return lambda projected, feed, state: (
            torch.tanh(self.norm(projected + fed_part(torch.cat(_present(feed, state[0]), -1)))),
        )


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

    def __init__(self, input_size: int, hidden_size: int, *, feed_size: int = 0, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
        self.candidate_bias = nn.Parameter(torch.zeros(hidden_size))
        self.input_norm = _ApartNorm(hidden_size, bias=True) if layer_norm else nn.Identity()
        self.recurrent_norm = _ApartNorm(hidden_size, bias=False) if layer_norm else nn.Identity()

    def prepare(self) -> Advance:
        """Return the step function."""
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

    def prepare(self) -> Advance:
        """Return the step function."""
        if self.layer_norm:
            return self._prepare_normalised()
        fed_part, fast = self._fused_recurrence(), current().fast

        def advance(projected: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            given = _present(feed, state[0])
            low = fed_part.low(*(part.flatten(0, -2) for part in given))
            if low is not None:
                return _lstm_update(projected, low, state[1])
            product = fed_part(torch.cat(given, -1))
            if fast:
                return _LSTMUpdate.apply(projected, product, state[1])
            return self._squash(projected + product, state[1], lambda cell: cell)

        return advance

    def prepare_whole(self) -> Advance:
        """Return the step function that projects the input itself, in one product with all else."""
        if self.layer_norm or not current().fast or torch.is_grad_enabled():
            return super().prepare_whole()
        weights = [self.input.weight, *([] if self.feed is None else [self.feed.weight]), self.recurrent.weight]
        all_at_once = Operand(weights, self.input.bias, of_gates=True)

        def advance(inputs: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            given = [part.flatten(0, -2) for part in (inputs, *_present(feed, state[0]))]
            hidden, new = (torch.empty_like(state[1], memory_format=torch.contiguous_format) for _ in range(2))
            all_at_once.lstm(given, state[1].flatten(0, -2), hidden.flatten(0, -2), new.flatten(0, -2))
            return hidden, new

        return advance

    def _prepare_normalised(self) -> Advance:
        parts = self._split_recurrence()

        def advance(projected: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            inputs, recurrent = parts(projected, feed, state[0])
            return self._squash(self.input_norm(inputs) + self.recurrent_norm(recurrent), state[1], self.cell_norm)

        return advance

    def _squash(self, gates: Tensor, cell: Tensor, norm: Callable[[Tensor], Tensor]) -> CellState:
        """Return h', c' of pre-activations [.., 4H] and c [.., H]."""
        sigmoids, candidate = gates.split([3 * self.hidden_size, self.hidden_size], dim=-1)
        entering, kept, shown = torch.sigmoid(sigmoids).chunk(3, dim=-1)
        new = kept * cell + entering * torch.tanh(candidate)
        return shown * torch.tanh(norm(new)), new

    def by_hand(self, state: CellState, steps: int, words: Tensor | None = None) -> Layer | None:
        """Return the layer; see :meth:`Cell.by_hand`."""
        if self.layer_norm:
            return None
        fed, known = self.input.weight, None
        if words is not None:
            fed, known = None if self.feed is None else self.feed.weight, (words, self.input.weight)
        assert self.input.bias is not None
        rounding = current().rounding
        return Layer(
            state, self.recurrent.weight, self.input.bias, fed=fed, words=known, steps=steps, rounding=rounding
        )

    def run(
        self, inputs: Tensor, state: CellState, feeds: Tensor | None = None, ends: Tensor | None = None
    ) -> tuple[Tensor, CellState]:
        """Run over a whole sequence; see :meth:`Cell.run`."""
        if not current().fast or self.layer_norm:
            return super().run(inputs, state, feeds, ends)
        weights = [self.input.weight]
        if feeds is not None:
            assert self.feed is not None
            inputs, weights = torch.cat([inputs, feeds], -1), [*weights, self.feed.weight]
        return self._run_all([self], [inputs], [state], [weights], ends)[0]

    @classmethod
    def run_together(
        cls, cells: Sequence[Cell], inputs: Sequence[Tensor], states: Sequence[CellState], ends: Tensor | None = None
    ) -> list[tuple[Tensor, CellState]]:
        """Run cells over a sequence each, step by step side by side; see :meth:`Cell.run_together`."""
        if not current().fast or cells[0].layer_norm:
            return super().run_together(cells, inputs, states, ends)
        return cls._run_all(cells, inputs, states, [[cell.input.weight] for cell in cells], ends)

    @staticmethod
    def _run_all(
        cells: Sequence[Cell],
        inputs: Sequence[Tensor],
        states: Sequence[CellState],
        weights: Sequence[Sequence[Tensor]],
        ends: Tensor | None,
    ) -> list[tuple[Tensor, CellState]]:
        """Run, given the inputs' weights, each as parts that stand side by side."""
        if not torch.is_grad_enabled():
            given = zip(cells, inputs, states, weights, strict=True)
            return [cell._run_without_gradients(*each, ends) for cell, *each in given]  # pyright: ignore
        rounding = current().rounding
        layers = []
        for cell, given, state, parts in zip(cells, inputs, states, weights, strict=True):
            recurrent, bias = cell.recurrent.weight, cell.input.bias
            assert bias is not None
            words = given, parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)
            layers.append(Layer(state, recurrent, bias, fed=None, words=words, steps=len(given), rounding=rounding))
        return [(hiddens, (hidden, cell)) for hiddens, hidden, cell in run_side_by_side(layers, ends)]

    def _run_without_gradients(
        self, inputs: Tensor, state: CellState, weights: Sequence[Tensor], ends: Tensor | None
    ) -> tuple[Tensor, CellState]:
        """Run over a whole sequence, step by step in what fits the cache: one product of [x_t; h_{t-1}] a step."""
        both = Operand([*weights, self.recurrent.weight], self.input.bias, of_gates=True)
        hidden, cell = state
        hiddens, cells = (hidden.new_empty(len(inputs), *hidden.shape) for _ in range(2))
        for given, next_hidden, next_cell in zip(inputs, hiddens, cells, strict=True):
            both.lstm([given, hidden], cell, next_hidden, next_cell)
            hidden, cell = next_hidden, next_cell
        return hiddens, at_ends(ends, hiddens, cells)


def _present(feed: Tensor | None, hidden: Tensor) -> tuple[Tensor, ...]:
    return (hidden,) if feed is None else (feed, hidden)


def _lstm_update(projected: Tensor, products: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return h', c' [.., H] of two parts of the pre-activations, [.., 4H] and [n, 4H], and c, without a derivative."""
    flat = cell.reshape(-1, cell.shape[-1])
    hidden, new = torch.empty_like(flat), torch.empty_like(flat)
    lstm_forward(products, flat, hidden, new, inputs=projected.reshape(len(flat), -1))
    return hidden.view(cell.shape), new.view(cell.shape)


class _LSTMUpdate(torch.autograd.Function):
    """(two parts of the pre-activations [.., 4H], c [.., H]) -> (h', c')."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, product: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        flat = cell.reshape(-1, cell.shape[-1])
        inputs, products = (part.reshape(len(flat), -1) for part in (projected, product))
        gates = flat.new_empty(len(flat), 4 * flat.shape[1])
        hidden, new, squashed = (torch.empty_like(flat) for _ in range(3))
        lstm_forward(products, flat, hidden, new, inputs=inputs, gates=gates, squashed=squashed)
        ctx.save_for_backward(gates, flat, squashed)
        return hidden.view(cell.shape), new.view(cell.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gates, cell, squashed = ctx.saved_tensors
        of_hidden, of_cell = gradients[0].reshape(cell.shape), gradients[1].reshape(cell.shape).clone()
        of_gates = torch.empty_like(gates)
        lstm_back(gates, cell, squashed, [of_hidden], of_cell, of_gates)
        of_part = of_gates.view(*gradients[0].shape[:-1], -1)
        return of_part, of_part, of_cell.view(gradients[1].shape)


_CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}


def make_cell(name: CellName, input_size: int, hidden_size: int, *, feed_size: int, layer_norm: bool) -> Cell:
    """Construct the cell of that name."""
    return _CELLS[name](input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
