"""Scores, alignments and contexts of one query against the states of one sentence.

A score takes a query h [H] and the states [R, M] to scores [R]; an alignment takes those to weights [R]; a context
takes weights and states to a vector [M].

Luong et al. 2015 is arXiv:1508.04025v5, Bahdanau et al. 2015 arXiv:1409.0473v7, Vaswani et al. 2017 arXiv:1706.03762v7,
Graves et al. 2014 arXiv:1410.5401v2.
"""

# Capital letters are the papers' matrices and lengths.
# ruff: noqa: N803, N806

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Score = Callable[[Array], Array]
Alignment = Callable[[Array, Array, int], Array]
Attend = Callable[[Array, int], tuple[Array, Array]]


def sigmoid(x: Array | float) -> Array | float:
    """Logistic function 1 / (1 + exp(-x)), elementwise."""
    return 1.0 / (1.0 + np.exp(-x))


def dot(h: Array, states: Array) -> Array:
    """score = h^T h_s; Luong et al. 2015, section 3.1, "dot" (no number, between eq. 7 and 8). Needs H = M."""
    return np.array([h @ h_s for h_s in states])


def general(h: Array, states: Array, W_a: Array) -> Array:
    """score = h^T W_a h_s with W_a [H, M]; Luong et al. 2015, section 3.1, "general" (between eq. 7 and 8)."""
    return np.array([h @ (W_a @ h_s) for h_s in states])


def concat(h: Array, states: Array, W_a: Array, v_a: Array) -> Array:
    """score = v_a^T tanh(W_a [h; h_s]), W_a [A, H+M], v_a [A]; Luong et al. 2015, section 3.1, "concat".

    The whole matrix is used, as printed; the authors' own code fixed its part on h_s to the identity (footnote 15).
    """
    return np.array([v_a @ np.tanh(W_a @ np.concatenate([h, h_s])) for h_s in states])


def additive(s: Array, states: Array, W_a: Array, U_a: Array, v_a: Array, b_a: Array | None = None) -> Array:
    """e_j = v_a^T tanh(W_a s_{i-1} + U_a h_j); Bahdanau et al. 2015, A.1.2 and A.2.2.

    W_a [A, H], U_a [A, M], v_a [A]. `b_a` [A] is added inside the tanh where given; the paper leaves biases out.
    """
    bias = 0.0 if b_a is None else b_a
    return np.array([v_a @ np.tanh(W_a @ s + U_a @ h_j + bias) for h_j in states])


def scaled_dot(h: Array, states: Array) -> Array:
    """score = h^T h_s / sqrt(d_k), d_k = H = M; Vaswani et al. 2017, eq. 1."""
    return np.array([h @ h_s / math.sqrt(len(h)) for h_s in states])


def key_strength(h: Array, w: Array, b: float) -> float:
    """beta = softplus(w.h + b) = log(1 + exp(w.h + b)) > 0; the positive key strength of Graves et al. 2014, eq. 5.

    The paper asks for beta_t > 0 only; softplus is the contract of this project. w [H].
    """
    return float(np.logaddexp(0.0, w @ h + b))


def cosine(h: Array, states: Array, beta: float) -> Array:
    """score = beta K[h, h_s], K[u, v] = u.v / (|u| |v|); Graves et al. 2014, eq. 5 and 6. Needs H = M.

    `beta` is `key_strength(...)` or a fixed number. K with a zero vector, undefined in the paper, is 0.
    """
    scores = []
    for h_s in states:
        norms = np.linalg.norm(h) * np.linalg.norm(h_s)
        scores.append(beta * (h @ h_s) / norms if norms > 0 else 0.0)
    return np.array(scores)


def location(h: Array, rows: int, W_a: Array) -> Array:
    """Scores W_a h of the first min(R, L) positions, -inf beyond; a_t = softmax(W_a h_t), Luong et al. 2015, eq. 8.

    W_a [L, H]. Footnote 6: a short sentence uses the top part of a_t, of a long one the words near the end are ignored.
    `rows` is R = S + 1, so EOS takes part where S < L.
    """
    scores = np.full(rows, -math.inf)
    for position in range(min(rows, len(W_a))):
        scores[position] = W_a[position] @ h
    return scores


