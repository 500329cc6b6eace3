"""Scores of a test set: the same ones at the end of training and from ``nmt evaluate``."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from nmt.assemble import OpenRun
from nmt.data import first_without_copy
from nmt.data.corpus import GoldLinks
from nmt.evaluation import (
    Translation,
    align_lines,
    bleu_by_length,
    corpus_perplexity,
    score_alignments,
    score_translations,
    translate_lines,
)
from nmt.search import SearchOptions


def score_test(
    run: OpenRun,
    sources: Sequence[str],
    references: Sequence[str],
    gold: Sequence[GoldLinks] | None,
    *,
    options: SearchOptions,
    shift: int | None,
    batch_tokens: int,
) -> tuple[dict[str, Any], list[Translation]]:
    """Translate a test set and score the translations, the model's probabilities and its alignments.

    Args:
        run: the open run.
        sources: raw source lines.
        references: one raw reference each.
        gold: gold links of the pairs, or None. A model without attention weights has no alignment to score.
        options: how to search.
        shift: which reading of the attention ``aer`` is: 0 or 1, as validation links decided; None (there were none)
            counts as 0.
        batch_tokens: at most this many positions at a time.

    Returns:
        The scores, as ``metrics.json`` holds them for a test set (BLEU, chrF, TER and BLEU by source length in percent,
        perplexity and AER on the references), and the translations in the order of the lines, without attention
        weights.

    Raises:
        DataError: there are no sentences, the counts differ, or a gold link lies outside its sentence.
    """
    sources, references = list(sources), list(references)
    with run.arithmetic():
        translations = translate_lines(
            run.model,
            run.tokenizers,
            sources,
            options,
            batch_tokens=batch_tokens,
            device=run.device,
            generator=sampling_generator(run, options),
            keep_weights=False,
        )
        hypotheses, language = [line.text for line in translations], run.corpus["target_language"]
        scores: dict[str, Any] = {"sentences": len(sources)}
        scores |= score_translations(hypotheses, references, language)
        scores["bleu_by_length"] = bleu_by_length(sources, hypotheses, references, language)
        scores |= _likelihood(run, sources, references, batch_tokens=batch_tokens)
        if gold is not None and run.model.has_weights:
            scores |= _alignment(run, sources, references, gold, shift=shift or 0, batch_tokens=batch_tokens)
    return scores, translations


def sampling_generator(run: OpenRun, options: SearchOptions, seed: int | None = None) -> torch.Generator | None:
    """Return the random numbers for sampling, from ``seed`` or the run's own; None for a search that draws nothing."""
    if not options.sample:
        return None
    return torch.Generator(run.device).manual_seed(run.config.seed if seed is None else seed)


def _likelihood(
    run: OpenRun, sources: list[str], references: list[str], *, batch_tokens: int
) -> dict[str, float | None]:
    """Return the references' negative log-likelihood per token and perplexity; None where it is not finite (JSON)."""
    pairs = run.tokenizers.encode_pairs(sources, references, copies=run.model.copies)
    if not run.model.prediction.generates and first_without_copy(pairs) is not None:
        return {"perplexity": None, "nll": None}
    found = corpus_perplexity(run.model, pairs, batch_tokens=batch_tokens, device=run.device)
    values = {"perplexity": found.perplexity, "nll": found.nll}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _alignment(
    run: OpenRun,
    sources: list[str],
    references: list[str],
    gold: Sequence[GoldLinks],
    *,
    shift: int,
    batch_tokens: int,
) -> dict[str, float | int]:
    """Return the AER of forced decoding at both shifts and of the oracle."""
    alignments = align_lines(
        run.model, run.tokenizers, sources, references, batch_tokens=batch_tokens, device=run.device
    )
    found = score_alignments(alignments, gold)
    return {
        "aer": found.shifted if shift else found.unshifted,
        "aer_shift": shift,
        "aer_unshifted": found.unshifted,
        "aer_shifted": found.shifted,
        "aer_oracle": found.oracle,
    }
