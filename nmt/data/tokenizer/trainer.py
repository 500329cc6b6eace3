"""Trains tokenizers on the training split and keeps them in a cache."""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from nmt.data.tokenizer.base import Tokenizer
from nmt.data.tokenizer.pair import TokenizerPair
from nmt.errors import ConfigError, RunError

log = logging.getLogger(__name__)

# of a larger corpus so many lines a side are used, evenly spaced: more change a vocabulary little
MAX_TRAINING_LINES = 1_000_000


@dataclasses.dataclass(frozen=True)
class TokenizerTrainer(ABC):
    """Makes the tokenizers of a run; a subclass is a dataclass whose fields are its options.

    Attributes:
        vocabulary_size: at most this many ids a vocabulary, the special ones counted.
        joint: one vocabulary for both sides.
        separator: the word between the sentences of a line, if any; one piece where the training text has it.
    """

    vocabulary_size: int
    joint: bool
    separator: str | None = dataclasses.field(default=None, kw_only=True)

    @abstractmethod
    def train_one(self, lines: Iterable[str]) -> Tokenizer:
        """Train a tokenizer on ``lines``."""

    def version(self) -> str:
        """Name what the result depends on besides text and options."""
        return ""

    def train(self, sources: Sequence[str], targets: Sequence[str], *, cache: Path | None) -> TokenizerPair:
        """Train on both sides of the training split.

        Args:
            sources: source lines; of more than ``MAX_TRAINING_LINES``, so many evenly spaced ones are used.
            targets: target lines.
            cache: folder of trained tokenizers, one subfolder per text and options; None for no cache.

        Raises:
            ConfigError: an option does not fit the text.
            DataError: the text gives no vocabulary.
        """
        if cache is None:
            return self._train_pair(sources, targets)
        folder = cache / self.fingerprint(sources, targets)
        try:
            return TokenizerPair.load(folder)
        except RunError:
            pair = self._train_pair(sources, targets)
        _store(pair, folder)
        return pair

    def fingerprint(self, sources: Sequence[str], targets: Sequence[str]) -> str:
        """Return a hash of the text used, all options that matter to it and the version, 32 hexadecimal digits."""
        digest = hashlib.sha256()
        options = dataclasses.asdict(self)
        separator, separated = options.pop("separator"), False
        header = [type(self).__name__, options, self.version(), MAX_TRAINING_LINES]
        digest.update(json.dumps(header, sort_keys=True).encode())
        for lines in (sources, targets):
            digest.update(b"\0\n")
            for line in spaced_sample(lines, MAX_TRAINING_LINES):
                digest.update(line.encode() + b"\n")
                separated = separated or has_word(line, separator)
        if separated:
            digest.update(f"\0separator {separator}".encode())
        return digest.hexdigest()[:32]

    def _train_pair(self, sources: Sequence[str], targets: Sequence[str]) -> TokenizerPair:
        log.info("training the tokenizer on %d sentence pairs", min(len(sources), MAX_TRAINING_LINES))
        source_lines, target_lines = (spaced_sample(lines, MAX_TRAINING_LINES) for lines in (sources, targets))
        if self.joint:
            both = self.train_one(chain(source_lines, target_lines))
            return TokenizerPair(both, both)
        return TokenizerPair(self.train_one(source_lines), self.train_one(target_lines))


def has_word(line: str, word: str | None) -> bool:
    """Return whether ``word`` stands between spaces in a line; never where there is none."""
    # the first test is quick, and false for most lines
    return word is not None and word in line and word in line.split(" ")


def spaced_sample(lines: Sequence[str], limit: int) -> Iterator[str]:
    """Yield all lines, or ``limit`` evenly spaced ones of more than that."""
    count = min(len(lines), limit)
    for number in range(count):
        yield lines[number * len(lines) // count]


def require(accepted: bool, option: str, value: object, condition: str) -> None:
    """Raise a ``ConfigError`` unless a tokenizer's option is accepted."""
    if not accepted:
        raise ConfigError(f"tokenizer.{option}={value} is not accepted; it must be {condition}")


def _store(pair: TokenizerPair, folder: Path) -> None:
    """Write to the cache in one rename, so that nobody reads half of it; without a place to write, only warn."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
            fresh = Path(temporary) / folder.name
            fresh.mkdir()
            pair.save(fresh)
            # what stands there could not be read, or another run has just written the same
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(fresh, folder)
    except OSError as error:
        log.warning("the tokenizer could not be cached in %s: %s", folder, error)
