import math
import weakref

import pytest
import torch
from table_model import (
    BOS,
    EOS,
    TableModel,
    Whole,
    attention,
    enumerate_all,
    is_descending,
    key_of,
    limit,
    log_prob,
    score,
    slow_beam,
)

from nmt.search import SearchOptions, search

LENGTHS = [4, 2, 5, 3, 2]
PENALTIES = [
    {},
    {"length_penalty": 0.0},
    {"length_penalty": -0.7},
    {"length_penalty": 2.0},
    {"length_penalty": 0.6, "coverage_penalty": 0.4},
    {"length_penalty": -0.3, "coverage_penalty": 0.4},
    {"min_length": 2},
    {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 2, "min_length": 3, "coverage_penalty": 0.2},
]


def run(model, options, forbidden=(), **more):
    return search(
        model.step,
        model.start(),
        source_lengths=model.source_lengths,
        options=options,
        bos=BOS,
        eos=EOS,
        forbidden=forbidden,
        **more,
    )


def check(found, expected):
    assert [hypothesis.tokens for hypothesis in found] == [tokens for _, tokens in expected]
    assert [hypothesis.score for hypothesis in found] == pytest.approx([value for value, _ in expected], abs=1e-4)


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
@pytest.mark.parametrize("forbidden", [(), (BOS,)])
def test_a_beam_of_all_sequences_equals_enumeration(penalties, forbidden):
    model = TableModel(vocabulary=4, source_lengths=LENGTHS, seed=1)
    options = SearchOptions(beam=4**4, n_best=7, max_length_ratio=1.0, max_length_offset=0, **penalties)
    for sentence, found in enumerate(run(model, options, forbidden)):
        check(found, enumerate_all(model, sentence, options, forbidden)[:7])


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
@pytest.mark.parametrize(("beam", "n_best"), [(2, 1), (3, 3), (5, 2), (9, 9)])
def test_equals_a_search_that_never_stops_early(penalties, beam, n_best):
    for seed in range(3):
        model = TableModel(vocabulary=7, source_lengths=[3, 5, 2, 6], seed=seed, eos_bias=1.0)
        options = SearchOptions(beam=beam, n_best=n_best, max_length_ratio=1.5, max_length_offset=1, **penalties)
        for sentence, found in enumerate(run(model, options, (BOS,))):
            check(found, slow_beam(model, sentence, options, (BOS,)))


def test_a_vocabulary_of_many_blocks_and_a_rest():
    model = TableModel(vocabulary=203, source_lengths=[3, 2], seed=5)
    options = SearchOptions(beam=4, n_best=4, max_length_offset=3)
    for sentence, found in enumerate(run(model, options, (0, 70, 202))):
        check(found, slow_beam(model, sentence, options, (0, 70, 202)))


@pytest.mark.parametrize("penalties", PENALTIES, ids=str)
def test_a_beam_of_one_is_greedy(penalties):
    model = TableModel(vocabulary=6, source_lengths=LENGTHS, seed=2)
    options = SearchOptions(beam=1, **penalties)
    for sentence, (found,) in enumerate(run(model, options)):
        check([found], slow_beam(model, sentence, options))


def test_scores_and_weights_are_the_models_for_the_same_tokens():
    model = TableModel(vocabulary=9, source_lengths=[7, 2, 4, 6], seed=3)
    options = SearchOptions(beam=4, n_best=4, coverage_penalty=0.3, length_penalty=0.8)
    for sentence, found in enumerate(run(model, options)):
        for hypothesis in found:
            assert EOS not in hypothesis.tokens
            assert hypothesis.log_prob == pytest.approx(log_prob(model, sentence, hypothesis.tokens), abs=1e-4)
            assert hypothesis.score == pytest.approx(score(model, sentence, hypothesis.tokens, options), abs=1e-4)
            assert hypothesis.weights.dtype == torch.float32
            torch.testing.assert_close(hypothesis.weights, attention(model, sentence, hypothesis.tokens))


