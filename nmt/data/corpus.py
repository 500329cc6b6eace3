"""What a parallel corpus is, whichever way it comes: aligned lines, gold word links where there are any, languages."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nmt.data.words import split_words
from nmt.errors import ConfigError

Link = tuple[int, int]
"""A word link: (source word, target word), 0-based."""


@dataclass(frozen=True)
class GoldLinks:
    """Gold word links of one sentence pair.

    Attributes:
        sure: links that an annotator was sure of.
        possible: all links, the sure ones included.
    """

    sure: frozenset[Link]
    possible: frozenset[Link]

    def __post_init__(self) -> None:
        assert self.sure <= self.possible, "every sure link is a possible link"

    def flipped(self) -> "GoldLinks":
        """Return the links of the opposite direction: (j, i) for every (i, j)."""
        return GoldLinks(_flipped(self.sure), _flipped(self.possible))


@dataclass(frozen=True)
class ParallelText:
    """Sentence pairs; line i of ``sources`` is translated by line i of ``targets``.

    The sequences may be views of a file on disk: index, slice and iterate them rather than copy them.

    Attributes:
        sources: source lines, raw.
        targets: target lines, raw; as many.
        links: gold word links of each pair, or None where the corpus has none.
    """

    sources: Sequence[str]
    targets: Sequence[str]
    links: Sequence[GoldLinks] | None = None

    def __post_init__(self) -> None:
        assert len(self.sources) == len(self.targets), f"{len(self.sources)} sources, {len(self.targets)} targets"
        assert self.links is None or len(self.links) == len(self.sources), "one set of links a pair"

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.sources)


@dataclass(frozen=True)
class Corpus:
    """The splits of a corpus in one direction.

    Attributes:
        name: what reports call it.
        synthetic: whether a program generated it.
        source_language: ISO 639-1 code where there is one.
        target_language: ISO 639-1 code where there is one.
        train: training pairs.
        valid: validation pairs, or None.
        test: test pairs, or None.
        extra: further test material by name (the built-in corpus has ``valid_long`` and ``test_long``).
        fingerprint: hexadecimal hash of the text and the direction; two corpora with the same one are the same.
        cache: folder where the text is cached, or None; what is made of the text may be kept there, too.
    """

    name: str
    synthetic: bool
    source_language: str
    target_language: str
    train: ParallelText
    valid: ParallelText | None
    test: ParallelText | None
    fingerprint: str
    extra: Mapping[str, ParallelText] = field(default_factory=dict)
    cache: Path | None = None


class CorpusSource(ABC):
    """Where a corpus comes from. A file of ``configs/data`` names a subclass by ``_target_``."""

    @abstractmethod
    def load(self) -> Corpus:
        """Return the corpus, read, downloaded or generated.

        Raises:
            DataError: the corpus cannot be had; the sentence says what would do.
        """


def checked_separator(separator: str) -> str:
    """Return the word between the sentences of a source line.

    Raises:
        ConfigError: it is not one word.
    """
    if split_words(separator) != [separator]:
        raise ConfigError(f"data.sentence_separator={separator!r} is not accepted; it must be one word, without spaces")
    return separator


def _flipped(links: frozenset[Link]) -> frozenset[Link]:
    """Return the pairs turned round."""
    return frozenset((target, source) for source, target in links)
