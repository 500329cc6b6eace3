import gzip
import re

import numpy as np
import pytest
from toy_run import GOLD, REFERENCES, SOURCES, build_run

from nmt.assemble import open_run
from nmt.data import format_links, parse_links
from nmt.evaluation import align_lines, score_alignments


@pytest.fixture
def files(tmp_path):
    """The run's test set as files: source, target, gold."""
    found = {}
    for name, lines in (("source", SOURCES), ("target", REFERENCES), ("gold", GOLD)):
        found[name] = tmp_path / f"given.{name}"
        found[name].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return found


def expected(run):
    opened = open_run(run.path)
    with opened.arithmetic():
        return align_lines(opened.model, opened.tokenizers, SOURCES, REFERENCES, batch_tokens=4000, device="cpu")


def pair(files):
    return "--source", files["source"], "--target", files["target"]


def test_one_pharaoh_line_per_pair(nmt, run, files):
    result = nmt("align", run.path, *pair(files), "--shift", "0")
    assert result.code == 0
    assert result.lines == [format_links(alignment.links) for alignment in expected(run).unshifted]
    assert result.err == ""


def test_shift_is_the_one_that_validation_chose_unless_given(nmt, run, files):
    shifted = [format_links(alignment.links) for alignment in expected(run).shifted]
    unshifted = nmt("align", run.path, *pair(files), "--shift", "0").lines
    assert nmt("align", run.path, *pair(files)).lines == shifted != unshifted
    assert nmt("align", run.path, *pair(files), "--shift", "1").lines == shifted
    run.metrics.unlink()
    assert nmt("align", run.path, *pair(files)).lines == unshifted


def test_error_rates_of_both_shifts_go_to_standard_error(nmt, run, files):
    scores = score_alignments(expected(run), [parse_links(line, where="") for line in GOLD])
    result = nmt("align", run.path, *pair(files), "--gold", files["gold"])
    assert len(result.lines) == 5
    found = re.fullmatch(r"nmt: AER ([\d.]+) unshifted .* ([\d.]+) shifted .* shift 1; .* reach ([\d.]+)\n", result.err)
    rates = [float(rate) for rate in found.groups()]
    assert rates == pytest.approx([scores.unshifted, scores.shifted, scores.oracle], abs=1e-4)
    assert rates[0] != rates[1]


def test_gzipped_files(nmt, run, files):
    plain = nmt("align", run.path, *pair(files)).out
    for file in files.values():
        file.write_bytes(gzip.compress(file.read_bytes()))
    assert nmt("align", run.path, *pair(files), "--gold", files["gold"]).out == plain


def test_pictures_outline_gold_links(nmt, run, files, tmp_path):
    page = tmp_path / "maps.html"
    assert nmt("align", run.path, *pair(files), "--gold", files["gold"], "--heatmap", page).code == 0
    assert "gold link, sure" in page.read_text()
    assert "gold link, possible" in page.read_text()
    assert nmt("align", run.path, *pair(files), "--heatmap", page).code == 0
    assert "gold link, sure" not in page.read_text()


def test_many_pairs_are_aligned_in_chunks(nmt, run, files, monkeypatch):
    whole = nmt("align", run.path, *pair(files), "--gold", files["gold"])
    monkeypatch.setattr("nmt.cli.align._CHUNK_PAIRS", 2)
    assert nmt("align", run.path, *pair(files), "--gold", files["gold"]) == whole


def test_unequal_counts(nmt, run, files):
    files["target"].write_text("eins\n")
    message = nmt("align", run.path, *pair(files)).refused()
    assert re.search(r"given.source has 5 lines and .*given.target has 1; line i", message)


