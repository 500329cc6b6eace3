"""What may not come next: forbidden pieces, EOS too early, anything but EOS at the maximum, repeated n-grams."""

from collections.abc import Sequence

import torch
from torch import Tensor

NEVER = float("-inf")


class Constraints:
    """Sets the log-probability of what may not come next to -inf, in place; the rest keeps the model's values.

    Attributes:
        forbidden: [m], ids that are never produced.
    """

    def __init__(
        self,
        *,
        limits: Tensor,
        min_length: int,
        no_repeat_ngram: int,
        eos: int,
        forbidden: Sequence[int],
    ) -> None:
        """Prepare for a batch.

        Args:
            limits: [B], the maximum lengths of all its sentences.
            min_length: EOS does not come before that many pieces.
            no_repeat_ngram: order of n-grams that occur at most once; 0 is off.
            eos: id of EOS.
            forbidden: ids that are never produced; EOS is not one of them.
        """
        self.forbidden = torch.tensor(list(forbidden), dtype=torch.long, device=limits.device)
        self._limits = frozenset(limits.tolist())
        self._min_length = min_length
        self._order = no_repeat_ngram
        self._eos = eos

    def bind(self, length: int) -> bool:
        """Say whether more than the forbidden pieces may be excluded after ``length`` pieces."""
        return bool(self._order) or length < self._min_length or length in self._limits

    def apply(self, log_probs: Tensor, *, length: int, limits: Tensor, prefixes: Tensor | None) -> None:
        """Exclude pieces of one step.

        Args:
            log_probs: [B, K, V], changed in place.
            length: number of pieces before this step.
            limits: [B], maximum lengths of the sentences in these rows.
            prefixes: [B, K, length], the pieces so far; only needed against repeated n-grams.
        """
        if self.forbidden.numel():
            log_probs.index_fill_(-1, self.forbidden, NEVER)
        if prefixes is not None:
            block_repeated_ngrams(log_probs, prefixes, self._order)
        if length < self._min_length:
            self._delay_end(log_probs, (limits > length)[:, None])
        if length in self._limits:
            self._force_end(log_probs, (limits == length)[:, None, None])

    def _delay_end(self, log_probs: Tensor, too_short: Tensor) -> None:
        """Exclude EOS in the rows ``too_short`` [B, 1], except after a hypothesis that nothing else may follow."""
        end = log_probs[..., self._eos]
        before = end.clone()
        end.masked_fill_(too_short, NEVER)
        if self._order:
            end.copy_(torch.where(log_probs.amax(-1) == NEVER, before, end))

    def _force_end(self, log_probs: Tensor, at_limit: Tensor) -> None:
        """Exclude everything but EOS in the sentences ``at_limit`` [B, 1, 1]."""
        end = log_probs[..., self._eos].clone()
        log_probs.masked_fill_(at_limit, NEVER)
        log_probs[..., self._eos] = end


def block_repeated_ngrams(log_probs: Tensor, prefixes: Tensor, order: int) -> None:
    """Set the log-probability of pieces that would complete an n-gram a second time to -inf, in place.

    Args:
        log_probs: [B, K, V].
        prefixes: [B, K, t], the pieces so far, without BOS.
        order: n.
    """
    length = prefixes.size(-1)
    if length < order:
        return
    ngrams = prefixes.unfold(-1, order, 1)
    current = prefixes[..., length - order + 1 :]
    repeated = (ngrams[..., :-1] == current[..., None, :]).all(-1)
    # adding 0 where nothing repeats keeps this free of indices that depend on values
    penalty = torch.zeros_like(repeated, dtype=log_probs.dtype).masked_fill_(repeated, NEVER)
    log_probs.scatter_add_(-1, ngrams[..., -1], penalty)
