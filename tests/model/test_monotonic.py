import math

import pytest
import torch
from numpy_model import array, unroll
from reference import family
from toys import close, random, toy_batch, toy_model

from nmt.data.vocabulary import BOS
from nmt.errors import ConfigError
from nmt.model.attention import Keys, Memory, Monotonic
from nmt.model.attention.monotonic import _expected
from nmt.model.encoder import mask_from_lengths

B, K, T, S, H = 3, 2, 4, 7, 5
LENGTHS = (7, 1, 4)  # EOS counted


def make(noise=0.0, offset=-0.25):
    return Monotonic(noise, offset).double()


def make_memory():
    lengths = torch.tensor(LENGTHS)
    mask = mask_from_lengths(lengths, S)
    return Memory(Keys(), mask, mask, lengths - 1, None)


def make_scores(size=2.0):
    """Scores [B, K, T, S] with junk, even infinities, where padding is."""
    scores = size * random(B, K, T, S, seed=1)
    scores[2, ..., 4], scores[2, ..., 5], scores[2, ..., 6] = math.inf, -math.inf, 1e300
    scores[1, ..., 1:] = 1e300
    return scores


def unrolled(alignment, scores):
    """Weights [B, K, T, S] of T steps for K hypotheses a sentence."""
    memory, weights = make_memory(), []
    state = alignment.start(memory.mask, scores)
    for t, step in enumerate(scores.unbind(2)):
        aligned = alignment.align(step, random(B, K, H), memory, t, state)
        assert torch.equal(aligned.state[0], aligned.weights)
        state = aligned.state
        weights.append(aligned.weights)
    return torch.stack(weights, 2)


def assert_equal_to_reference(weights, scores, reference, noise=None):
    for b, length in enumerate(LENGTHS):
        assert not weights[b, ..., length:].any(), "weight on padding"
        for k in range(K):
            drawn = 0.0 if noise is None else array(noise[b, k, :, :length])
            P = family.selection(array(scores[b, k, :, :length]), -0.25, drawn)  # noqa: N806
            assert array(weights[b, k, :, :length]) == close(reference(P))


def test_training_weights_are_the_expectation():
    alignment, scores = make(), make_scores()
    weights = unrolled(alignment, scores)
    assert_equal_to_reference(weights, scores, family.monotonic_expectation)
    assert (weights.sum(-1) <= 1 + 1e-12).all() and (weights.sum(-1) < 0.9).any()


def test_noise_is_drawn_before_the_sigmoid_in_training_alone():
    alignment, scores = make(noise=0.7), make_scores()
    torch.manual_seed(5)
    noise = 0.7 * torch.stack([torch.randn(B, K, S, dtype=torch.float64) for _ in range(T)], 2)
    torch.manual_seed(5)
    weights = unrolled(alignment, scores)
    assert_equal_to_reference(weights, scores, family.monotonic_expectation, noise)
    assert torch.equal(unrolled(alignment.eval(), scores), unrolled(make().eval(), scores))


def test_otherwise_the_first_stop_takes_all():
    scores = make_scores()
    weights = unrolled(make().eval(), scores)
    assert_equal_to_reference(weights, scores, family.monotonic_hard)
    assert set(weights.unique().tolist()) == {0.0, 1.0}


def test_a_reader_past_the_end_reads_nothing_more():
    scores = torch.full((B, K, T, S), -1.0, dtype=torch.float64)
    scores[:, :, 0, 2] = scores[:, :, 1, 1] = scores[:, :, 2:] = 1.0
    weights = unrolled(make(offset=0.0).eval(), scores)
    assert weights[0, 0, 0].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert not weights[0, 0, 1:].any()
    # the second sentence has one position, which its first step does not take
    assert not weights[1].any()


@pytest.mark.parametrize("training", [True, False])
def test_hypotheses_do_not_mix(training):
    scores = make_scores()
    alignment = make().train(training)
    both = unrolled(alignment, scores)
    for k in range(K):
        assert array(unrolled(alignment, scores[:, [k]])[:, 0]) == close(both[:, k])


def test_forbidden_positions_are_passed():
    scores = make_scores()
    scores[0, ..., 3:] = -math.inf
    scores.requires_grad_()
    weights = unrolled(make(), scores)
    assert not weights[0, ..., 3:].any() and weights[0, ..., :3].all()
    weights.sum().backward()
    assert scores.grad.isfinite().all() and not scores.grad[0, ..., 3:].any()


