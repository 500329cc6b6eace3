"""`scripts/compare_layers.py` with the packages that are here, torch and entmax; and that it would see a difference."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "compare_layers.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_layers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up there
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def compared(script, monkeypatch, capsys):
    """Compare these pairs only; returns the exit code and the lines of the pairs."""

    def compare(pairs, *arguments):
        monkeypatch.setattr(script, "PAIRS", list(pairs))
        code = script.main(["--draws", "2", *arguments])
        first, *lines, last = capsys.readouterr().out.splitlines()
        assert first.startswith("versions: ") and last.endswith(" SKIPPED")
        return code, lines

    return compare


def test_every_pair_with_what_is_installed_is_as_expected(script, compared):
    here = [pair for pair in script.PAIRS if pair.package in ("torch", "entmax")]
    code, lines = compared(here)
    assert code == 0 and len(lines) == len(here) == 10
    words = [line.split()[0] for line in lines]
    assert words == ["differs" if pair.differs else "agrees" for pair in here]
    assert all(pair.name in line for pair, line in zip(here, lines, strict=True))


def test_names_are_unique_and_what_is_not_installed_is_skipped(script, compared):
    assert len({(pair.name, pair.differs) for pair in script.PAIRS}) == len(script.PAIRS) == 45

    def absent(draw):
        return script.import_module("no_such_package")

    pair = dataclasses.replace(script.PAIRS[0], run=absent)
    code, (line,) = compared([pair])
    assert code == 0 and line.startswith(f"SKIPPED  {pair.name} | cannot be imported here: No module named")


def wrong(script, *, by, gradient=False):
    """A pair whose values, or whose gradients alone, are apart by a factor."""

    def run(draw):
        inputs = draw.numbers(draw.B, draw.Q)
        other = inputs + (by - 1) * (inputs - inputs.detach() if gradient else inputs)
        return script.Both({"values": other}, {"values": inputs}, (inputs,))

    return script.Pair("torch", "toy", "toy", run)


@pytest.mark.parametrize("gradient", [False, True])
def test_a_pair_that_does_not_agree_fails(script, compared, gradient):
    code, (line,) = compared([wrong(script, by=1.0001, gradient=gradient)])
    assert code == 1 and line.startswith("DIFFERS")
    assert compared([wrong(script, by=1 + 1e-13, gradient=gradient)])[0] == 0


def test_a_pair_that_should_differ_and_does_not_fails(script, compared):
    pair = dataclasses.replace(wrong(script, by=1.0001), differs="a reason")
    code, (line,) = compared([pair])
    assert code == 1 and line.startswith("SAME BUT SHOULD DIFFER")
    code, (line,) = compared([dataclasses.replace(pair, run=wrong(script, by=2.0).run)])
    assert code == 0 and line.startswith("differs") and line.endswith("| a reason")


def test_no_number_is_a_difference(script):
    one = torch.tensor([1.0, torch.nan, -torch.inf])
    assert script.difference(one, torch.tensor([1.0, 2.0, -torch.inf])) == torch.inf
    assert script.difference(one[::2], one[::2]) == 0.0
    assert script.difference(one[::2], torch.tensor([2.0, -torch.inf])) == 0.5
    assert script.difference(one[::2], torch.tensor([1.0, torch.inf])) == torch.inf
    assert script.difference(torch.tensor([3.0]), torch.tensor([4.0])) == 0.25


def test_only_one_name(script, compared):
    pairs = [wrong(script, by=2.0), dataclasses.replace(wrong(script, by=1.0), layer="another")]
    code, (line,) = compared(pairs, "--only", "another")
    assert code == 0 and " another | " in line
    for arguments in (["--only", "nothing of that name"], ["--draws", "0"]):
        with pytest.raises(SystemExit):
            script.main(arguments)
