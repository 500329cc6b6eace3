"""Averages of the weights over the training; the averaged weights are those validated and saved as best."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn

from nmt.errors import ConfigError


class Averaging(ABC):
    """An average over a model's parameters, in the order and by the names of ``named_parameters``."""

    def __init__(self, model: nn.Module) -> None:
        """Follow ``model``, which must stay on its device from here on."""
        self._live = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def update(self, step: int) -> None:  # noqa: B027 - a hook
        """Take note of the weights after update ``step``."""

    def observe(self, step: int) -> None:  # noqa: B027 - a hook
        """Take note of the weights that were validated at ``step``."""

    @abstractmethod
    def weights(self) -> Mapping[str, Tensor]:
        """Return the average by parameter name."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model for the time of the block, in place; then the live weights return."""
        kept = {name: weight.clone() for name, weight in self._live.items()}
        try:
            self._set(self.weights())
            yield
        finally:
            self._set(kept)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as tensors."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027 - a hook
        """Set the state that :meth:`tensors` returned."""

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, live in self._live.items():
            live.copy_(weights[name])


@final
class NoAveraging(Averaging):
    """The live weights themselves."""

    def weights(self) -> Mapping[str, Tensor]:
        """Return the live weights."""
        return self._live

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Leave the model as it is."""
        yield


@final
class MovingAverage(Averaging):
    """Exponential moving average, a += (1 - d) (w - a) after each step, d = min(decay, (1 + step) / (10 + step)).

    The smaller d of the first steps keeps the random initial weights out of the average; as TensorFlow's
    ``ExponentialMovingAverage(num_updates=step)``.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        """Start from the model's weights."""
        super().__init__(model)
        if not 0 <= decay < 1:
            raise ConfigError(f"training.ema_decay={decay} is not accepted; it must be at least 0 and below 1")
        self._decay = decay
        self._average = {name: weight.clone() for name, weight in self._live.items()}

    def update(self, step: int) -> None:
        """Move the average towards the live weights, all parameters in one call."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, live = list(self._average.values()), list(self._live.values())
        torch._foreach_lerp_(averages, live, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def weights(self) -> Mapping[str, Tensor]:
        """Return the moving average."""
        return self._average

    def tensors(self) -> dict[str, Tensor]:
        """Return the moving average."""
        return dict(self._average)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the moving average."""
        for name, average in self._average.items():
            average.copy_(tensors[name])


@final
class CheckpointMean(Averaging):
    """The mean of the live weights and those at the validations before, ``last`` sets in all, kept in main memory."""

    def __init__(self, model: nn.Module, *, last: int) -> None:
        """Start with no earlier weights."""
        super().__init__(model)
        if last < 1:
            raise ConfigError(f"training.average_last={last} is not accepted; it must be at least 1")
        self._earlier_limit = last - 1
        self._earlier: dict[int, dict[str, Tensor]] = {}

    def observe(self, step: int) -> None:
        """Keep a copy of the live weights; drop the oldest."""
        self._earlier[step] = {name: weight.to("cpu", copy=True) for name, weight in self._live.items()}
        while len(self._earlier) > self._earlier_limit:
            del self._earlier[min(self._earlier)]

    def weights(self) -> Mapping[str, Tensor]:
        """Return the mean of the kept and the live weights."""
        return {
            name: torch.stack([live, *(kept[name].to(live.device) for kept in self._earlier.values())]).mean(dim=0)
            for name, live in self._live.items()
        }

    def tensors(self) -> dict[str, Tensor]:
        """Return the kept weights as ``step/parameter name``."""
        return {f"{step}/{name}": weight for step, kept in self._earlier.items() for name, weight in kept.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the kept weights, oldest first, so that a sum over them rounds as it would have."""
        kept: dict[int, dict[str, Tensor]] = {}
        for key, weight in tensors.items():
            step, _, name = key.partition("/")
            kept.setdefault(int(step), {})[name] = weight
        self._earlier = dict(sorted(kept.items()))


def build_averaging(name: str, model: nn.Module, *, decay: float = 0.998, last: int = 5) -> Averaging:
    """Return the averaging ``name``: ``none``, ``ema`` (with ``decay``) or ``checkpoints`` (over the ``last``).

    Raises:
        ConfigError: an unknown name or an option out of range.
    """
    builders: dict[str, Callable[[], Averaging]] = {
        "none": lambda: NoAveraging(model),
        "ema": lambda: MovingAverage(model, decay=decay),
        "checkpoints": lambda: CheckpointMean(model, last=last),
    }
    if name not in builders:
        raise ConfigError(f"training.averaging={name} is not accepted; one of: {', '.join(builders)}")
    return builders[name]()
