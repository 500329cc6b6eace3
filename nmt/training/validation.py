"""Validation: the averaged weights are measured, and saved as ``best`` if no earlier ones were better."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nmt.errors import TrainingError
from nmt.training.interruption import Interruption
from nmt.training.session import Session
from nmt.training.state import TrainingState

Validate = Callable[[Any], Mapping[str, float]]
AfterValidation = Callable[[Any, int], None]

# what can select the best weights -> its sign as a score, where higher is better
_SIGNS = {"bleu": 1.0, "loss": -1.0}


@dataclass(frozen=True)
class Validation:
    """How and when to validate.

    Attributes:
        run: returns scores of the model; None for no validation.
        after: called with the model, still prepared for evaluation, and the step.
        every: steps between validations; None for the ends of epochs.
        select: the score that chooses the best weights, ``bleu`` or ``loss``.
    """

    run: Validate | None
    after: Sequence[AfterValidation]
    every: int | None
    select: str

    def due(self, state: TrainingState) -> bool:
        """Whether ``state`` is where a validation belongs, which has not been made."""
        if self.run is None or state.step in (0, state.validated_step):
            return False
        return state.batch == 0 if self.every is None else state.step % self.every == 0

    def measure(self, model: Any, step: int) -> dict[str, float]:
        """Return the scores of ``model``."""
        assert self.run is not None
        values = {name: float(value) for name, value in self.run(model).items()}
        for show in self.after:
            show(model, step)
        return values

    def score(self, values: Mapping[str, float], step: int) -> float:
        """Return the selecting one of ``values`` as a score where higher is better.

        Raises:
            TrainingError: it is not finite.
        """
        value = values[self.select]
        if not math.isfinite(value):
            raise TrainingError(f"the validation's {self.select} at step {step} is not finite ({value})")
        return _SIGNS[self.select] * value


def run_validation(session: Session, validation: Validation, interruption: Interruption) -> None:
    """Validate the averaged weights, save them if they are the best; the state changes only when that is done.

    Raises:
        Interrupted: a signal came; the session is as before.
        TrainingError: a training loss or the score is not finite.
    """
    session.check_finite()
    state, started = session.state, time.perf_counter()
    with session.clock.paused(), session.evaluating():
        with interruption.immediate():
            values = validation.measure(session.model, state.step)
        score = validation.score(values, state.step)
        best = state.best_score is None or score > state.best_score
        state.validated_step = state.step
        state.stale = 0 if best else state.stale + 1
        if best:
            state.best_step, state.best_score, state.best = state.step, score, values
            session.save_best()
    session.averaging.observe(state.step)
    session.schedule.observe(score)
    timing = {"seconds": time.perf_counter() - started, "wall_seconds": state.wall_seconds}
    session.write("valid", {**values, "best": best}, timing)
