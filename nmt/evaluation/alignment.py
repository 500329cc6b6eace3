"""From attention weights over pieces to weights and links over words."""

import itertools
import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nmt.data.corpus import Link
from nmt.data.vocabulary import UNK
from nmt.data.words import links_from_weights, merge_weights, piece_words, shift_weights, split_words

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer, TokenizerPair

log = logging.getLogger(__name__)


class WordAlignment(NamedTuple):
    """What a model attended to, in words; all that a heatmap needs.

    Attributes:
        source_words: the source sentence.
        target_words: the target sentence.
        weights: [target words, source words]; rows need not sum to 1, as the weight on EOS is dropped.
        links: (source word, target word), 0-based; at most one per target word.
        heads: the weights of each head, where they were asked for.
    """

    source_words: list[str]
    target_words: list[str]
    weights: np.ndarray
    links: list[Link]
    heads: Sequence[np.ndarray] = ()


class Sentence(NamedTuple):
    """One side of a pair: the line and its ids, without BOS and EOS."""

    line: str
    tokens: Sequence[int]


def word_alignment(
    tokenizers: "TokenizerPair",
    source: Sentence,
    target: Sentence,
    weights: np.ndarray,
    *,
    shift: int,
    heads: Sequence[np.ndarray] = (),
) -> WordAlignment:
    """Merge the attention over pieces into words and link every target word to its best source word.

    Args:
        tokenizers: those that made the ids.
        source: the source sentence.
        target: the target sentence, given or produced.
        weights: [target pieces + EOS, source pieces + EOS]; row t is the attention when piece t is predicted.
        shift: 1 takes the row of the *next* step for each piece, for models that attend to the word they have just read
            (Luong et al. 2015, footnote 14); 0 takes its own. The shift is made on pieces, before merging.
        heads: the weights of each head, as ``weights``; they make no links.
    """
    source_words, source_pieces = _words(tokenizers.source, source)
    target_words, target_pieces = _words(tokenizers.target, target)

    def merge(given: np.ndarray) -> np.ndarray:
        pieces = shift_weights(given, shift)[: len(target.tokens), : len(source.tokens)]
        return merge_weights(pieces, target_pieces, source_pieces, len(target_words), len(source_words))

    merged = merge(weights)
    return WordAlignment(
        source_words, target_words, merged, links_from_weights(merged), [merge(head) for head in heads]
    )


def piece_links(
    tokenizers: "TokenizerPair", source: Sentence, target: Sentence, links: Iterable[Link]
) -> list[Link] | None:
    """Return links between pieces: every piece of a word with every piece of the word that it is linked to.

    Args:
        tokenizers: those that made the ids.
        source: the source sentence.
        target: the target sentence.
        links: (source word, target word), 0-based.

    Returns:
        (source piece, target piece), each once, in ascending order; None where the pieces of a side do not make the
        words of its line, so that the words which links count are not known.
    """
    sides = []
    for tokenizer, sentence in ((tokenizers.source, source), (tokenizers.target, target)):
        words, pieces = _piece_words(tokenizer, sentence)
        if len(words) != len(split_words(sentence.line)):
            return None
        of_word: list[list[int]] = [[] for _ in words]
        for piece, touched in enumerate(pieces):
            for word in touched:
                of_word[word].append(piece)
        sides.append(of_word)
    products = (itertools.product(sides[0][i], sides[1][j]) for i, j in links)
    return sorted(set(itertools.chain.from_iterable(products)))


def no_alignment(source: str, target: str) -> WordAlignment:
    """Return the alignment of a pair with an empty side: no links."""
    source_words, target_words = split_words(source), split_words(target)
    weights = np.zeros((len(target_words), len(source_words)), np.float32)
    return WordAlignment(source_words, target_words, weights, [])


def _words(tokenizer: "Tokenizer", sentence: Sentence) -> tuple[list[str], list[list[int]]]:
    """Return the words of a sentence, as gold links count them, and for each piece the words it is part of."""
    words, pieces = _piece_words(tokenizer, sentence)
    line_words = split_words(sentence.line)
    if len(words) != len(line_words):
        log.warning(
            "the pieces of a line make %d words where the line has %d, so its links may be off: %s",
            len(words),
            len(line_words),
            sentence.line,
        )
        return words, pieces
    return line_words, pieces


def _piece_words(tokenizer: "Tokenizer", sentence: Sentence) -> tuple[list[str], list[list[int]]]:
    """Return the words that the pieces of a sentence make, and for each piece the words it is part of."""
    surfaces = tokenizer.surfaces(sentence.tokens)
    unknown = [token == UNK for token in sentence.tokens]
    if any(unknown):
        surfaces = _with_unknown(surfaces, unknown, sentence.line)
    return piece_words(surfaces)


def _with_unknown(surfaces: Sequence[bytes], unknown: Sequence[bool], line: str) -> list[bytes]:
    """Return the surfaces with those of unknown pieces replaced by what stands in the line between the known ones.

    An unknown piece's own surface need not be as many words as the text it stands for: in "(Foo)" the pieces "(",
    unknown and ")" are one word. Where the known pieces are not found in the line the surfaces stay as they are.
    """
    text = " " + " ".join(part for part in line.split(" ") if part)
    filled: list[bytes] = []
    position = waiting = 0
    for is_unknown, group in itertools.groupby(zip(unknown, surfaces, strict=True), key=lambda pair: pair[0]):
        run = [surface for _, surface in group]
        if is_unknown:
            waiting = len(run)
            continue
        known = b"".join(run).decode("utf-8", errors="replace")
        start = text.find(known, position + waiting)
        if start < 0:
            return list(surfaces)
        filled += _divide(text[position:start], waiting) + run
        position, waiting = start + len(known), 0
    return filled + _divide(text[position:], waiting)


def _divide(text: str, count: int) -> list[bytes]:
    """Divide the text of neighbouring unknown pieces among them: a word each where that comes out even."""
    parts = re.findall(r"\s*\S+(?:\s+$)?", text)
    if len(parts) != count:
        bounds = [len(text) * number // max(count, 1) for number in range(count + 1)]
        parts = [text[start:stop] for start, stop in itertools.pairwise(bounds)]
    return [part.encode() for part in parts]
