"""Readouts: the vector from which the output layer predicts the word."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, final

import torch
from torch import Tensor, nn

from nmt.errors import ConfigError
from nmt.model.kernels import squash
from nmt.model.products import Linear

Read = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(decoder state [.., H], embedded previous word [.., E], context [.., M]) -> readout [.., F]."""


class Readout(nn.Module, ABC):
    """Combines decoder state, previous word and context.

    Attributes:
        size: F.
        reads_query: the state is the one attention asked with (else the state after the update; in Luong's wiring both
            are s_t).
    """

    size: int
    reads_query: bool

    def by_hand(self) -> Tensor | None:
        """Return W where the readout is tanh(W [context; state]), which has a derivative written by hand; else None."""
        return None

    @abstractmethod
    def prepare(self) -> Read:
        """Return the function to apply, whole or step by step."""


def _checked_size(size: int | None, default: int) -> int:
    if size is not None and size < 1:
        raise ConfigError(f"attention.readout.size={size} is not accepted; it must be at least 1 or null ({default})")
    return default if size is None else size


@final
class AttentionalReadout(Readout):
    """h~_t = tanh(W_c [c_t; h_t]) (Luong et al. 2015, arXiv:1508.04025v5, eq. 5).

    Args:
        hidden_size: H.
        context_size: M.
        default_size: F where ``size`` is None.
        size: F; None: the decoder's hidden size, or the embedding size where the output layer shares the embeddings.
    """

    reads_query = False

    def __init__(self, hidden_size: int, context_size: int, default_size: int, size: int | None = None) -> None:
        super().__init__()
        self.size = _checked_size(size, default_size)
        self.combine = Linear(context_size + hidden_size, self.size, bias=False)

    def by_hand(self) -> Tensor:
        """Return W_c."""
        return self.combine.weight

    def prepare(self) -> Read:
        """Return the readout function."""
        combine = self.combine.prepare()

        def read(state: Tensor, embedded: Tensor, context: Tensor) -> Tensor:
            products = combine.low(context.flatten(0, -2), state.flatten(0, -2))
            if products is None:
                return torch.tanh(combine(torch.cat([context, state], dim=-1)))
            found = state.new_empty(*state.shape[:-1], self.size)
            flat = found.flatten(0, -2)
            squash(products, None, flat, flat, None)
            return found

        return read


@final
class MaxoutReadout(Readout):
    """t_i = maxout(U_o s_{i-1} + V_o E y_{i-1} + C_o c_i), over pairs of units.

    Bahdanau et al. 2015, arXiv:1409.0473v7, A.2.2.

    ``state: query`` reads s_{i-1}, as the formula and the authors' code do; ``new`` reads s_i, as p(y_i | s_i, ..) of
    eq. 4 and most re-implementations do. Differs: at the first step y_0 is the embedding of BOS, where the authors'
    code has no such term.

    Args:
        hidden_size: H.
        embedding_size: E.
        context_size: M.
        default_size: F where ``size`` is None.
        size: F, the number of maxout units (the paper's l).
        state: which decoder state is read.
    """

    def __init__(
        self,
        hidden_size: int,
        embedding_size: int,
        context_size: int,
        default_size: int,
        size: int | None = None,
        state: Literal["query", "new"] = "query",
    ) -> None:
        super().__init__()
        self.size = _checked_size(size, default_size)
        self.reads_query = state == "query"
        self.combine = Linear(hidden_size + embedding_size + context_size, 2 * self.size)

    def prepare(self) -> Read:
        """Return the readout function."""
        combine = self.combine.prepare()

        def read(state: Tensor, embedded: Tensor, context: Tensor) -> Tensor:
            units = combine(torch.cat([state, embedded, context], dim=-1))
            return units.unflatten(-1, (self.size, 2)).amax(-1)

        return read
