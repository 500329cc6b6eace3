"""A tokenizer whose vocabulary is a table of strings: what words and characters have in common."""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from nmt.data.tokenizer.base import Sampling, Tokenizer
from nmt.data.vocabulary import SPECIAL_PIECES, UNK


class TableTokenizer(Tokenizer):
    """Looks up the parts of a line in a table; an unknown part is UNK, or its UTF-8 bytes with ``byte_fallback``."""

    # how UNK shows in a text
    unknown_surface = "\u2047"

    def __init__(self, tokens: Sequence[str], *, byte_fallback: bool) -> None:
        """Number ``tokens`` after the special pieces and, with ``byte_fallback``, the 256 bytes."""
        single_bytes = range(256 if byte_fallback else 0)
        self._tokens = list(tokens)
        self._byte_fallback = byte_fallback
        self._pieces = [*SPECIAL_PIECES, *(f"<0x{byte:02X}>" for byte in single_bytes)]
        self._pieces += [token.replace(" ", "\u2581") for token in tokens]
        self._surfaces = [b""] * len(SPECIAL_PIECES) + [bytes([byte]) for byte in single_bytes]
        self._surfaces[UNK] = self.unknown_surface.encode()
        first = len(self._surfaces)
        self._surfaces += [token.encode() for token in tokens]
        self._ids = {token: index for index, token in enumerate(tokens, start=first)}

    @abstractmethod
    def split(self, line: str) -> list[str]:
        """Return the parts of a line; their concatenation is the line, but for spaces around it and runs of spaces."""

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self._pieces)

    def encode(self, lines: Sequence[str], *, sampler: Sampling | None = None) -> list[list[int]]:
        """Return the ids of each line; there is one segmentation only."""
        return [self._encode_line(line) for line in lines]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each id as something to read."""
        return [self._pieces[index] for index in ids]

    def surfaces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the UTF-8 bytes that each id gives to the text."""
        return [self._surfaces[index] for index in ids]

    def unknown(self, lines: Sequence[str]) -> list[list[str]]:
        """Return, for each line, the text that each of its UNK stands for."""
        if self._byte_fallback:
            return [[] for _ in lines]
        return [[token for token in self.split(line) if token not in self._ids] for line in lines]

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the table as a JSON list."""
        file = f"{name}.tokens.json"
        (folder / file).write_text(json.dumps(self._tokens, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        return {"file": file, "byte_fallback": self._byte_fallback}

    @classmethod
    def load(cls, folder: Path, description: Mapping[str, Any]) -> Self:
        """Read the table; the rest of the description are the constructor's options."""
        tokens = json.loads((folder / description["file"]).read_text(encoding="utf-8"))
        return cls(tokens, **{key: value for key, value in description.items() if key != "file"})

    def _encode_line(self, line: str) -> list[int]:
        ids: list[int] = []
        for token in self.split(line):
            index = self._ids.get(token)
            if index is not None:
                ids.append(index)
            elif self._byte_fallback:
                ids.extend(len(SPECIAL_PIECES) + byte for byte in token.encode())
            else:
                ids.append(UNK)
        return ids


def frequent(lines: Iterable[str], split: Callable[[str], list[str]], *, limit: int, minimum_count: int) -> list[str]:
    """Return the ``limit`` most frequent parts that occur ``minimum_count`` times, ties in code point order."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(split(line))
    enough = [(-count, token) for token, count in counts.items() if count >= minimum_count]
    return [token for _, token in sorted(enough)[: max(limit, 0)]]
