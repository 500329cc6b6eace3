"""Bahdanau's wiring."""

from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor

from nmt.model.attention import Attended, Attention
from nmt.model.decoder.base import Decoded, Decoder, DecoderState, join, words_by_step
from nmt.model.encoder.base import Encoded


@final
class AttendThenUpdate(Decoder):
    """Attend with the old state, then update with what was read (Bahdanau et al. 2015, arXiv:1409.0473v7, A.2.2).

    c_i = attention(s_{i-1}); s_i = f(s_{i-1}, y_{i-1}, c_i); readout of (s_{i-1} or s_i, y_{i-1}, c_i).
    """

    updates_with_context = True

    def __init__(self, *, attention: Attention, **options: Any) -> None:
        super().__init__(attention=attention, feed_size=attention.size, **options)

    def start(self, encoded: Encoded) -> DecoderState:
        """Return the state before the first step; its top asks, and so looks back as all that follow."""
        state = super().start(encoded)
        return self._look_back(state.top, state)

    def _step(self, projected: Tensor, embedded: Tensor, state: DecoderState) -> Decoded:
        attended, after, read_state = self._advance(projected, state)
        return self._read(read_state, embedded, attended, after)

    def forward(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """Read a whole target; the readouts, which do not enter the recurrence, are made for all steps at once."""
        steps, read_states = [], []
        for projected in words_by_step(self.project, embedded):
            attended, state, read_state = self._advance(projected, state)
            steps.append(attended)
            read_states.append(read_state)
        return self._read(torch.cat(read_states, 1), embedded, join(steps), state)

    def _advance(self, projected: Tensor, state: DecoderState) -> tuple[Attended, DecoderState, Tensor]:
        """Return what was read, the next state, and the state that the readout reads."""
        attended = self.attention(state.top, state.memory, state.position, state.attention)
        after = replace(self._update(projected, attended.context, state), attention=attended.state)
        return attended, after, state.top if self.readout.reads_query else after.top
