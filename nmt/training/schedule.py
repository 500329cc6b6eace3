"""Learning-rate schedules: a factor on the peak learning rate from step, epochs and validation scores."""

import math
from abc import ABC, abstractmethod
from typing import Any, final

from nmt.errors import ConfigError


class Schedule(ABC):
    """A linear warm-up over the first steps, then what the subclass says.

    An epoch count is real-valued progress through the training data: 2.5 is the middle of the third epoch.
    """

    def __init__(self, *, warmup_steps: int = 0) -> None:
        """Prepare a schedule whose factor reaches 1 at step ``warmup_steps``."""
        if warmup_steps < 0:
            raise ConfigError(f"training.schedule.warmup_steps={warmup_steps} is not accepted; it must be at least 0")
        self.warmup_steps = warmup_steps

    @final
    def factor(self, step: int, epochs: float) -> float:
        """Return what the learning rate is multiplied by.

        Args:
            step: the update about to be made, from 1.
            epochs: epochs of training before it.
        """
        if step < self.warmup_steps:
            self._warming(epochs)
            return step / self.warmup_steps
        return self._after_warmup(step, epochs)

    @abstractmethod
    def _after_warmup(self, step: int, epochs: float) -> float:
        """Return the factor at ``step``, which is not before ``warmup_steps``."""

    def _warming(self, epochs: float) -> None:  # noqa: B027 - a hook
        """Take note of a warm-up step at ``epochs``."""

    def observe(self, score: float) -> None:  # noqa: B027 - a hook
        """Take note of a validation's score, higher is better."""

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, as plain JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027 - a hook
        """Set what :meth:`state` returned."""


@final
class Constant(Schedule):
    """The peak learning rate throughout."""

    def _after_warmup(self, step: int, epochs: float) -> float:
        return 1.0


@final
class InverseSqrt(Schedule):
    """sqrt(warmup_steps / step), and 1/sqrt(step) without a warm-up.

    Vaswani et al. 2017, arXiv:1706.03762v7, eq. 3, scaled so that the peak is 1.
    """

    def _after_warmup(self, step: int, epochs: float) -> float:
        return math.sqrt(max(self.warmup_steps, 1) / step)


@final
class Cosine(Schedule):
    """Half a cosine from 1 at the end of the warm-up to ``minimum`` at ``horizon_epochs``, and constant from there.

    minimum + (1 - minimum) (1 + cos(pi x)) / 2, x from 0 to 1; Loshchilov and Hutter 2017, arXiv:1608.03983v5, eq. 5.
    """

    def __init__(self, *, horizon_epochs: float, minimum: float = 0.0, warmup_steps: int = 0) -> None:
        """Prepare a schedule that ends at ``horizon_epochs``, counted from the start of the training."""
        super().__init__(warmup_steps=warmup_steps)
        if not horizon_epochs > 0:
            raise ConfigError(f"training.schedule.horizon_epochs={horizon_epochs} is not accepted; it must be above 0")
        self._horizon, self._minimum = horizon_epochs, _fraction(minimum, "minimum")
        self._start = 0.0

    def _warming(self, epochs: float) -> None:
        self._start = epochs

    def _after_warmup(self, step: int, epochs: float) -> float:
        length = self._horizon - self._start
        done = min((epochs - self._start) / length, 1.0) if length > 0 else 1.0
        return self._minimum + (1 - self._minimum) * (1 + math.cos(math.pi * done)) / 2

    def state(self) -> dict[str, Any]:
        """Return the epochs at which the warm-up ended."""
        return {"start": self._start}

    def restore(self, state: dict[str, Any]) -> None:
        """Set the epochs at which the warm-up ended."""
        self._start = state["start"]


