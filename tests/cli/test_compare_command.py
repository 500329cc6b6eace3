import json
import shutil
import subprocess
import sys

import pytest
from toy_run import REFERENCES, build_run, finish_run

from nmt.run_folder import write_json, write_text

WORSE = ["der Hund sieht", "eine Katze", "der Hund läuft", "", "Katze"]
BETTER = [*REFERENCES[:4], "die Katze"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    finish_run(build_run(folder / "poor" / "1", "mean"), WORSE, bleu=20.0)
    finish_run(build_run(folder / "good" / "1", "luong_general"), BETTER, bleu=80.0, aer=0.25, aer_oracle=0.1)
    build_run(folder / "unfinished", "bahdanau", "encoder.cell=gru")
    return folder


@pytest.fixture
def runs(built, tmp_path):
    """Three runs of one corpus: a poor one, a good one, an unfinished one."""
    folder = shutil.copytree(built, tmp_path / "out")
    return folder / "poor" / "1", folder / "good" / "1", folder / "unfinished"


def cells(result, name):
    """Return the row of a run in the first table, by column."""
    lines = [line for line in result.lines if line]
    head = next(line for line in lines if line.startswith("run "))
    row = next(line for line in lines if line.startswith(f"{name} "))
    starts = [head.index(column) for column in ("attention", "cell")]
    return row[starts[0] : starts[1]].strip(), row.split()


def test_table_of_runs(nmt, runs):
    result = nmt("compare", *runs, "--samples", "50")
    assert result.code == 0
    assert result.lines[0] == "corpus: animals (synthetic corpus)"
    attention, row = cells(result, "good/1")
    assert attention == "luong_general"
    assert row[2:8] == ["lstm", "4,321", "2.5", "1,234", "11.00", "80.00"]
    assert row[-3:] == ["0.25", "0.1", "1:02:03"]
    assert "baseline" in cells(result, "poor/1")[1]
    _, unfinished = cells(result, "unfinished")
    assert unfinished == ["unfinished", "bahdanau", "gru", *["-"] * 10]
    assert "Not finished: unfinished." in result.lines


def test_attention_that_departs_from_its_preset_is_named(nmt, runs, tmp_path):
    config = runs[2] / "config.yaml"
    write_text(config, config.read_text().replace("choices:\n", "choices:\n  attention/score: dot\n"))
    result = nmt("compare", *runs, "--samples", "20", "--output", tmp_path / "c.json")
    assert cells(result, "unfinished")[0] == "bahdanau, score=dot"
    named = [run["attention"] for run in json.loads((tmp_path / "c.json").read_text())["runs"]]
    assert named == ["mean", "luong_general", "bahdanau, score=dot"]


def test_encoders_have_a_column_where_they_differ(nmt, runs):
    for path, name in zip(runs, ("birnn", "cnn", "birnn"), strict=True):
        config = path / "config.yaml"
        write_text(config, config.read_text().replace("choices:\n", f"choices:\n  encoder: {name}\n"))
    result = nmt("compare", *runs, "--samples", "20")
    assert [cells(result, name)[1][-1] for name in ("poor/1", "good/1", "unfinished")] == ["birnn", "cnn", "birnn"]
    alike = nmt("compare", runs[0], runs[2], "--samples", "20")
    assert alike.code == 0 and "encoder" not in "".join(alike.lines)


def test_p_value_and_interval(nmt, runs, tmp_path):
    output = tmp_path / "c.json"
    nmt("compare", *runs, "--samples", "200", "--output", output)
    found = json.loads(output.read_text())
    poor, good, unfinished = found["runs"]
    assert (found["baseline"], found["samples"]) == ("poor/1", 200)
    assert 0 < good["p_value"] < 0.2
    assert good["interval"][0] < good["interval"][1]
    assert poor["interval"][1] < good["interval"][1]
    assert [run["comparable"] for run in found["runs"]] == [True, True, False]
    assert (poor["p_value"], unfinished["interval"], unfinished["metrics"]) == (None, None, None)
    assert good["metrics"]["test"]["aer"] == 0.25


def test_identical_runs_do_not_differ(nmt, runs, tmp_path):
    output = tmp_path / "c.json"
    nmt("compare", runs[0], runs[0], "--samples", "50", "--output", output)
    rows = json.loads(output.read_text())["runs"]
    assert [row["name"] for row in rows] == ["1", "1 (2)"]
    assert rows[1]["p_value"] == 1


def test_runs_scored_on_other_references_are_not_comparable(nmt, runs, tmp_path):
    other = finish_run(
        build_run(tmp_path / "out" / "other", "luong_general"), BETTER, references=["x", *REFERENCES[1:]]
    )
    result = nmt("compare", runs[0], runs[1], other.path, "--samples", "50", "--output", tmp_path / "c.json")
    assert sum("other (not comparable)" in line for line in result.lines) == 1
    assert "not comparable" in next(line for line in result.lines if line.startswith("other "))
    assert any(line.startswith("not comparable: scored on other references than poor/1") for line in result.lines)
    rows = json.loads((tmp_path / "c.json").read_text())["runs"]
    assert [row["comparable"] for row in rows] == [True, True, False]
    assert rows[2]["p_value"] is None
    assert rows[2]["interval"] is not None


def test_runs_with_another_signature_are_not_comparable(nmt, runs):
    metrics = json.loads((runs[1] / "metrics.json").read_text())
    metrics["test"]["signature"] += "|other"
    write_json(runs[1] / "metrics.json", metrics)
    assert "not comparable" in "\n".join(nmt("compare", *runs, "--samples", "20").lines)


def test_unfinished_baseline(nmt, runs):
    result = nmt("compare", runs[2], runs[1], "--samples", "20")
    assert result.code == 0
    _, row = cells(result, "good/1")
    assert row[7] == "80.00"
    assert row[9] == "to"
    assert row[11] == "-"


def test_runs_without_a_test_set(nmt, runs):
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    del metrics["test"]
    write_json(runs[0] / "metrics.json", metrics)
    assert nmt("compare", *runs, "--samples", "20").code == 0


def test_results_that_do_not_belong_to_the_files_are_told(nmt, tmp_path):
    wrong = finish_run(build_run(tmp_path / "wrong", "mean"), REFERENCES, bleu=20.0)
    right = finish_run(build_run(tmp_path / "right", "mean"), REFERENCES, bleu=100.0)
    lines = nmt("compare", wrong.path, right.path, "--samples", "20").lines
    assert "wrong: metrics.json says BLEU 20.00, but its files score 100.00." in lines
    assert not any(line.startswith("right: ") for line in lines)
    assert " to 100.00 " in next(line for line in lines if line.startswith("right "))


def test_one_run(nmt, runs):
    result = nmt("compare", runs[1], "--samples", "20")
    assert result.code == 0
    assert "baseline" in result.out.decode()


def test_long_test_set_and_other_corpora_have_columns_where_there_are_any(nmt, runs):
    assert "test_long BLEU" not in nmt("compare", *runs, "--samples", "20").out.decode()
    metrics = json.loads((runs[1] / "metrics.json").read_text())
    metrics["test_long"] = {"bleu": 33.25, "bleu_by_length": [{"low": 31, "high": 40, "sentences": 9, "bleu": 33.25}]}
    write_json(runs[1] / "metrics.json", metrics)
    corpus = json.loads((runs[1] / "corpus.json").read_text())
    write_json(runs[1] / "corpus.json", {**corpus, "name": "plants", "synthetic": False})
    text = nmt("compare", *runs, "--samples", "20").out.decode()
    assert "test_long BLEU" in text
    assert "corpus: animals (synthetic corpus), plants\n" in text
    assert "31–40 (9)" in text
    assert next(line for line in text.splitlines() if line.startswith("good/1")).endswith("plants")


def test_page_with_curves(nmt, runs, tmp_path):
    records = [
        {"step": 5, "kind": "train", "loss": 3.0, "timing": {}},
        {"step": 10, "kind": "valid", "bleu": 7.5, "timing": {}},
        {"step": 20, "kind": "valid", "bleu": 11.0, "timing": {}},
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    write_text(runs[0] / "metrics.jsonl", lines + '{"step": 30, "ki')
    page = tmp_path / "c.html"
    assert nmt("compare", *runs, "--samples", "20", "--output", page).code == 0
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "BLEU by source length, test" in text
    assert "Validation BLEU during training" in text
    assert "synthetic: generated by this program" in text
    assert "not comparable" not in text


def test_markdown(nmt, runs, tmp_path):
    file = tmp_path / "c.md"
    assert nmt("compare", *runs, "--samples", "20", "--output", file).code == 0
    assert "| good/1 | luong_general | lstm | 4,321 |" in file.read_text()
    assert file.read_text().startswith("# Comparison of runs\n\ncorpus: animals (synthetic corpus)\n")


def test_refused(nmt, runs, tmp_path):
    assert "is no run folder: it has no config.yaml" in nmt("compare", runs[0], tmp_path).refused()
    assert "must end in one of: .html, .json, .md" in nmt("compare", *runs, "--output", "c.pdf").refused()
    assert "required: RUN" in nmt("compare").refused()
    (runs[0] / "test.hypotheses.txt").write_text("only one\n")
    assert "has 5 references and 1 translations" in nmt("compare", *runs).refused()
    (runs[0] / "test.hypotheses.txt").write_bytes(b"\xff\n")
    assert "test.hypotheses.txt is not UTF-8" in nmt("compare", *runs).refused()
    (runs[0] / "test.hypotheses.txt").unlink()
    assert "lacks test.hypotheses.txt" in nmt("compare", *runs).refused()


def test_comparing_needs_no_torch(runs):
    program = (
        "import sys; from nmt.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules and 99))"
    )
    arguments = [sys.executable, "-c", program, "compare", *map(str, runs), "--samples", "20"]
    done = subprocess.run(arguments, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
