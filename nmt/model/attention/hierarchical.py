"""Attention over sentences and over the words in them."""

import logging
from dataclasses import dataclass
from functools import cache
from typing import final

import torch
from torch import Tensor

from nmt.errors import ConfigError
from nmt.model.attention.attention import AttentionParts
from nmt.model.attention.base import Attended, Attention, AttentionState, Keys, Memory, Prepared, masked_softmax
from nmt.model.attention.contexts import WeightedMean
from nmt.model.attention.softmax import Softmax
from nmt.model.encoder.base import Encoded, mask_from_lengths
from nmt.model.encoder.rnn import RecurrentEncoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HierarchicalMemory(Prepared):
    """A batch of lines as attention over N sentences and their words sees it.

    Attributes:
        words: keys and values of the positions.
        sentences: keys of the sentences.
        members: [B, N, S], True where a sentence has a position; nowhere for sentences that a line does not have.
    """

    words: Memory
    sentences: Keys
    members: Tensor

    def select(self, sentences: Tensor) -> "HierarchicalMemory":
        """Return the memory of the lines [B'] of the batch."""
        return HierarchicalMemory(
            self.words.select(sentences), self.sentences.select(sentences), self.members.index_select(0, sentences)
        )


@final
class HierarchicalAttention(Attention):
    r"""alpha_j = beta_s(j) gamma_j: the weight of the sentence times the weight of the word in its sentence.

    gamma is the softmax of score(q, h_j) over the positions of one sentence; beta the softmax over sentences of a score
    of the same kind, with parameters of its own, of q and g_s, the states of a bidirectional GRU over the mean
    annotations of the sentences. The product sums to 1 and is read as any weights: c = sum_j alpha_j h_j. A separator
    belongs to the sentence that it ends, EOS to the last one. A line of one sentence gives ordinary attention. The GRU
    is idle under the scores ``location`` and ``constant``, which look at no keys.

    Word attention scaled by sentence attention is Nallapati et al. 2016 (arXiv:1602.06023v5, section 2.4), the GRU over
    sentences also Yang et al. 2016 (section 2.2). Differs: Nallapati et al. take the word attention over the whole text
    and normalise the product again, a second GRU of theirs reads words, and sentences have embeddings of their
    positions; Yang et al. make sentence vectors by attention where here is a mean.

    Args:
        parts: makes the parts for the words, and the score for the sentences.
        query_size: H.
        source_size: M.
        separator: id of the source token that ends a sentence; None where the vocabulary has none.

    Raises:
        ConfigError: the alignment is not ``softmax``, the context not ``weighted_mean``, or M is odd.
    """

    def __init__(self, parts: AttentionParts, query_size: int, source_size: int, separator: int | None) -> None:
        super().__init__()
        self.separator = separator
        self.words = parts.single(query_size, source_size)
        for part, found, name, accepted in (
            ("alignment", self.words.alignment, "softmax", Softmax),
            ("context", self.words.context, "weighted_mean", WeightedMean),
        ):
            if not isinstance(found, accepted):
                raise ConfigError(
                    f"attention/form=hierarchical needs attention/{part}={name}, but it is {type(found).__name__}"
                )
        if source_size % 2:
            raise ConfigError(
                f"attention/form=hierarchical needs encoder states of even size for its bidirectional GRU, but they "
                f"have {source_size} units; change encoder.hidden_size"
            )
        self.encoder = RecurrentEncoder(source_size, cell="gru", hidden_size=source_size // 2, dropout=0.0)
        self.score = parts.score(query_size, source_size)
        self.size = self.words.size
        self.weighs, self.asks, self.learns = self.words.weighs, self.words.asks, self.words.learns
        self.recurrent = self.words.recurrent
        if separator is None:
            _say_that_lines_are_sentences()

    def prepare(self, source: Encoded) -> HierarchicalMemory:
        """Find the sentences and encode them."""
        members = self._members(source)
        sentences = self._sentences(source.states, members)
        return HierarchicalMemory(self.words.prepare(source), self.score.prepare(sentences), members)

    def start(self, source: Encoded) -> AttentionState:
        """Return the state of the attention to words."""
        return self.words.start(source)

    def forward(
        self, query: Tensor, memory: HierarchicalMemory, positions: Tensor | int, state: AttentionState
    ) -> Attended:
        """Attend with queries [B, Q, H]."""
        words, coverage = self.words, self.words.coverage
        scores = coverage(words.score, query, memory.words.keys, state)
        of_words = masked_softmax(scores.unsqueeze(2), memory.members.unsqueeze(1))
        # a sentence may be read where one of its positions may: not where there is none, or all scores forbid it
        readable = of_words.sum(-1) > 0
        of_sentences = masked_softmax(self.score(query, memory.sentences), readable)
        weights = (of_sentences.unsqueeze(-1) * of_words).sum(2)
        return Attended(words.context(weights, memory.words.values), weights, coverage.update(state, weights))

    def penalty(self, attended: Attended, nll: Tensor, mask: Tensor) -> Tensor | None:
        """Return what the attention to words adds to the loss."""
        return self.words.penalty(attended, nll, mask)

    def _members(self, source: Encoded) -> Tensor:
        """Return [B, N, S], True where sentence n has position s."""
        if self.separator is None:
            return source.mask.unsqueeze(1)
        assert source.tokens is not None
        # a separator before EOS ends no sentence, since EOS belongs to the last one
        inner = mask_from_lengths(source.lengths - 1, source.mask.shape[1])
        ends = (source.tokens == self.separator) & inner
        numbers = ends.cumsum(1) - ends.long()
        count = int(numbers.max()) + 1
        own = numbers.unsqueeze(1) == torch.arange(count, device=numbers.device).view(1, -1, 1)
        return own & source.mask.unsqueeze(1)

    def _sentences(self, states: Tensor, members: Tensor) -> Encoded:
        """Return the lines as sequences of encoded sentences."""
        shares = members.to(states.dtype)
        means = shares @ states / shares.sum(-1, keepdim=True).clamp_min(1)
        return self.encoder(means, members.any(-1).sum(-1))


@cache
def _say_that_lines_are_sentences() -> None:
    """Say it once in a process, which makes the model again for its results."""
    log.warning(
        "attention/form=hierarchical: the source vocabulary does not have data.sentence_separator as one token, so "
        "every line is one sentence"
    )
