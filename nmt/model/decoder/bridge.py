"""Bridges: how the encoded sentence makes the decoder's first state s_0."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from nmt.errors import ConfigError
from nmt.model.cells import CellState
from nmt.model.encoder.base import Encoded
from nmt.model.products import Linear


class Bridge(nn.Module, ABC):
    """Makes the initial state of every decoder layer.

    Subclasses take what they need of these sizes.

    Args:
        source_size: M.
        source_parts: of each layer in ``Encoded.finals``, the number of parts.
        backward_size: size of the encoder's first backward state; 0 if there is none.
        hidden_size: H.
        layers: number of decoder layers.
        parts: number of parts in a decoder state (2 for the LSTM).
    """

    @abstractmethod
    def forward(self, encoded: Encoded) -> tuple[CellState, ...]:
        """Return one state a layer, each part [B, H]."""


@final
class ZeroBridge(Bridge):
    """s_0 = 0."""

    def __init__(self, hidden_size: int, layers: int, parts: int) -> None:
        super().__init__()
        self.hidden_size, self.layers, self.parts = hidden_size, layers, parts

    def forward(self, encoded: Encoded) -> tuple[CellState, ...]:
        """Return zeros."""
        zeros = encoded.states.new_zeros(len(encoded.lengths), self.hidden_size)
        return ((zeros,) * self.parts,) * self.layers


@final
class BackwardFirstBridge(Bridge):
    """s_0 = tanh(W_s h<-_1) (Bahdanau et al. 2015, arXiv:1409.0473v7, A.2.2), the backward state at the first word.

    The same vector begins every layer; an LSTM's cells begin at zero.
    """

    def __init__(self, backward_size: int, hidden_size: int, layers: int, parts: int) -> None:
        super().__init__()
        if backward_size == 0:
            raise ConfigError(
                "attention/bridge=backward_first needs a backward state, which this encoder does not have; take a "
                "bidirectional one (encoder=birnn) or attention/bridge=final"
            )
        self.layers, self.parts = layers, parts
        self.projection = Linear(backward_size, hidden_size)

    def forward(self, encoded: Encoded) -> tuple[CellState, ...]:
        """Return the states."""
        assert encoded.backward_first is not None
        hidden = torch.tanh(self.projection(encoded.backward_first))
        return ((hidden, *(torch.zeros_like(hidden) for _ in range(self.parts - 1))),) * self.layers


@final
class FinalBridge(Bridge):
    """Each decoder layer begins with the final state of an encoder layer (Luong et al. 2015): the top ones, in order.

    A deeper decoder repeats the encoder's top layer. An encoder without recurrence has one "layer", the mean of what
    attention reads. States go over as they are where the sizes agree; otherwise through a learned projection, of h with
    a tanh after it. A part that the encoder lacks (an LSTM's cell after a GRU) begins at zero.
    """

    def __init__(
        self, source_size: int, source_parts: tuple[int, ...], hidden_size: int, layers: int, parts: int
    ) -> None:
        super().__init__()
        self.hidden_size, self.parts = hidden_size, parts
        unused = max(0, len(source_parts) - layers)
        self.origins = [min(unused + layer, len(source_parts) - 1) for layer in range(layers)]
        self.projections = nn.ModuleList(
            nn.ModuleList(Linear(source_size, hidden_size) for _ in range(min(parts, source_parts[origin])))
            for origin in self.origins
            if source_size != hidden_size
        )

    def forward(self, encoded: Encoded) -> tuple[CellState, ...]:
        """Return the states."""
        return tuple(self._layer(encoded.finals[origin], layer) for layer, origin in enumerate(self.origins))

    def _layer(self, finals: tuple[Tensor, ...], layer: int) -> CellState:
        given = list(finals[: self.parts])
        if len(self.projections):
            given = [project(part) for project, part in zip(self.projections[layer], given, strict=True)]  # pyright: ignore
            given[0] = torch.tanh(given[0])
        return (*given, *(torch.zeros_like(given[0]) for _ in range(self.parts - len(given))))
