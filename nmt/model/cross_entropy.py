r"""Label-smoothed cross-entropy, fused with the output layer so that the logits never exist whole.

With z = W h + b, log-partition Z = log sum_v exp z_v, target y, smoothing e over the whole vocabulary of V::

    nll  = Z - z_y                                  the loss reported
    loss = (1 - e) (Z - z_y) + e (Z - mean_v z_v)   the loss minimised (Szegedy et al. 2016, arXiv:1512.00567, sec. 7)
    d loss / d z_v = exp(z_v - Z) - (1 - e) [v = y] - e / V

so the gradient needs nothing that the forward pass has not just computed: both happen chunk by chunk of tokens, and
only the gradients of h, W and b, scaled later by the one number that comes back, are kept.

Where a token's probability goes on into a mixture (pointers, marginal likelihoods), every token has a gradient of its
own, known only later: :func:`token_log_probs` makes the logits of a chunk a second time in its backward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nmt.model.products import current, product, rounded, times_transposed

# rows of logits at once: small enough for the cache, large enough for a good matrix product
_CHUNK = 256


def linear_cross_entropy(
    readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return the summed smoothed loss, and each token's nll [n] without gradient; the logits are those of a linear layer.

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
    return loss, functional.cross_entropy(logits.detach(), targets, reduction="none")


def token_log_probs(readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return, with gradients, log p(target) [n] and the mean of log p over the vocabulary [n]; arguments as above."""
    if current().fast:
        return _TokenLogProbs.apply(readouts, weight, bias, targets, current().bf16)
    log_probs = torch.log_softmax(product(readouts, weight, bias), dim=-1)
    return log_probs.gather(1, targets.unsqueeze(1)).squeeze(1), log_probs.mean(-1)


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
        loss, nll = readouts.new_zeros(()), readouts.new_empty(len(readouts))
        for start in range(0, len(readouts), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            logits = times_transposed(left[chunk], matrix).to(readouts.dtype).add_(bias)
            chunk_nll, chunk_smooth = _chunk_losses(logits, targets[chunk])
            nll[chunk] = chunk_nll
            loss += (1 - smoothing) * chunk_nll.sum() + smoothing * chunk_smooth
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
    """Turn logits into log-probabilities in place; return the tokens' nll [n] and the summed uniform cross-entropy."""
    logits -= torch.logsumexp(logits, dim=-1, keepdim=True)
    return -logits.gather(1, targets.unsqueeze(1)).squeeze(1), -logits.mean(-1).sum()


def _logits_gradient(log_probs: Tensor, targets: Tensor, smoothing: float) -> None:
    """Turn log-probabilities into d loss / d logits in place."""
    log_probs.exp_().sub_(smoothing / log_probs.shape[-1])
    log_probs.scatter_add_(1, targets.unsqueeze(1), log_probs.new_full((len(targets), 1), smoothing - 1))


class _TokenLogProbs(torch.autograd.Function):
    """With g, m the gradients of log p(y) and of the mean: d / d z_v = g ([v = y] - p_v) + m (1 / V - p_v)."""

    @staticmethod
    def forward(
        ctx: Any, readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, bf16: bool
    ) -> tuple[Tensor, Tensor]:
        left, matrix = rounded(readouts, bf16), rounded(weight, bf16)
        log_prob, mean, log_total = (readouts.new_empty(len(readouts)) for _ in range(3))
        for start in range(0, len(readouts), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            logits = times_transposed(left[chunk], matrix).to(readouts.dtype).add_(bias)
            log_total[chunk] = torch.logsumexp(logits, dim=-1)
            log_prob[chunk] = logits.gather(1, targets[chunk].unsqueeze(1)).squeeze(1) - log_total[chunk]
            mean[chunk] = logits.mean(-1) - log_total[chunk]
        ctx.save_for_backward(left, matrix, bias, targets, log_total)
        return log_prob, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        of_log_prob, of_mean = gradients
        left, matrix, bias, targets, log_total = ctx.saved_tensors
        of_readouts = torch.empty(left.shape, dtype=bias.dtype, device=left.device)
        of_weight, of_bias = torch.zeros(matrix.shape, dtype=bias.dtype, device=left.device), torch.zeros_like(bias)
        for start in range(0, len(left), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            probs = times_transposed(left[chunk], matrix).to(bias.dtype).add_(bias)
            probs.sub_(log_total[chunk].unsqueeze(1)).exp_()
            g, m = of_log_prob[chunk].unsqueeze(1), of_mean[chunk].unsqueeze(1)
            of_logits = torch.addcmul(m / probs.shape[1], probs, g + m, value=-1)
            of_logits.scatter_add_(1, targets[chunk].unsqueeze(1), g)
            of_bias += of_logits.sum(0)
            gradient = of_logits.to(left.dtype)
            of_readouts[chunk] = times_transposed(gradient, matrix.t())
            of_weight += times_transposed(gradient.t(), left[chunk].t())
        return of_readouts, of_weight, of_bias, None, None
