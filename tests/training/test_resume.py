"""A training killed at any instant and started again ends as if nothing had happened, bit for bit."""

import itertools
import os
import signal

import pytest
import torch
from training_toy import make_model, records, toy_loss, train, validate

from nmt.errors import RunError
from nmt.training import Interrupted, load_checkpoint
from nmt.training import session as session_module

STEPS = 23  # validations at 5, 10, 15, 20; records at 3, 6, ...; the end is in mid-epoch
CLOCK = {"seconds", "warm_seconds", "wall_seconds"}


class Killed(BaseException):
    """Stands for a kill: what is in memory is lost."""


def at_call(number, action, function):
    """`function`, with `action` before its call `number`."""
    calls = itertools.count(1)

    def wrapped(*arguments, **options):
        if next(calls) == number:
            action()
        return function(*arguments, **options)

    return wrapped


def kill():
    raise Killed


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def outcome(folder):
    """All that a training leaves, without what depends on the clock."""
    saved = {name: load_checkpoint(folder / "checkpoints", name) for name in ("last", "best")}
    counters = {name: dict(checkpoint.counters) for name, checkpoint in saved.items()}
    counters["last"].pop("logs")
    state = counters["last"]["state"]
    counters["last"]["state"] = {key: value for key, value in state.items() if key not in CLOCK}
    tensors = {f"{name}:{key}": value for name, each in saved.items() for key, value in each.tensors.items()}
    return tensors, counters, records(folder)


def assert_same(folder, reference):
    tensors, counters, lines = outcome(folder)
    expected_tensors, expected_counters, expected_lines = outcome(reference)
    assert lines == expected_lines
    assert counters == expected_counters
    assert tensors.keys() == expected_tensors.keys()
    assert [key for key in tensors if not torch.equal(tensors[key], expected_tensors[key])] == []


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder, max_steps=STEPS)
    return folder


def test_the_checkpoint_holds_everything(reference):
    tensors, counters, lines = outcome(reference)
    sections = {key.split("/")[0] for key in tensors}
    assert sections >= {"last:model", "last:optimizer", "last:average", "last:generator", "last:meter"}
    assert {key for key in tensors if key.startswith("best:")} == {f"best:{name}" for name in make_model().state_dict()}
    assert len(lines) == 7 + 5
    assert counters["last"]["state"]["step"] == STEPS


def test_twice_the_same(tmp_path, reference):
    train(tmp_path, max_steps=STEPS)
    assert_same(tmp_path, reference)


def go_on(folder, **options):
    """Start again: from other weights and generators where there is a checkpoint that must replace them."""
    seed = 50 if (folder / "checkpoints" / "last.safetensors").exists() else 3
    return train(folder, model=make_model(seed=seed), **{"max_steps": STEPS, **options})


@pytest.mark.parametrize("step", range(1, STEPS + 1, 3))
@pytest.mark.parametrize(("action", "stop"), [(kill, Killed), (terminate, Interrupted)])
@pytest.mark.parametrize("minutes", [0.0, 1e9])
def test_stopped_in_a_step(tmp_path, reference, step, action, stop, minutes):
    with pytest.raises(stop):
        go_on(tmp_path, checkpoint_minutes=minutes, loss_function=at_call(step, action, toy_loss))
    go_on(tmp_path, checkpoint_minutes=minutes)
    assert_same(tmp_path, reference)


def test_stopped_again_and_again(tmp_path, reference):
    for action, stop in itertools.cycle([(kill, Killed), (terminate, Interrupted)]):
        try:
            go_on(tmp_path, checkpoint_minutes=0.0, loss_function=at_call(3, action, toy_loss))
        except stop:
            continue
        break
    assert_same(tmp_path, reference)


@pytest.mark.parametrize("number", [1, 2, 4, 5])
@pytest.mark.parametrize(("action", "stop"), [(kill, Killed), (terminate, Interrupted)])
@pytest.mark.parametrize("minutes", [0.0, 1e9])
def test_stopped_in_a_validation(tmp_path, reference, number, action, stop, minutes):
    with pytest.raises(stop):
        go_on(tmp_path, checkpoint_minutes=minutes, validate=at_call(number, action, validate))
    go_on(tmp_path)
    assert_same(tmp_path, reference)


@pytest.mark.parametrize("number", range(1, 8))
def test_killed_before_a_checkpoint_is_written(tmp_path, reference, number, monkeypatch):
    """Among them the instants between `best` and `last`."""
    with monkeypatch.context() as patch:
        saving = at_call(number, kill, session_module.save_checkpoint)
        patch.setattr(session_module, "save_checkpoint", saving)
        with pytest.raises(Killed):
            go_on(tmp_path)
    go_on(tmp_path)
    assert_same(tmp_path, reference)


@pytest.mark.parametrize("number", range(1, 14, 2))
def test_killed_before_a_file_is_moved(tmp_path, reference, number, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", at_call(number, kill, os.replace))
        with pytest.raises(Killed):
            go_on(tmp_path)
    go_on(tmp_path)
    assert_same(tmp_path, reference)


@pytest.mark.parametrize(
    "options",
    [
        {"averaging": "checkpoints", "schedule": "cosine", "optimizer": "adadelta"},
        {"averaging": "none", "schedule": "inverse_sqrt", "optimizer": "sgd", "accumulate": 2},
        {"averaging": "ema", "schedule": "plateau", "optimizer": "adamw", "validate_every": 4},
    ],
    ids=lambda options: options["schedule"],
)
@pytest.mark.parametrize("step", [2, 9, 13])
def test_other_recipes(tmp_path, options, step):
    train(tmp_path / "whole", max_steps=STEPS, **options)
    with pytest.raises(Interrupted):
        go_on(tmp_path / "parts", loss_function=at_call(step, terminate, toy_loss), **options)
    go_on(tmp_path / "parts", **options)
    assert_same(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("first", [4, 10, 12])
def test_higher_limits_later(tmp_path, reference, first):
    """The validation that an early end added, in mid-epoch, leaves no trace but perhaps better best weights."""
    go_on(tmp_path, max_steps=first)
    go_on(tmp_path)
    assert_same(tmp_path, reference)


def test_a_finished_training_only_validates(tmp_path, reference):
    result = go_on(tmp_path)[2]
    again = go_on(tmp_path, loss_function=at_call(1, kill, toy_loss))[2]
    assert (again.steps, again.best_step, again.best) == (result.steps, result.best_step, result.best)
    assert_same(tmp_path, reference)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_is_named(tmp_path, number):
    with pytest.raises(Interrupted, match=f"interrupted by {number.name}") as caught:
        go_on(tmp_path, loss_function=at_call(7, lambda: os.kill(os.getpid(), number), toy_loss))
    assert caught.value.signal == number
    assert load_checkpoint(tmp_path / "checkpoints", "last").counters["state"]["step"] == 7


def test_another_model_is_refused(tmp_path):
    train(tmp_path, max_steps=5)
    with pytest.raises(RunError, match=r"last\.safetensors has 4\.bias|last\.safetensors lacks|last\.safetensors has"):
        train(tmp_path, model=torch.nn.Sequential(*make_model(), torch.nn.Linear(7, 7)))
