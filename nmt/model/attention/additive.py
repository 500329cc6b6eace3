"""The additive score, of Bahdanau, which is also Luong's "concat"."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nmt.errors import ConfigError
from nmt.model.attention.base import Keys, Score
from nmt.model.encoder.base import Encoded
from nmt.model.kernels import additive
from nmt.model.products import Linear, current
from nmt.model.recurrence import AdditiveSteps


@final
class AdditiveScore(Score):
    """score = v_a^T tanh(W_a s_{i-1} + U_a h_j) (Bahdanau et al. 2015, arXiv:1409.0473v7, A.1.2); no bias.

    Luong et al. 2015 (arXiv:1508.04025v5, section 3.1) write the same formula as "concat", v_a^T tanh(W_a [h_t; h_s]):
    their matrix is this one's two, side by side. Differs: their own experiments (footnote 15) fixed the part for h_s to
    the identity, which they report to have worked badly; here it is learned, as section 3.1 says.

    Args:
        query_size: H.
        key_size: M.
        attention_size: A, the size of the hidden layer.
    """

    def __init__(self, query_size: int, key_size: int, attention_size: int) -> None:
        super().__init__()
        if attention_size < 1:
            raise ConfigError(f"attention.score.attention_size={attention_size} is not accepted; it must be at least 1")
        self.query = Linear(query_size, attention_size, bias=False)
        self.key = Linear(key_size, attention_size, bias=False, of_keys=True)
        self.vector = nn.Parameter(torch.empty(attention_size).uniform_(-1, 1) * (3 / attention_size) ** 0.5)

    def prepare(self, source: Encoded) -> Keys:
        """Project the annotations once: U_a h_j, [B, S, A]."""
        return Keys(sentences=self.key(source.states), steps=self.query.prepare())

    def by_hand(self, keys: Keys, steps: int) -> AdditiveSteps:
        """Return the score with a derivative written by hand."""
        assert isinstance(keys.sentences, Tensor)
        return AdditiveSteps(keys.sentences, self.query.weight, self.vector, steps, rounding=current().rounding)

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S]."""
        assert isinstance(keys.sentences, Tensor) and keys.steps is not None
        projected = keys.steps(query)
        if current().fast and not torch.is_grad_enabled():
            return additive(projected.flatten(0, 1), keys.sentences, self.vector).view(*query.shape[:2], -1)
        if current().fast:
            return _Energies.apply(projected, keys.sentences, self.vector)
        return torch.tanh(projected.unsqueeze(2) + keys.sentences.unsqueeze(1)) @ self.vector

    def shift_size(self, query_size: int) -> int:
        """Return A: the projected keys are moved."""
        return len(self.vector)

    def forward_shifted(self, query: Tensor, keys: Keys, direction: Tensor, amounts: Tensor) -> Tensor:
        """Return v_a^T tanh(W_a q + U_a h_j + a_j d), [B, Q, S]."""
        assert isinstance(keys.sentences, Tensor) and keys.steps is not None
        moved = keys.sentences.unsqueeze(1) + amounts.unsqueeze(-1) * direction
        return torch.tanh(keys.steps(query).unsqueeze(2) + moved) @ self.vector


class _Energies(torch.autograd.Function):
    """tanh(query [B, Q, A] + keys [B, S, A]) . v [A] -> [B, Q, S], with one large intermediate instead of four.

    With u = tanh(..): d(query) = sum_j g_j v (1 - u_j^2), d(keys)_j = g_j v (1 - u_j^2), d(v) = sum g u.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor, vector: Tensor) -> Tensor:
        # tanh(x) = 2 sigmoid(2 x) - 1, several times faster than torch's tanh on CPUs
        hidden = (query.unsqueeze(2) + keys.unsqueeze(1)).mul_(2).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(hidden, vector)
        return hidden @ vector

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        hidden, vector = ctx.saved_tensors
        gradient = gradients[0]
        of_vector = hidden.flatten(0, -2).t() @ gradient.flatten()
        of_sum = torch.addcmul(vector, hidden.square(), vector, value=-1).mul_(gradient.unsqueeze(-1))
        return of_sum.sum(2), of_sum.sum(1), of_vector
