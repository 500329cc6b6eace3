"""What an encoder gives to the decoder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def mask_from_lengths(lengths: Tensor, size: int) -> Tensor:
    """Return [B, size], True on the first ``lengths[b]`` positions."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


@dataclass(frozen=True)
class Encoded:
    """An encoded batch.

    Attributes:
        states: [B, S, M] annotations, zero on padding.
        mask: [B, S], True on real tokens, EOS among them.
        lengths: [B], source tokens without EOS (the S of the papers' formulas).
        finals: what the decoder can start from, parts [B, M]. Of a recurrent encoder, for each layer: h (and c of an
            LSTM), the forward direction's at the last real position beside the backward direction's at the first. Of
            one without recurrence: one part, the mean over real positions of what attention reads.
        backward_first: [B, M / 2], the top layer's backward state at the first position; None if none reads backwards.
        values: [B, S, M], zero on padding: what attention reads where that is not ``states``; None where it is.
        tokens: [B, S], the source tokens that were encoded; None where only vectors are known.
    """

    states: Tensor
    mask: Tensor
    lengths: Tensor
    finals: tuple[tuple[Tensor, ...], ...]
    backward_first: Tensor | None
    values: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def summary(self) -> Tensor:
        """The fixed-length vector C of a sentence, [B, M]: h of the top layer in ``finals``."""
        return self.finals[-1][0]


class Encoder(nn.Module, ABC):
    """Maps embedded source tokens to annotations.

    Attributes:
        size: M, the size of an annotation.
        backward_size: size of ``Encoded.backward_first``; 0 if there is none.
        final_parts: of each layer in ``Encoded.finals``, the number of parts.
    """

    size: int
    backward_size: int
    final_parts: tuple[int, ...]

    @abstractmethod
    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Encode [B, S, E] with ``lengths`` [B] real positions each, EOS counted."""
