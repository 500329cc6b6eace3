"""Lines in, translations out: the one way from text through tokenizer, model and search back to text."""

import logging
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nmt.data.batches import FlatSequences, encode_sources
from nmt.data.vocabulary import BOS, EOS, PAD, UNK
from nmt.evaluation.alignment import Sentence, WordAlignment, no_alignment, word_alignment
from nmt.evaluation.batching import inference, length_batches
from nmt.model import searching
from nmt.search import Hypothesis, SearchOptions, search

if TYPE_CHECKING:
    from nmt.data.tokenizer import TokenizerPair, Vocabulary
    from nmt.model import TranslationModel

log = logging.getLogger(__name__)

# all that str.splitlines, or some reader of our output, takes for the end of a line
_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# log-probabilities of a step, in elements: of all its hypotheses, and of those made at once. On a CPU 8 MiB of float32
# are read again from the cache; a GPU wants few and large operations
_LOGITS = {"cpu": (2**23, 2**21), "cuda": (2**27, 2**27)}


class Candidate(NamedTuple):
    """One translation of a line.

    Attributes:
        text: detokenised, on one line.
        score: the length-normalised log-probability used for ranking.
        log_prob: log-probability, EOS included, in nats.
        tokens: ids without BOS and EOS; from the target vocabulary's size V on, V + j for a copy of source piece j.
        pieces: the same, readable.
        weights: float32 [pieces + EOS, source pieces + EOS]; row t is the attention when piece t is predicted.
            No rows where they were not kept.
    """

    text: str
    score: float
    log_prob: float
    tokens: list[int]
    pieces: list[str]
    weights: np.ndarray


class Translation(NamedTuple):
    """A line and its translations.

    Attributes:
        source: the line.
        source_tokens: its ids, without EOS; empty for a line without text.
        source_pieces: the same, readable.
        candidates: as many as the search's ``n_best`` where it found so many, best first; never empty.
    """

    source: str
    source_tokens: list[int]
    source_pieces: list[str]
    candidates: list[Candidate]

    @property
    def text(self) -> str:
        """The best translation."""
        return self.candidates[0].text

    @property
    def target_pieces(self) -> list[str]:
        """The best translation's pieces."""
        return self.candidates[0].pieces

    @property
    def weights(self) -> np.ndarray:
        """The best translation's attention weights."""
        return self.candidates[0].weights


