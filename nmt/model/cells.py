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

from nmt.model.products import Linear, Operand, current, rounded, rounded_rows, sum_rows, times_transposed

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

    def zero_state(self, like: Tensor, *rows: int) -> CellState:
        """Return a state of zeros [rows.., H] of the type and device of ``like``."""
        return tuple(like.new_zeros(*rows, self.hidden_size) for _ in range(self.parts))

    @abstractmethod
    def prepare(self) -> Advance:
        """Return the step function ``(projected input, feed, state) -> state`` for one recurrence."""

    def run(self, inputs: Tensor, state: CellState, feeds: Tensor | None = None) -> tuple[Tensor, CellState]:
        """Run over a whole sequence.

        Args:
            inputs: [T, B, I], steps first.
            state: the initial state, [B, H] each.
            feeds: [T, B, F], known beforehand here; None: nothing is fed.

        Returns:
            All hidden states [T, B, H], and the state's other parts (the LSTM's cells) likewise.
        """
        advance = self.prepare()
        steps = []
        for t, gates in enumerate(self.project(inputs).unbind(0)):
            state = advance(gates, None if feeds is None else feeds[t], state)
            steps.append(state)
        hidden, *others = (torch.stack(part) for part in zip(*steps, strict=True))
        return hidden, tuple(others)

    @classmethod
    def run_together(
        cls, cells: Sequence["Cell"], inputs: Sequence[Tensor], states: Sequence[CellState]
    ) -> list[tuple[Tensor, CellState]]:
        """Run cells of this kind over a sequence each, all of one shape, as :meth:`run` does (the two directions)."""
        return [cell.run(each, state) for cell, each, state in zip(cells, inputs, states, strict=True)]

    def _fused_recurrence(self) -> Callable[[Tensor, Tensor | None, Tensor], Tensor]:
        """Return ``(projected, feed, h) -> pre-activations`` as one product of [feed; h] with [W_feed W_recurrent]."""
        if self.feed is None:
            recurrent = self.recurrent.prepare()
            return lambda projected, _, hidden: projected + recurrent(hidden)
        both = Operand(torch.cat([self.feed.weight, self.recurrent.weight], dim=1))

        def sum_of_parts(projected: Tensor, feed: Tensor | None, hidden: Tensor) -> Tensor:
            assert feed is not None
            return projected + both(torch.cat([feed, hidden], dim=-1))

        return sum_of_parts

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
        total = self._fused_recurrence()
        return lambda projected, feed, state: (torch.tanh(self.norm(total(projected, feed, state[0]))),)


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
        total = self._normalised_recurrence() if self.layer_norm else self._fused_recurrence()
        fast = current().fast and not self.layer_norm

        def advance(projected: Tensor, feed: Tensor | None, state: CellState) -> CellState:
            gates = total(projected, feed, state[0])
            if fast:
                # a sum just made, which is no one else's, where nothing is written down
                return _LSTMUpdate.apply(gates, state[1]) if torch.is_grad_enabled() else lstm_update(gates, state[1])
            sigmoids, candidate = gates.split([3 * self.hidden_size, self.hidden_size], dim=-1)
            entering, kept, shown = torch.sigmoid(sigmoids).chunk(3, dim=-1)
            cell = kept * state[1] + entering * torch.tanh(candidate)
            return shown * torch.tanh(self.cell_norm(cell)), cell

        return advance

    def run(self, inputs: Tensor, state: CellState, feeds: Tensor | None = None) -> tuple[Tensor, CellState]:
        """Run over a whole sequence; see :meth:`Cell.run`."""
        if not current().fast or self.layer_norm:
            return super().run(inputs, state, feeds)
        weight = self.input.weight
        if feeds is not None:
            assert self.feed is not None
            inputs, weight = torch.cat([inputs, feeds], -1), torch.cat([weight, self.feed.weight], 1)
        return self._run_all([self], [inputs], [state], [weight])[0]

    @classmethod
    def run_together(
        cls, cells: Sequence[Cell], inputs: Sequence[Tensor], states: Sequence[CellState]
    ) -> list[tuple[Tensor, CellState]]:
        """Run cells over a sequence each, step by step side by side; see :meth:`Cell.run_together`."""
        if not current().fast or cells[0].layer_norm:
            return super().run_together(cells, inputs, states)
        return cls._run_all(cells, inputs, states, [cell.input.weight for cell in cells])

    @staticmethod
    def _run_all(
        cells: Sequence[Cell], inputs: Sequence[Tensor], states: Sequence[CellState], weights: Sequence[Tensor]
    ) -> list[tuple[Tensor, CellState]]:
        if not torch.is_grad_enabled():
            given = zip(cells, inputs, states, weights, strict=True)
            return [cell._run_without_gradients(*each) for cell, *each in given]  # pyright: ignore
        first = (torch.stack(part) for part in zip(*states, strict=True))
        shared = [(weight, cell.input.bias, cell.recurrent.weight) for cell, weight in zip(cells, weights, strict=True)]
        given = zip(inputs, *zip(*shared, strict=True), strict=True)
        hiddens, memories = _LSTMSequence.apply(current().bf16, *first, *(each for layer in given for each in layer))
        return [(hiddens[:, d], (memories[:, d],)) for d in range(len(cells))]

    def _run_without_gradients(self, inputs: Tensor, state: CellState, weight: Tensor) -> tuple[Tensor, CellState]:
        """Run over a whole sequence, step by step in what fits the cache: one product of [x_t; h_{t-1}] a step."""
        both = Operand(torch.cat([weight, self.recurrent.weight], 1), self.input.bias)
        steps, (hidden, cell) = len(inputs), state
        hiddens, cells = (hidden.new_empty(steps, *hidden.shape) for _ in range(2))
        squashed = torch.empty_like(hidden)
        for t, given in enumerate(inputs):
            gates = both(torch.cat([given, hidden], 1))
            lstm_forward(gates, cell, hiddens[t], cells[t], squashed)
            hidden, cell = hiddens[t], cells[t]
        return hiddens, (cells,)

    def _normalised_recurrence(self) -> Callable[[Tensor, Tensor | None, Tensor], Tensor]:
        parts = self._split_recurrence()

        def total(projected: Tensor, feed: Tensor | None, hidden: Tensor) -> Tensor:
            inputs, recurrent = parts(projected, feed, hidden)
            return self.input_norm(inputs) + self.recurrent_norm(recurrent)

        return total


