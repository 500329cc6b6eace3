"""How finished hypotheses are ranked: Wu et al. 2016 (GNMT), arXiv:1609.08144v2, eq. 14."""

import math

from reference.attention import Array


def length_penalty(length: int, alpha: float) -> float:
    """lp(Y) = (5 + |Y|)^alpha / (5 + 1)^alpha; eq. 14. 1 for alpha = 0."""
    return (5 + length) ** alpha / (5 + 1) ** alpha


def coverage_penalty(weights: Array, beta: float, real: int) -> float:
    """cp(X; Y) = beta sum_i log(min(sum_j p_ij, 1)), i over the first `real` source positions; eq. 14.

    `weights` [T, R], one row a target step. -inf where a real position was never attended; 0 for beta = 0.
    """
    if beta == 0:
        return 0.0
    total = 0.0
    for position in range(real):
        attended = min(sum(row[position] for row in weights), 1.0)
        total += math.log(attended) if attended > 0 else -math.inf
    return beta * total


def ranking_score(log_prob: float, length: int, alpha: float, coverage: float = 0.0) -> float:
    """s(Y, X) = log P(Y | X) / lp(Y) + cp(X; Y); eq. 14. `coverage` is `coverage_penalty(...)`."""
    return log_prob / length_penalty(length, alpha) + coverage
