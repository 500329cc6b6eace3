from dataclasses import asdict
from enum import Enum
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from training_toy import make_model

from nmt.config import TrainingConfig
from nmt.training import build_averaging, build_optimizer, build_schedule

FOLDER = Path(__file__).parents[2] / "configs" / "training"
FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def recipe(name):
    """The file over the schema's defaults, as plain values."""
    merged = OmegaConf.merge(OmegaConf.structured(TrainingConfig), OmegaConf.load(FOLDER / f"{name}.yaml"))
    return plain(asdict(OmegaConf.to_object(merged)))


def plain(value):
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return tuple(value)
    return value.value if isinstance(value, Enum) else value


def schedule_of(recipe):
    options = dict(recipe["schedule"])
    return build_schedule(options.pop("name"), **options)


@pytest.mark.parametrize("name", FILES)
def test_every_recipe_can_be_built(name):
    made, model = recipe(name), make_model()
    build_optimizer(model.parameters(), **made["optimizer"])
    schedule_of(made)
    build_averaging(made["averaging"], model, decay=made["ema_decay"], last=made["average_last"])


def test_default_is_the_schema():
    assert recipe("default") == plain(asdict(TrainingConfig()))
    assert OmegaConf.to_container(OmegaConf.load(FOLDER / "default.yaml")).keys() == asdict(TrainingConfig()).keys()


def test_luong_2015():
    made = recipe("luong")
    assert (made["optimizer"]["name"], made["optimizer"]["learning_rate"]) == ("sgd", 1.0)
    assert (made["clip_norm"], made["label_smoothing"], made["batch_sentences"]) == (5.0, 0.0, 128)
    schedule = schedule_of(made)
    assert [schedule.factor(99, epoch) for epoch in (4.9, 5.5, 6.5, 9.5)] == [1.0, 0.5, 0.25, 0.03125]


def test_bahdanau_2015():
    made = recipe("bahdanau")
    optimizer = made["optimizer"]
    assert (optimizer["name"], optimizer["epsilon"], optimizer["rho"]) == ("adadelta", 1e-6, 0.95)
    assert (made["clip_norm"], made["label_smoothing"], made["batch_sentences"]) == (1.0, 0.0, 80)


@pytest.mark.parametrize("name", ["luong", "bahdanau"])
def test_sentences_are_the_tighter_limit(name):
    made = recipe(name)
    assert made["batch_tokens"] == made["batch_sentences"] * (made["max_length"] + 1)