def lstm_forward(gates: Tensor, cell: Tensor, hidden: Tensor, new: Tensor, squashed: Tensor) -> None:
    """Activate ``gates`` [.., 4H] in place; write h', c', tanh(c').

    tanh(x) = 2 sigmoid(2 x) - 1: torch vectorises sigmoid several times better on CPUs.
    """
    size = cell.shape[-1]
    candidate = gates[..., 3 * size :]
    candidate.mul_(2)
    gates.sigmoid_()
    candidate.mul_(2).sub_(1)
    entering, kept, shown = gates[..., : 3 * size].split(size, dim=-1)
    torch.mul(kept, cell, out=new).addcmul_(entering, candidate)
    torch.mul(new, 2, out=squashed).sigmoid_().mul_(2).sub_(1)
    torch.mul(shown, squashed, out=hidden)


def lstm_update(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return h', c' of pre-activations [.., 4H], which are overwritten, and c [.., H]."""
    hidden, new, squashed = (torch.empty_like(cell) for _ in range(3))
    lstm_forward(gates, cell, hidden, new, squashed)
    return hidden, new


def lstm_backward(
    gates: Tensor, cell: Tensor, squashed: Tensor, of_hidden: Tensor, of_cell: Tensor, of_gates: Tensor
) -> Tensor:
    """Write dL/d(pre-activations) [.., 4H] and return dL/dc of the old cell.

    With dh, dc the gradients of h' and c': do = dh tanh(c'), dc += dh o (1 - tanh(c')^2), di = dc g, df = dc c,
    dg = dc i; then each times the derivative of its own squashing, s (1 - s) or 1 - g^2.
    """
    size = cell.shape[-1]
    entering, kept, shown, candidate = gates.split(size, dim=-1)
    through = of_hidden * shown
    total = torch.addcmul(through, through, squashed.square(), value=-1).add_(of_cell)
    of_entering, of_kept, of_shown, of_candidate = of_gates.split(size, dim=-1)
    torch.mul(total, candidate, out=of_entering)
    torch.mul(total, cell, out=of_kept)
    torch.mul(of_hidden, squashed, out=of_shown)
    torch.mul(total, entering, out=of_candidate)
    sigmoids = gates[..., : 3 * size]
    of_gates[..., : 3 * size] *= torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1)
    of_candidate.addcmul_(of_candidate, candidate.square(), value=-1)
    return total.mul_(kept)


class _LSTMUpdate(torch.autograd.Function):
    """(pre-activations [.., 4H], c [.., H]) -> (h', c')."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        # the caller's sum is a fresh tensor that nothing else reads; still, autograd functions must not change inputs
        gates = gates.clone()
        hidden, new, squashed = (torch.empty_like(cell) for _ in range(3))
        lstm_forward(gates, cell, hidden, new, squashed)
        ctx.save_for_backward(gates, cell, squashed)
        return hidden, new

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        of_hidden, of_cell = gradients
        gates, cell, squashed = ctx.saved_tensors
        of_gates = torch.empty_like(gates)
        return of_gates, lstm_backward(gates, cell, squashed, of_hidden, of_cell, of_gates)


