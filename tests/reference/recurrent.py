"""Recurrent cells, with and without layer normalisation, and the stacks made of them.

Ba et al. 2016 is arXiv:1607.06450v1. Cells have torch's layout: W_ih [G*H, X], W_hh [G*H, H], biases [G*H], where the G
blocks are one for `rnn`, (r, z, n) for `gru`, (i, f, g, o) for `lstm`. A state is the tuple (h,), or (h, c) for `lstm`.
"""

# Capital letters are the papers' matrices.
# ruff: noqa: N803, N806

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reference.attention import Array, sigmoid

State = tuple[Array, ...]


class Norm(NamedTuple):
    """Gain and bias of one layer normalisation."""

    gain: Array
    bias: Array


class Cell(NamedTuple):
    """Parameters of one cell; a missing bias is zero.

    `norms` turns layer normalisation on and holds, as in the paper, (hidden [4H], input [4H], cell [H]) for `lstm`;
    (hidden gates [2H], input gates [2H], input candidate [H], hidden candidate [H]) for `gru`; (sum [H],) for `rnn`.
    """

    kind: str
    W_ih: Array
    W_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None
    norms: tuple[Norm, ...] | None = None
    epsilon: float = 1e-5


def zero_state(cell: Cell) -> State:
    """State before the first step: h = 0 and, for `lstm`, c = 0."""
    H = cell.W_hh.shape[1]
    return (np.zeros(H), np.zeros(H)) if cell.kind == "lstm" else (np.zeros(H),)


def layer_norm(z: Array, norm: Norm, epsilon: float) -> Array:
    """LN(z) = (z - mu) / sigma * gain + bias over the entries of z; Ba et al. 2016, eq. 15 and 16.

    Differs: sigma is sqrt(variance + epsilon), as in torch, so that a constant z gives the bias; the paper has none.
    """
    mu = sum(z) / len(z)
    variance = sum((z_i - mu) ** 2 for z_i in z) / len(z)
    return (z - mu) / np.sqrt(variance + epsilon) * norm.gain + norm.bias


