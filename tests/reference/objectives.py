"""What is trained where the plain cross entropy is not enough: hard choices, copying, coverage, guided alignments.

One sentence: weights [T, R], one row of alpha_t a target step, EOS the last of the R source rows; targets T ids with
EOS. Weights may come from any alignment; a row may hold zeros and need not sum to 1. Sums are over target tokens, as in
`loss`.

Deng et al. 2018 is arXiv:1807.03756, Xu et al. 2015 arXiv:1502.03044, Jang et al. 2017 arXiv:1611.01144, See et al.
2017 arXiv:1704.04368, Vinyals et al. 2015 arXiv:1506.03134, Chen et al. 2016 arXiv:1607.01628.
"""

# Capital letters are the papers' returns, distributions and lengths.
# ruff: noqa: N803, N806

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from reference.attention import Array, sigmoid, softmax
from reference.links import Link
from reference.loss import Loss, log_softmax


def log(p: float) -> float:
    """Natural logarithm with log 0 = -inf."""
    return math.log(p) if p > 0 else -math.inf


def argmax(weights: Array) -> int:
    """Position of the largest weight, the first of equal ones."""
    best = 0
    for j in range(len(weights)):
        if weights[j] > weights[best]:
            best = j
    return best


def one_hot(position: int, rows: int) -> Array:
    """1 at `position`, 0 elsewhere, [R]."""
    return np.array([1.0 if j == position else 0.0 for j in range(rows)])


# Exact marginal over the hard choice


def largest(weights: Array, k: int | None = None) -> list[int]:
    """The k positions with the largest weights, ascending (all by default or where R < k); of equal ones the first."""
    ranked = sorted(range(len(weights)), key=lambda j: (-weights[j], j))
    return sorted(ranked[:k])


def marginal_probability(alpha: Array, logits: Array, y: int, k: int | None = None) -> float:
    """p(y_t) = sum_j alpha_tj softmax(logits_j)_y, alpha [R], logits [R, V] one row a choice.

    Exact hard attention of Deng et al. 2018. With `k` only the k largest alpha_tj, not renormalised: a lower bound.
    """
    return sum(alpha[j] * math.exp(log_softmax(logits[j])[y]) for j in largest(alpha, k))


def marginal_loss(
    weights: Array, logits: Array, targets: Sequence[int], epsilon: float = 0.0, k: int | None = None
) -> Loss:
    """Sum over t of (1 - eps) (-log p(y_t)) + eps sum_j alpha_tj (-mean_v log softmax(logits_tj)_v).

    weights [T, R], logits [T, R, V], p of `marginal_probability`. With `k` both sums over j have the same k positions.
    """
    loss = nll = 0.0
    for alpha, choices, y in zip(weights, logits, targets, strict=True):
        log_p = log(marginal_probability(alpha, choices, y, k))
        spread = 0.0
        for j in largest(alpha, k):
            spread += alpha[j] * -sum(log_softmax(choices[j])) / len(choices[j])
        nll -= log_p
        loss += (1 - epsilon) * -log_p + epsilon * spread
    return Loss(loss, nll, len(targets))


def marginal_test(alpha: Array, logits: Array) -> tuple[list[float], Array]:
    """log softmax(logits_j*) [V] and the reported weights, one-hot at j* = argmax_j alpha_tj, for one step."""
    best = argmax(alpha)
    return log_softmax(logits[best]), one_hot(best, len(alpha))


# One sampled choice a step


class Reinforce(NamedTuple):
    """The three parts of the added loss, factors and signs included; their sum is added to the cross entropy.

    `policy` is differentiated in the scores alone, `entropy` in the scores alone, `baseline` in b_t alone.
    """

    policy: float
    entropy: float
    baseline: float

    @property
    def loss(self) -> float:
        """The sum of the parts."""
        return self.policy + self.entropy + self.baseline


def returns(log_p: Sequence[float], gamma: float, mask: Sequence[bool] | None = None) -> list[float]:
    """R_t = sum_{k >= 0} gamma^k log p(y_{t+k}), over real tokens (`mask`, all by default); [T]."""
    T = len(log_p)
    mask = [True] * T if mask is None else mask
    return [sum(gamma ** (later - t) * log_p[later] for later in range(t, T) if mask[later]) for t in range(T)]


def entropy(alpha: Array) -> float:
    """H(alpha) = -sum_j alpha_j log alpha_j, 0 log 0 = 0."""
    return -sum(a * math.log(a) for a in alpha if a > 0)


def baseline(q: Array, u: Array, b_0: float) -> float:
    """b_t = u^T q_t + b_0, q_t [H] taken as a constant."""
    return float(u @ q + b_0)


