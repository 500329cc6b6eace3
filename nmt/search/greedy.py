"""Greedy search: the most probable piece, one hypothesis a sentence."""

from torch import Tensor

from nmt.search.choice import Choice, top_candidates


def choose_greedy(log_probs: Tensor, scores: Tensor) -> Choice:
    """Take the most probable piece.

    Args:
        log_probs: [B, 1, V].
        scores: [B, 1].
    """
    best, tokens = top_candidates(log_probs, scores, 1)
    return Choice(best, tokens, None)
