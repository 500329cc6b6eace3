"""Parallel text in a cached Arrow file: written once, then mapped into memory, never held in lists."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, final, overload

import numpy as np

from nmt.data.cache import new_file
from nmt.data.corpus import GoldLinks, ParallelText
from nmt.data.links import format_links, parse_links
from nmt.data.readers import PairReader, first_line, in_step, read_lines
from nmt.data.words import split_words
from nmt.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

# Part of the key under which a table is cached: raised when the readers read the same file differently.
_VERSION = 2
_BLOCK = 10_000


@final
class TextColumn(Sequence[str]):
    """A column of text, read from disk where it is used; a slice is a column too."""

    def __init__(self, values: "pa.ChunkedArray") -> None:
        self._values = values

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        """Yield the lines, a block of them in memory at a time."""
        for start in range(0, len(self), _BLOCK):
            yield from self._values.slice(start, _BLOCK).to_pylist()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "TextColumn": ...
    def __getitem__(self, index: int | slice) -> "str | TextColumn":
        """Return one line, or the column of a slice."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return TextColumn(self._values.slice(start, max(stop - start, 0)))
            return TextColumn(self._values.take(np.arange(start, stop, step)))
        return self._values[range(len(self))[index]].as_py()

    def digest(self) -> bytes:
        """Return the SHA-256 of the text; it does not depend on how the column is cut into chunks."""
        text, lengths = hashlib.sha256(), hashlib.sha256()
        for chunk in self._values.chunks:
            _, offsets, data = chunk.buffers()
            bounds = np.frombuffer(offsets, np.int32, len(chunk) + 1, chunk.offset * np.dtype(np.int32).itemsize)
            if data is not None:
                text.update(memoryview(data)[bounds[0] : bounds[-1]])
            lengths.update(np.diff(bounds).tobytes())
        return text.digest() + lengths.digest()


@final
class LinkColumn(Sequence[GoldLinks]):
    """A column of gold links, parsed where it is used."""

    def __init__(self, lines: TextColumn, *, flipped: bool) -> None:
        self._lines = lines
        self._flipped = flipped

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> GoldLinks: ...
    @overload
    def __getitem__(self, index: slice) -> "LinkColumn": ...
    def __getitem__(self, index: int | slice) -> "GoldLinks | LinkColumn":
        """Return the links of one pair, or the column of a slice."""
        if isinstance(index, slice):
            return LinkColumn(self._lines[index], flipped=self._flipped)
        links = parse_links(self._lines[index], where=f"cached links:{index + 1}")
        return links.flipped() if self._flipped else links


def open_table(readers: Sequence[PairReader], *, source: str, align_source: str, cache: Path) -> ParallelText:
    """Return the text of ``readers``, one after the other, from the cache; what is not cached is read first.

    One table serves both directions. A reader stands for its text by the sizes and times of its files, so a file that
    has changed is read again.

    Args:
        readers: the pieces of the split, all with the same sides.
        source: suffix of the source side.
        align_source: suffix of the side whose words come first in files of links.
        cache: folder of the cache.

    Raises:
        DataError: a piece cannot be read, holds no pair, or the cache cannot be written.
    """
    first, second = readers[0].sides
    linked = any(reader.links for reader in readers)
    columns = _table(tuple(readers), flipped=linked and align_source != first, cache=cache)
    sides = {first: TextColumn(columns.column("first")), second: TextColumn(columns.column("second"))}
    target = second if source == first else first
    links = None
    if all(reader.links for reader in readers):
        links = LinkColumn(TextColumn(columns.column("links")), flipped=source != first)
    return ParallelText(sides[source], sides[target], links)


def _table(readers: tuple[PairReader, ...], *, flipped: bool, cache: Path) -> "pa.Table":
    """Return the cached rows, mapped into memory: columns ``first``, ``second`` and ``links``."""
    import pyarrow as pa

    key = hashlib.sha256(repr((readers, flipped, _VERSION)).encode()).hexdigest()[:32]
    path = cache / f"{key}.arrow"
    try:
        return _mapped(path)
    except (FileNotFoundError, pa.ArrowInvalid):
        log.debug("%s is written", path)
    except OSError as error:
        raise _not_cached(cache, error) from error
    try:
        with new_file(path) as fresh:
            _write(fresh, _rows(readers, flipped=flipped))
        return _mapped(path)
    except (OSError, pa.ArrowException) as error:
        raise _not_cached(cache, error) from error


def _mapped(path: Path) -> "pa.Table":
    """Return the table of an Arrow file without reading it."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _write(path: Path, rows: Iterator[tuple[str, str, str]]) -> None:
    """Write rows to an Arrow file, a block of them in memory at a time."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in ("first", "second", "links")])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        while block := list(islice(rows, _BLOCK)):
            columns = [pa.array(column, pa.string()) for column in zip(*block, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _not_cached(cache: Path, error: BaseException) -> DataError:
    """Return the error of a cache that cannot be written."""
    reason = getattr(error, "strerror", None) or first_line(error)
    return DataError(f"the corpus cannot be cached in {cache}: {reason}; data.cache=FOLDER names another folder")


def _rows(readers: tuple[PairReader, ...], *, flipped: bool) -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table: both sides, and links in their order."""
    log.info("reading %s", "; ".join(reader.shown for reader in readers))
    usable = 0
    for reader in readers:
        for (first, second), links in _linked(reader, flipped=flipped):
            usable += bool(first.strip() and second.strip())
            yield first, second, links
    if not usable:
        shown = "; ".join(reader.shown for reader in readers)
        raise DataError(f"{shown}: there is no sentence pair; at least one with text on both sides is needed")


def _linked(reader: PairReader, *, flipped: bool) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each pair with its links, which are empty where the reader has no file of them."""
    if reader.links is None:
        yield from zip(reader.pairs(), repeat(""), strict=False)
        return
    streams = {reader.shown: reader.pairs(), reader.links.shown: read_lines(reader.links)}
    for number, (pair, line) in enumerate(in_step(streams), 1):
        yield pair, _checked_links(line, pair, flipped=flipped, where=f"{reader.links.shown}:{number}")


def _checked_links(line: str, pair: tuple[str, str], *, flipped: bool, where: str) -> str:
    """Return links in the order of the pair, all of them inside its sentences."""
    links = parse_links(line, where=where)
    links = links.flipped() if flipped else links
    words = len(split_words(pair[0])), len(split_words(pair[1]))
    for link in links.possible:
        if link[0] >= words[0] or link[1] >= words[1]:
            given, lengths = (link[::-1], words[::-1]) if flipped else (link, words)
            raise DataError(
                f"{where}: link {given[0]}-{given[1]} is outside sentences of {lengths[0]} and {lengths[1]} words; "
                "words count from 0, and data.align_source=SUFFIX says whose words come first"
            )
    return format_links(links.sure, links.possible)
