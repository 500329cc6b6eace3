"""sacreBLEU's scores on detokenised text, each with the signature that makes it reproducible."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from nmt.data.words import split_words
from nmt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

_TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}
# languages whose words are not separated by spaces and that tercom's own tokeniser splits into characters
_TER_ASIAN = ("zh", "ja")


class CorpusScores(TypedDict):
    """Corpus scores in percent; TER is an error rate: lower is better."""

    bleu: float
    signature: str
    chrf: float
    chrf_signature: str
    ter: float
    ter_signature: str


class LengthBin(TypedDict):
    """BLEU of the sentences whose source has ``low`` to ``high`` words, both included; ``high`` None: no upper end."""

    low: int
    high: int | None
    sentences: int
    bleu: float


def bleu_tokenizer(target_language: str) -> str:
    """Return the name of sacreBLEU's tokeniser for an ISO 639-1 code; ``13a`` for all but Chinese, Japanese, Korean."""
    return _TOKENIZERS.get(target_language, "13a")


def check_tokenizer(target_language: str) -> None:
    """Check, before any training, that references of this language can be tokenised.

    Raises:
        ConfigError: sacreBLEU's extra for Japanese or Korean is not installed.
    """
    if target_language in _TOKENIZERS:
        bleu_metric(target_language)


def bleu_metric(target_language: str) -> "BLEU":
    """Return sacreBLEU's BLEU (cased, exponential smoothing) with the tokeniser of the target language.

    Raises:
        ConfigError: sacreBLEU's extra for Japanese or Korean is not installed.
    """
    from sacrebleu.metrics.bleu import BLEU

    name = bleu_tokenizer(target_language)
    try:
        # `force` silences the guess that text with " ." is tokenised; it changes neither score nor signature
        return BLEU(tokenize=name, force=True)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"data.target_language={target_language} needs sacreBLEU's tokeniser {name}, which is not installed; "
            f'run: pip install "sacrebleu[{target_language}]"'
        ) from None


def corpus_bleu(hypotheses: Sequence[str], references: Sequence[str], target_language: str) -> float:
    """Return corpus BLEU (Papineni et al. 2002, in percent) of detokenised translations; quick enough for validation.

    Args:
        hypotheses: translations, as the reader sees them.
        references: one reference per translation, never normalised.
        target_language: ISO 639-1 code, which decides sacreBLEU's tokeniser.

    Raises:
        DataError: there are no sentences, or the counts differ.
        ConfigError: as :func:`check_tokenizer`.
    """
    check_parallel(hypotheses, references)
    return _score(bleu_metric(target_language), hypotheses, references)[0]


def score_translations(hypotheses: Sequence[str], references: Sequence[str], target_language: str) -> CorpusScores:
    """Score detokenised translations with BLEU, chrF (Popović 2015; chrF2) and TER (Snover et al. 2006).

    TER counts words between spaces; for Chinese and Japanese it is given tercom's normalisation with Asian support, as
    otherwise a sentence would be one word. Its signature says so.

    Args:
        hypotheses: translations, as the reader sees them.
        references: one reference per translation, never normalised.
        target_language: ISO 639-1 code, which decides the tokenisers.

    Raises:
        DataError: there are no sentences, or the counts differ.
        ConfigError: as :func:`check_tokenizer`.
    """
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    check_parallel(hypotheses, references)
    asian = target_language in _TER_ASIAN
    bleu, signature = _score(bleu_metric(target_language), hypotheses, references)
    chrf, chrf_signature = _score(CHRF(), hypotheses, references)
    ter, ter_signature = _score(TER(normalized=asian, asian_support=asian), hypotheses, references)
    return CorpusScores(
        bleu=bleu,
        signature=signature,
        chrf=chrf,
        chrf_signature=chrf_signature,
        ter=ter,
        ter_signature=ter_signature,
    )


def bleu_by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    target_language: str,
    *,
    width: int = 10,
    last: int = 60,
) -> list[LengthBin]:
    """Return corpus BLEU of the sentences of each range of source lengths, as in Bahdanau et al. 2015, figure 2.

    Args:
        sources: source lines; their length is counted in words (:func:`nmt.data.words.split_words`).
        hypotheses: translations of them.
        references: one reference each.
        target_language: ISO 639-1 code.
        width: words a bin spans: 0-10, 11-20, ... by default.
        last: longer sources share one open bin; a multiple of ``width``.

    Returns:
        The bins that have sentences, by length.

    Raises:
        DataError: there are no sentences, or the counts differ.
    """
    check_parallel(hypotheses, references)
    check_parallel(hypotheses, sources, what="source sentences")
    members: dict[int, list[int]] = {}
    for index, line in enumerate(sources):
        words = min(len(split_words(line)), last + 1)
        members.setdefault(max(0, words - 1) // width, []).append(index)
    return [
        LengthBin(
            low=number * width + 1 if number else 0,
            high=(number + 1) * width if number * width < last else None,
            sentences=len(indices),
            bleu=corpus_bleu([hypotheses[i] for i in indices], [references[i] for i in indices], target_language),
        )
        for number, indices in sorted(members.items())
    ]


def check_parallel(hypotheses: Sequence[str], others: Sequence[str], *, what: str = "references") -> None:
    """Raise DataError unless there are translations and as many of ``others``: sacreBLEU would cut the longer list."""
    if len(hypotheses) != len(others):
        raise DataError(
            f"{len(hypotheses)} translations cannot be scored with {len(others)} {what}; one each is needed"
        )
    if not hypotheses:
        raise DataError("there are no translations to score; at least one is needed")


@contextlib.contextmanager
def quiet_sacrebleu() -> Iterator[None]:
    """Keep sacreBLEU's progress notes and advice out of the run's log."""
    logger = logging.getLogger("sacrebleu")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _score(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Return a sacreBLEU metric's corpus score and its signature."""
    with quiet_sacrebleu():
        score = metric.corpus_score(list(hypotheses), [list(references)]).score
    return float(score), str(metric.get_signature())