def translate_lines(
    model: "TranslationModel",
    tokenizers: "TokenizerPair",
    lines: Sequence[str],
    options: SearchOptions,
    *,
    batch_tokens: int,
    device: torch.device | str,
    generator: torch.Generator | None = None,
    keep_weights: bool = True,
) -> list[Translation]:
    """Translate lines of text.

    Lines are decoded longest first in batches of like length. A line that is empty, or has nothing but white space, has
    an empty translation (``n_best`` of them, of score 0), and the model is not asked.

    Args:
        model: the model; its mode (train or eval) is left as it was.
        tokenizers: those of the model.
        lines: raw lines of any length.
        options: how to search.
        batch_tokens: at most this many source positions, and this many beam rows, at a time; a longer line is decoded
            alone. Large vocabularies lower the number of rows further, so that memory stays bounded.
        device: where the model is.
        generator: random numbers for sampling, on ``device``.
        keep_weights: keep the attention weights of all candidates; a call that only wants text saves their memory,
            which grows with the square of a line's length.

    Returns:
        One translation per line, in the order of the lines.
    """
    encoded = [
        tokens if line.strip() else [] for line, tokens in zip(lines, tokenizers.source.encode(lines), strict=True)
    ]
    full = [number for number, tokens in enumerate(encoded) if tokens]
    found: dict[int, Translation] = {}
    beams = options.n_best if options.sample else options.beam
    in_all, at_once = (cells // tokenizers.target.size for cells in _LOGITS[torch.device(device).type])
    rows = max(1, min(batch_tokens, in_all) // beams)
    lengths = np.array([len(encoded[number]) + 1 for number in full], np.int64)
    for indices in length_batches(lengths, positions=batch_tokens, rows=rows):
        numbers = [full[int(index)] for index in indices]
        sources = [encoded[number] for number in numbers]
        copies = None
        if model.copies:
            flat = FlatSequences.from_lists(sources)
            copies = tokenizers.copies.of_sources([lines[number] for number in numbers], flat)
        hypotheses = _decode(
            model,
            sources,
            copies,
            options,
            device=device,
            generator=generator,
            keep_weights=keep_weights,
            rows_at_once=at_once,
        )
        for number, tokens, ranked in zip(numbers, sources, hypotheses, strict=True):
            line = lines[number]
            vocabulary = tokenizers.copies.vocabulary(line, tokens) if model.copies else tokenizers.target
            found[number] = _translation(tokenizers, vocabulary, line, tokens, ranked)
    _tell_impossible(found.values(), len(lines))
    return [
        found[number] if number in found else _empty(line, options.n_best, keep_weights=keep_weights)
        for number, line in enumerate(lines)
    ]


def translation_alignments(translation: Translation, tokenizers: "TokenizerPair", *, shift: int) -> list[WordAlignment]:
    """Return the word alignment of each candidate, whose weights were kept, with its source.

    ``shift`` is as in :func:`word_alignment`.
    """
    source, size = Sentence(translation.source, translation.source_tokens), tokenizers.target.size

    def target(candidate: Candidate) -> Sentence:
        # what a copy stands for is in the text, as it is for an unknown token of a given line
        return Sentence(candidate.text, [token if token < size else UNK for token in candidate.tokens])

    return [
        word_alignment(tokenizers, source, target(candidate), candidate.weights, shift=shift)
        if source.tokens and candidate.tokens
        else no_alignment(translation.source, candidate.text)
        for candidate in translation.candidates
    ]


def _decode(
    model: "TranslationModel",
    sources: list[list[int]],
    copies: FlatSequences | None,
    options: SearchOptions,
    *,
    device: torch.device | str,
    generator: torch.Generator | None,
    keep_weights: bool,
    rows_at_once: int,
) -> list[list[Hypothesis]]:
    """Search for translations of one batch of encoded sources; ``copies`` are what their tokens are copies of."""
    source, source_lengths = (tensor.to(device) for tensor in encode_sources(sources))
    places = None
    if copies is not None:
        places = torch.from_numpy(copies.padded(np.arange(len(copies)), last=[EOS])).to(device)
    with inference(model), searching():
        return search(
            model.step,
            model.encode(source, source_lengths, places),
            source_lengths=source_lengths,
            options=options,
            bos=BOS,
            eos=EOS,
            forbidden=(PAD, BOS),
            generator=generator,
            keep_weights=keep_weights,
            rows_at_once=rows_at_once,
        )


def _translation(
    tokenizers: "TokenizerPair",
    vocabulary: "Vocabulary",
    line: str,
    source_tokens: list[int],
    hypotheses: list[Hypothesis],
) -> Translation:
    """Turn what the search found for a line into text, by what ids stand for beside that line."""
    texts = vocabulary.decode([hypothesis.tokens for hypothesis in hypotheses])
    candidates = [
        Candidate(
            text=_LINE_BREAK.sub(" ", text),
            score=hypothesis.score,
            log_prob=hypothesis.log_prob,
            tokens=hypothesis.tokens,
            pieces=vocabulary.pieces(hypothesis.tokens),
            weights=_real(hypothesis.weights, len(source_tokens) + 1),
        )
        for hypothesis, text in zip(hypotheses, texts, strict=True)
    ]
    return Translation(line, source_tokens, tokenizers.source.pieces(source_tokens), candidates)


def _real(weights: Tensor, positions: int) -> np.ndarray:
    """Return a copy of the real positions' weights, or a short line would keep its batch's padded array alive."""
    return weights[:, :positions].numpy().copy() if len(weights) else np.zeros((0, positions), np.float32)


def _empty(line: str, n_best: int, *, keep_weights: bool) -> Translation:
    """Return the translation of a line without text: nothing, with certainty."""
    nothing = Candidate("", 0.0, 0.0, [], [], np.zeros((int(keep_weights), 1), np.float32))
    return Translation(line, [], [], [nothing] * n_best)


def _tell_impossible(translations: Iterable[Translation], lines: int) -> None:
    """Say, once, how many lines the model gives no translation."""
    count = sum(translation.candidates[0].score == -math.inf for translation in translations)
    if count:
        log.warning(
            "%d of %d sentences have no translation of non-zero probability; their output is empty.",
            count,
            lines,
        )
