"""A model whose next distribution depends on the whole history, and plain-Python searches over it.

The state carries every token, so a row that is reordered wrongly gets other distributions from then on.
"""

import heapq
import math
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from reference import penalties
from torch import Tensor

BOS, EOS = 0, 1
KEYS = 997


def key_of(sentence: int, tokens: list[int]) -> int:
    """Hash a sentence's number and everything fed to the model, BOS first."""
    key = 101 + 13 * sentence
    for token in tokens:
        key = (key * 31 + token + 7) % KEYS
    return key


class TableModel:
    """Random log-probabilities [KEYS, V] and attention logits [KEYS, S], looked up by the hash of the history."""

    def __init__(self, *, vocabulary: int, source_lengths: list[int], seed: int = 0, eos_bias: float = 0.0):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(KEYS, vocabulary, generator=generator) * 1.5
        logits[:, EOS] += eos_bias
        self.log_probs = logits.log_softmax(-1)
        self.attention = torch.randn(KEYS, max(source_lengths), generator=generator) * 2
        self.source_lengths = torch.tensor(source_lengths)
        self.batches: list[tuple[int, int]] = []
        # whether its steps say which pieces are best, as a model may or may not
        self.offers_best = seed % 2 == 0

    @property
    def vocabulary(self) -> int:
        return self.log_probs.size(1)

    def start(self) -> "TableState":
        sentences = torch.arange(len(self.source_lengths))[:, None]
        return TableState(sentences, torch.empty(len(sentences), 1, 0, dtype=torch.long), [])

    def weights(self, key: int, sentence: int) -> Tensor:
        masked = self.attention[key].clone()
        masked[self.source_lengths[sentence] :] = float("-inf")
        return masked.softmax(-1)

    def step(self, tokens: Tensor, state: "TableState") -> tuple["TableStep", "TableState", Tensor]:
        assert tokens.shape == state.sentences.shape
        assert tokens.dtype == torch.long
        self.batches.append(tuple(tokens.shape))
        history = torch.cat([state.history, tokens[..., None]], -1)
        keys = 101 + 13 * state.sentences
        for token in history.unbind(-1):
            keys = (keys * 31 + token + 7) % KEYS
        positions = torch.arange(self.attention.size(1))
        padding = positions >= self.source_lengths[state.sentences][..., None]
        weights = self.attention[keys].masked_fill(padding, float("-inf")).softmax(-1)
        return TableStep(self, keys), TableState(state.sentences, history, state.calls), weights


class Whole:
    """Distributions that are only there whole, given what makes those of a slice."""

    def __init__(self, predict):
        self._predict = predict

    def __call__(self, part: slice) -> Tensor:
        return self._predict(part)

    def best(self, count: int, never: Tensor) -> None:
        return None


@dataclass
class TableStep:
    """The distributions after histories hashed to ``keys`` [B, K]."""

    model: TableModel
    keys: Tensor

    def __call__(self, part: slice) -> Tensor:
        return self.model.log_probs[self.keys[part]]

    def best(self, count: int, never: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.model.offers_best:
            return None
        log_probs = self(slice(None)).index_fill(2, never, float("-inf"))
        return tuple(log_probs.topk(min(count, log_probs.size(2))))


@dataclass
class TableState:
    """Sentence numbers [B, K], everything fed so far [B, K, t] and the calls of ``select``."""

    sentences: Tensor
    history: Tensor
    calls: list = field(default_factory=list)

    def select(self, beams: Tensor, sentences: Tensor | None) -> "TableState":
        batch, width = self.sentences.shape
        assert beams.dtype == torch.long and beams.dim() == 2
        assert beams.min() >= 0 and beams.max() < width
        if sentences is None:
            assert len(beams) == batch
            rows = torch.arange(batch)
        else:
            assert sentences.shape == (len(beams),) and sentences.dtype == torch.long
            assert 0 < len(sentences) < batch and sentences.diff().gt(0).all() and sentences.max() < batch
            rows = sentences
        self.calls.append((tuple(beams.shape), sentences is not None))
        rows = rows[:, None]
        return TableState(self.sentences[rows, beams], self.history[rows, beams], self.calls)


def limit(model: TableModel, sentence: int, options) -> int:
    pieces = int(model.source_lengths[sentence]) - 1
    return math.floor(options.max_length_ratio * pieces) + options.max_length_offset


def log_prob(model: TableModel, sentence: int, tokens: list[int]) -> float:
    """Score ``tokens`` and EOS in float64."""
    fed, total = [BOS], 0.0
    for token in [*tokens, EOS]:
        total += model.log_probs[key_of(sentence, fed), token].double().item()
        fed.append(token)
    return total


def attention(model: TableModel, sentence: int, tokens: list[int]) -> Tensor:
    """Return the weights [len(tokens) + 1, S] with which ``tokens`` and EOS are predicted."""
    fed = [BOS, *tokens]
    return torch.stack([model.weights(key_of(sentence, fed[: i + 1]), sentence) for i in range(len(fed))])


def score(model: TableModel, sentence: int, tokens: list[int], options) -> float:
    """GNMT's score, by the reference; |Y| counts EOS."""
    coverage = penalties.coverage_penalty(
        attention(model, sentence, tokens).double().numpy(),
        options.coverage_penalty,
        int(model.source_lengths[sentence]),
    )
    total = log_prob(model, sentence, tokens)
    return penalties.ranking_score(total, len(tokens) + 1, options.length_penalty, coverage)


def allowed(model: TableModel, sentence: int, tokens: list[int], options, forbidden) -> list[int]:
    """Return what may follow ``tokens``."""
    most = limit(model, sentence, options)
    if len(tokens) == most:
        return [EOS]
    pieces = [p for p in range(model.vocabulary) if p not in forbidden and p != EOS]
    order = options.no_repeat_ngram
    if order:
        pieces = [p for p in pieces if not repeats([*tokens, p], order)]
    return pieces if len(tokens) < options.min_length and pieces else [EOS, *pieces]


def repeats(tokens: list[int], order: int) -> bool:
    ngrams = [tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1)]
    return len(ngrams) > 1 and ngrams[-1] in ngrams[:-1]


def enumerate_all(model: TableModel, sentence: int, options, forbidden=()) -> list[tuple[float, list[int]]]:
    """Return every possible translation with its score, best first."""
    found, open_prefixes = [], [[]]
    while open_prefixes:
        prefix = open_prefixes.pop()
        for piece in allowed(model, sentence, prefix, options, forbidden):
            if piece == EOS:
                found.append((score(model, sentence, prefix, options), prefix))
            else:
                open_prefixes.append([*prefix, piece])
    return sorted(found, reverse=True)


def slow_beam(model: TableModel, sentence: int, options, forbidden=()) -> list[tuple[float, list[int]]]:
    """Beam search without early stopping, one hypothesis at a time."""
    live, found = [(0.0, [])], []
    while live:
        candidates = []
        for total, prefix in live:
            key = key_of(sentence, [BOS, *prefix])
            for piece in allowed(model, sentence, prefix, options, forbidden):
                candidates.append((total + model.log_probs[key, piece].item(), prefix, piece))
        best = heapq.nlargest(options.beam, candidates)
        found += [(score(model, sentence, p, options), p) for _, p, piece in best if piece == EOS]
        live = [(total, [*p, piece]) for total, p, piece in best if piece != EOS]
    return sorted(found, reverse=True)[: options.n_best]


def is_descending(values: list[float]) -> bool:
    return all(a >= b for a, b in pairwise(values))
