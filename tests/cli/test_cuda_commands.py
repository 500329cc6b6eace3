"""Whole commands on a CUDA device: training, going on with it, translating."""

import json
import shutil
from pathlib import Path

import pytest
from toy_run import SOURCES

from nmt.cli.train import main

pytestmark = pytest.mark.gpu

TINY = (
    "data.train_sentences=300",
    "data.valid_sentences=20",
    "data.test_sentences=30",
    "data.long_sentences=5",
    "embedding.size=24",
    "encoder.hidden_size=16",
    "decoder.hidden_size=32",
    "training.batch_tokens=200",
    "training.max_epochs=2",
    "training.schedule.warmup_steps=5",
    "training.log_every=5",
    "training.validate_every=20",
    "search.beam=2",
)


@pytest.fixture(autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMT_CACHE", str(tmp_path_factory.getbasetemp() / "caches"))


@pytest.fixture
def train(cuda):
    """Train in a folder on the device; returns the folder."""

    def call(run: Path, *overrides: str) -> Path:
        assert main([*TINY, f"device={cuda.type}", f"run_dir={run}", *overrides]) == 0
        return run

    return call


def losses(run: Path) -> list[tuple[int, float]]:
    """Steps and training losses, in nats per token."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(record["step"], record["loss"]) for record in records if record["kind"] == "train"]


@pytest.mark.parametrize("attention", ["luong_general", "bahdanau", "pointer", "hard_sample"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns_and_is_scored(train, tmp_path, precision, attention):
    run = train(tmp_path / "run", f"precision={precision}", f"attention={attention}")
    steps = losses(run)
    assert steps[-1][1] < 0.9 * steps[0][1]
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["environment"]["precision"] == precision
    assert 0 < metrics["test"]["perplexity"] < 2000


def test_an_interrupted_run_goes_on(train, tmp_path):
    options = ("precision=fp32", "embedding.dropout=0.5")
    whole, parts = train(tmp_path / "whole", *options), tmp_path / "parts"
    for limit in ("training.max_steps=17", "training.max_steps=null"):
        train(parts, *options, limit)
    one, other = losses(whole), losses(parts)
    assert [step for step, _ in other] == [step for step, _ in one]
    # the same batches and the same dropout; sums on the device may be taken in another order each time
    assert [loss for _, loss in other] == pytest.approx([loss for _, loss in one], rel=5e-4)


def test_another_device_goes_on_with_a_run_and_translates_the_same(train, nmt, cuda, tmp_path):
    run = train(tmp_path / "run", "precision=fp32", "device=cpu", "training.max_steps=30")
    there = Path(shutil.copytree(run, tmp_path / "there"))
    train(there, "precision=fp32")
    assert losses(there)[-1][0] > losses(run)[-1][0]
    lines = "".join(f"{line}\n" for line in SOURCES).encode()
    for options in ((), ("--beam", "1"), ("--n-best", "2")):
        one, other = (
            nmt("translate", there, "--device", device, *options, given=lines) for device in ("cpu", cuda.type)
        )
        assert one.code == other.code == 0
        assert [line.rpartition(" ||| ")[0] or line for line in one.lines] == [
            line.rpartition(" ||| ")[0] or line for line in other.lines
        ]


def test_every_command_runs(run, nmt, cuda, tmp_path):
    for name, text in (("source", "the dog sees a cat\na cat sleeps\n"), ("target", "der Hund sieht\ndie Katze\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = ("--source", tmp_path / "source", "--device", cuda.type)
    assert nmt("evaluate", run.path, *files, "--reference", tmp_path / "target").code == 0
    assert len(nmt("align", run.path, *files, "--target", tmp_path / "target").lines) == 2
