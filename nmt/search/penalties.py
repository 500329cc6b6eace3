"""GNMT's ranking of finished hypotheses: length normalisation and coverage penalty.

Wu et al. 2016, arXiv:1609.08144v2, eq. 14: s(Y, X) = log P(Y|X) / lp(Y) + cp(X; Y).

|Y| counts EOS. The paper writes P(Y|X) as a product of |Y| factors, one a symbol (section 3), and decoding produces
symbols until EOS, whose factor is one of them. So an empty translation has |Y| = 1 and lp = 1. For the same reason the
sums of the coverage penalty include the step that predicts EOS.
"""

import torch
from torch import Tensor

# log 0 would make every hypothesis -inf where a window never reaches a position
COVERAGE_FLOOR = 1e-6


def length_normalisers(alpha: float, longest: int, device: torch.device) -> Tensor:
    """Compute lp(n) = ((5 + n) / 6) ** alpha for n = 0 ... ``longest``, where n counts EOS (Wu et al. 2016, eq. 14).

    Args:
        alpha: the strength; 0 gives ones, below 0 favours short hypotheses.
        longest: the last length.
        device: where the result lives.

    Returns:
        [longest + 1] float32.
    """
    lengths = torch.arange(longest + 1, dtype=torch.float64, device=device)
    return ((5 + lengths) / 6).pow(alpha).float()


def coverage_penalty(coverage: Tensor, source_lengths: Tensor, beta: float) -> Tensor:
    """Compute cp = beta * sum_s log(min(sum_t a[t, s], 1)) over real source positions (Wu et al. 2016, eq. 14).

    Differs: attention sums below 1e-6 count as 1e-6, so that a position no window reaches does not give -inf.

    Args:
        coverage: [B, K, S], each position's sum of attention weights over the steps.
        source_lengths: [B], EOS counted; positions from there on are padding.
        beta: the strength.

    Returns:
        [B, K], at most 0.
    """
    logs = coverage.clamp(COVERAGE_FLOOR, 1.0).log()
    padding = torch.arange(coverage.size(-1), device=coverage.device) >= source_lengths[:, None]
    return beta * logs.masked_fill(padding[:, None], 0.0).sum(-1)
