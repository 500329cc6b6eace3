"""Cross entropy with label smoothing, summed over real tokens."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from reference.attention import Array


class Loss(NamedTuple):
    """Sums over real tokens: the smoothed loss that is trained, the plain -log p(y_t), and the number of tokens."""

    loss: float
    nll: float
    tokens: int


def log_softmax(logits: Array) -> list[float]:
    """log p_v = logit_v - log sum_u exp(logit_u) for one step, logits [V]."""
    highest = max(logits)
    total = highest + math.log(sum(math.exp(logit - highest) for logit in logits))
    return [logit - total for logit in logits]


def sentence_loss(logits: Array, targets: Sequence[int], epsilon: float = 0.0) -> Loss:
    """Loss of one sentence without padding: logits [T, V], targets T ids with EOS.

    Per token (1 - eps) (-log p_y) + eps mean_v(-log p_v), v over the whole vocabulary; Szegedy et al. 2016,
    arXiv:1512.00567v3, section 7 (u(k) = 1/K), as in Vaswani et al. 2017, arXiv:1706.03762v7, section 5.4.
    """
    loss = nll = 0.0
    for step, target in zip(logits, targets, strict=True):
        log_p = log_softmax(step)
        nll -= log_p[target]
        loss += (1 - epsilon) * -log_p[target] + epsilon * -sum(log_p) / len(log_p)
    return Loss(loss, nll, len(targets))


def batch_loss(sentences: Sequence[tuple[Array, Sequence[int]]], epsilon: float = 0.0) -> Loss:
    """Sums of `sentence_loss` over (logits [T, V], targets) of unpadded sentences."""
    each = [sentence_loss(logits, targets, epsilon) for logits, targets in sentences]
    return Loss(sum(one.loss for one in each), sum(one.nll for one in each), sum(one.tokens for one in each))
