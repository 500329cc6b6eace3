r"""Label-smoothed cross-entropy, fused with the output layer so that the logits never exist whole.

With z = W h + b, log-partition Z = log sum_v exp z_v, target y, smoothing e over the whole vocabulary of V::

    nll  = Z - z_y                                  the loss reported
    loss = (1 - e) (Z - z_y) + e (Z - mean_v z_v)   the loss minimised (Szegedy et al. 2016, arXiv:1512.00567, sec. 7)
    d loss / d z_v = exp(z_v - Z) - (1 - e) [v = y] - e / V

so the gradient needs nothing that the forward pass has not just computed: both happen chunk by chunk of tokens, and
only the gradients of h, W and b, scaled later by the one number that comes back, are kept.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nmt.data.batches import Batch
from nmt.model.products import current, rounded, times_transposed
from nmt.model.translation_model import TranslationModel

# rows of logits at once: small enough for the cache, large enough for a good matrix product
_CHUNK = 256


class BatchLoss(NamedTuple):
    """Sums over a batch's real target tokens: the smoothed loss (with gradient), the unsmoothed one; their number."""

    loss: Tensor
    nll: Tensor
    tokens: int


def batch_loss(model: TranslationModel, batch: Batch, label_smoothing: float) -> BatchLoss:
    """Return the loss of a batch, summed over its real target tokens (EOS counted, padding not)."""
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    real = batch.target_mask
    readouts, targets = decoded.readouts[real], batch.target_out[real]
    output = model.output
    assert output.weight is not None
    loss, nll = linear_cross_entropy(readouts, output.weight, output.bias, targets, label_smoothing)
    return BatchLoss(loss, nll, len(targets))


def linear_cross_entropy(
    readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return the summed smoothed loss and the summed nll (no gradient) under logits ``readouts @ weight^T + bias``.

    Args:
        readouts: [n, F].
        weight: [V, F].
        bias: [V].
        targets: [n] ids.
        label_smoothing: e, in [0, 1).
    """
    if current().fast:
        return _LinearCrossEntropy.apply(readouts, weight, bias, targets, label_smoothing, current().bf16)
    logits = functional.linear(readouts, weight, bias)
    loss = functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)
    return loss, functional.cross_entropy(logits.detach(), targets, reduction="sum")


class _LinearCrossEntropy(torch.autograd.Function):
    """See the module's docstring."""

    @staticmethod
    def forward(
        ctx: Any, readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, bf16: bool
    ) -> tuple[Tensor, Tensor]:
        differentiate = any(ctx.needs_input_grad)
        left, matrix = rounded(readouts, bf16), rounded(weight, bf16)
        of_readouts = torch.empty_like(readouts)
        of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        loss, nll = readouts.new_zeros(()), readouts.new_zeros(())
        for start in range(0, len(readouts), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            logits = times_transposed(left[chunk], matrix).to(readouts.dtype).add_(bias)
            chunk_nll, chunk_smooth = _chunk_losses(logits, targets[chunk])
            nll += chunk_nll
            loss += (1 - smoothing) * chunk_nll + smoothing * chunk_smooth
            if differentiate:
                _logits_gradient(logits, targets[chunk], smoothing)
                of_bias += logits.sum(0)
                gradient = rounded(logits, bf16)
                of_readouts[chunk] = times_transposed(gradient, matrix.t())
                of_weight += times_transposed(gradient.t(), left[chunk].t())
        ctx.save_for_backward(of_readouts, of_weight, of_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return *(gradient * gradients[0] for gradient in ctx.saved_tensors), None, None, None


def _chunk_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits into log-probabilities in place; return summed nll and summed uniform cross-entropy."""
    logits -= torch.logsumexp(logits, dim=-1, keepdim=True)
    return -logits.gather(1, targets.unsqueeze(1)).sum(), -logits.mean(-1).sum()


def _logits_gradient(log_probs: Tensor, targets: Tensor, smoothing: float) -> None:
    """Turn log-probabilities into d loss / d logits in place."""
    log_probs.exp_().sub_(smoothing / log_probs.shape[-1])
    log_probs.scatter_add_(1, targets.unsqueeze(1), log_probs.new_full((len(targets), 1), smoothing - 1))
