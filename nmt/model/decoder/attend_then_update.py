"""Bahdanau's wiring."""

from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from nmt.model.attention import Attended, Attention
from nmt.model.decoder.base import Decoded, Decoder, DecoderState, ReadWord, join, words_by_step
from nmt.model.decoder.self_attention import NoSelfAttention
from nmt.model.encoder.base import Encoded
from nmt.model.recurrence import FedContexts, FirstQuery, run


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

    def _step(self, read: ReadWord, embedded: Tensor, state: DecoderState) -> Decoded:
        attended, after, read_state = self._advance(read, state)
        return self._read(read_state, embedded, attended, after)

    def forward(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """Read a whole target; the readouts, which do not enter the recurrence, are made for all steps at once."""
        plain = type(self.self_attention) is NoSelfAttention
        if plain and not self.attention.asks and not self.attention.recurrent:
            return self._at_once(embedded, state)
        parts = self._parts_by_hand(embedded, state)
        return self._by_steps(embedded, state) if parts is None else self._by_hand(embedded, state, parts)

    def _at_once(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """What is read does not depend on the state that asks."""
        steps = embedded.shape[1]
        positions = torch.arange(state.position, state.position + steps, device=embedded.device)
        attended = self.attention(state.top.expand(-1, steps, -1), state.memory, positions, state.attention)
        outputs, layers = self._update_all(embedded, state, attended.context)
        after = state._replace(layers=layers, top=outputs[:, -1:], position=state.position + steps)
        read_states = torch.cat([state.top, outputs[:, :-1]], 1) if self.readout.reads_query else outputs
        return self._read(read_states, embedded, attended, after)

    def _by_hand(self, embedded: Tensor, state: DecoderState, parts: dict[str, Any]) -> Decoded:
        found = run(FedContexts(**parts, first=FirstQuery(state.top.squeeze(1))))
        states, contexts, weights = (part.transpose(0, 1) for part in found[:3])
        after = self._after(state, found[3:], embedded.shape[1], top=states[:, -1:])
        read_states = states[:, :-1] if self.readout.reads_query else states[:, 1:]
        return self._read(read_states, embedded, Attended(contexts, weights, state.attention), after)

    def _by_steps(self, embedded: Tensor, state: DecoderState) -> Decoded:
        steps, read_states = [], []
        for projected in words_by_step(self.project, embedded):
            attended, state, read_state = self._advance(partial(state.recurrence.read_projected, projected), state)
            steps.append(attended)
            read_states.append(read_state)
        return self._read(torch.cat(read_states, 1), embedded, join(steps), state)

    def _advance(self, read: ReadWord, state: DecoderState) -> tuple[Attended, DecoderState, Tensor]:
        """Return what was read, the next state, and the state that the readout reads."""
        attended = self.attention(state.top, state.memory, state.position, state.attention)
        after = self._update(read, attended.context, state)._replace(attention=attended.state)
        return attended, after, state.top if self.readout.reads_query else after.top
