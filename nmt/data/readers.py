r"""Reads parallel text from files: plain lines, tab-separated values, JSON lines (gzipped or not), Parquet.

Only ``\n`` ends a line; a trailing ``\r`` is removed. Bytes that are not UTF-8 are an error that names file and line.
"""

import gzip
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, final

from nmt.errors import DataError

Pair = tuple[str, str]
Columns = Mapping[str, str | int]
_END = object()
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True)
class SourceFile:
    """A file on this machine, with what tells one version of it from another.

    Attributes:
        path: where it lies.
        shown: what messages call it: the path as given, or the URL it was fetched from.
        size: in bytes.
        modified: time of modification in nanoseconds.
    """

    path: str
    shown: str
    size: int
    modified: int

    @classmethod
    def at(cls, path: Path, shown: str) -> "SourceFile":
        """Return the file at ``path`` as it is now."""
        status = path.stat()
        return cls(str(path), shown, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class PairReader(ABC):
    """A piece of a split; equal readers read equal text, so that one of them can stand for the text in a cache.

    Attributes:
        sides: the two suffixes in the order in which pairs are read.
        links: file of gold links of these pairs, if there is one.
    """

    sides: tuple[str, str]
    links: SourceFile | None

    @property
    @abstractmethod
    def shown(self) -> str:
        """What messages call the piece."""

    @abstractmethod
    def pairs(self) -> Iterator[Pair]:
        """Yield the sentence pairs in the order of ``sides``.

        Raises:
            DataError: a line cannot be used, or the sides differ in length.
        """


@final
@dataclass(frozen=True)
class TextReader(PairReader):
    """Two plain text files, line by line."""

    first: SourceFile
    second: SourceFile

    @property
    def shown(self) -> str:
        """Both files."""
        return f"{self.first.shown} and {self.second.shown}"

    def pairs(self) -> Iterator[Pair]:
        """Yield line i of both."""
        streams = {file.shown: read_lines(file) for file in (self.first, self.second)}
        yield from ((first, second) for first, second in in_step(streams))


@dataclass(frozen=True)
class RecordReader(PairReader):
    """One file of records; ``columns`` pairs a suffix with its column where that is not named like it."""

    extension: ClassVar[str]

    file: SourceFile
    columns: tuple[tuple[str, str | int], ...]

    @property
    def shown(self) -> str:
        """The file."""
        return self.file.shown

    def pairs(self) -> Iterator[Pair]:
        """Yield the two columns of each record."""
        for where, record in self._records():
            yield record_pair(record, self.sides, dict(self.columns), where)

    @abstractmethod
    def _records(self) -> Iterator[tuple[str, Mapping[Any, Any]]]:
        """Yield each record with ``file:line`` for messages."""


@final
@dataclass(frozen=True)
class TsvReader(RecordReader):
    """Tab-separated values, no quoting; the first line names the columns unless ``columns`` are numbers (from 0)."""

    extension: ClassVar[str] = ".tsv"

    def _records(self) -> Iterator[tuple[str, Mapping[Any, Any]]]:
        rows = ((number, line.split("\t")) for number, line in enumerate(read_lines(self.file), 1))
        numbered = bool(self.columns) and all(isinstance(column, int) for _, column in self.columns)
        names = [] if numbered else next(rows, (0, []))[1]
        for number, cells in rows:
            yield f"{self.file.shown}:{number}", dict(zip(names or range(len(cells)), cells, strict=False))


@final
@dataclass(frozen=True)
class JsonlReader(RecordReader):
    """One JSON object a line; blank lines are skipped."""

    extension: ClassVar[str] = ".jsonl"

    def _records(self) -> Iterator[tuple[str, Mapping[Any, Any]]]:
        for number, line in enumerate(read_lines(self.file), 1):
            if line.strip():
                where = f"{self.file.shown}:{number}"
                yield where, _json_object(line, where)


@final
@dataclass(frozen=True)
class ParquetReader(RecordReader):
    """A Parquet file."""

    extension: ClassVar[str] = ".parquet"

    def _records(self) -> Iterator[tuple[str, Mapping[Any, Any]]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            batches = pq.ParquetFile(self.file.path).iter_batches(batch_size=1000)
            number = 0
            for batch in batches:
                for record in batch.to_pylist():
                    number += 1
                    yield f"{self.file.shown}:{number}", record
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.file.shown} cannot be read as Parquet: {first_line(error)}") from error


RECORD_READERS: tuple[type[RecordReader], ...] = (TsvReader, JsonlReader, ParquetReader)


def read_lines(file: SourceFile) -> Iterator[str]:
    """Yield the lines of a UTF-8 file; gzip is recognised by its first bytes, a byte-order mark is dropped.

    Raises:
        DataError: the file cannot be read, is damaged or not UTF-8.
    """
    try:
        with open(file.path, "rb") as raw:
            packed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            raw.seek(0)
            for number, line in enumerate(gzip.GzipFile(fileobj=raw) if packed else raw, 1):
                text = _decoded(line, f"{file.shown}:{number}")
                yield text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file.shown} is a damaged gzip file: {first_line(error)}") from error
    except OSError as error:
        raise DataError(f"{file.shown} cannot be read: {error.strerror or first_line(error)}") from error


