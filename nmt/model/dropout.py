"""Dropout of vectors, per step or one mask for all steps of a sentence, and of whole tokens."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nmt.model.kernels import drop, random_words

Drop = Callable[[Tensor], Tensor]


class Dropout(nn.Module):
    """Zero a share of a vector's elements in training and scale the rest up.

    With ``variational`` the mask is the same at all steps of a sentence (Gal & Ghahramani 2016, arXiv:1512.05287).
    Differs: masks fall on the inputs and outputs of layers, never on the recurrent connection.

    Args:
        rate: probability of zeroing, in [0, 1).
        variational: one mask for all steps.
    """

    def __init__(self, rate: float, *, variational: bool = False) -> None:
        super().__init__()
        self.rate = rate
        self.variational = variational

    def forward(self, sequence: Tensor) -> Tensor:
        """Drop elements of [B, T, D]."""
        return self.prepare()(sequence)

    def prepare(self) -> Drop:
        """Return what to apply to [B, T, D], whole or step by step; a variational mask is drawn once, at first use."""
        if not self.training or self.rate == 0.0:
            return _keep
        if not self.variational:
            return lambda vectors: dropout(vectors, self.rate)
        return _VariationalMask(self.rate)

    def factors(self, like: Tensor, steps: int) -> Tensor | None:
        """Return what to multiply all steps of a sequence by, [T, B, D], or [1, B, D] where the mask is variational.

        None where nothing is dropped.

        Args:
            like: vectors [B, D] of one step.
            steps: T.
        """
        if not self.training or self.rate == 0.0:
            return None
        shape = 1 if self.variational else steps, *like.shape
        if like.device.type != "cpu":
            return functional.dropout(like.new_ones(shape), self.rate)
        ones = None if like.dtype == torch.float32 else like.new_ones(shape)
        return drop(ones, _random_bits(shape), *_threshold(self.rate))


def _keep(vectors: Tensor) -> Tensor:
    return vectors


class _VariationalMask:
    """A mask [B, 1, D], drawn when the first vectors tell its shape."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.mask: Tensor | None = None

    def __call__(self, vectors: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = dropout(torch.ones_like(vectors[:, :1]), self.rate)
        return vectors * self.mask


def dropout(vectors: Tensor, rate: float) -> Tensor:
    """Zero each element with probability ``rate`` and divide the rest by 1 - rate.

    On a CPU the rate is rounded to a multiple of 2^-16: each element has 16 random bits, of a sequence that begins at
    random, since torch draws one after the other.
    """
    if vectors.device.type == "cpu":
        return _Dropout.apply(vectors, *_threshold(rate))
    return functional.dropout(vectors, rate)


def _threshold(rate: float) -> tuple[int, float]:
    """Return which 16 random bits, as a number, are the least that keep an element, and its scale."""
    dropped = min(round(rate * 2**16), 2**16 - 1)
    return dropped - 2**15, 2**16 / (2**16 - dropped)


def _random_bits(shape: Sequence[int]) -> Tensor:
    """Return 16 random bits for each element, as numbers."""
    count = math.prod(shape)
    words = random_words(int(torch.randint(-(2**63), 2**63 - 1, ())), (count + 3) // 4)
    return words.view(torch.int16)[:count].view(tuple(shape))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, threshold: int, scale: float) -> Tensor:
        ctx.first = 1 if steps_first(vectors) else 0
        vectors = vectors.transpose(0, ctx.first)
        bits = _random_bits(vectors.shape)
        ctx.save_for_backward(bits)
        ctx.given = threshold, scale
        return drop(vectors, bits, threshold, scale).transpose(0, ctx.first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient = gradients[0].transpose(0, ctx.first).contiguous()
        return drop(gradient, *ctx.saved_tensors, *ctx.given).transpose(0, ctx.first), None, None


def steps_first(sequence: Tensor) -> bool:
    """Say whether [B, T, D] lies in memory as [T, B, D]."""
    return sequence.dim() == 3 and not sequence.is_contiguous() and sequence.transpose(0, 1).is_contiguous()


def drop_words(tokens: Tensor, rate: float, *, unknown: int, special: int) -> Tensor:
    """Replace each token by ``unknown`` with probability ``rate`` (Gal & Ghahramani's word dropout, per position).

    Args:
        tokens: [B, T] token ids.
        rate: probability of replacing.
        unknown: the id put in place.
        special: ids up to this one (padding, BOS, EOS) are never replaced.
    """
    if rate == 0.0:
        return tokens
    drawn = torch.rand(tokens.shape, device=tokens.device) < rate
    return torch.where(drawn & (tokens > special), unknown, tokens)
