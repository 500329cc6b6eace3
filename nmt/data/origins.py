"""Where a corpus lies, a folder, an http(s) address or the Hugging Face hub, and which files there are a split's."""

import json
import logging
import re
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast, final

from nmt.data.download import Downloads, UnreachableError
from nmt.data.readers import (
    RECORD_READERS,
    Pair,
    PairReader,
    RecordReader,
    SourceFile,
    TextReader,
    first_line,
    record_pair,
)
from nmt.errors import DataError

log = logging.getLogger(__name__)

HUB = "hub:"
_WEB = re.compile(r"https?://", re.IGNORECASE)
_HUB_TIMEOUT = 20.0


@dataclass(frozen=True)
class Layout:
    """What an origin has to know about a corpus.

    Attributes:
        sides: the two suffixes, in alphabetical order.
        format: ``text``, a record format's name, or ``auto`` for the first of them that is there.
        columns: (suffix, column) pairs of record formats.
        subset: name or folder of a part of a hub dataset, with the suffixes as ``{source}`` and ``{target}``.
        revision: branch, tag or commit of a hub dataset.
    """

    sides: tuple[str, str]
    format: str
    columns: tuple[tuple[str, str | int], ...]
    subset: str | None
    revision: str | None


class Origin(ABC):
    """A place that has the splits of a corpus."""

    @abstractmethod
    def reader(self, split: str, key: str) -> PairReader:
        """Return what reads a split.

        Args:
            split: the prefix of its files, or its name.
            key: the config key that names it, for the error.

        Raises:
            DataError: the split is not there; an UnreachableError where the whole place is not.
        """


def origin(root: str | None, layout: Layout, cache: Path) -> Origin:
    """Return the origin that ``root`` names: ``hub:OWNER/NAME``, an http(s) address, or a folder (none: here)."""
    if root is not None and root.startswith(HUB):
        return Hub(root.removeprefix(HUB), layout, cache)
    return Files(root or "", layout, Downloads(cache / "downloads"))


@final
class Files(Origin):
    """A folder or an address, to which a prefix is relative; a prefix can be an absolute path or an address itself."""

    def __init__(self, root: str, layout: Layout, downloads: Downloads) -> None:
        self._root = root
        self._layout = layout
        self._downloads = downloads

    def reader(self, split: str, key: str) -> PairReader:
        """Return a reader of the first format that is there."""
        prefix = self._located(split)
        readers = (find(prefix) for find in (self._text, self._records))
        found = next((reader for reader in readers if reader is not None), None)
        if found is None:
            raise DataError(self._not_found(prefix, f"{key}={split}"))
        return found

    def _text(self, prefix: str) -> PairReader | None:
        """Return a reader of two plain files, if both are there and the format admits them."""
        if self._layout.format not in ("auto", "text"):
            return None
        first, second = (self._find(f"{prefix}.{side}") for side in self._layout.sides)
        if first is None or second is None:
            return None
        return TextReader(self._layout.sides, self._find(f"{prefix}.align"), first, second)

    def _records(self, prefix: str) -> PairReader | None:
        """Return a reader of the first file of records that is there."""
        for kind in self._record_kinds():
            bare = prefix.removesuffix(".gz").removesuffix(kind.extension)
            file = self._find(bare + kind.extension)
            if file is not None:
                return kind(self._layout.sides, self._find(f"{bare}.align"), file, self._layout.columns)
        return None

    def _record_kinds(self) -> list[type[RecordReader]]:
        """Return the record formats to look for."""
        return [kind for kind in RECORD_READERS if self._layout.format in ("auto", kind.extension.removeprefix("."))]

    def _find(self, name: str) -> SourceFile | None:
        """Return the file, or its gzipped form, if it is there."""
        for candidate in (name, f"{name}.gz"):
            if _WEB.match(candidate):
                file = self._downloads.fetch(candidate)
            else:
                file = SourceFile.at(Path(candidate).absolute(), candidate) if Path(candidate).is_file() else None
            if file is not None:
                return file
        return None

    def _located(self, split: str) -> str:
        """Return the path or address of a prefix."""
        path = Path(split).expanduser()
        if _WEB.match(split) or path.is_absolute():
            return split if _WEB.match(split) else str(path)
        if _WEB.match(self._root):
            return f"{self._root.rstrip('/')}/{urllib.parse.quote(split)}"
        folder = Path(self._root).expanduser()
        if not folder.is_dir():
            raise UnreachableError(
                f"data.root={self._root} is not a folder (a relative one starts at {Path.cwd()}), "
                f"nor an address http(s)://... or a dataset {HUB}OWNER/NAME"
            )
        return str(folder / path)

    def _not_found(self, prefix: str, given: str) -> str:
        """Return the message that no file of a prefix is there, with those that nearly are."""
        folder, _, name = prefix.rpartition("/")
        text = [f"{name}.{side}" for side in self._layout.sides] if self._layout.format in ("auto", "text") else []
        wanted = [" and ".join(text)] if text else []
        wanted += [name.removesuffix(kind.extension) + kind.extension for kind in self._record_kinds()]
        return (
            f"{given}: there is no {', or '.join(wanted)} (.gz or not) in {folder or Path.cwd()}{_neighbours(prefix)}"
        )


