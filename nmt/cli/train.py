"""``python train.py`` and ``nmt train``: compose the configuration, train, evaluate, leave a complete run folder."""

import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nmt.cli.common import say
from nmt.cli.logs import to_console
from nmt.cli.memory import set_limits
from nmt.config import from_omegaconf
from nmt.errors import NmtError
from nmt.run_folder import RunFolder

log = logging.getLogger(__name__)

_LONGEST_NAME = 120


def config_folder() -> Path:
    """Return the folder of the YAML files: beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def main(argv: list[str] | None = None) -> int:
    """Run the training that ``argv`` (by default the command line) describes, or all those of a multirun.

    Returns:
        The exit code: 0; 2 for an error of the user's, told in one sentence (in a multirun, once all jobs have run).
    """
    set_limits()
    failures: list[str] = []

    @hydra.main(config_path=str(config_folder()), config_name="train", version_base="1.3")
    def job(node: DictConfig) -> None:
        try:
            _run(node)
        except (NmtError, OSError) as error:
            failures.append(str(error))
            log.debug("the job ends with an error", exc_info=True)
            say(str(error))

    OmegaConf.register_new_resolver("swept", swept, replace=True)
    former = sys.argv
    if argv is not None:
        sys.argv = [former[0], *argv]
    # Hydra then raises what it would otherwise print and exit with
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        # "Error merging override KEY=VALUE" leaves what is accepted to its cause
        reason = f": {str(error.__cause__).splitlines()[0]}" if error.__cause__ else ""
        say(f"{error}{reason}")
        return 2
    finally:
        sys.argv = former
    return 2 if failures else 0


def swept(overrides: Sequence[str]) -> str:
    """Return those of a job's overrides that distinguish it in its sweep, as part of a folder's name."""
    given = set(sys.argv)
    name = ",".join(override for override in overrides if override not in given) or "job"
    return re.sub(r"[^\w.=,+-]+", ".", name)[:_LONGEST_NAME]


def _run(node: DictConfig) -> None:
    """Run one job in the folder that Hydra gave it."""
    from nmt.training.interruption import Interrupted

    state = HydraConfig.get()
    folder = RunFolder(Path(state.runtime.output_dir))
    to_console()
    try:
        with open_dict(node):
            node.choices = _choices(state.runtime.choices)
        if state.mode is RunMode.MULTIRUN:
            log.info("job %s: %s", state.job.num, swept(state.overrides.task))
            node.run_dir = str(folder.path)
        from nmt.cli.experiment import run_experiment

        run_experiment(from_omegaconf(node), folder)
    except Interrupted as interruption:
        log.warning("%s; the same command with run_dir=%s goes on from here", interruption, folder.path)
        sys.exit(128 + interruption.signal)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        _remove_if_empty(folder.path)


def _choices(chosen: Mapping[str, Any]) -> dict[str, str]:
    """Return the program's own choices, without Hydra's."""
    own = {str(key): value for key, value in chosen.items() if not str(key).startswith("hydra/")}
    return {key: str(value) for key, value in own.items() if value is not None}


def _remove_if_empty(path: Path) -> None:
    """Remove the folder that Hydra made if the job has left nothing in it."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
