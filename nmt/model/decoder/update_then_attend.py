"""Luong's wiring."""

from typing import Any, final

import torch
from torch import Tensor

from nmt.model.decoder.base import Decoded, Decoder, DecoderState, Step, words_by_step
from nmt.model.decoder.readout import Readout


@final
class UpdateThenAttend(Decoder):
    """Update the state, then attend with it (Luong et al. 2015, arXiv:1508.04025v5, section 3).

    h_t = f(h_{t-1}, [y_{t-1}; h~_{t-1}]); c_t = attention(h_t); h~_t = readout(h_t, y_{t-1}, c_t). With
    ``input_feeding`` (section 3.3) h~_{t-1}, dropout applied, enters the recurrence, h~_0 being zero; without it no
    step waits for attention, and all attend at once.
    """

    def __init__(self, *, readout: Readout, input_feeding: bool = True, **options: Any) -> None:
        super().__init__(readout=readout, feed_size=readout.size if input_feeding else 0, **options)
        self.input_feeding = input_feeding

    def _first_feed(self, like: Tensor) -> Tensor | None:
        return like.new_zeros(*like.shape[:-1], self.readout.size) if self.input_feeding else None

    def _step(self, projected: Tensor, embedded: Tensor, state: DecoderState) -> Step:
        layers, top = self._update(projected, state.feed, state)
        context, weights = self.attention(top, state.memory, state.position)
        readout = state.recurrence.drop(state.recurrence.read(top, embedded, context))
        feed = readout if self.input_feeding else None
        after = DecoderState(state.memory, state.recurrence, layers, top, feed, state.position + 1)
        return Step(readout, after, weights)

    def forward(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """Read a whole target."""
        return self._with_feeding(embedded, state) if self.input_feeding else self._without_feeding(embedded, state)

    def _with_feeding(self, embedded: Tensor, state: DecoderState) -> Decoded:
        readouts, weights = [], []
        for t, projected in enumerate(words_by_step(self.project, embedded)):
            readout, state, weight = self._step(projected, embedded[:, t : t + 1], state)
            readouts.append(readout)
            weights.append(weight)
        return Decoded(torch.cat(readouts, 1), torch.cat(weights, 1))

    def _without_feeding(self, embedded: Tensor, state: DecoderState) -> Decoded:
        use = state.recurrence
        output, below = embedded, embedded
        for depth, (cell, first) in enumerate(zip(self.cells, state.layers, strict=True)):
            below = use.between[depth - 1](output) if depth else output
            projected = cell.project(below.transpose(0, 1))  # pyright: ignore
            hidden, _ = cell.run(projected, tuple(part.squeeze(1) for part in first))  # pyright: ignore
            output = hidden.transpose(0, 1)
            output = output + below if self.residual and depth else output
        positions = torch.arange(embedded.shape[1], device=embedded.device)
        context, weights = self.attention(output, state.memory, positions)
        return Decoded(use.drop(use.read(output, embedded, context)), weights)
