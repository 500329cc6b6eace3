"""Hard attention in training: one position a step, drawn (REINFORCE) or drawn through a relaxation (Gumbel-softmax)."""

import math
from typing import final

import torch
from torch import Tensor

from nmt.errors import ConfigError
from nmt.model.attention.base import Aligned, Alignment, AttentionState, Memory, masked_softmax, one_hot_argmax
from nmt.model.products import Linear, Operand
from nmt.model.scheduled import Scheduled


def _checked(name: str, value: float, *, above: float = 0.0, most: float = math.inf, inclusive: bool = True) -> float:
    if (above <= value if inclusive else above < value) and value <= most and value < math.inf:
        return value
    least = f"at least {above:g}" if inclusive else f"above {above:g}"
    bound = "" if most == math.inf else f" and at most {most:g}"
    raise ConfigError(f"attention.alignment.{name}={value!r} is not accepted; it must be {least}{bound}")


def draw(weights: Tensor) -> Tensor:
    """Draw a position of each distribution [.., S] in proportion to its weight: one-hot, without gradient."""
    # the first of exponential clocks with these rates to ring (Gumbel's trick, as torch.multinomial does it)
    return one_hot_argmax(weights.detach() / torch.empty_like(weights).exponential_())


def gumbel(like: Tensor) -> Tensor:
    """Draw numbers from Gumbel(0, 1), as many as ``like`` has."""
    return -torch.empty_like(like).exponential_().log()


