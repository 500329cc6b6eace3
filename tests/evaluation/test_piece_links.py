from types import SimpleNamespace

import pytest
from reference import objectives

from nmt.data import CharacterTokenizer, WordTokenizer
from nmt.evaluation import Sentence, piece_links

CHARACTERS = CharacterTokenizer(list(" abcd"), byte_fallback=False)
WORDS = WordTokenizer([" (", ")", " dog", " a"], split_punctuation=True)


def links_of(source, target, links, *, tokenizers=(CHARACTERS, CHARACTERS)):
    pair = SimpleNamespace(source=tokenizers[0], target=tokenizers[1])
    sides = (
        Sentence(line, tokenizer.encode([line])[0])
        for line, tokenizer in zip((source, target), tokenizers, strict=True)
    )
    return piece_links(pair, *sides, links)


def word_of_each_character(line):
    """Of each character the number of its word; spaces are pieces too, and in none."""
    return [-1 if character == " " else line[:place].count(" ") for place, character in enumerate(line)]


@pytest.mark.parametrize("links", [[], [(0, 0)], [(0, 1), (2, 0), (2, 1)], [(1, 0), (1, 0)]])
def test_every_piece_of_a_word_with_every_piece_of_the_other(links):
    source, target = "ab c dab", "ba cd"
    expected = objectives.piece_links(links, word_of_each_character(source), word_of_each_character(target))
    assert links_of(source, target, links) == sorted(expected)
    assert bool(expected) == bool(links)


def test_a_word_of_several_pieces_some_of_them_unknown():
    # "(Foo)" is one word of pieces "(", unknown, ")"; "Bar" is unknown
    found = links_of("a (Foo) Bar", "dog a", [(1, 0), (2, 1)], tokenizers=(WORDS, WORDS))
    assert found == [(1, 0), (2, 0), (3, 0), (4, 1)]


def test_a_piece_across_words_is_linked_for_each():
    tokenizer = SimpleNamespace(surfaces=lambda ids: [b" a b", b" c"])
    pair = SimpleNamespace(source=tokenizer, target=tokenizer)
    side = Sentence("a b c", [5, 6])
    assert piece_links(pair, side, side, [(0, 2), (1, 2), (2, 0)]) == [(0, 1), (1, 0)]


def test_pieces_that_make_other_words_have_no_links():
    tokenizer = SimpleNamespace(surfaces=lambda ids: [b" a", b" c"])
    pair = SimpleNamespace(source=tokenizer, target=tokenizer)
    side = Sentence("a b c", [5, 6])
    assert piece_links(pair, side, side, [(2, 2)]) is None
    assert piece_links(pair, side._replace(line="a c"), side._replace(line="a c"), [(1, 1)]) == [(1, 1)]
