import json
import os

import pytest
import torch
from torch import nn

from nmt.errors import RunError
from nmt.training import load_checkpoint, load_model_tensors, model_tensors, save_checkpoint
from nmt.training.checkpoint import generator_tensors, load_best, restore_generators


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.output = nn.Linear(3, 7)
        self.output.weight = self.embedding.weight
        self.register_buffer("kept", torch.arange(5.0))
        self.register_buffer("derived", torch.zeros(2), persistent=False)


def test_tensors_and_counters_return(tmp_path):
    tensors = {"a/b": torch.randn(3, 2).t(), "scalar": torch.tensor(3.0), "bytes": torch.arange(5, dtype=torch.uint8)}
    counters = {"step": 7, "nested": {"text": "é|\n", "none": None}}
    save_checkpoint(tmp_path / "new", "last", tensors, counters)
    read = load_checkpoint(tmp_path / "new", "last")
    assert read.counters == counters
    assert read.tensors.keys() == tensors.keys()
    assert all(torch.equal(read.tensors[key], tensors[key]) for key in tensors)
    assert json.loads((tmp_path / "new" / "last.json").read_text()) == counters
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["last.json", "last.safetensors"]


@pytest.mark.parametrize("kill_at", [1, 2])
def test_a_kill_leaves_tensors_and_counters_of_one_instant(tmp_path, monkeypatch, kill_at):
    save_checkpoint(tmp_path, "last", {"step": torch.tensor(1)}, {"step": 1})
    moves = []

    def killed(source, target):
        moves.append(target)
        if len(moves) == kill_at:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, "last", {"step": torch.tensor(2)}, {"step": 2})
    read = load_checkpoint(tmp_path, "last")
    assert read.counters["step"] == read.tensors["step"].item() == kill_at
    save_checkpoint(tmp_path, "last", {"step": torch.tensor(3)}, {"step": 3})
    assert load_checkpoint(tmp_path, "last").counters["step"] == 3


def test_missing(tmp_path):
    with pytest.raises(RunError, match=r"best\.safetensors does not exist; the run has no checkpoint 'best'"):
        load_checkpoint(tmp_path, "best")


def test_damaged(tmp_path):
    save_checkpoint(tmp_path, "last", {"a": torch.zeros(100)}, {})
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match=r"last\.safetensors is not a checkpoint of this program, or is damaged"):
        load_checkpoint(tmp_path, "last")


def test_without_counters(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "last.safetensors")
    with pytest.raises(RunError, match="is not a checkpoint of this program"):
        load_checkpoint(tmp_path, "last")


def test_shared_tensors_once_and_derived_ones_not():
    assert sorted(model_tensors(Tied())) == ["embedding.weight", "kept", "output.bias"]


def test_best_returns_to_a_model(tmp_path):
    model, other = Tied(), Tied()
    save_checkpoint(tmp_path, "best", model_tensors(model), {"step": 4})
    other.kept.zero_()
    assert load_best(tmp_path, other) == {"step": 4}
    assert all(torch.equal(model.state_dict()[key], other.state_dict()[key]) for key in model.state_dict())
    assert other.output.weight is other.embedding.weight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kept": None}, r"here lacks kept; it was made with another configuration"),
        ({"more": torch.zeros(1)}, r"here has more, which the model has not"),
        ({"kept": torch.zeros(6)}, r"here has kept of shape \[6\]; the model's is \[5\]"),
    ],
)
def test_of_another_model(tmp_path, change, message):
    tensors = {key: value for key, value in {**model_tensors(Tied()), **change}.items() if value is not None}
    with pytest.raises(RunError, match=message):
        load_model_tensors(Tied(), tensors, "here")


def test_generator_returns():
    device = torch.device("cpu")
    states = {key: state.clone() for key, state in generator_tensors(device).items()}
    drawn = torch.rand(3)
    torch.rand(2)
    restore_generators(states, device)
    assert torch.equal(torch.rand(3), drawn)
