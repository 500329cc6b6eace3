"""Ids come from a cached file or from memory, are the same either way, and make the batches that plain lists make."""

import dataclasses
import logging
import os
import tracemalloc

import numpy as np
import pytest

from nmt.data import training_pairs as module
from nmt.data.batches import EncodedPairs, FlatSequences, TokenBatches, filter_pairs
from nmt.data.cache import new_file
from nmt.data.corpus import Corpus, ParallelText
from nmt.data.synthetic import SyntheticCorpus
from nmt.data.tokenizer import CharacterTrainer, SentencePieceTrainer, TokenizerPair, WordTrainer
from nmt.data.training_pairs import open_pairs

LIMITS = {"max_length": 45, "max_ratio": 1.3}
PIECES = SentencePieceTrainer(
    model_type="unigram", vocabulary_size=400, joint=True, byte_fallback=True, sampling=0.0, character_coverage=1.0,
    threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus():
    return SyntheticCorpus(train_sentences=700, valid_sentences=1, test_sentences=1, long_sentences=1).load()


@pytest.fixture(scope="module", params=[PIECES, dataclasses.replace(PIECES, joint=False)], ids=["joint", "two"])
def tokenizers(request, corpus):
    return request.param.train(corpus.train.sources, corpus.train.targets, cache=None)


@pytest.fixture
def opened(corpus, tokenizers, tmp_path, monkeypatch):
    """Open the pairs, a few lines at a time, with a cache of this test's own."""
    monkeypatch.setattr(module, "_LINES", 64)

    def open_them(**options):
        given = {"corpus": corpus, "tokenizers": tokenizers, **LIMITS, "cache": tmp_path / "cache"}
        return open_pairs(**{**given, **options})

    return open_them


@pytest.fixture
def plain(corpus, tokenizers):
    """Ids of the pairs within the limits, as lists, and their lines."""
    sides = [tokenizers.source.encode(corpus.train.sources), tokenizers.target.encode(corpus.train.targets)]
    kept, dropped = filter_pairs(*sides, **LIMITS)
    assert dropped["long"] and dropped["unequal"] and 200 < len(kept) < 690
    return [[side[line] for line in kept] for side in sides], kept, dropped


def check(found, plain):
    """Compare what was opened with lists."""
    sides, kept, dropped = plain
    for flat, lists in zip((found.pairs.source, found.pairs.target), sides, strict=True):
        assert [flat[index] for index in range(len(flat))] == lists
        assert (flat.ids.dtype, flat.offsets.dtype) == (np.int32, np.int64)
    assert found.kept.tolist() == kept.tolist() and found.kept.dtype == np.int32
    assert found.dropped == dropped


def encodings(caplog):
    """Return how many times ids were made, not found."""
    return sum("encoding 700 sentence pairs" in record.getMessage() for record in caplog.records)


def test_what_is_encoded_is_found_again(opened, plain, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    first, second = opened(), opened()
    assert encodings(caplog) == 1
    for found in (first, second):
        check(found, plain)
        # nothing can write into a file that others read, and so none of it is a copy in memory
        assert not found.pairs.source.ids.flags.writeable and not found.kept.flags.writeable
    (file,) = (tmp_path / "cache").iterdir()
    assert file.suffix == ".ids"


def plain_plan(batches, pairs, *, seed, epoch, batch_tokens, batch_sentences, pool_batches):
    """What `TokenBatches` plans, in one go over arrays of all pairs; only the cutting is the program's."""
    generator = np.random.default_rng([seed, epoch])
    source_lengths, target_lengths = (np.array([len(ids) + 1 for ids in side]) for side in pairs)
    order = generator.permutation(len(source_lengths))
    share = np.maximum(np.maximum(source_lengths, target_lengths) / batch_tokens, 1 / (batch_sentences or batch_tokens))
    pool = np.cumsum(share[order]) // pool_batches
    planned = []
    for number in np.unique(pool):
        indices = order[pool == number]
        target = np.floor(np.log(target_lengths[indices]) / np.log(1.1)).astype(int)
        source = source_lengths[indices] * np.where(target % 2, 1, -1)
        indices = indices[np.lexsort((source, target))]
        planned += batches._cut(indices, source_lengths[indices], target_lengths[indices])
    return [planned[number].tolist() for number in generator.permutation(len(planned))]


@pytest.mark.parametrize("chunk", [1, 37, 100_000])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_tokens": 100, "batch_sentences": None, "pool_batches": 1000},
        {"batch_tokens": 130, "batch_sentences": 7, "pool_batches": 3},
        # a pool that one pair fills, the first as well
        {"batch_tokens": 5, "batch_sentences": None, "pool_batches": 1},
    ],
    ids=["one pool", "pools", "small pools"],
)
def test_batches_are_those_of_plain_lists(opened, plain, monkeypatch, chunk, options):
    found, (sides, _, _) = opened().pairs, plain
    held = EncodedPairs.from_lists(*sides)
    monkeypatch.setattr("nmt.data.batches._CHUNK", chunk)
    for seed, epoch in [(1, 0), (1, 1), (7, 0)]:
        batches = TokenBatches(found, seed=seed, **options)
        expected = plain_plan(batches, sides, seed=seed, epoch=epoch, **options)
        assert [indices.tolist() for indices in batches.plan(epoch)] == expected
        assert batches.count(epoch) == len(expected)
        made = list(batches.epoch(epoch, 2))
        assert len(made) == len(expected) - 2
        for batch, indices in zip(made, expected[2:], strict=True):
            same = held.batch(indices)
            assert batch.target_tokens == same.target_tokens
            assert all(
                tensor.dtype == same.tensors[name].dtype and tensor.equal(same.tensors[name])
                for name, tensor in batch.tensors.items()
            )


