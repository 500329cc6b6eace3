"""Dot-product scores, without parameters: plain and scaled."""

from typing import final

from torch import Tensor

from nmt.errors import ConfigError
from nmt.model.attention.base import Keys, Score
from nmt.model.encoder.base import Encoded
from nmt.model.products import Operand
from nmt.model.recurrence import BilinearSteps


def require_equal_sizes(score: str, query_size: int, key_size: int) -> None:
    """Refuse a score that compares query and key element by element when their sizes differ."""
    if query_size != key_size:
        raise ConfigError(
            f"attention/score={score} needs decoder states and annotations of one size, but decoder.hidden_size is "
            f"{query_size} and the encoder gives {key_size} (hidden_size of each direction together); "
            "make them equal or take attention/score=general"
        )


@final
class DotScore(Score):
    """score(h_t, h_s) = h_t . h_s (Luong et al. 2015, arXiv:1508.04025v5, section 3.1, "dot").

    With ``scaled`` divided by the square root of the size (Vaswani et al. 2017, arXiv:1706.03762v7, eq. 1). Differs: no
    projections of query and key; those belong to multi-head attention.
    """

    def __init__(self, query_size: int, key_size: int, scaled: bool = False) -> None:
        super().__init__()
        require_equal_sizes("scaled_dot" if scaled else "dot", query_size, key_size)
        self.scale = query_size**-0.5 if scaled else 1.0

    def prepare(self, source: Encoded) -> Keys:
        """The annotations themselves are the keys."""
        return Keys(sentences=Operand(source.states))

    def by_hand(self, keys: Keys, steps: int) -> BilinearSteps:
        """Return the score with a derivative written by hand."""
        assert isinstance(keys.sentences, Operand)
        return BilinearSteps(keys.sentences.matrix, self.scale)

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S]."""
        assert isinstance(keys.sentences, Operand)
        return keys.sentences(query * self.scale if self.scale != 1.0 else query)
