"""A training under way: all that the checkpoint ``last`` holds, and how it is saved and brought back."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nmt.errors import TrainingError
from nmt.training.averaging import Averaging
from nmt.training.checkpoint import (
    checkpoint_path,
    generator_tensors,
    load_checkpoint,
    load_model_tensors,
    model_tensors,
    restore_generators,
    save_checkpoint,
)
from nmt.training.log import Log
from nmt.training.meter import Clock, Meter
from nmt.training.optimizer import load_optimizer_tensors, optimizer_tensors
from nmt.training.schedule import Schedule
from nmt.training.state import TrainingState

log = logging.getLogger(__name__)


class Session:
    """The parts of a training that change with it, and the folder of their checkpoints."""

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        averaging: Averaging,
        logs: Sequence[Log],
        folder: Path,
    ) -> None:
        """Start a training, or go on from the checkpoint ``last`` where ``folder`` has one."""
        self.model, self.optimizer, self.schedule, self.averaging = model, optimizer, schedule, averaging
        self.logs, self.folder = logs, folder
        self.device = next(model.parameters()).device
        self.meter = Meter(self.device)
        self.state = TrainingState()
        self.saved_step: int | None = None
        self._peaks = [group["lr"] for group in optimizer.param_groups]
        if checkpoint_path(folder, "last").exists():
            self._restore()
        else:
            self._restore_logs({})
        self.saved_at = time.perf_counter()
        self.clock = Clock(self.state, self.device)

    def set_learning_rate(self) -> None:
        """Give the optimiser the learning rate of the next step."""
        factor = self.schedule.factor(self.state.step + 1, self.state.progress)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def write(self, kind: str, values: Mapping[str, Any], timing: Mapping[str, float | None]) -> None:
        """Give every log a record of this step; ``kind`` is ``train`` or ``valid``."""
        record = {"step": self.state.step, "epoch": self.state.progress, "kind": kind, **values, "timing": timing}
        for each in self.logs:
            each.write(record)

    def check_finite(self) -> None:
        """Refuse to go on after a loss or gradient that is not finite; waits for the device.

        Raises:
            TrainingError: there was one since the last log line.
        """
        if self.meter.finite:
            return
        at = "at" if self.device.type == "cpu" else "at or shortly before"
        saved = f"the last good checkpoint is {checkpoint_path(self.folder, 'last')}, of step {self.saved_step}"
        known = "there is no checkpoint yet" if self.saved_step is None else saved
        raise TrainingError(f"the loss or its gradient is not finite {at} step {self.state.step}; {known}")

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Have the averaged weights in the model, and the model in evaluation mode, inside the block."""
        with self.averaging.applied(), torch.no_grad():
            self.model.eval()
            try:
                yield
            finally:
                self.model.train()

    def save_best(self) -> None:
        """Save the weights now in the model as ``best``."""
        state = self.state
        counters = {"step": state.step, "epoch": state.progress, "validation": state.best}
        save_checkpoint(self.folder, "best", model_tensors(self.model), counters)

    def save_last(self) -> None:
        """Save everything as ``last``.

        Raises:
            TrainingError: a loss or gradient was not finite; the checkpoint of before stays.
        """
        self.check_finite()
        with self.clock.paused():
            save_checkpoint(self.folder, "last", self._tensors(), self._counters())
        self.saved_step, self.saved_at = self.state.step, time.perf_counter()

    def _tensors(self) -> dict[str, Tensor]:
        sections = {
            "model": model_tensors(self.model),
            "optimizer": optimizer_tensors(self.optimizer, self.model),
            "average": self.averaging.tensors(),
            "generator": generator_tensors(self.device),
            "meter": self.meter.tensors(),
        }
        return {f"{name}/{key}": tensor for name, section in sections.items() for key, tensor in section.items()}

    def _counters(self) -> dict[str, Any]:
        return {
            "state": asdict(self.state),
            "schedule": self.schedule.state(),
            "meter": self.meter.counters(),
            "logs": {type(each).__name__: each.state() for each in self.logs},
        }

    def _restore(self) -> None:
        path = checkpoint_path(self.folder, "last")
        last = load_checkpoint(self.folder, "last")
        load_model_tensors(self.model, _section(last.tensors, "model"), path)
        load_optimizer_tensors(self.optimizer, self.model, _section(last.tensors, "optimizer"))
        self.averaging.restore(_section(last.tensors, "average"))
        self.meter.restore(_section(last.tensors, "meter"), last.counters["meter"])
        self.schedule.restore(last.counters["schedule"])
        self.state = TrainingState(**last.counters["state"])
        self._restore_logs(last.counters["logs"])
        restore_generators(_section(last.tensors, "generator"), self.device)
        self.saved_step = self.state.step
        log.info("going on from %s: step %d, epoch %.2f", path, self.state.step, self.state.progress)

    def _restore_logs(self, states: Mapping[str, Any]) -> None:
        for each in self.logs:
            each.restore(states.get(type(each).__name__, {}), self.state.step)


def _section(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors under ``name/``, without that prefix."""
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
