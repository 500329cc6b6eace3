"""Further attentions: scores, alignments, heads, hierarchies, monotonic and covered attention, and self-attention.

As in `reference.attention`: a query h [H] and the states [R, M] of one sentence, no padding, loops over positions and
steps. Lin et al. 2017 is arXiv:1703.03130v1, Vaswani et al. 2017 arXiv:1706.03762v7, Yang et al. 2016
aclanthology.org/N16-1174, Nallapati et al. 2016 arXiv:1602.06023v5, Martins and Astudillo 2016 arXiv:1602.02068v2,
Peters et al. 2019 arXiv:1905.05702v2, Raffel et al. 2017 arXiv:1704.00784v2, Tu et al. 2016 arXiv:1601.04811v6, See et
al. 2017 arXiv:1704.04368v2, Cheng et al. 2016 arXiv:1601.06733v7, Gehring et al. 2017 arXiv:1611.02344v3.
"""

# Capital letters are the papers' matrices and lengths.
# ruff: noqa: N803, N806

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from reference.attention import (
    Array,
    Attend,
    additive,
    scaled_dot,
    sigmoid,
    softmax,
    softmax_over,
    uniform,
    weighted_mean,
)
from reference.recurrent import Cell, Norm, encode, layer_norm

PairScore = Callable[[Array, Array], Array]
Normalise = Callable[[Array], Array]
CoveredScore = Callable[[Array, Array], Array]

EPSILON = 1e-5


def concat_linear(h: Array, states: Array, w: Array) -> Array:
    """e_j = w^T [h; h_j], w [H+M]: a concat score without its tanh.

    The part of w on h adds the same number to all scores, so that a softmax does not see the query.
    """
    return np.array([w @ np.concatenate([h, h_j]) for h_j in states])


def pooling(states: Array, W_s1: Array, w_s2: Array) -> Array:
    """e_j = w_s2^T tanh(W_s1 h_j), the same at all target steps; Lin et al. 2017, eq. 5 before its softmax.

    W_s1 [A, M], w_s2 [A]: one hop, which is one row of eq. 6. There is no query.
    """
    return np.array([w_s2 @ np.tanh(W_s1 @ h_j) for h_j in states])


class Head(NamedTuple):
    """One head: W_q [d, H], W_k [d, M], W_v [d, M] and its score of a query [d] and keys [R, d]."""

    W_q: Array
    W_k: Array
    W_v: Array
    score: PairScore = scaled_dot


class Heads(NamedTuple):
    """Weights [R], the mean over the heads; the context [M]; and the weights of each head [n, R]."""

    weights: Array
    context: Array
    each: Array


def heads_of(W_q: Array, W_k: Array, W_v: Array, scores: Sequence[PairScore]) -> list[Head]:
    """Cut W_q [n*d, H], W_k and W_v [n*d, M] into len(scores) = n heads; head i has the rows i*d to (i+1)*d - 1."""
    d = len(W_q) // len(scores)
    heads = []
    for i, score in enumerate(scores):
        rows = slice(i * d, (i + 1) * d)
        heads.append(Head(W_q[rows], W_k[rows], W_v[rows], score))
    return heads


def multi_head(h: Array, states: Array, heads: Sequence[Head], W_o: Array, alignment: Normalise = softmax) -> Heads:
    """MultiHead = W_o [c_1; ...; c_n], c_i = sum_j alpha_ij W_v^i h_j; Vaswani et al. 2017, section 3.2.2.

    alpha_i = alignment(score_i(W_q^i h, W_k^i h_j for all j)), W_o [M, n*d]. Differs: the paper's score is the scaled
    dot product and its alignment the softmax, here each head has its own score and the alignment is free.
    """
    contexts, each = [], []
    for head in heads:
        q = head.W_q @ h
        K = np.array([head.W_k @ h_j for h_j in states])
        V = np.array([head.W_v @ h_j for h_j in states])
        each.append(alignment(head.score(q, K)))
        contexts.append(weighted_mean(each[-1], V))
    mean = sum(each) / len(each)
    return Heads(np.asarray(mean), W_o @ np.concatenate(contexts), np.array(each))


def sentence_numbers(tokens: Sequence[int], separator: int) -> list[int]:
    """Sentence of each token, EOS last: the number of separators before it, so that a separator ends its sentence.

    EOS is in the sentence of the token before it, also where that is a separator; alone it is in sentence 0.
    """
    numbers, ended = [], 0
    for token in tokens[:-1]:
        numbers.append(ended)
        if token == separator:
            ended += 1
    return [*numbers, numbers[-1] if numbers else 0]


