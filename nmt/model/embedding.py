"""Token embeddings and the output layer over the vocabulary, which may share one matrix."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nmt.model.dropout import Dropout, drop_words
from nmt.model.kernels import add_by_token
from nmt.model.products import Operand, current, product

# Luong et al. 2015, section 4.1: parameters uniform in [-0.1, 0.1]
_RANGE = 0.1


class Embedding(nn.Module):
    """One side's embeddings, [V, E], with dropout of elements and of whole tokens (training only).

    Args:
        vocabulary_size: V.
        size: E.
        dropout: rate on vectors.
        variational_dropout: one dropout mask a sentence.
        word_dropout: rate of replacing a token by ``unknown``.
        unknown: id of the unknown token.
        special: largest id of the special tokens, which are never replaced.
    """

    def __init__(
        self,
        vocabulary_size: int,
        size: int,
        *,
        dropout: float,
        variational_dropout: bool,
        word_dropout: float,
        unknown: int,
        special: int,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, size).uniform_(-_RANGE, _RANGE))
        self.dropout = Dropout(dropout, variational=variational_dropout)
        self.word_dropout = word_dropout
        self.unknown = unknown
        self.special = special

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ids [B, T] to vectors [B, T, E], which lie in memory step by step, as recurrences read them."""
        if self.training:
            tokens = drop_words(tokens, self.word_dropout, unknown=self.unknown, special=self.special)
        return self.dropout(_look_up(tokens.t(), self.weight).transpose(0, 1))


def _look_up(tokens: Tensor, weight: Tensor) -> Tensor:
    """Return the rows of ids; on a CPU with a gradient that all threads add up."""
    if current().fast and weight.device.type == "cpu" and torch.is_grad_enabled():
        return _LookUp.apply(tokens, weight)
    return functional.embedding(tokens, weight)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.size = len(weight)
        return functional.embedding(tokens, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (tokens,) = ctx.saved_tensors
        return None, add_by_token(tokens.reshape(-1), gradients[0].reshape(-1, gradients[0].shape[-1]), ctx.size)


class OutputLayer(nn.Module):
    """Logits over the target vocabulary: [.., F] -> [.., V]; the weight may be an embedding's own matrix (tying).

    Args:
        size: F.
        vocabulary_size: V.
        tied: the [V, F] matrix to share; None for one of its own.
    """

    def __init__(self, size: int, vocabulary_size: int, *, tied: nn.Parameter | None) -> None:
        super().__init__()
        own = torch.empty(vocabulary_size, size).uniform_(-_RANGE, _RANGE) if tied is None else None
        self.weight = nn.Parameter(own) if own is not None else tied
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def forward(self, readout: Tensor) -> Tensor:
        """Return logits."""
        assert self.weight is not None
        return product(readout, self.weight, self.bias)

    def prepare(self) -> Operand:
        """Return the operand that computes logits at many steps."""
        assert self.weight is not None
        return Operand(self.weight, self.bias)


@final
class NoOutputLayer(OutputLayer):
    """The output layer of a prediction that takes no words from the vocabulary: 0 logits, and nothing to learn.

    Args:
        size: F.
    """

    def __init__(self, size: int) -> None:
        nn.Module.__init__(self)
        self.register_buffer("weight", torch.empty(0, size), persistent=False)
        self.register_buffer("bias", torch.empty(0), persistent=False)
