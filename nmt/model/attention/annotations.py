"""Annotations: which part of the encoder's states is compared with the query, and which is read."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import final

from torch import nn

from nmt.model.encoder.base import Encoded


class Annotations(nn.Module, ABC):
    """Makes keys and values of an encoded batch.

    Attributes:
        key_size: size of a key.
        value_size: size of a value.
    """

    key_size: int
    value_size: int

    @abstractmethod
    def forward(self, source: Encoded) -> tuple[Encoded, Encoded]:
        """Return the batch with keys as its states, and with values as its states."""


@final
class SharedAnnotations(Annotations):
    """Keys and values are the encoder's states (or its values, where the encoder has any of their own)."""

    def __init__(self, source_size: int) -> None:
        super().__init__()
        self.key_size = self.value_size = source_size

    def forward(self, source: Encoded) -> tuple[Encoded, Encoded]:
        """Return the batch as it is, and with its values."""
        return source, source if source.values is None else replace(source, states=source.values)
