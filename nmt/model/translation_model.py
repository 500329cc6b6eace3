"""The translation model: source tokens in, distributions over target tokens out."""

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from nmt.model.decoder import Decoded, Decoder, DecoderState
from nmt.model.embedding import Embedding, OutputLayer
from nmt.model.encoder import Encoder
from nmt.model.prediction import Losses, NextTokens, Prediction
from nmt.model.products import Operand


class TranslationState(NamedTuple):
    """Where the translation of a batch stands.

    Attributes:
        decoder: the decoder's state.
        output: the output layer, prepared for its steps.
        copies: [B, S], the target token that each source position is a copy of, where the prediction copies.
    """

    decoder: DecoderState
    output: Operand
    copies: Tensor | None

    def select(self, beams: Tensor, sentences: Tensor | None = None) -> "TranslationState":
        """Return the state whose hypothesis (i, k) is today's (sentences[i], beams[i, k])."""
        copies = self.copies if self.copies is None or sentences is None else self.copies.index_select(0, sentences)
        return self._replace(decoder=self.decoder.select(beams, sentences), copies=copies)


class TranslationStep(NamedTuple):
    """One step.

    Attributes:
        predict: the distributions, computed when asked for.
        state: the state after the step.
        weights: attention weights [B, K, S].
    """

    predict: NextTokens
    state: TranslationState
    weights: Tensor

    @property
    def log_probs(self) -> Tensor:
        """The log-probabilities of the whole batch, [B, K, V]."""
        return self.predict(slice(None))


class TranslationModel(nn.Module):
    """An encoder-decoder with attention.

    Args:
        source_embedding: embeddings of the source.
        target_embedding: embeddings of the target.
        encoder: the encoder.
        decoder: the decoder, attention inside.
        prediction: makes distributions with it.
        output: the output layer.
    """

    def __init__(
        self,
        *,
        source_embedding: Embedding,
        target_embedding: Embedding,
        encoder: Encoder,
        decoder: Decoder,
        prediction: Prediction,
        output: OutputLayer,
    ) -> None:
        super().__init__()
        self.source_embedding = source_embedding
        self.target_embedding = target_embedding
        self.encoder = encoder
        self.decoder = decoder
        self.prediction = prediction
        self.output = output

    @property
    def has_weights(self) -> bool:
        """Whether there are attention weights to align, score and draw."""
        return self.decoder.attention.weighs

    @property
    def weights_learn(self) -> bool:
        """Whether a loss on the attention weights teaches them anything."""
        return self.decoder.attention.learns

    @property
    def copies(self) -> bool:
        """Whether batches must say which target token each source position is a copy of."""
        return self.prediction.copies

    def encode(self, source: Tensor, source_lengths: Tensor, copies: Tensor | None = None) -> TranslationState:
        """Encode a batch for stepwise decoding.

        Args:
            source: [B, S] token ids, each row ending with EOS, then padding.
            source_lengths: [B], EOS counted.
            copies: [B, S], the target token that each source position is a copy of, where the prediction copies.
        """
        return TranslationState(self._start(source, source_lengths), self.output.prepare(), copies)

    def step(self, tokens: Tensor, state: TranslationState) -> TranslationStep:
        """Read one token a hypothesis, [B, K] ids, and predict the next."""
        decoded = self.decoder.step(self.target_embedding(self.prediction.inputs(tokens)), state.decoder)
        predict = self.prediction.prepare(decoded, state.output, state.copies)
        return TranslationStep(predict, state._replace(decoder=decoded.state), self.weights(decoded))

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> Decoded:
        """Read the whole target [B, T] (BOS first); what the decoder made of it is for :meth:`losses`."""
        embedded = self.target_embedding(self.prediction.inputs(target))
        return self.decoder(embedded, self._start(source, source_lengths))

    def losses(
        self, decoded: Decoded, targets: Tensor, mask: Tensor, *, label_smoothing: float, copies: Tensor | None = None
    ) -> Losses:
        """Return the losses of targets [B, T] (EOS last), real where ``mask`` is True, after :meth:`forward`."""
        return self.prediction.losses(
            decoded, self.output, targets, mask, label_smoothing=label_smoothing, copies=copies
        )

    def weights(self, decoded: Decoded) -> Tensor:
        """Return the attention weights [B, Q, S] of the predictions."""
        return self.prediction.weights(decoded)

    def _start(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        encoded = self.encoder(self.source_embedding(source), source_lengths)
        return self.decoder.start(replace(encoded, tokens=source))
