"""The end of a run: its files, whatever becomes of the drawings."""

import json
from types import SimpleNamespace

import pytest
from toy_run import GOLD, REFERENCES, SOURCES, build_run

from nmt.assemble import open_run
from nmt.cli import results
from nmt.cli.results import evaluate_and_write
from nmt.data import ParallelText, parse_links
from nmt.evaluation import translate_lines

TRAINING = {"epochs": 1.0, "steps": 3, "wall_seconds": 2.0, "target_tokens_per_second": 5.0}


def corpus(*, gold):
    links = [parse_links(line, where="") for line in GOLD] if gold else None
    return SimpleNamespace(valid=None, test=ParallelText(SOURCES, REFERENCES, links), extra={})


def evaluate(folder, *, gold=False):
    evaluate_and_write(
        folder, corpus(gold=gold), training=TRAINING, parameters=7, environment={}, git={"revision": None}
    )
    return json.loads(folder.metrics.read_text())


@pytest.fixture
def folder(tmp_path):
    return build_run(tmp_path / "run", "luong_general")


@pytest.mark.parametrize("gold", [False, True])
def test_drawings(folder, gold, monkeypatch, caplog):
    kept = []

    def spied(*arguments, keep_weights=True, **options):
        kept.append((len(arguments[2]), keep_weights))
        return translate_lines(*arguments, keep_weights=keep_weights, **options)

    for module in ("nmt.cli.results", "nmt.cli.scoring"):
        monkeypatch.setattr(f"{module}.translate_lines", spied)
    evaluate(folder, gold=gold)
    # all lines without weights, then those drawn (one is empty) with them, where no references are aligned instead
    assert kept == [(5, False)] + ([] if gold else [(4, True)])
    assert {path.name for path in folder.path.glob("*.*")} >= {"report.html", "bleu_by_length.png", "metrics.json"}
    assert len(list(folder.alignments.glob("*.png"))) == 4
    page = (folder.path / "report.html").read_text()
    assert page.count('class="example"') == 4
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_heatmaps_are_those_of_the_translations(folder):
    evaluate(folder)
    translations = folder.hypotheses().read_text().splitlines()
    run = open_run(folder.path)
    text = corpus(gold=False).test
    shown = [SimpleNamespace(text=line) for line in translations]
    for example in results._examples(run, text, shown, shift=0):
        number = SOURCES.index(example.lines["source"])
        assert example.lines["translation"] == translations[number]
        assert " ".join(example.heatmaps[0].target_words) == translations[number]
        assert example.heatmaps[0].weights.any()


@pytest.mark.parametrize(
    ("broken", "undrawn"),
    [
        ("save_chart", ["bleu_by_length.png"]),
        ("length_curve", ["bleu_by_length.png"]),
        ("save_heatmap", [f"alignments/test-sentence-{number}.png" for number in (2, 1, 5, 3)]),
        ("Heatmap", ["alignments"]),
        ("write_report", ["report.html"]),
    ],
)
def test_what_cannot_be_drawn_keeps_no_run_from_its_results(folder, broken, undrawn, monkeypatch, caplog):
    def fail(*_, **__):
        raise ValueError("no glyph\nfor this")

    monkeypatch.setattr(results, broken, fail)
    assert evaluate(folder)["test"]["bleu"] >= 0
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    told = [f"{folder.path / name} is not drawn: ValueError: no glyph for this" for name in undrawn]
    assert sorted(warnings) == sorted(told)
    assert (folder.path / "report.html").exists() == (broken != "write_report")


def test_ctrl_c_while_drawing_is_no_result(folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "write_report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        evaluate(folder)
    assert not folder.finished


def test_the_report_names_what_was_chosen_beside_the_preset(tmp_path):
    overrides = "attention/score=dot", "decoder.hidden_size=10", "attention.wiring.input_feeding=false"
    folder = build_run(tmp_path / "run", "luong_general", *overrides)
    config = folder.config.read_text()
    folder.config.write_text(config.replace("choices:\n", "choices:\n  attention/score: dot\n"))
    evaluate(folder)
    assert "luong_general, score=dot, no input feeding on animals" in (folder.path / "report.html").read_text()