def sentence_means(states: Array, numbers: Sequence[int]) -> Array:
    """m_s = mean of h_j over the positions j of sentence s; [N, M] for the N sentences."""
    means = []
    for s in range(max(numbers) + 1):
        own = [state for state, number in zip(states, numbers, strict=True) if number == s]
        means.append(sum(own) / len(own))
    return np.array(means)


def sentence_states(states: Array, numbers: Sequence[int], forward: Cell, backward: Cell) -> Array:
    """g_s = [forward GRU; backward GRU] over m_1 ... m_N from zero states, M/2 a direction; [N, M].

    Yang et al. 2016, section 2.2, the sentence encoder. Differs: their sentence vectors are attended sums of their own
    words, here they are plain means; the GRU is torch's.
    """
    return encode(sentence_means(states, numbers), [forward], [backward]).states


class Hierarchical(NamedTuple):
    """Weights alpha [R], context [M], sentence weights beta [N] and word weights gamma [R] (sum 1 a sentence)."""

    weights: Array
    context: Array
    sentences: Array
    words: Array


def hierarchical(
    h: Array,
    states: Array,
    numbers: Sequence[int],
    *,
    word_score: PairScore,
    sentence_score: PairScore,
    forward: Cell,
    backward: Cell,
) -> Hierarchical:
    """alpha_j = beta_{s(j)} gamma_j, c = sum_j alpha_j h_j; after Nallapati et al. 2016, section 2.4.

    beta = softmax over sentences of `sentence_score`(h, g); gamma = softmax of `word_score`(h, states) over the
    positions of each sentence. Differs: the paper's word attention runs over the whole document and its product is
    renormalised.
    """
    beta = softmax(sentence_score(h, sentence_states(states, numbers, forward, backward)))
    scores = word_score(h, states)
    gamma = np.zeros(len(states))
    for s in range(len(beta)):
        gamma += softmax_over(scores, [j for j, number in enumerate(numbers) if number == s])
    alpha = np.array([beta[s] * gamma[j] for j, s in enumerate(numbers)])
    return Hierarchical(alpha, weighted_mean(alpha, states), beta, gamma)


def _possible(scores: Array, real: int | None) -> list[int]:
    return [s for s in range(len(scores) if real is None else real) if scores[s] > -math.inf]


def sparsemax(scores: Array, real: int | None = None) -> Array:
    """argmin over the simplex of |p - z|^2, z the first `real` scores; Martins and Astudillo 2016, section 2.

    By trial of every support: on support T the nearest point with sum 1 is z - (sum_T z - 1) / |T|; of those that have
    no negative entry the nearest is the answer. Takes 2^R trials. Scores of -inf get 0; all weights are 0 where no
    score is finite.
    """
    possible = _possible(scores, real)
    weights, nearest = np.zeros(len(scores)), math.inf
    if not possible:
        return weights
    highest = max(scores[s] for s in possible)
    z = {s: scores[s] - highest for s in possible}
    for size in range(1, len(possible) + 1):
        for support in combinations(possible, size):
            tau = (sum(z[s] for s in support) - 1) / size
            p = {s: z[s] - tau if s in support else 0.0 for s in possible}
            distance = sum((p[s] - z[s]) ** 2 for s in possible)
            if min(p.values()) >= 0 and distance < nearest:
                nearest = distance
                weights = np.array([p.get(s, 0.0) for s in range(len(scores))])
    return weights


def entmax15(scores: Array, real: int | None = None) -> Array:
    """argmax over the simplex of p.z + H_1.5(p), z the first `real` scores; Peters et al. 2019, section 3, alpha = 1.5.

    p_j = max(0, z_j / 2 - tau)^2 with the tau of sum 1, by bisection: with max z = 0, the sum is at least 1 at tau = -1
    and 0 at tau = 0. Scores of -inf get 0; all weights are 0 where no score is finite.
    """
    possible = _possible(scores, real)
    weights = np.zeros(len(scores))
    if not possible:
        return weights
    highest = max(scores[s] for s in possible)

    def at(tau: float) -> dict[int, float]:
        return {s: max(0.0, (scores[s] - highest) / 2 - tau) ** 2 for s in possible}

    low, high = -1.0, 0.0
    for _ in range(100):
        middle = (low + high) / 2
        if sum(at(middle).values()) >= 1:
            low = middle
        else:
            high = middle
    for s, p in at(low).items():
        weights[s] = p
    return weights


def selection(scores: Array, r: float, noise: Array | float = 0.0) -> Array:
    """p_j = sigmoid(e_j + r + noise_j); Raffel et al. 2017, eq. 12, with the offset r of their energy function.

    `noise`, which makes p approach 0 or 1, is drawn from N(0, sigma^2) in training and 0 at test time.
    """
    return np.array([sigmoid(x) for x in scores + r + noise])


