"""Beam search: the best of all continuations of all hypotheses of a sentence."""

from torch import Tensor

from nmt.search.choice import Choice, top_candidates


def choose_beam(log_probs: Tensor, scores: Tensor, *, beam: int) -> Choice:
    """Take the ``beam`` best continuations of a sentence by log-probability.

    Those that end with EOS use up a place of this step only: the next step fills the beam again from those that live.

    Args:
        log_probs: [B, K, V].
        scores: [B, K].
        beam: hypotheses wanted; fewer come back where there are fewer than that.
    """
    best, indices = top_candidates(log_probs, scores, beam)
    size = log_probs.size(-1)
    return Choice(best, indices % size, indices // size)
