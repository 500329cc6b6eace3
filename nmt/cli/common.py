"""What the sub-commands share: exit codes, lines in, files out, and what is said on standard error."""

import contextlib
import gzip
import logging
import os
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, NoReturn, TextIO

from nmt.errors import ConfigError, DataError, NmtError

if TYPE_CHECKING:
    from nmt.assemble import OpenRun
    from nmt.data import GoldLinks

log = logging.getLogger(__name__)

# a chunk of lines ends here even if it could have more of them: attention weights grow with the square of a line
_CHUNK_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"


class _Terminated(BaseException):
    """SIGTERM came; like KeyboardInterrupt it is no error that anything but the outermost level may catch."""


def exit_code(command: Callable[[], int]) -> int:
    """Return the exit code that a command returns, or that its end by an error or a signal has.

    An error of the user's is told in one sentence on standard error.

    A reader of standard output that has seen enough (``| head``) is no error.
    """
    try:
        with _terminable():
            code = command()
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        _close_output()
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except _Terminated:
        return 128 + signal.SIGTERM
    except NmtError as error:
        say(str(error))
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return 2


@contextlib.contextmanager
def warnings_shown() -> Iterator[None]:
    """Send the program's warnings to standard error inside the block, and nothing below them."""
    logger = logging.getLogger("nmt")
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("nmt: warning: %(message)s"))
    former = logger.handlers
    logger.handlers = [handler]
    try:
        yield
    finally:
        logger.handlers = former


def say(message: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write(f"nmt: {message}\n")
    sys.stderr.flush()


def write_line(line: str) -> None:
    """Write one line to standard output, in UTF-8 whatever the locale."""
    sys.stdout.buffer.write(line.encode("utf-8") + b"\n")


@contextlib.contextmanager
def open_input(path: Path | None) -> Iterator[BinaryIO]:
    """Open a file, unpacked where it is gzip, or standard input where ``path`` is None.

    Raises:
        DataError: the file cannot be read, or is found to be damaged while it is read.
    """
    if path is None:
        yield sys.stdin.buffer
        return
    with _openable(path).open("rb") as raw:
        # not by reading and going back, which a pipe such as a shell's <(...) cannot do
        packed = raw.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        try:
            yield gzip.GzipFile(fileobj=raw) if packed else raw  # pyright: ignore[reportReturnType]
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is a damaged gzip file: {error}") from None


@contextlib.contextmanager
def open_output(path: Path, option: str) -> Iterator[TextIO]:
    r"""Open a text file for writing, UTF-8 with ``\n``.

    Raises:
        ConfigError: it cannot be written; the sentence names ``option``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be written: {error.strerror}") from None
    with file:
        yield file


def read_chunks(stream: BinaryIO, *, lines: int) -> Iterator[list[str]]:
    r"""Yield text in chunks of lines, each of which can be worked on before the next one is read.

    Only ``\n`` ends a line, and the last line need not have one; a ``\r`` before it is removed, and so is a byte-order
    mark at the start. Bytes that are not UTF-8 become U+FFFD, with a warning that names the line. Where a chunk ends
    depends on the text alone, not on when it arrives, so that the same text is always decoded in the same batches.

    Args:
        stream: bytes.
        lines: at most so many lines a chunk; fewer where they are long.
    """
    chunk: list[str] = []
    size = 0
    for number, raw in enumerate(stream, 1):
        chunk.append(_text(raw, number, _replace))
        size += len(raw)
        if len(chunk) >= lines or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def read_text(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text, gzipped or not.

    Raises:
        DataError: the file cannot be read, or is not UTF-8; the sentence names the line.
    """

    def refuse(number: int, problem: str) -> None:
        raise DataError(f"{path}:{number}: {problem}, not UTF-8; accepted is UTF-8 text")

    with open_input(path) as stream:
        return [_text(raw, number, refuse) for number, raw in enumerate(stream, 1)]


def read_pairs(source: Path, target: Path) -> tuple[list[str], list[str]]:
    """Read two files whose lines belong together.

    Raises:
        DataError: one cannot be read, or they have different numbers of lines.
    """
    sources, targets = read_text(source), read_text(target)
    if len(sources) != len(targets):
        raise DataError(
            f"{source} has {len(sources):,} lines and {target} has {len(targets):,}; line i of one must belong to line "
            "i of the other"
        )
    return sources, targets


def read_gold(path: Path, sources: Sequence[str], targets: Sequence[str]) -> "list[GoldLinks]":
    """Read the gold links of sentence pairs, a Pharaoh line each.

    Raises:
        DataError: the file cannot be read, has another number of lines, or a link to a word that is not there.
    """
    from nmt.data import parse_links, split_words

    lines = read_text(path)
    if len(lines) != len(sources):
        raise DataError(
            f"{path} has {len(lines):,} lines of links for {len(sources):,} sentence pairs; one each is needed"
        )
    found = []
    for number, (line, source, target) in enumerate(zip(lines, sources, targets, strict=True), 1):
        links = parse_links(line, where=f"{path}:{number}")
        counts = len(split_words(source)), len(split_words(target))
        for i, j in sorted(links.possible):
            if i >= counts[0] or j >= counts[1]:
                raise DataError(
                    f"{path}:{number}: the link {i}-{j} is to a word that is not there; the pair has {counts[0]} "
                    f"source and {counts[1]} target words, counted from 0"
                )
        found.append(links)
    return found


def require_weights(run: "OpenRun", what: str) -> None:
    """Check that a run's model has attention weights.

    Raises:
        ConfigError: it has none, so ``what`` cannot be had.
    """
    if not run.model.has_weights:
        attention = run.config.choices.get("attention", "none")
        raise ConfigError(
            f"{what} needs attention weights, and {run.folder.path} has none: it was trained with attention={attention}"
        )


def _openable(path: Path) -> Path:
    """Return ``path``, or raise DataError if no file can be read there."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; a text file is needed")
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path} cannot be read: permission denied")
    return path


def _text(raw: bytes, number: int, on_error: Callable[[int, str], None]) -> str:
    """Return the text of a line; bytes that are not UTF-8 become U+FFFD unless ``on_error`` raises."""
    raw = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        on_error(number, f"byte {error.start + 1} is 0x{raw[error.start]:02x}")
        text = raw.decode("utf-8", errors="replace")
    return text.removeprefix("\ufeff") if number == 1 else text


def _replace(number: int, problem: str) -> None:
    log.warning("input line %d is not UTF-8 (%s); what cannot be read is taken as U+FFFD", number, problem)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does; only a program's main thread can listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _close_output() -> None:
    """Let what is still held back for standard output go nowhere, or Python would complain at its exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