@final
class Plateau(Schedule):
    """Multiplied by ``factor`` after every ``patience`` validations in a row without a new best score."""

    def __init__(self, *, factor: float, patience: int, minimum: float = 0.0, warmup_steps: int = 0) -> None:
        """Prepare a schedule that never falls below ``minimum``."""
        super().__init__(warmup_steps=warmup_steps)
        if patience < 1:
            raise ConfigError(f"training.schedule.patience={patience} is not accepted; it must be at least 1")
        self._by, self._patience = _fraction(factor, "factor"), patience
        self._minimum = _fraction(minimum, "minimum")
        self._current, self._best, self._stale = 1.0, -math.inf, 0

    def _after_warmup(self, step: int, epochs: float) -> float:
        return self._current

    def observe(self, score: float) -> None:
        """Count validations without improvement; lower the factor when patience ends."""
        self._stale = 0 if score > self._best else self._stale + 1
        self._best = max(score, self._best)
        if self._stale == self._patience:
            self._current = max(self._current * self._by, self._minimum)
            self._stale = 0

    def state(self) -> dict[str, Any]:
        """Return the factor and the history it came from."""
        best = None if math.isinf(self._best) else self._best
        return {"current": self._current, "best": best, "stale": self._stale}

    def restore(self, state: dict[str, Any]) -> None:
        """Set the factor and the history it came from."""
        self._best = -math.inf if state["best"] is None else state["best"]
        self._current, self._stale = state["current"], state["stale"]


@final
class Halving(Schedule):
    """Multiplied by ``factor`` at the end of epoch ``start_epoch`` and every ``every_epochs`` from there on.

    With 0.5, 5 and 1: "after 5 epochs, we begin to halve the learning rate every epoch"; Luong et al. 2015,
    arXiv:1508.04025v5, section 4.1.
    """

    def __init__(
        self,
        *,
        start_epoch: float,
        every_epochs: float,
        factor: float = 0.5,
        minimum: float = 0.0,
        warmup_steps: int = 0,
    ) -> None:
        """Prepare a schedule that never falls below ``minimum``."""
        super().__init__(warmup_steps=warmup_steps)
        if not every_epochs > 0:
            raise ConfigError(f"training.schedule.every_epochs={every_epochs} is not accepted; it must be above 0")
        self._start, self._every = start_epoch, every_epochs
        self._by, self._minimum = _fraction(factor, "factor"), _fraction(minimum, "minimum")

    def _after_warmup(self, step: int, epochs: float) -> float:
        if epochs < self._start:
            return 1.0
        times = math.floor((epochs - self._start) / self._every) + 1
        return max(self._by**times, self._minimum)


# schedule -> (class, the options it has besides warmup_steps)
_SCHEDULES: dict[str, tuple[type[Schedule], tuple[str, ...]]] = {
    "constant": (Constant, ()),
    "inverse_sqrt": (InverseSqrt, ()),
    "cosine": (Cosine, ("horizon_epochs", "minimum")),
    "plateau": (Plateau, ("factor", "patience", "minimum")),
    "halving": (Halving, ("start_epoch", "every_epochs", "factor", "minimum")),
}


def build_schedule(name: str, *, warmup_steps: int = 0, **options: float) -> Schedule:
    """Return the schedule ``name`` with those of ``options`` that it has.

    Args:
        name: ``constant``, ``inverse_sqrt``, ``cosine``, ``plateau`` or ``halving``.
        warmup_steps: steps of linear warm-up, 0 for none.
        options: the fields of ``training.schedule``; each schedule picks its own, as they have defaults there.

    Raises:
        ConfigError: an unknown name or an option out of range.
    """
    if name not in _SCHEDULES:
        raise ConfigError(f"training.schedule.name={name} is not accepted; one of: {', '.join(_SCHEDULES)}")
    found, names = _SCHEDULES[name]
    return found(warmup_steps=warmup_steps, **{key: value for key, value in options.items() if key in names})


def _fraction(value: float, name: str) -> float:
    """Return ``value``, which must be from 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"training.schedule.{name}={value} is not accepted; it must be from 0 to 1")
    return value
