"""Run folders, and a way to call ``nmt`` in process."""

import io
import json
import shutil
import sys
from dataclasses import dataclass

import pytest
import torch
from toy_run import REFERENCES, build_run, finish_run

from nmt.cli import main
from nmt.run_folder import RunFolder


@pytest.fixture(scope="session")
def _built(tmp_path_factory):
    torch.set_num_threads(1)
    folder = build_run(tmp_path_factory.mktemp("runs") / "luong", "luong_general")
    return finish_run(folder, REFERENCES, aer=0.25, aer_shift=1, aer_oracle=0.125)


@pytest.fixture(scope="session")
def _built_without_attention(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("runs") / "none", "none")


@pytest.fixture
def run(_built, tmp_path):
    """A finished run."""
    return RunFolder(shutil.copytree(_built.path, tmp_path / "run"))


@pytest.fixture
def run_without_attention(_built_without_attention, tmp_path):
    """An unfinished run whose model has no attention weights."""
    return RunFolder(shutil.copytree(_built_without_attention.path, tmp_path / "run-none"))


@dataclass
class Result:
    """What a call of ``nmt`` did."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self):
        """The lines of standard output."""
        assert self.out == b"" or self.out.endswith(b"\n")
        return self.out.decode("utf-8").split("\n")[:-1]

    @property
    def json(self):
        """Standard output as JSON."""
        return json.loads(self.out)

    def refused(self):
        """Return the one sentence of an error of the user's."""
        assert self.code == 2, self.err
        assert self.out == b""
        (sentence,) = self.err.splitlines()
        assert sentence.startswith("nmt: ")
        return sentence


@pytest.fixture
def nmt(monkeypatch, capfdbinary):
    """Call ``nmt`` with arguments and bytes on standard input."""

    def call(*arguments, given=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        capfdbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return Result(code, out, err.decode("utf-8"))

    return call