def cut_off(content):
    return content[: len(content) // 2]


def changed(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def zeros(content):
    return bytes(len(content))


def miscounted(content):
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    "damage",
    [cut_off, changed, zeros, miscounted, lambda content: b"", lambda content: content[:16], lambda content: b"x" * 56],
)
def test_a_damaged_file_is_made_anew(opened, plain, caplog, tmp_path, damage):
    caplog.set_level(logging.INFO)
    before = opened()
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    # another file in its place, since the first is still mapped
    file.unlink()
    file.write_bytes(damage(content))
    check(opened(), plain)
    assert encodings(caplog) == 2 and any(record.levelname == "WARNING" for record in caplog.records)
    assert str(file) in caplog.text
    # the same file again, and nothing left of the writing
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [file.name] and file.read_bytes() == content
    check(before, plain)


def test_without_a_place_to_write_ids_are_held_in_memory(opened, plain, caplog, tmp_path):
    (tmp_path / "file").write_text("")
    check(opened(cache=tmp_path / "file"), plain)
    assert f"cannot be cached in {tmp_path / 'file'}" in caplog.text


def test_a_full_disk_leaves_nothing(opened, plain, caplog, tmp_path, monkeypatch):
    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    check(opened(), plain)
    assert "No space left on device" in caplog.text and not list((tmp_path / "cache").iterdir())


def test_what_ids_depend_on_has_a_file_of_its_own(opened, corpus, tokenizers, tmp_path):
    other = TokenizerPair(tokenizers.target, PIECES.train(["a b c d"], ["e f g h"], cache=None).target)
    variants = [
        {},
        {"max_length": 25},
        {"max_ratio": 1.6},
        {"tokenizers": other},
        {"corpus": dataclasses.replace(corpus, fingerprint="another")},
    ]
    counts = []
    for variant in [*variants, *variants]:
        opened(**variant)
        counts.append(len(list((tmp_path / "cache").iterdir())))
    assert counts == [1, 2, 3, 4, 5, 5, 5, 5, 5, 5]


def test_tokenizers_have_the_fingerprint_of_what_they_are(tmp_path):
    lines = ["a dog , a cat", "two dogs ."]
    trainers = [
        PIECES,
        dataclasses.replace(PIECES, joint=False),
        dataclasses.replace(PIECES, model_type="bpe"),
        WordTrainer(vocabulary_size=100, minimum_count=1, joint=True, split_punctuation=True),
        WordTrainer(vocabulary_size=100, minimum_count=1, joint=True, split_punctuation=False),
        CharacterTrainer(vocabulary_size=300, minimum_count=1, joint=True, byte_fallback=True),
        CharacterTrainer(vocabulary_size=300, minimum_count=1, joint=True, byte_fallback=False),
    ]
    found = []
    for number, trainer in enumerate(trainers):
        pair, folder = trainer.train(lines, lines, cache=None), tmp_path / str(number)
        folder.mkdir()
        pair.save(folder)
        found.append(pair.fingerprint())
        assert TokenizerPair.load(folder).fingerprint() == found[-1]
    assert len(set(found)) == len(trainers)


def test_a_text_of_which_no_pair_is_left(opened):
    for _ in range(2):
        found = opened(max_length=1)
        assert len(found.pairs) == len(found.kept) == 0 and found.dropped["long"] == 700


def peak(work):
    """Return the most bytes that Python and NumPy hold for ``work``, and what it returns."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LINES", 200)
    monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 14)
    monkeypatch.setattr("nmt.data.batches._CHUNK", 1000)
    lines = ["a dog sees two cats and a bird"] * 400
    tokenizers = WordTrainer(vocabulary_size=50, minimum_count=1, joint=True, split_punctuation=True).train(
        lines, lines, cache=None
    )
    peaks = {}
    for size in (400, 12_000):
        corpus = Corpus("x", True, "en", "de", ParallelText(lines[:1] * size, lines[:1] * size), None, None, str(size))
        peaks[size], found = peak(lambda corpus=corpus: open_pairs(corpus, tokenizers, **LIMITS, cache=tmp_path))
        assert len(found.pairs) == size
    # the lists of all would be 12,000 * 2 * 8 ids of 8 bytes, the ids half of that
    assert peaks[12_000] < peaks[400] + 100_000


def test_a_plan_takes_four_bytes_a_pair(monkeypatch):
    monkeypatch.setattr("nmt.data.batches._CHUNK", 1000)
    size = 200_000
    offsets = np.arange(size + 1, dtype=np.int64) * 9
    side = FlatSequences(np.full(9 * size, 7, np.int32), offsets)
    batches = TokenBatches(EncodedPairs(side, side), batch_tokens=1000, pool_batches=5)
    batches.plan(0)
    held, count = peak(lambda: batches.count(1))
    assert count > 1900 and held < 4 * size + 32 * count + 300_000
    assert peak(lambda: batches.padding(1))[0] < 100_000


def test_a_file_of_a_cache_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path, calls = tmp_path / "cache" / "file", []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *given, name=name, real=real: calls.append((name, path.exists())) or real(*given)
        )
    with new_file(path) as fresh:
        fresh.write_text("text")
    assert calls == [("fsync", False), ("replace", False)] and path.read_text() == "text"
    with pytest.raises(KeyError), new_file(path) as fresh:
        fresh.write_text("half")
        raise KeyError
    assert path.read_text() == "text" and list(path.parent.iterdir()) == [path]
