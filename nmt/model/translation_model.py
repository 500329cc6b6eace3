"""The translation model: source tokens in, distributions over target tokens out."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmt.model.decoder import Decoded, Decoder, DecoderState
from nmt.model.embedding import Embedding, OutputLayer
from nmt.model.encoder import Encoder
from nmt.model.products import Operand


@dataclass(frozen=True)
class TranslationState:
    """Where the translation of a batch stands: the decoder's state, and the output layer prepared for its steps."""

    decoder: DecoderState
    output: Operand

    def select(self, beams: Tensor, sentences: Tensor | None = None) -> "TranslationState":
        """Return the state whose hypothesis (i, k) is today's (sentences[i], beams[i, k])."""
        return replace(self, decoder=self.decoder.select(beams, sentences))


class TranslationStep(NamedTuple):
    """One step: log-probabilities [B, K, V], the state after it, attention weights [B, K, S]."""

    log_probs: Tensor
    state: TranslationState
    weights: Tensor


class TranslationModel(nn.Module):
    """An encoder-decoder with attention.

    Args:
        source_embedding: embeddings of the source.
        target_embedding: embeddings of the target.
        encoder: the encoder.
        decoder: the decoder, attention inside.
        output: the output layer.
    """

    def __init__(
        self,
        *,
        source_embedding: Embedding,
        target_embedding: Embedding,
        encoder: Encoder,
        decoder: Decoder,
        output: OutputLayer,
    ) -> None:
        super().__init__()
        self.source_embedding = source_embedding
        self.target_embedding = target_embedding
        self.encoder = encoder
        self.decoder = decoder
        self.output = output

    @property
    def has_weights(self) -> bool:
        """Whether there are attention weights to align, score and draw."""
        return self.decoder.attention.alignment.weighs

    def encode(self, source: Tensor, source_lengths: Tensor) -> TranslationState:
        """Encode a batch for stepwise decoding.

        Args:
            source: [B, S] token ids, each row ending with EOS, then padding.
            source_lengths: [B], EOS counted.
        """
        return TranslationState(self._start(source, source_lengths), self.output.prepare())

    def step(self, tokens: Tensor, state: TranslationState) -> TranslationStep:
        """Read one token a hypothesis, [B, K] ids, and predict the next."""
        readout, decoder, weights = self.decoder.step(self.target_embedding(tokens), state.decoder)
        log_probs = torch.log_softmax(state.output(readout), dim=-1)
        return TranslationStep(log_probs, replace(state, decoder=decoder), weights)

    def forward(self, source: Tensor, source_lengths: Tensor, target: Tensor) -> Decoded:
        """Read the whole target [B, T] (BOS first): readouts [B, T, F] for the output layer, and attention weights."""
        return self.decoder(self.target_embedding(target), self._start(source, source_lengths))

    def _start(self, source: Tensor, source_lengths: Tensor) -> DecoderState:
        return self.decoder.start(self.encoder(self.source_embedding(source), source_lengths))
