"""Alignments that draw a position in training: against the references where the draw is given, and on average."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from numpy_model import array
from reference import attention, objectives
from toys import close, gradients, ids, new_model, random, randomised, rows, toy_batch, toy_model

from nmt.data.batches import EncodedPairs
from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.attention import GumbelSoftmax, Keys, Memory, SampledAlignment, sampled
from nmt.model.attention.base import one_hot_argmax
from nmt.model.encoder import mask_from_lengths
from nmt.training.loss import batch_loss

B, T, S, H = 3, 4, 6, 5
SOURCES, TARGETS = (6, 1, 4), (4, 2, 3)  # EOS counted
CHOICES = torch.tensor([[0, 5, 2, 2], [0, 0, 0, 0], [3, 1, 3, 0]])


def memory_of(alignment, lengths=SOURCES):
    counted = torch.tensor(lengths)
    mask = mask_from_lengths(counted, max(lengths))
    return Memory(Keys(), mask, mask, counted - 1, alignment.prepare())


def make_scores(size=2.0):
    """Scores with junk where padding is."""
    scores = size * random(B, T, S, seed=1)
    scores[2, :, 4], scores[2, :, 5] = math.inf, 1e300
    return scores.requires_grad_()


def real(numbers, b, t=slice(None)):
    """Those of a sentence's real source positions."""
    return array(numbers[b, t, ..., : SOURCES[b]])


