"""What predicts the next target token."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from nmt.errors import ConfigError
from nmt.model.decoder import Decoded, Decoder
from nmt.model.embedding import OutputLayer
from nmt.model.products import Operand


class Losses(NamedTuple):
    """The losses of given targets.

    Attributes:
        loss: the loss minimised, summed over real target tokens.
        nll: [B, T], the plain negative log-likelihood of each, without gradient; 0 on padding.
    """

    loss: Tensor
    nll: Tensor


class NextTokens:
    """The distributions over the next tokens of one step, of a slice of the batch's sentences at a time.

    Args:
        log_probs: returns the log-probabilities [B', Q, V] of a slice.
    """

    def __init__(self, log_probs: Callable[[slice], Tensor]) -> None:
        self._log_probs = log_probs

    def __call__(self, sentences: slice) -> Tensor:
        """Return log-probabilities [B', Q, V], which may be overwritten; each sentence is asked for once."""
        return self._log_probs(sentences)

    def best(self, count: int, never: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the best of all distributions without making them whole; None where that cannot be done.

        Args:
            count: how many are wanted, at most V.
            never: [m] ids that are not among them, but for the last places, at minus infinity.

        Returns:
            Log-probabilities [B, Q, count], best first, and ids.
        """
        return None


class Prediction(nn.Module, ABC):
    """The distribution over the next target token.

    Subclasses take what they need of these sizes.

    Args:
        hidden_size: H.
        embedding_size: E.
        context_size: M.
        target_size: V.
        unknown: id of the unknown token.

    Attributes:
        copies: whether it needs to know which target token each source position is a copy of.
        generates: whether it takes words from the vocabulary, for which there must be an output layer.
    """

    copies: bool = False
    generates: bool = True

    def check(self, decoder: Decoder) -> None:  # noqa: B027
        """Refuse a decoder that it cannot predict with.

        Raises:
            ConfigError: there is none for this prediction.
        """

    def inputs(self, tokens: Tensor) -> Tensor:
        """Return ids that have embeddings for predicted ones, [B, K]."""
        return tokens

    def weights(self, decoded: Decoded) -> Tensor:
        """Return the attention weights [B, Q, S] to report for predictions."""
        return decoded.weights

    @abstractmethod
    def log_probs(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> Tensor:
        """Return log-probabilities [B, Q, V] (more columns where other tokens than the vocabulary's can be produced).

        Args:
            decoded: the step or steps.
            output: the output layer's, maps readouts to logits.
            copies: [B, S], the target token that each source position is a copy of; None where ``copies`` is False.
        """

    def prepare(self, decoded: Decoded, output: Operand, copies: Tensor | None) -> NextTokens:
        """Return what makes the distributions when asked for them; arguments as in :meth:`log_probs`.

        A prediction that can do without those of the whole batch overrides it.
        """
        return NextTokens(self.log_probs(decoded, output, copies).__getitem__)

    @abstractmethod
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
        """Return the losses of given targets.

        Args:
            decoded: all steps.
            output: the output layer.
            targets: [B, T].
            mask: [B, T], True on real tokens.
            label_smoothing: in [0, 1), spread over the whole vocabulary.
            copies: as in :meth:`log_probs`.
        """


def require_learning_weights(prediction: str, decoder: Decoder) -> None:
    """Refuse a decoder whose attention has no weights that the loss of this prediction can teach."""
    if not decoder.attention.learns:
        raise ConfigError(
            f"attention/prediction={prediction} must teach attention its weights, but here there are none "
            "(attention/alignment=none), all are alike (attention/score=constant), or one position is sampled "
            "(attention/alignment=sample, gumbel)"
        )
