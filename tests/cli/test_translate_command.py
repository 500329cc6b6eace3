import gzip
import io
import re
import subprocess
import sys

import pytest
import torch

from nmt.assemble import open_run
from nmt.cli.common import read_chunks
from nmt.evaluation import translate_lines
from nmt.model.products import current
from nmt.search import SearchOptions

TEXT = b"the dog sees a cat\n\nthe old dog runs home today\na cat sleeps\n"


def expected(run, lines, **options):
    opened = open_run(run.path)
    with opened.arithmetic():
        return translate_lines(
            opened.model, opened.tokenizers, lines, SearchOptions(**options), batch_tokens=4000, device="cpu"
        )


def test_one_line_out_for_each_line_in_and_in_order(nmt, run):
    result = nmt("translate", run.path, given=TEXT)
    assert result.code == 0
    assert result.lines == [line.text for line in expected(run, TEXT.decode().split("\n")[:-1])]
    assert result.lines[1] == ""
    assert len(set(result.lines)) == 4


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [([], False), (["--n-best", "2"], False), (["--alignments", "links"], True), (["--heatmap", "map.html"], True)],
)
def test_attention_is_kept_only_where_it_is_written(nmt, run, monkeypatch, tmp_path, arguments, kept):
    given = []

    def spied(*positional, keep_weights, **options):
        given.append(keep_weights)
        return translate_lines(*positional, keep_weights=keep_weights, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nmt.cli.translate.translate_lines", spied)
    assert nmt("translate", run.path, *arguments, given=TEXT).code == 0
    assert given == [kept]


def test_weights_of_search_are_those_asked_for(nmt, run, monkeypatch):
    seen = []

    def spied(*positional, **options):
        seen.append(current().search_int8)
        return translate_lines(*positional, **options)

    monkeypatch.setattr("nmt.cli.translate.translate_lines", spied)
    monkeypatch.setattr("nmt.assemble.multiplies_integers", lambda: True)
    # the run says precision=fp32
    for arguments in ([], ["--weights", "float"], ["--weights", "auto"]):
        assert nmt("translate", run.path, *arguments, given=TEXT).code == 0
    assert seen == [False, False, False]
    assert nmt("translate", run.path, "--weights", "int8", given=TEXT).code == 0
    assert seen[3:] == [True]
    monkeypatch.setattr("nmt.assemble.multiplies_integers", lambda: False)
    refused = nmt("translate", run.path, "--weights", "int8", given=TEXT)
    assert refused.code == 2 and "search.weights=int8 (--weights) is for CPUs with AVX-512 VNNI" in refused.err
    assert nmt("translate", run.path, "--weights", "int4", given=TEXT).code == 2


@pytest.mark.parametrize("precision", ["int16", "int8"])
@pytest.mark.parametrize("able", [True, False])
def test_a_run_that_was_trained_with_whole_numbers_is_opened_anywhere(nmt, run, monkeypatch, able, precision):
    monkeypatch.setattr("nmt.assemble.multiplies_integers", lambda: able)
    expected, config = nmt("translate", run.path, given=TEXT), run.config.read_text()
    assert "precision: fp32" in config
    run.config.write_text(config.replace("precision: fp32", f"precision: {precision}"))
    found = nmt("translate", run.path, given=TEXT)
    assert found.code == 0 and found.out == expected.out


def test_last_line_of_standard_error_tells_the_speed(nmt, run):
    last = nmt("translate", run.path, given=TEXT).err.splitlines()[-1]
    found = re.fullmatch(
        r"nmt: 4 sentences in ([\d.]+) seconds, ([\d.]+) sentences/s \(decoding, start-up apart\)", last
    )
    assert found
    # seconds are rounded to hundredths
    assert 4 / float(found[2]) == pytest.approx(float(found[1]), abs=0.006)


@pytest.mark.parametrize(
    ("given", "count"),
    [(b"", 0), (b"\n", 1), (b"a cat", 1), (b"a cat\n\n", 2), (b"\n\na cat", 3), (b"a\rcat\x0bthe\x0cdog\x85\n", 1)],
)
def test_only_a_line_feed_ends_a_line(nmt, run, given, count):
    assert len(nmt("translate", run.path, given=given).lines) == count


@pytest.mark.parametrize(
    "odd", ["\x00", "\x1c\x1d\x1e", "\u2028a\u2029cat", "\x85", "🐕🐈‍⬛👩‍👩‍👧 🎉", "\ufeff", "\u202e\u200b", "\ud7ff"]
)
def test_odd_characters_never_change_the_number_of_lines(nmt, run, odd):
    result = nmt("translate", run.path, given=f"{odd}\na cat {odd} sleeps\na cat sleeps\n".encode())
    assert result.code == 0
    assert len(result.lines) == 3
    assert len(result.out.decode().splitlines()) == 3
    assert result.lines[2] == expected(run, ["a cat sleeps"])[0].text


def test_a_carriage_return_at_the_end_is_removed(nmt, run):
    with_return = nmt("translate", run.path, given=TEXT.replace(b"\n", b"\r\n"))
    assert with_return.out == nmt("translate", run.path, given=TEXT).out
    assert b"\r" not in with_return.out


def test_bytes_that_are_not_utf8_are_replaced_with_a_warning_that_names_the_line(nmt, run):
    result = nmt("translate", run.path, given=b"a cat\nthe \xff\xfe dog\n\xe4\n")
    assert result.code == 0
    assert [line.text for line in expected(run, ["a cat", "the \ufffd\ufffd dog", "\ufffd"])] == result.lines
    first, second, _ = result.err.splitlines()
    assert first.startswith("nmt: warning: input line 2 is not UTF-8 (byte 5 is 0xff)")
    assert second.startswith("nmt: warning: input line 3 ")


def test_a_line_of_2000_words(nmt, run):
    long = b"the dog " * 1000
    result = nmt(
        "translate", run.path, "--beam", "1", "--max-length-ratio", "0.01", given=b"a cat\n" + long + b"\na cat\n"
    )
    assert len(result.lines) == 3
    assert 1 <= len(result.lines[1].split()) <= 30
    assert result.lines[0] == result.lines[2]


def test_input_from_a_file_gzipped_or_not(nmt, run, tmp_path):
    plain, packed = tmp_path / "in.txt", tmp_path / "in.txt.gz"
    plain.write_bytes(TEXT)
    packed.write_bytes(gzip.compress(TEXT))
    out = nmt("translate", run.path, given=TEXT).out
    assert nmt("translate", run.path, "--input", plain, given=b"not this").out == out
    assert nmt("translate", run.path, "--input", packed).out == out


def test_damaged_gzip_and_missing_input(nmt, run, tmp_path):
    packed = tmp_path / "in.gz"
    packed.write_bytes(gzip.compress(TEXT)[:-12])
    assert "in.gz is a damaged gzip file" in nmt("translate", run.path, "--input", packed).refused()
    assert "nowhere.txt does not exist" in nmt("translate", run.path, "--input", tmp_path / "nowhere.txt").refused()
    assert "is a folder" in nmt("translate", run.path, "--input", tmp_path).refused()


def test_n_best_list(nmt, run):
    result = nmt("translate", run.path, "--n-best", "3", "--beam", "4", given=TEXT)
    candidates = [line.candidates for line in expected(run, TEXT.decode().split("\n")[:-1], beam=4, n_best=3)]
    assert len(result.lines) == 12
    fields = [line.split(" ||| ") for line in result.lines]
    assert [int(number) for number, _, _ in fields] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    flat = [candidate for line in candidates for candidate in line]
    assert [text for _, text, _ in fields] == [candidate.text for candidate in flat]
    scores = [float(score) for _, _, score in fields]
    assert scores == pytest.approx([candidate.score for candidate in flat], abs=1e-5)
    assert scores[:3] == sorted(scores[:3], reverse=True)
    assert scores[0] > scores[2]


def test_n_best_counts_on_over_chunks(nmt, run):
    result = nmt("translate", run.path, "--n-best", "1", "--chunk", "1", given=TEXT)
    assert [line.split(" ||| ")[0] for line in result.lines] == ["0", "1", "2", "3"]


def test_a_run_configured_for_several_translations_writes_one_unless_asked(nmt, run):
    config = run.config.read_text()
    assert "  n_best: 1\n" in config
    run.config.write_text(config.replace("  n_best: 1\n", "  n_best: 2\n"))
    assert len(nmt("translate", run.path, given=TEXT).lines) == 4


def test_options_take_the_place_of_the_runs_search(nmt, run):
    lines = ["the dog sees a cat", "the old dog runs home today"]
    given = "\n".join(lines).encode()
    for arguments, options in (
        (("--beam", 1), {"beam": 1}),
        (("--max-length-ratio", 0, "--max-length-offset", 3), {"max_length_ratio": 0.0, "max_length_offset": 3}),
        (("--min-length", 14, "--no-repeat-ngram", 2), {"min_length": 14, "no_repeat_ngram": 2}),
        (("--length-penalty", 3), {"length_penalty": 3.0}),
        (("--coverage-penalty", 9), {"coverage_penalty": 9.0}),
    ):  # fmt: skip
        found = nmt("translate", run.path, *arguments, given=given).lines
        assert found == [line.text for line in expected(run, lines, **options)]
        assert found != nmt("translate", run.path, given=given).lines


def test_the_runs_own_search_is_the_default(nmt, run):
    run.config.write_text(run.config.read_text().replace("  max_length_offset: 10\n", "  max_length_offset: 0\n"))
    run.config.write_text(run.config.read_text().replace("  max_length_ratio: 2.0\n", "  max_length_ratio: 0.5\n"))
    result = nmt("translate", run.path, given=b"the old dog runs home today\n")
    assert result.lines == [
        expected(run, ["the old dog runs home today"], max_length_offset=0, max_length_ratio=0.5)[0].text
    ]


def test_sampling_follows_its_seed(nmt, run):
    def sample(*arguments):
        return nmt("translate", run.path, "--sample", *arguments, given=TEXT * 3).lines

    assert sample("--seed", 5) == sample("--seed", 5)
    assert sample("--seed", 5) != sample("--seed", 6)
    assert sample() == sample("--seed", 1)
    assert sample("--top-k", 1) == sample("--top-k", 1, "--seed", 7)
    assert sample("--temperature", 0.001) == sample("--top-k", 1)
    assert len(sample("--n-best", 9)) == 9 * 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-best", "6"], "--n-best 6 is above --beam 5; it may be at most the beam"),
        (["--n-best", "3", "--beam", "2"], "--n-best 3 is above --beam 2"),
        (["--n-best", "0"], "--n-best 0 is not accepted; it must be at least 1"),
        (["--beam", "0"], "--beam 0 is not accepted"),
        (["--beam", "two"], "argument --beam: invalid int value: 'two'; `nmt translate --help` lists"),
        (["--length-penalty", "nan"], "--length-penalty nan is not accepted; it must be a finite number"),
        (["--top-p", "1.5"], "--top-p 1.5 is not accepted"),
        (["--batch-tokens", "0"], "argument --batch-tokens: '0' is not accepted; it must be an integer, at least 1"),
        (["--seed", "-1"], "argument --seed: '-1' is not accepted"),
        (["--heatmap", "map.pdf"], "map.pdf ends in .pdf; accepted: .png, .svg, .html"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
        (["--bea", "3"], "unrecognized arguments: --bea"),
    ],
)  # fmt: skip
def test_options_that_are_refused(nmt, run, arguments, message):
    assert message in nmt("translate", run.path, *arguments, given=TEXT).refused()


