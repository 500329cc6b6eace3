import json
import math

import pytest
from toy_run import REFERENCES, SOURCES

from nmt.assemble import open_run, search_options
from nmt.cli.scoring import score_test
from nmt.data import parse_links
from nmt.evaluation import corpus_bleu, translate_lines
from nmt.run_folder import read_json, read_lines, write_json, write_lines


def test_scores_the_runs_own_test_set(nmt, run):
    before = run.metrics.read_bytes()
    result = nmt("evaluate", run.path)
    assert result.code == 0
    opened = open_run(run.path)
    with opened.arithmetic():
        options = search_options(opened.config.search)
        found = translate_lines(opened.model, opened.tokenizers, SOURCES, options, batch_tokens=4000, device="cpu")
    assert result.json["bleu"] == corpus_bleu([line.text for line in found], REFERENCES, "de")
    assert result.json["sentences"] == 5
    assert result.json["signature"].startswith("nrefs:1|case:mixed")
    assert {"chrf", "chrf_signature", "ter", "ter_signature", "bleu_by_length"} <= result.json.keys()
    assert result.json["perplexity"] == pytest.approx(math.exp(result.json["nll"]))
    assert (result.json["corpus"], result.json["synthetic"]) == ("animals", True)
    assert run.metrics.read_bytes() == before


def test_alignment_error_is_that_of_the_shift_chosen_on_validation(nmt, run):
    scores = nmt("evaluate", run.path).json
    assert scores["aer_shift"] == 1
    assert scores["aer"] == scores["aer_shifted"] != scores["aer_unshifted"]
    assert 0 <= scores["aer_oracle"] <= min(scores["aer_shifted"], scores["aer_unshifted"])


def test_without_gold_links_or_without_attention_there_is_no_alignment_error(nmt, run, run_without_attention):
    own = run.sources(), run.references()
    assert "aer" not in nmt("evaluate", run.path, "--source", own[0], "--reference", own[1]).json
    gold = "--source", own[0], "--reference", own[1], "--gold", run.gold()
    assert "aer" in nmt("evaluate", run.path, *gold).json
    assert "aer" not in nmt("evaluate", run_without_attention.path, *gold).json


def test_other_files_and_other_search(nmt, run, tmp_path):
    source, reference, output = tmp_path / "a.en", tmp_path / "a.de", tmp_path / "new" / "scores.json"
    source.write_text("a cat sleeps\n")
    reference.write_text("eine Katze\n")
    result = nmt("evaluate", run.path, "--source", source, "--reference", reference, "--output", output, "--beam", "1")
    assert json.loads(output.read_text()) == result.json
    assert (result.json["sentences"], result.json["search"]["beam"]) == (1, 1)
    assert result.json["reference"] == str(reference)


def test_another_test_set_of_the_run(nmt, run):
    write_lines(run.sources("test_long"), SOURCES[:2])
    write_lines(run.references("test_long"), REFERENCES[:2])
    result = nmt("evaluate", run.path, "--split", "test_long").json
    assert (result["split"], result["sentences"]) == ("test_long", 2)
    message = nmt("evaluate", run.path, "--split", "dev").refused()
    assert "has no test set 'dev' (there is: test, test_long)" in message


def test_refused(nmt, run, run_without_attention, tmp_path):
    own = str(run.sources())
    assert "go together" in nmt("evaluate", run.path, "--source", own).refused()
    assert "go together" in nmt("evaluate", run.path, "--reference", own).refused()
    assert "--gold needs --source" in nmt("evaluate", run.path, "--gold", own).refused()
    given = ["--source", own, "--reference", own]
    assert "--split names" in nmt("evaluate", run.path, "--split", "test", *given).refused()
    assert "only training writes" in nmt("evaluate", run.path, "--output", run.metrics).refused()
    assert "has no test set 'test' (there is: none)" in nmt("evaluate", run_without_attention.path).refused()
    assert "is no run folder" in nmt("evaluate", tmp_path).refused()
    run.references().write_text("eins\n")
    assert "test.sources.txt has 5 lines and" in nmt("evaluate", run.path).refused()


def test_a_missing_tokeniser_is_told_before_anything_is_translated(nmt, run, monkeypatch):
    def absent(tokenize, force):
        raise RuntimeError

    monkeypatch.setattr("sacrebleu.metrics.bleu.BLEU", absent)
    write_json(run.corpus, {**read_json(run.corpus), "target_language": "ja"})
    assert 'pip install "sacrebleu[ja]"' in nmt("evaluate", run.path).refused()


def test_an_empty_test_set(nmt, run, tmp_path):
    (tmp_path / "empty").write_text("")
    result = nmt("evaluate", run.path, "--source", tmp_path / "empty", "--reference", tmp_path / "empty")
    assert result.code == 2
    assert "there are no translations to score" in result.err


def test_score_test_without_validation_links_takes_shift_0(run):
    opened = open_run(run.path)
    gold = [parse_links(line, where="") for line in read_lines(run.gold())]
    options = search_options(opened.config.search)
    scores, translations = score_test(opened, SOURCES, REFERENCES, gold, options=options, shift=None, batch_tokens=100)
    assert (scores["aer_shift"], scores["aer"]) == (0, scores["aer_unshifted"])
    assert [line.source for line in translations] == SOURCES


def test_a_sampling_run_scores_the_same_each_time(run):
    opened = open_run(run.path)
    options = search_options(opened.config.search, sample=True)
    first, second = (
        score_test(opened, SOURCES, REFERENCES, None, options=options, shift=0, batch_tokens=100)[1] for _ in range(2)
    )
    assert [line.text for line in first] == [line.text for line in second]
