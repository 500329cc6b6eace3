"""Batches hold every pair once, within limits, with little padding, and follow from seed and epoch."""

import random

import numpy as np
import pytest
import torch

from nmt.data.batches import EncodedPairs, FlatSequences, TokenBatches, encode_sources, filter_pairs
from nmt.data.vocabulary import BOS, EOS, PAD
from nmt.errors import ConfigError, DataError


def make_pairs(count, seed=0, longest=40):
    """Pairs of realistic lengths: log-normal, the target about as long as the source."""
    generator = random.Random(seed)
    sources, targets = [], []
    for _ in range(count):
        length = min(longest, max(1, round(generator.lognormvariate(2.6, 0.4))))
        other = min(longest, max(1, round(length * generator.gauss(1.05, 0.15))))
        sources.append([generator.randrange(4, 1000) for _ in range(length)])
        targets.append([generator.randrange(4, 1000) for _ in range(other)])
    return sources, targets


@pytest.fixture(scope="module")
def lists():
    return make_pairs(6000)


@pytest.fixture(scope="module")
def pairs(lists):
    return EncodedPairs.from_lists(*lists)


def test_a_batch_is_what_loops_would_make(lists, pairs):
    indices = [5, 0, 17, 5]
    batch = pairs.batch(indices)
    for row, index in enumerate(indices):
        source, target = lists[0][index], lists[1][index]
        width, other = batch.source.shape[1], batch.target_out.shape[1]
        assert batch.source[row].tolist() == source + [EOS] + [PAD] * (width - len(source) - 1)
        assert batch.target_in[row].tolist() == [BOS] + target + [PAD] * (other - len(target) - 1)
        assert batch.target_out[row].tolist() == target + [EOS] + [PAD] * (other - len(target) - 1)
        assert batch.source_lengths[row] == len(source) + 1
        assert batch.target_lengths[row] == len(target) + 1
    assert batch.source.shape[1] == max(len(lists[0][i]) for i in indices) + 1
    assert batch.target_tokens == sum(len(lists[1][i]) + 1 for i in indices)
    assert all(t.dtype == torch.int64 for t in (batch.source, batch.source_lengths, batch.target_in, batch.target_out))
    assert len(batch) == 4


def test_the_mask_is_true_on_real_tokens_only():
    # a real token may have PAD's id only through a bug elsewhere; the mask comes from lengths and still knows it
    batch = EncodedPairs.from_lists([[7], [7]], [[5, PAD], []]).batch([0, 1])
    assert batch.target_mask.tolist() == [[True, True, True], [True, False, False]]


def test_to_keeps_everything(pairs):
    batch = pairs.batch([1, 2])
    moved = batch.to("cpu")
    assert moved.target_tokens == batch.target_tokens
    assert torch.equal(moved.target_in, batch.target_in)


def test_padding_adds_sentences_without_a_target_and_leaves_the_others(lists):
    flat = EncodedPairs.from_lists(*lists)
    links = FlatSequences.from_lists(
        [[0, 0] if source and target else [] for source, target in zip(*lists, strict=True)]
    )
    batch = EncodedPairs(flat.source, flat.target, flat.source, links).batch([5, 0, 17])
    (rows, S), T, N = batch.source.shape, batch.target_in.shape[1], batch.links.shape[1]  # noqa: N806
    wide = batch.padded(5, S + 2, T + 3, links=N + 1)
    widths = {"source": S, "copies": S, "target_in": T, "target_out": T}
    for name, width in widths.items():
        old, new = getattr(batch, name), getattr(wide, name)
        assert torch.equal(new[:rows, :width], old) and not (new[:rows, width:] != PAD).any()
    for name, first in {"source": EOS, "copies": EOS, "target_in": BOS, "target_out": PAD}.items():
        assert getattr(wide, name)[rows:, 0].tolist() == [first] * 2
        assert not (getattr(wide, name)[rows:, 1:] != PAD).any()
    assert wide.source_lengths.tolist() == [*batch.source_lengths.tolist(), 1, 1]
    assert wide.target_lengths.tolist() == [*batch.target_lengths.tolist(), 0, 0]
    assert wide.source.shape == (5, S + 2) and wide.target_out.shape == (5, T + 3)
    assert wide.target_tokens == batch.target_tokens == wide.target_mask.sum()
    assert torch.equal(wide.links[:, :N], batch.links) and wide.links[:, N:].tolist() == [[0]] * 4


def test_padding_never_cuts(pairs):
    batch = pairs.batch([5, 0, 17])
    same = batch.padded(1, 1, 1)
    assert all(torch.equal(same.tensors[name], tensor) for name, tensor in batch.tensors.items())


