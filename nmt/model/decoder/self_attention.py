"""The decoder's look back at its own states."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from nmt.model.dropout import Dropout
from nmt.model.products import Linear
from nmt.model.self_attention import attend_heads, require_whole_heads

Past = tuple[Tensor, ...]
"""What is remembered of a hypothesis's states: nothing, or their keys beside their values, [B, K, t, 2 H]."""
LookBack = Callable[[Tensor, Past], tuple[Tensor, Past]]
"""(top states of Q steps [B, K, Q, H], the past before them) -> (what asks and is read [B, K, Q, H], the past)."""


class NoSelfAttention(nn.Module):
    """States are asked with and read as they are; also the interface of :class:`CausalSelfAttention`."""

    def start(self, top: Tensor) -> Past:
        """Return the past before the first state, given any state [B, K, H]."""
        return ()

    def prepare(self) -> LookBack:
        """Return what to apply, to one step or to many at once, in one recurrence."""
        return lambda tops, past: (tops, past)


@final
class CausalSelfAttention(NoSelfAttention):
    """top'_t = h_t + W_o [c_1; ..; c_n], where head i reads c_i from the decoder's own top states up to h_t.

    After Cheng et al. 2016 (arXiv:1601.06733v7), section 3.1, with the heads of Vaswani et al. 2017
    (arXiv:1706.03762v7, section 3.2.2). The states are those that ask: in Luong's wiring one for each word read, in
    Bahdanau's also the state before the first. top' asks attention and is read by the readout; the recurrence keeps
    h_t.

    Differs: in the paper the attended memory takes the place of h and c in the recurrence, its score is additive, and
    it does not hold the present.

    Args:
        hidden_size: H.
        heads: number of heads, which divides H.
        dropout: on what is added to h_t.
        variational_dropout: one dropout mask for all steps of a sentence.
    """

    def __init__(self, hidden_size: int, heads: int, *, dropout: float, variational_dropout: bool) -> None:
        super().__init__()
        require_whole_heads("decoder.self_attention_heads", heads, hidden_size)
        self.heads, self.hidden_size = heads, hidden_size
        self.project = Linear(hidden_size, 3 * hidden_size, bias=False)
        self.output = Linear(hidden_size, hidden_size, bias=False)
        # at zero, training begins with the states as they are
        nn.init.zeros_(self.output.weight)
        self.dropout = Dropout(dropout, variational=variational_dropout)

    def start(self, top: Tensor) -> Past:
        """Return no keys and values, [B, K, 0, 2 H]."""
        return (top.new_empty(*top.shape[:2], 0, 2 * self.hidden_size),)

    def prepare(self) -> LookBack:
        """Return the look back; a step costs what was read so far, and keeps it."""
        project, output, drop = self.project.prepare(), self.output.prepare(), self.dropout.prepare()
        sizes = [self.hidden_size, 2 * self.hidden_size]

        def look_back(tops: Tensor, past: Past) -> tuple[Tensor, Past]:
            queries, new = project(tops).split(sizes, dim=-1)
            known = torch.cat([past[0], new], dim=2)
            keys, values = known.flatten(0, 1).chunk(2, dim=-1)
            before, steps = past[0].shape[2], tops.shape[2]
            allowed = torch.ones(steps, before + steps, dtype=torch.bool, device=tops.device).tril(before)
            read = attend_heads(queries.flatten(0, 1), keys, values, allowed, self.heads)
            return tops + drop(output(read)).view_as(tops), (known,)

        return look_back
