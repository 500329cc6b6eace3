"""Words as units of text, with a cut-off."""

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, final

from nmt.data.tokenizer.base import Tokenizer
from nmt.data.tokenizer.table import TableTokenizer, frequent
from nmt.data.tokenizer.trainer import TokenizerTrainer, require
from nmt.data.vocabulary import SPECIAL_PIECES
from nmt.data.words import split_words
from nmt.errors import DataError


@final
class WordTokenizer(TableTokenizer):
    """Words; one that the vocabulary does not have is UNK.

    A token carries the space before it, so `` dog`` and ``dog`` (after a bracket, say) are two tokens and the text
    comes back as it was. A character of a script without spaces is a word of its own. What the table has as a whole
    between spaces, such as a separator ``<sep>``, is not cut.
    """

    unknown_surface = " \u2047"

    def __init__(self, tokens: Sequence[str], *, split_punctuation: bool) -> None:
        """Number ``tokens``; see ``WordTrainer`` for ``split_punctuation``."""
        super().__init__(tokens, byte_fallback=False)
        self._split_punctuation = split_punctuation

    def split(self, line: str) -> list[str]:
        """Return the words of a line."""
        return split_line(line, self._split_punctuation, self._ids)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the table as a JSON list."""
        return {"file": super().save(folder, name)["file"], "split_punctuation": self._split_punctuation}


def split_line(line: str, split_punctuation: bool, whole: Collection[str] = ()) -> list[str]:
    """Return the words of a line, each with the space before it.

    Args:
        line: the line.
        split_punctuation: cut off punctuation marks and symbols.
        whole: words, each with a space before it, that are not cut.
    """
    words = [f" {word}" for word in line.split(" ") if word]
    if not split_punctuation:
        return words
    return [part for word in words for part in ((word,) if word in whole else _split_token(word[1:]))]


@lru_cache(maxsize=1 << 16)
def _split_token(token: str) -> tuple[str, ...]:
    """Cut a token without spaces into words and single punctuation marks and symbols; the first gets a space before."""
    parts = []
    for wordlike, characters in groupby(token, key=_is_wordlike):
        run = "".join(characters)
        parts += (split_words(run) or [run]) if wordlike else list(run)
    return (f" {parts[0]}", *parts[1:])


def _is_wordlike(character: str) -> bool:
    """Tell letters, combining marks, digits and the joiners between them from all else."""
    return unicodedata.category(character)[0] in "LMN" or character in "\u200c\u200d_"


@final
@dataclass(frozen=True)
class WordTrainer(TokenizerTrainer):
    """Collects the most frequent words.

    Attributes:
        minimum_count: rarer words are unknown.
        split_punctuation: punctuation marks and symbols are words of their own. False: words are what spaces separate,
            for text that is tokenised already.
    """

    minimum_count: int
    split_punctuation: bool

    def __post_init__(self) -> None:
        require(self.vocabulary_size > len(SPECIAL_PIECES), "vocabulary_size", self.vocabulary_size, "at least 5")
        require(self.minimum_count >= 1, "minimum_count", self.minimum_count, "at least 1")

    def train_one(self, lines: Iterable[str]) -> Tokenizer:
        """Count the words of ``lines``."""
        whole = () if self.separator is None else (f" {self.separator}",)
        tokens = frequent(
            lines,
            lambda line: split_line(line, self.split_punctuation, whole),
            limit=self.vocabulary_size - len(SPECIAL_PIECES),
            minimum_count=self.minimum_count,
        )
        if not tokens:
            raise DataError(f"no word of the training text occurs tokenizer.minimum_count={self.minimum_count} times")
        return WordTokenizer(tokens, split_punctuation=self.split_punctuation)
