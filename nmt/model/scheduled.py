"""Parts of the model that change over the training by a schedule of their own."""

from abc import ABC, abstractmethod

from torch import nn


class Scheduled(ABC):
    """A module that the training loop tells, before each update, how many were made before it."""

    @abstractmethod
    def begin_step(self, step: int) -> None:
        """Prepare for the update after ``step`` others; what follows from it must follow from ``step`` alone.

        Nothing of it is in a checkpoint, so that a training resumed at ``step`` does the same as one never stopped.
        """

    @property
    @abstractmethod
    def settled(self) -> bool:
        """Whether all later steps will prepare the same as the last did."""


def settled(model: nn.Module) -> bool:
    """Whether every scheduled part of the model is settled."""
    return all(module.settled for module in model.modules() if isinstance(module, Scheduled))


def begin_step(model: nn.Module, step: int) -> None:
    """Tell every scheduled part of the model that the update after ``step`` others begins."""
    for module in model.modules():
        if isinstance(module, Scheduled):
            module.begin_step(step)
