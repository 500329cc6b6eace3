"""Luong's bilinear score."""

from typing import final

from torch import Tensor

from nmt.model.attention.base import Keys, Score
from nmt.model.encoder.base import Encoded
from nmt.model.products import Linear, Operand
from nmt.model.recurrence import BilinearSteps


@final
class GeneralScore(Score):
    """score(h_t, h_s) = h_t^T W_a h_s (Luong et al. 2015, arXiv:1508.04025v5, section 3.1, "general"); no bias."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.projection = Linear(key_size, query_size, bias=False, of_keys=True)

    def prepare(self, source: Encoded) -> Keys:
        """Project the annotations once: keys = W_a h_s, [B, S, H]."""
        return Keys(sentences=Operand(self.projection(source.states)))

    def by_hand(self, keys: Keys, steps: int) -> BilinearSteps:
        """Return the score with a derivative written by hand."""
        assert isinstance(keys.sentences, Operand)
        return BilinearSteps(keys.sentences.matrix)

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S]."""
        assert isinstance(keys.sentences, Operand)
        return keys.sentences(query)
