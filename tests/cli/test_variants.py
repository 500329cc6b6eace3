"""`nmt compare`: runs that differ in their seed alone, as one row."""

import json
import shutil
import statistics

import pytest
from test_compare_command import BETTER
from toy_run import build_run, finish_run

SCORES = {1: (20.0, 0.25), 2: (23.0, 0.31), 5: (21.5, 0.28)}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    for number, (seed, (bleu, aer)) in enumerate(SCORES.items()):
        path = folder / f"{number}_attention=luong_general,seed={seed}"
        finish_run(build_run(path, "luong_general", f"seed={seed}", f"run_dir='{path}'"), BETTER, bleu=bleu, aer=aer)
    finish_run(build_run(folder / "3_mean", "mean", "seed=2"), BETTER, bleu=9.0)
    return folder


@pytest.fixture
def sweep(swept, tmp_path):
    """Two attentions with three seeds and one, in the folders of a multirun."""
    return sorted(shutil.copytree(swept, tmp_path / "sweep").iterdir())


def table(result):
    """The rows of the table of variants, by name."""
    lines = result.lines
    if "Variants" not in lines:
        return None
    start = lines.index("Variants") + 2
    head, *rows = lines[start : lines.index("", start)]
    return head.split(), {row.split("  ")[0]: row.split() for row in rows}


def choose(path, **choices):
    """Note what was chosen of some groups, as Hydra's command line does."""
    config = path / "config.yaml"
    lines = "".join(f"  {group}: {name}\n" for group, name in choices.items())
    config.write_text(config.read_text().replace("choices:\n", f"choices:\n{lines}"))


def compare(nmt, *arguments):
    result = nmt("compare", *arguments, "--samples", "20")
    assert result.code == 0
    return result


def test_mean_and_deviation_over_seeds(nmt, sweep):
    head, rows = table(compare(nmt, *sweep))
    assert head == "variant runs parameters tokens/s valid BLEU test BLEU AER".split()
    bleu, aer = (statistics.stdev(values) for values in zip(*SCORES.values(), strict=True))
    assert rows["luong_general"] == (
        ["luong_general", "3", "4,321", "1,234", "±", "0", "11.00", "±", "0.00"]
        + ["21.50", "±", f"{bleu:.2f}", "0.2800", "±", f"{aer:.4f}"]
    )
    assert rows["mean"] == ["mean", "1", "4,321", "1,234", "11.00", "9.00", "-"]


def test_every_format_has_the_variants(nmt, sweep, tmp_path):
    for suffix in ("md", "html", "json"):
        compare(nmt, *sweep, "--output", tmp_path / f"c.{suffix}")
    assert "| luong_general | 3 | 4,321 |" in (tmp_path / "c.md").read_text()
    assert "21.50 ± 1.50" in (tmp_path / "c.html").read_text()
    first, second = json.loads((tmp_path / "c.json").read_text())["variants"]
    assert (first["name"], first["seeds"], len(first["runs"])) == ("luong_general", [1, 2, 5], 3)
    assert first["test BLEU"] == pytest.approx({"mean": 21.5, "deviation": 1.5, "count": 3})
    assert second["test BLEU"] == {"mean": 9.0, "deviation": None, "count": 1}
    assert second["AER"] is None and second["test_long BLEU"] is None


def test_the_table_of_runs_and_its_p_values_stay(nmt, sweep):
    text = compare(nmt, *sweep).lines
    assert text.index("Runs") < text.index("Variants")
    runs = text[: text.index("Variants")]
    assert [sum(line.startswith(f"{path.name} ") for line in runs) for path in sweep] == [1] * 4


def test_no_table_where_every_run_is_a_variant_of_its_own(nmt, sweep):
    assert table(compare(nmt, sweep[0], sweep[3])) is None
    assert table(compare(nmt, sweep[0], sweep[0])) is None, "a folder counts once"


def test_unfinished_runs_have_no_part(nmt, sweep):
    (sweep[1] / "metrics.json").unlink()
    _, rows = table(compare(nmt, *sweep))
    assert rows["luong_general"][1] == "2"
    (sweep[2] / "metrics.json").unlink()
    assert table(compare(nmt, *sweep)) is None


def test_long_test_set_has_a_column_where_there_is_one(nmt, sweep):
    metrics = json.loads((sweep[1] / "metrics.json").read_text())
    metrics["test_long"] = {"bleu": 3.25, "bleu_by_length": []}
    (sweep[1] / "metrics.json").write_text(json.dumps(metrics))
    head, rows = table(compare(nmt, *sweep))
    assert head[-3:] == ["test_long", "BLEU", "AER"]
    assert rows["luong_general"][-4] == "3.25"
    assert rows["mean"][-2:] == ["-", "-"]


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("training.guided_alignment.weight=0.5", "luong_general, training.guided_alignment.weight=0.5"),
        ("encoder.cell=gru", "luong_general, encoder.cell=gru, decoder.cell=gru"),
        ("training=luong", "luong_general, training=luong"),
    ],
)
def test_options_tell_variants_of_one_attention_apart(nmt, sweep, tmp_path, override, name):
    other = finish_run(build_run(tmp_path / "other", "luong_general", override), BETTER)
    if override == "training=luong":
        for path in (*sweep[:3], other.path):
            choose(path, training="luong" if path == other.path else "default")
    _, rows = table(compare(nmt, *sweep, other.path))
    assert name in rows and "luong_general" not in rows
    assert len(rows) == 3


def test_another_corpus_or_many_options_make_the_run_its_variants_name(nmt, sweep, tmp_path):
    other = finish_run(build_run(tmp_path / "other", "luong_general"), BETTER)
    corpus = json.loads(other.corpus.read_text())
    other.corpus.write_text(json.dumps({**corpus, "fingerprint": "1"}))
    _, rows = table(compare(nmt, *sweep, other.path))
    assert "other" in rows and rows["other"][1] == "1"
