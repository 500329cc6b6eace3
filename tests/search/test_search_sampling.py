from collections import Counter

import pytest
import torch
from table_model import BOS, EOS, TableModel, attention, is_descending, key_of, log_prob, score

from nmt.search import SearchOptions, search
from nmt.search.sampling import _draw

DRAWS = 20_000


def draw(model, seed=0, **options):
    return search(
        model.step,
        model.start(),
        source_lengths=model.source_lengths,
        options=SearchOptions(sample=True, **options),
        bos=BOS,
        eos=EOS,
        generator=torch.Generator().manual_seed(seed),
    )


def first_pieces(model, **options):
    """Return the frequencies [V] of the first piece in DRAWS samples of at most one piece."""
    (samples,) = draw(model, n_best=DRAWS, max_length_ratio=0.0, max_length_offset=1, **options)
    assert len(samples) == DRAWS
    counts = Counter(sample.tokens[0] if sample.tokens else EOS for sample in samples)
    return torch.tensor([counts[piece] / DRAWS for piece in range(model.vocabulary)])


def truth(model, temperature=1.0, top_k=0, top_p=1.0):
    """Return the distribution that is drawn from, piece by piece."""
    masses = (model.log_probs[key_of(0, [BOS])].double() / temperature).exp().tolist()
    order = sorted(range(len(masses)), key=lambda piece: -masses[piece])[: top_k or None]
    total, kept, running = sum(masses[piece] for piece in order), [], 0.0
    for piece in order:
        if running < top_p * total:
            kept.append(piece)
        running += masses[piece]
    probabilities = torch.zeros(len(masses))
    for piece in kept:
        probabilities[piece] = masses[piece] / sum(masses[p] for p in kept)
    return probabilities


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 2.5},
        {"top_k": 3},
        {"top_k": 50},
        {"top_p": 0.7},
        {"top_k": 4, "top_p": 0.6, "temperature": 1.4},
    ],
    ids=str,
)
def test_frequencies_follow_the_distribution(options):
    model = TableModel(vocabulary=11, source_lengths=[4], seed=3)
    frequencies, expected = first_pieces(model, **options), truth(model, **options)
    assert (frequencies[expected == 0] == 0).all()
    # four standard deviations of a binomial frequency
    assert ((frequencies - expected).abs() <= 4 * (expected * (1 - expected) / DRAWS).sqrt() + 1e-6).all()


def test_top_p_takes_no_piece_once_its_share_is_reached():
    model = TableModel(vocabulary=4, source_lengths=[3])
    model.log_probs[key_of(0, [BOS])] = torch.tensor([0.2, 0.0, 0.5, 0.3]).log()
    assert first_pieces(model, top_p=0.4999).tolist() == [0, 0, 1, 0]
    assert (first_pieces(model, top_p=0.5001) > 0).tolist() == [False, False, True, True]


@pytest.mark.parametrize(("uniform", "place"), [(0.0, 1), (1.0, 2)])
def test_the_ends_of_the_unit_interval_draw_no_piece_of_mass_zero(monkeypatch, uniform, place):
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    assert _draw(torch.tensor([[0.0, 0.3, 0.7, 0.0]]), 2, None).tolist() == [[place, place]]


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-30}], ids=str)
def test_the_narrowest_sampling_is_greedy(options):
    model = TableModel(vocabulary=70, source_lengths=[4, 2, 6], seed=3)
    greedy = search(
        model.step,
        model.start(),
        source_lengths=model.source_lengths,
        options=SearchOptions(beam=1),
        bos=BOS,
        eos=EOS,
    )
    for (best,), samples in zip(greedy, draw(model, n_best=2, **options), strict=True):
        assert [sample.tokens for sample in samples] == [best.tokens] * 2
        assert samples[0].score == pytest.approx(best.score, abs=1e-5)


@pytest.mark.parametrize("n_best", [1, 5])
def test_samples_carry_the_models_score_and_weights(n_best):
    model = TableModel(vocabulary=9, source_lengths=[5, 2, 7, 3], seed=1)
    options = {"n_best": n_best, "temperature": 0.8, "top_k": 6, "coverage_penalty": 0.2, "min_length": 2}
    for sentence, samples in enumerate(draw(model, **options)):
        assert len(samples) == n_best
        assert is_descending([sample.score for sample in samples])
        for sample in samples:
            assert len(sample.tokens) >= 2
            assert sample.log_prob == pytest.approx(log_prob(model, sentence, sample.tokens), abs=1e-4)
            expected = score(model, sentence, sample.tokens, SearchOptions(sample=True, **options))
            assert sample.score == pytest.approx(expected, abs=1e-4)
            torch.testing.assert_close(sample.weights, attention(model, sentence, sample.tokens))


def test_the_generator_decides():
    def tokens(seed):
        model = TableModel(vocabulary=9, source_lengths=[5, 9, 7], seed=1, eos_bias=-2.0)
        return [[sample.tokens for sample in samples] for samples in draw(model, seed=seed, n_best=3)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_finished_sentences_leave_the_batch():
    model = TableModel(vocabulary=9, source_lengths=[2, 5, 9], seed=1)
    draw(model, n_best=2, min_length=99, max_length_ratio=1.0, max_length_offset=0)
    assert [rows for rows, _ in model.batches] == [3, 3, 2, 2, 2, 1, 1, 1, 1]
    assert [width for _, width in model.batches] == [1] + [2] * 8


def test_forbidden_pieces_and_repeated_ngrams_are_not_drawn():
    model = TableModel(vocabulary=6, source_lengths=[5], seed=1)
    samples = search(
        model.step,
        model.start(),
        source_lengths=model.source_lengths,
        options=SearchOptions(sample=True, n_best=200, no_repeat_ngram=1),
        bos=BOS,
        eos=EOS,
        forbidden=(BOS, 3),
        generator=torch.Generator().manual_seed(0),
    )[0]
    assert {piece for sample in samples for piece in sample.tokens} == {2, 4, 5}
    assert all(len(set(sample.tokens)) == len(sample.tokens) for sample in samples)
