"""Forced decoding: weights without padding, both shifts, words and links."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from nmt.data.batches import EncodedPairs
from nmt.data.corpus import GoldLinks
from nmt.data.tokenizer import CharacterTokenizer, WordTokenizer
from nmt.data.vocabulary import UNK
from nmt.errors import DataError
from nmt.evaluation import batching
from nmt.evaluation.alignment import Sentence, word_alignment
from nmt.evaluation.forced import _weights, align_lines, score_alignments


def forced_weights(model, pairs, batch_tokens):
    found = {
        index: weights
        for index, weights, _ in _weights(model, pairs, batch_tokens=batch_tokens, device="cpu", heads=False)
    }
    return [found[index] for index in range(len(pairs))]


def test_weights_are_those_of_each_pair_alone(model):
    sources = [[4, 5, 6], [7], [8, 9, 10, 11, 12, 4, 5], [6, 7]]
    targets = [[4], [5, 6, 7, 8, 9], [4, 5], [6, 7]]
    pairs = EncodedPairs.from_lists(sources, targets)
    together = forced_weights(model, pairs, batch_tokens=30)
    assert max(call.rows for call in model.calls) > 1
    for index, weights in enumerate(together):
        assert weights.shape == (len(targets[index]) + 1, len(sources[index]) + 1)
        (alone,) = forced_weights(model, pairs.select([index]), batch_tokens=30)
        # the fake model clamps at the padded width, so compare where both have a source position
        rows = len(sources[index]) + 1
        np.testing.assert_array_equal(weights[:rows], alone[:rows])


def test_model_is_evaluated_within_bounds_and_put_back(model):
    model.train()
    forced_weights(model, EncodedPairs.from_lists([[4, 5]] * 9, [[6]] * 9), batch_tokens=9)
    assert [call.rows for call in model.calls] == [3, 3, 3]
    assert all(call.inference and not call.training for call in model.calls)
    assert model.training


def test_long_pairs_make_smaller_batches(model, monkeypatch):
    monkeypatch.setattr(batching, "_GRID", 50)
    forced_weights(model, EncodedPairs.from_lists([[4]] * 4, [[6] * 4] * 4), batch_tokens=1000)
    assert [call.rows for call in model.calls] == [2, 2]


def test_links_at_both_shifts(model, tokenizers):
    unshifted, shifted = align_lines(model, tokenizers, ["w1 w2 w3"], ["w4 w5 w6"], batch_tokens=100, device="cpu")
    # step t attends to position t; shifted, the row of step t + 1 is word t's, and EOS is dropped, not renormalised
    assert unshifted[0].links == [(0, 0), (1, 1), (2, 2)]
    assert shifted[0].links == [(1, 0), (2, 1), (2, 2)]
    np.testing.assert_allclose(unshifted[0].weights, [[1, 0, 0], [0.25, 0.75, 0], [0, 0.25, 0.75]])
    np.testing.assert_allclose(shifted[0].weights, [[0.25, 0.75, 0], [0, 0.25, 0.75], [0, 0, 0.25]])


def test_pieces_become_words(model, tokenizers):
    aligned = align_lines(model, tokenizers, ["w1-w2 w3"], ["w4 w5-w6"], batch_tokens=100, device="cpu")
    assert aligned[0][0].source_words == ["w1-w2", "w3"]
    assert aligned[0][0].target_words == ["w4", "w5-w6"]
    # pieces 1 and 2 of the target: mean of rows (0.25, 0.75 | 0) and (0, 0.25 | 0.75)
    np.testing.assert_allclose(aligned[0][0].weights, [[1, 0], [(1 + 0.25) / 2, 0.75 / 2]])
    assert aligned[0][0].links == [(0, 0), (0, 1)]
    # shifted on pieces, before merging: rows (0.25, 0.75 | 0) and mean of (0, 0.25 | 0.75) and (0, 0 | 0.25)
    np.testing.assert_allclose(aligned[1][0].weights, [[1, 0], [0.25 / 2, (0.75 + 0.25) / 2]])
    assert aligned[1][0].links == [(0, 0), (1, 1)]


def test_order_and_empty_sides(model, tokenizers):
    sources = ["w1", "", "w1 w2 w3 w4", "w5 w6", "  "]
    targets = ["w2", "w3", "w4 w5 w6 w7", "", ""]
    for aligned in align_lines(model, tokenizers, sources, targets, batch_tokens=100, device="cpu"):
        assert [pair.source_words for pair in aligned] == [line.split() for line in sources]
        assert [pair.target_words for pair in aligned] == [line.split() for line in targets]
        assert [pair.weights.shape for pair in aligned] == [(1, 1), (1, 0), (4, 4), (0, 2), (0, 0)]
        assert [pair.links for pair in aligned if not all((pair.source_words, pair.target_words))] == [[]] * 3
    assert sum(call.rows for call in model.calls) == 2


def test_alignments_are_scored_at_both_shifts(model, tokenizers):
    aligned = align_lines(model, tokenizers, ["w1 w2 w3"], ["w4 w5 w6"], batch_tokens=100, device="cpu")
    links = frozenset({(1, 0), (2, 1)})
    # shifted links are (1, 0), (2, 1), (2, 2); of the unshifted ones none is gold; the oracle misses only in word 2
    assert score_alignments(aligned, [GoldLinks(links, links)]) == pytest.approx((1, 1 - 4 / 5, 1 - 4 / 5))


def test_unequal_counts(model, tokenizers):
    with pytest.raises(DataError, match="1 source and 2 target lines are no pairs"):
        align_lines(model, tokenizers, ["w1"], ["w1", "w2"], batch_tokens=10, device="cpu")


def test_words_that_do_not_fit_the_line_are_told(tokenizers, caplog):
    weights = np.eye(3, dtype=np.float32)
    side = Sentence("w1 w2", tokenizers.source.encode(["w1 w2"])[0])
    with caplog.at_level(logging.WARNING):
        word_alignment(tokenizers, side, side, weights, shift=0)
        assert not caplog.records
        word_alignment(tokenizers, side, side._replace(line="w1 w2 w3"), weights, shift=0)
    assert "2 words where the line has 3" in caplog.text


def test_words_are_the_lines_own(tokenizers):
    side = Sentence("w1 w2", tokenizers.source.encode(["w1 w2"])[0])
    aligned = word_alignment(tokenizers, side._replace(line="neu w2"), side, np.eye(3, dtype=np.float32), shift=0)
    assert aligned.source_words == ["neu", "w2"]
    assert aligned.target_words == ["w1", "w2"]


def _aligned_words(tokenizer, line, pieces):
    """Return the words of ``line`` that each of its pieces is merged into, told by one-hot weights."""
    (tokens,) = tokenizer.encode([line])
    assert len(tokens) == pieces
    pair = SimpleNamespace(source=tokenizer, target=tokenizer)
    side = Sentence(line, tokens)
    aligned = word_alignment(pair, side, side, np.eye(pieces + 1, dtype=np.float32), shift=0)
    return aligned.source_words, aligned.links, (aligned.weights > 0).sum()


def test_unknown_words_keep_their_place(caplog):
    tokenizer = WordTokenizer([" (", ")", " dog", " a"], split_punctuation=True)
    # "(Foo)" is one word of pieces "(", unknown, ")"; "Bar" and "Baz" are two neighbouring unknown pieces
    words, links, _ = _aligned_words(tokenizer, "a  (Foo) Bar Baz dog", 7)
    assert words == ["a", "(Foo)", "Bar", "Baz", "dog"]
    assert links == [(n, n) for n in range(5)]
    assert not caplog.records


def test_unknown_characters_keep_their_place(caplog):
    tokenizer = CharacterTokenizer(list(" abc"), byte_fallback=False)
    tokenizer_words, _, _ = _aligned_words(tokenizer, "a\tb", 3)
    assert tokenizer_words == ["a", "b"]
    words, links, filled = _aligned_words(tokenizer, "xyab 我c", 7)
    assert words == ["xyab", "我", "c"]
    assert links == [(0, 0), (1, 1), (2, 2)]
    assert filled == 3
    assert not caplog.records


def test_an_unknown_piece_may_end_in_white_space():
    tokenizer = SimpleNamespace(surfaces=lambda ids: [b" ta", " \u2047 ".encode(), b"here"])
    side = Sentence("tab\there", [4, UNK, 5])
    pair = SimpleNamespace(source=tokenizer, target=tokenizer)
    aligned = word_alignment(pair, side, side, np.eye(4, dtype=np.float32), shift=0)
    assert aligned.source_words == ["tab", "here"]
    np.testing.assert_allclose(aligned.weights, np.eye(2))
