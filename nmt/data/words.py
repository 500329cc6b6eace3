"""Words of a line, attention between pieces merged into attention between words, and links read from it."""

import re
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

# scripts written without spaces: each of their characters is a word
_UNSPACED = (
    "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003fffd"  # Han, the rarer ones
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"  # Kana
    "\u0e01-\u0e3a\u0e40-\u0e5b"  # Thai
    "\u0e80-\u0eff"  # Lao
    "\u1780-\u17ff\u19e0-\u19ff"  # Khmer
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


def split_words(line: str) -> list[str]:
    """Return the words of a line.

    A word is a whitespace token; in a token with Han, Kana, Thai, Lao, Khmer or Myanmar characters each of these is a
    word of its own, and so is each maximal run of other characters.
    """
    return _WORD.findall(line)


def piece_words(surfaces: Sequence[bytes]) -> tuple[list[str], list[list[int]]]:
    """Find the words of a segmented line and which of them each piece touches.

    Args:
        surfaces: the UTF-8 bytes of each piece, as ``Tokenizer.surfaces`` returns them; their concatenation is the
            line, in which bytes that are no UTF-8 count as characters of a word.

    Returns:
        The words, as ``split_words`` splits the line, and for each piece the ascending indices of the words it has a
        byte of: none for a special piece or a pure space, several for a piece across words.
    """
    data = b"".join(surfaces)
    # every undecodable byte becomes one character, so that positions in bytes can be told from the text
    text = data.decode("utf-8", errors="surrogateescape")
    widths = (len(character.encode("utf-8", errors="surrogateescape")) for character in text)
    offsets = range(len(data) + 1) if len(text) == len(data) else [0, *accumulate(widths)]
    words, word_of_byte = [], [-1] * len(data)
    for match in _WORD.finditer(text):
        begin, end = offsets[match.start()], offsets[match.end()]
        word_of_byte[begin:end] = [len(words)] * (end - begin)
        words.append(data[begin:end].decode("utf-8", errors="replace"))
    ends = accumulate(len(surface) for surface in surfaces)
    spans = (word_of_byte[end - len(surface) : end] for surface, end in zip(surfaces, ends, strict=True))
    return words, [sorted(set(span) - {-1}) for span in spans]


def merge_weights(
    weights: np.ndarray,
    target_pieces: Sequence[Sequence[int]],
    source_pieces: Sequence[Sequence[int]],
    n_target_words: int,
    n_source_words: int,
) -> np.ndarray:
    """Merge attention between pieces into attention between words: sum over a source word, mean over a target word.

    Args:
        weights: [T, S] attention of each target piece on each source piece, both without EOS (dropped, not
            renormalised).
        target_pieces: T lists, the words each target piece touches; a piece counts fully in each.
        source_pieces: S lists; a piece that touches k words gives 1/k of its weight to each.
        n_target_words: number of target words.
        n_source_words: number of source words.

    Returns:
        [target words, source words] float64; a target word without pieces has a row of zeros.
    """
    weights = np.asarray(weights, np.float64)
    if weights.shape != (len(target_pieces), len(source_pieces)):
        expected = (len(target_pieces), len(source_pieces))
        raise ValueError(f"weights have shape {weights.shape}, pieces (without EOS) call for {expected}")
    to_target = _incidence(target_pieces, n_target_words)
    to_source = _incidence(source_pieces, n_source_words)
    to_target /= np.maximum(to_target.sum(axis=0, keepdims=True), 1)
    to_source /= np.maximum(to_source.sum(axis=1, keepdims=True), 1)
    return to_target.T @ weights @ to_source


def _incidence(pieces: Sequence[Sequence[int]], n_words: int) -> np.ndarray:
    """Return the matrix [pieces, words] that is 1 where a piece touches a word."""
    matrix = np.zeros((len(pieces), n_words))
    for piece, words in enumerate(pieces):
        matrix[piece, list(words)] = 1
    return matrix


def shift_weights(weights: np.ndarray, shift: int) -> np.ndarray:
    """Attribute to each target piece the weights of ``shift`` steps later; made on pieces, before merging.

    Content scores on s_t align y_{t-1}, the input of the step, rather than the predicted y_t (Luong et al. 2015,
    arXiv:1508.04025v5, footnote 14), so with ``shift`` 1 piece t gets the weights with which piece t + 1 was predicted.

    Args:
        weights: [T, S], row t is the attention when piece t is predicted; the last row is that of EOS, so that the last
            real piece has a next one.
        shift: 0 or 1 (any number of steps works).

    Returns:
        [T, S]; rows that would come from after the end are zeros. The last row stands for EOS as before: drop it before
        merging.
    """
    if shift < 0:
        raise ValueError(f"shift={shift} is not accepted; it must be at least 0")
    shifted = np.zeros_like(weights)
    shifted[: max(len(weights) - shift, 0)] = weights[shift:]
    return shifted


def links_from_weights(word_weights: np.ndarray) -> list[tuple[int, int]]:
    """Return one link (source word, target word) per target word: the largest weight, the lower index on ties.

    A target word whose weights are all zero has no link.

    Args:
        word_weights: [target words, source words].
    """
    if not word_weights.size:
        return []
    best = word_weights.argmax(axis=1)
    return [(int(source), target) for target, source in enumerate(best) if word_weights[target, source] > 0]
