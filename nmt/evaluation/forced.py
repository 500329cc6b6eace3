"""Alignments by forced decoding: the model is fed a given target and its attention is read off."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from nmt.data.batches import EncodedPairs
from nmt.data.corpus import GoldLinks
from nmt.errors import DataError
from nmt.evaluation.aer import alignment_error_rate, oracle_aer
from nmt.evaluation.alignment import Sentence, WordAlignment, no_alignment, word_alignment
from nmt.evaluation.batching import inference, pair_batches

if TYPE_CHECKING:
    from nmt.data.tokenizer import TokenizerPair
    from nmt.model import TranslationModel


class ForcedAlignments(NamedTuple):
    """Alignments of the same pairs read at both shifts; ``alignments[shift]`` is the list for a shift.

    Attributes:
        unshifted: one alignment per pair, the attention when a piece is predicted.
        shifted: the attention one step later, when the piece has just been read.
    """

    unshifted: list[WordAlignment]
    shifted: list[WordAlignment]


class AlignmentScores(NamedTuple):
    """AER of forced alignments at both shifts, and the lowest that one link per target word can reach."""

    unshifted: float
    shifted: float
    oracle: float


def align_lines(
    model: "TranslationModel",
    tokenizers: "TokenizerPair",
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    batch_tokens: int,
    device: torch.device | str,
    heads: bool = False,
) -> ForcedAlignments:
    """Align the words of given sentence pairs by forced decoding, at both shifts.

    A pair with an empty side has no links, and the model is not asked.

    Args:
        model: the model; its mode (train or eval) is left as it was.
        tokenizers: those of the model.
        sources: raw source lines.
        targets: raw target lines, as many.
        batch_tokens: at most this many source and this many target positions at a time; fewer where pairs are long, as
            :func:`nmt.evaluation.batching.pair_batches` says.
        device: where the model is.
        heads: give the weights of each head too, where attention has several.

    Raises:
        DataError: the counts of lines differ.
    """
    if len(sources) != len(targets):
        raise DataError(f"{len(sources)} source and {len(targets)} target lines are no pairs; give as many of each")
    empty = [no_alignment(source, target) for source, target in zip(sources, targets, strict=True)]
    found = ForcedAlignments(empty, list(empty))
    encoded = (tokenizers.source.encode(sources), tokenizers.target.encode(targets))
    full = [
        number
        for number, sides in enumerate(zip(sources, targets, *encoded, strict=True))
        if all(sides) and sides[0].strip() and sides[1].strip()
    ]
    pairs = EncodedPairs.from_lists(*([side[number] for number in full] for side in encoded))
    for index, weights, each in _weights(model, pairs, batch_tokens=batch_tokens, device=device, heads=heads):
        number = full[index]
        source = Sentence(sources[number], encoded[0][number])
        target = Sentence(targets[number], encoded[1][number])
        for shift, alignments in enumerate(found):
            alignments[number] = word_alignment(tokenizers, source, target, weights, shift=shift, heads=each)
    return found


def score_alignments(alignments: ForcedAlignments, gold: Sequence[GoldLinks]) -> AlignmentScores:
    """Score alignments of both shifts against gold links.

    Raises:
        DataError: the counts of pairs differ, or a gold link is to a word beyond the target sentence.
    """
    unshifted, shifted = ([pair.links for pair in pairs] for pairs in alignments)
    return AlignmentScores(
        unshifted=alignment_error_rate(unshifted, gold),
        shifted=alignment_error_rate(shifted, gold),
        oracle=oracle_aer(gold, [len(pair.target_words) for pair in alignments.unshifted]),
    )


def _weights(
    model: "TranslationModel",
    pairs: EncodedPairs,
    *,
    batch_tokens: int,
    device: torch.device | str,
    heads: bool,
) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
    """Yield (index of the pair, weights, those of each head if asked for), batch by batch.

    Weights are [T, S] without padding, EOS included on both sides. Row t holds the weights when piece t is predicted,
    the last row those when EOS is.
    """
    source_lengths, target_lengths = (lengths + 1 for lengths in pairs.lengths)
    for indices in pair_batches(source_lengths, target_lengths, positions=batch_tokens):
        batch = pairs.batch(indices).to(device)
        with inference(model):
            decoded = model(batch.source, batch.source_lengths, batch.target_in)
        given = [model.weights(decoded)]
        if heads and decoded.attended.heads is not None:
            given += decoded.attended.heads.unbind(2)
        found = [weights.float().cpu().numpy() for weights in given]
        for row, index in enumerate(indices):
            # copies, or one small sentence would keep its whole padded batch alive
            mean, *each = [array[row, : target_lengths[index], : source_lengths[index]].copy() for array in found]
            yield int(index), mean, each
