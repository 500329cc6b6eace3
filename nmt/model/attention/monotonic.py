"""Monotonic attention: the reader only moves forward."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmt.errors import ConfigError
from nmt.model.attention.base import Aligned, Alignment, AttentionState, Memory


@final
class Monotonic(Alignment):
    """Read on from the last position, stopping at j with p_tj = sigmoid(e_tj + r) (Raffel et al. 2017).

    In training the weights are the probabilities of having stopped at j (arXiv:1704.00784v2, eqs. 11-14), alpha_{-1}
    being 1 at the first position::

        q_tj = (1 - p_{t,j-1}) q_{t,j-1} + alpha_{t-1,j},    alpha_tj = p_tj q_tj

    and normal noise is added before the sigmoid (section 2.5), so that p learns to be near 0 or 1. Otherwise (section
    2.2, algorithm 1) the first j from the last position on with p_tj >= 1/2 has weight 1; where there is none, this
    step and all after it read nothing. Weights may sum to less than 1 in both. Differs: the score is the one
    configured, without the paper's normalised v and its gain (eq. 16); r is not one of the score's parameters but this
    module's. In evaluation mode, loss and perplexity are those of the hard choice.

    Args:
        noise: standard deviation of the noise in training.
        offset: r at the start; negative, so that an untrained reader moves on.
    """

    recurrent = True
    state_parts = 1

    def __init__(self, noise: float = 1.0, offset: float = -1.0) -> None:
        super().__init__()
        if not 0 <= noise < math.inf:
            raise ConfigError(f"attention.alignment.noise={noise} is not accepted; it must be at least 0")
        if not math.isfinite(offset):
            raise ConfigError(f"attention.alignment.offset={offset} is not accepted; it must be a finite number")
        self.noise = noise
        self.offset = nn.Parameter(torch.tensor(offset))

    def start(self, mask: Tensor, like: Tensor) -> AttentionState:
        """Return the weights before the first step: all on the first position, [B, 1, S]."""
        first = like.new_zeros(len(mask), 1, mask.shape[1])
        first[..., 0] = 1.0
        return (first,)

    def align(
        self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int, state: AttentionState
    ) -> Aligned:
        """Return the weights, which are the state after them."""
        shifted = scores + self.offset
        if self.training and self.noise > 0:
            shifted = shifted + self.noise * torch.randn_like(shifted)
        # a position that may not be read is passed: p = 0
        shifted = torch.where(memory.mask.unsqueeze(1), shifted, -math.inf)
        weights = _expected(shifted, state[0]) if self.training else _first_stop(shifted, state[0])
        return Aligned(weights, (weights,))

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return the weights of a first step, [B, Q, S]."""
        return self.align(scores, query, memory, positions, self.start(memory.mask, scores)).weights


def _expected(shifted: Tensor, before: Tensor) -> Tensor:
    """Return p_j q_j with q_j = (1 - p_{j-1}) q_{j-1} + before_j and p = sigmoid(``shifted``), [B, Q, S].

    By doubling: after n rounds ``reached`` has come from the last 2^n positions and ``passing`` is the product of
    1 - p over as many, so that log2 S rounds make all q. Unlike the paper's closed form (appendix C.1) it divides by
    nothing, and its products, of factors up to 1, can only vanish where they should.
    """
    passing = _moved(torch.sigmoid(-shifted), 1)
    reached = before.expand_as(shifted)
    span = 1
    while span < shifted.shape[-1]:
        reached = reached + passing * _moved(reached, span)
        passing = passing * _moved(passing, span)
        span *= 2
    return torch.sigmoid(shifted) * reached


def _moved(values: Tensor, span: int) -> Tensor:
    """Move values by ``span`` positions to the right, zeros coming in, what leaves being lost."""
    return functional.pad(values, (span, -span))


def _first_stop(shifted: Tensor, before: Tensor) -> Tensor:
    """Return 1 at the first position with ``shifted`` >= 0 from the one of ``before`` on, if any; [B, Q, S]."""
    stops = (before.cumsum(-1) > 0) & (shifted >= 0)
    return (stops & (stops.cumsum(-1) == 1)).to(before.dtype)
