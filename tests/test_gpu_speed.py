"""`scripts/gpu_speed.py` on whatever device there is: every part measures something, of the sizes asked for."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_speed.py"
TINY = (
    "data=synthetic",
    "data.train_sentences=120",
    "data.valid_sentences=5",
    "data.test_sentences=7",
    "data.long_sentences=2",
    "tokenizer=word",
    "embedding.size=8",
    "encoder.hidden_size=6",
    "decoder.hidden_size=12",
    "training.batch_tokens=100",
)


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setenv("NMT_CACHE", str(tmp_path / "caches"))
    spec = importlib.util.spec_from_file_location("gpu_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_part_is_measured(script, tmp_path, capsys):
    asked = ["--steps", "4", "--attentions", "none", "luong_dot", "--out", str(tmp_path / "found.json")]
    assert script.main([*TINY, *asked]) == 0
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == found
    graphed = torch.cuda.is_available()
    plain, fast = found["updates"]["plain, float32"], found["updates"]["fast, float32"]
    assert plain["updates"] == 1 and plain["target_tokens_per_second"] > 0
    assert fast["loss"] == pytest.approx(plain["loss"], rel=1e-3), "the same model, the same batches"
    assert ("graphs, bf16" in found["updates"]) == graphed
    assert set(found["attentions"]) == {"none", "luong_dot"}
    assert all(isinstance(value, float) for each in found["attentions"].values() for value in each.values())
    assert found["search"]["beam 5, float32"]["sentences"] == 7


def test_each_attention_has_the_sizes_asked_for(script, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(script, "_milliseconds", lambda model, way, batch: made.append(model) or 1.0)
    assert script.main([*TINY, "--parts", "attentions", "--attentions", "luong_dot"]) == 0
    assert made and all(model.decoder.cells[0].hidden_size == 12 for model in made)


def test_an_attention_that_cannot_be_is_told_of(script, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise RuntimeError("too large")

    monkeypatch.setattr(script, "_milliseconds", refuse)
    assert script.main([*TINY, "--parts", "attentions", "--attentions", "luong_dot"]) == 0
    found = json.loads(capsys.readouterr().out)["attentions"]["luong_dot"]
    assert set(found.values()) == {"RuntimeError: too large"}
