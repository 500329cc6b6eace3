"""Keeps copies of files from http(s) servers; asks each time whether a file has changed, goes on without a network."""

import filecmp
import hashlib
import http.client
import json
import logging
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from nmt.data.readers import SourceFile, first_line
from nmt.errors import DataError

log = logging.getLogger(__name__)

_TIMEOUT = 20.0
_ABSENT = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_MISSING = "missing"
_VALIDATORS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}


class UnreachableError(DataError):
    """A source gives no answer that says what it has."""


class Downloads:
    """Copies of files of http(s) servers in one folder.

    After a first failure to reach a server only its copies are used, so that one is not kept waiting for each file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unreachable = ""

    def fetch(self, url: str) -> SourceFile | None:
        """Return the file at ``url``, or None where the server has none.

        The copy of an earlier run is kept if the server says that it is still valid, or cannot be reached; that a file
        was not there is remembered too.

        Raises:
            UnreachableError: the server cannot be reached, and there is no copy.
            DataError: the copy cannot be written.
        """
        copy = self._folder / hashlib.sha256(url.encode()).hexdigest()[:32]
        try:
            present = self._refresh(url, copy)
            if not present:
                self._forget(url, copy)
        except UnreachableError as error:
            if _noted(copy).get(_MISSING):
                return None
            if not copy.exists():
                raise UnreachableError(f"{url} cannot be reached ({error}) and was not read before") from error
            written = datetime.fromtimestamp(copy.stat().st_mtime).astimezone()
            log.warning("%s cannot be reached (%s); its copy of %s is used", url, error, f"{written:%Y-%m-%d %H:%M}")
            present = True
        return SourceFile.at(copy, url) if present else None

    def _refresh(self, url: str, copy: Path) -> bool:
        """Bring the copy up to date; return whether the server has the file."""
        if self._unreachable:
            raise UnreachableError(self._unreachable)
        request = urllib.request.Request(url, headers={"User-Agent": "nmt", **_conditions(copy)})
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
                # A page instead of a file is how many servers say that they do not have it.
                if response.headers.get_content_type() == "text/html":
                    return False
                self._store(url, response, copy)
                return True
        except urllib.error.HTTPError as error:
            with error:
                if error.code == HTTPStatus.NOT_MODIFIED:
                    return True
                if error.code in _ABSENT:
                    return False
                reason = f"HTTP status {error.code}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = first_line(getattr(error, "reason", None) or error)
        self._unreachable = reason
        raise UnreachableError(reason)

    def _store(self, url: str, response: http.client.HTTPResponse, copy: Path) -> None:
        """Write the answer to a new file and put it in the copy's place, unless both are the same."""
        log.info("downloading %s", url)
        with self._temporary() as folder:
            new = Path(folder, "new")
            with new.open("wb") as file:
                shutil.copyfileobj(response, file)
            _check_length(new, response.headers.get("Content-Length"))
            # An unchanged copy keeps its time, so that what is cached from it stays valid.
            if not (copy.exists() and filecmp.cmp(copy, new, shallow=False)):
                _notes(copy).unlink(missing_ok=True)
                os.replace(new, copy)
            _note(copy, new, {"url": url, **_validators(response)})

    def _forget(self, url: str, copy: Path) -> None:
        """Remove the copy of a file that is not there, and note that."""
        if not _noted(copy).get(_MISSING):
            with self._temporary() as folder:
                _note(copy, Path(folder, "new"), {"url": url, _MISSING: "true"})
        copy.unlink(missing_ok=True)

    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        """Return a new folder inside the folder of copies."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(dir=self._folder, prefix="part-")
        except OSError as error:
            reason = error.strerror or first_line(error)
            raise DataError(f"no downloads fit in {self._folder}: {reason}; data.cache=FOLDER names another") from error


def _check_length(file: Path, announced: str | None) -> None:
    """Raise if a file is shorter than the server announced."""
    if announced is not None and file.stat().st_size != int(announced):
        raise http.client.HTTPException(f"the connection ended after {file.stat().st_size} of {announced} bytes")


def _validators(response: http.client.HTTPResponse) -> dict[str, str]:
    """Return the headers by which a server recognises a version of a file."""
    return {name: response.headers[name] for name in _VALIDATORS if name in response.headers}


def _notes(copy: Path) -> Path:
    """Return where the notes on a copy are kept."""
    return copy.with_suffix(".json")


def _note(copy: Path, new: Path, notes: dict[str, str]) -> None:
    """Write the notes on a copy, all or none of them, by way of a new file."""
    new.write_text(json.dumps(notes), encoding="utf-8")
    os.replace(new, _notes(copy))


def _noted(copy: Path) -> dict[str, str]:
    """Return the notes on a copy."""
    try:
        return json.loads(_notes(copy).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _conditions(copy: Path) -> dict[str, str]:
    """Return the headers that ask for the file only if it differs from the copy."""
    notes = _noted(copy) if copy.exists() else {}
    return {condition: notes[name] for name, condition in _VALIDATORS.items() if name in notes}
