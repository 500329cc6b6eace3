"""What changes with the number of updates: told before each, and the same after a resumption."""

import os
import signal

import pytest
import torch
from reference import objectives
from torch import nn
from training_toy import make_model, train

from nmt.model.attention import GumbelSoftmax
from nmt.model.scheduled import Scheduled
from nmt.training import Interrupted, load_checkpoint


class Cooling(nn.Module, Scheduled):
    """Multiplies by a number that falls with the updates; notes the steps it is told."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def begin_step(self, step):
        self.steps.append(step)

    @property
    def settled(self):
        return False

    def forward(self, inputs):
        return inputs * 0.9 ** self.steps[-1] if self.training else inputs


def make_cooling(seed=3):
    return nn.Sequential(*make_model(seed), nn.Sequential(Cooling()))


def test_it_is_told_the_number_of_updates_before_each(tmp_path):
    model = train(tmp_path, model=make_cooling(), max_steps=7, accumulate=2)[0]
    assert model[-1][0].steps == list(range(7))


@pytest.mark.parametrize("stop", [1, 8, 12])
def test_a_resumed_training_goes_on_with_it(tmp_path, stop):
    train(tmp_path / "whole", model=make_cooling(), max_steps=17)
    model = make_cooling()
    model[0].register_forward_pre_hook(
        lambda *_: os.kill(os.getpid(), signal.SIGTERM) if model.training and model[-1][0].steps[-1] == stop else None
    )
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", model=model, max_steps=17)
    again = train(tmp_path / "parts", model=make_cooling(seed=50), max_steps=17)[0]
    assert again[-1][0].steps == list(range(stop + 1, 17))
    last = [load_checkpoint(tmp_path / name / "checkpoints", "last").tensors for name in ("whole", "parts")]
    assert last[0].keys() == last[1].keys() and all(torch.equal(last[0][key], last[1][key]) for key in last[0])


def test_the_temperature_is_a_function_of_the_step_alone():
    alignment = GumbelSoftmax(temperature=2.0, minimum=0.5, rate=0.01)
    assert alignment.temperature == 2.0
    for step in (0, 1, 100, 139, 1000, 3, 0):
        alignment.begin_step(step)
        assert alignment.temperature == pytest.approx(objectives.temperature(step, 2.0, 0.01, 0.5), rel=1e-12)
    assert not alignment.state_dict()
