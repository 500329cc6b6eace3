"""A recurrent encoder whose states attend to one another."""

from dataclasses import replace
from typing import final

from torch import Tensor, nn

from nmt.model.cells import CellName
from nmt.model.dropout import Dropout
from nmt.model.encoder.base import Encoded, Encoder
from nmt.model.encoder.rnn import RecurrentEncoder
from nmt.model.self_attention import SelfAttention, require_whole_heads


@final
class AttendedRecurrentEncoder(Encoder):
    """h_j + MHA(h)_j over the states of a recurrent encoder: one residual layer of self-attention, without a norm.

    The heads are those of Vaswani et al. 2017 (arXiv:1706.03762v7, section 3.2.2). What the decoder starts from are the
    recurrent encoder's own last states. Differs: there is no feed-forward part and no position but what the recurrence
    knows; the combination itself is ours, from no paper. Where attention reads no states (``none``), this is the
    recurrent encoder alone: self-attention is idle and does not learn.

    Args:
        embedding_size: E.
        cell: of the recurrent encoder, as all that follows but ``heads``.
        hidden_size: units per direction.
        layers: number of recurrent layers.
        bidirectional: read in both directions.
        residual: add a recurrent layer's input to its output, from the second on.
        layer_norm: layer-normalised cells.
        dropout: on the outputs of every recurrent layer, and on what self-attention adds.
        variational_dropout: one dropout mask for all positions of a sentence.
        heads: number of heads, which divides M.
    """

    def __init__(
        self,
        embedding_size: int,
        *,
        cell: CellName = "lstm",
        hidden_size: int = 256,
        layers: int = 1,
        bidirectional: bool = True,
        residual: bool = False,
        layer_norm: bool = False,
        dropout: float = 0.2,
        variational_dropout: bool = False,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.recurrent = RecurrentEncoder(
            embedding_size,
            cell=cell,
            hidden_size=hidden_size,
            layers=layers,
            bidirectional=bidirectional,
            residual=residual,
            layer_norm=layer_norm,
            dropout=dropout,
            variational_dropout=variational_dropout,
        )
        self.size, self.backward_size = self.recurrent.size, self.recurrent.backward_size
        self.final_parts = self.recurrent.final_parts
        require_whole_heads("encoder.heads", heads, self.size)
        self.attention = SelfAttention(self.size, heads)
        # at zero, training begins with the states as they are
        nn.init.zeros_(self.attention.output.weight)
        self.dropout = Dropout(dropout, variational=variational_dropout)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Encode; see :class:`Encoder`."""
        encoded = self.recurrent(embedded, lengths)
        added = self.dropout(self.attention(encoded.states, encoded.mask)) * encoded.mask.unsqueeze(2)
        return replace(encoded, states=encoded.states + added)
