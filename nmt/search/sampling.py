"""Ancestral sampling with temperature, top-k and top-p; a sentence's samples are drawn independently."""

import torch
from torch import Tensor

from nmt.search.choice import Choice


def choose_sample(
    log_probs: Tensor,
    scores: Tensor,
    *,
    samples: int,
    temperature: float,
    top_k: int,
    top_p: float,
    generator: torch.Generator | None,
) -> Choice:
    """Draw a piece for each sample; scores stay the model's log-probabilities, whatever the temperature.

    Args:
        log_probs: [B, K, V]; K is 1 at the first step and ``samples`` after it.
        scores: [B, K].
        samples: samples a sentence.
        temperature: divides the log-probabilities before they are normalised again.
        top_k: draw among that many most probable pieces; 0: all.
        top_p: draw among the smallest set of most probable pieces with this share of the mass; 1: all.
        generator: source of randomness on the device of ``log_probs``; None: torch's own.
    """
    batch, beams, _ = log_probs.shape
    probabilities, ids = _candidates(log_probs.flatten(0, 1), temperature, top_k, top_p)
    places = _draw(probabilities, samples // beams, generator)
    tokens = (places if ids is None else ids.gather(1, places)).view(batch, samples)
    parents = torch.zeros_like(tokens) if beams < samples else None
    if parents is not None:
        scores, log_probs = scores.expand(-1, samples), log_probs.expand(-1, samples, -1)
    return Choice(scores + log_probs.gather(2, tokens[..., None]).squeeze(2), tokens, parents)


def _candidates(log_probs: Tensor, temperature: float, top_k: int, top_p: float) -> tuple[Tensor, Tensor | None]:
    """Return masses [N, C], 0 for what is not drawn, and their pieces [N, C] (None: in the order of the vocabulary)."""
    if temperature != 1:
        # relative to the maximum, so that a small temperature does not overflow
        log_probs = (log_probs - log_probs.amax(-1, keepdim=True)) / temperature
    probabilities = log_probs.softmax(-1)
    ids = None
    if top_k:
        probabilities, ids = probabilities.topk(min(top_k, probabilities.size(1)))
    elif top_p < 1:
        probabilities, ids = probabilities.sort(descending=True)
    if top_p < 1:
        before = probabilities.cumsum(1) - probabilities
        share = top_p * probabilities.sum(1, keepdim=True)
        probabilities = probabilities.masked_fill(before >= share, 0.0)
    return probabilities, ids


def _draw(masses: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw ``count`` places [N, count] in proportion to ``masses`` [N, C], by inversion of their running sum.

    One number per draw, where torch.multinomial makes one per piece of the vocabulary.
    """
    running = masses.cumsum(1)
    total = running[:, -1:]
    uniform = torch.rand((len(masses), count), generator=generator, device=masses.device)
    # strictly below the total, so that rounding never selects a piece of mass 0 after the last one
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(running, target, right=True).clamp_(max=masses.size(1) - 1)