def softmax_over(scores: Array, positions: list[int]) -> Array:
    """Weights exp(score_s) / sum exp(score_s') over the listed positions and 0 elsewhere; all 0 for an empty list."""
    weights = np.zeros(len(scores))
    if not positions:
        return weights
    highest = max(scores[s] for s in positions)
    total = sum(math.exp(scores[s] - highest) for s in positions)
    for s in positions:
        weights[s] = math.exp(scores[s] - highest) / total
    return weights


def softmax(scores: Array, real: int | None = None) -> Array:
    """Softmax over the first `real` rows (all by default); Luong et al. 2015, eq. 7; Bahdanau et al. 2015, eq. 6."""
    return softmax_over(scores, list(range(len(scores) if real is None else real)))


def uniform(rows: int, real: int | None = None) -> Array:
    """Weight 1 / `real` on each of the first `real` rows (all by default), EOS among them: the plain mean."""
    real = rows if real is None else real
    return np.array([1.0 / real if s < real else 0.0 for s in range(rows)])


def window(centre: int, D: int, S: int) -> list[int]:
    """Positions s with |s - centre| <= D among the S tokens and EOS (position S); outside parts are ignored.

    Luong et al. 2015, section 3.2 and footnote 8.
    """
    return [s for s in range(S + 1) if abs(s - centre) <= D]


def local_m(scores: Array, t: int, S: int, D: int) -> Array:
    """Monotonic local alignment: softmax over the window round p_t = min(t, S-1); Luong et al. 2015, section 3.2.

    Differs: p_t = t in the paper; the clamp to the last word is that of the authors' code, else long targets would have
    an empty window.
    """
    return softmax_over(scores, window(min(t, S - 1), D, S))


def predicted_position(h: Array, W_p: Array, v_p: Array, S: int) -> float:
    """p_t = S sigmoid(v_p^T tanh(W_p h_t)), a real number in [0, S]; Luong et al. 2015, eq. 9. W_p [A, H], v_p [A]."""
    return float(S * sigmoid(v_p @ np.tanh(W_p @ h)))


def local_p(scores: Array, h: Array, W_p: Array, v_p: Array, S: int, D: int) -> Array:
    """Predictive local alignment: a_t(s) = align(s) exp(-(s - p_t)^2 / (2 sigma^2)); Luong et al. 2015, eq. 10.

    sigma = D/2. align is the softmax over the window round the integer min(floor(p_t), S-1); the Gaussian has the real
    p_t. The product is not renormalised, so the weights sum to less than 1.
    """
    p = predicted_position(h, W_p, v_p, S)
    inside = window(min(math.floor(p), S - 1), D, S)
    weights = softmax_over(scores, inside)
    for s in inside:
        weights[s] *= math.exp(-((s - p) ** 2) / (2 * (D / 2) ** 2))
    return weights


def weighted_mean(weights: Array, states: Array) -> Array:
    """c_t = sum_s a_t(s) h_s; Bahdanau et al. 2015, eq. 5. weights [R], states [R, M] -> [M]."""
    context = np.zeros(states.shape[1])
    for weight, state in zip(weights, states, strict=True):
        context += weight * state
    return context


def fixed_context(states: Array, forward_size: int) -> Array:
    """C = [forward state at EOS; backward state at position 0], what each direction knows after the whole sentence.

    Each row of `states` [R, M] is [forward; backward] with `forward_size` entries forward (M for a one-way encoder).
    Differs: Bahdanau et al. 2015, A.2.2, take the forward state alone (c_i = h->_Tx).
    """
    return np.concatenate([states[-1][:forward_size], states[0][forward_size:]])


def attention(score: Score, alignment: Alignment, states: Array) -> Attend:
    """Compose score(h) -> scores, alignment(scores, h, t) -> weights to attend(h, t) -> (weights [R], context [M])."""

    def attend(h: Array, t: int) -> tuple[Array, Array]:
        weights = alignment(score(h), h, t)
        return weights, weighted_mean(weights, states)

    return attend
