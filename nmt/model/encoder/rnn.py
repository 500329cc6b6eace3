"""The recurrent encoder: RNN, GRU or LSTM, uni- or bidirectional, stacked."""

from typing import Any, final

import torch
from torch import Tensor, nn

from nmt.model.cells import CellName, make_cell
from nmt.model.dropout import Dropout
from nmt.model.encoder.base import Encoded, Encoder, mask_from_lengths
from nmt.model.encoder.common import require_encoder_options


@final
class RecurrentEncoder(Encoder):
    """A stack of recurrent layers over the source (Bahdanau et al. 2015, A.2.1, when bidirectional with one layer).

    The backward direction reads each sentence reversed within its own length, so padding never enters a state.

    Args:
        embedding_size: E.
        cell: ``rnn``, ``gru`` or ``lstm``.
        hidden_size: units per direction.
        layers: number of layers.
        bidirectional: read in both directions; an annotation is then [forward; backward].
        residual: add a layer's input to its output, from the second layer on (where sizes agree).
        layer_norm: layer-normalised cells.
        dropout: on the outputs of every layer.
        variational_dropout: one dropout mask for all positions of a sentence.
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
    ) -> None:
        super().__init__()
        require_encoder_options(dropout, hidden_size=hidden_size, layers=layers)
        directions = 2 if bidirectional else 1
        self.size = directions * hidden_size
        self.backward_size = hidden_size if bidirectional else 0
        self.residual = residual
        self.layers = nn.ModuleList(
            nn.ModuleList(
                make_cell(cell, self.size if depth else embedding_size, hidden_size, feed_size=0, layer_norm=layer_norm)
                for _ in range(directions)
            )
            for depth in range(layers)
        )
        self.final_parts = tuple(cells[0].parts for cells in self.layers)  # pyright: ignore
        self.dropout = Dropout(dropout, variational=variational_dropout)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Encode; see :class:`Encoder`."""
        mask = mask_from_lengths(lengths, embedded.shape[1])
        reversal = _reversal(lengths, embedded.shape[1])
        states, finals, backward_first = embedded, [], None
        # a CPU need not write zeros where no padding is; of another device the host would have to wait to know
        padded = mask.device.type != "cpu" or not mask.all()
        for depth, cells in enumerate(self.layers):
            outputs, last = self._layer(cells, states, lengths, reversal)  # pyright: ignore
            finals.append(tuple(torch.cat(part, dim=-1) for part in zip(*last, strict=True)))
            backward_first = last[1][0] if len(last) == 2 else None
            states = outputs + states if self.residual and depth else outputs
            states = self.dropout(states)
            if padded:
                states = states * mask.unsqueeze(2)
        return Encoded(states, mask, lengths - 1, tuple(finals), backward_first)

    def _layer(
        self, cells: nn.ModuleList, states: Tensor, lengths: Tensor, reversal: Tensor
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Return the layer's outputs [B, S, M] and each direction's final state parts [B, H]."""
        orders = [states] if len(cells) == 1 else [states, _reorder(states, reversal)]
        inputs = [order.transpose(0, 1) for order in orders]
        first = [cell.zero_state(states, len(lengths)) for cell in cells]  # pyright: ignore
        # both directions end at position length - 1 of their own reading order
        found = type(cells[0]).run_together(list(cells), inputs, first, lengths)  # pyright: ignore
        outputs = [hidden.transpose(0, 1) for hidden, _ in found]
        outputs[1:] = [_reorder(outputs[1], reversal)] if len(outputs) == 2 else []
        return torch.cat(outputs, dim=-1), [last for _, last in found]


def _reversal(lengths: Tensor, size: int) -> Tensor:
    """Return [B, size] positions that reverse each row within its length and leave its padding in place."""
    positions = torch.arange(size, device=lengths.device).expand(len(lengths), size)
    mirrored = lengths.unsqueeze(1) - 1 - positions
    return torch.where(mirrored >= 0, mirrored, positions)


def _reorder(sequence: Tensor, positions: Tensor) -> Tensor:
    """Take [B, S, D] in the order of ``positions`` [B, S], one that undoes itself; what is taken lies step by step."""
    sentences = torch.arange(len(positions), device=positions.device)
    order = (positions.t() * len(positions) + sentences).flatten()
    return _Exchange.apply(sequence.transpose(0, 1), order).transpose(0, 1)


class _Exchange(torch.autograd.Function):
    """Rows of [S, B, D] in an order [S * B] that undoes itself, so that the gradient is reordered likewise."""

    @staticmethod
    def forward(ctx: Any, sequence: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return sequence.reshape(-1, sequence.shape[2]).index_select(0, order).view(sequence.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Exchange.apply(gradients[0], *ctx.saved_tensors), None
