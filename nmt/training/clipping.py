"""Clipping of gradients by the norm of all of them (Pascanu et al. 2013, arXiv:1211.5063)."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nmt.model.kernels import sum_of_squares


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """Scale gradients down to the norm ``limit`` where theirs, over all parameters, is longer; return the norm before.

    Args:
        parameters: on one device; those without gradient do not count.
        limit: the longest norm; None for any.
    """
    given = list(parameters)
    norm = _norm([parameter.grad for parameter in given if parameter.grad is not None])
    # a CPU need not write gradients that stay as they are; of another device the host does not know the norm yet
    if limit is not None and (norm.device.type != "cpu" or not norm <= limit):
        nn.utils.clip_grads_with_norm_(given, limit, norm)
    return norm


def _norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients; on a CPU in one pass over them all."""
    squares = sum_of_squares(gradients) if gradients else None
    return nn.utils.get_total_norm(gradients) if squares is None else torch.tensor(math.sqrt(squares))