@pytest.mark.parametrize(
    ("gold", "message"),
    [
        ("0-0\n", "given.gold has 1 lines of links for 5 sentence pairs"),
        ("0-0\n0-9\n\n\n\n", "given.gold:2: the link 0-9 is to a word that is not there; the pair has 3 source and 3"),
        ("0-0\n3?0\n\n\n\n", "given.gold:2: the link 3-0 is to a word that is not there"),
        ("0-0\n\n\n\n1:1\n", "given.gold:5: '1:1' is not a link"),
    ],
)
def test_gold_links_that_do_not_fit(nmt, run, files, gold, message):
    files["gold"].write_text(gold)
    assert message in nmt("align", run.path, *pair(files), "--gold", files["gold"]).refused()


def test_text_that_is_not_utf8(nmt, run, files):
    files["target"].write_bytes(b"eins\nzw\xf6lf\n\n\n\n")
    assert "given.target:2: byte 3 is 0xf6, not UTF-8" in nmt("align", run.path, *pair(files)).refused()


def test_a_run_without_attention(nmt, run_without_attention, files):
    message = nmt("align", run_without_attention.path, *pair(files)).refused()
    assert "nmt align needs attention weights" in message
    assert "attention=none" in message


def test_heads_are_drawn_beside_their_mean(nmt, files, tmp_path):
    run = build_run(tmp_path / "run", "multi_head", "attention.form.heads=2")
    page = tmp_path / "maps.html"
    plain = nmt("align", run.path, *pair(files), "--heatmap", page)
    assert "head" not in re.findall(r"<figcaption.*?</figcaption>", page.read_text())[0]
    drawn = nmt("align", run.path, *pair(files), "--heatmap", page, "--heads")
    assert drawn.code == 0 and drawn.lines == plain.lines
    captions = re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", page.read_text())
    assert captions[:4] == ["line 1, mean of 2 heads", "head 1", "head 2", "line 2, mean of 2 heads"]
    # a pair without words has no heads
    assert captions[9:11] == ["line 4", "line 5, mean of 2 heads"]


@pytest.mark.parametrize("shift", [0, 1])
def test_weights_of_heads_are_merged_and_shifted_as_their_mean(files, tmp_path, shift):
    opened = open_run(build_run(tmp_path / "run", "multi_head", "attention.form.heads=2").path)
    given = (opened.model, opened.tokenizers, SOURCES, REFERENCES)
    for alignment in align_lines(*given, batch_tokens=4000, device="cpu", heads=True)[shift][:3]:
        assert len(alignment.heads) == 2
        assert np.abs(alignment.heads[0] - alignment.heads[1]).max() > 1e-3
        np.testing.assert_allclose(np.mean(alignment.heads, axis=0), alignment.weights, atol=1e-6)


def test_arguments_that_are_refused(nmt, run, files, tmp_path):
    assert "give --heatmap FILE beside it" in nmt("align", run.path, *pair(files), "--heads").refused()
    message = nmt("align", run.path, *pair(files), "--heads", "--heatmap", tmp_path / "a.png").refused()
    assert re.search(r"--heads needs attention/form=multi_head, but .* trained with attention=luong_general", message)
    assert "required: --target" in nmt("align", run.path, "--source", files["source"]).refused()
    assert "accepted: .png" in nmt("align", run.path, *pair(files), "--heatmap", tmp_path / "a").refused()
    assert "--shift: invalid choice: 2" in nmt("align", run.path, *pair(files), "--shift", "2").refused()


def test_a_run_that_searches_with_bytes_is_aligned_where_nothing_multiplies_them(nmt, run, monkeypatch, tmp_path):
    monkeypatch.setattr("nmt.assemble.multiplies_integers", lambda: False)
    config = run.config.read_text()
    assert "weights: auto" in config
    run.config.write_text(config.replace("weights: auto", "weights: int8"))
    pair = tmp_path / "pair"
    pair.write_text("a cat sleeps\n")
    assert nmt("align", run.path, "--source", pair, "--target", pair).code == 0
    refused = nmt("translate", run.path, given=b"a cat\n")
    assert refused.code == 2 and "accepted here: auto, float" in refused.err
    assert nmt("translate", run.path, "--weights", "float", given=b"a cat\n").code == 0