def reinforce(
    weights: Array,
    choices: Sequence[int],
    log_p: Sequence[float],
    baselines: Sequence[float],
    *,
    gamma: float,
    lambda_r: float,
    lambda_e: float,
    mask: Sequence[bool] | None = None,
) -> Reinforce:
    """-lambda_r sg(R_t - b_t) log alpha_t(z_t) - lambda_e H(alpha_t) + 1/2 (sg(R_t) - b_t)^2, summed over real tokens.

    weights [T, R], choices z [T], log_p [T] = log p(y_t | h_{z_t}), baselines [T]; Xu et al. 2015, section 4.1
    (the last learning rule). A sentence that got the soft alpha_t is left out of the sum over sentences.
    Differs: each choice is credited with what follows it, and the baseline is learned, not a moving average.
    """
    parts = [0.0, 0.0, 0.0]
    R = returns(log_p, gamma, mask)
    for t, (alpha, z, b) in enumerate(zip(weights, choices, baselines, strict=True)):
        if mask is not None and not mask[t]:
            continue
        parts[0] -= lambda_r * (R[t] - b) * math.log(alpha[z])
        parts[1] -= lambda_e * entropy(alpha)
        parts[2] += (R[t] - b) ** 2 / 2
    return Reinforce(*parts)


def log_policy_gradient(alpha: Array, z: int) -> Array:
    """d log alpha(z) / d e_i = [i = z] - alpha_i for alpha = softmax(e); [R]."""
    return np.array([(1.0 if i == z else 0.0) - a for i, a in enumerate(alpha)])


def entropy_gradient(alpha: Array) -> Array:
    """d H(alpha) / d e_i = -alpha_i (log alpha_i + H(alpha)) for alpha = softmax(e), 0 where alpha_i = 0; [R]."""
    H = entropy(alpha)
    return np.array([-a * (math.log(a) + H) if a > 0 else 0.0 for a in alpha])


def reinforce_gradient(
    weights: Array,
    choices: Sequence[int],
    log_p: Sequence[float],
    baselines: Sequence[float],
    *,
    gamma: float,
    lambda_r: float,
    lambda_e: float,
    mask: Sequence[bool] | None = None,
) -> Array:
    """Gradient [T, R] of `reinforce` in the scores e_t of alpha_t = softmax(e_t), R_t and b_t constant.

    -lambda_r (R_t - b_t) grad log alpha_t(z_t) - lambda_e grad H(alpha_t); 0 on tokens that are not real and at source
    positions of weight 0 (masked ones).
    """
    gradient = np.zeros(np.shape(weights))
    R = returns(log_p, gamma, mask)
    for t, (alpha, z, b) in enumerate(zip(weights, choices, baselines, strict=True)):
        if mask is not None and not mask[t]:
            continue
        gradient[t] -= lambda_r * (R[t] - b) * log_policy_gradient(alpha, z)
        gradient[t] -= lambda_e * entropy_gradient(alpha)
    return gradient


def baseline_gradient(
    log_p: Sequence[float],
    queries: Array,
    baselines: Sequence[float],
    gamma: float,
    mask: Sequence[bool] | None = None,
) -> tuple[Array, float]:
    """Gradient of sum_t 1/2 (R_t - b_t)^2 in u [H] and b_0: sum_t (b_t - R_t) q_t and sum_t (b_t - R_t)."""
    in_u, in_b_0 = np.zeros(np.shape(queries)[1]), 0.0
    for t, (q, b, R) in enumerate(zip(queries, baselines, returns(log_p, gamma, mask), strict=True)):
        if mask is None or mask[t]:
            in_u += (b - R) * q
            in_b_0 += b - R
    return in_u, in_b_0


# A relaxed sample


def gumbel_softmax(alpha: Array, noise: Array, tau: float) -> Array:
    """y_j = exp((log alpha_j + g_j) / tau) / sum_i exp((log alpha_i + g_i) / tau); Jang et al. 2017, eq. 2.

    `noise` [R] are the g_j, drawn from Gumbel(0, 1). 0 where alpha_j = 0.
    """
    return softmax(np.array([(log(a) + g) / tau for a, g in zip(alpha, noise, strict=True)]))


def straight_through(y: Array) -> Array:
    """Forward value one-hot(argmax_j y_j) of the straight-through estimator; Jang et al. 2017, section 2.2."""
    return one_hot(argmax(y), len(y))


def gumbel_softmax_gradient(y: Array, upstream: Array, tau: float) -> Array:
    """Gradient [R] in log alpha: (1/tau) y_i (u_i - sum_j y_j u_j), u = `upstream`, dL / dy or dL / d one-hot.

    Also the gradient in the scores e of alpha = softmax(e): y does not change when a constant is added to all of them.
    """
    mean = sum(y_j * u_j for y_j, u_j in zip(y, upstream, strict=True))
    return np.array([y_i * (u_i - mean) / tau for y_i, u_i in zip(y, upstream, strict=True)])


def temperature(step: int, start: float, rate: float, minimum: float) -> float:
    """tau(step) = max(tau_min, tau_0 exp(-rate step)); Jang et al. 2017, section 4 (tau_0 = 1, tau_min = 0.5)."""
    return max(minimum, start * math.exp(-rate * step))


# Copying


