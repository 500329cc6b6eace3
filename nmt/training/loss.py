"""The loss of a batch: what the model's prediction says of the targets, and what attention adds."""

from typing import NamedTuple

from torch import Tensor

from nmt.data.batches import Batch
from nmt.model.translation_model import TranslationModel


class BatchLoss(NamedTuple):
    """Sums over a batch's real target tokens: the loss minimised (with gradient), the plain nll; their number."""

    loss: Tensor
    nll: Tensor
    tokens: int


def batch_loss(model: TranslationModel, batch: Batch, label_smoothing: float) -> BatchLoss:
    """Return the loss of a batch, summed over its real target tokens (EOS counted, padding not)."""
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    mask = batch.target_mask
    losses = model.losses(decoded, batch.target_out, mask, label_smoothing=label_smoothing, copies=batch.copies)
    loss = losses.loss
    if model.training:
        nll = losses.nll.new_zeros(mask.shape).masked_scatter(mask, losses.nll)
        penalty = model.decoder.attention.penalty(decoded.attended, nll, mask)
        loss = loss if penalty is None else loss + penalty
    return BatchLoss(loss, losses.nll.sum(), batch.target_tokens)
