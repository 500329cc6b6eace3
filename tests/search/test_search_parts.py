import math

import pytest
import torch

from nmt.search.choice import top_candidates
from nmt.search.constraints import block_repeated_ngrams
from nmt.search.penalties import coverage_penalty, length_normalisers


@pytest.mark.parametrize("vocabulary", [1, 2, 63, 64, 65, 128, 203, 640])
@pytest.mark.parametrize("count", [1, 4, 300])
def test_top_candidates_equal_a_top_k_of_all_sums(vocabulary, count):
    generator = torch.Generator().manual_seed(vocabulary)
    log_probs = torch.randn(3, 5, vocabulary, generator=generator)
    scores = torch.randn(3, 5, generator=generator)
    scores[1, 2:] = -math.inf
    log_probs[2, 0] = -math.inf
    sums = (log_probs + scores[..., None]).flatten(1)
    values, indices = top_candidates(log_probs, scores, count)
    assert values.shape == indices.shape == (3, min(count, 5 * vocabulary))
    assert torch.equal(values, sums.topk(values.size(1)).values)
    assert torch.equal(values, sums.gather(1, indices))
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def test_length_normalisers_are_gnmts():
    values = length_normalisers(0.2, 7, torch.device("cpu"))
    assert values[1].item() == 1.0
    assert values[7].item() == pytest.approx(2**0.2)


def test_coverage_penalty_by_hand():
    # position 0: .5 seen; position 1: more than once; position 2: never (floor); the last is padding
    coverage = torch.tensor([[[0.5, 1.7, 0.0, 0.0]]])
    expected = 0.3 * (math.log(0.5) + math.log(1e-6))
    assert coverage_penalty(coverage, torch.tensor([3]), 0.3).item() == pytest.approx(expected, rel=1e-6)


def test_repeated_ngrams_by_hand():
    prefixes = torch.tensor([[[4, 5, 6, 4, 5], [4, 5, 4, 5, 4]]])
    log_probs = torch.zeros(1, 2, 8)
    block_repeated_ngrams(log_probs, prefixes, 3)
    assert [(row == -math.inf).nonzero().flatten().tolist() for row in log_probs[0]] == [[6], [5]]
    untouched = torch.zeros(1, 2, 8)
    block_repeated_ngrams(untouched, prefixes[..., :2], 3)
    assert (untouched == 0).all()