def monotonic_step(p: Array, previous: Array) -> Array:
    """alpha_tj = p_tj q_tj, q_tj = (1 - p_{t,j-1}) q_{t,j-1} + alpha_{t-1,j}; Raffel et al. 2017, eq. 13 and 14.

    `previous` is alpha_{t-1} [R]. q and p before the first position are 0.
    """
    alpha = np.zeros(len(p))
    q, p_before = 0.0, 0.0
    for j in range(len(p)):
        q = (1 - p_before) * q + previous[j]
        alpha[j] = p[j] * q
        p_before = p[j]
    return alpha


def monotonic_expectation(P: Array) -> Array:
    """Weights of training [T, R] from P [T, R]: `monotonic_step` from alpha_{-1} = 1 at position 0."""
    alpha = np.array([1.0] + [0.0] * (P.shape[1] - 1))
    rows = []
    for p in P:
        alpha = monotonic_step(p, alpha)
        rows.append(alpha)
    return np.array(rows)


def monotonic_hard(P: Array) -> Array:
    """Weights of test time [T, R]: 1 at the first j >= k with p_tj >= 1/2, k the position of the step before (0 first).

    A step without such a j has weights 0, and so have all after it; Raffel et al. 2017, section 2.2 and algorithm 1.
    Differs: a p of exactly 1/2 selects; the paper asks for p above the threshold.
    """
    T, R = P.shape
    weights = np.zeros((T, R))
    k = 0
    for t in range(T):
        while k < R and P[t, k] < 0.5:
            k += 1
        if k == R:
            break
        weights[t, k] = 1.0
    return weights


def additive_coverage(
    s: Array, states: Array, C: Array, *, W_a: Array, U_a: Array, v_a: Array, w: Array, b_a: Array | None = None
) -> Array:
    """e_j = v_a^T tanh(W_a s + U_a h_j + w C_j + b_a), w [A], C [R]; See et al. 2017, eq. 11.

    Differs: in Tu et al. 2016 coverage may be a vector of several numbers a position, updated by a GRU or weighted by
    fertility; here it is the plain sum.
    """
    bias = np.zeros(len(v_a)) if b_a is None else b_a
    return np.array(
        [additive(s, h_j[None], W_a, U_a, v_a, bias + w * C_j)[0] for h_j, C_j in zip(states, C, strict=True)]
    )


def bilinear_coverage(h: Array, scores: Array, C: Array, w: Array) -> Array:
    """e_j = score(h, h_j) + (h.w) C_j, w [H], C [R]; for score = h^T k_j this is h^T (k_j + w C_j).

    Differs: Tu et al. 2016 and See et al. 2017 have coverage in the additive score alone.
    """
    return np.array([score + (h @ w) * C_j for score, C_j in zip(scores, C, strict=True)])


def covered_attention(score: CoveredScore, alignment: Normalise, states: Array) -> Attend:
    """attend(h, t) that adds up C_tj = sum over tau < t of alpha_tau,j; See et al. 2017, eq. 10.

    score(h, C) -> scores [R] sees the coverage C [R] of the steps before. Steps must be taken in order, each once, from
    t = 0; any other order is an error.
    """
    history: list[Array] = []

    def attend(h: Array, t: int) -> tuple[Array, Array]:
        if t != len(history):
            raise ValueError(f"step {t} after {len(history)} steps; coverage needs the steps in order")
        C = np.zeros(len(states))
        for weights in history:
            C = C + weights
        history.append(alignment(score(h, C)))
        return history[-1], weighted_mean(history[-1], states)

    return attend


def coverage_loss(weights: Array, strength: float) -> float:
    """strength * sum_t sum_j min(alpha_tj, C_tj), weights [T, R] of the real target tokens; See et al. 2017, eq. 12."""
    total = 0.0
    for t in range(len(weights)):
        for j in range(weights.shape[1]):
            total += min(weights[t, j], sum(weights[tau, j] for tau in range(t)))
    return strength * total


