"""The loss of a batch: what the model's prediction says of the targets, and what attention adds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nmt.data.batches import Batch
from nmt.model.translation_model import TranslationModel


class BatchLoss(NamedTuple):
    """Sums over a batch's real target tokens.

    Attributes:
        loss: the loss minimised, with gradient.
        nll: the plain negative log-likelihood.
        tokens: their number.
        attention: the part of the loss that is about attention; None where there is none.
    """

    loss: Tensor
    nll: Tensor
    tokens: int
    attention: Tensor | None = None


LossFunction = Callable[[Any, Batch], BatchLoss]


def add_gradients(model: Any, loss_function: LossFunction, batch: Batch, tokens: Tensor, sums: Tensor) -> None:
    """Add the gradients of a batch's loss, divided by ``tokens``, to the parameters'; waits for nothing.

    Args:
        model: the model.
        loss_function: gives the loss.
        batch: on the model's device, as all that follows.
        tokens: a number without axes.
        sums: [4] float64, to which those of the batch are added in place, as :class:`nmt.training.meter.Meter` takes
            them but for the gradient's norm.
    """
    losses = loss_function(model, batch)
    (losses.loss / tokens).backward()
    sums[0] += losses.loss.detach()
    sums[1] += losses.nll.detach()
    if losses.attention is not None:
        sums[3] += losses.attention


def batch_loss(
    model: TranslationModel, batch: Batch, label_smoothing: float, *, guided_alignment: float = 0.0
) -> BatchLoss:
    """Return the loss of a batch, summed over its real target tokens (EOS counted, padding not).

    Args:
        model: the model; what attention adds is added in training mode only.
        batch: the batch.
        label_smoothing: in [0, 1).
        guided_alignment: factor of :func:`guided_alignment_loss`, where the batch has links.
    """
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    mask = batch.target_mask
    losses = model.losses(decoded, batch.target_out, mask, label_smoothing=label_smoothing, copies=batch.copies)
    found = BatchLoss(losses.loss, losses.nll.sum(), batch.target_tokens)
    if not model.training:
        return found
    added = model.decoder.attention.penalty(decoded.attended, losses.nll, mask)
    if batch.links is not None:
        guided = guided_alignment * guided_alignment_loss(decoded.weights, batch.links)
        added = guided if added is None else added + guided
    return found if added is None else found._replace(loss=found.loss + added, attention=added.detach())


def guided_alignment_loss(weights: Tensor, links: Tensor) -> Tensor:
    """Return the cross entropy between linked positions and attention, summed over target tokens that have links.

    - sum_t sum_j A_tj log alpha_tj with A_tj = 1 / n_t on the n_t source positions linked to target token t (Chen et
    al. 2016, arXiv:1607.01628, with cross entropy). alpha_t is the attention when token t is predicted. Differs: a sum
    over tokens, as all of the loss is; a weight of 0 counts as the smallest normal number, and has no gradient.

    Args:
        weights: alpha, [B, T, S].
        links: [4, N], as ``Batch.links``; where the last number is 0 there is none.
    """
    pairs, targets, sources, counts = links
    linked = weights[pairs, targets, sources]
    shares = linked.clamp(min=torch.finfo(linked.dtype).tiny).log() / counts.clamp_min(1)
    return -torch.where(counts > 0, shares, 0.0).sum()
