"""Where attention sits in the decoder: a whole teacher-forced sentence, step by step.

Luong et al. 2015 is arXiv:1508.04025v5, Bahdanau et al. 2015 arXiv:1409.0473v7.
"""

# Capital letters are the papers' matrices.
# ruff: noqa: N803, N806

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from reference.attention import Array, Attend
from reference.recurrent import Cell, State, stack_step

Readout = Callable[[Array, Array, Array], Array]


class Unrolled(NamedTuple):
    """What a decoder does over T steps: logits [T, V], weights [T, R], contexts [T, M], readouts [T, A], states [T, H].

    Row t belongs to the prediction of y_t from y_{t-1}; `states` are the new states s_t of the top layer.
    """

    logits: Array
    weights: Array
    contexts: Array
    readouts: Array
    states: Array


def backward_first(W_s: Array, h_back: Array, b: Array | None = None) -> Array:
    """s_0 = tanh(W_s h<-_1), h<-_1 the backward state at the first position; Bahdanau et al. 2015, A.2.2."""
    return np.tanh(W_s @ h_back + (0.0 if b is None else b))


def attentional_readout(s: Array, y: Array, c: Array, *, W_c: Array, b_c: Array | None = None) -> Array:
    """h~_t = tanh(W_c [c_t; s_t]), W_c [A, M+H]; Luong et al. 2015, eq. 5. The word `y` [E] is not looked at."""
    return np.tanh(W_c @ np.concatenate([c, s]) + (0.0 if b_c is None else b_c))


def maxout_readout(
    s: Array, y: Array, c: Array, *, U_o: Array, V_o: Array, C_o: Array, b: Array | None = None
) -> Array:
    """t~ = U_o s + V_o E y_{i-1} + C_o c_i [2l]; t_j = max(t~_{2j-1}, t~_{2j}) [l]; Bahdanau et al. 2015, A.2.2."""
    wide = U_o @ s + V_o @ y + C_o @ c + (0.0 if b is None else b)
    return np.array([max(wide[2 * j], wide[2 * j + 1]) for j in range(len(wide) // 2)])


def logits_of(readout: Array, W: Array, b: Array | None = None) -> Array:
    """W readout + b, W [V, A]; their softmax is p(y_t | ...), Luong et al. 2015, eq. 6; Bahdanau et al. 2015, A.2.2."""
    return W @ readout + (0.0 if b is None else b)


def update_then_attend(
    embedded: Array,
    attend: Attend,
    cells: Sequence[Cell],
    initial: Sequence[State],
    readout: Readout,
    W: Array,
    b: Array | None = None,
    *,
    feed_size: int = 0,
    residual: bool = False,
) -> Unrolled:
    """Path of Luong et al. 2015, sections 3 and 3.3: y_{t-1} -> s_t -> a_t -> c_t -> h~_t -> logits.

    s_t = cell([E y_{t-1}; h~_{t-1}], s_{t-1}), h~_0 = 0, with input feeding (`feed_size` is the readout's size A), else
    cell(E y_{t-1}, s_{t-1}). The query, and the state in the readout, is the top layer's new output; the fed vector
    enters the first layer. `embedded` [T, E] are E y_0 ... E y_{T-1} (y_0 is BOS).
    """
    steps, states = [], list(initial)
    fed = np.zeros(feed_size)
    for t, y in enumerate(embedded):
        s, states = stack_step(cells, np.concatenate([y, fed]), states, residual=residual)
        weights, c = attend(s, t)
        attentional = readout(s, y, c)
        fed = attentional if feed_size else fed
        steps.append((logits_of(attentional, W, b), weights, c, attentional, s))
    return Unrolled(*(np.array(column) for column in zip(*steps, strict=True)))


def attend_then_update(
    embedded: Array,
    attend: Attend,
    cells: Sequence[Cell],
    initial: Sequence[State],
    readout: Readout,
    W: Array,
    b: Array | None = None,
    *,
    readout_state: str = "previous",
    residual: bool = False,
) -> Unrolled:
    """Path of Bahdanau et al. 2015, A.2.2: s_{t-1} -> a_t -> c_t, s_t = cell([E y_{t-1}; c_t], s_{t-1}).

    The query is the top layer's last output, which is s_{t-1} (with `residual` its sum with the layer's input; at the
    first step the initial state); the context enters the first layer. The readout sees s_{t-1} with
    `readout_state="previous"`, as t~_i is printed, and s_t with "new", as p(y_i | s_i, ...) suggests.
    """
    steps, states = [], list(initial)
    previous = states[-1][0]
    for t, y in enumerate(embedded):
        weights, c = attend(previous, t)
        new, states = stack_step(cells, np.concatenate([y, c]), states, residual=residual)
        hidden = readout({"previous": previous, "new": new}[readout_state], y, c)
        steps.append((logits_of(hidden, W, b), weights, c, hidden, new))
        previous = new
    return Unrolled(*(np.array(column) for column in zip(*steps, strict=True)))


def luong(
    embedded: Array,
    attend: Attend,
    cells: Sequence[Cell],
    initial: Sequence[State],
    *,
    W_c: Array,
    W_s: Array,
    b_c: Array | None = None,
    b_s: Array | None = None,
    input_feeding: bool = True,
    residual: bool = False,
) -> Unrolled:
    """Decoder of Luong et al. 2015: `update_then_attend` with the attentional readout.

    h~_t = tanh(W_c [c_t; s_t] + b_c), W_c [A, M+H], eq. 5; logits W_s h~_t + b_s, W_s [V, A], eq. 6.
    """

    def readout(s: Array, y: Array, c: Array) -> Array:
        return attentional_readout(s, y, c, W_c=W_c, b_c=b_c)

    feed_size = len(W_c) if input_feeding else 0
    return update_then_attend(
        embedded, attend, cells, initial, readout, W_s, b_s, feed_size=feed_size, residual=residual
    )


def bahdanau(
    embedded: Array,
    attend: Attend,
    cells: Sequence[Cell],
    initial: Sequence[State],
    *,
    U_o: Array,
    V_o: Array,
    C_o: Array,
    W_o: Array,
    b: Array | None = None,
    b_o: Array | None = None,
    readout_state: str = "previous",
) -> Unrolled:
    """Decoder of Bahdanau et al. 2015, A.2.2: `attend_then_update` with the maxout readout, then W_o t_i + b_o.

    U_o [2l, H], V_o [2l, E], C_o [2l, M], b [2l], W_o [V, l], b_o [V].
    """

    def readout(s: Array, y: Array, c: Array) -> Array:
        return maxout_readout(s, y, c, U_o=U_o, V_o=V_o, C_o=C_o, b=b)

    return attend_then_update(embedded, attend, cells, initial, readout, W_o, b_o, readout_state=readout_state)
