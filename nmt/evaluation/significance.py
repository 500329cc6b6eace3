"""Is one system better than another, or lucky? sacreBLEU's paired bootstrap (Koehn 2004) with a fixed seed."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nmt.evaluation.bleu import bleu_metric, check_parallel, quiet_sacrebleu

_SEED_VARIABLE = "SACREBLEU_SEED"


class BootstrapResult(NamedTuple):
    """BLEU of a system on a test set and what resampling the test set says about it.

    Attributes:
        bleu: corpus BLEU on the test set, in percent.
        mean: its mean over the resampled test sets.
        low: lower end of the 95% interval, ``mean`` minus half the distance between the 2.5% and 97.5% quantiles.
        high: upper end.
        p_value: of the difference to the baseline, two-sided; None for the baseline itself.
        signature: sacreBLEU's, with number of resamples and seed.
    """

    bleu: float
    mean: float
    low: float
    high: float
    p_value: float | None
    signature: str


def paired_bootstrap(
    references: Sequence[str],
    baseline: Sequence[str],
    others: Sequence[Sequence[str]],
    target_language: str,
    *,
    samples: int = 1000,
    seed: int = 12345,
) -> list[BootstrapResult]:
    """Compare systems with a baseline by paired bootstrap resampling of the test set (Koehn 2004).

    Differs: sacreBLEU calls two identical systems significantly different (p = 1 / (samples + 1)); a difference of
    exactly zero has p = 1 here.

    Args:
        references: one per sentence.
        baseline: the baseline's translations, detokenised.
        others: the other systems' translations; may be empty, then only the baseline's interval is computed.
        target_language: ISO 639-1 code.
        samples: resampled test sets.
        seed: of the resampling; every system sees the same resampled test sets.

    Returns:
        The baseline's result and then one for each other system, in order.

    Raises:
        DataError: there are no sentences, or the counts differ.
    """
    from sacrebleu.significance import PairedTest

    for hypotheses in (baseline, *others):
        check_parallel(hypotheses, references)
    systems: list[tuple[str, Sequence[str]]] = [
        (str(number), list(hypotheses)) for number, hypotheses in enumerate((baseline, *others))
    ]
    with quiet_sacrebleu(), _seeded(seed):
        test = PairedTest(
            systems, {"BLEU": bleu_metric(target_language)}, [list(references)], "bs", n_samples=samples, n_jobs=1
        )
        signatures, results = test()
    return [_result(result, results["BLEU"][0], str(signatures["BLEU"])) for result in results["BLEU"]]


def bootstrap_interval(
    hypotheses: Sequence[str],
    references: Sequence[str],
    target_language: str,
    *,
    samples: int = 1000,
    seed: int = 12345,
) -> BootstrapResult:
    """Return one system's BLEU with its 95% bootstrap interval; arguments as :func:`paired_bootstrap`."""
    return paired_bootstrap(references, hypotheses, [], target_language, samples=samples, seed=seed)[0]


def _result(result, baseline, signature: str) -> BootstrapResult:
    """Turn sacreBLEU's result into ours."""
    p_value = None
    if result is not baseline:
        p_value = 1.0 if result.score == baseline.score else float(result.p_value)
    mean, half = float(result.mean), float(result.ci)
    return BootstrapResult(float(result.score), mean, mean - half, mean + half, p_value, signature)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Set the environment variable that is the only way to give sacreBLEU's resampling a seed."""
    before = os.environ.get(_SEED_VARIABLE)
    os.environ[_SEED_VARIABLE] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SEED_VARIABLE]
        else:
            os.environ[_SEED_VARIABLE] = before