@final
class SampledAlignment(Alignment):
    r"""One position a step: in training z_t ~ Categorical(alpha_t), by REINFORCE; else the one of the largest weight.

    Xu et al. 2015, arXiv:1502.03044, section 4.1. With alpha_t = softmax(scores), the loss of the sampled sentences
    grows by the sum over their real target tokens of::

        - lambda_r sg(R_t - b_t) log alpha_t(z_t) - lambda_e H(alpha_t) + 1/2 (sg(R_t) - b_t)^2
        R_t = sum_{k >= 0} gamma^k log p(y_{t+k}),    b_t = u^T sg(q_t) + b_0,    sg: without gradient

    With probability ``expectation``, drawn once a sentence, the weights are alpha_t itself at all its steps, and the
    sentence takes no part in that sum (the paper's last trick against variance).

    With gamma = 0 the reward is the token's own log-probability. Where z_t enters the prediction of y_t alone
    (``attention.wiring.input_feeding=false``) it can change nothing else, and the gradient is unbiased. Where the
    context goes on into the recurrence (input feeding, Bahdanau's wiring), z_t changes what follows too: only gamma = 1
    is unbiased then, but its variance grows with the sentence, so 0 is the default all the same.

    Differs: the paper's reward is the log-likelihood of the whole caption, its baseline a moving average of it; where
    it takes the expectation, it takes it for the whole caption too.

    Args:
        query_size: H.
        weight: lambda_r.
        entropy: lambda_e.
        discount: gamma.
        expectation: the share of sentences with soft weights.
    """

    state_parts = 1

    def __init__(
        self,
        query_size: int,
        weight: float = 1.0,
        entropy: float = 0.01,
        discount: float = 0.0,
        expectation: float = 0.5,
    ) -> None:
        super().__init__()
        self.weight = _checked("weight", weight)
        self.entropy = _checked("entropy", entropy)
        self.discount = _checked("discount", discount, most=1.0)
        self.expectation = _checked("expectation", expectation, most=1.0)
        self.samples = self.expectation < 1
        self.baseline = Linear(query_size, 1)

    def prepare(self) -> Operand:
        """Return the operand of the baseline."""
        return self.baseline.prepare()

    def start(self, mask: Tensor, like: Tensor) -> AttentionState:
        """Draw which sentences have soft weights, [B, 1, 1]; none in evaluation mode."""
        if not self.training:
            return (mask.new_zeros(len(mask), 1, 1),)
        return (torch.rand(len(mask), 1, 1, device=mask.device) < self.expectation,)

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return one-hot weights [B, Q, S], at the likeliest position."""
        return one_hot_argmax(masked_softmax(scores, memory.mask.unsqueeze(1)))

    def align(
        self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int, state: AttentionState
    ) -> Aligned:
        """Return drawn weights in training, with log alpha(z), H(alpha), b, and whether they were drawn, all [B, Q]."""
        if not self.training:
            return Aligned(self(scores, query, memory, positions), state)
        assert memory.alignment is not None
        soft = state[0]
        alpha = masked_softmax(scores, memory.mask.unsqueeze(1))
        chosen = draw(alpha)
        # not log 0, whose product with 0 would be no number
        log_alpha = alpha.clamp_min(torch.finfo(alpha.dtype).tiny).log()
        notes = (
            (chosen * log_alpha).sum(-1),
            -(alpha * log_alpha).sum(-1),
            memory.alignment(query.detach()).squeeze(-1),
            ~soft.squeeze(-1).expand(alpha.shape[:-1]),
        )
        return Aligned(torch.where(soft, alpha, chosen), state, notes)

    def penalty(self, notes: tuple[Tensor, ...], nll: Tensor, mask: Tensor) -> Tensor | None:
        """Return the three terms, summed over real target tokens of sampled sentences."""
        log_prob, entropy, baseline, drawn = notes
        reward = self._returns(torch.where(mask, -nll, 0.0))
        policy = -self.weight * (reward - baseline.detach()) * log_prob
        terms = policy - self.entropy * entropy + 0.5 * (reward - baseline).square()
        return (terms * (mask & drawn)).sum()

    def _returns(self, rewards: Tensor) -> Tensor:
        """Return the discounted sums [B, T] of what each step and those after it earn."""
        steps = torch.arange(rewards.shape[1], device=rewards.device, dtype=rewards.dtype)
        ahead = steps - steps.unsqueeze(1)
        return rewards @ torch.where(ahead >= 0, self.discount ** ahead.clamp_min(0), 0.0).t()


@final
class GumbelSoftmax(Alignment, Scheduled):
    """A relaxed draw: in training y = softmax((log alpha + g) / tau), g ~ Gumbel(0, 1); else the likeliest position.

    Jang et al. 2017, arXiv:1611.01144, eq. 2, with alpha = softmax(scores). ``straight_through`` (section 2.2): the
    weights are one-hot at the largest y, their gradient is that of y. The temperature falls with the number of updates
    made: tau = max(minimum, temperature exp(-rate updates)) (section 4, there looked up every 500 or 1000 updates).

    Args:
        temperature: tau at first.
        minimum: the least tau.
        rate: of its fall, an update.
        straight_through: read one position in training too.
    """

    def __init__(
        self, temperature: float = 1.0, minimum: float = 0.1, rate: float = 5e-4, straight_through: bool = True
    ) -> None:
        super().__init__()
        self.first = _checked("temperature", temperature, inclusive=False)
        self.minimum = _checked("minimum", minimum, inclusive=False)
        self.rate = _checked("rate", rate)
        self.straight_through = self.samples = straight_through
        self.begin_step(0)

    def begin_step(self, step: int) -> None:
        """Set the temperature of the update after ``step`` others."""
        self.temperature = max(self.minimum, self.first * math.exp(-self.rate * step))

    @property
    def settled(self) -> bool:
        """Whether the temperature falls no more."""
        return self.rate == 0 or self.temperature == self.minimum

    def forward(self, scores: Tensor, query: Tensor, memory: Memory, positions: Tensor | int) -> Tensor:
        """Return weights [B, Q, S]."""
        real = memory.mask.unsqueeze(1)
        if not self.training:
            return one_hot_argmax(masked_softmax(scores, real))
        # log alpha is the scores but for one number a row, which the softmax takes away
        relaxed = masked_softmax((scores + gumbel(scores)) / self.temperature, real)
        # in this order the value is exactly 0 or 1
        return one_hot_argmax(relaxed) + (relaxed - relaxed.detach()) if self.straight_through else relaxed