def in_step(streams: Mapping[str, Iterator[Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield the i-th items of all streams together.

    Raises:
        DataError: one stream, named by its key, is shorter than another.
    """
    for read, items in enumerate(zip_longest(*streams.values(), fillvalue=_END)):
        ended = [item is _END for item in items]
        if any(ended):
            counts = _counts(streams, ended, read)
            raise DataError(f"{counts}; line i of one must belong to line i of the other")
        yield items


def record_pair(record: Mapping[Any, Any], sides: tuple[str, str], columns: Columns, where: str) -> Pair:
    """Return both sides of a record: a column of each, or two entries of its column ``translation``.

    Args:
        record: values by column.
        sides: the suffixes.
        columns: the column of each suffix where it is not named like it.
        where: what messages call the record.

    Raises:
        DataError: a side is missing or not text.
    """
    return _side(record, sides[0], columns, where), _side(record, sides[1], columns, where)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class where it has none."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__


def _decoded(line: bytes, where: str) -> str:
    """Return the text of a line without its end."""
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise DataError(f"{where}: byte {error.start + 1} is 0x{byte:02x}, not UTF-8; accepted is UTF-8 text") from None


def _counts(streams: Mapping[str, Iterator[Any]], ended: list[bool], read: int) -> str:
    """Return how many items each stream has, reading those that go on to their end."""
    counts = [
        read if end else read + 1 + sum(1 for _ in stream) for stream, end in zip(streams.values(), ended, strict=True)
    ]
    return " and ".join(f"{name} has {count:,} lines" for name, count in zip(streams, counts, strict=True))


def _side(record: Mapping[Any, Any], side: str, columns: Columns, where: str) -> str:
    """Return one side of a record as one line."""
    column = columns.get(side, side)
    nested = record.get("translation")
    if column in record:
        value = record[column]
    elif isinstance(nested, Mapping) and column in nested:
        value = nested[column]
    else:
        there = ", ".join(map(str, nested if isinstance(nested, Mapping) else record)) or "none"
        raise DataError(f"{where}: there is no column {column!r} for {side}; data.columns maps suffixes to: {there}")
    return _one_line("" if value is None else value, f"{where}: column {column!r}")


def _one_line(value: object, what: str) -> str:
    """Return a text value with line ends inside it replaced by spaces."""
    if not isinstance(value, str):
        raise DataError(f"{what} holds {type(value).__name__}; accepted is text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{what} holds half a surrogate pair; accepted is text that UTF-8 can write") from None
    return value.replace("\r\n", " ").replace("\n", " ")


def _json_object(line: str, where: str) -> Mapping[str, Any]:
    """Return the JSON object of a line."""
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({first_line(error)}); accepted is one JSON object a line") from None
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: a JSON {type(record).__name__}; accepted is one JSON object a line")
    return record
