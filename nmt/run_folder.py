"""The files of a run folder: where they are, and how they are written so that a kill leaves the old or the new one."""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.errors import RunError


@dataclass(frozen=True)
class RunFolder:
    """A run folder: complete on its own, movable, opened with nothing else."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.path / "config.yaml"

    @property
    def corpus(self) -> Path:
        """What the corpus was: name, languages, counts, fingerprint (JSON)."""
        return self.path / "corpus.json"

    @property
    def log(self) -> Path:
        """The program's log lines."""
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Path:
        """The folder of ``best`` and ``last``."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The results, written when evaluation ends."""
        return self.path / "metrics.json"

    @property
    def alignments(self) -> Path:
        """The folder of heatmaps."""
        return self.path / "alignments"

    def sources(self, split: str = "test") -> Path:
        """Source lines of a test split."""
        return self.path / f"{split}.sources.txt"

    def references(self, split: str = "test") -> Path:
        """Reference lines of a test split."""
        return self.path / f"{split}.references.txt"

    def hypotheses(self, split: str = "test") -> Path:
        """The translations of a test split."""
        return self.path / f"{split}.hypotheses.txt"

    def gold(self, split: str = "test") -> Path:
        """Gold links of a test split, where there are any."""
        return self.path / f"{split}.gold.align"

    @property
    def started(self) -> bool:
        """Whether a training has begun here."""
        return self.config.exists()

    @property
    def finished(self) -> bool:
        """Whether the run has its results."""
        return self.metrics.exists()

    def read_metrics(self) -> dict[str, Any]:
        """Return the results.

        Raises:
            RunError: they are damaged.
        """
        return read_json(self.metrics)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep other processes from training in it inside the block.

        The lock goes when the process ends, however that is, and leaves no file.

        Raises:
            RunError: another process trains here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            _lock(descriptor, self.path)
            yield
        finally:
            os.close(descriptor)

    def set_aside(self) -> Path:
        """Rename the folder to ``<name>.<n>`` with the first free n, and return the new path."""
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        self.path.rename(aside)
        return aside


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f"another process trains in {path}; wait for its end, or take another run_dir") from None
    except OSError:  # a file system without locks
        return


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: the file is missing or is not a JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path.parent} lacks {path.name}; was it copied whole?") from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise RunError(f"{path} does not hold a JSON object")
    return found


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: a reader, or a kill, sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write lines atomically, each ended by a line feed."""
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_lines(path: Path) -> list[str]:
    """Read what :func:`write_lines` wrote; only a line feed ends a line.

    Raises:
        RunError: the file is missing.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise RunError(f"{path.parent} lacks {path.name}") from None
    return text.split("\n")[:-1] if text.endswith("\n") else text.split("\n") if text else []