def rnn_step(cell: Cell, x: Array, h: Array) -> Array:
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh); Elman 1990 in torch's form. Normalised: Ba et al. 2016, eq. 4.

    Eq. 4 normalises the sum W_hh h_{t-1} + W_ih x_t as one vector; `b_ih` and `b_hh` are then added after it.
    """
    b_ih, b_hh = _biases(cell)
    if cell.norms is None:
        return np.tanh(cell.W_ih @ x + b_ih + cell.W_hh @ h + b_hh)
    summed = layer_norm(cell.W_hh @ h + cell.W_ih @ x, cell.norms[0], cell.epsilon)
    return np.tanh(summed + b_ih + b_hh)


def gru_step(cell: Cell, x: Array, h: Array) -> Array:
    """Gated unit in torch's form: the reset gate multiplies W_hn h + b_hn, and z keeps the *old* state.

    r = sigma(W_ir x + b_ir + W_hr h + b_hr); z likewise; n = tanh(W_in x + b_in + r * (W_hn h + b_hn));
    h' = (1 - z) * n + z * h.
    Differs: Bahdanau et al. 2015, A.1.1, have n = tanh(W x + U [r * h]) and h' = (1 - z) * h + z * n.
    """
    H = len(h)
    b_ih, b_hh = _biases(cell)
    from_x, from_h = _gru_parts(cell, x, h)
    from_x, from_h = from_x + b_ih, from_h + b_hh
    r = sigmoid(from_x[:H] + from_h[:H])
    z = sigmoid(from_x[H : 2 * H] + from_h[H : 2 * H])
    n = np.tanh(from_x[2 * H :] + r * from_h[2 * H :])
    return (1 - z) * n + z * h


def _gru_parts(cell: Cell, x: Array, h: Array) -> tuple[Array, Array]:
    """W_ih x and W_hh h, both [3H], gates and candidate normalised apart if at all; Ba et al. 2016, eq. 26 and 27."""
    from_x, from_h = cell.W_ih @ x, cell.W_hh @ h
    if cell.norms is None:
        return from_x, from_h
    gates = 2 * len(h)
    hidden_gates, input_gates, input_new, hidden_new = cell.norms
    normalised_x = [layer_norm(from_x[:gates], input_gates, cell.epsilon)]
    normalised_x.append(layer_norm(from_x[gates:], input_new, cell.epsilon))
    normalised_h = [layer_norm(from_h[:gates], hidden_gates, cell.epsilon)]
    normalised_h.append(layer_norm(from_h[gates:], hidden_new, cell.epsilon))
    return np.concatenate(normalised_x), np.concatenate(normalised_h)


def lstm_step(cell: Cell, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """Long short-term memory; Ba et al. 2016, eq. 17-19, or, with `norms`, eq. 20-22.

    (i f g o) = LN(W_hh h) + LN(W_ih x) + b, each LN over all 4H entries; c' = sigma(f) * c + sigma(i) * tanh(g);
    h' = sigma(o) * tanh(LN(c')). The state keeps the c' that is not normalised. Differs: only the order of the blocks.
    """
    H = len(h)
    b_ih, b_hh = _biases(cell)
    from_x, from_h = cell.W_ih @ x, cell.W_hh @ h
    if cell.norms is not None:
        from_h = layer_norm(from_h, cell.norms[0], cell.epsilon)
        from_x = layer_norm(from_x, cell.norms[1], cell.epsilon)
    gates = from_x + b_ih + from_h + b_hh
    i, f, g, o = (gates[k * H : (k + 1) * H] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    visible = c if cell.norms is None else layer_norm(c, cell.norms[2], cell.epsilon)
    return sigmoid(o) * np.tanh(visible), c


def _biases(cell: Cell) -> tuple[Array, Array]:
    zeros = np.zeros(len(cell.W_ih))
    return (zeros if cell.b_ih is None else cell.b_ih), (zeros if cell.b_hh is None else cell.b_hh)


def step(cell: Cell, x: Array, state: State) -> State:
    """One step of whichever cell this is: input x [X] and the old state -> the new state."""
    if cell.kind == "lstm":
        return lstm_step(cell, x, *state)
    return ({"rnn": rnn_step, "gru": gru_step}[cell.kind](cell, x, *state),)


def stack_step(
    cells: Sequence[Cell], x: Array, states: Sequence[State], *, residual: bool = False
) -> tuple[Array, list[State]]:
    """One step of stacked cells: x enters the first layer, each layer's output enters the next.

    Returns the top output [H] and the new states. With `residual`, the output of each layer but the first is h plus the
    layer's input (Wu et al. 2016, arXiv:1609.08144v2, eq. 6); the states stay the bare h (and c).
    """
    new_states = []
    for layer, (cell, state) in enumerate(zip(cells, states, strict=True)):
        new_states.append(step(cell, x, state))
        h = new_states[-1][0]
        x = h + x if residual and layer > 0 else h
    return x, new_states


class Encoding(NamedTuple):
    """`states` [R, M] are the top layer's outputs; the lists hold one state a layer, without the residual sum.

    `forward_last` is each layer's forward state after EOS, `backward_first` its backward state after position 0 (empty
    for a one-way encoder).
    """

    states: Array
    forward_last: list[State]
    backward_first: list[State]


def run(cell: Cell, inputs: Array, *, backwards: bool = False) -> list[State]:
    """States of one cell over inputs [R, X], from a zero state, listed by position also when it reads backwards."""
    positions = range(len(inputs))
    states: dict[int, State] = {}
    state = zero_state(cell)
    for position in reversed(positions) if backwards else positions:
        state = step(cell, inputs[position], state)
        states[position] = state
    return [states[position] for position in positions]


def encode(
    inputs: Array, forward: Sequence[Cell], backward: Sequence[Cell] | None = None, *, residual: bool = False
) -> Encoding:
    """Stacked encoder over one sentence, inputs [R, E]; h_j = [forward h_j; backward h_j], Bahdanau et al. 2015, eq. 7.

    Every layer reads the outputs of both directions of the layer below. With `residual`, each layer but the first adds
    its input to its output.
    """
    forward_last, backward_first = [], []
    for layer, cell in enumerate(forward):
        ahead = run(cell, inputs)
        outputs = [state[0] for state in ahead]
        forward_last.append(ahead[-1])
        if backward is not None:
            back = run(backward[layer], inputs, backwards=True)
            outputs = [np.concatenate([a, b[0]]) for a, b in zip(outputs, back, strict=True)]
            backward_first.append(back[0])
        if residual and layer > 0:
            outputs = [output + x for output, x in zip(outputs, inputs, strict=True)]
        inputs = np.array(outputs)
    return Encoding(inputs, forward_last, backward_first)
