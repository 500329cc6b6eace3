"""Luong's local alignments: a window around one source position, given (local-m) or predicted (local-p)."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from nmt.errors import ConfigError
from nmt.model.attention.base import Alignment, Memory, masked_softmax
from nmt.model.kernels import added, average, compare, flipped, squash, squash_back
from nmt.model.products import Factor, Linear, Operand, Stack, current, outer, rounded, rounded_rows
from nmt.model.recurrence import Attend, StepScore


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

    def by_hand(self, score: StepScore, values: Tensor, memory: Memory, positions: Tensor) -> Attend:
        """Return all steps; see the base."""
        parameters = self.hidden.weight, self.vector.weight
        return _PredictiveSteps(score, values, memory, len(positions), self.window, parameters)

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S]."""
        assert memory.alignment is not None
        hidden = torch.tanh(memory.alignment(query))
        position = memory.lengths.unsqueeze(1) * torch.sigmoid(hidden @ self.vector.weight[0])
        centre = torch.minimum(position.detach().floor(), _last_word(memory).to(position.dtype))
        inside = _offsets(centre, memory).abs() <= self.window
        weights = masked_softmax(scores, inside & memory.mask.unsqueeze(1))
        return weights * torch.exp(-_offsets(position, memory).square() / (2 * (self.window / 2) ** 2))


class _PredictiveSteps(Attend):
    """Luong et al.'s eqs. 9-10 at all steps, with y = tanh(W_p q), p = S sigmoid(z), z = v_p . y, and backwards.

    With b the softmax over the window, which has no gradient of its own, and a_j = b_j g_j, where g_j is the Gaussian::

        d a_j = V_j . d context (+ what comes from elsewhere);   m = sum_j a_j d a_j
        d score_j = a_j d a_j - b_j m,   d p = sum_j a_j d a_j (j - p) / sigma^2
        d z = d p S sigmoid(z) (1 - sigmoid(z));   d (W_p q) = d z v_p (1 - y^2)

    Args:
        score: the scores.
        values: V [B, S, M].
        memory: has the mask of real positions, and S.
        steps: T.
        window: D.
        parameters: W_p [H, H], v_p [1, H].
    """

    def __init__(
        self, score: StepScore, values: Tensor, memory: Memory, steps: int, window: int, parameters: Sequence[Tensor]
    ) -> None:
        super().__init__(score, memory.mask.unsqueeze(0), values, steps, rounding=current().rounding)
        self.memory, self.window, self.variance = memory, window, (window / 2) ** 2
        self.tensors += (*parameters,)

    def begin(self) -> None:
        """Make the buffers."""
        super().begin()
        weight, self.vector = self.tensors[-2:]
        self.matrix = rounded(weight, self.rounding)
        self.factor = Factor(self.matrix, rounding=self.rounding)
        self.places = torch.arange(self.values.shape[1], dtype=self.values.dtype, device=self.values.device)
        self.real, self.words = self.memory.mask, self.memory.lengths.to(self.values.dtype)
        self.last = (self.words - 1).clamp_min(0)
        self.plain, self.offsets = (torch.empty_like(self.weights) for _ in range(2))
        self.hiddens = self.values.new_empty(self.steps, len(self.values), len(weight))
        self.rates = self.values.new_empty(self.steps, len(self.values))

    def _describe(self) -> None:
        return None

    def step(self, t: int, query: Tensor, low: Tensor | None = None) -> Tensor:
        """Return the context; see the base."""
        hidden = self.hiddens[t]
        squash(self.factor.times_transposed(rounded(query, self.rounding)), None, hidden, hidden, None)
        share = torch.sigmoid(torch.mv(hidden, self.vector[0]))
        position = self.words * share
        torch.mul(position, 1 - share, out=self.rates[t])
        centre = torch.minimum(position.floor(), self.last)
        inside = ((self.places - centre.unsqueeze(1)).abs() <= self.window) & self.real
        torch.sub(self.places, position.unsqueeze(1), out=self.offsets[t])
        self.plain[t] = masked_softmax(self.score.step(t, query).unsqueeze(1), inside.unsqueeze(1)).squeeze(1)
        near = self.offsets[t].square().mul_(-0.5 / self.variance).exp_()
        torch.mul(self.plain[t], near, out=self.weights[t])
        context = self.contexts[t]
        context.copy_(average(self.weights[t].unsqueeze(1), self.values).squeeze(1))
        if low is not None:
            low.copy_(context)
        return context

    def begin_back(self, of_contexts: Tensor | None, of_weights: Tensor | None) -> None:
        """Make the buffers of the gradients."""
        super().begin_back(of_contexts, of_weights)
        steps, batch, size = self.hiddens.shape
        self.of_products = Stack.empty(self.matrix, steps, batch, size)
        self.of_position = torch.empty_like(self.rates)

    def back(self, t: int, of_context: Sequence[Tensor], of_weights: Tensor | None = None) -> Tensor:
        """Return the query's gradient; see the base."""
        of_contexts, of_scores, of_products = self.of_contexts[t], self.of_scores[t], self.of_products.steps[t]
        of_contexts.copy_(added(of_context, of_contexts))
        given = compare(of_contexts.unsqueeze(1), self.values).squeeze(1)
        weighted = (given if of_weights is None else given + of_weights) * self.weights[t]
        torch.addcmul(weighted, self.plain[t], weighted.sum(1, keepdim=True), value=-1, out=of_scores)
        slopes = (weighted * self.offsets[t]).sum(1).div_(self.variance)
        torch.mul(slopes, self.rates[t], out=self.of_position[t])
        squash_back([self.of_position[t].unsqueeze(1) * self.vector], None, self.hiddens[t], of_products)
        of_query, of_asked = self.factor.times(of_products).to(self.values.dtype), self.score.back(t, of_scores)
        return of_query if of_asked is None else of_query + of_asked

    def gradients(self) -> tuple[Tensor | None, ...]:
        """Return the gradients of the score, the values, W_p and v_p."""
        rows = rounded_rows(self._queries, self.rounding)
        of_weight = outer(flipped(self.of_products.rows), rows, self.rounding).to(self.values.dtype)
        of_vector = self.of_position.flatten()[None] @ self.hiddens.flatten(0, 1)
        return *super().gradients(), of_weight, of_vector
