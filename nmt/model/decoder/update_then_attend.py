"""Luong's wiring."""

from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from nmt.model.attention import Attended
from nmt.model.decoder.base import Decoded, Decoder, DecoderState, ReadWord, join, words_by_step
from nmt.model.decoder.readout import Readout
from nmt.model.recurrence import FedReadouts, Read, run


@final
class UpdateThenAttend(Decoder):
    """Update the state, then attend with it (Luong et al. 2015, arXiv:1508.04025v5, section 3).

    h_t = f(h_{t-1}, [y_{t-1}; h~_{t-1}]); c_t = attention(h_t); h~_t = readout(h_t, y_{t-1}, c_t). With
    ``input_feeding`` (section 3.3) h~_{t-1}, dropout applied, enters the recurrence, h~_0 being zero; without it no
    step waits for attention, and all attend at once.
    """

    updates_with_context = False

    def __init__(self, *, readout: Readout, input_feeding: bool = True, **options: Any) -> None:
        super().__init__(readout=readout, feed_size=readout.size if input_feeding else 0, **options)
        self.input_feeding = input_feeding
        if not input_feeding:
            self._without_derivative = "decoding without input feeding"
        elif readout.by_hand() is None:
            self._without_derivative = "this readout"

    def _first_feed(self, like: Tensor) -> Tensor | None:
        return like.new_zeros(*like.shape[:-1], self.readout.size) if self.input_feeding else None

    def _step(self, read: ReadWord, embedded: Tensor, state: DecoderState) -> Decoded:
        after = self._update(read, state.feed, state)
        attended = self.attention(after.top, state.memory, state.position, state.attention)
        after = after._replace(attention=attended.state)
        decoded = self._read(after.top, embedded, attended, after)
        return decoded._replace(state=after._replace(feed=decoded.readouts)) if self.input_feeding else decoded

    def forward(self, embedded: Tensor, state: DecoderState) -> Decoded:
        """Read a whole target."""
        if not self.input_feeding and not self.attention.recurrent:
            return self._at_once(embedded, state)
        parts = self._parts_by_hand(embedded, state)
        return self._by_steps(embedded, state) if parts is None else self._by_hand(embedded, state, parts)

    def _by_hand(self, embedded: Tensor, state: DecoderState, parts: dict[str, Any]) -> Decoded:
        weight, rounding = self.readout.by_hand(), parts["layers"][0].rounding
        assert weight is not None and state.feed is not None
        steps, first = embedded.shape[1], state.feed.squeeze(1)
        mask = self.dropout.factors(first, steps)
        found = run(FedReadouts(**parts, read=Read(weight, first, mask, steps, rounding=rounding)))
        readouts, states, contexts, weights = (part.transpose(0, 1) for part in found[:4])
        after = self._after(state, found[4:], steps, top=states[:, -1:], feed=readouts[:, -1:])
        return Decoded(readouts, states, embedded, Attended(contexts, weights, state.attention), after)

    def _by_steps(self, embedded: Tensor, state: DecoderState) -> Decoded:
        steps = []
        for t, projected in enumerate(words_by_step(self.project, embedded)):
            read = partial(state.recurrence.read_projected, projected)
            steps.append(self._step(read, embedded[:, t : t + 1], state))
            state = steps[-1].state
        return Decoded(
            readouts=torch.cat([step.readouts for step in steps], 1),
            states=torch.cat([step.states for step in steps], 1),
            embedded=embedded,
            attended=join([step.attended for step in steps]),
            state=state,
        )

    def _at_once(self, embedded: Tensor, state: DecoderState) -> Decoded:
        use = state.recurrence
        output, layers = self._update_all(embedded, state)
        tops, past = use.look_back(output.unsqueeze(1), state.past)
        tops = tops.squeeze(1)
        positions = torch.arange(state.position, state.position + embedded.shape[1], device=embedded.device)
        attended = self.attention(tops, state.memory, positions, state.attention)
        position = state.position + embedded.shape[1]
        after = state._replace(layers=layers, top=tops[:, -1:], past=past, position=position)
        return self._read(tops, embedded, attended, after)
