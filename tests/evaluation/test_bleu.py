"""Scores against hand-computed values and against sacreBLEU itself."""

import logging
import unicodedata

import pytest
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER

from nmt.errors import ConfigError, DataError
from nmt.evaluation.bleu import bleu_by_length, bleu_tokenizer, check_tokenizer, corpus_bleu, score_translations

HYPOTHESES = ["The cat sat on the mat.", "A man rides a bicycle down the road.", "Two dogs play in snow."]
REFERENCES = ["The cat is on the mat.", "A man is riding a bike down the street.", "Two dogs are playing in the snow."]


def test_bleu_of_one_sentence_by_hand():
    # n-gram precisions 5/6, 3/5, 1/4 and 0/3, the last smoothed to 1/(2*3); equal lengths, so no brevity penalty
    expected = 100 * (5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25
    assert corpus_bleu(["the cat sat on the mat"], ["the cat is on the mat"], "en") == pytest.approx(expected)


def test_scores_are_sacrebleus_with_their_signatures():
    scores = score_translations(HYPOTHESES, REFERENCES, "en")
    for key, signature, metric in (
        ("bleu", "signature", BLEU(tokenize="13a")),
        ("chrf", "chrf_signature", CHRF()),
        ("ter", "ter_signature", TER()),
    ):
        assert scores[key] == pytest.approx(metric.corpus_score(HYPOTHESES, [REFERENCES]).score)
        assert 0 < scores[key] < 100
        assert scores[signature] == str(metric.get_signature())
        assert f"version:{sacrebleu.__version__}" in scores[signature]
    assert "tok:13a" in scores["signature"]
    assert "case:mixed" in scores["signature"]


def test_perfect_translations():
    scores = score_translations(REFERENCES, REFERENCES, "de")
    assert (scores["bleu"], scores["chrf"], scores["ter"]) == pytest.approx((100, 100, 0))


def test_chinese_is_scored_in_characters():
    scores = score_translations(["我们都是学生。"], ["我们都是老师。"], "zh")
    assert "tok:zh" in scores["signature"]
    # 2 of 7 characters are replaced
    assert scores["ter"] == pytest.approx(100 * 2 / 7)
    assert scores["bleu"] > 20
    assert "asian:yes" in scores["ter_signature"]


@pytest.mark.parametrize(("code", "name"), [("zh", "zh"), ("ja", "ja-mecab"), ("ko", "ko-mecab"), ("de", "13a")])
def test_tokenizer_of_a_language(code, name):
    assert bleu_tokenizer(code) == name


@pytest.mark.parametrize("code", ["ja", "ko"])
def test_missing_extra_is_told_early(code, monkeypatch):
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{code}_mecab.MeCab", None)
    with pytest.raises(ConfigError, match=rf'data.target_language={code} .*{code}-mecab.*"sacrebleu\[{code}\]"'):
        check_tokenizer(code)
    check_tokenizer("de")


def test_references_are_not_normalised():
    decomposed = unicodedata.normalize("NFD", "Der Käse ist für Ömer schön")
    assert corpus_bleu([unicodedata.normalize("NFC", decomposed)], [decomposed], "de") < 50


def test_sacrebleu_says_nothing(caplog):
    with caplog.at_level(logging.DEBUG):
        score_translations(["it is tokenised ."] * 150, ["it is tokenised."] * 150, "en")
    assert not caplog.records


def test_counts_must_agree():
    with pytest.raises(DataError, match="3 translations cannot be scored with 2 references"):
        score_translations(HYPOTHESES, REFERENCES[:2], "en")
    with pytest.raises(DataError, match="no translations"):
        corpus_bleu([], [], "en")
    with pytest.raises(DataError, match="1 source sentences"):
        bleu_by_length(["a"], HYPOTHESES, REFERENCES, "en")


def test_bins_are_of_source_words():
    sources = [" ".join("w" * length) for length in (61, 1, 10, 11, 20, 60, 75)] + ["", "我" * 10]
    hypotheses = [f"this is number {n} of many" for n in range(9)]
    references = list(hypotheses)
    references[1] = "something else entirely different here"
    bins = bleu_by_length(sources, hypotheses, references, "en")
    spans = [(entry["low"], entry["high"], entry["sentences"]) for entry in bins]
    assert spans == [(0, 10, 4), (11, 20, 2), (51, 60, 1), (61, None, 2)]
    assert [entry["bleu"] for entry in bins][1:] == pytest.approx([100, 100, 100])
    members = [1, 2, 7, 8]
    expected = corpus_bleu([hypotheses[i] for i in members], [references[i] for i in members], "en")
    assert bins[0]["bleu"] == expected < 100
