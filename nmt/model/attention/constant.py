"""The score that prefers nothing."""

from typing import final

from torch import Tensor

from nmt.model.attention.base import Keys, Score
from nmt.model.encoder.base import Encoded


@final
class ConstantScore(Score):
    """score = 0 for every key: under softmax the weights are uniform and the context is the mean of the annotations."""

    compares = asks = False

    def prepare(self, source: Encoded) -> Keys:
        """Keep only the number of positions."""
        return Keys(sentences=source.states.new_zeros(source.states.shape[:2]))

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return zeros [B, Q, S]."""
        assert isinstance(keys.sentences, Tensor)
        return keys.sentences.unsqueeze(1).expand(-1, query.shape[1], -1)
