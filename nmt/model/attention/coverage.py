"""Coverage: what was read before enters the score."""

from typing import final

import torch
from torch import Tensor, nn

from nmt.model.attention.base import AttentionState, Keys, Score
from nmt.model.scheduled import Scheduled


class NoCoverage(nn.Module):
    """Scores know nothing of past steps; also the interface of :class:`Coverage`.

    Attributes:
        recurrent: whether a step needs the state of the step before.
    """

    recurrent: bool = False

    def start(self, mask: Tensor, like: Tensor) -> AttentionState:
        """Return the state before the first step, parts [B, 1, ..]."""
        return ()

    def forward(self, score: Score, query: Tensor, keys: Keys, state: AttentionState) -> Tensor:
        """Return scores [B, Q, S]."""
        return score(query, keys)

    def update(self, state: AttentionState, weights: Tensor) -> AttentionState:
        """Return the state after a step with these weights [B, Q, S]."""
        return state

    def penalty(self, weights: Tensor, mask: Tensor) -> Tensor | None:
        """Return what is added to the loss, for weights [B, T, S] and the mask [B, T] of real target tokens."""
        return None


@final
class Coverage(NoCoverage, Scheduled):
    r"""C_t = sum of the weights of all steps before t; it moves the keys along a learned direction: k_j + w C_tj.

    For additive scores that is See et al. 2017 (arXiv:1704.04368v2), eq. 11, v^T tanh(W q + U h_j + w C_tj) (Tu et al.
    2016, arXiv:1601.04811, with "linguistic" coverage of size 1). Differs: the papers define it for the additive score
    only; for others the same k_j + w C_tj is compared with the query, which adds (q^T w) C_tj to a bilinear score, and
    that term is added to scores that have no keys of their own. Tu et al.'s fertility is left out. The loss, lambda
    sum_t sum_j min(alpha_tj, C_tj) (See et al., eqs. 12-13), punishes reading again what has been read.

    The loss has to wait: from the first update on it teaches attention to move on before there is anything to attend to
    (See et al., section 5, found that it interfered, and added it to a trained model).

    Args:
        size: of w, as the score says.
        loss: lambda, at least 0.
        loss_after: updates without the loss.
    """

    recurrent = True

    def __init__(self, size: int, loss: float, loss_after: int = 0) -> None:
        super().__init__()
        self.loss = loss
        self.loss_after = loss_after
        self.waits = loss_after > 0
        # at zero, training begins with the score as it is
        self.direction = nn.Parameter(torch.zeros(size))

    def begin_step(self, step: int) -> None:
        """Say whether the loss waits still."""
        self.waits = step < self.loss_after

    @property
    def settled(self) -> bool:
        """Whether the loss waits no more."""
        return not self.waits

    def start(self, mask: Tensor, like: Tensor) -> AttentionState:
        """Return zeros [B, 1, S]."""
        return (like.new_zeros(mask.shape).unsqueeze(1),)

    def forward(self, score: Score, query: Tensor, keys: Keys, state: AttentionState) -> Tensor:
        """Return scores [B, Q, S] given the sum of past weights."""
        return score.forward_shifted(query, keys, self.direction, state[0])

    def update(self, state: AttentionState, weights: Tensor) -> AttentionState:
        """Add the weights."""
        return (state[0] + weights,)

    def penalty(self, weights: Tensor, mask: Tensor) -> Tensor | None:
        """Return lambda times the coverage loss; None while it waits."""
        if self.loss == 0.0 or self.waits:
            return None
        before = weights.cumsum(1) - weights
        return self.loss * (torch.minimum(weights, before).sum(-1) * mask).sum()