def copy_ids(pieces: Sequence[str], vocabulary: Mapping[str, int], size: int, eos: int) -> list[int]:
    """Id that each of the R = S + 1 source rows copies; `pieces` are the S pieces without EOS.

    The target id of the same piece where the target vocabulary (`vocabulary`, of `size` = V ids) has it, else V plus
    the first position of that piece in this sentence; EOS copies the target's EOS. The extended vocabulary of See et
    al. 2017, section 2.2.
    """
    ids = []
    for piece in pieces:
        if piece in vocabulary:
            ids.append(vocabulary[piece])
        else:
            ids.append(size + list(pieces).index(piece))
    return [*ids, eos]


def generation_gate(c: Array, s: Array, x: Array, *, w_c: Array, w_s: Array, w_x: Array, b: float) -> float:
    """g_t = sigmoid(w_c . c_t + w_s . s_t + w_x . x_t + b); See et al. 2017, eq. 8 (p_gen)."""
    return float(sigmoid(w_c @ c + w_s @ s + w_x @ x + b))


def pointer(alpha: Array, copies: Sequence[int], V: int) -> Array:
    """P(y) = sum over j with copy_j = y of alpha_tj, over V + R ids; Vinyals et al. 2015, section 2.3.

    Differs: positions with the same copied id are added up, as in See et al. 2017; the paper points at positions.
    """
    P = np.zeros(V + len(alpha))
    for a, copied in zip(alpha, copies, strict=True):
        P[copied] += a
    return P


def pointer_generator(logits: Array, gate: float, alpha: Array, copies: Sequence[int]) -> Array:
    """P(y) = g_t softmax(logits)_y + (1 - g_t) sum over j with copy_j = y of alpha_tj; See et al. 2017, eq. 9.

    logits [V], alpha [R]; over V + R ids, the first term 0 from V on.
    """
    V = len(logits)
    P = (1 - gate) * pointer(alpha, copies, V)
    for v, log_p in enumerate(log_softmax(logits)):
        P[v] += gate * math.exp(log_p)
    return P


def pointer_loss(weights: Array, copies: Sequence[int], targets: Sequence[int], V: int) -> Loss:
    """Sum over t of -log P(y_t), P of `pointer`; inf for a target that no weighted position copies.

    Not smoothed: there are no logits whose distribution could be evened out.
    """
    nll = 0.0
    for alpha, y in zip(weights, targets, strict=True):
        nll -= log(pointer(alpha, copies, V)[y])
    return Loss(nll, nll, len(targets))


def pointer_generator_loss(
    logits: Array,
    gates: Sequence[float],
    weights: Array,
    copies: Sequence[int],
    targets: Sequence[int],
    epsilon: float = 0.0,
) -> Loss:
    """Sum over t of (1 - eps) (-log P(y_t)) + eps (-mean_v log softmax(logits_t)_v), v over the V generated ids.

    logits [T, V], gates [T], weights [T, R], P of `pointer_generator`, targets out of V + R ids; See et al. 2017, eq.
    6.
    """
    loss = nll = 0.0
    for step, gate, alpha, y in zip(logits, gates, weights, targets, strict=True):
        log_p = log(pointer_generator(step, gate, alpha, copies)[y])
        nll -= log_p
        loss += (1 - epsilon) * -log_p + epsilon * -sum(log_softmax(step)) / len(step)
    return Loss(loss, nll, len(targets))


# Losses on the weights


def coverage(weights: Array) -> Array:
    """C_tj = sum over tau < t of alpha_tau,j; See et al. 2017, eq. 10. weights [T, R] -> [T, R], the first row 0."""
    C = np.zeros(np.shape(weights))
    for t in range(len(weights)):
        for earlier in range(t):
            C[t] += weights[earlier]
    return C


def coverage_loss(weights: Array, strength: float) -> float:
    """Lambda sum_t sum_j min(alpha_tj, C_tj); See et al. 2017, eq. 12 and 13 (there the mean over t)."""
    total = 0.0
    for alpha, c in zip(weights, coverage(weights), strict=True):
        total += sum(min(a, c_j) for a, c_j in zip(alpha, c, strict=True))
    return strength * total


def piece_links(links: Iterable[Link], source_words: Sequence[int], target_words: Sequence[int]) -> set[Link]:
    """Word links (source, target) -> piece links: every piece of the one word with every piece of the other.

    `source_words` and `target_words` hold the word that each piece belongs to, one number a piece.
    """
    found = set()
    for source_word, target_word in links:
        for j, word in enumerate(source_words):
            for t, other in enumerate(target_words):
                if (word, other) == (source_word, target_word):
                    found.add((j, t))
    return found


def guided_alignment_loss(weights: Array, links: Iterable[Link], strength: float) -> float:
    """Lambda sum_t -sum_j A_tj log alpha_tj over the target tokens with links; Chen et al. 2016.

    `links` are (source row j, target token t), A_tj = 1/n_t on the n_t rows linked to t. inf where a linked row has
    weight 0.
    """
    linked = set(links)
    total = 0.0
    for t, alpha in enumerate(weights):
        rows = [j for j in range(len(alpha)) if (j, t) in linked]
        total += sum(-log(alpha[j]) / len(rows) for j in rows)
    return strength * total
