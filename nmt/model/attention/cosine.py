"""Content addressing by cosine similarity."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from nmt.errors import ConfigError
from nmt.model.attention.base import Keys, Score
from nmt.model.attention.dot import require_equal_sizes
from nmt.model.encoder.base import Encoded
from nmt.model.kernels import average, compare
from nmt.model.products import Linear, Operand
from nmt.model.recurrence import StepScore, over_steps

# what a length is at least, as in functional.normalize
_SHORTEST = 1e-12


@final
class CosineScore(Score):
    """score = beta_t cos(h_t, h_s) with beta_t = softplus(w . h_t + b) > 0.

    Graves et al. 2014, arXiv:1410.5401v2, eqs. 5-6.

    The surveys' bare formula is ``strength: 1``. Its scores lie in [-1, 1], so over n positions no weight can exceed
    e^2 / (e^2 + n - 1): it cannot focus.

    Args:
        query_size: H.
        key_size: M; equal to H.
        strength: a fixed positive beta; None learns it.
    """

    def __init__(self, query_size: int, key_size: int, strength: float | None = None) -> None:
        super().__init__()
        require_equal_sizes("cosine", query_size, key_size)
        if strength is not None and strength <= 0:
            raise ConfigError(
                f"attention.score.strength={strength} is not accepted; it must be positive, or null to learn it"
            )
        self.strength = strength
        self.key_strength = Linear(query_size, 1) if strength is None else None

    def prepare(self, source: Encoded) -> Keys:
        """Scale the annotations to length 1."""
        steps = None if self.key_strength is None else self.key_strength.prepare()
        return Keys(sentences=Operand(functional.normalize(source.states, dim=-1)), steps=steps)

    def by_hand(self, keys: Keys, steps: int) -> StepScore:
        """Return the score with a derivative written by hand."""
        assert isinstance(keys.sentences, Operand)
        return _CosineSteps(keys.sentences.matrix, self.strength, self.key_strength, steps)

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S]."""
        assert isinstance(keys.sentences, Operand)
        strength = self.strength if keys.steps is None else functional.softplus(keys.steps(query))
        assert strength is not None
        return keys.sentences(functional.normalize(query, dim=-1) * strength)


class _CosineSteps(StepScore):
    """Graves et al.'s eqs. 5-6: score_j = beta K_j . u with u = q / |q|, beta = softplus(z), z = w . q + b.

    Backwards::

        d u = beta sum_j d score_j K_j,   d z = sigmoid(z) sum_j d score_j K_j . u
        d q = (d u - u (u . d u)) / |q| + w d z

    Args:
        keys: K [B, S, H], of length 1 each.
        strength: a fixed beta; None: as above.
        learned: has w [1, H] and b [1]; None where beta is fixed.
        steps: T.
    """

    def __init__(self, keys: Tensor, strength: float | None, learned: Linear | None, steps: int) -> None:
        self.tensors, self.strength, self.steps = (keys,), strength, steps
        if learned is not None:
            assert learned.bias is not None
            self.tensors += (learned.weight, learned.bias)

    def begin(self) -> None:
        """Make the buffers."""
        self.keys, *self.learned = (each.contiguous() for each in self.tensors)
        batch, _, size = self.keys.shape
        self.units = self.keys.new_empty(self.steps, batch, size)
        self.lengths, self.strengths, self.slopes = self.keys.new_empty(3, self.steps, batch, 1)

    def step(self, t: int, query: Tensor) -> Tensor:
        """Return scores [B, S]."""
        torch.clamp_min(query.norm(dim=1, keepdim=True), _SHORTEST, out=self.lengths[t])
        torch.div(query, self.lengths[t], out=self.units[t])
        if self.learned:
            weight, bias = self.learned
            raw = torch.addmm(bias, query, weight.t())
            self.strengths[t], self.slopes[t] = functional.softplus(raw), torch.sigmoid(raw)
        else:
            assert self.strength is not None
            self.strengths[t] = self.strength
        return compare(self.units[t].unsqueeze(1), self.keys).squeeze(1).mul_(self.strengths[t])

    def begin_back(self) -> None:
        """Make the buffer of the gradients."""
        self.of_raw = torch.empty_like(self.strengths)

    def back(self, t: int, of_scores: Tensor) -> Tensor:
        """Return the query's gradient."""
        unit = self.units[t]
        mean = average(of_scores.unsqueeze(1), self.keys).squeeze(1)
        along = (mean * unit).sum(1, keepdim=True)
        of_query = torch.addcmul(mean, unit, along, value=-1).mul_(self.strengths[t] / self.lengths[t])
        if self.learned:
            torch.mul(along, self.slopes[t], out=self.of_raw[t])
            of_query.addcmul_(self.of_raw[t], self.learned[0])
        return of_query

    def totals(self, queries: Tensor, of_scores: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of K, and of w and b."""
        of_keys = over_steps(of_scores, self.units * self.strengths)
        if not self.learned:
            return (of_keys,)
        return of_keys, self.of_raw.flatten()[None] @ queries.flatten(0, 1), self.of_raw.sum().view(1)
