"""The score of a sentence that attends to itself once, without a query."""

from typing import final

import torch
from torch import Tensor, nn

from nmt.errors import ConfigError
from nmt.model.attention.base import Keys, Score
from nmt.model.encoder.base import Encoded
from nmt.model.products import Linear


@final
class PoolingScore(Score):
    """score_j = w_s2^T tanh(W_s1 h_j), the same at every target step (Lin et al. 2017, arXiv:1703.03130, eq. 5).

    Under softmax the context is one vector a sentence, the paper's embedding. Differs: one hop, which is one row of the
    annotation matrix of eq. 6, and so without the penalty that keeps several rows apart.

    Args:
        key_size: M.
        attention_size: A, the size of the hidden layer.
    """

    asks = False

    def __init__(self, key_size: int, attention_size: int) -> None:
        super().__init__()
        if attention_size < 1:
            raise ConfigError(f"attention.score.attention_size={attention_size} is not accepted; it must be at least 1")
        self.key = Linear(key_size, attention_size, bias=False, of_keys=True)
        self.vector = nn.Parameter(torch.empty(attention_size).uniform_(-1, 1) * (3 / attention_size) ** 0.5)

    def prepare(self, source: Encoded) -> Keys:
        """Score the annotations once: [B, S]."""
        return Keys(sentences=torch.tanh(self.key(source.states)) @ self.vector)

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return the same scores for every query, [B, Q, S]."""
        assert isinstance(keys.sentences, Tensor)
        return keys.sentences.unsqueeze(1).expand(-1, query.shape[1], -1)
