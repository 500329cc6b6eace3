import json
import math

import pytest

from nmt.errors import ConfigError
from nmt.training import build_schedule

OPTIONS = {
    "horizon_epochs": 10.0,
    "minimum": 0.1,
    "factor": 0.5,
    "patience": 2,
    "start_epoch": 5.0,
    "every_epochs": 1.0,
}
NAMES = ["constant", "inverse_sqrt", "cosine", "plateau", "halving"]


@pytest.mark.parametrize("name", NAMES)
def test_warmup_is_linear_and_reaches_the_peak(name):
    schedule = build_schedule(name, warmup_steps=4, **OPTIONS)
    factors = [schedule.factor(step, 0.0) for step in range(1, 5)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("name", NAMES)
def test_without_warmup_the_peak_comes_first(name):
    assert build_schedule(name, **OPTIONS).factor(1, 0.0) == 1.0


def test_constant():
    assert build_schedule("constant").factor(1_000_000, 99.0) == 1.0


def test_inverse_sqrt():
    schedule = build_schedule("inverse_sqrt", warmup_steps=100)
    assert [schedule.factor(step, 0.0) for step in (100, 400, 10_000)] == pytest.approx([1.0, 0.5, 0.1])
    assert build_schedule("inverse_sqrt").factor(16, 0.0) == pytest.approx(0.25)


def test_cosine_between_its_ends():
    schedule = build_schedule("cosine", horizon_epochs=8.0, minimum=0.2)
    assert schedule.factor(1, 0.0) == pytest.approx(1.0)
    assert schedule.factor(2, 2.0) == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
    assert schedule.factor(3, 4.0) == pytest.approx(0.6)
    assert schedule.factor(4, 8.0) == pytest.approx(0.2)
    assert schedule.factor(5, 80.0) == pytest.approx(0.2)


def test_cosine_starts_after_the_warmup():
    schedule = build_schedule("cosine", warmup_steps=3, horizon_epochs=10.0)
    for step in (1, 2):
        schedule.factor(step, float(step))
    assert schedule.factor(3, 2.0) == pytest.approx(1.0)
    assert schedule.factor(4, 6.0) == pytest.approx(0.5)
    resumed = build_schedule("cosine", warmup_steps=3, horizon_epochs=10.0)
    resumed.restore(json.loads(json.dumps(schedule.state())))
    assert resumed.factor(4, 6.0) == pytest.approx(0.5)


def test_cosine_whose_warmup_fills_the_horizon():
    schedule = build_schedule("cosine", warmup_steps=2, horizon_epochs=1.0, minimum=0.3)
    schedule.factor(1, 1.5)
    assert schedule.factor(2, 1.6) == pytest.approx(0.3)


def test_plateau_falls_after_patience_and_counts_again():
    schedule = build_schedule("plateau", factor=0.5, patience=2, minimum=0.2)
    factors = []
    for score in (1.0, 2.0, 2.0, 1.9, 1.8, 3.0, 2.9, 2.9, 2.8, 2.7):
        schedule.observe(score)
        factors.append(schedule.factor(1, 0.0))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2]


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
def test_plateau_goes_on_where_it_was(seen):
    scores = (2.0, 1.0, 1.5, 1.2, 1.1)
    whole, first, second = (build_schedule("plateau", factor=0.5, patience=2) for _ in range(3))
    for score in scores:
        whole.observe(score)
    for score in scores[:seen]:
        first.observe(score)
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    for score in scores[seen:]:
        second.observe(score)
    assert second.state() == whole.state()
    assert second.factor(1, 0.0) == 0.25


def test_halving_as_luong():
    schedule = build_schedule("halving", factor=0.5, start_epoch=5.0, every_epochs=1.0, minimum=0.1)
    epochs = (0.0, 4.99, 5.0, 5.99, 6.0, 7.5, 8.0, 20.0)
    assert [schedule.factor(9, epoch) for epoch in epochs] == [1, 1, 0.5, 0.5, 0.25, 0.125, 0.1, 0.1]


def test_halving_every_half_epoch():
    schedule = build_schedule("halving", factor=0.5, start_epoch=1.0, every_epochs=0.5)
    assert [schedule.factor(9, epoch) for epoch in (0.9, 1.0, 1.5, 2.0)] == [1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("step", {}, r"name=step is not accepted; one of: constant, inverse_sqrt, cosine, plateau, halving"),
        ("constant", {"warmup_steps": -1}, r"warmup_steps=-1 is not accepted; it must be at least 0"),
        ("cosine", {"horizon_epochs": 0}, r"horizon_epochs=0 is not accepted; it must be above 0"),
        ("cosine", {"horizon_epochs": float("nan")}, r"horizon_epochs=nan is not accepted; it must be above 0"),
        ("cosine", {"minimum": 1.5}, r"minimum=1.5 is not accepted; it must be from 0 to 1"),
        ("plateau", {"patience": 0}, r"patience=0 is not accepted; it must be at least 1"),
        ("plateau", {"factor": 2.0}, r"factor=2.0 is not accepted; it must be from 0 to 1"),
        ("halving", {"every_epochs": 0}, r"every_epochs=0 is not accepted; it must be above 0"),
    ],
)
def test_refused(name, option, message):
    with pytest.raises(ConfigError, match=r"training\.schedule\." + message):
        build_schedule(name, **{**OPTIONS, **option})
