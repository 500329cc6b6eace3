"""`scripts/attention_gallery.py`: the same sentence pair in the pictures of several runs."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_run import GOLD, REFERENCES, SOURCES, build_run, finish_run

from nmt.evaluation import align_lines

SCRIPT = Path(__file__).parents[2] / "scripts" / "attention_gallery.py"
GOLD_COLOR = (0xD5, 0x5E, 0x00)


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("attention_gallery", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    made = {"luong_general": {"aer_shift": 1}, "mean": {}, "none": {}}
    return [finish_run(build_run(folder / name, name), REFERENCES, **scores).path for name, scores in made.items()]


@pytest.fixture
def drawn(gallery, monkeypatch):
    """The heatmaps that a call draws."""
    found, former = [], gallery.heatmap_bytes

    def kept(heatmap, suffix, **options):
        found.append(heatmap)
        return former(heatmap, suffix, **options)

    monkeypatch.setattr(gallery, "heatmap_bytes", kept)
    return found


def image(path):
    with Image.open(path) as opened:
        return opened.convert("RGB")


def call(gallery, *arguments):
    return gallery.main([str(argument) for argument in arguments])


def refused(gallery, capsys, *arguments):
    assert call(gallery, *arguments) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence


def test_a_picture_for_each_run_and_an_overview(gallery, runs, tmp_path, capsys):
    assert call(gallery, *runs, "--line", 1, "--output", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "luong_general.png",
        "mean.png",
        "overview.png",
    ]
    first, second, overview = (
        image(tmp_path / "out" / f"{name}.png") for name in ("luong_general", "mean", "overview")
    )
    assert first.width == pytest.approx(420, abs=8) and second.width == pytest.approx(420, abs=8)
    assert overview.size == (first.width + second.width, max(first.height, second.height))
    right = np.asarray(overview)[: second.height, first.width :]
    assert np.array_equal(right, np.asarray(second))
    assert first.getpixel((0, 0)) == (255, 255, 255)
    assert "none has no attention weights and is left out" in capsys.readouterr().err


def test_weights_are_those_of_the_run_at_its_shift_and_gold_is_that_of_the_line(gallery, runs, tmp_path, drawn):
    assert call(gallery, *runs, "--line", 3, "--output", tmp_path) == 0
    assert [heatmap.title for heatmap in drawn] == ["luong_general", "mean"]
    for path, heatmap, shift in zip(runs, drawn, (1, 0), strict=False):
        run = gallery.open_run(path)
        found = align_lines(run.model, run.tokenizers, [SOURCES[2]], [REFERENCES[2]], batch_tokens=100, device="cpu")
        np.testing.assert_allclose(heatmap.weights, found[shift][0].weights, atol=1e-6)
        assert heatmap.source_words == SOURCES[2].split() and heatmap.target_words == REFERENCES[2].split()
        assert heatmap.gold == gallery.parse_links(GOLD[2], where="")
    colors = set(image(tmp_path / "mean.png").getdata())
    assert GOLD_COLOR in colors


def test_lines_of_the_command_line(gallery, runs, tmp_path, drawn):
    assert call(gallery, runs[0], "--source", "a cat", "--target", "eine Katze", "--output", tmp_path) == 0
    assert drawn[0].source_words == ["a", "cat"] and drawn[0].gold is None
    assert GOLD_COLOR not in set(image(tmp_path / "luong_general.png").getdata())


def test_size_and_columns(gallery, runs, tmp_path):
    options = ("--line", 1, "--width", 200, "--columns", 1, "--output", tmp_path)
    assert call(gallery, *runs, *options) == 0
    first, second, overview = (image(tmp_path / f"{name}.png") for name in ("luong_general", "mean", "overview"))
    assert first.width == pytest.approx(200, abs=8)
    assert overview.size == (max(first.width, second.width), first.height + second.height)


def test_runs_of_one_attention_are_told_by_their_folders(gallery, tmp_path, drawn):
    paths = [finish_run(build_run(tmp_path / f"seed-{seed}", "mean"), REFERENCES).path for seed in (1, 2)]
    assert call(gallery, *paths, "--line", 1, "--output", tmp_path / "out") == 0
    assert [heatmap.title for heatmap in drawn] == ["mean (seed-1)", "mean (seed-2)"]
    assert (tmp_path / "out" / "mean-seed-1.png").is_file()


def test_refused(gallery, runs, tmp_path, capsys):
    output = ("--output", tmp_path / "out")
    for line in (0, 6):
        assert f"--line {line} is not accepted" in refused(gallery, capsys, runs[0], "--line", line, *output)
    assert "lacks valid.sources.txt" in refused(gallery, capsys, runs[0], "--split", "valid", "--line", 1, *output)
    assert "no run has attention weights" in capsys_last(gallery, capsys, runs[2], "--line", 1, *output)
    assert "at least a word each" in refused(gallery, capsys, runs[0], "--source", " ", "--target", "x", *output)
    assert "would be called mean (mean)" in refused(gallery, capsys, runs[1], runs[1], "--line", 1, *output)
    other = finish_run(build_run(tmp_path / "other", "mean"), REFERENCES, references=[*REFERENCES[:4], "x"])
    assert "line 5 of test is another one in" in refused(gallery, capsys, runs[0], other.path, "--line", 5, *output)
    assert not (tmp_path / "out").exists()
    for arguments in ([runs[0], *output], [runs[0], "--line", 1, "--source", "a", *output]):
        with pytest.raises(SystemExit):
            call(gallery, *arguments)


def capsys_last(gallery, capsys, *arguments):
    """The last line of a refusal that comes after a note."""
    assert call(gallery, *arguments) == 2
    return capsys.readouterr().err.splitlines()[-1]
