"""The paired bootstrap: the same as sacreBLEU's, repeatable, silent."""

import logging
import os
import random

import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from nmt.errors import DataError
from nmt.evaluation.bleu import corpus_bleu
from nmt.evaluation.significance import bootstrap_interval, paired_bootstrap


def _systems():
    """Return references, translations with a few wrong words, and translations with many."""
    generator = random.Random(1)
    references = [" ".join(generator.choices("abcdefgh", k=12)) for _ in range(60)]

    def damaged(rate):
        return [" ".join("x" if generator.random() < rate else word for word in line.split()) for line in references]

    return references, damaged(0.05), damaged(0.3)


def test_agrees_with_sacrebleu(monkeypatch):
    references, good, bad = _systems()
    monkeypatch.setenv("SACREBLEU_SEED", "12345")
    test = PairedTest([("a", good), ("b", bad)], {"BLEU": BLEU()}, [references], "bs", n_samples=200)
    signatures, expected = test()
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    baseline, other = paired_bootstrap(references, good, [bad], "en", samples=200)
    assert baseline.bleu == corpus_bleu(good, references, "en")
    assert (other.bleu, other.p_value) == (expected["BLEU"][1].score, expected["BLEU"][1].p_value)
    assert other.high - other.low == pytest.approx(2 * expected["BLEU"][1].ci)
    assert other.signature == str(signatures["BLEU"])
    assert "bs:200|seed:12345" in other.signature
    assert os.environ["SACREBLEU_SEED"] == "7"


def test_a_clear_difference_is_significant_and_no_difference_is_not():
    references, good, bad = _systems()
    baseline, same, worse = paired_bootstrap(references, good, [list(good), bad], "en", samples=200)
    assert baseline.p_value is None
    assert same.p_value == 1
    assert worse.p_value == pytest.approx(1 / 201)
    assert worse.high < baseline.low
    assert baseline.low < baseline.bleu < baseline.high


def test_seed_decides(monkeypatch):
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    references, good, _ = _systems()
    first, again = (bootstrap_interval(good, references, "en", samples=50) for _ in range(2))
    assert first == again
    assert first.low != bootstrap_interval(good, references, "en", samples=50, seed=1).low
    assert "SACREBLEU_SEED" not in os.environ


def test_says_nothing(caplog):
    references, good, bad = _systems()
    with caplog.at_level(logging.INFO):
        paired_bootstrap(references, good, [bad], "en", samples=10)
    assert not caplog.records


def test_counts_must_agree():
    references, good, bad = _systems()
    with pytest.raises(DataError, match="59 translations cannot be scored with 60 references"):
        paired_bootstrap(references, good, [bad[:-1]], "en")
