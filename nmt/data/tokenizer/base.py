"""What every tokenizer of one side can do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """Asks for a random segmentation that follows from these numbers alone.

    Attributes:
        seed: the run's seed.
        epoch: epoch, 0-based.
        pool: which part of the corpus is being encoded.
        side: 0 source, 1 target, so that equal lines on both sides are cut independently.
    """

    seed: int
    epoch: int
    pool: int = 0
    side: int = 0

    @property
    def number(self) -> int:
        """One 31-bit seed made of all."""
        entropy = np.random.SeedSequence([self.seed, self.epoch, self.pool, self.side])
        return int(entropy.generate_state(1)[0]) >> 1


class Vocabulary(ABC):
    """What ids stand for."""

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each id as something to read; spaces show as U+2581."""

    @abstractmethod
    def surfaces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the UTF-8 bytes that each id gives to the text; none for PAD, BOS and EOS, U+2047 for UNK."""

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence; bytes that are no UTF-8 (a model can produce them) show as U+FFFD."""
        return [b"".join(self.surfaces(ids)).decode("utf-8", errors="replace").strip(" ") for ids in sequences]


class Tokenizer(Vocabulary):
    """Turns lines into ids and back; ids 0 to 3 are PAD, UNK, BOS and EOS.

    Leading and trailing spaces are dropped and a run of spaces (U+0020) is one space; all other characters are kept,
    where the vocabulary has them.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids."""

    @property
    def sampling(self) -> float:
        """Strength of random segmentation in training; 0 where there is none."""
        return 0.0

    @abstractmethod
    def encode(self, lines: Sequence[str], *, sampler: Sampling | None = None) -> list[list[int]]:
        """Return the ids of each line, without BOS and EOS; segmented at random, where it can be, with ``sampler``."""

    def token(self, word: str) -> int | None:
        """Return the id of the piece that is this word of a line, alone; None where the vocabulary has none."""
        ids = self.encode([word])[0]
        return ids[0] if len(ids) == 1 and self.surfaces(ids)[0].strip() == word.encode() else None

    @abstractmethod
    def unknown(self, lines: Sequence[str]) -> list[list[str]]:
        """Return, for each line, the text that each of its UNK stands for, with the space before it."""

    @abstractmethod
    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write what the tokenizer needs as ``folder/name.*`` and return what ``load`` needs to know, as plain JSON."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Read what ``save`` wrote; any error of reading passes through."""
