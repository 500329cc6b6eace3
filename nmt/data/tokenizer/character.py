"""Characters as units of text."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

from nmt.data.tokenizer.base import Tokenizer
from nmt.data.tokenizer.table import TableTokenizer, frequent
from nmt.data.tokenizer.trainer import TokenizerTrainer, require
from nmt.data.vocabulary import SPECIAL_PIECES
from nmt.errors import DataError


@final
class CharacterTokenizer(TableTokenizer):
    """Code points, the space among them; longer tokens of the table are words that stay whole."""

    def __init__(self, tokens: Sequence[str], *, byte_fallback: bool) -> None:
        """Number ``tokens``."""
        super().__init__(tokens, byte_fallback=byte_fallback)
        self._whole = frozenset(token for token in tokens if len(token) > 1)

    def split(self, line: str) -> list[str]:
        """Return the characters of a line, and its whole words."""
        return split_line(line, self._whole)


def split_line(line: str, whole: Collection[str] = ()) -> list[str]:
    """Return the characters of a line without spaces around it and with one space for a run of them.

    Args:
        line: the line.
        whole: words that are kept as one part.
    """
    parts: list[str] = []
    for word in line.split(" "):
        if word:
            parts += [" ", *([word] if word in whole else word)]
    return parts[1:]


@final
@dataclass(frozen=True)
class CharacterTrainer(TokenizerTrainer):
    """Collects the most frequent characters.

    Attributes:
        minimum_count: rarer characters are unknown.
        byte_fallback: an unknown character is spelled in UTF-8 bytes; false: it is UNK.
    """

    minimum_count: int
    byte_fallback: bool

    def __post_init__(self) -> None:
        least = self._reserved + 1
        require(self.vocabulary_size >= least, "vocabulary_size", self.vocabulary_size, f"at least {least}")
        require(self.minimum_count >= 1, "minimum_count", self.minimum_count, "at least 1")

    @property
    def _reserved(self) -> int:
        return len(SPECIAL_PIECES) + (256 if self.byte_fallback else 0)

    def train_one(self, lines: Iterable[str]) -> Tokenizer:
        """Count the characters of ``lines``."""
        limit = self.vocabulary_size - self._reserved
        whole = () if self.separator is None else (self.separator,)
        tokens = frequent(lines, partial(split_line, whole=whole), limit=limit, minimum_count=self.minimum_count)
        if not tokens:
            count = self.minimum_count
            raise DataError(f"no character of the training text occurs tokenizer.minimum_count={count} times")
        return CharacterTokenizer(tokens, byte_fallback=self.byte_fallback)
