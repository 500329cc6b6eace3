"""What every variant promises, whoever wrote it: found by listing `configs/attention` and `configs/encoder`."""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import pytest
import torch
from composed import composed
from toys import (
    CASES,
    SEPARATOR,
    TARGET_SIZE,
    TOY,
    VARIANTS,
    assert_same,
    batch_for,
    configuration,
    gradients,
    label,
    new_model,
    padded,
    randomised,
    rows,
    toy_model,
)

from nmt.data.batches import Batch
from nmt.data.vocabulary import BOS
from nmt.model import Rounding, TranslationModel, arithmetic
from nmt.model.attention import Alignment, LocalPredictive, Monotonic, NoAlignment
from nmt.model.encoder import mask_from_lengths
from nmt.training.loss import batch_loss

SCORE = ".score."


def over(cases):
    """Run a test for each of these (variant, cell)."""
    names = [f"{label(variant)}-{cell}" for variant, cell in cases]
    return pytest.mark.parametrize(("variant", "cell"), cases, ids=names)


every_variant = over(CASES)
every_variant_once = over(list({variant: (variant, cell) for variant, cell in CASES}.values()))


@dataclass(frozen=True)
class Subject:
    """A model, a batch, and what the model does with it."""

    model: TranslationModel
    batch: Batch
    fast: bool = True

    @cached_property
    def decoded(self):
        with arithmetic(fast=self.fast):
            return decode(self.model, self.batch)

    @cached_property
    def per_token(self):
        with arithmetic(fast=self.fast):
            return per_token(self.model, self.batch)

    @cached_property
    def gradients(self):
        with arithmetic(fast=self.fast):
            return gradients(self.model, self.batch)


@cache
def subject(variant, cell):
    """The same for all tests, none of which may change it."""
    model = toy_model(*variant, cell=cell)
    return Subject(model, batch_for(model))


class Found(NamedTuple):
    """What a model says of a batch: [B, T, F], [B, T, S], [B, T, V]."""

    readouts: torch.Tensor
    weights: torch.Tensor
    log_probs: torch.Tensor


def decode(model, batch, target=None):
    """What the model says of its targets, or of others [B, T] that begin with BOS."""
    with torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in if target is None else target)
        predicted = model.prediction.log_probs(decoded, model.output.prepare(), batch.copies)
        return Found(decoded.readouts, model.prediction.weights(decoded), predicted)


def per_token(model, batch):
    """Readouts and weights of each real target token, [n, ..]."""
    found, width = decode(model, batch), int(batch.source_lengths.max())
    readouts, weights, predicted = (part[batch.target_mask] for part in found)
    # beyond the vocabulary there is a column for each source position
    return {"readouts": readouts, "weights": weights[..., :width], "log_probs": predicted[:, : TARGET_SIZE + width]}


