"""The convolutional encoder: keys and values from two stacks of convolutions."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmt.errors import ConfigError
from nmt.model.cells import CellName
from nmt.model.dropout import Dropout
from nmt.model.encoder.base import Encoded, Encoder, mask_from_lengths
from nmt.model.encoder.common import masked_mean, require_encoder_options
from nmt.model.products import Linear

# positions start as word embeddings do (nmt.model.embedding)
_RANGE = 0.1


@final
class ConvolutionalEncoder(Encoder):
    """Keys CNN-a(e) and values CNN-c(e), e_j = w_j + l_j (Gehring et al. 2017, arXiv:1611.02344v3, sections 3.1-3.2).

    A stack maps e to its own size, x = W_in e; then each layer is x = tanh(conv_k(x) + b + x), zero beyond the sentence
    on both sides. There is no last state: the decoder starts from the mean of the values, an LSTM's cells from zero.

    Differs: the authors' code leaves the residual out of a stack's last layer, keeps CNN-c at the size of the
    embeddings and maps CNN-a back to it; here both stacks map once, before the first layer, and keys and values are as
    large as those of a bidirectional RNN. Where attention looks at no keys (``none``, ``mean``, ``luong_location``),
    CNN-a is idle: nothing reads it, and it does not learn.

    Args:
        embedding_size: E.
        cell: not used here; the decoder's cell follows it.
        hidden_size: D / 2: an annotation is as large as that of a bidirectional RNN with so many units a direction.
        layers: number of layers of CNN-a.
        value_layers: number of layers of CNN-c.
        kernel: k, positions that a convolution sees; odd.
        max_positions: L, number of learned positions; later ones share the last.
        dropout: on e, as in the paper.
        variational_dropout: one dropout mask for all positions of a sentence.
    """

    def __init__(
        self,
        embedding_size: int,
        max_positions: int,
        *,
        cell: CellName = "lstm",
        hidden_size: int = 256,
        layers: int = 4,
        value_layers: int = 2,
        kernel: int = 3,
        dropout: float = 0.1,
        variational_dropout: bool = False,
    ) -> None:
        super().__init__()
        counts = {"hidden_size": hidden_size, "layers": layers, "value_layers": value_layers}
        require_encoder_options(dropout, **counts, max_positions=max_positions)
        if kernel < 1 or kernel % 2 == 0:
            raise ConfigError(f"encoder.kernel={kernel} is not accepted; it must be odd and at least 1")
        self.size, self.backward_size, self.final_parts = 2 * hidden_size, 0, (1,)
        self.positions = nn.Parameter(torch.empty(max_positions, embedding_size).uniform_(-_RANGE, _RANGE))
        self.dropout = Dropout(dropout, variational=variational_dropout)
        self.keys = _Stack(embedding_size, self.size, layers, kernel)
        self.values = _Stack(embedding_size, self.size, value_layers, kernel)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Encode; see :class:`Encoder`."""
        mask = mask_from_lengths(lengths, embedded.shape[1])
        numbers = torch.arange(embedded.shape[1], device=embedded.device).clamp(max=len(self.positions) - 1)
        given = self.dropout(embedded + functional.embedding(numbers, self.positions))
        keys, values = self.keys(given, mask), self.values(given, mask)
        return Encoded(keys, mask, lengths - 1, ((masked_mean(values, mask),),), None, values)


@final
class _Stack(nn.Module):
    """x = W_in e, then x = tanh(conv_k(x) + b + x) layer by layer."""

    def __init__(self, embedding_size: int, size: int, layers: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.input = Linear(embedding_size, size, bias=False)
        # [D, k D]: the matrix of each offset in turn, from the leftmost on
        self.convolutions = nn.ModuleList(Linear(kernel * size, size) for _ in range(layers))

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Map [B, S, E] to [B, S, D], zero on padding."""
        real = mask.unsqueeze(2)
        states = self.input(embedded) * real
        for convolution in self.convolutions:
            # padding is zero before each layer, as what lies beyond the sentence is
            states = torch.tanh(convolution(self._windows(states)) + states) * real
        return states

    def _windows(self, states: Tensor) -> Tensor:
        """Return what the kernel sees at each position, [B, S, D] -> [B, S, k D]."""
        half = self.kernel // 2
        wide = functional.pad(states, (0, 0, half, half))
        return torch.cat([wide[:, tap : tap + states.shape[1]] for tap in range(self.kernel)], dim=-1)