def test_one_hot_at_the_first_of_the_largest():
    weights = torch.tensor([[0.2, 0.4, 0.4], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert one_hot_argmax(weights).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("make", [lambda: SampledAlignment(H), GumbelSoftmax])
def test_without_training_nothing_is_drawn(make):
    alignment = make().double().eval()
    before, memory, scores = torch.get_rng_state(), memory_of(alignment), make_scores()
    state = alignment.start(memory.mask, scores)
    found = alignment.align(scores, random(B, T, H), memory, 0, state)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.notes == ()
    for b, t in product(range(B), range(T)):
        weights = attention.softmax(real(scores, b, t))
        assert real(found.weights, b, t).tolist() == objectives.one_hot(objectives.argmax(weights), SOURCES[b]).tolist()
        assert not found.weights[b, t, SOURCES[b] :].any()


def test_positions_are_drawn_by_their_weight():
    torch.manual_seed(3)
    weights = torch.tensor([0.5, 0.0, 0.3, 0.15, 0.05], dtype=torch.float64)
    drawn = sampled.draw(weights.expand(4, 5000, 5))
    assert drawn.sum(-1).eq(1).all()
    shares = drawn.mean((0, 1))
    error = (weights * (1 - weights) / 20000).sqrt()
    assert ((shares - weights).abs() <= 4 * error).all()
    assert torch.equal(sampled.draw(torch.zeros(2, 5)), torch.zeros(2, 5))


def test_gumbel_noise():
    torch.manual_seed(3)
    noise = sampled.gumbel(torch.empty(100_000, dtype=torch.float64))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, rel=0.03)
    # the largest of log weight and noise is a draw by weight
    log_weights = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
    best = (log_weights + noise[:99_999].view(-1, 3)).argmax(-1).bincount() / 33_333
    assert best.tolist() == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


# REINFORCE


def reinforced(monkeypatch, soft=(False, False, False), *, fast=True, **options):
    """An alignment, its scores, query and nll, and what it made of them with the draws given."""
    alignment = randomised(SampledAlignment(H, **options).double())
    monkeypatch.setattr(sampled, "draw", lambda weights: torch.nn.functional.one_hot(CHOICES, S).to(weights.dtype))
    scores, query = make_scores(), random(B, T, H, seed=2).requires_grad_()
    nll, mask = random(B, T, seed=4).exp(), mask_from_lengths(torch.tensor(TARGETS), T)
    nll[~mask] = math.nan
    with arithmetic(fast=fast):
        found = alignment.align(scores, query, memory_of(alignment), 0, (torch.tensor(soft).view(B, 1, 1),))
    return alignment, scores, query, nll, mask, found


def expected_parts(alignment, scores, query, nll, b):
    """What the reference's functions take, of one sentence."""
    alpha = np.array([attention.softmax(each) for each in real(scores, b)])
    log_p = (-array(nll)[b]).tolist()
    u, b_0 = array(alignment.baseline.weight[0]), alignment.baseline.bias.item()
    baselines = [objectives.baseline(q, u, b_0) for q in array(query[b])]
    return alpha, CHOICES[b].tolist(), log_p, baselines


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("soft", [(False, False, False), (False, True, False), (True, True, True)])
@pytest.mark.parametrize("discount", [0.0, 0.7, 1.0])
def test_reinforce_equals_the_reference(monkeypatch, discount, soft, fast):
    options = {"gamma": discount, "lambda_r": 1.3, "lambda_e": 0.2}
    alignment, scores, query, nll, mask, found = reinforced(
        monkeypatch, soft, fast=fast, weight=1.3, entropy=0.2, discount=discount
    )
    loss = alignment.penalty(found.notes, nll, mask)
    loss.backward()
    total, of_u, of_b_0 = 0.0, np.zeros(H), 0.0
    for b in range(B):
        parts, real_mask = expected_parts(alignment, scores, query, nll, b), array(mask[b]).tolist()
        gradient = np.zeros((T, SOURCES[b]))
        if soft[b]:
            assert real(found.weights, b) == close(parts[0])
        else:
            assert array(found.weights[b].argmax(-1)).tolist() == CHOICES[b].tolist()
            total += objectives.reinforce(*parts, **options, mask=real_mask).loss
            gradient = objectives.reinforce_gradient(*parts, **options, mask=real_mask)
            in_u, in_b_0 = objectives.baseline_gradient(parts[2], array(query[b]), parts[3], discount, real_mask)
            of_u, of_b_0 = of_u + in_u, of_b_0 + in_b_0
        assert real(scores.grad, b) == close(gradient)
        assert not scores.grad[b, :, SOURCES[b] :].any(), "gradient on padding"
    assert loss.item() == pytest.approx(total, rel=1e-12)
    assert array(alignment.baseline.weight.grad[0]) == close(of_u)
    assert alignment.baseline.bias.grad.item() == pytest.approx(of_b_0, rel=1e-10)
    assert query.grad is None or not query.grad.any(), "the baseline must not move the decoder"


def test_the_share_of_soft_sentences():
    alignment = SampledAlignment(H, expectation=0.3)
    torch.manual_seed(1)
    (soft,) = alignment.start(torch.ones(20_000, S, dtype=torch.bool), torch.zeros(1))
    assert soft.shape == (20_000, 1, 1)
    assert soft.double().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 20_000))
    for share, expected in ((0.0, False), (1.0, True)):
        (soft,) = SampledAlignment(H, expectation=share).start(torch.ones(99, S, dtype=torch.bool), torch.zeros(1))
        assert soft.eq(expected).all()


def test_a_sentence_is_soft_at_all_its_steps_or_at_none():
    model, batch = toy_model("attention=hard_sample").train(), toy_batch((4, 3, 2) * 10, (5, 4, 6) * 10)
    torch.manual_seed(2)
    weights = model(batch.source, batch.source_lengths, batch.target_in).weights
    one_hot = (weights.amax(-1) == 1)[batch.target_mask.any(1)].double().mean(1)
    assert set(one_hot.tolist()) == {0.0, 1.0}


def test_all_soft_is_plain_attention():
    plain, batch = toy_model("attention=luong_general"), toy_batch()
    soft = toy_model("attention=hard_sample", "attention.alignment.expectation=1.0").train()
    soft.load_state_dict(plain.state_dict(), strict=False)
    found, expected = gradients(soft, batch), gradients(plain, batch)
    assert found.keys() - expected.keys() == {
        f"decoder.attention.alignment.baseline.{name}" for name in ("weight", "bias")
    }
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each, rtol=1e-12, atol=1e-12)


SAMPLED = ("attention=hard_sample", "attention.alignment.expectation=0", "attention.alignment.entropy=0")
UNFED = (*SAMPLED, "attention.wiring.input_feeding=false")
SCORE = "decoder.attention.score.projection.weight"


