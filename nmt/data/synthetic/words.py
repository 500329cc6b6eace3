"""Words that know their links while a sentence is made, and how they become two lines and a set of links."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nmt.data.corpus import Link

COMMA, SEMICOLON = ",", ";"
MARKS = COMMA + SEMICOLON


class English:
    """An English word; its position is known once the sentence is complete."""

    __slots__ = ("position", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = -1


class German:
    """A German word and the English words that it surely or possibly translates."""

    __slots__ = ("possible", "sure", "text")

    def __init__(self, text: str, sure: Iterable[English] = (), possible: Iterable[English] = ()) -> None:
        self.text = text
        self.sure = tuple(sure)
        self.possible = tuple(possible)


class Phrase(NamedTuple):
    """A phrase in both languages; ``tail`` is a German relative clause at its end that may still move further right."""

    english: Sequence[English]
    german: Sequence[German]
    tail: Sequence[German] = ()

    def whole(self) -> list[German]:
        """Return the German words with the relative clause left in place."""
        return [*self.german, *self.tail]


class Pair(NamedTuple):
    """A finished sentence pair; links are (English word, German word), 0-based, ``possible`` contains ``sure``.

    The words stand as inside a sentence, each with the mark after it: no capital at the start, no full stop.
    """

    english_words: tuple[str, ...]
    german_words: tuple[str, ...]
    sure: frozenset[Link]
    possible: frozenset[Link]

    @property
    def english(self) -> str:
        """The English sentence."""
        return as_sentence(self.english_words)

    @property
    def german(self) -> str:
        """The German sentence."""
        return as_sentence(self.german_words)


def english_comma() -> English:
    """Return a comma; it is written at the word before it and is no word of its own."""
    return English(COMMA)


def german_comma() -> German:
    """Return a comma; those at the start, before another mark or at the end of a sentence vanish."""
    return German(COMMA)


def finish(english: Sequence[English], german: Sequence[German]) -> Pair:
    """Write the marks at the words before them and collect the links."""
    source = _place(english)
    target: list[str] = []
    sure: list[Link] = []
    possible: list[Link] = []
    for word in german:
        if word.text in MARKS:
            _punctuate(target, word.text)
            continue
        place = len(target)
        target.append(word.text)
        sure += [(linked.position, place) for linked in word.sure]
        possible += [(linked.position, place) for linked in word.possible]
    return Pair(tuple(source), tuple(target), frozenset(sure), frozenset(sure + possible))


def _place(english: Sequence[English]) -> list[str]:
    """Give the English words their positions and return them as text."""
    texts: list[str] = []
    for word in english:
        if word.text in MARKS:
            _punctuate(texts, word.text)
        else:
            word.position = len(texts)
            texts.append(word.text)
    return texts


def _punctuate(texts: list[str], mark: str) -> None:
    if texts:
        texts[-1] = texts[-1].rstrip(MARKS) + (SEMICOLON if texts[-1].endswith(SEMICOLON) else mark)


def as_sentence(words: Sequence[str]) -> str:
    """Return the words as text with a capital and a full stop."""
    line = " ".join(words).rstrip(MARKS)
    return line[0].upper() + line[1:] + "."
