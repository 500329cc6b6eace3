"""The self-attention encoder: layers of self-attention and feed-forward networks, without recurrence."""

from typing import final

import torch
from torch import Tensor, nn

from nmt.model.cells import CellName
from nmt.model.dropout import Dropout
from nmt.model.encoder.base import Encoded, Encoder, mask_from_lengths
from nmt.model.encoder.common import masked_mean, require_encoder_options
from nmt.model.products import Linear
from nmt.model.self_attention import SelfAttention, require_whole_heads, sinusoids


@final
class SelfAttentionEncoder(Encoder):
    """The encoder of Vaswani et al. 2017 (arXiv:1706.03762v7, section 3) under a recurrent decoder.

    x_j = W_in e_j + PE(j); in each layer x = x + MHA(LN(x)), x = x + W_2 max(0, W_1 LN(x) + b_1) + b_2; a last LN.
    There is no last state: the decoder starts from the mean of the annotations, an LSTM's cells from zero.

    Differs: the norms come before the parts and once more at the end, in the paper after the sums; W_in maps embeddings
    to the size of the layers, and its first values hold the paper's factor sqrt(D).

    Args:
        embedding_size: E.
        cell: not used here; the decoder's cell follows it.
        hidden_size: D / 2: an annotation is as large as that of a bidirectional RNN with so many units a direction.
        layers: number of layers.
        heads: number of heads, which divides D.
        feed_forward_size: size of the layers' inner vectors; None: 4 D, as in the paper.
        dropout: on the sum of words and positions, and on what each part adds (section 5.4).
        variational_dropout: one dropout mask for all positions of a sentence.
    """

    def __init__(
        self,
        embedding_size: int,
        *,
        cell: CellName = "lstm",
        hidden_size: int = 256,
        layers: int = 2,
        heads: int = 4,
        feed_forward_size: int | None = None,
        dropout: float = 0.1,
        variational_dropout: bool = False,
    ) -> None:
        super().__init__()
        self.size = 2 * hidden_size
        inner = 4 * self.size if feed_forward_size is None else feed_forward_size
        require_encoder_options(dropout, hidden_size=hidden_size, layers=layers, feed_forward_size=inner)
        require_whole_heads("encoder.heads", heads, self.size)
        self.backward_size, self.final_parts = 0, (1,)
        self.input = Linear(embedding_size, self.size, bias=False)
        self.input.weight.data *= self.size**0.5
        self.dropout = Dropout(dropout, variational=variational_dropout)
        self.layers = nn.ModuleList(_Layer(self.size, heads, inner, self.dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(self.size)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Encode; see :class:`Encoder`."""
        mask = mask_from_lengths(lengths, embedded.shape[1])
        states = self.dropout(self.input(embedded) + sinusoids(embedded.shape[1], self.size, embedded))
        for layer in self.layers:
            states = layer(states, mask)
        states = self.norm(states) * mask.unsqueeze(2)
        return Encoded(states, mask, lengths - 1, ((masked_mean(states, mask),),), None)


@final
class _Layer(nn.Module):
    """x = x + MHA(LN(x)), x = x + W_2 max(0, W_1 LN(x) + b_1) + b_2."""

    def __init__(self, size: int, heads: int, inner: int, dropout: Dropout) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(size), SelfAttention(size, heads)
        self.inner_norm, self.inner, self.outer = nn.LayerNorm(size), Linear(size, inner), Linear(inner, size)
        self.dropout = dropout

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Map [B, S, D] to [B, S, D]."""
        states = states + self.dropout(self.attention(self.attention_norm(states), mask))
        return states + self.dropout(self.outer(torch.relu(self.inner(self.inner_norm(states)))))
