"""Real corpora: files of anyone, published ones on the web, datasets of the hub."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, final

from nmt.data.corpus import Corpus, CorpusSource, ParallelText, checked_separator
from nmt.data.download import UnreachableError
from nmt.data.languages import iso639_1
from nmt.data.origins import Layout, Origin, origin
from nmt.data.table import TextColumn, open_table
from nmt.errors import ConfigError, DataError


@final
class TextCorpus(CorpusSource):
    """A corpus of parallel files in a folder or at an http(s) address, or a dataset of the Hugging Face hub.

    The text goes into a cache and is read from there; a source that has changed is read anew. No other corpus takes the
    place of one that cannot be had.

    Args:
        name: what reports call the corpus.
        source: suffix of the source side, as ``en`` of ``train.en``; with ``target`` it chooses the direction.
        target: suffix of the target side.
        train: prefix of the training files, ``train`` of ``train.en.gz``; on the hub, the split.
        valid: prefix of the validation files, or none.
        test: prefix of the test files, or none.
        extra_train: prefixes of further training files.
        root: folder (``~`` is the home folder) or http(s) address that prefixes are relative to, or ``hub:OWNER/NAME``.
        source_language: language of the source side; by default the suffix.
        target_language: language of the target side; by default the suffix.
        format: ``text`` is PREFIX.SUFFIX, a file for each side; ``tsv``, ``jsonl`` and ``parquet`` are one file
            PREFIX.FORMAT; ``auto`` takes the first that is there. Text, tsv and jsonl may be gzipped (``.gz``).
        columns: suffix -> column of tsv (name in the first line, or number from 0 if there is no such line), jsonl,
            parquet and the hub; by default a column is named like the suffix, or ``translation`` holds both.
        subset: configuration or folder of a hub dataset; ``{source}-{target}`` stands for both orders.
        revision: branch, tag or commit of a hub dataset.
        align_source: suffix of the side whose word comes first in the links of PREFIX.align; by default the source.
            Links are turned round where that is the target.
        sentence_separator: the word between the sentences of a source line, where lines have several; one token
            wherever the text has it.
        cache: folder of the cache of text and ids; by default ``nmt`` in that of `datasets` (``HF_DATASETS_CACHE`` or
            ``HF_HOME`` moves it).

    Raises:
        ConfigError: options are missing or contradict each other.
    """

    def __init__(
        self,
        *,
        name: str,
        source: str | None,
        target: str | None,
        train: str | None,
        valid: str | None = None,
        test: str | None = None,
        extra_train: Sequence[str] = (),
        root: str | None = None,
        source_language: str | None = None,
        target_language: str | None = None,
        format: Literal["auto", "text", "tsv", "jsonl", "parquet"] = "auto",
        columns: Mapping[str, str | int] | None = None,
        subset: str | None = None,
        revision: str | None = None,
        align_source: str | None = None,
        sentence_separator: str = "<sep>",
        cache: str | None = None,
    ) -> None:
        checked_separator(sentence_separator)
        self.name = name
        self._source = _given(source, "data.source", "a file suffix such as en")
        self._target = _given(target, "data.target", "a file suffix such as de")
        self._train = _given(train, "data.train", "PREFIX where the files are PREFIX.SUFFIX, one for each side")
        self._more = _strings(extra_train, "data.extra_train")
        self._valid = valid
        self._test = test
        self._root = root
        self._align_source = align_source or self._source
        self._cache = cache
        self.source_language = iso639_1(source_language or self._source)
        self.target_language = iso639_1(target_language or self._target)
        self._check_sides()
        sides = sorted((self._source, self._target))
        self._layout = Layout(
            sides=(sides[0], sides[1]),
            format=format,
            columns=_columns(columns or {}, sides),
            subset=subset,
            revision=revision,
        )

    def load(self) -> Corpus:
        """Return the corpus, from the cache where its source has not changed.

        Raises:
            DataError: a file is missing, cannot be reached or cannot be used.
        """
        cache = _cache_folder(self._cache)
        place = origin(self._root, self._layout, cache)
        texts = {key: self._text(key, prefixes, place, cache) for key, prefixes in self._prefixes().items()}
        return Corpus(
            name=self.name,
            synthetic=False,
            source_language=self.source_language,
            target_language=self.target_language,
            train=texts["train"],
            valid=texts.get("valid"),
            test=texts.get("test"),
            fingerprint=self._fingerprint(texts),
            cache=cache,
        )

    def _prefixes(self) -> dict[str, list[str]]:
        """Return the prefixes of each split that there is."""
        evaluation = {"valid": self._valid, "test": self._test}
        return {"train": [self._train, *self._more], **{key: [prefix] for key, prefix in evaluation.items() if prefix}}

    def _text(self, key: str, prefixes: Sequence[str], place: Origin, cache: Path) -> ParallelText:
        """Return the text of one split."""
        keys = [f"data.{key}", *["data.extra_train"] * len(prefixes)]
        try:
            readers = [place.reader(prefix, given) for prefix, given in zip(prefixes, keys, strict=False)]
            return open_table(readers, source=self._source, align_source=self._align_source, cache=cache)
        except UnreachableError as error:
            raise DataError(f"{error}; {self._instead()}") from error

    def _fingerprint(self, texts: Mapping[str, ParallelText]) -> str:
        """Return a hash of the text of all splits, the direction and the languages; not of where they were read."""
        digest = hashlib.sha256(f"{self.source_language} {self.target_language}".encode())
        for key, text in texts.items():
            for side in (text.sources, text.targets):
                assert isinstance(side, TextColumn)
                digest.update(key.encode() + side.digest())
        return digest.hexdigest()

    def _check_sides(self) -> None:
        """Raise unless the suffixes are two and the links' orientation names one of them."""
        if self._source == self._target:
            raise ConfigError(f"data.source and data.target are both {self._source}; they must be different suffixes")
        if self._align_source not in (self._source, self._target):
            raise ConfigError(
                f"data.align_source={self._align_source} is not accepted; one of: {self._source}, {self._target}"
            )

    def _instead(self) -> str:
        """Return which folder would do for a source that cannot be reached."""
        given = (prefix for split in self._prefixes().values() for prefix in split)
        prefixes = (prefix.rpartition("/")[2] if "://" in prefix else prefix for prefix in given)
        files = (f"{prefix}.{side}" for prefix in prefixes for side in (self._source, self._target))
        return f"a folder would do instead: data.root=FOLDER with {', '.join(files)} (.gz or not)"


def _given(value: str | None, key: str, what: str) -> str:
    """Return an option that has to be given."""
    if not value:
        raise ConfigError(f"{key} is not given; it must be {what}")
    return value


def _strings(values: object, key: str) -> list[str]:
    """Return a list of strings, or raise."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not all(isinstance(v, str) for v in values):
        raise ConfigError(f"{key}={values!r} is not accepted; it must be a list of prefixes such as [train-extra]")
    return list(values)


def _columns(columns: object, sides: Sequence[str]) -> tuple[tuple[str, str | int], ...]:
    """Return the columns as pairs in the order of the sides; those of other sides are left out."""
    if not isinstance(columns, Mapping) or not all(type(column) in (str, int) for column in columns.values()):
        raise ConfigError(
            f"data.columns={columns!r} is not accepted; it must map suffixes to names or numbers of columns"
        )
    return tuple((side, columns[side]) for side in sides if side in columns)


def _cache_folder(given: str | None) -> Path:
    """Return the folder of the cache."""
    if given is not None:
        return Path(given).expanduser()
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("HF_DATASETS_CACHE", Path(HF_HOME, "datasets")), "nmt")
