"""Hard attention: each position predicts the word by itself, and the mixture of all is learned."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nmt.errors import ConfigError
from nmt.model.attention import Memory, SingleAttention
from nmt.model.attention.base import one_hot_argmax
from nmt.model.cross_entropy import linear_cross_entropy, token_log_probs
from nmt.model.decoder import Decoded, Decoder
from nmt.model.embedding import OutputLayer
from nmt.model.prediction.base import Losses, Prediction, require_learning_weights
from nmt.model.prediction.rows import Rows
from nmt.model.products import Operand, arithmetic, current

_ReadRows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# rows (a target token at a source position) of which readouts are made at once
_ROWS = 8192
# numbers in the readouts of all rows above which they are made again for the gradient instead of being kept
_KEPT = 2**25


@final
class MarginalPrediction(Prediction):
    r"""Hard attention, learned by its exact marginal likelihood (Deng et al. 2018, arXiv:1807.03756).

    In training p(y_t) = sum_j alpha_tj p(y_t | h_j), where p(. | h_j) = softmax(W_o read(s_t, x_t, h_j) + b) reads one
    annotation. ``top_k`` sums over the k largest alpha_tj only, not renormalised: a lower bound. Where weights sum to
    less than 1 (local_p, monotonic), so does p. Smoothing e gives
    (1 - e) (-log p(y_t)) + e sum_j alpha_tj (-mean_v log p(v | h_j)). Dropout on readouts has one mask a token, for
    all its positions.

    Predicting (search, forced decoding, and the loss in evaluation mode, so validation's perplexity too) reads the one
    position with the largest weight, j*: p(. | h_j*); the weights reported are one-hot there. That perplexity is the
    model's as it is used, not the mixture's, which training shows.

    What is fed to the next step, where anything is, comes from the expectation sum_j alpha_tj h_j, in training and in
    use: no choice changes what follows, so that the sum over positions is exact a token at a time.

    Cost: a readout and a row of logits for each of n target tokens at each of K positions (K = S or k). Logits exist
    for one chunk of :mod:`nmt.model.cross_entropy` at a time. Readouts are made for 2^13 rows at a time; while n K F is
    at most 2^25 they are kept for the gradient, with what made them (about M + H + E + 3 F numbers a row), beyond that
    they are made again in the backward pass, and memory grows by a few numbers a row only.

    Args:
        top_k: k; None for all positions.

    Raises:
        ConfigError: ``top_k`` is below 1.
    """

    def __init__(self, top_k: int | None = None) -> None:
        super().__init__()
        if top_k is not None and top_k < 1:
            raise ConfigError(f"attention.prediction.top_k={top_k} is not accepted; it must be at least 1 or null")
        self.top_k = top_k

    def check(self, decoder: Decoder) -> None:
        """Refuse a decoder that does not let each position predict by itself.

        Raises:
            ConfigError: its state is made with the context, or its attention is not one distribution that learns.
        """
        if decoder.updates_with_context:
            raise ConfigError(
                "attention/prediction=marginal needs a state that is there before the context, but "
                f"attention/wiring={type(decoder).__name__} makes it with the context; take "
                "attention/wiring=update_then_attend"
            )
        if not isinstance(decoder.attention, SingleAttention):
            raise ConfigError(
                "attention/prediction=marginal needs one distribution over positions, but "
                f"attention/form={type(decoder.attention).__name__} has several; take attention/form=single"
            )
        require_learning_weights("marginal", decoder)

    def weights(self, decoded: Decoded) -> Tensor:
        """Return one-hot weights [B, Q, S]."""
        return one_hot_argmax(decoded.weights)

    def log_probs(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> Tensor:
        """Return log-probabilities [B, Q, V] given the annotation of the largest weight."""
        return torch.log_softmax(output(self._hard_readouts(decoded)), dim=-1)

    def losses(
        self,
        decoded: Decoded,
        output: OutputLayer,
        targets: Tensor,
        mask: Tensor,
        *,
        label_smoothing: float,
        copies: Tensor | None,
    ) -> Losses:
        """Return the losses: of the mixture in training mode, else of the position with the largest weight."""
        assert output.weight is not None
        rows = Rows.of(mask)
        if not self.training:
            given = rows.take(self._hard_readouts(decoded)), output.weight, output.bias, rows.take(targets)
            loss, nll = linear_cross_entropy(*given, label_smoothing, rows.real)
            return Losses(loss, rows.spread(nll))
        memory = decoded.state.memory
        assert isinstance(memory, Memory)
        sentences = rows.take(_numbers(mask))
        # padding behind everything real, so that each token has a real position first
        ranked = rows.take(decoded.weights).masked_fill(~memory.mask.index_select(0, sentences), -1.0)
        alpha, positions = ranked.topk(min(self.top_k or ranked.shape[1], ranked.shape[1]))
        choices = Rows.of((alpha > 0).index_fill(1, alpha.new_zeros(1, dtype=torch.long), True))
        tokens = choices.take(_numbers(alpha))
        places = choices.take(sentences.unsqueeze(1) * ranked.shape[1] + positions)
        log_prob, mean = self._choices(decoded, output, rows.take(targets), rows, tokens, places)

        weights = choices.take(alpha)
        joint = weights.clamp_min(torch.finfo(weights.dtype).tiny).log() + log_prob
        nll = rows.spread(-choices.spread(joint, float("-inf")).logsumexp(-1))
        loss = (1 - label_smoothing) * nll.sum()
        if label_smoothing:
            loss = loss - label_smoothing * rows.spread(choices.spread(weights * mean).sum(-1)).sum()
        return Losses(loss, nll.detach())

    def _hard_readouts(self, decoded: Decoded) -> Tensor:
        """Return readouts [B, Q, F] of the annotation of the largest weight."""
        use = decoded.state.recurrence
        context = _annotations(decoded)(self.weights(decoded))
        return use.drop(use.read(decoded.states, decoded.embedded, context))

    def _choices(
        self, decoded: Decoded, output: OutputLayer, targets: Tensor, rows: Rows, tokens: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return log p(y_t | h_j) and mean_v log p(v | h_j), [rows] each.

        Args:
            decoded: all steps.
            output: the output layer.
            targets: [n].
            rows: the n tokens.
            tokens: [rows], which of the n tokens.
            places: [rows], b S + j of the annotation.
        """
        use, weight, bias = decoded.state.recurrence, output.weight, output.bias
        assert weight is not None
        states, embedded = rows.take(decoded.states), rows.take(decoded.embedded)
        annotations = _annotations(decoded).matrix.flatten(0, 1)
        # one mask a token
        drop = rows.take(use.drop(torch.ones_like(decoded.readouts)))

        def read_rows(of: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
            # the recurrence's own readout would note the inputs of all rows for its gradient, not of one chunk
            read = use.prepare_read()
            given = states.index_select(0, of), embedded.index_select(0, of), annotations.index_select(0, at)
            readouts = read(*given) * drop.index_select(0, of)
            return token_log_probs(readouts, weight, bias, targets.index_select(0, of))

        keep = len(tokens) * decoded.readouts.shape[-1] <= _KEPT
        function = read_rows if keep else _without_keeping(read_rows)
        found = [function(*chunk) for chunk in zip(tokens.split(_ROWS), places.split(_ROWS), strict=True)]
        log_prob, mean = (torch.cat(part) for part in zip(*found, strict=True))
        return log_prob, mean


def _numbers(like: Tensor) -> Tensor:
    """Return the number of its row at each place [A, B] of a matrix."""
    return torch.arange(len(like), device=like.device).unsqueeze(1).expand_as(like)


def _annotations(decoded: Decoded) -> Operand:
    """Return the operand of the annotations [B, S, M] that contexts are means of."""
    memory = decoded.state.memory
    assert isinstance(memory, Memory) and isinstance(memory.values, Operand)
    return memory.values


def _without_keeping(function: _ReadRows) -> _ReadRows:
    """Return a function, one that draws nothing, whose backward pass makes again what its gradient needs."""
    settings = current()

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        # the backward pass may be outside today's `with arithmetic`, in a thread of its own
        return nullcontext(), arithmetic(rounding=settings.rounding, fast=settings.fast)

    return partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
