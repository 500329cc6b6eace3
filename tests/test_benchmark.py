"""`scripts/benchmark.py`: how measurements are taken in turns, summed up and read; nothing is trained here."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from nmt.cli.translate import _Translator

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(benchmark, monkeypatch):
    """The commands of a call, none of which is run: each is a little faster than the one before."""
    found = []

    def run(command, threads):
        found.append((command, threads))
        (folder,) = [Path(part[8:]) for part in command if part.startswith("run_dir=")] or [None]
        if folder is not None:
            folder.mkdir()
            (folder / "metrics.json").write_text(
                json.dumps({"train": {"target_tokens_per_second": 1000.0 + len(found), "padding": 0.0}})
            )
        said = f"nmt: warning: a line\nnmt: 1,234 sentences in 3.21 seconds, 1,{len(found)}00.5 sentences/s (so)\n"
        return said, 2.5, 300.0

    monkeypatch.setattr(benchmark, "_run", run)
    return found


def test_medians_ranges_and_ratios(benchmark):
    found = benchmark._summary({"a": [{"s": 3.0}, {"s": 1.0}, {"s": 2.00049}], "b": [{"s": 3.0}, {"s": 3.5}]})
    assert found["results"]["a"] == {"s": {"median": 2.0, "minimum": 1.0, "maximum": 3.0}}
    # of the medians as they are, not as they are shown
    assert found["ratios_to_the_first"] == {"b": {"s": 1.625}}
    small = benchmark._summary({"a": [{"s": 0.0014}], "b": [{"s": 0.0006}]})
    assert small["results"]["b"]["s"]["median"] == 0.001 and small["ratios_to_the_first"]["b"]["s"] == 0.429
    assert benchmark._summary({"a": [{"s": 0.0}], "b": [{"s": 1.0}]})["ratios_to_the_first"] == {"b": {"s": None}}
    assert "ratios_to_the_first" not in benchmark._summary({"a": [{"s": 1.0}]})


def test_turns_are_taken_and_the_first_does_not_count(benchmark, capsys):
    order = []

    def measure(name):
        order.append(name)
        return {"s": 100.0 if len(order) <= 2 else float(len(order))}

    found = benchmark._in_turns({name: lambda name=name: measure(name) for name in "ab"}, 2)
    assert "".join(order) == "ababab"
    assert [each["s"]["maximum"] for each in found["results"].values()] == [5.0, 6.0]
    assert capsys.readouterr().err.count("warm-up") == 2


def test_the_rate_is_read_from_what_nmt_translate_says(benchmark):
    translator = _Translator(None, None, 1, None, keep_weights=False)
    translator.seconds, translator.sentences = 0.5, 12_345
    assert benchmark._rate(f"nmt: warning: 3.5 seconds, 7.0 sentences/s\nnmt: {translator.summary()}\n") == 24690.0
    assert benchmark._rate("nmt: 2 sentences in 3.21 seconds, 1,311.5 sentences/s (decoding)") == 1311.5
    with pytest.raises(SystemExit, match="ended with no rate but with: nmt: something else"):
        benchmark._rate("nmt: 2 sentences in 3.21 seconds, 311.5 sentences/s\nnmt: something else\n")


def test_training_against_other_options(benchmark, commands, capsys, tmp_path):
    out = tmp_path / "new" / "train.json"
    given = ["train", "attention=mean", "seed=2", "--against", "attention=none 'run=a b'", "--steps", "60"]
    assert benchmark.main([*given, "--repeats", "1", "--threads", "3", "--out", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text()) == result
    assert list(result) == ["benchmark", "machine", "results", "ratios_to_the_first"]
    assert result["benchmark"] == "train" and result["machine"]["threads"] == 3 and result["machine"]["torch"]
    first, other = result["results"]
    assert (first, other) == ("attention=mean seed=2", "attention=none 'run=a b'")
    rates = [result["results"][name]["target_tokens_per_second"]["median"] for name in (first, other)]
    assert rates == [1003.0, 1004.0]
    assert set(result["results"][first]) == {"target_tokens_per_second", "padding", "peak_memory_mb", "wall_seconds"}
    assert result["ratios_to_the_first"][other]["padding"] is None
    assert [threads for _, threads in commands] == [3] * 4
    command, _ = commands[1]
    assert command[:4] == [sys.executable, str(SCRIPT.parents[1] / "train.py"), "attention=none", "run=a b"]
    assert "training.max_steps=60" in command[4:] and not Path(command[-1][8:]).exists()


def test_translating_with_the_same_run_twice_and_with_another_beam(benchmark, commands, capsys):
    given = ["translate", "runs/one", "--input", "a.txt", "--against", "runs/one", "--against", "runs/one --beam 1"]
    assert benchmark.main([*given, "--repeats", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["results"]) == ["runs/one", "runs/one (again)", "runs/one --beam 1"]
    rates = [each["sentences_per_second"]["median"] for each in result["results"].values()]
    assert rates == [1400.5, 1500.5, 1600.5]
    options = [command[command.index("translate") + 1 :] for command, _ in commands[:3]]
    # the last --beam counts
    assert options[0] == ["--input", "a.txt", "--beam", "5", "runs/one"]
    assert options[2] == ["--input", "a.txt", "--beam", "5", "runs/one", "--beam", "1"]


def test_a_process_is_measured_and_its_failure_told(benchmark):
    program = "import sys; memory = b'1' * (100 << 20); sys.stderr.write('at the end')"
    said, seconds, memory = benchmark._run([sys.executable, "-c", program], 1)
    assert said == "at the end" and 0 < seconds < 60 and memory > 100
    assert benchmark._environment(2)["OMP_NUM_THREADS"] == "2"
    with pytest.raises(SystemExit, match="failed:\nno such thing"):
        benchmark._run([sys.executable, "-c", "import sys; sys.exit('no such thing')"], 1)


def test_numbers_below_one_are_refused(benchmark, capsys):
    for option in ("--repeats", "--threads", "--steps"):
        with pytest.raises(SystemExit):
            benchmark.main(["train", "a=b", option, "0"])
        assert "0 is below 1" in capsys.readouterr().err