def sinusoid(position: int, D: int) -> Array:
    """PE(pos, 2i) = sin(pos / 10000^(2i/D)), PE(pos, 2i+1) = cos(the same); Vaswani et al. 2017, section 3.5. [D]."""
    entries = []
    for entry in range(D):
        angle = position / 10000 ** (2 * (entry // 2) / D)
        entries.append(math.sin(angle) if entry % 2 == 0 else math.cos(angle))
    return np.array(entries)


def self_attention(states: Array, heads: Sequence[Head], W_o: Array) -> Array:
    """Each row of states [R, D] asks all rows, itself among them; Vaswani et al. 2017, section 3.2.2. W_o [D, n*d]."""
    return np.array([multi_head(x, states, heads, W_o).context for x in states])


class EncoderLayer(NamedTuple):
    """One layer: heads with W_o [D, n*d] after norm_1; W_1 [F, D], b_1 [F], W_2 [D, F], b_2 [D] after norm_2."""

    heads: Sequence[Head]
    W_o: Array
    norm_1: Norm
    W_1: Array
    b_1: Array
    W_2: Array
    b_2: Array
    norm_2: Norm


def encoder_layer(x: Array, layer: EncoderLayer) -> Array:
    """x = x + MHA(LN(x)), then x = x + W_2 max(0, W_1 LN(x) + b_1) + b_2; Vaswani et al. 2017, sections 3.1 and 3.3.

    Differs: the norm comes before each part, in the paper LN(x + part(x)) after it.
    """
    normed = np.array([layer_norm(x_j, layer.norm_1, EPSILON) for x_j in x])
    x = x + self_attention(normed, layer.heads, layer.W_o)
    rows = []
    for x_j in x:
        inner = np.maximum(0.0, layer.W_1 @ layer_norm(x_j, layer.norm_2, EPSILON) + layer.b_1)
        rows.append(x_j + layer.W_2 @ inner + layer.b_2)
    return np.array(rows)


def self_attention_encoder(embedded: Array, W_in: Array, layers: Sequence[EncoderLayer], final: Norm) -> Array:
    """States [R, D] of embedded [R, E]: W_in e_j + PE(j), the layers, a last norm; Vaswani et al. 2017, section 3.

    W_in [D, E]. Differs: the paper has no W_in, multiplies the embeddings by sqrt(D) and has no norm at the end.
    """
    x = np.array([W_in @ e_j + sinusoid(j, len(W_in)) for j, e_j in enumerate(embedded)])
    for layer in layers:
        x = encoder_layer(x, layer)
    return np.array([layer_norm(x_j, final, EPSILON) for x_j in x])


def mean_state(states: Array) -> Array:
    """Mean over all positions, EOS among them: the sentence summary of an encoder that has no last state. [M]."""
    return weighted_mean(uniform(len(states)), states)


def attended_states(states: Array, heads: Sequence[Head], W_o: Array) -> Array:
    """h_j + MHA(h)_j over an encoder's states [R, M]: one residual layer of self-attention without a norm."""
    return states + self_attention(states, heads, W_o)


def causal_self_attention(tops: Array, heads: Sequence[Head], W_o: Array) -> Array:
    """top'_t = h_t + MHA of h_t over h_0 ... h_t, tops [T, H]; after Cheng et al. 2016, section 3.1. W_o [H, n*d].

    Differs: their attended memory takes the place of h and c in the recurrence and has an additive score without the
    present; here the recurrence keeps h_t and the score is the scaled dot product of Vaswani et al. 2017.
    """
    return np.array([h + multi_head(h, tops[: t + 1], heads, W_o).context for t, h in enumerate(tops)])


class Convolution(NamedTuple):
    """W [D, D, k] in torch's order (out, in, offset), k odd, and b [D]."""

    W: Array
    b: Array


class Stack(NamedTuple):
    """W_in [D, E], from the embeddings to the size of the layers, and the layers."""

    W_in: Array
    layers: Sequence[Convolution]


def convolve(x: Array, layer: Convolution) -> Array:
    """y_j = b + sum over o of W_o x_{j+o}, o = -(k-1)/2 ... (k-1)/2, x zero outside the sentence. x [R, D]."""
    k = layer.W.shape[2]
    rows = []
    for j in range(len(x)):
        y = layer.b
        for tap in range(k):
            source = j + tap - k // 2
            if 0 <= source < len(x):
                y = y + layer.W[:, :, tap] @ x[source]
        rows.append(y)
    return np.array(rows)


def convolutions(e: Array, stack: Stack) -> Array:
    """x = W_in e, then x = tanh(conv(x) + x) layer by layer; Gehring et al. 2017, section 3.2. [R, D]."""
    x = np.array([stack.W_in @ e_j for e_j in e])
    for layer in stack.layers:
        x = np.tanh(convolve(x, layer) + x)
    return x


def cnn_encoder(embedded: Array, positions: Array, keys: Stack, values: Stack) -> tuple[Array, Array]:
    """Keys CNN-a(e) and values CNN-c(e), e_j = w_j + l_j; Gehring et al. 2017, sections 3.1 and 3.2.

    embedded [R, E], positions [L, E] learned, the last one for every j >= L. The decoder starts from the `mean_state`
    of the values. Differs: in the paper CNN-c has a linear map after its layers too.
    """
    e = np.array([w_j + positions[min(j, len(positions) - 1)] for j, w_j in enumerate(embedded)])
    return convolutions(e, keys), convolutions(e, values)
