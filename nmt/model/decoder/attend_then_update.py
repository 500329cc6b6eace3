"""Bahdanau's wiring."""

from typing import Any, final

import torch
from torch import Tensor

from nmt.model.attention import Attention
from nmt.model.decoder.base import Decoded, Decoder, DecoderState, Step, words_by_step


@final
class AttendThenUpdate(Decoder):
    """Attend with the old state, then update with what was read (Bahdanau et al. 2015, arXiv:1409.0473v7, A.2.2).

    c_i = attention(s_{i-1}); s_i = f(s_{i-1}, y_{i-1}, c_i); readout of (s_{i-1} or s_i, y_{i-1}, c_i).
    """

    def __init__(self, *, attention: Attention, **options: Any) -> None:
        super().__init__(attention=attention, feed_size=attention.context.size, **options)

    def _step(self, projected: Tensor, embedded: Tensor, state: DecoderState) -> Step:
        after, context, weights, read_state = self._advance(projected, state)
        return Step(after.recurrence.drop(after.recurrence.read(read_state, embedded, context)), after, weights)

    def forward(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """Read a whole target; the readouts, which do not enter the recurrence, are made for all steps at once."""
        contexts, weights, read_states = [], [], []
        for projected in words_by_step(self.project, embedded):
            state, context, weight, read_state = self._advance(projected, state)
            contexts.append(context)
            weights.append(weight)
            read_states.append(read_state)
        readouts = state.recurrence.read(torch.cat(read_states, 1), embedded, torch.cat(contexts, 1))
        return Decoded(state.recurrence.drop(readouts), torch.cat(weights, 1))

    def _advance(self, projected: Tensor, state: DecoderState) -> tuple[DecoderState, Tensor, Tensor, Tensor]:
        """Return the next state, the context, the weights, and the state that the readout reads."""
        context, weights = self.attention(state.top, state.memory, state.position)
        layers, top = self._update(projected, context, state)
        after = DecoderState(state.memory, state.recurrence, layers, top, None, state.position + 1)
        return after, context, weights, state.top if self.readout.reads_query else top