@pytest.mark.parametrize("penalties", [{"beam": 1}, {"beam": 4, "n_best": 4, "coverage_penalty": 0.3}], ids=str)
def test_weights_are_kept_only_on_demand(penalties):
    model = TableModel(vocabulary=9, source_lengths=[7, 2, 4, 6], seed=3)

    def found_and_alive(*, keep_weights):
        """The hypotheses, and of each step how many steps' weights were still held at its end."""
        held, alive = [], []

        def step(tokens, state):
            predict, after, weights = model.step(tokens, state)
            held.append(weakref.ref(weights))
            alive.append(sum(reference() is not None for reference in held))
            return predict, after, weights

        options = SearchOptions(min_length=5, **penalties)
        lengths = model.source_lengths
        found = search(
            step, model.start(), source_lengths=lengths, options=options, bos=BOS, eos=EOS, keep_weights=keep_weights
        )
        return found, alive

    many, all_alive = found_and_alive(keep_weights=True)
    few, some_alive = found_and_alive(keep_weights=False)
    assert all_alive == list(range(1, len(all_alive) + 1))
    assert max(some_alive) <= 3 < len(some_alive)
    for with_weights, without in zip(many, few, strict=True):
        told = [[(h.tokens, h.score, h.log_prob) for h in hypotheses] for hypotheses in (with_weights, without)]
        assert told[0] == told[1]
        assert all(hypothesis.weights.shape == (0, 7) for hypothesis in without)


def test_n_best_is_ordered_and_without_repetition():
    model = TableModel(vocabulary=8, source_lengths=[5, 6, 3], seed=4)
    for found in run(model, SearchOptions(beam=6, n_best=6)):
        assert len(found) == 6
        assert is_descending([hypothesis.score for hypothesis in found])
        assert len({tuple(hypothesis.tokens) for hypothesis in found}) == 6


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_rest_of_the_batch_changes_nothing(size):
    lengths, options = [6, 2, 4, 3, 9], SearchOptions(beam=3, n_best=2)
    together = run(TableModel(vocabulary=11, source_lengths=lengths, seed=6), options)
    # the longest stays, so that both models have the same tables
    part = run(TableModel(vocabulary=11, source_lengths=[*lengths[:size], 9], seed=6), options)
    for few, many in zip(part[:size], together, strict=False):
        assert [(h.tokens, h.score, h.log_prob) for h in few] == [(h.tokens, h.score, h.log_prob) for h in many]


def test_beam_above_the_vocabulary_starts_narrow_and_fills():
    model = TableModel(vocabulary=3, source_lengths=[4, 4], seed=0)
    options = SearchOptions(beam=10, n_best=10, max_length_ratio=1.0, max_length_offset=0)
    found = run(model, options, (BOS,))
    # without BOS and EOS one piece is left: as many translations as lengths 0 ... 3
    assert [len(hypotheses) for hypotheses in found] == [4, 4]
    assert [width for _, width in model.batches] == [1, 3, 9, 10]


def test_finished_sentences_leave_the_batch_and_nothing_runs_after_the_bound():
    model = TableModel(vocabulary=5, source_lengths=[2, 3, 5, 9], seed=0)
    run(model, SearchOptions(beam=1, min_length=50, max_length_ratio=1.0, max_length_offset=0))
    assert [rows for rows, _ in model.batches] == [4, 4, 3, 2, 2, 1, 1, 1, 1]

    certain = TableModel(vocabulary=5, source_lengths=[9, 9], seed=0, eos_bias=30.0)
    run(certain, SearchOptions(beam=3))
    assert certain.batches == [(2, 1)]


def test_the_bound_does_not_stop_before_a_longer_hypothesis_wins():
    # EOS at once has log .45; a a a a a EOS has log .35, wins by its length, but would not yet win as a EOS
    table = torch.full((7, 3), -math.inf)
    table[0, EOS], table[0, 2] = math.log(0.45), math.log(0.35)
    table[1:, 2] = 0.0
    table[5, 2], table[5, EOS] = -math.inf, 0.0

    class Clock:
        def __init__(self, time):
            self.time = time

        def select(self, beams, sentences):
            return self

    def step(tokens, clock):
        rows = table[clock.time].repeat(*tokens.shape, 1)
        return Whole(rows.__getitem__), Clock(clock.time + 1), torch.ones(*tokens.shape, 1)

    def tokens(penalty):
        options = SearchOptions(beam=2, length_penalty=penalty)
        (found,) = search(
            step, Clock(0), source_lengths=torch.tensor([3]), options=options, bos=BOS, eos=EOS, forbidden=()
        )
        return found[0].tokens

    assert tokens(0.0) == []
    assert tokens(1.0) == [2] * 5