def test_gradient():
    memory, scores = make_memory(), 2 * random(B, K, S, seed=3)
    before = torch.softmax(random(B, K, S, seed=4), -1) * memory.mask.unsqueeze(1)
    alignment = make()

    def weights(scores, before, offset):
        shifted = torch.where(memory.mask.unsqueeze(1), scores + offset, -math.inf)
        return _expected(shifted, before)

    given = [each.requires_grad_() for each in (scores, before, alignment.offset.detach().clone())]
    assert torch.autograd.gradcheck(weights, given)


@pytest.mark.parametrize("size", [30.0, 150.0])
def test_sure_choices_are_exact_in_single_precision(size):
    scores = size * random(1, 1, 12, 40, seed=6)
    memory = Memory(Keys(), None, torch.ones(1, 40, dtype=torch.bool), torch.tensor([39]), None)
    alignment = make(offset=0.0).float()
    single = scores.float().requires_grad_()
    state, found = alignment.start(memory.mask, single), []
    for t, step in enumerate(single.unbind(2)):
        aligned = alignment.align(step, step, memory, t, state)
        state = aligned.state
        found.append(aligned.weights[0, 0])
    expected = family.monotonic_expectation(family.selection(array(scores[0, 0].float().double()), 0.0))
    assert array(torch.stack(found)) == close(expected, 1e-5)
    torch.stack(found).square().sum().backward()
    assert single.grad.isfinite().all()


def test_small_probabilities_keep_their_digits():
    scores = torch.cat([torch.full((1, 1, 30), 80.0), random(1, 1, 10, seed=7).float() + 6], -1)
    before = torch.zeros(1, 1, 40).index_fill_(-1, torch.tensor(30), 1.0)
    expected = family.monotonic_step(family.selection(array(scores[0, 0].double()), 0.0), array(before[0, 0]))
    found = array(_expected(scores, before)[0, 0])
    assert found == pytest.approx(expected, rel=1e-5)


def test_wrong_options_are_refused():
    for noise in (-0.1, math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"alignment.noise={noise} is not accepted; it must be at least 0"):
            Monotonic(noise)
    with pytest.raises(ConfigError, match="alignment.offset=nan is not accepted; it must be a finite number"):
        Monotonic(offset=math.nan)


# the whole model where it is hard; the contract's tests have it in training


def hard_model(*overrides):
    """A model that reads something: an untrained one may run past the end at once."""
    model = toy_model("attention=monotonic", *overrides, cell="gru").eval()
    model.decoder.attention.alignment.offset.data.fill_(0.1)
    return model


def test_whole_and_steps_equal_the_paper_where_it_is_hard():
    model, batch = hard_model(), toy_batch()
    with torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        state, rows = model.encode(batch.source, batch.source_lengths), []
        for tokens in batch.target_in.unbind(1):
            step = model.step(tokens.unsqueeze(1), state)
            state = step.state
            rows.append(step.weights)
    assert array(torch.cat(rows, 1)) == close(decoded.weights)
    assert decoded.weights.any(), "the test should see something read"
    for b, (words, tokens) in enumerate(zip(batch.source_lengths, batch.target_lengths, strict=True)):
        expected = unroll(model, batch.source[b, :words].numpy(), batch.target_in[b, :tokens].numpy())
        assert array(decoded.weights[b, :tokens, :words]) == close(expected.weights)
        assert array(decoded.readouts[b, :tokens]) == close(expected.readouts)


def test_beams_take_their_place_in_the_source_with_them():
    model, batch = hard_model("attention.coverage=true"), toy_batch()
    beams = torch.tensor([[1, 0], [0, 0], [1, 1]])
    words = torch.tensor([[5, 9], [6, 6], [14, 7]])
    with torch.no_grad():
        state = model.encode(batch.source, batch.source_lengths)
        state = model.step(torch.full((B, 1), BOS), state).state.select(torch.zeros(B, 2, dtype=torch.long))
        state = model.step(words, state).state
        step = model.step(words + 1, state.select(beams))
        for k in range(2):
            history = [torch.full((B,), BOS), words[torch.arange(B), beams[:, k]], words[:, k] + 1]
            whole = model(batch.source, batch.source_lengths, torch.stack(history, 1))
            assert array(step.weights[:, k]) == close(whole.weights[:, -1])
