"""A model that copies its source, and a tokenizer of words, both small enough to predict by hand."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from nmt.model.prediction import NextTokens

WORDS = [f"w{n}" for n in range(13)]
FIRST = 4


class PieceTokenizer:
    """Words ``w0``, ``w1``, ...; a hyphen glues the next piece to the same word, as in ``w1-w2``."""

    size = FIRST + 2 * len(WORDS)

    def encode(self, lines, *, sampler=None):
        return [
            [
                FIRST + WORDS.index(piece) + (len(WORDS) if position else 0)
                for token in line.split()
                for position, piece in enumerate(token.split("-"))
            ]
            for line in lines
        ]

    def pieces(self, ids):
        return [("-" if i >= FIRST + len(WORDS) else " ") + WORDS[(i - FIRST) % len(WORDS)] for i in ids]

    def surfaces(self, ids):
        return [piece.encode() for piece in self.pieces(ids)]

    def decode(self, sequences):
        return ["".join(self.pieces(ids)).strip() for ids in sequences]


class CopyState(NamedTuple):
    """Source [B, S] and the step that each beam has reached [B, K]."""

    source: Tensor
    steps: Tensor

    def select(self, beams, sentences=None):
        kept = torch.arange(len(self.source)) if sentences is None else sentences
        return CopyState(self.source[kept], self.steps[kept[:, None], beams])


@dataclass
class Call:
    rows: int
    positions: int
    training: bool
    inference: bool


class CopyModel(nn.Module):
    """Predicts source piece t at step t and attends to it; notes the size of every call."""

    copies = False

    def __init__(self, size, features=5):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.size = size
        self.features = nn.Embedding(size, features, _weight=torch.randn(size, features, generator=generator))
        self.output = nn.Linear(features, size)
        self.calls: list[Call] = []

    def _note(self, rows, positions):
        self.calls.append(Call(rows, positions, self.training, torch.is_inference_mode_enabled()))

    def encode(self, source, source_lengths, copies=None):
        self._note(len(source), source.numel())
        return CopyState(source, torch.zeros(len(source), 1, dtype=torch.long))

    def step(self, tokens, state):
        self._note(tokens.numel(), 0)
        steps = state.steps.clamp(max=state.source.shape[1] - 1)
        logits = 8 * nn.functional.one_hot(state.source.gather(1, steps), self.size).float()
        logits = logits - torch.arange(self.size) / (2 * self.size)
        weights = nn.functional.one_hot(steps, state.source.shape[1]).float()
        return NextTokens(logits.log_softmax(-1).__getitem__), state._replace(steps=state.steps + 1), weights

    def forward(self, source, source_lengths, target_in):
        """Attends to source position t at step t, with a quarter on the position before."""
        self._note(*source.shape[:1], max(source.numel(), target_in.numel()))
        steps = torch.arange(target_in.shape[1]).expand_as(target_in).clamp(max=source.shape[1] - 1)
        here = nn.functional.one_hot(steps, source.shape[1]).float()
        before = nn.functional.one_hot((steps - 1).clamp(min=0), source.shape[1]).float()
        return self.features(target_in), 0.75 * here + 0.25 * before

    def weights(self, decoded):
        return decoded[1]

    def losses(self, decoded, targets, mask, *, label_smoothing, copies):
        log_probs = self.output(decoded[0][mask]).log_softmax(-1)
        return SimpleNamespace(nll=-log_probs.gather(1, targets[mask].unsqueeze(1)).squeeze(1))


@pytest.fixture
def tokenizers():
    one = PieceTokenizer()
    return SimpleNamespace(source=one, target=one, joint=True)


@pytest.fixture
def model():
    return CopyModel(PieceTokenizer.size)