def gradient_of(model, loss):
    """Of the scores' and of the readout's parameters, which the draws and the words learn."""
    names = [SCORE, "decoder.readout.combine.weight"]
    parameters = dict(model.named_parameters())
    return torch.cat([each.flatten() for each in torch.autograd.grad(loss, [parameters[name] for name in names])])


def copies_of_a_pair(count):
    """A batch of one pair: 2 source positions and 3 target tokens."""
    source, target = ids(1, size=17, seed=8), ids(2, size=19, seed=9)
    return EncodedPairs.from_lists(source * count, target * count).batch(np.arange(count))


def exact_gradient(model, monkeypatch):
    """Of the expected loss: sum over all sequences of positions of their probability times the loss they give."""
    sequences = torch.tensor(list(product(range(2), repeat=3)))
    batch, step = copies_of_a_pair(len(sequences)), iter(range(9))

    def follow(weights):
        now = sequences if weights.shape[1] > 1 else sequences[:, next(step)].unsqueeze(1)
        return torch.nn.functional.one_hot(now, 2).to(weights.dtype)

    with monkeypatch.context() as patch:
        patch.setattr(sampled, "draw", follow)
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
    log_p = torch.log_softmax(model.output(decoded.readouts), -1).gather(2, batch.target_out.unsqueeze(2)).squeeze(2)
    probability = decoded.attended.notes[0].sum(1).exp()
    assert probability.sum().item() == pytest.approx(1)
    return gradient_of(model, (probability * -log_p.sum(1)).sum())


def deviations(model, exact, groups=60, count=400):
    """How many standard errors the mean gradient of many draws is away from the exact one, in the root mean square."""
    torch.manual_seed(6)
    batch = copies_of_a_pair(count)
    means = torch.stack([gradient_of(model, batch_loss(model, batch, 0.0).loss) / count for _ in range(groups)])
    error = means.std(0) / math.sqrt(groups)
    return ((means.mean(0) - exact) / error.clamp_min(1e-9)).square().mean().sqrt().item()


@pytest.mark.parametrize("variant", [UNFED, (*SAMPLED, "attention.alignment.discount=1.0")], ids=["unfed", "fed"])
def test_the_mean_gradient_is_that_of_the_expected_loss(variant, monkeypatch):
    model = toy_model(*variant, cell="gru").train()
    exact = exact_gradient(model, monkeypatch)
    assert deviations(model, exact) < 1.6
    # without the baseline or with another one the mean is the same
    model.decoder.attention.alignment.baseline.bias.data += 1.0
    assert deviations(model, exact) < 1.6


@pytest.mark.parametrize(
    ("variant", "change"),
    [
        (UNFED, ("attention.alignment.weight=0",)),
        (UNFED, ("attention.alignment.weight=2",)),
        (SAMPLED, ("attention.alignment.discount=0",)),
    ],
    ids=["no policy gradient", "too much of it", "what follows is forgotten"],
)
def test_another_gradient_is_seen_to_differ(variant, change, monkeypatch):
    model = toy_model(*variant, *change, cell="gru").train()
    exact = exact_gradient(model, monkeypatch)
    assert deviations(model, exact) > 2.5


def test_steps_of_training_equal_the_whole(monkeypatch):
    """Without feeding all draws are made at once; made step by step they are the same where the numbers are."""
    monkeypatch.setattr(sampled, "draw", one_hot_argmax)
    model, batch = toy_model(*UNFED).train(), toy_batch()
    with torch.no_grad():
        whole = model(batch.source, batch.source_lengths, batch.target_in)
        state = model.encode(batch.source, batch.source_lengths)
        for t, tokens in enumerate(batch.target_in.unbind(1)):
            step = model.step(tokens.unsqueeze(1), state)
            state = step.state
            torch.testing.assert_close(step.weights[:, 0], whole.weights[:, t], rtol=0, atol=0)


def test_padding_and_company_change_nothing(monkeypatch):
    monkeypatch.setattr(sampled, "draw", one_hot_argmax)
    model, batch = (
        toy_model("attention=hard_sample", *SAMPLED[1:], "attention.alignment.discount=0.8").train(),
        toy_batch(),
    )
    alone = [gradients(model, rows(batch, [b])) for b in range(len(batch))]
    for name, each in gradients(model, batch).items():
        torch.testing.assert_close(each, sum(one[name] for one in alone), rtol=1e-12, atol=1e-12)


