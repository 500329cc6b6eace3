"""The "concat" of surveys and toolkits that leave its tanh out."""

from typing import final

from torch import Tensor

from nmt.model.attention.base import Keys, Score
from nmt.model.encoder.base import Encoded
from nmt.model.products import Linear, Operand, product


@final
class ConcatLinearScore(Score):
    """score(h_t, h_s) = w^T [h_t; h_s], no bias: Luong et al. 2015's "concat" (arXiv:1508.04025v5) without its tanh.

    The part of w on h_t adds one number to the scores of all positions. A softmax over them cancels it, so that its
    weights do not depend on the query and that part learns nothing. From no paper: the control beside ``concat``.

    Args:
        query_size: H.
        key_size: M.
    """

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.sizes = [query_size, key_size]
        self.vector = Linear(query_size + key_size, 1, bias=False)

    def prepare(self, source: Encoded) -> Keys:
        """Score the annotations once: [B, S]."""
        of_query, of_key = self.vector.weight.split(self.sizes, dim=1)
        return Keys(sentences=product(source.states, of_key).squeeze(-1), steps=Operand(of_query))

    def forward(self, query: Tensor, keys: Keys) -> Tensor:
        """Return scores [B, Q, S]."""
        assert isinstance(keys.sentences, Tensor) and keys.steps is not None
        return keys.steps(query) + keys.sentences.unsqueeze(1)
