"""What every way of choosing the next pieces returns, and the top-k over beams x vocabulary."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_LANES = 64


class Choice(NamedTuple):
    """The hypotheses after a step.

    Attributes:
        scores: [B, K'], log-probability of all pieces so far; -inf where there is no hypothesis.
        tokens: [B, K'], the last piece.
        parents: [B, K'], the row each comes from; None: row i comes from row i.
    """

    scores: Tensor
    tokens: Tensor
    parents: Tensor | None


def join(choices: Sequence[Choice]) -> Choice:
    """Put the choices for sentences beside each other in one batch; all have parents, or none has."""
    parents = [choice.parents for choice in choices if choice.parents is not None]
    return Choice(
        torch.cat([choice.scores for choice in choices]),
        torch.cat([choice.tokens for choice in choices]),
        torch.cat(parents) if parents else None,
    )


# (log_probs [B, K, V], scores [B, K] of the hypotheses so far) -> Choice
Choose = Callable[[Tensor, Tensor], Choice]


def pick(choice: Choice, tokens: Tensor) -> Choice:
    """Return the choice of places among candidates as one of pieces.

    Args:
        choice: its tokens are places among the candidates of the hypothesis each comes from.
        tokens: [B, K, C], the candidates.
    """
    places = choice.tokens
    if choice.parents is not None:
        places = choice.parents * tokens.shape[2] + places
    return choice._replace(tokens=tokens.flatten(1).gather(1, places))


def top_candidates(log_probs: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the best sums ``scores[b, k] + log_probs[b, k, v]`` of each sentence.

    The maxima of blocks of pieces come first, since the best ``count`` blocks hold all the winners: one vectorised pass
    over the vocabulary without a copy, several times faster on a CPU than a top-k of all sums. Of n blocks the i-th
    holds the pieces i, i + n, i + 2 n, ..., and n is a multiple of what the processor compares at once.

    Args:
        log_probs: [B, K, V].
        scores: [B, K], -inf where there is no hypothesis.
        count: how many are wanted.

    Returns:
        The sums, best first, and their indices k * V + v; both [B, min(count, K * V)].
    """
    beams, size = log_probs.shape[1:]
    blocks = _LANES * max(1, round(math.sqrt(size) / _LANES))
    if size <= blocks:
        return tuple((log_probs + scores[..., None]).flatten(1).topk(min(count, beams * size)))  # pyright: ignore
    whole = size - size % blocks
    sums, indices = _best_blocks(log_probs, scores, count, blocks)
    if whole < size:
        rest = (log_probs[..., whole:] + scores[..., None]).flatten(1)
        of_rest = torch.arange(beams * size, device=scores.device).view(beams, size)[:, whole:].flatten()
        sums, indices = torch.cat([sums, rest], 1), torch.cat([indices, of_rest.expand(rest.shape)], 1)
    best, places = sums.topk(min(count, beams * size))
    return best, indices.gather(1, places)


def _best_blocks(log_probs: Tensor, scores: Tensor, count: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Return sums and indices, both [B, C * V // n], of the pieces in those of the ``blocks`` with the best sums."""
    size = log_probs.size(2)
    rounds = size // blocks
    maxima = log_probs[..., : rounds * blocks].unflatten(2, (rounds, blocks)).amax(2)
    maxima = (maxima + scores[..., None]).flatten(1)
    chosen = maxima.topk(min(count, maxima.size(1))).indices
    beams = chosen // blocks
    first = chosen + beams * (size - blocks)
    indices = first[..., None] + torch.arange(0, rounds * blocks, blocks, device=scores.device)
    sums = log_probs.flatten(1).gather(1, indices.flatten(1)).view_as(indices) + scores.gather(1, beams)[..., None]
    return sums.flatten(1), indices.flatten(1)