def test_a_batch_is_overwritten_by_another(pairs):
    one, other = pairs.batch([5, 0]).padded(3, 90, 90), pairs.batch([1, 2]).padded(3, 90, 90)
    kept = one.source.data_ptr()
    one.copy_(other)
    assert all(torch.equal(one.tensors[name], tensor) for name, tensor in other.tensors.items())
    assert one.source.data_ptr() == kept


def test_flat_sequences_select_and_concatenate(lists):
    flat = FlatSequences.from_lists(lists[0])
    assert [flat[i] for i in range(50)] == lists[0][:50]
    chosen = flat.select(np.array([3, 3, 0]))
    assert [chosen[i] for i in range(3)] == [lists[0][3], lists[0][3], lists[0][0]]
    joined = FlatSequences.concatenate([chosen, FlatSequences.from_lists([]), FlatSequences.from_lists([[], [9]])])
    assert [joined[i] for i in range(len(joined))] == [lists[0][3], lists[0][3], lists[0][0], [], [9]]
    assert len(FlatSequences.concatenate([])) == 0


def test_a_large_selection_is_made_in_parts(lists, monkeypatch):
    monkeypatch.setattr("nmt.data.batches._CHUNK", 3)
    chosen = FlatSequences.from_lists(lists[0]).select(np.arange(10, 0, -1))
    assert [chosen[i] for i in range(len(chosen))] == lists[0][10:0:-1]
    assert len(chosen.select(np.zeros(0, np.int64))) == 0


def test_selected_pairs(lists, pairs):
    chosen = pairs.select([10, 4])
    assert len(chosen) == 2
    assert (chosen.source[1], chosen.target[1]) == (lists[0][4], lists[1][4])
    assert [lengths.tolist() for lengths in chosen.lengths] == [[len(s[10]), len(s[4])] for s in lists]


def test_unequal_sides_are_refused():
    with pytest.raises(DataError, match="2 source and 1 target"):
        EncodedPairs.from_lists([[4], [5]], [[4]])
    with pytest.raises(DataError, match="2 source and 1 target"):
        filter_pairs([[4], [5]], [[4]], max_length=9, max_ratio=2.0)


def test_encode_sources():
    source, lengths = encode_sources([[7, 8], [], [9]])
    assert source.tolist() == [[7, 8, EOS], [EOS, PAD, PAD], [9, EOS, PAD]]
    assert lengths.tolist() == [3, 1, 2]


def test_filter_counts_each_pair_once():
    sources = [[1] * 3, [], [1] * 11, [1] * 2, [1] * 10, [1] * 12]
    targets = [[1] * 3, [1], [1] * 9, [1] * 5, [1] * 4, [1]]
    kept, counts = filter_pairs(sources, targets, max_length=10, max_ratio=2.5)
    # 5 against 2 and 10 against 4 are exactly the ratio and stay
    assert kept.tolist() == [0, 3, 4]
    assert counts == {"empty": 1, "long": 2, "unequal": 0}
    kept, counts = filter_pairs(sources, targets, max_length=10, max_ratio=2.4)
    assert (kept.tolist(), counts["unequal"]) == ([0], 2)


def test_filter_takes_flat_sequences(lists, pairs):
    from_lists = filter_pairs(*lists, max_length=20, max_ratio=1.5)
    from_flat = filter_pairs(pairs.source, pairs.target, max_length=20, max_ratio=1.5)
    assert from_lists[0].tolist() == from_flat[0].tolist()
    assert from_lists[1] == from_flat[1]


def test_every_pair_exactly_once_and_within_limits(pairs):
    source_lengths, target_lengths = (lengths + 1 for lengths in pairs.lengths)
    for batch_tokens, batch_sentences, pool_batches in [(500, None, 7), (1000, 24, 3), (60, None, 100), (997, 1, 5)]:
        batches = TokenBatches(
            pairs, batch_tokens=batch_tokens, batch_sentences=batch_sentences, pool_batches=pool_batches, seed=3
        )
        plan = batches.plan(0)
        assert sorted(np.concatenate(plan).tolist()) == list(range(len(pairs)))
        for indices in plan:
            assert len(indices) * source_lengths[indices].max() <= batch_tokens
            assert len(indices) * target_lengths[indices].max() <= batch_tokens
            assert len(indices) <= (batch_sentences or len(pairs))