def test_a_run_that_is_none(nmt, run, tmp_path):
    assert "is no run folder" in nmt("translate", tmp_path / "nothing", given=TEXT).refused()
    (run.checkpoints / "best.safetensors").unlink()
    assert "best.safetensors does not exist" in nmt("translate", run.path, given=TEXT).refused()


def test_cuda_where_there_is_none(nmt, run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "device=cuda" in nmt("translate", run.path, "--device", "cuda", given=TEXT).refused()


def test_alignments_have_a_line_for_every_output_line(nmt, run, tmp_path):
    file = tmp_path / "deep" / "links.align"
    result = nmt("translate", run.path, "--n-best", "2", "--alignments", file, "--chunk", "2", given=TEXT)
    links = file.read_text().split("\n")[:-1]
    assert len(links) == len(result.lines) == 8
    sources = [line.split() for line in TEXT.decode().split("\n")[:-1]]
    for number, (line, output) in enumerate(zip(links, result.lines, strict=True)):
        words = output.split(" ||| ")[1].split()
        pairs = [tuple(map(int, link.split("-"))) for link in line.split()]
        assert len({j for _, j in pairs}) == len(pairs) == len(words)
        assert all(i < len(sources[number // 2]) and j < len(words) for i, j in pairs)
    assert links[2:4] == ["", ""]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_pictures_of_the_alignments(nmt, run, tmp_path, suffix):
    assert nmt("translate", run.path, "--heatmap", tmp_path / f"one.{suffix}", given=b"a cat sleeps\n").code == 0
    assert (tmp_path / f"one.{suffix}").stat().st_size > 500
    assert nmt("translate", run.path, "--heatmap", tmp_path / f"map.{suffix}", given=b"a cat\nthe dog\n").code == 0
    assert sorted(path.name for path in tmp_path.glob("map*")) == [f"map-0000.{suffix}", f"map-0001.{suffix}"]


def test_page_of_the_first_alignments(nmt, run, tmp_path):
    page = tmp_path / "maps.html"
    result = nmt("translate", run.path, "--heatmap", page, "--heatmap-sentences", 3, "--chunk", 2, given=TEXT)
    text = page.read_text()
    assert "line 3" in text
    assert "line 4" not in text
    assert "shows the first 3 of 4 sentences" in result.err
    assert "sentences/s" in result.err.splitlines()[-1]


def test_a_model_without_attention_translates_but_aligns_nothing(nmt, run_without_attention, tmp_path):
    path = run_without_attention.path
    assert len(nmt("translate", path, given=TEXT).lines) == 4
    file = tmp_path / "links"
    message = nmt("translate", path, "--alignments", file, given=TEXT).refused()
    assert "--alignments needs attention weights" in message
    assert "attention=none" in message
    assert not file.exists()
    assert "--heatmap needs" in nmt("translate", path, "--heatmap", tmp_path / "a.png", given=TEXT).refused()


class Slow(io.BytesIO):
    """Notes how far it has been read."""

    read_lines = 0

    def __next__(self):
        line = super().__next__()
        self.read_lines += 1
        return line


def test_chunks_are_handed_on_before_more_is_read():
    stream = Slow(b"one\ntwo\nthree\nfour\nfive")
    chunks = read_chunks(stream, lines=2)
    assert next(chunks) == ["one", "two"]
    assert stream.read_lines == 2
    assert list(chunks) == [["three", "four"], ["five"]]


def test_long_lines_make_small_chunks():
    line = b"word " * 20_000
    assert [len(chunk) for chunk in read_chunks(io.BytesIO((line + b"\n") * 7), lines=1000)] == [3, 3, 1]


def test_chunks_do_not_change_the_translations(nmt, run):
    assert nmt("translate", run.path, "--chunk", 1, given=TEXT).out == nmt("translate", run.path, given=TEXT).out


def command(*arguments):
    return [sys.executable, "-c", "import sys; from nmt.cli import main; sys.exit(main())", *map(str, arguments)]


def test_as_a_program_in_a_pipe(run):
    given = TEXT + b"\xff\n"
    done = subprocess.run(command("translate", run.path), input=given, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 5
    assert b"input line 5" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(run):
    program = subprocess.Popen(
        command("translate", run.path, "--chunk", "1", "--beam", "1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with program:
        program.stdout.close()
        _, errors = program.communicate(TEXT * 5, timeout=120)
    assert program.returncode == 0
    assert errors == b""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_interruption(run, name, code):
    import signal

    program = subprocess.Popen(
        command("translate", run.path, "--chunk", "1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell's background jobs, and so perhaps this test, ignore SIGINT, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with program:
        program.stdin.write(b"a cat\n")
        program.stdin.flush()
        assert program.stdout.readline()
        program.send_signal(getattr(signal, name))
        _, errors = program.communicate(timeout=120)
    assert program.returncode == code
    assert errors == b""