@pytest.mark.parametrize("variant", [*VARIANTS[:: len(VARIANTS) // 5], ("attention=mean", "encoder=cnn")], ids=label)
def test_variants_are_what_hydra_composes(variant):
    assert configuration(*variant) == composed(*TOY, *variant)


def alignment_of(model):
    """How its attention aligns; all heads and levels do alike."""
    return next(module for module in model.decoder.attention.modules() if isinstance(module, Alignment))


@every_variant
def test_weights_are_a_distribution_over_real_positions(variant, cell):
    one = subject(variant, cell)
    model, batch, weights = one.model, one.batch, one.decoded.weights
    assert weights.shape == (len(batch), batch.target_in.shape[1], batch.source.shape[1])
    assert (weights >= 0).all() and weights.isfinite().all()
    padding = ~mask_from_lengths(batch.source_lengths, batch.source.shape[1])
    assert not weights[padding.unsqueeze(1).expand_as(weights)].any(), "weight on padding"
    alignment, sums = alignment_of(model), weights.sum(-1)
    assert model.has_weights != isinstance(alignment, NoAlignment)
    if isinstance(alignment, NoAlignment):
        assert not weights.any()
    elif isinstance(alignment, LocalPredictive | Monotonic):  # the papers do not renormalise
        assert (sums <= 1 + 1e-12).all() and (sums > 0).all()
    else:
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@every_variant
def test_padding_changes_nothing(variant, cell):
    one = subject(variant, cell)
    more = padded(one.batch, source=3, target=2, filling=SEPARATOR)
    assert_same(per_token(one.model, more), one.per_token, 1e-12)
    assert not decode(one.model, more).weights[:, :, one.batch.source.shape[1] :].any()
    assert_same(gradients(one.model, more), one.gradients, 1e-12)


@every_variant
def test_the_order_of_the_batch_is_the_order_of_the_result(variant, cell):
    one, order = subject(variant, cell), [2, 0, 1]
    mixed = rows(one.batch, order)
    for found, expected in zip(decode(one.model, mixed), one.decoded, strict=True):
        torch.testing.assert_close(found, expected[order], rtol=1e-12, atol=1e-12)
    assert_same(gradients(one.model, mixed), one.gradients, 1e-12)


@every_variant
def test_a_batch_is_its_sentences(variant, cell):
    one, total = subject(variant, cell), {}
    for b in range(len(one.batch)):
        alone = rows(one.batch, [b])
        words, tokens = int(alone.source_lengths), int(alone.target_lengths)
        whole = {
            "readouts": one.decoded.readouts[b, :tokens],
            "weights": one.decoded.weights[b, :tokens, :words],
            "log_probs": one.decoded.log_probs[b, :tokens, : TARGET_SIZE + words],
        }
        assert_same(per_token(one.model, alone), whole, 1e-12)
        for name, gradient in gradients(one.model, alone).items():
            total[name] = total.get(name, 0) + gradient
    assert_same(total, one.gradients, 1e-12)


@every_variant
def test_steps_equal_the_whole(variant, cell):
    one = subject(variant, cell)
    model, batch, expected = one.model, one.batch, one.decoded.log_probs
    with torch.no_grad():
        state = model.encode(batch.source, batch.source_lengths, batch.copies)
        for t, tokens in enumerate(batch.target_in.unbind(1)):
            step = model.step(tokens.unsqueeze(1), state)
            state = step.state
            assert step.log_probs.shape == (len(batch), 1, expected.shape[-1])
            torch.testing.assert_close(step.log_probs[:, 0], expected[:, t], rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(step.weights[:, 0], one.decoded.weights[:, t], rtol=1e-10, atol=1e-10)


@every_variant
def test_selected_states_equal_a_new_start(variant, cell):
    one = subject(variant, cell)
    read = torch.full((len(one.batch), 1, 1), BOS)
    with torch.no_grad():
        state = one.model.encode(one.batch.source, one.batch.source_lengths, one.batch.copies)
        state = one.model.step(read[..., -1], state).state
        # one hypothesis becomes three; they change places; two of three, in two of three sentences in another order
        for beams, sentences in (
            (torch.tensor([[0, 0, 0]] * 3), None),
            (torch.tensor([[2, 1, 0], [0, 0, 1], [1, 2, 0]]), None),
            (torch.tensor([[2, 0], [1, 1]]), torch.tensor([2, 0])),
        ):
            kept = torch.arange(len(read)) if sentences is None else sentences
            tokens = torch.arange(beams.numel()).view_as(beams) + 5
            read = torch.cat([read[kept.unsqueeze(1), beams], tokens.unsqueeze(2)], dim=2)
            step = one.model.step(tokens, state.select(beams, sentences))
            state = step.state
        assert_steps_equal_forced(one.model, rows(one.batch, [2, 0]), read, step)


def assert_steps_equal_forced(model, batch, read, step):
    """The last step of hypotheses [B, K] that read tokens [B, K, T] against reading them whole."""
    for k in range(read.shape[1]):
        found = decode(model, batch, read[:, k])
        width, columns = batch.source.shape[1], found.log_probs.shape[-1]
        predicted = step.log_probs[:, k, :columns]
        torch.testing.assert_close(predicted, found.log_probs[:, -1], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(step.weights[:, k, :width], found.weights[:, -1], rtol=1e-10, atol=1e-10)


@every_variant
def test_every_parameter_learns(variant, cell):
    model = toy_model(*variant, cell=cell).train()
    found = gradients(model, batch_for(model))
    idle = [name for name, gradient in found.items() if not gradient.any()]
    assert idle == []


@every_variant
def test_a_score_learns_nothing_from_sources_of_one_token(variant, cell):
    model = subject(variant, cell).model
    found = gradients(model, batch_for(model, source_lengths=(0, 0, 0)))
    # a reader that moves on may pass the only position
    passes = isinstance(alignment_of(model), Monotonic)
    for name, gradient in found.items():
        assert gradient.isfinite().all()
        # the only position takes all the weight, whatever its score is
        assert SCORE not in name or passes or gradient.abs().max() < 1e-12


@every_variant
def test_use_leaves_the_modules_as_they_were(variant, cell):
    model = toy_model(*variant, cell=cell)
    batch = batch_for(model)
    before = snapshot(model)
    values = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        decode(model, batch)
        state = model.encode(batch.source, batch.source_lengths, batch.copies)
        first, again = (model.step(batch.target_in[:, :1], state) for _ in range(2))
    assert torch.equal(first.log_probs, again.log_probs), "a step changed the state it was given"
    assert snapshot(model) == before
    assert_same(dict(model.state_dict()), values, 0)


def snapshot(model):
    """Every module's attributes: the plain ones themselves, of the others the type."""
    plain = (bool, int, float, str, list, tuple, type(None))
    return {
        name: {key: value if isinstance(value, plain) else type(value) for key, value in vars(module).items()}
        for name, module in model.named_modules()
    }


@every_variant
def test_fast_and_plain_arithmetic_agree(variant, cell):
    one = subject(variant, cell)
    plain = Subject(one.model, one.batch, fast=False)
    assert_same(one.per_token, plain.per_token)
    assert_same(one.gradients, plain.gradients)


@pytest.mark.parametrize("fast", [True, False])
@every_variant_once
def test_bf16_is_close_to_fp32(variant, cell, fast):
    model = randomised(toy_model(*variant, cell=cell), size=0.4).float()
    batch = batch_for(model)
    whole, expected = decode(model, batch), gradients(model, batch)
    with arithmetic(rounding=Rounding.bf16, fast=fast):
        coarse, found = decode(model, batch), gradients(model, batch)
    # what reads the likeliest position alone may read another one where two are nearly alike
    same = (coarse.weights - whole.weights).abs().amax(-1) < 0.5
    assert same.double().mean() > 0.9
    exact, rounded = whole.log_probs[same], coarse.log_probs[same]
    assert rounded.dtype == torch.float32 and all(each.dtype == torch.float32 for each in found.values())
    # minus infinity where nothing can be copied
    assert torch.equal(rounded.isinf(), exact.isinf())
    assert 0 < (rounded - exact).nan_to_num(0).abs().max() < 0.1
    one, other = (torch.cat([each.flatten() for each in grads.values()]) for grads in (found, expected))
    assert torch.cosine_similarity(one, other, dim=0) > 0.99


@every_variant_once
def test_the_loss_falls_to_half_of_what_word_frequencies_leave(variant, cell):
    model = new_model(*variant, cell=cell)
    batch = batch_for(model, source_lengths=(3, 1), target_lengths=(2, 3))
    optimizer, nlls = torch.optim.Adam(model.parameters(), lr=0.03), []
    if not model.copies:
        first = batch_loss(model, batch, label_smoothing=0.0)
        assert first.nll / first.tokens == pytest.approx(math.log(TARGET_SIZE), rel=0.1), "a new model knows nothing"
    if model.prediction.generates:
        # known from the start: readouts that have to learn them saturate, and then learn nothing more
        words = batch.target_out[batch.target_mask & (batch.target_out < TARGET_SIZE)]
        model.output.bias.data = (words.bincount(minlength=TARGET_SIZE) + 0.1).log()
    while len(nlls) < 2 or nlls[-1] >= 0.5 * nlls[0]:
        # twice what the slowest took under six seeds
        assert len(nlls) < 32, "the loss does not fall"
        optimizer.zero_grad()
        loss = batch_loss(model, batch, label_smoothing=0.0)
        (loss.loss / loss.tokens).backward()
        optimizer.step()
        nlls.append(loss.nll.item())
