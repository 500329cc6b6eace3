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

from nmt.model import integers
from nmt.model.integers import HALVES, IntegerMatrix, Kind
from nmt.model.kernels import cross_entropy, flip, flips, join_targets
from nmt.model.products import (
    Factor,
    Rounding,
    add_outer,
    current,
    outer,
    product,
    rounded,
    rounded_rows,
    times_transposed,
)
from nmt.sizes import rounded_down

# rows of logits at once: on a CPU few enough for the cache, since every pass over them but the products is bound by
# memory; elsewhere enough to keep the device busy
_CHUNK, _DEVICE_CHUNK = 256, 4096
# bytes of logits whose gradients are kept until one product takes them all; what is larger malloc takes from the system
# each time anew, page by page
_BLOCK = 2**25
# what torch leaves out of a cross-entropy
_IGNORED = -100


def linear_cross_entropy(
    readouts: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    label_smoothing: float,
    real: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a linear layer's summed smoothed loss, and each token's nll [n] without gradient.

    Args:
        readouts: [n, F].
        weight: [V, F].
        bias: [V].
        targets: [n] ids.
        label_smoothing: e, in [0, 1).
        real: [n], False on rows that count for nothing, whose nll is 0; None where all count.
    """
    if current().fast:
        # asked here: inside an autograd function gradients are always off, and `needs_input_grad` ignores `no_grad`
        differentiate, rounding = torch.is_grad_enabled(), current().rounding
        given = readouts, weight, bias, targets, real, label_smoothing
        if rounding.kinds is not None and integers.serves(weight):
            return _OfIntegers.apply(*given, rounding.kinds, differentiate)
        return _LinearCrossEntropy.apply(*given, rounding, differentiate)
    targets = targets if real is None else torch.where(real, targets, _IGNORED)
    logits = product(readouts, weight, bias)
    loss = functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)
    return loss, functional.cross_entropy(logits.detach(), targets, reduction="none")


def token_log_probs(readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return, with gradients, log p(target) [n] and the mean of log p over the vocabulary [n]; arguments as above."""
    if current().fast:
        return _TokenLogProbs.apply(readouts, weight, bias, targets, current().rounding)
    log_probs = torch.log_softmax(product(readouts, weight, bias), dim=-1)
    return log_probs.gather(1, targets.unsqueeze(1)).squeeze(1), log_probs.mean(-1)


class _LinearCrossEntropy(torch.autograd.Function):
    """See the module's docstring."""

    @staticmethod
    def forward(  # noqa: PLR0917 - as autograd functions are called
        ctx: Any,
        readouts: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        real: Tensor | None,
        smoothing: float,
        rounding: Rounding,
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        count, left, matrix = len(readouts), rounded_rows(readouts, rounding), rounded(weight, rounding)
        factor, nll, of_bias = Factor(matrix, rounding=rounding), readouts.new_empty(count), torch.zeros_like(bias)
        of_readouts, of_weight = torch.empty_like(readouts), None
        rows = rounded_down(max(1, _BLOCK // (left.element_size() * len(weight))))
        for first in range(0, count, rows):
            block, real_rows = left[first : first + rows], min(rows, count - first)
            # of logits, then of their gradients
            chunks = _chunks(block)
            # of the whole block as it is made, or turned chunk by chunk, while each is in the cache
            whole, turns = differentiate and not flips(block), differentiate and flips(block)
            gradient = block.new_empty(len(block) if whole else chunks[0].stop, len(weight))
            turned = block.new_empty(len(weight), len(block)) if turns else gradient.t()
            for chunk in chunks:
                logits = gradient[chunk] if whole else gradient[: len(block[chunk])]
                factor.write(logits, block[chunk])
                # a chunk may hold nothing but the zeros that follow the rows
                within = max(0, min(chunk.stop, real_rows) - chunk.start)
                place = slice(first + chunk.start, first + chunk.start + within)
                counts = None if real is None else real[place]
                given = bias, targets[place], counts, smoothing, nll[place], of_bias
                cross_entropy(logits[:within], *given, differentiate=differentiate)
                if differentiate:
                    logits[within:].zero_()
                    if turns:
                        flip(logits, turned[:, chunk])
                        of_readouts[place] = factor.times(logits)[:within]
            if whole:
                of_readouts[first : first + real_rows] = factor.times(gradient)[:real_rows]
            if differentiate:
                # one block's product stays as it is until it is scaled
                if of_weight is None:
                    # of whole numbers the targets' own part would have to stay out, as below
                    of_weight = outer(turned, block, Rounding.none)
                else:
                    of_weight = of_weight.to(weight.dtype)
                    add_outer(of_weight, turned, block)
        ctx.save_for_backward(of_readouts, of_weight, of_bias)
        ctx.mark_non_differentiable(nll)
        return _smoothed(nll, readouts, weight, bias, targets, real, smoothing), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return *(_scaled(each, gradients[0]) for each in ctx.saved_tensors), *(None,) * 5


class _OfIntegers(torch.autograd.Function):
    """The same of whole numbers, where logits never leave the caches.

    The gradients of logits are kept in float16, which two products read in half the time. A row of whole numbers with
    a scale has few digits left beside a 1: all small probabilities would be rounded to the same side, and what they
    take away nearly cancels what the 1 adds. So the products take all but the targets' own part.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - as autograd functions are called
        ctx: Any,
        readouts: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        real: Tensor | None,
        smoothing: float,
        kinds: tuple[Kind, Kind],
        differentiate: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.kind = kinds[1]
        matrix, ctx.turned = (
            IntegerMatrix.both(weight, kinds=kinds) if differentiate else (IntegerMatrix(weight, kinds[0]), None)
        )
        nll, of_bias = readouts.new_empty(len(readouts)), torch.zeros_like(bias)
        rows = rounded_down(max(1, _BLOCK // (torch.float16.itemsize * len(weight))))
        gradients = []
        for place in _slices(len(readouts), rows):
            counts = None if real is None else real[place]
            given = readouts[place], bias, targets[place], counts, smoothing, nll[place]
            if differentiate:
                gradients.append(readouts.new_empty(len(given[0]), len(weight), dtype=torch.float16))
                matrix.cross_entropy(*given, of_bias, gradients[-1])
            else:
                matrix.cross_entropy(*given)
        ctx.save_for_backward(readouts, weight, targets, real, of_bias, *gradients)
        ctx.smoothing = smoothing
        ctx.mark_non_differentiable(nll)
        return _smoothed(nll, readouts, weight, bias, targets, real, smoothing), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        readouts, weight, targets, real, of_bias, *of_logits = ctx.saved_tensors
        factor = float(gradients[0])
        turned = ctx.turned.scaled(factor / HALVES)
        of_readouts, first = readouts.new_empty(readouts.shape), 0
        of_weight = torch.empty_like(weight) if of_logits else torch.zeros_like(weight)
        for each in of_logits:
            block = readouts[first : first + len(each)]
            turned.product(each, of_readouts[first : first + len(each)])
            IntegerMatrix(block.t(), ctx.kind).scaled(factor / HALVES).product(each.t(), of_weight, more=first > 0)
            first += len(each)
        both = {"of_readouts": of_readouts, "of_weight": of_weight}
        join_targets(targets, real, (1 - ctx.smoothing) * factor, weight=weight, readouts=readouts, **both)
        return of_readouts, of_weight, of_bias * gradients[0], *(None,) * 5


def _smoothed(  # noqa: PLR0917
    nll: Tensor, readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, real: Tensor | None, smoothing: float
) -> Tensor:
    """Return the loss of all rows."""
    loss = nll.sum()
    if smoothing:
        # mean_v z_v = mean_v(W_v) h + mean(b), so Z - mean_v z_v needs no logits
        mean = readouts @ weight.mean(0) + bias.mean()
        chosen = (readouts * weight.index_select(0, targets)).sum(1) + bias.index_select(0, targets)
        added = chosen - mean if real is None else torch.where(real, chosen - mean, 0.0)
        loss = loss + smoothing * added.sum()
    return loss


def _scaled(gradient: Tensor, factor: Tensor) -> Tensor:
    """Return a new tensor of the factor's type; one of that type is read and written once."""
    return gradient * factor if gradient.dtype == factor.dtype else gradient.to(factor.dtype).mul_(factor)


def _chunks(rows: Tensor) -> list[slice]:
    return _slices(len(rows), _CHUNK if rows.device.type == "cpu" else _DEVICE_CHUNK)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _logits(left: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Return logits [n, V] in the type of the bias."""
    return times_transposed(left, matrix, bias.to(left.dtype)).to(bias.dtype)


class _TokenLogProbs(torch.autograd.Function):
    """With g, m the gradients of log p(y) and of the mean: d / d z_v = g ([v = y] - p_v) + m (1 / V - p_v)."""

    @staticmethod
    def forward(
        ctx: Any, readouts: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rounding: Rounding
    ) -> tuple[Tensor, Tensor]:
        left, matrix = rounded(readouts, rounding), rounded(weight, rounding)
        log_prob, mean, log_total = (readouts.new_empty(len(readouts)) for _ in range(3))
        for chunk in _chunks(left):
            logits = _logits(left[chunk], matrix, bias)
            # z - log p of the likeliest, whose p is no rounded 0: logsumexp takes a CPU several times as long
            log_total[chunk] = logits.amax(-1) - torch.softmax(logits, dim=-1).amax(-1).log()
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
        for chunk in _chunks(left):
            probs = _logits(left[chunk], matrix, bias)
            probs.sub_(log_total[chunk].unsqueeze(1)).exp_()
            g, m = of_log_prob[chunk].unsqueeze(1), of_mean[chunk].unsqueeze(1)
            of_logits = torch.addcmul(m / probs.shape[1], probs, g + m, value=-1)
            of_logits.scatter_add_(1, targets[chunk].unsqueeze(1), g)
            of_bias += of_logits.sum(0)
            gradient = of_logits.to(left.dtype)
            of_readouts[chunk] = times_transposed(gradient, matrix.t())
            of_weight += times_transposed(gradient.t(), left[chunk].t())
        return of_readouts, of_weight, of_bias, None, None
