"""The tokenizers of both sides, as a run folder keeps them."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from nmt.data.batches import EncodedPairs, FlatSequences
from nmt.data.tokenizer.base import Sampling, Tokenizer
from nmt.data.tokenizer.copies import Copies
from nmt.errors import DataError, RunError

_FILE = "tokenizer.json"
# lines encoded at a time, so that only so many are ever held as Python lists; also the pools of sampled segmentation
_POOL_LINES = 10_000


@dataclass
class TokenizerPair:
    """The source's and the target's tokenizer; with a joint vocabulary they are one object."""

    source: Tokenizer
    target: Tokenizer

    @property
    def joint(self) -> bool:
        """Whether both sides share one vocabulary."""
        return self.source is self.target

    @property
    def sampling(self) -> bool:
        """Whether training segments anew in each epoch."""
        return self.source.sampling > 0 or self.target.sampling > 0

    @cached_property
    def copies(self) -> Copies:
        """Finds the source tokens that are copies of target tokens."""
        return Copies(self.source, self.target)

    def encode_pairs(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        *,
        indices: np.ndarray | Sequence[int] | None = None,
        sampler: Sampling | None = None,
        copies: bool = False,
    ) -> EncodedPairs:
        """Encode lines into flat arrays.

        Args:
            sources: source lines, in memory or not.
            targets: as many target lines.
            indices: the lines to encode, in this order; None for all.
            sampler: asks for a random segmentation; its ``pool`` and ``side`` are set here.
            copies: say what each source token is a copy of, too.
        """
        if len(sources) != len(targets):
            raise DataError(f"{len(sources)} source and {len(targets)} target lines are no pairs")
        indices = None if indices is None else np.asarray(indices)
        samplers = [None, None] if sampler is None else [replace(sampler, side=side) for side in (0, 1)]
        pairs = EncodedPairs(
            _encode(self.source, sources, indices, samplers[0]), _encode(self.target, targets, indices, samplers[1])
        )
        if not copies:
            return pairs
        return self.copies.of_pairs(sources, targets, pairs, np.arange(len(sources)) if indices is None else indices)

    def epoch_encoder(
        self, sources: Sequence[str], targets: Sequence[str], *, seed: int, indices: np.ndarray | None = None
    ) -> Callable[[int], EncodedPairs] | None:
        """Return what segments the lines anew for an epoch, from (seed, epoch) alone, for ``TokenBatches``.

        None where the segmentation is the same in every epoch.
        """
        if not self.sampling:
            return None
        return lambda epoch: self.encode_pairs(sources, targets, indices=indices, sampler=Sampling(seed, epoch))

    def save(self, folder: Path) -> None:
        """Write ``folder/tokenizer.*``: ``tokenizer.json`` says what the other files are."""
        if self.joint:
            sides = {"both": _save(self.source, folder, "tokenizer")}
        else:
            sides = {
                "source": _save(self.source, folder, "tokenizer.source"),
                "target": _save(self.target, folder, "tokenizer.target"),
            }
        (folder / _FILE).write_text(json.dumps(sides, indent=2) + "\n", encoding="utf-8")

    def fingerprint(self) -> str:
        """Return a hash of what ``save`` writes, on which ids depend, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder))
            for path in sorted(Path(folder).iterdir()):
                content = path.read_bytes()
                digest.update(f"{path.name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            RunError: a file is missing or cannot be read.
        """
        try:
            sides = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            if "both" in sides:
                both = _load(folder, sides["both"])
                return cls(both, both)
            return cls(_load(folder, sides["source"]), _load(folder, sides["target"]))
        except FileNotFoundError as error:
            raise RunError(f"{folder} has no tokenizer: {error.filename} is missing") from None
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise RunError(f"the tokenizer in {folder} cannot be read: {error}") from None


def _encode(
    tokenizer: Tokenizer, lines: Sequence[str], indices: np.ndarray | None, sampler: Sampling | None
) -> FlatSequences:
    """Encode the lines at ``indices`` (None: all) pool by pool."""
    parts = []
    for pool, start in enumerate(range(0, len(lines if indices is None else indices), _POOL_LINES)):
        several = slice(start, start + _POOL_LINES)
        # a slice of a corpus on disk is read at once, its lines one by one take several times as long
        chosen = list(lines[several]) if indices is None else [lines[int(index)] for index in indices[several]]
        pool_sampler = None if sampler is None else replace(sampler, pool=pool)
        parts.append(FlatSequences.from_lists(tokenizer.encode(chosen, sampler=pool_sampler)))
    return FlatSequences.concatenate(parts)


def _save(tokenizer: Tokenizer, folder: Path, name: str) -> dict[str, Any]:
    return {"class": type(tokenizer).__name__, **tokenizer.save(folder, name)}


def _load(folder: Path, description: dict[str, Any]) -> Tokenizer:
    name = description.pop("class")
    found = [kind for kind in _descendants(Tokenizer) if kind.__name__ == name]
    if not found:
        raise ValueError(f"{name} is no tokenizer of this version")
    return found[0].load(folder, description)


def _descendants(base: type[Tokenizer]) -> Iterator[type[Tokenizer]]:
    """Yield all subclasses; those of the package are there, since it imports them before anything in it can run."""
    for kind in base.__subclasses__():
        yield kind
        yield from _descendants(kind)