@pytest.mark.parametrize("penalties", [*PENALTIES, {"beam": 1, "n_best": 1}], ids=str)
@pytest.mark.parametrize("rows", [1, 2, 6])
def test_predicting_for_a_few_sentences_at_a_time_changes_nothing(penalties, rows):
    model = TableModel(vocabulary=70, source_lengths=[3, 5, 2, 6, 4, 4, 9], seed=4, eos_bias=1.0)
    options = SearchOptions(**{"beam": 3, "n_best": 2, "max_length_offset": 1, **penalties})
    asked = []

    def step(tokens, state):
        predict, after, weights = model.step(tokens, state)

        def noted(part):
            log_probs = predict(part)
            asked.append((len(tokens), *log_probs.shape[:2]))
            return log_probs

        return Whole(noted), after, weights

    together = run(model, options, (BOS,))
    parts = search(
        step,
        model.start(),
        source_lengths=model.source_lengths,
        options=options,
        bos=BOS,
        eos=EOS,
        forbidden=(BOS,),
        rows_at_once=rows,
    )
    for one, other in zip(together, parts, strict=True):
        assert [(h.tokens, h.score, h.log_prob) for h in one] == [(h.tokens, h.score, h.log_prob) for h in other]
        assert all(torch.equal(h.weights, o.weights) for h, o in zip(one, other, strict=True))
    assert all(sentences * beams <= max(rows, beams) for _, sentences, beams in asked)
    assert any(sentences < batch for batch, sentences, _ in asked)


def test_of_a_large_batch_sentences_leave_together():
    # sentence i ends with its step i + 2, but two more than that are needed for a sixteenth
    lengths = list(range(2, 42))
    model = TableModel(vocabulary=7, source_lengths=lengths, seed=0)
    options = SearchOptions(beam=2, n_best=2, min_length=99, max_length_ratio=1.0, max_length_offset=0)
    found = run(model, options, (BOS,))
    for sentence, hypotheses in enumerate(found):
        check(hypotheses, slow_beam(model, sentence, options, (BOS,)))
    rows = [batch for batch, _ in model.batches]
    assert rows == sorted(rows, reverse=True)
    assert rows[:8] == [40, 40, 40, 40, 37, 37, 37, 34]
    assert rows[-1] == 1


@pytest.mark.parametrize("penalty", [-0.5, 0.0, 1.0])
def test_what_a_waiting_sentence_still_finds_is_not_taken(penalty):
    # sentence 7 is done with its first step, the others go on and it with them
    model = TableModel(vocabulary=5, source_lengths=[4] * 40, seed=3)
    model.log_probs[:, EOS] = -9.0
    model.log_probs[key_of(7, [BOS])] = torch.tensor([-9.0, -0.001, -8.0, -9.0, -9.0])
    options = SearchOptions(beam=2, n_best=1, length_penalty=penalty)
    found = run(model, options, (BOS,))
    assert [rows for rows, _ in model.batches[:3]] == [40] * 3
    for sentence, hypotheses in enumerate(found):
        check(hypotheses, slow_beam(model, sentence, options, (BOS,)))
    assert found[7][0].tokens == []


def test_select_gets_every_reordering_with_its_shape():
    model = TableModel(vocabulary=7, source_lengths=[3, 8], seed=0)
    state = model.start()
    options = SearchOptions(beam=4, min_length=99, max_length_ratio=1.0, max_length_offset=0)
    search(model.step, state, source_lengths=model.source_lengths, options=options, bos=BOS, eos=EOS)
    # limits 2 and 7: the first sentence leaves after its third step
    assert state.calls == [((2, 4), False), ((2, 4), False), ((1, 4), True), *[((1, 4), False)] * 4]


def test_greedy_moves_state_only_when_a_sentence_leaves():
    model = TableModel(vocabulary=7, source_lengths=[3, 8], seed=0)
    state = model.start()
    options = SearchOptions(beam=1, min_length=99, max_length_ratio=1.0, max_length_offset=0)
    search(model.step, state, source_lengths=model.source_lengths, options=options, bos=BOS, eos=EOS)
    assert state.calls == [((1, 1), True)]


def test_lengths_stay_between_minimum_and_maximum():
    model = TableModel(vocabulary=6, source_lengths=[1, 3, 7, 11], seed=8)
    options = SearchOptions(beam=4, n_best=4, min_length=4, max_length_ratio=0.5, max_length_offset=1)
    for sentence, found in enumerate(run(model, options, (BOS,))):
        most = limit(model, sentence, options)
        assert all(min(4, most) <= len(hypothesis.tokens) <= most for hypothesis in found)
        assert not any(BOS in hypothesis.tokens for hypothesis in found)


