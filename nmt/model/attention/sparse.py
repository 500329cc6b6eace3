"""Alignments whose weights can be exactly zero on real positions."""

from typing import final

import torch
from entmax import entmax15, sparsemax
from torch import Tensor

from nmt.model.attention.base import Alignment, Memory

# below the row's maximum by this much, both functions give exactly 0: their supports end at 1 and at 2 below it
_FAR = 10.0


def _prepared(scores: Tensor, allowed: Tensor) -> Tensor:
    """Return scores minus the row's maximum, never below -10; exactly -10 where not ``allowed``, 0 if nothing is.

    Neither function changes when a row is shifted, nor when a score too low for a weight is raised to another that is
    too low; so the sums over sorted scores inside them stay small and exact, whatever the scores are.
    """
    lowest = torch.finfo(scores.dtype).min
    scores = torch.where(allowed, scores, lowest)
    return (scores - scores.detach().amax(-1, keepdim=True)).clamp_min(-_FAR)


def _allowed(scores: Tensor, memory: Memory) -> Tensor:
    """Return where a position may be read, [B, Q, S]: it is real and its score is not minus infinity."""
    return memory.mask.unsqueeze(1) & (scores > torch.finfo(scores.dtype).min)


@final
class Sparsemax(Alignment):
    """weights = the point of the simplex nearest to the scores (Martins and Astudillo 2016, arXiv:1602.02068v2, eq. 2).

    alpha_j = max(0, e_j - tau), tau such that they sum to 1: positions more than 1 below the best have weight 0.
    """

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S]."""
        allowed = _allowed(scores, memory)
        return sparsemax(_prepared(scores, allowed), dim=-1) * allowed


@final
class Entmax15(Alignment):
    """weights = 1.5-entmax of the scores, between softmax and sparsemax (Peters et al. 2019, arXiv:1905.05702v2).

    alpha_j = max(0, e_j / 2 - tau)^2, tau such that they sum to 1: positions more than 2 below the best have weight 0.
    """

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S]."""
        allowed = _allowed(scores, memory)
        return entmax15(_prepared(scores, allowed), dim=-1) * allowed
