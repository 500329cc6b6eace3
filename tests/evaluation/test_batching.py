"""Batches of bounded size."""

import numpy as np
import pytest
import torch
from torch import nn

from nmt.evaluation.batching import inference, length_batches, pair_batches


def test_every_sentence_once_within_bounds():
    lengths = np.random.default_rng(1).integers(1, 40, 101)
    batches = length_batches(lengths, positions=100, rows=7)
    assert sorted(np.concatenate(batches).tolist()) == list(range(101))
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= 100
        assert len(batch) <= 7
    assert max(len(batch) for batch in batches) == 7
    assert all(np.diff(lengths[np.concatenate(batches)]) <= 0)


def test_a_sentence_longer_than_the_bound_is_alone():
    assert [batch.tolist() for batch in length_batches(np.array([3, 500, 3]), positions=10)] == [[1], [0, 2]]


def test_pairs_are_bounded_on_both_sides_and_in_their_product():
    generator = np.random.default_rng(1)
    source, target = generator.integers(1, 1500, (2, 301))
    batches = pair_batches(source, target, positions=20_000)
    assert sorted(np.concatenate(batches).tolist()) == list(range(301))
    products = []
    for batch in batches:
        sides = source[batch].max(), target[batch].max()
        assert len(batch) * max(sides) <= 20_000
        products.append(len(batch) * sides[0] * sides[1])
        assert products[-1] <= 2**20 or len(batch) == 1
    assert max(products) > 2**20 > sorted(products)[len(products) // 2] > 2**18
    assert [len(batch) for batch in pair_batches(np.full(9, 4), np.full(9, 3), positions=16)] == [4, 4, 1]


def test_nothing_gives_no_batches():
    assert length_batches(np.array([], np.int64), positions=10) == []


@pytest.mark.parametrize("training", [True, False])
def test_inference_puts_the_mode_back_even_after_an_error(training):
    model = nn.Dropout().train(training)
    with pytest.raises(RuntimeError), inference(model):
        assert not model.training
        assert torch.is_inference_mode_enabled()
        raise RuntimeError
    assert model.training is training
    assert not torch.is_inference_mode_enabled()