def test_a_pair_longer_than_a_batch_is_alone():
    pairs = EncodedPairs.from_lists([[4] * 3] * 5 + [[4] * 50], [[4] * 3] * 4 + [[4] * 90, [4] * 3])
    plan = TokenBatches(pairs, batch_tokens=20, seed=1).plan(0)
    assert sorted(len(indices) for indices in plan) == [1, 1, 4]
    assert {tuple(indices) for indices in plan if len(indices) == 1} == {(4,), (5,)}


def test_padding_is_a_few_percent(pairs):
    for batch_tokens in (1000, 2000):
        real = padded = batch_count = 0
        for batch in TokenBatches(pairs, batch_tokens=batch_tokens, seed=1).epoch(0):
            real += batch.target_tokens
            padded += batch.target_out.numel()
            batch_count += 1
        assert 1 - real / padded <= 0.06
        # full batches: as few as the padded positions need, and some for the ends of pools
        assert padded / (batch_count * batch_tokens) >= 0.8


def test_source_padding_is_small_too(pairs):
    batches = list(TokenBatches(pairs, batch_tokens=1000, seed=1).epoch(0))
    real = sum(int(b.source_lengths.sum()) + b.target_tokens for b in batches)
    padded = sum(b.source.numel() + b.target_out.numel() for b in batches)
    assert 1 - real / padded <= 0.08


def test_epochs_follow_from_seed_and_epoch(pairs):
    def epoch(number, seed=3, history=()):
        batches = TokenBatches(pairs, batch_tokens=500, seed=seed)
        for earlier in history:
            batches.plan(earlier)
        return [indices.tolist() for indices in batches.plan(number)]

    assert epoch(2) == epoch(2, history=(0, 5, 1))
    assert epoch(2) != epoch(3)
    assert epoch(2) != epoch(2, seed=4)


def test_batch_order_is_shuffled(pairs):
    widths = [b.target_out.shape[1] for b in TokenBatches(pairs, batch_tokens=500, pool_batches=1000).epoch(0)]
    assert len(widths) > 50
    rises = sum(first < second for first, second in zip(widths, widths[1:], strict=False))
    assert 0.25 < rises / len(widths) < 0.75


def test_an_epoch_can_be_entered_anywhere(pairs):
    batches = TokenBatches(pairs, batch_tokens=500, seed=1)
    whole = list(batches.epoch(1))
    assert len(whole) == batches.count(1)
    rest = list(TokenBatches(pairs, batch_tokens=500, seed=1).epoch(1, start=7))
    assert len(rest) == len(whole) - 7
    assert all(torch.equal(a.source, b.source) for a, b in zip(rest, whole[7:], strict=True))
    assert list(batches.epoch(1, start=len(whole))) == []


def test_pairs_can_be_encoded_anew_each_epoch(lists):
    sources, targets = (side[:200] for side in lists)
    asked = []

    def encode_epoch(epoch):
        asked.append(epoch)
        return EncodedPairs.from_lists([s * (epoch + 1) for s in sources], targets)

    base = EncodedPairs.from_lists(sources, targets)
    batches = TokenBatches(base, batch_tokens=500, seed=1, encode_epoch=encode_epoch)
    tokens = [sum(int(b.source_lengths.sum()) - len(b) for b in batches.epoch(epoch)) for epoch in (0, 1)]
    assert tokens[1] == 2 * tokens[0]
    assert batches.count(1) == len(batches.plan(1))
    assert asked == [0, 1]


@pytest.mark.parametrize("option", ["batch_tokens", "batch_sentences", "pool_batches"])
def test_limits_must_be_positive(pairs, option):
    with pytest.raises(ConfigError, match=f"training.{option}=0"):
        TokenBatches(pairs, **{"batch_tokens": 100, option: 0})


def test_a_negative_seed_is_refused(pairs):
    with pytest.raises(ConfigError, match="seed=-1"):
        TokenBatches(pairs, batch_tokens=100, seed=-1)


def test_no_pairs_is_an_error():
    with pytest.raises(DataError, match="no training pairs"):
        TokenBatches(EncodedPairs.from_lists([], []), batch_tokens=100)


def test_padding_is_the_share_of_positions_that_are_none(pairs):
    batches = TokenBatches(pairs, batch_tokens=90, pool_batches=3, seed=2)
    found = list(batches.epoch(1))
    real = sum(int(batch.source_lengths.sum() + batch.target_lengths.sum()) for batch in found)
    positions = sum(batch.source.numel() + batch.target_out.numel() for batch in found)
    assert batches.padding(1) == pytest.approx(1 - real / positions) and 0 < batches.padding(1) < 1
