"""Self-attention of several heads over a sequence, as encoders and the decoder share it."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmt.errors import ConfigError
from nmt.model.products import Linear


def require_whole_heads(option: str, heads: int, size: int) -> None:
    """Refuse a number of heads that does not divide the size which they share."""
    if heads < 1 or size % heads:
        raise ConfigError(
            f"{option}={heads} is not accepted; it must be at least 1 and divide the states' size, {size}"
        )


def attend_heads(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor, heads: int) -> Tensor:
    """Return the heads' contexts side by side, [N, Q, D]: c_i = softmax(q_i K_i^T / sqrt(D / heads)) V_i.

    Args:
        queries: [N, Q, D], those of head i in the i-th of ``heads`` equal parts of D.
        keys: [N, T, D].
        values: [N, T, D].
        allowed: True where a query may look, to be broadcast to [N, Q, T]; somewhere in each row.
        heads: number of heads.
    """
    parts = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (queries, keys, values))
    read = functional.scaled_dot_product_attention(*parts, attn_mask=allowed.unsqueeze(-3))
    return read.transpose(1, 2).flatten(2)


@final
class SelfAttention(nn.Module):
    """MHA(x) = W_o [c_1; ..; c_n], every position of x asking all (Vaswani et al. 2017, arXiv:1706.03762v7, 3.2.2).

    W_q, W_k, W_v [D, D] (the rows of all heads, one above the other) and W_o [D, D] have no bias, as in the authors'
    code. The first three are one matrix here.

    Args:
        size: D.
        heads: n, which divides D.
    """

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = Linear(size, 3 * size, bias=False)
        self.output = Linear(size, size, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Attend over [N, T, D], of which those positions can be seen where the mask [N, T] is True."""
        queries, keys, values = self.project(states).chunk(3, dim=-1)
        return self.output(attend_heads(queries, keys, values, mask.unsqueeze(1), self.heads))


def sinusoids(count: int, size: int, like: Tensor) -> Tensor:
    """Return PE [count, size] of the type and device of ``like`` (Vaswani et al. 2017, section 3.5).

    PE(pos, 2i) = sin(pos / 10000^(2i / size)), PE(pos, 2i + 1) = cos(pos / 10000^(2i / size)).
    """
    entries = torch.arange(size, device=like.device)
    rates = 10000.0 ** (-2 * (entries // 2).to(like.dtype) / size)
    angles = torch.arange(count, device=like.device, dtype=like.dtype).unsqueeze(1) * rates
    return torch.where(entries % 2 == 0, angles.sin(), angles.cos())
