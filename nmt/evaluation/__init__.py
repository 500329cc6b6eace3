"""What a trained model is worth: corpus scores, significance, alignment error, perplexity; and translating text."""

from nmt.evaluation.aer import alignment_error_rate, better_shift, oracle_aer
from nmt.evaluation.alignment import Sentence, WordAlignment, no_alignment, word_alignment
from nmt.evaluation.batching import inference, length_batches
from nmt.evaluation.bleu import (
    CorpusScores,
    LengthBin,
    bleu_by_length,
    bleu_tokenizer,
    check_tokenizer,
    corpus_bleu,
    score_translations,
)
from nmt.evaluation.forced import AlignmentScores, ForcedAlignments, align_lines, forced_weights, score_alignments
from nmt.evaluation.perplexity import Perplexity, batch_nll, corpus_perplexity
from nmt.evaluation.significance import BootstrapResult, bootstrap_interval, paired_bootstrap
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
    "forced_weights",
    "inference",
    "length_batches",
    "no_alignment",
    "oracle_aer",
    "paired_bootstrap",
    "score_alignments",
    "score_translations",
    "translate_lines",
    "translation_alignments",
    "word_alignment",
]
