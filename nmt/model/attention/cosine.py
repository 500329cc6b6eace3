"""Content addressing by cosine similarity."""

from typing import final

from torch import Tensor
from torch.nn import functional

from nmt.errors import ConfigError
from nmt.model.attention.base import Keys, Score
from nmt.model.attention.dot import require_equal_sizes
from nmt.model.encoder.base import Encoded
from nmt.model.products import Linear, Operand


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

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S]."""
        assert isinstance(keys.sentences, Operand)
        strength = self.strength if keys.steps is None else functional.softplus(keys.steps(query))
        assert strength is not None
        return keys.sentences(functional.normalize(query, dim=-1) * strength)