# Gumbel-softmax


@pytest.mark.parametrize("straight_through", [True, False])
@pytest.mark.parametrize("step", [0, 900, 10_000])
def test_gumbel_softmax_equals_the_reference(monkeypatch, step, straight_through):
    alignment = GumbelSoftmax(temperature=1.5, rate=1e-3, minimum=0.2, straight_through=straight_through)
    alignment.begin_step(step)
    tau = objectives.temperature(step, 1.5, 1e-3, 0.2)
    noise, scores, upstream = random(B, T, S, seed=5), make_scores(), random(B, T, S, seed=6)
    monkeypatch.setattr(sampled, "gumbel", lambda like: noise)
    weights = alignment(scores, random(B, T, H), memory_of(alignment), 0)
    (weights * upstream).sum().backward()
    for b, t in product(range(B), range(T)):
        y = objectives.gumbel_softmax(attention.softmax(real(scores, b, t)), real(noise, b, t), tau)
        if straight_through:
            assert real(weights, b, t).tolist() == objectives.straight_through(y).tolist()
        else:
            assert real(weights, b, t) == close(y)
        assert not weights[b, t, SOURCES[b] :].any()
        gradient = objectives.gumbel_softmax_gradient(y, real(upstream, b, t), tau)
        assert real(scores.grad, b, t) == close(gradient, 1e-8)
        assert not scores.grad[b, t, SOURCES[b] :].any()


def test_gumbel_softmax_gradient(monkeypatch):
    alignment, noise = GumbelSoftmax(temperature=0.7, straight_through=False), random(B, T, S, seed=5)
    monkeypatch.setattr(sampled, "gumbel", lambda like: noise)
    memory, scores = memory_of(alignment), random(B, T, S).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: alignment(given, random(B, T, H), memory, 0), scores)


def test_gumbel_draws_by_weight():
    torch.manual_seed(4)
    alignment, scores = GumbelSoftmax(), torch.tensor([1.0, 0.0, -1.0, 7.0]).expand(1, 20_000, 4)
    weights = alignment(scores, scores, memory_of(alignment, (4,)), 0)
    assert array(weights.mean(1)[0]) == pytest.approx(array(torch.softmax(scores[0, 0], 0)), abs=0.015)
    short = Memory(Keys(), weights, torch.tensor([[True, True, True, False]]), torch.tensor([2]), None)
    shares = alignment(scores, scores, short, 0).mean(1)[0]
    assert shares[3] == 0 and array(shares[:3]) == pytest.approx(attention.softmax(np.array([1.0, 0, -1])), abs=0.015)


def test_a_cold_gumbel_softmax_has_finite_gradients():
    model, batch = new_model("attention=gumbel", "attention.alignment.minimum=0.001"), toy_batch()
    model.decoder.attention.alignment.begin_step(10**9)
    assert model.decoder.attention.alignment.temperature == 0.001
    assert all(each.isfinite().all() for each in gradients(model, batch).values())


WRONG = [
    ("sample", "weight", "-1", "at least 0"),
    ("sample", "entropy", "-0.1", "at least 0"),
    ("sample", "discount", "1.1", "at least 0 and at most 1"),
    ("sample", "expectation", "-0.5", "at least 0 and at most 1"),
    ("sample", "weight", "nan", "at least 0"),
    ("sample", "weight", "inf", "at least 0"),
    ("gumbel", "temperature", "0", "above 0"),
    ("gumbel", "minimum", "0", "above 0"),
    ("gumbel", "rate", "-1", "at least 0"),
]


@pytest.mark.parametrize(("name", "option", "value", "accepted"), WRONG)
def test_wrong_options_are_refused(name, option, value, accepted):
    with pytest.raises(ConfigError, match=f"attention.alignment.{option}=.* is not accepted; it must be {accepted}"):
        new_model(f"attention/alignment={name}", f"attention.alignment.{option}={value}")
