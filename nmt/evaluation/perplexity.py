"""Perplexity per target token on gold input, without label smoothing, so that runs can be compared."""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nmt.data.batches import Batch, EncodedPairs
from nmt.evaluation.batching import inference, pair_batches

if TYPE_CHECKING:
    from nmt.model import TranslationModel

# logits computed at a time, in elements: 16 MiB of float32
_LOGITS = 2**22


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
    readouts, _ = model(batch.source, batch.source_lengths, batch.target_in)
    real = batch.target_mask
    readouts, targets = readouts[real], batch.target_out[real]
    rows = max(1, _LOGITS // len(model.output.bias))
    chunks = zip(readouts.split(rows), targets.split(rows), strict=True)
    return sum(_chunk_nll(model, chunk, chunk_targets) for chunk, chunk_targets in chunks)


def _chunk_nll(model: "TranslationModel", readouts: Tensor, targets: Tensor) -> float:
    """Return the summed negative log-likelihood of tokens [n] given readouts [n, F]."""
    logits = model.output(readouts).float()
    return functional.cross_entropy(logits, targets, reduction="none").double().sum().item()


def _exponential(nll: float) -> float:
    try:
        return math.exp(nll)
    except OverflowError:
        return math.inf
