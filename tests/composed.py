"""Configurations as Hydra composes them from `configs/`, and what options its folders offer."""

from copy import deepcopy
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir

from nmt.config import Config, from_omegaconf

CONFIGS = Path(__file__).parents[1] / "configs"


def options(group):
    """The names of the options of a group, such as `attention/score`."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def groups():
    """All groups that offer something, nested ones too."""
    return sorted({path.parent.relative_to(CONFIGS).as_posix() for path in CONFIGS.glob("*/**/*.yaml")})


def composed(*overrides) -> Config:
    """The configuration of `python train.py OVERRIDES`; a copy, which a test may change."""
    return deepcopy(_composed(overrides))


@cache
def _composed(overrides):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        # the default asks Hydra for the choices, which only its command line knows
        return from_omegaconf(compose("train", ["run_dir=unused", *overrides]))