def test_a_maximum_of_zero_gives_an_empty_translation():
    model = TableModel(vocabulary=6, source_lengths=[1, 3])
    empty, other = run(model, SearchOptions(beam=3, max_length_ratio=1.0, max_length_offset=0))
    assert empty[0].tokens == []
    assert empty[0].log_prob == pytest.approx(log_prob(model, 0, []))
    assert empty[0].weights.shape == (1, 3)
    check(other, slow_beam(model, 1, SearchOptions(beam=3, max_length_ratio=1.0, max_length_offset=0)))


def test_where_nothing_may_follow_the_minimum_length_yields():
    model = TableModel(vocabulary=5, source_lengths=[9])
    options = SearchOptions(beam=2, min_length=8, no_repeat_ngram=1)
    ((found,),) = run(model, options, (BOS,))
    assert sorted(found.tokens) == [2, 3, 4]


def test_no_bigram_occurs_twice():
    model = TableModel(vocabulary=5, source_lengths=[20, 20], seed=1)
    options = SearchOptions(beam=3, n_best=3, no_repeat_ngram=2, min_length=5)
    for hypothesis in sum(run(model, options, (BOS,)), []):
        bigrams = list(zip(hypothesis.tokens, hypothesis.tokens[1:], strict=False))
        assert len(bigrams) >= 4
        assert len(set(bigrams)) == len(bigrams)


def test_an_impossible_sentence_gives_an_empty_hypothesis():
    model = TableModel(vocabulary=4, source_lengths=[3, 3])
    model.log_probs[:, EOS] = -math.inf
    found = run(model, SearchOptions(beam=2))
    assert [hypothesis.tokens for (hypothesis,) in found] == [[], []]
    assert found[0][0].score == -math.inf
    assert found[0][0].weights.tolist() == [[0, 0, 0]]
    assert run(model, SearchOptions(beam=2), keep_weights=False)[0][0].weights.shape == (0, 3)


def test_no_sentences():
    model = TableModel(vocabulary=4, source_lengths=[3])
    empty = torch.empty(0, dtype=torch.long)
    assert search(model.step, model.start(), source_lengths=empty, options=SearchOptions(), bos=BOS, eos=EOS) == []


class Moved:
    """A state whose model answers from another device than the table's."""

    def __init__(self, state):
        self.state = state

    def select(self, beams, sentences):
        return Moved(self.state.select(beams.cpu(), None if sentences is None else sentences.cpu()))


CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
)


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("penalties", [*PENALTIES, {"sample": True, "top_k": 3, "top_p": 0.9}], ids=str)
def test_on_a_device(device, penalties):
    model = TableModel(vocabulary=70, source_lengths=LENGTHS, seed=1, eos_bias=3.0)
    options = SearchOptions(beam=4, n_best=4, max_length_ratio=1.0, max_length_offset=2, **penalties)

    def step(tokens, moved):
        predict, state, weights = model.step(tokens.cpu(), moved.state)
        return Whole(lambda part: predict(part).to(device)), Moved(state), weights.to(device)

    found = search(
        step,
        Moved(model.start()),
        source_lengths=model.source_lengths.to(device),
        options=options,
        bos=BOS,
        eos=EOS,
        generator=torch.Generator(device).manual_seed(1),
    )
    assert [len(hypotheses) for hypotheses in found] == [4] * len(LENGTHS)
    assert all(hypothesis.weights.device.type == "cpu" for hypotheses in found for hypothesis in hypotheses)
    for sentence, hypotheses in enumerate(found):
        if not options.sample:
            check(hypotheses, slow_beam(model, sentence, options))


@pytest.mark.parametrize("penalties", [{}, {"length_penalty": 0.0}, {"min_length": 3}, {"no_repeat_ngram": 2}], ids=str)
@pytest.mark.parametrize("beam", [1, 4])
def test_the_best_pieces_are_enough(beam, penalties):
    lengths = [3, 5, 2, 6]
    options = SearchOptions(beam=beam, n_best=beam, max_length_ratio=1.0, max_length_offset=2, **penalties)
    found = []
    for offers_best in (False, True):
        model = TableModel(vocabulary=70, source_lengths=lengths, seed=2, eos_bias=2.0)
        model.offers_best = offers_best
        found.append(run(model, options, (BOS,)))
    for one, other in zip(*found, strict=True):
        assert [(each.tokens, each.score) for each in one] == [(each.tokens, each.score) for each in other]
