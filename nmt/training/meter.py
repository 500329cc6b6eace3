"""What the last steps were like: sums since the last log line, and the clock."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from nmt.training.state import TrainingState

# steps at the start that the speed of a run does not count: kernels are chosen, memory is claimed, caches are cold
WARM_STEPS = 50


class Meter:
    """Sums over the steps since the last log line, kept on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        """Start at zero on ``device``."""
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self._tokens = 0
        self._steps = 0

    def add(self, sums: Tensor, tokens: int) -> None:
        """Add a step.

        Args:
            sums: [4]: the loss minimised and the negative log-likelihood over tokens, the gradient's norm, and of the
                first what is about attention.
            tokens: the target tokens.
        """
        self._sums += sums
        self._tokens += tokens
        self._steps += 1

    @property
    def finite(self) -> bool:
        """Whether all steps since the last log line had finite losses and gradients; waits for the device."""
        return bool(self._sums.isfinite().all())

    def take(self) -> dict[str, float]:
        """Return means since the last call (nats per token; norm per step) and start again; waits for the device."""
        smoothed, nll, norm, attention = self._sums.tolist()
        tokens, steps = max(self._tokens, 1), max(self._steps, 1)
        loss = nll / tokens
        self._sums.zero_()
        self._tokens = self._steps = 0
        return {
            "loss": loss,
            "smoothed_loss": smoothed / tokens,
            **({"attention_loss": attention / tokens} if attention else {}),
            "perplexity": math.exp(min(loss, 700.0)),
            "grad_norm": norm / steps,
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the sums."""
        return {"sums": self._sums}

    def counters(self) -> dict[str, int]:
        """Return the counts that belong to the sums."""
        return {"tokens": self._tokens, "steps": self._steps}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Set sums and counts."""
        self._sums.copy_(tensors["sums"])
        self._tokens, self._steps = counters["tokens"], counters["steps"]


class Clock:
    """Adds the time that passes to a :class:`TrainingState`: to updates or only to the whole."""

    def __init__(self, state: TrainingState, device: torch.device) -> None:
        """Start now; ``device`` is waited for where its work must be counted to the end."""
        self._state, self._device = state, device
        self._lap = self._wall = time.perf_counter()

    def tick(self) -> None:
        """Bring the wall time of the state up to now."""
        now = time.perf_counter()
        self._state.wall_seconds += now - self._wall
        self._wall = now

    def lap(self) -> None:
        """Bring the time of updates up to now, when the device has done them."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self._state.seconds += now - self._lap
        self._lap = now

    def end_warm(self) -> None:
        """Note that the steps up to now are not to count for the speed."""
        self.lap()
        self._state.warm_tokens, self._state.warm_seconds = self._state.tokens, self._state.seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count the time of the block as wall time only."""
        self.lap()
        try:
            yield
        finally:
            self._lap = time.perf_counter()
            self.tick()
