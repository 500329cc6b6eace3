"""Back-pointers, pieces and attention of every step, from which finished hypotheses are read at the end."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nmt.search.choice import Choice


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation of a sentence.

    Attributes:
        tokens: pieces without BOS and EOS.
        score: what it is ranked by: log-probability over length normaliser, plus coverage penalty.
        log_prob: the model's log-probability of the pieces and EOS.
        weights: [len(tokens) + 1, S] float32 on the CPU; row t is the attention when piece t is predicted, the last row
            when EOS is. [0, S] where the search kept none.
    """

    tokens: list[int]
    score: float
    log_prob: float
    weights: Tensor


class _Record(NamedTuple):
    """One step: sentences [B'], what was chosen, ranking scores [B', K'] of what ended there, weights [B', K, S]."""

    sentences: Tensor
    choice: Choice
    ended: Tensor
    weights: Tensor | None


class History:
    """Keeps what each step chose as it is; nothing is copied or gathered before the search has ended."""

    def __init__(self, sentences: int, *, keep_weights: bool) -> None:
        """Begin a search for that many ``sentences``; attention takes most of the memory, and not all need it."""
        self._size = sentences
        self._keep_weights = keep_weights
        self._width = 0
        self._records: list[_Record] = []

    def add(self, sentences: Tensor, choice: Choice, ended: Tensor, weights: Tensor) -> None:
        """Append a step.

        Args:
            sentences: [B'], which sentence of the batch each row is.
            choice: the hypotheses after the step.
            ended: [B', K'], the ranking score of those that ended here, -inf for the others.
            weights: [B', K, S], attention of the step.
        """
        self._width = weights.size(-1)
        self._records.append(_Record(sentences, choice, ended, weights if self._keep_weights else None))

    def best(self, count: int) -> list[list[Hypothesis]]:
        """Return each sentence's ``count`` best finished hypotheses (fewer where fewer finished), best first.

        Of equal scores the one that ended first comes first.
        """
        ended = self._padded([record.ended for record in self._records])
        log_probs = self._padded([record.choice.scores for record in self._records])
        scores, order = ended.flatten(1).sort(dim=1, descending=True, stable=True)
        scores = scores[:, :count]
        # places that hold no ended hypothesis may lie outside a narrow first step
        order = order[:, :count].masked_fill(scores == float("-inf"), 0)
        last = order // ended.size(2)
        tokens, weights = self._trace(last, order % ended.size(2))
        return _hypotheses(scores, log_probs.flatten(1).gather(1, order), last, tokens, weights)

    def _padded(self, steps: list[Tensor]) -> Tensor:
        """Lay [B', K'] of each step out as [B, T, K], with -inf where a sentence or place was not there."""
        width = max(step.size(1) for step in steps)
        padded = steps[0].new_full((self._size, len(steps), width), float("-inf"))
        for time, (record, step) in enumerate(zip(self._records, steps, strict=True)):
            padded[:, time, : step.size(1)].index_copy_(0, record.sentences, step)
        return padded

    def _trace(self, last: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Follow hypotheses back from step ``last`` [B, n], place ``slots`` [B, n].

        Returns:
            Tokens [B, n, T] and weights [B, n, T, S], or [B, n, 0, S] where none are kept; what stands after step
            ``last`` has no meaning.
        """
        tokens, weights = [], []
        pointer = torch.zeros_like(slots)
        for time in reversed(range(len(self._records))):
            sentences, choice, _, attention = self._records[time]
            # a sentence that has left by now reads row 0, which is never looked at
            rows = sentences.new_zeros(self._size)
            rows[sentences] = torch.arange(len(sentences), device=rows.device)
            pointer = torch.where(last == time, slots, pointer)
            tokens.append(choice.tokens[rows[:, None], pointer])
            if choice.parents is not None:
                pointer = choice.parents[rows[:, None], pointer]
            if attention is not None:
                weights.append(attention[rows[:, None], pointer])
        nothing = torch.empty(*slots.shape, 0, self._width)
        return torch.stack(tokens[::-1], 2), torch.stack(weights[::-1], 2) if weights else nothing


def _hypotheses(
    scores: Tensor, log_probs: Tensor, last: Tensor, tokens: Tensor, weights: Tensor
) -> list[list[Hypothesis]]:
    """Cut tensors [B, n, ...] into lists of hypotheses on the CPU."""
    weights = weights.float().cpu()
    none = weights.new_empty(0, weights.shape[3])
    found: list[list[Hypothesis]] = []
    columns = (scores.tolist(), log_probs.tolist(), last.tolist(), tokens.tolist())
    for row, (row_scores, row_log_probs, row_last, row_tokens) in enumerate(zip(*columns, strict=True)):
        found.append([])
        for place, (score, length) in enumerate(zip(row_scores, row_last, strict=True)):
            if score == float("-inf"):
                break
            attention = weights[row, place, : length + 1].clone() if weights.shape[2] else none
            found[-1].append(Hypothesis(row_tokens[place][:length], score, row_log_probs[place], attention))
        if not found[-1]:
            # weights of EOS alone, where weights are kept
            nothing = torch.zeros_like(weights[row, 0, :1])
            found[-1].append(Hypothesis([], float("-inf"), float("-inf"), nothing))
    return found