class _LSTMSequence(torch.autograd.Function):
    """D LSTM layers side by side, which share all elementwise operations (an encoder's directions; or one layer).

    h_0, c_0 [D, B, H]; then of each layer inputs [T, B, I], weights [4H, I], bias [4H], recurrent weights [4H, H] ->
    h, c [T, D, B, H]. Forward keeps the activated gates. Backward goes through time with dh_{t-1} = dgates_t U only;
    the gradients of weights are one product of all dgates with all inputs, or all h_{t-1}.
    """

    @staticmethod
    def forward(ctx: Any, bf16: bool, hidden: Tensor, cell: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        bf16 = bf16 and hidden.dtype == torch.float32
        inputs, weights, biases, recurrent = given[::4], given[1::4], given[2::4], given[3::4]
        steps, size = len(inputs[0]), 4 * hidden.shape[2]
        rows = [rounded_rows(each, bf16) for each in inputs]
        weights, matrices = ([rounded(weight, bf16) for weight in each] for each in (weights, recurrent))
        gates = hidden.new_empty(steps, *hidden.shape[:2], size)
        for d, (left, right, bias) in enumerate(zip(rows, weights, biases, strict=True)):
            torch.add(times_transposed(left, right).view(steps, -1, size), bias, out=gates[:, d])
        hiddens, cells = (hidden.new_empty(steps + 1, *hidden.shape) for _ in range(2))
        squashed = hidden.new_empty(steps, *hidden.shape)
        hiddens[0], cells[0] = hidden, cell
        for t in range(steps):
            earlier = rounded(hiddens[t], bf16)
            for d, matrix in enumerate(matrices):
                gates[t, d] += times_transposed(earlier[d], matrix)
            lstm_forward(gates[t], cells[t], hiddens[t + 1], cells[t + 1], squashed[t])
        ctx.bf16 = bf16
        ctx.shapes = [each.shape for each in inputs]
        ctx.save_for_backward(gates, hiddens, cells, squashed, *rows, *weights, *matrices)
        return hiddens[1:], cells[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        of_hiddens, of_cells = gradients
        gates, hiddens, cells, squashed, *given = ctx.saved_tensors
        layers = len(ctx.shapes)
        rows, weights, matrices = given[:layers], given[layers : 2 * layers], given[2 * layers :]
        # layers first, so that each layer's are rows
        factors = rows[0].new_empty(layers, len(gates), *gates.shape[2:])
        of_gates = torch.empty_like(gates[0])
        of_hidden, of_cell = torch.zeros_like(hiddens[0]), torch.zeros_like(cells[0])
        for t in reversed(range(len(gates))):
            of_hidden += of_hiddens[t]
            of_cell += of_cells[t]
            of_cell = lstm_backward(gates[t], cells[t], squashed[t], of_hidden, of_cell, of_gates)
            factors[:, t] = of_gates
            for d, matrix in enumerate(matrices):
                of_hidden[d] = times_transposed(factors[d, t], matrix.t())
        earlier = rounded(hiddens[:-1], ctx.bf16)
        found = []
        for d, shape in enumerate(ctx.shapes):
            of_sums = factors[d].flatten(0, 1)
            of_inputs = times_transposed(of_sums, weights[d].t()) if ctx.needs_input_grad[3 + 4 * d] else None
            of_weight = times_transposed(of_sums.t(), rows[d].t())
            of_recurrent = times_transposed(of_sums.t(), earlier[:, d].flatten(0, 1).t())
            of_all = (None if of_inputs is None else of_inputs.view(shape), of_weight, sum_rows(of_sums), of_recurrent)
            found += [None if each is None else each.to(gates.dtype) for each in of_all]
        return None, of_hidden, of_cell, *found


_CELLS: dict[str, type[Cell]] = {"rnn": RNNCell, "gru": GRUCell, "lstm": LSTMCell}


def make_cell(name: CellName, input_size: int, hidden_size: int, *, feed_size: int, layer_norm: bool) -> Cell:
    """Construct the cell of that name."""
    return _CELLS[name](input_size, hidden_size, feed_size=feed_size, layer_norm=layer_norm)
