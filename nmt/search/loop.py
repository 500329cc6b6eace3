"""The one loop of decoding: step, exclude, choose, rank what ended, let finished sentences leave the batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from nmt.search.beam import choose_beam
from nmt.search.choice import Choice, Choose, join, pick
from nmt.search.constraints import NEVER, Constraints
from nmt.search.greedy import choose_greedy
from nmt.search.history import History, Hypothesis
from nmt.search.options import SearchOptions
from nmt.search.penalties import coverage_penalty, length_normalisers
from nmt.search.sampling import choose_sample


class State(Protocol):
    """The decoder's state for B sentences of K hypotheses."""

    def select(self, beams: Tensor, sentences: Tensor | None) -> Self:
        """Return the state whose row (i, k) is the old row (sentences[i], beams[i, k]).

        Args:
            beams: [B', K'].
            sentences: [B'], increasing; None: all stay in place.
        """
        ...


AnyState = TypeVar("AnyState", bound=State)


class Predict(Protocol):
    """What may come next, for a slice of the sentences, each of which is asked for once."""

    def __call__(self, sentences: slice) -> Tensor:
        """Return log-probabilities [B', K, V], which may be overwritten."""
        ...

    def best(self, count: int, never: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the ``count`` best log-probabilities [B, K, C] and their pieces, or None where that is no shorter.

        The pieces ``never`` [m] are not among them, but for the last places, at minus infinity.
        """
        ...


# (tokens [B, K], state) -> (what comes next, state, weights [B, K, S])
Step = Callable[[Tensor, AnyState], tuple[Predict, AnyState, Tensor]]
# Sentences leave the batch when this share of it is done: that moves what is kept of the others (their encoded source
# too, but in a search with weights of 8 bits), which takes as long as a step of a few of them. What those that wait
# still find is ranked below what they have.
_LEAVING = 1 / 16


class _Live(NamedTuple):
    """The sentences still being decoded and their hypotheses.

    Attributes:
        sentences: [B], place of each in the whole batch.
        source_lengths: [B], EOS counted.
        limits: [B], maximum lengths.
        tokens: [B, K], last pieces.
        scores: [B, K], log-probabilities; -inf where there is no live hypothesis.
        ended: [B, n_best], best ranking scores of ended hypotheses, descending; -inf where there are fewer.
        coverage: [B, K, S], sums of attention weights; None: not needed, or nothing yet.
        prefixes: [B, K, t], all pieces; None: not needed.
    """

    sentences: Tensor
    source_lengths: Tensor
    limits: Tensor
    tokens: Tensor
    scores: Tensor
    ended: Tensor
    coverage: Tensor | None
    prefixes: Tensor | None

    @classmethod
    def first(cls, source_lengths: Tensor, limits: Tensor, bos: int, options: SearchOptions) -> "_Live":
        """Return one empty hypothesis a sentence."""
        batch = len(source_lengths)
        tokens = torch.full((batch, 1), bos, device=source_lengths.device)
        scores = torch.zeros(batch, 1, device=tokens.device)
        return cls(
            sentences=torch.arange(batch, device=tokens.device),
            source_lengths=source_lengths,
            limits=limits,
            tokens=tokens,
            scores=scores,
            ended=scores.new_full((batch, options.n_best), NEVER),
            coverage=None,
            prefixes=tokens.new_empty(batch, 1, 0) if options.no_repeat_ngram else None,
        )

    def follow(self, choice: Choice, scores: Tensor, ended: Tensor, coverage: Tensor | None) -> "_Live":
        """Return the hypotheses of ``choice`` with their ``scores`` [B, K'], -inf where one has ended."""
        prefixes = self.prefixes
        if prefixes is not None:
            prefixes = torch.cat([_reorder(prefixes, choice.parents), choice.tokens[..., None]], -1)
        return self._replace(
            tokens=choice.tokens,
            scores=scores,
            ended=ended,
            coverage=None if coverage is None else _reorder(coverage, choice.parents),
            prefixes=prefixes,
        )

    def rows(self, keep: Tensor) -> "_Live":
        """Return only the sentences in rows ``keep``."""
        kept: dict[str, Any] = {name: values[keep] for name, values in self._asdict().items() if values is not None}
        return self._replace(**kept)


class _Ranking:
    """GNMT's scores of hypotheses that ended, and the best that a live one can still reach."""

    def __init__(self, options: SearchOptions, limits: Tensor) -> None:
        self._alpha = options.length_penalty
        self._beta = options.coverage_penalty
        self._normalisers = length_normalisers(self._alpha, int(limits.max()) + 2, limits.device)

    def covers(self) -> bool:
        """Say whether scores need the sums of attention weights."""
        return self._beta > 0

    def score(self, choice: Choice, length: int, coverage: Tensor | None, source_lengths: Tensor) -> Tensor:
        """Return the scores [B, K'] of ``choice`` as if it ended with this step, its piece number ``length``."""
        scores = choice.scores / self._normalisers[length]
        if coverage is None:
            return scores
        penalty = coverage_penalty(coverage, source_lengths, self._beta)
        return scores + (penalty if choice.parents is None else penalty.gather(1, choice.parents))

    def bound(self, scores: Tensor, length: int, limits: Tensor) -> Tensor:
        """Return [B], above which no live hypothesis of ``length`` pieces with ``scores`` [B, K] can ever be ranked.

        Further pieces only lower a log-probability, and the coverage penalty is at most 0. Only the normaliser can
        raise a score: most of all at the maximum length for alpha > 0, at the next piece otherwise.
        """
        normaliser = self._normalisers[limits + 1] if self._alpha > 0 else self._normalisers[length + 1]
        return scores.amax(1) / normaliser


@torch.no_grad()
def search(
    step: Step[AnyState],
    state: AnyState,
    *,
    source_lengths: Tensor,
    options: SearchOptions,
    bos: int,
    eos: int,
    forbidden: Sequence[int] = (),
    generator: torch.Generator | None = None,
    keep_weights: bool = True,
    rows_at_once: int | None = None,
) -> list[list[Hypothesis]]:
    """Decode a batch of sentences.

    A sentence is done when none of its live hypotheses can still be ranked above its ``n_best``-th ended one; stopping
    there never changes the result. It leaves the batch then, or a little later together with others. Live hypotheses
    are compared by log-probability (they are equally long), ended ones by GNMT's score.

    Args:
        step: advances the decoder by one piece. The log-probabilities it predicts are overwritten here.
        state: the decoder's state, one row a sentence.
        source_lengths: [B], EOS counted, on the decoder's device.
        options: how to search.
        bos: id of the first input.
        eos: id that ends a hypothesis.
        forbidden: ids that are never produced.
        generator: for sampling, on the decoder's device; None: torch's own.
        keep_weights: keep every step's attention for the hypotheses, B * K * S numbers a step. The search itself does
            not need them, not even for the coverage penalty, which sums as it goes.
        rows_at_once: hypotheses (but at least one sentence) whose log-probabilities exist at a time; None for all.

    Returns:
        For every sentence its ``n_best`` hypotheses, best first; fewer where there are no more (beam above vocabulary).
        Where every sequence has probability 0, one empty hypothesis of score -inf.
    """
    if not len(source_lengths):
        return []
    limits = options.maximum_lengths(source_lengths)
    choose, candidates = _chooser(options, generator), None if options.sample else options.beam
    ranking = _Ranking(options, limits)
    constraints = Constraints(
        limits=limits,
        min_length=options.min_length,
        no_repeat_ngram=options.no_repeat_ngram,
        eos=eos,
        forbidden=forbidden,
    )
    history = History(len(source_lengths), keep_weights=keep_weights)
    live = _Live.first(source_lengths, limits, bos, options)
    length = 0
    while len(live.sentences):
        predict, state, weights = step(live.tokens, state)
        choice = _choose(predict, live, constraints, choose, candidates, length=length, rows=rows_at_once)
        length += 1
        live, state = _advance(live, state, choice, weights, length=length, eos=eos, ranking=ranking, history=history)
    return history.best(options.n_best)


def _chooser(options: SearchOptions, generator: torch.Generator | None) -> Choose:
    """Return the way of choosing pieces that ``options`` ask for."""
    if options.sample:
        return partial(
            choose_sample,
            samples=options.n_best,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            generator=generator,
        )
    return choose_greedy if options.beam == 1 else partial(choose_beam, beam=options.beam)


def _choose(
    predict: Predict,
    live: _Live,
    constraints: Constraints,
    choose: Choose,
    candidates: int | None,
    *,
    length: int,
    rows: int | None,
) -> Choice:
    """Return the hypotheses of ``length + 1`` pieces, chosen for a few sentences at a time.

    Where so many ``candidates`` of each hypothesis are enough, and nothing is excluded but what always is, the rest is
    not made.
    """
    best = None if candidates is None or constraints.bind(length) else predict.best(candidates, constraints.forbidden)
    if best is not None:
        log_probs, tokens = best
        return pick(choose(log_probs, live.scores), tokens)
    count, beams = live.tokens.shape
    sentences = count if rows is None else max(1, rows // beams)
    choices = []
    for start in range(0, count, sentences):
        part = slice(start, start + sentences)
        log_probs = predict(part)
        prefixes = None if live.prefixes is None else live.prefixes[part]
        constraints.apply(log_probs, length=length, limits=live.limits[part], prefixes=prefixes)
        choices.append(choose(log_probs, live.scores[part]))
    return choices[0] if len(choices) == 1 else join(choices)


def _advance(
    live: _Live,
    state: AnyState,
    choice: Choice,
    weights: Tensor,
    *,
    length: int,
    eos: int,
    ranking: _Ranking,
    history: History,
) -> tuple[_Live, AnyState]:
    """Record a step of now ``length`` pieces; return what goes on and its state."""
    coverage = None
    if ranking.covers():
        coverage = weights if live.coverage is None else live.coverage + weights
    is_end = choice.tokens == eos
    ended = ranking.score(choice, length, coverage, live.source_lengths).masked_fill(~is_end, NEVER)
    history.add(live.sentences, choice, ended, weights)
    best = torch.cat([live.ended, ended], 1).topk(live.ended.size(1)).values
    scores = choice.scores.masked_fill(is_end, NEVER)
    live = live.follow(choice, scores, best, coverage)
    # the one place in a step where the host waits for the device
    keep = (ranking.bound(scores, length, live.limits) > best[:, -1]).nonzero().squeeze(1)
    if not len(keep) or len(keep) <= len(scores) * (1 - _LEAVING):
        return live.rows(keep), _select(state, choice, keep)
    return live, state if choice.parents is None else state.select(choice.parents, None)


def _select(state: AnyState, choice: Choice, keep: Tensor) -> AnyState:
    """Return the decoder's state of the sentences in rows ``keep``; where none is left it does not matter."""
    if not len(keep):
        return state
    if choice.parents is None:
        beams = torch.arange(choice.tokens.size(1), device=keep.device)
        return state.select(beams.expand(len(keep), -1), keep)
    return state.select(choice.parents[keep], keep)


def _reorder(values: Tensor, parents: Tensor | None) -> Tensor:
    """Return ``values`` [B, K, ...] of the ``parents`` [B, K']."""
    if parents is None:
        return values
    return values[torch.arange(len(values), device=parents.device)[:, None], parents]
