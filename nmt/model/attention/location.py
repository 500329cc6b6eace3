"""Luong's location-based score: where to look from the decoder's state alone."""

from typing import final

from torch import Tensor
from torch.nn import functional

from nmt.errors import ConfigError
from nmt.model.attention.base import Keys, Score
from nmt.model.encoder.base import Encoded
from nmt.model.products import Linear, Operand, current
from nmt.model.recurrence import LocationSteps


@final
class LocationScore(Score):
    """a_t = softmax(W_a h_t) (Luong et al. 2015, arXiv:1508.04025v5, eq. 8): one row of W_a for each source position.

    A sentence uses the first rows; positions beyond ``max_positions`` have weight 0 (footnote 6: "for long sentences,
    we ignore words near the end").

    Args:
        query_size: H.
        max_positions: L, the number of rows.
    """

    def __init__(self, query_size: int, max_positions: int) -> None:
        super().__init__()
        if max_positions < 1:
            raise ConfigError(f"attention.score.max_positions={max_positions} is not accepted; it must be at least 1")
        self.rows = Linear(query_size, max_positions, bias=False)

    def prepare(self, source: Encoded) -> Keys:
        """Keep only the number of positions."""
        return Keys(sentences=source.mask, steps=self.rows.prepare())

    def by_hand(self, keys: Keys, steps: int) -> LocationSteps:
        """Return the score with a derivative written by hand."""
        assert isinstance(keys.sentences, Tensor)
        return LocationSteps(self.rows.weight, keys.sentences.shape[1], rounding=current().rounding)

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S], minus infinity beyond ``max_positions``."""
        assert isinstance(keys.sentences, Tensor) and isinstance(keys.steps, Operand)
        scores = keys.steps(query)
        missing = keys.sentences.shape[1] - scores.shape[-1]
        return functional.pad(scores, (0, missing), value=float("-inf"))
