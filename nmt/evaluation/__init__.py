"""What a trained model is worth: corpus scores, significance, alignment error, perplexity; and translating text.

What needs torch is imported at its first use, so that runs can be compared without it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nmt.evaluation.aer import alignment_error_rate, better_shift, oracle_aer
from nmt.evaluation.alignment import Sentence, WordAlignment, no_alignment, piece_links, word_alignment
from nmt.evaluation.bleu import (
    CorpusScores,
    LengthBin,
    bleu_by_length,
    bleu_tokenizer,
    check_tokenizer,
    corpus_bleu,
    score_translations,
)
from nmt.evaluation.significance import BootstrapResult, bootstrap_interval, paired_bootstrap

if TYPE_CHECKING:
    from nmt.evaluation.batching import inference, length_batches, pair_batches
    from nmt.evaluation.forced import AlignmentScores, ForcedAlignments, align_lines, score_alignments
    from nmt.evaluation.perplexity import Perplexity, batch_nll, corpus_perplexity
    from nmt.evaluation.translate import Candidate, Translation, translate_lines, translation_alignments

__all__ = [
    "AlignmentScores",
    "BootstrapResult",
    "Candidate",
    "CorpusScores",
    "ForcedAlignments",
    "LengthBin",
    "Perplexity",
    "Sentence",
    "Translation",
    "WordAlignment",
    "align_lines",
    "alignment_error_rate",
    "batch_nll",
    "better_shift",
    "bleu_by_length",
    "bleu_tokenizer",
    "bootstrap_interval",
    "check_tokenizer",
    "corpus_bleu",
    "corpus_perplexity",
    "inference",
    "length_batches",
    "no_alignment",
    "oracle_aer",
    "pair_batches",
    "paired_bootstrap",
    "piece_links",
    "score_alignments",
    "score_translations",
    "translate_lines",
    "translation_alignments",
    "word_alignment",
]

_NEED_TORCH = ("batching", "forced", "perplexity", "translate")


def __getattr__(name: str) -> Any:
    """Import a name from the modules that need torch."""
    if name in __all__:
        for module in _NEED_TORCH:
            found = getattr(importlib.import_module(f"{__name__}.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
