"""Luong's local alignments: a window around one source position, given (local-m) or predicted (local-p)."""

from typing import final

import torch
from torch import Tensor

from nmt.errors import ConfigError
from nmt.model.attention.base import Alignment, Memory, masked_softmax
from nmt.model.products import Linear, Operand


def _check_window(window: int) -> int:
    if window < 1:
        raise ConfigError(f"attention.alignment.window={window} is not accepted; it must be at least 1")
    return window


def _offsets(centre: Tensor, memory: Memory) -> Tensor:
    """Return s - centre for every source position: [B, Q] -> [B, Q, S]."""
    return torch.arange(memory.mask.shape[1], device=centre.device, dtype=centre.dtype) - centre.unsqueeze(-1)


def _last_word(memory: Memory) -> Tensor:
    """Return S - 1 of each sentence [B, 1], at least 0."""
    return (memory.lengths - 1).clamp_min(0).unsqueeze(1)


@final
class LocalMonotonic(Alignment):
    """local-m: p_t = t; softmax over the window |s - p_t| <= D (Luong et al. 2015, arXiv:1508.04025v5, section 3.2).

    Positions are 0-based; past the last word p_t stays on it, as in Luong's code, so the window is never empty. Parts
    of the window outside the sentence are left out, not moved (footnote 8); EOS may be read where it is inside.

    Args:
        window: D.
    """

    def __init__(self, window: int = 10) -> None:
        super().__init__()
        self.window = _check_window(window)

    def allowed(self, memory: Memory, positions: Tensor) -> Tensor:
        """Return the windows' positions, [T, B, S]."""
        return self._window(memory, positions).transpose(0, 1)

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S]."""
        # a number is written on the device: to copy it there would make the host wait at every step
        steps = torch.full((1,), positions, device=scores.device) if isinstance(positions, int) else positions
        return masked_softmax(scores, self._window(memory, steps))

    def _window(self, memory: Memory, positions: Tensor) -> Tensor:
        """Return the real positions [B, Q, S] near those of the queries, [Q]."""
        inside = _offsets(torch.minimum(positions, _last_word(memory)), memory).abs() <= self.window
        return inside & memory.mask.unsqueeze(1)


@final
class LocalPredictive(Alignment):
    """local-p: p_t = S sigmoid(v_p^T tanh(W_p h_t)); weights favour the neighbourhood of p_t.

    Luong et al. 2015, arXiv:1508.04025v5, eqs. 9-10.

    a_t(s) = softmax over the window |s - min(floor(p_t), S - 1)| <= D, times exp(-(s - p_t)^2 / (2 sigma^2)), with
    sigma = D / 2. The window lies around the integer, the Gaussian around the real p_t; the product is not renormalised
    (weights sum to less than 1), and the window is cut at the sentence's edges, not moved. W_p and v_p learn through
    the Gaussian alone. S counts words without EOS; EOS may be read where it is inside the window.

    Args:
        query_size: H.
        window: D.
    """

    asks = True

    def __init__(self, query_size: int, window: int = 10) -> None:
        super().__init__()
        self.window = _check_window(window)
        self.hidden = Linear(query_size, query_size, bias=False)
        self.vector = Linear(query_size, 1, bias=False)

    def prepare(self) -> Operand:
        """Return the operand of W_p."""
        return self.hidden.prepare()

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S]."""
        assert memory.alignment is not None
        hidden = torch.tanh(memory.alignment(query))
        position = memory.lengths.unsqueeze(1) * torch.sigmoid(hidden @ self.vector.weight[0])
        centre = torch.minimum(position.detach().floor(), _last_word(memory).to(position.dtype))
        inside = _offsets(centre, memory).abs() <= self.window
        weights = masked_softmax(scores, inside & memory.mask.unsqueeze(1))
        return weights * torch.exp(-_offsets(position, memory).square() / (2 * (self.window / 2) ** 2))
