import numpy as np
import pytest
import torch
from numpy_model import array
from reference import family
from toys import close, gradients, new_model, padded, random, toy_batch, toy_model

from nmt.data.vocabulary import PAD
from nmt.errors import ConfigError
from nmt.model.attention import Coverage
from nmt.training.loss import batch_loss

B, T, S = 3, 4, 5
HEADS = {"single": (), "multi_head": ("attention.form.heads=2",), "hierarchical": ()}
PRESETS = ["bahdanau", "luong_general", "local_m", "luong_location"]


def covered(preset, loss=1.0):
    return toy_model(f"attention={preset}", "attention.coverage=true", f"attention.coverage_loss={loss}")


def test_loss_by_hand():
    weights = torch.tensor([[[0.5, 0.5, 0.0], [0.25, 0.0, 0.75], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]])
    # coverage: 0 0 0; .5 .5 0; .75 .5 .75; the last step is padding
    mask = torch.tensor([[True, True, True, False]])
    assert Coverage(2, 2.0).penalty(weights, mask) == pytest.approx(2 * (0.25 + 0.5 + 0.5))
    assert Coverage(2, 0.0).penalty(weights, mask) is None


def test_the_loss_waits_for_its_updates():
    weights, mask = torch.full((1, 3, 2), 0.5), torch.ones(1, 3, dtype=torch.bool)
    coverage = Coverage(2, 1.0, loss_after=10)
    for step, waits in ((0, True), (9, True), (10, False), (500, False), (9, True)):
        coverage.begin_step(step)
        assert (coverage.penalty(weights, mask) is None) == waits
    assert Coverage(2, 1.0, loss_after=10).penalty(weights, mask) is None, "before the first update, too"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_the_loss_of_a_batch_has_the_papers_term(preset, strength):
    model, batch = covered(preset, strength), toy_batch()
    for each in (batch, padded(batch, source=3, target=2, filling=PAD), padded(batch, 2, 1, filling=13)):
        decoded = model(each.source, each.source_lengths, each.target_in)
        expected = sum(
            family.coverage_loss(array(decoded.weights[b, :tokens, :words]), strength)
            for b, (words, tokens) in enumerate(zip(each.source_lengths, each.target_lengths, strict=True))
        )
        found = batch_loss(model, each, 0.0)
        assert expected > 0.1
        assert (found.loss - found.nll).item() == close(expected)
    model.eval()
    found = batch_loss(model, batch, 0.0)
    assert found.loss.item() == close(found.nll), "evaluation measures the translation alone"


def test_the_term_has_a_gradient():
    with_term, without = (gradients(covered("luong_general", loss), toy_batch()) for loss in (1.0, 0.0))
    name = "decoder.attention.score.projection.weight"
    assert not np.allclose(with_term[name], without[name])
    model, batch = covered("luong_general"), toy_batch()
    direction = model.decoder.attention.coverage.direction

    def loss_at(step):
        with torch.no_grad():
            direction[0] += step
            found = batch_loss(model, batch, 0.1).loss.item()
            direction[0] -= step
        return found

    slope = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5
    assert with_term["decoder.attention.coverage.direction"][0].item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_training_begins_with_the_score_as_it_is(preset):
    batch = toy_batch()
    plain = new_model(f"attention={preset}")
    model = new_model(f"attention={preset}", "attention.coverage=true")
    assert not model.decoder.attention.coverage.direction.any()
    model.load_state_dict(plain.state_dict(), strict=False)
    given = batch.source, batch.source_lengths, batch.target_in
    assert array(model(*given).weights) == close(plain(*given).weights, 1e-6)


@pytest.mark.parametrize("form", ["single", "multi_head", "hierarchical"])
def test_positions_that_are_all_alike_cannot_be_covered(form):
    with pytest.raises(ConfigError, match="coverage=true tells positions apart .*score=ConstantScore reads all alike"):
        new_model("attention=mean", f"attention/form={form}", "attention.coverage=true", *HEADS[form])


def test_hypotheses_have_coverage_of_their_own():
    coverage, mask = Coverage(3, 1.0), torch.ones(B, S, dtype=torch.bool)
    (state,) = coverage.start(mask, random(1))
    assert state.shape == (B, 1, S) and state.dtype == torch.float64 and not state.any()
    first, second = random(B, 2, S, seed=1), random(B, 2, S, seed=2)
    (state,) = coverage.update(coverage.update((state,), first), second)
    assert array(state) == close(first + second)
