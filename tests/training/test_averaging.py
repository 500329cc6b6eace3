import pytest
import torch
from torch import nn

from nmt.errors import ConfigError
from nmt.training import build_averaging


def model_of(*values):
    """A model whose weights are the given numbers."""
    model = nn.Linear(len(values), 1, bias=False)
    model.weight.data.copy_(torch.tensor([values]))
    return model


def set_weights(model, *values):
    model.weight.data.copy_(torch.tensor([values]))


def average(averaging):
    return averaging.weights()["weight"][0].tolist()


def test_none_is_the_model_itself():
    model = model_of(1.0, 2.0)
    averaging = build_averaging("none", model)
    set_weights(model, 5.0, 6.0)
    averaging.update(1)
    assert average(averaging) == [5.0, 6.0]
    with averaging.applied():
        assert model.weight[0].tolist() == [5.0, 6.0]


def test_moving_average_by_hand():
    model = model_of(0.0, 8.0)
    averaging = build_averaging("ema", model, decay=0.5)
    set_weights(model, 11.0, 8.0)
    averaging.update(1)  # decay 2/11, smaller than 0.5
    assert average(averaging) == pytest.approx([9.0, 8.0])
    set_weights(model, 3.0, 0.0)
    averaging.update(1000)  # decay 0.5
    assert average(averaging) == pytest.approx([6.0, 4.0])


def test_mean_of_the_last_three():
    model = model_of(0.0, 1.0)
    averaging = build_averaging("checkpoints", model, last=3)
    means = []
    for step, value in enumerate((4.0, 6.0, 14.0, 1.0)):
        set_weights(model, value, 1.0)
        means.append(average(averaging)[0])
        averaging.observe(step)
    assert means == [4.0, 5.0, 8.0, 7.0]


def test_mean_of_one_is_the_model():
    model = model_of(2.0)
    averaging = build_averaging("checkpoints", model, last=1)
    averaging.observe(1)
    set_weights(model, 9.0)
    assert average(averaging) == [9.0]
    assert averaging.tensors() == {}


@pytest.mark.parametrize("name", ["ema", "checkpoints"])
def test_applied_in_place_and_taken_back(name):
    model = model_of(2.0)
    averaging = build_averaging(name, model, decay=0.5, last=2)
    averaging.observe(1)
    pointer = model.weight.data_ptr()
    set_weights(model, 4.0)
    averaging.update(1000)
    with pytest.raises(KeyError), averaging.applied():
        assert model.weight.item() == 3.0
        raise KeyError
    assert model.weight.item() == 4.0
    assert model.weight.data_ptr() == pointer


@pytest.mark.parametrize("name", ["none", "ema", "checkpoints"])
def test_state_survives(name):
    model = model_of(1.0, 3.0)
    averaging = build_averaging(name, model, last=4)
    for step in (9, 10, 11):  # 10 sorts before 9 as text
        set_weights(model, 0.1 * step, 1 / step)
        averaging.update(step)
        averaging.observe(step)
    copy = build_averaging(name, model, last=4)
    saved = averaging.tensors()
    copy.restore({key: saved[key].clone() for key in sorted(saved)})
    assert average(copy) == average(averaging)
    assert copy.tensors().keys() == saved.keys()


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("swa", {}, r"training\.averaging=swa is not accepted; one of: none, ema, checkpoints"),
        ("ema", {"decay": 1.0}, r"training\.ema_decay=1.0 is not accepted"),
        ("checkpoints", {"last": 0}, r"training\.average_last=0 is not accepted"),
    ],
)
def test_refused(name, option, message):
    with pytest.raises(ConfigError, match=message):
        build_averaging(name, model_of(1.0), **option)
