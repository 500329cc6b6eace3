"""The ids of the pairs to train on in a cached file: encoded once, then mapped into memory, never held in it whole."""

import hashlib
import logging
import tempfile
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from nmt.data.batches import EncodedPairs, FlatSequences, filter_pairs
from nmt.data.cache import new_file
from nmt.data.corpus import Corpus, ParallelText
from nmt.data.tokenizer import TokenizerPair

log = logging.getLogger(__name__)

# Part of the key under which ids are cached: raised when the file, or what tokenizers make of a line, changes.
_VERSION = 1
# lines encoded at a time
_LINES = 10_000
_BLOCK_BYTES = 1 << 20
_DROPPED = ("empty", "long", "unequal")
# numbers of pairs, source ids, target ids and pairs dropped for each reason, and the checksum, each int64
_HEADER_BYTES = 8 * (3 + len(_DROPPED) + 1)


@dataclass(frozen=True)
class TrainingPairs:
    """The pairs of a text that are worth training on.

    Attributes:
        pairs: their ids; mapped from a file, unless that could not be written.
        kept: [len(pairs)] int32, the line of each, ascending.
        dropped: how many there are not, as ``filter_pairs`` counts them.
    """

    pairs: EncodedPairs
    kept: np.ndarray
    dropped: dict[str, int]


def open_pairs(
    corpus: Corpus, tokenizers: TokenizerPair, *, max_length: int, max_ratio: float, cache: Path
) -> TrainingPairs:
    """Return the training split in ids, filtered, from the cache; what is not cached, or damaged, is encoded first.

    Where the cache cannot be written, the ids are held in memory.

    Args:
        corpus: the corpus.
        tokenizers: what encodes both sides; without random segmentation.
        max_length: see ``filter_pairs``.
        max_ratio: see ``filter_pairs``.
        cache: folder of the cache.
    """
    # what else decides how a line is cut
    versions = version("sentencepiece"), unicodedata.unidata_version, _VERSION
    content = (corpus.fingerprint, tokenizers.fingerprint(), max_length, max_ratio, versions)
    path = cache / f"{hashlib.sha256(repr(content).encode()).hexdigest()[:32]}.ids"
    try:
        return _mapped(path)
    except FileNotFoundError:
        log.info("encoding %d sentence pairs", len(corpus.train))
    except (OSError, ValueError) as error:
        log.warning("the ids in %s cannot be used (%s); encoding %d sentence pairs", path, error, len(corpus.train))
    parts = partial(_parts, corpus.train, tokenizers, max_length=max_length, max_ratio=max_ratio)
    try:
        with new_file(path) as fresh:
            _write(fresh, parts())
        return _mapped(path)
    except OSError as error:
        log.warning("the ids are held in memory, since they cannot be cached in %s: %s", cache, error)
        return _joined(list(parts()))


def _parts(
    text: ParallelText, tokenizers: TokenizerPair, *, max_length: int, max_ratio: float
) -> Iterator[TrainingPairs]:
    """Encode and filter a text, some lines at a time."""
    for start in range(0, len(text), _LINES):
        lines = slice(start, start + _LINES)
        pairs = tokenizers.encode_pairs(text.sources[lines], text.targets[lines])
        kept, dropped = filter_pairs(pairs.source, pairs.target, max_length=max_length, max_ratio=max_ratio)
        yield TrainingPairs(pairs.select(kept), (kept + start).astype(np.int32), dropped)


def _joined(parts: list[TrainingPairs]) -> TrainingPairs:
    """Join parts in memory."""
    sides = zip(*((part.pairs.source, part.pairs.target) for part in parts), strict=True)
    return TrainingPairs(
        EncodedPairs(*map(FlatSequences.concatenate, sides)),
        np.concatenate([part.kept for part in parts]),
        {reason: sum(part.dropped[reason] for part in parts) for reason in _DROPPED},
    )


def _write(path: Path, parts: Iterable[TrainingPairs]) -> None:
    """Write parts, one after the other, as one file, with one of them in memory at a time.

    The file is the header, then source and target offsets, int64, source and target ids and ``kept``, int32.
    """
    counts = np.zeros(3 + len(_DROPPED), np.int64)
    with ExitStack() as stack:
        # how long each column is, and so where the next one starts, is known at the end only
        columns = [stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in range(5)]
        for column in columns[:2]:
            column.write(np.zeros(1, np.int64).data)
        for part in parts:
            source, target = part.pairs.source, part.pairs.target
            offsets = source.offsets[1:] + counts[1], target.offsets[1:] + counts[2]
            for column, array in zip(columns, (*offsets, source.ids, target.ids, part.kept), strict=True):
                column.write(array.data)
            counts += len(part.pairs), len(source.ids), len(target.ids), *(part.dropped[each] for each in _DROPPED)
        file = stack.enter_context(path.open("wb"))
        file.seek(_HEADER_BYTES)
        checksum = zlib.crc32(counts.data)
        for column in columns:
            column.seek(0)
            while block := column.read(_BLOCK_BYTES):
                checksum = zlib.crc32(block, checksum)
                file.write(block)
        file.seek(0)
        file.write(np.append(counts, checksum).data)


def _mapped(path: Path) -> TrainingPairs:
    """Return what ``_write`` wrote, mapped into memory.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is damaged.
    """
    # a plain array on it, since each slice of a memmap is one and costs as much to make
    content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    header, body = content[:_HEADER_BYTES].view(np.int64), content[_HEADER_BYTES:]
    *counts, checksum = header.tolist()
    # reads the whole file, as its pages are needed anyway; those of a file can be taken back at any time
    if zlib.crc32(body.data, zlib.crc32(header[:-1].data)) != checksum:
        raise ValueError("damaged")
    pairs, source, target, *dropped = counts
    sizes = [8 * (pairs + 1), 8 * (pairs + 1), 4 * source, 4 * target, 4 * pairs]
    types = [np.int64, np.int64, np.int32, np.int32, np.int32]
    columns = np.split(body, np.cumsum(sizes)[:-1])
    source_offsets, target_offsets, source_ids, target_ids, kept = (
        column.view(kind) for column, kind in zip(columns, types, strict=True)
    )
    return TrainingPairs(
        EncodedPairs(FlatSequences(source_ids, source_offsets), FlatSequences(target_ids, target_offsets)),
        kept,
        dict(zip(_DROPPED, dropped, strict=True)),
    )
