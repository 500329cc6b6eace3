"""Perplexity against a loop over single sentences in NumPy."""

import math

import numpy as np
import pytest

from nmt.data.batches import EncodedPairs
from nmt.data.vocabulary import BOS, EOS
from nmt.evaluation import batching
from nmt.evaluation.perplexity import corpus_perplexity

TARGETS = [[5, 6, 7, 8, 9], [4], [], [10, 11, 12], [6, 6]]
SOURCES = [[4, 5], [6, 7, 8, 9, 10, 11, 12], [5], [4], [7, 7, 7]]


def _reference(model):
    """Return the summed negative log-likelihood, one token at a time."""
    features, weight, bias = (
        tensor.detach().double().numpy() for tensor in (model.features.weight, model.output.weight, model.output.bias)
    )
    total = 0.0
    for target in TARGETS:
        for given, wanted in zip([BOS, *target], [*target, EOS], strict=True):
            logits = weight @ features[given] + bias
            total += np.log(np.exp(logits).sum()) - logits[wanted]
    return total


@pytest.mark.parametrize("batch_tokens", [1, 12, 1000])
def test_is_per_token_whatever_the_batches(model, batch_tokens):
    result = corpus_perplexity(
        model, EncodedPairs.from_lists(SOURCES, TARGETS), batch_tokens=batch_tokens, device="cpu"
    )
    assert result.tokens == sum(len(target) + 1 for target in TARGETS)
    assert result.nll == pytest.approx(_reference(model) / result.tokens, rel=1e-6)
    assert result.perplexity == pytest.approx(math.exp(result.nll))


def test_model_is_put_back(model):
    model.train()
    corpus_perplexity(model, EncodedPairs.from_lists(SOURCES, TARGETS), batch_tokens=12, device="cpu")
    assert model.training
    assert all(call.inference and not call.training for call in model.calls)
    assert all(call.positions <= 12 for call in model.calls)


def test_long_pairs_make_smaller_batches(model, monkeypatch):
    pairs = EncodedPairs.from_lists(SOURCES, TARGETS)
    whole = corpus_perplexity(model, pairs, batch_tokens=1000, device="cpu")
    assert [call.rows for call in model.calls] == [5]
    monkeypatch.setattr(batching, "_GRID", 40)
    parts = corpus_perplexity(model, pairs, batch_tokens=1000, device="cpu")
    # 8 and 6 positions alone, then 2 pairs of 4
    assert [call.rows for call in model.calls[1:]] == [1, 1, 2, 1]
    assert parts.nll == pytest.approx(whole.nll, rel=1e-7)


def test_a_hopeless_model_is_infinitely_perplexed(model):
    model.output.bias.data[EOS] = -2000.0
    result = corpus_perplexity(model, EncodedPairs.from_lists([[4]], [[]]), batch_tokens=10, device="cpu")
    assert result.nll > 710
    assert result.perplexity == math.inf


def test_no_pairs(model):
    result = corpus_perplexity(model, EncodedPairs.from_lists([], []), batch_tokens=10, device="cpu")
    assert math.isnan(result.nll)
    assert math.isnan(result.perplexity)
