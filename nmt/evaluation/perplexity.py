"""Perplexity per target token on gold input, without label smoothing, so that runs can be compared."""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from nmt.data.batches import Batch, EncodedPairs
from nmt.evaluation.batching import inference, pair_batches

if TYPE_CHECKING:
    from nmt.model import TranslationModel


class Perplexity(NamedTuple):
    """Negative log-likelihood per target token in nats, its exponential, and the tokens counted (EOS included)."""

    nll: float
    perplexity: float
    tokens: int


def corpus_perplexity(
    model: "TranslationModel", pairs: EncodedPairs, *, batch_tokens: int, device: torch.device | str
) -> Perplexity:
    """Return the perplexity of the targets given their sources, exp(-sum_t log p(y_t | y_<t, x) / tokens).

    The sum is over all tokens of all sentences before dividing, so it depends neither on padding nor on the batches.
    The input is the gold prefix (teacher forcing), and no label smoothing enters. Without pairs the result is NaN.

    Args:
        model: the model; its mode (train or eval) is left as it was.
        pairs: encoded sentence pairs.
        batch_tokens: at most this many source and this many target positions at a time; fewer where pairs are long, as
            :func:`nmt.evaluation.batching.pair_batches` says.
        device: where the model is.
    """
    source_lengths, target_lengths = pairs.lengths
    total, tokens = 0.0, 0
    with inference(model):
        for indices in pair_batches(source_lengths + 1, target_lengths + 1, positions=batch_tokens):
            batch = pairs.batch(indices).to(device)
            total += batch_nll(model, batch)
            tokens += batch.target_tokens
    nll = total / tokens if tokens else math.nan
    return Perplexity(nll, _exponential(nll), tokens)


def batch_nll(model: "TranslationModel", batch: Batch) -> float:
    """Return the summed negative log-likelihood, in nats, of the real target tokens of one batch."""
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    losses = model.losses(decoded, batch.target_out, batch.target_mask, label_smoothing=0.0, copies=batch.copies)
    return losses.nll.double().sum().item()


def _exponential(nll: float) -> float:
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf
