"""Which target token each source token is a copy of, in words, pieces and characters, and what copies look like."""

import dataclasses

import pytest
from reference import objectives

from nmt.data import BOS, EOS, PAD, UNK
from nmt.data.batches import EncodedPairs, FlatSequences
from nmt.data.tokenizer import (
    CharacterTrainer,
    SentencePieceTrainer,
    WordTrainer,
    first_without_copy,
    line_surfaces,
)
from nmt.data.tokenizer import copies as module

KNOWN = ["the dog sees a cat .", "a dog ( a cat ) and Anna", "„ Anna and the dog ! 12"] * 3
TRANSLATED = ["der Hund sieht die Katze .", "Anna und ein Hund ( Katze )", "„ Anna und der Hund ! 12"] * 3
SOURCES = [
    "Zorro sees Anna and Zorro and Xu .",
    "",
    "the dog ( Xu ) sees Xu",
    "a cat and a cat",
    "Xu Zorro (Zorro) 77 , 77",
    "Anna",
]
TARGETS = [
    "Xu sieht Zorro und Anna .",
    "nichts",
    "der Hund (Xu) Xu",
    "eine Katze Xu",
    "Zorro Xu 77, (Zorro)",
    "Anna cat",
]
WORDS = WordTrainer(vocabulary_size=100, minimum_count=1, joint=True, split_punctuation=True)
PIECES = SentencePieceTrainer(
    model_type="unigram", vocabulary_size=40, joint=True, byte_fallback=False, sampling=0.0, character_coverage=1.0,
    threads=1,
)  # fmt: skip
TRAINERS = {
    "word": WORDS,
    "plain_word": dataclasses.replace(WORDS, split_punctuation=False),
    "unigram": PIECES,
    "spelled": dataclasses.replace(PIECES, byte_fallback=True, vocabulary_size=300),
    "char": CharacterTrainer(vocabulary_size=100, minimum_count=1, joint=True, byte_fallback=False),
}


@pytest.fixture(scope="module", params=[(name, joint) for name in TRAINERS for joint in (True, False)], ids=str)
def tokenizers(request):
    name, joint = request.param
    return dataclasses.replace(TRAINERS[name], joint=joint).train(KNOWN, TRANSLATED, cache=None)


def texts(tokenizer, line):
    """The pieces of a line, unknown ones as they stand there."""
    tokens = tokenizer.encode([line])[0]
    shown = tokenizer.pieces(tokens)
    surfaces = [
        surface.decode(errors="replace").replace(" ", "▁") for surface in line_surfaces(tokenizer, line, tokens)
    ]
    return [surface if token == UNK else piece for token, piece, surface in zip(tokens, shown, surfaces, strict=True)]


def vocabulary(tokenizer):
    pieces = tokenizer.pieces(range(tokenizer.size))
    return {piece: index for index, piece in enumerate(pieces) if index not in (PAD, UNK, BOS, EOS)}


def expected_target(tokenizers, source, target):
    """An unknown target token that the source has is the first of its pieces there."""
    pieces, V = texts(tokenizers.source, source), tokenizers.target.size  # noqa: N806
    tokens, shown = tokenizers.target.encode([target])[0], texts(tokenizers.target, target)
    return [
        V + pieces.index(piece) if token == UNK and piece in pieces else token
        for token, piece in zip(tokens, shown, strict=True)
    ]


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_copies_equal_the_reference(tokenizers, chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    pairs = tokenizers.encode_pairs(SOURCES, TARGETS, copies=True)
    plain = tokenizers.encode_pairs(SOURCES, TARGETS)
    known, size = vocabulary(tokenizers.target), tokenizers.target.size
    assert plain.copies is None
    for n, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        reference = objectives.copy_ids(texts(tokenizers.source, source), known, size, EOS)
        assert [*pairs.copies[n], EOS] == reference
        assert pairs.source[n] == plain.source[n]
        assert pairs.target[n] == expected_target(tokenizers, source, target)
    flat = tokenizers.copies.of_sources(SOURCES, plain.source)
    assert [flat[n] for n in range(len(flat))] == [pairs.copies[n] for n in range(len(flat))]


def test_chosen_lines_have_their_own_copies(tokenizers):
    every, chosen = tokenizers.encode_pairs(SOURCES, TARGETS, copies=True), [4, 0, 2]
    some = tokenizers.encode_pairs(SOURCES, TARGETS, indices=chosen, copies=True)
    picked = every.select(chosen)
    for one, other in ((some.copies, picked.copies), (some.target, picked.target), (some.source, picked.source)):
        assert [one[n] for n in range(3)] == [other[n] for n in range(3)]


def test_words_by_hand():
    tokenizers = WORDS.train(KNOWN, TRANSLATED, cache=None)
    pairs, V = tokenizers.encode_pairs(SOURCES, TARGETS, copies=True), tokenizers.target.size  # noqa: N806
    # Zorro sees Anna and Zorro and Xu . -> Xu sieht Zorro und Anna .
    known = tokenizers.source.encode(["sees Anna and"])[0]
    assert [pairs.copies[0][n] for n in (0, 1, 2, 3, 4, 6)] == [V, *known, V, V + 6]
    assert [pairs.target[0][n] for n in (0, 2)] == [V + 6, V]
    # "(Xu)" has a Xu without the space, which the source has not
    assert pairs.target[2][2:] == [*tokenizers.target.encode(["("])[0], UNK, UNK, V + 3]


def test_batches_hold_copies_and_padding():
    pairs = WORDS.train(KNOWN, TRANSLATED, cache=None).encode_pairs(SOURCES, TARGETS, copies=True)
    batch = pairs.batch([1, 0])
    assert batch.copies.tolist() == [[EOS, *[PAD] * 8], [*pairs.copies[0], EOS]]
    assert batch.target_in[1].tolist() == [BOS, *pairs.target[0]]
    assert batch.target_out[1].tolist() == [*pairs.target[0], EOS]


def test_copies_read_as_they_stand_in_the_source(tokenizers):
    size = tokenizers.target.size
    for line in SOURCES:
        tokens = tokenizers.source.encode([line])[0]
        copied = [size + place for place in range(len(tokens))]
        reader = tokenizers.copies.vocabulary(line, tokens)
        assert reader.decode([copied, []]) == [line, ""]
        assert reader.pieces(copied) == texts(tokenizers.source, line)
        assert [len(each) for each in (reader.pieces(copied), reader.surfaces(copied))] == [len(tokens)] * 2


def test_copies_stand_among_known_words():
    tokenizers = WORDS.train(KNOWN, TRANSLATED, cache=None)
    line, size = "Anna sees O'Neill (Xu).", tokenizers.target.size
    tokens = tokenizers.source.encode([line])[0]
    reader = tokenizers.copies.vocabulary(line, tokens)
    hund, sieht, dot = (tokenizers.target.encode([word])[0] for word in ("Hund", "sieht", "Hund."))
    places = [size + tokenizers.source.pieces(tokens).index("<unk>")]
    assert reader.decode([[*places, *sieht, *hund, dot[-1]], [UNK, *places]]) == ["O sieht Hund ⁇", "⁇ O"]
    assert reader.decode([[size + n for n in range(2, 5)]]) == ["O'Neill"]


def test_first_without_copy():
    def pairs(targets, copies):
        lists = [[4] * len(each) for each in copies]
        return EncodedPairs(*map(FlatSequences.from_lists, (lists, targets, copies)))

    assert first_without_copy(pairs([], [])) is None
    assert first_without_copy(pairs([[7, 9], [], [30]], [[9, 7], [4], [5, 30]])) is None
    # what another line has is no copy
    assert first_without_copy(pairs([[7, 9], [7, 30, 7]], [[9, 7, 30], [7, 5]])) == (1, 1)
    assert first_without_copy(pairs([[7], [], [8, 8]], [[7], [], []])) == (2, 0)
