"""Where a training stands, as plain numbers, and when it is to stop."""

import math
from dataclasses import dataclass, field


@dataclass
class TrainingState:
    """The counters of a training; all of them are saved with a checkpoint.

    Attributes:
        step: updates made.
        epoch: epochs finished.
        batch: batches of the current epoch that are used up.
        progress: ``epoch`` and the used part of the current one.
        tokens: target tokens trained on, with EOS, without BOS and padding.
        seconds: time spent on updates; validations and checkpoints excluded.
        warm_tokens, warm_seconds: the two at the end of the steps that the speed does not count.
        wall_seconds: time spent at all, over all resumptions.
        validated_step: step of the last validation; None before the first.
        stale: validations in a row without a new best.
        best_step: step of the best validation; None before the first.
        best_score: its score, higher is better.
        best: what that validation returned.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    progress: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    warm_tokens: int = 0
    warm_seconds: float = 0.0
    wall_seconds: float = 0.0
    validated_step: int | None = None
    stale: int = 0
    best_step: int | None = None
    best_score: float | None = None
    best: dict[str, float] = field(default_factory=dict)

    @property
    def tokens_per_second(self) -> float:
        """Target tokens per second of updates, over the steps after the warm ones if there are any."""
        tokens, seconds = self.tokens - self.warm_tokens, self.seconds - self.warm_seconds
        return tokens / seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class Limits:
    """When a training stops: at whichever comes first.

    Attributes:
        max_epochs: passes through the training data, real-valued.
        max_steps: updates; None for no limit.
        max_minutes: minutes of wall time over all resumptions; None for no limit.
        patience: validations in a row without a new best; None for no limit.
    """

    max_epochs: float = math.inf
    max_steps: int | None = None
    max_minutes: float | None = None
    patience: int | None = None

    def reached(self, state: TrainingState) -> str | None:
        """Return which limit ``state`` has reached, in words, or None."""
        if state.progress >= self.max_epochs:
            return f"max_epochs={self.max_epochs:g} reached"
        if self.max_steps is not None and state.step >= self.max_steps:
            return f"max_steps={self.max_steps} reached"
        if self.max_minutes is not None and state.wall_seconds >= 60 * self.max_minutes:
            return f"max_minutes={self.max_minutes:g} reached"
        if self.patience is not None and state.stale >= self.patience:
            return f"no better validation in the last {state.stale} (patience={self.patience})"
        return None

    def done(self, state: TrainingState) -> float:
        """Return the part of the way to the nearest limit that lies behind, 0 to 1; patience cannot be foreseen."""
        parts = [state.progress / self.max_epochs if self.max_epochs else 1.0]
        if self.max_steps is not None:
            parts.append(state.step / self.max_steps if self.max_steps else 1.0)
        if self.max_minutes is not None:
            parts.append(state.wall_seconds / (60 * self.max_minutes) if self.max_minutes else 1.0)
        return min(max(parts), 1.0)
