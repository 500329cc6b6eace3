"""Which target token each source token is a copy of, and what copied tokens look like.

Ids from V on, V being the target vocabulary's size, stand for source tokens: V + j for the one at position j of the
sentence at hand, the first position where the same piece stands several times.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, final

import numpy as np

from nmt.data.batches import EncodedPairs, FlatSequences
from nmt.data.tokenizer.base import Tokenizer, Vocabulary
from nmt.data.vocabulary import EOS, UNK

# lines looked at together
_CHUNK = 10_000


class _First(NamedTuple):
    """The pieces of some sentences that the target vocabulary lacks, each once a sentence.

    Attributes:
        codes: ascending, sentence * span + key of the piece.
        positions: where the piece first stands in its sentence, as many.
        span: above all keys.
        unknown: keys of pieces that the source vocabulary lacks, too.
    """

    codes: np.ndarray
    positions: np.ndarray
    span: int
    unknown: dict[str, int]


@final
class Copies:
    """Finds copies: a source token is a copy of the target token of the same piece, an unknown one of the same text.

    Args:
        source: the source's tokenizer.
        target: the target's.
    """

    def __init__(self, source: Tokenizer, target: Tokenizer) -> None:
        self._source, self._target = source, target
        pieces, targets = source.pieces(range(source.size)), target.pieces(range(target.size))
        self._known = {piece: index for index, piece in enumerate(targets)}
        self._keys = {piece: index for index, piece in enumerate(pieces)}
        self._copies = np.array([self._known.get(piece, -1) for piece in pieces], np.int64)
        self._copies[UNK] = -1

    def of_sources(self, lines: Sequence[str], source: FlatSequences) -> FlatSequences:
        """Return the target id that each source token is a copy of.

        Args:
            lines: source lines.
            source: their ids.
        """
        return FlatSequences(self._of_sources(lines, source)[0].astype(np.int32), source.offsets)

    def of_pairs(
        self, sources: Sequence[str], targets: Sequence[str], pairs: EncodedPairs, indices: np.ndarray
    ) -> EncodedPairs:
        """Return the pairs with their copies, and with the ids of copies for unknown target tokens that are some.

        Args:
            sources: source lines, in memory or not.
            targets: target lines.
            pairs: the ids of some of them.
            indices: the lines of each pair.
        """
        copies, wanted = [], []
        for start in range(0, len(pairs), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(pairs)))
            lines = [int(line) for line in indices[rows]]
            source, target = pairs.source.select(rows), pairs.target.select(rows)
            found, first = self._of_sources([sources[line] for line in lines], source)
            copies.append(FlatSequences(found.astype(np.int32), source.offsets))
            wanted.append(self._of_targets([targets[line] for line in lines], target, first))
        return replace(pairs, target=FlatSequences.concatenate(wanted), copies=FlatSequences.concatenate(copies))

    def vocabulary(self, line: str, tokens: Sequence[int]) -> Vocabulary:
        """Return what target ids and those of copies stand for beside a source line with these ids."""
        return _WithCopies(self._target, self._source, line, tokens)

    def _of_sources(self, lines: Sequence[str], source: FlatSequences) -> tuple[np.ndarray, _First]:
        ids = source.ids.astype(np.int64)
        copies, keys = self._copies[ids], ids.copy()
        rows, columns = _places(source)
        # an unknown token is what its text is
        unknown: dict[str, int] = {}
        texts = _unknown_pieces(self._source, lines, rows, ids)
        copies[ids == UNK] = [self._known.get(text, -1) for text in texts]
        keys[ids == UNK] = [unknown.setdefault(text, self._source.size + len(unknown)) for text in texts]
        lacking = np.flatnonzero(copies < 0)
        span = self._source.size + len(unknown)
        codes, first, inverse = np.unique(rows[lacking] * span + keys[lacking], return_index=True, return_inverse=True)
        positions = columns[lacking][first]
        copies[lacking] = self._target.size + positions[inverse]
        return copies, _First(codes, positions, span, unknown)

    def _of_targets(self, lines: Sequence[str], target: FlatSequences, first: _First) -> FlatSequences:
        ids = target.ids.astype(np.int64)
        rows, _ = _places(target)
        places = np.flatnonzero(ids == UNK)
        texts = _unknown_pieces(self._target, lines, rows, ids)
        keys = np.array([first.unknown.get(text, self._keys.get(text, -1)) for text in texts], np.int64)
        codes = np.where(keys < 0, -1, rows[places] * first.span + keys)
        found = np.isin(codes, first.codes)
        ids[places[found]] = self._target.size + first.positions[np.searchsorted(first.codes, codes[found])]
        return FlatSequences(ids.astype(np.int32), target.offsets)


def first_without_copy(pairs: EncodedPairs) -> tuple[int, int] | None:
    """Return the first pair with a target token that no source position is a copy of, and the token's position."""
    assert pairs.copies is not None
    span = 1 + max(int(side.ids.max(initial=EOS)) for side in (pairs.target, pairs.copies))
    rows, columns = _places(pairs.target)
    codes = rows * span + pairs.target.ids
    found = np.isin(codes, _places(pairs.copies)[0] * span + pairs.copies.ids)
    if found.all():
        return None
    place = int(found.argmin())
    return int(rows[place]), int(columns[place])


def line_surfaces(tokenizer: Tokenizer, line: str, tokens: Sequence[int]) -> list[bytes]:
    """Return the UTF-8 bytes that each id of a line stands for there, unknown ones too."""
    surfaces, texts = tokenizer.surfaces(tokens), iter(tokenizer.unknown([line])[0])
    return [next(texts).encode() if token == UNK else surface for token, surface in zip(tokens, surfaces, strict=True)]


def _places(sequences: FlatSequences) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and column of each id."""
    rows = np.repeat(np.arange(len(sequences)), sequences.lengths)
    return rows, np.arange(len(rows)) - sequences.offsets[rows]


def _unknown_pieces(tokenizer: Tokenizer, lines: Sequence[str], rows: np.ndarray, ids: np.ndarray) -> list[str]:
    """Return what each UNK among the ids [n], which stand in these rows [n], would be as a piece."""
    some = np.unique(rows[ids == UNK])
    return [
        text.replace(" ", "\u2581") for texts in tokenizer.unknown([lines[int(row)] for row in some]) for text in texts
    ]


@final
class _WithCopies(Vocabulary):
    """The target vocabulary, and source tokens from its size on."""

    def __init__(self, target: Tokenizer, source: Tokenizer, line: str, tokens: Sequence[int]) -> None:
        self._target = target
        self._surfaces = line_surfaces(source, line, tokens)
        self._pieces = [
            surface.decode().replace(" ", "\u2581") if token == UNK else piece
            for token, piece, surface in zip(tokens, source.pieces(tokens), self._surfaces, strict=True)
        ]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each id as something to read."""
        return [self._piece(index) for index in ids]

    def surfaces(self, ids: Sequence[int]) -> list[bytes]:
        """Return the UTF-8 bytes that each id gives to the text."""
        return [self._surface(index) for index in ids]

    def _piece(self, index: int) -> str:
        return self._target.pieces([index])[0] if index < self._target.size else self._pieces[index - self._target.size]

    def _surface(self, index: int) -> bytes:
        if index < self._target.size:
            return self._target.surfaces([index])[0]
        return self._surfaces[index - self._target.size]
