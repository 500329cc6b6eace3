"""Pointers: source words copied into the target, beside the vocabulary's (pointer-generator) or in its place."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from nmt.errors import ConfigError
from nmt.model.cross_entropy import token_log_probs
from nmt.model.decoder import Decoded, Decoder
from nmt.model.embedding import OutputLayer
from nmt.model.prediction.base import Losses, Prediction, require_learning_weights
from nmt.model.prediction.rows import Rows
from nmt.model.products import Linear, Operand


class _Copying(Prediction):
    """What predictions share that copy: ids from V on, where V + j is the word at source position j.

    A word that stands at several positions has the id of the first of them, so that its weights add up. Such a word has
    no embedding: read as input it is the unknown one.

    Args:
        target_size: V.
        unknown: id of the unknown token.
    """

    copies = True

    def __init__(self, target_size: int, unknown: int) -> None:
        super().__init__()
        self.target_size = target_size
        self.unknown = unknown

    def check(self, decoder: Decoder) -> None:
        """Refuse a decoder whose weights do not learn from what is copied."""
        require_learning_weights("pointer and pointer_generator", decoder)

    def inputs(self, tokens: Tensor) -> Tensor:
        """Return the ids with those of copied words replaced by the unknown token's."""
        return tokens.masked_fill(tokens >= self.target_size, self.unknown)


@final
class PointerGenerator(_Copying):
    r"""P(y) = g_t softmax(W_o r + b)_y + (1 - g_t) sum_{j: copy_j = y} alpha_tj.

    See et al. 2017, arXiv:1704.04368v2, eq. 9. g_t = sigmoid(w_c . c_t + w_s . s_t + w_x . x_t + b) (eq. 8) of the
    context, the state that the readout reads and the embedded previous word. y is a word of the target vocabulary or of
    the source sentence. Smoothing e gives (1 - e) (-log P(y)) + e (-mean_v log softmax(W_o r + b)_v).

    Where weights sum to less than 1 (local_p, monotonic), so does P: what is missing is no word's, and the loss teaches
    g_t not to lose it. In losses a copied share of 0 counts as the smallest normal number, so that they stay finite
    where a weight is exactly 0.

    Args:
        hidden_size: H.
        embedding_size: E.
        context_size: M.
        target_size: V.
        unknown: id of the unknown token.
    """

    def __init__(
        self, hidden_size: int, embedding_size: int, context_size: int, target_size: int, unknown: int
    ) -> None:
        super().__init__(target_size, unknown)
        self.gate = Linear(context_size + hidden_size + embedding_size, 1)

    def log_probs(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> Tensor:
        """Return log-probabilities [B, Q, V + S]; minus infinity for what is no word of the sentence."""
        assert copies is not None
        generate, copy = self._shares(decoded)
        generated = torch.log_softmax(output(decoded.readouts), dim=-1) + generate.unsqueeze(-1)
        everything = functional.pad(generated, (0, copies.shape[1]), value=float("-inf"))
        places = copies.unsqueeze(1).expand_as(decoded.weights)
        copied = _masses(everything, places, decoded.weights).gather(-1, places).log() + copy.unsqueeze(-1)
        # a word at several positions is written as often, each time the same
        return everything.scatter(-1, places, torch.logaddexp(everything.gather(-1, places), copied))

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
        """Return the losses; the logits never exist whole."""
        assert output.weight is not None and copies is not None
        rows = Rows.of(mask)
        generate, copy = (rows.take(share) for share in self._shares(decoded))
        wanted = rows.take(targets)
        given = rows.take(decoded.readouts), output.weight, output.bias, self.inputs(wanted)
        log_prob, mean = token_log_probs(*given)
        generated = (generate + log_prob).masked_fill(wanted >= self.target_size, float("-inf"))
        copied = copy + rows.take(_copied_log_probs(decoded.weights, targets, copies))
        nll = rows.spread(-torch.logaddexp(generated, copied))
        loss = (1 - label_smoothing) * nll.sum()
        if label_smoothing:
            loss = loss - label_smoothing * rows.spread(mean).sum()
        return Losses(loss, nll.detach())

    def _shares(self, decoded: Decoded) -> tuple[Tensor, Tensor]:
        """Return log g and log (1 - g), [B, Q] each."""
        read = torch.cat([decoded.attended.context, decoded.states, decoded.embedded], dim=-1)
        gate = self.gate(read).squeeze(-1)
        return functional.logsigmoid(gate), functional.logsigmoid(-gate)


@final
class Pointer(_Copying):
    """P(y) = sum_{j: copy_j = y} alpha_tj: every target word is one of the source.

    Vinyals et al. 2015, arXiv:1506.03134, section 2.3. Differs: the paper points at positions, here the weights of
    positions that hold the same word add up; the target ends where EOS is pointed at; and what is read next is the
    embedding of the target word. There is no output layer and nothing to smooth, so that training.label_smoothing
    changes nothing; the readout matters only where it is fed to the next step.

    Where weights sum to less than 1 (local_p, monotonic), so does P. In losses a probability of 0 counts as the
    smallest normal number.

    Args:
        target_size: V.
        unknown: id of the unknown token.
    """

    generates = False

    def check(self, decoder: Decoder) -> None:
        """Refuse a decoder whose weights do not learn, or do not depend on its state."""
        super().check(decoder)
        if not decoder.attention.asks:
            raise ConfigError(
                "attention/prediction=pointer takes every word from the weights, so they must depend on the decoder's "
                "state, which attention/score=pooling does not look at"
            )

    def log_probs(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> Tensor:
        """Return log-probabilities [B, Q, V + S]; minus infinity for what is no word of the sentence."""
        assert copies is not None
        nothing = decoded.weights.new_zeros(*decoded.weights.shape[:-1], self.target_size + copies.shape[1])
        return _masses(nothing, copies.unsqueeze(1).expand_as(decoded.weights), decoded.weights).log()

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
        """Return the losses."""
        assert copies is not None
        nll = torch.where(mask, -_copied_log_probs(decoded.weights, targets, copies), 0.0)
        return Losses(nll.sum(), nll.detach())


def _masses(like: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the weights [B, Q, S] at each of the places [B, Q, S], as wide as ``like`` [B, Q, V + S]."""
    return torch.zeros_like(like).scatter_add(-1, places, weights)


def _copied_log_probs(weights: Tensor, targets: Tensor, copies: Tensor) -> Tensor:
    """Return log sum_{j: copy_j = y_t} alpha_tj, [B, T], at least the logarithm of the smallest normal number.

    Args:
        weights: alpha, [B, T, S].
        targets: y, [B, T].
        copies: [B, S].
    """
    copied = (weights * (targets.unsqueeze(2) == copies.unsqueeze(1))).sum(-1)
    return copied.clamp_min(torch.finfo(copied.dtype).tiny).log()