@final
class Hub(Origin):
    """A dataset of the Hugging Face hub that is plain data; no code of the hub is run."""

    def __init__(self, name: str, layout: Layout, cache: Path) -> None:
        self._name = name
        self._layout = layout
        self._commits = cache / "downloads" / "commits.json"
        self._commit: str | None = None

    def reader(self, split: str, key: str) -> PairReader:
        """Return a reader of the split at the commit that the hub has now."""
        self._commit = self._commit or self._current_commit()
        return HubReader(
            sides=self._layout.sides,
            links=None,
            name=self._name,
            commit=self._commit,
            subsets=self._subsets(),
            split=split,
            columns=self._layout.columns,
        )

    def _subsets(self) -> tuple[str, ...]:
        """Return the subset in both directions, since a dataset has a pair of languages in only one."""
        if self._layout.subset is None:
            return ()
        first, second = self._layout.sides
        both = (
            self._layout.subset.replace("{source}", source).replace("{target}", target)
            for source, target in ((first, second), (second, first))
        )
        return tuple(dict.fromkeys(both))

    def _current_commit(self) -> str:
        """Return the dataset's commit; where the hub cannot be reached, that of an earlier run."""
        from huggingface_hub import HfApi, errors, utils

        # its hints tell nothing that our log does not
        utils.logging.set_verbosity_error()
        known = f"{self._name}@{self._layout.revision or 'main'}"
        try:
            info = HfApi().dataset_info(self._name, revision=self._layout.revision, timeout=_HUB_TIMEOUT)
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
            raise UnreachableError(f"data.root={HUB}{known} is no dataset that the hub gives out") from error
        except Exception as error:  # the client passes on whatever its HTTP library raises
            commit, reason = self._noted().get(known), first_line(error)
            if commit is None:
                raise UnreachableError(
                    f"data.root={HUB}{self._name} cannot be reached ({reason}) and was not read before"
                ) from error
            log.warning("the hub cannot be reached (%s); %s is used as it was read before", reason, known)
            return commit
        commit = str(info.sha)
        self._note({**self._noted(), known: commit})
        return commit

    def _noted(self) -> Mapping[str, str]:
        """Return the commits of earlier runs by dataset."""
        try:
            return json.loads(self._commits.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _note(self, commits: Mapping[str, str]) -> None:
        """Remember commits for runs without a network."""
        try:
            self._commits.parent.mkdir(parents=True, exist_ok=True)
            self._commits.write_text(json.dumps(commits), encoding="utf-8")
        except OSError as error:
            log.warning("%s cannot be written: %s", self._commits, error.strerror)


@final
@dataclass(frozen=True)
class HubReader(PairReader):
    """A split of a hub dataset at one commit: a column ``translation``, or a column for each side."""

    name: str
    commit: str
    subsets: tuple[str, ...]
    split: str
    columns: tuple[tuple[str, str | int], ...]

    @property
    def shown(self) -> str:
        """Dataset and split."""
        return f"{HUB}{self.name} ({self.split})"

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs, row by row."""
        for number, record in enumerate(self._dataset(), 1):
            yield record_pair(record, self.sides, dict(self.columns), f"{self.shown}, row {number}")

    def _dataset(self) -> Iterable[Mapping[str, Any]]:
        """Return the split; a subset is a configuration of the dataset or a folder in it."""
        import datasets
        from huggingface_hub import utils

        datasets.disable_progress_bars()
        datasets.utils.logging.set_verbosity_error()
        utils.disable_progress_bars()
        reasons = []
        for options in self._options():
            try:
                dataset = datasets.load_dataset(self.name, split=self.split, revision=self.commit, **options)
                return cast(Iterable[Mapping[str, Any]], dataset)
            except Exception as error:  # a missing configuration, folder or split has an exception of its own each
                reasons.append(first_line(error))
        raise UnreachableError(f"{self.shown} cannot be read ({'; '.join(dict.fromkeys(reasons))})")

    def _options(self) -> list[dict[str, Any]]:
        """Return what a subset can be for the library."""
        if not self.subsets:
            return [{}]
        return [{option: subset} for subset, option in product(self.subsets, ("name", "data_dir"))]


def _neighbours(prefix: str) -> str:
    """Return what a folder has instead, those with the same prefix if there are any; nothing for an address."""
    if _WEB.match(prefix):
        return ""
    folder, name = Path(prefix).parent, Path(prefix).name
    if not folder.is_dir():
        return f", which is not a folder (a relative one starts at {Path.cwd()})"
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    near = [file for file in files if file.startswith(f"{name}.")] or files
    listed = ", ".join(near[:8]) + (", ..." if len(near) > 8 else "")
    return f", which has {listed or 'no files'}"
