import pytest
import torch
from toys import new_model, toy_batch

from nmt.model.dropout import Dropout, drop_words, dropout

B, T, D = 3, 7, 1009
WIRINGS = [
    ("attention=bahdanau",),
    ("attention=luong_general",),
    ("attention=luong_general", "attention.wiring.input_feeding=false"),
]


@pytest.mark.parametrize("variational", [True, False])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_rate_and_scale(rate, variational):
    torch.manual_seed(1)
    dropped = Dropout(rate, variational=variational)(torch.ones(31, T, D))
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 1 / (1 - rate)], rel=1e-5)
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("steps_first", [True, False])
def test_gradients_are_dropped_where_vectors_were(steps_first):
    """Also of vectors that lie in memory step by step, which the results do too, whichever way gradients lie."""
    vectors = torch.ones(B, T, D).requires_grad_()
    laid = vectors.transpose(0, 1).contiguous().transpose(0, 1) if steps_first else vectors
    dropped = dropout(laid, 0.5)
    assert dropped.stride() == laid.stride() and 0.4 < (dropped == 0).float().mean() < 0.6
    for gradient in (torch.randn(B, T, D), torch.randn(T, B, D).transpose(0, 1)):
        (found,) = torch.autograd.grad(dropped, vectors, gradient, retain_graph=True)
        assert torch.equal(found, dropped.detach() * gradient)


@pytest.mark.parametrize("variational", [True, False])
def test_nothing_is_dropped_outside_training_or_at_rate_zero(variational):
    vectors = torch.randn(B, T, D)
    assert torch.equal(Dropout(0.5, variational=variational).eval()(vectors), vectors)
    assert torch.equal(Dropout(0.0, variational=variational).train()(vectors), vectors)


def test_a_variational_mask_is_the_same_at_all_steps_and_another_in_each_sentence():
    dropped = Dropout(0.5, variational=True)(torch.ones(B, T, D))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])


def test_a_mask_lasts_as_long_as_what_was_prepared():
    dropout = Dropout(0.5, variational=True)
    drop, vectors = dropout.prepare(), torch.ones(B, 1, D)
    assert torch.equal(drop(vectors), drop(vectors))
    assert not torch.equal(drop(vectors), dropout.prepare()(vectors))
    assert not torch.equal(dropout(vectors), dropout(vectors))


def test_without_variational_every_step_has_a_mask_of_its_own():
    drop, vectors = Dropout(0.5).prepare(), torch.ones(B, 1, D)
    assert not torch.equal(drop(vectors), drop(vectors))
    assert not torch.equal(*Dropout(0.5)(torch.ones(1, 2, D))[0])


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("wiring", WIRINGS, ids=str)
def test_variational_steps_equal_the_whole(wiring, layers):
    """The masks of a step-by-step recurrence are those of the whole one: both draw in the same order."""
    dropouts = ("decoder.dropout=0.4", "decoder.variational_dropout=true", f"decoder.layers={layers}")
    model, batch = new_model(*wiring, *dropouts).double().train(), toy_batch()
    torch.manual_seed(5)
    whole = model(batch.source, batch.source_lengths, batch.target_in).readouts
    torch.manual_seed(5)
    state, readouts = model.encode(batch.source, batch.source_lengths).decoder, []
    for tokens in batch.target_in.unbind(1):
        step = model.decoder.step(model.target_embedding(tokens.unsqueeze(1)), state)
        state = step.state
        readouts.append(step.readouts)
    torch.testing.assert_close(torch.cat(readouts, 1), whole, rtol=1e-10, atol=1e-10)
    zeros = whole == 0
    assert 0.2 < zeros.double().mean() < 0.6
    assert torch.equal(zeros, zeros[:, :1].expand_as(zeros))


@pytest.mark.parametrize("wiring", WIRINGS, ids=str)
def test_layers_have_masks_of_their_own(wiring):
    dropouts = ("decoder.dropout=0.5", "decoder.variational_dropout=true", "decoder.layers=3")
    model, batch = new_model(*wiring, *dropouts).train(), toy_batch()
    torch.manual_seed(5)
    state = model.encode(batch.source, batch.source_lengths)
    between = state.decoder.recurrence.between
    model.step(batch.target_in[:, :1], state)
    assert len(between) == 2 and not torch.equal(between[0].mask, between[1].mask)


@pytest.mark.parametrize("wiring", WIRINGS, ids=str)
def test_dropout_is_off_in_evaluation(wiring):
    rates = ("decoder.dropout=0.5", "encoder.dropout=0.5", "embedding.dropout=0.5", "embedding.word_dropout=0.5")
    model, batch = new_model(*wiring, *rates), toy_batch()
    given = batch.source, batch.source_lengths, batch.target_in
    assert not torch.equal(model.train()(*given).readouts, model(*given).readouts)
    model.eval()
    plain = new_model(*wiring).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(*given).readouts, model(*given).readouts)
    assert torch.equal(model(*given).readouts, plain(*given).readouts)


def test_fed_readouts_are_dropped_ones():
    model, batch = new_model("attention=luong_general", "decoder.dropout=0.5").train(), toy_batch()
    state = model.encode(batch.source, batch.source_lengths).decoder
    step = model.decoder.step(model.target_embedding(batch.target_in[:, :1]), state)
    assert (step.readouts == 0).any()
    assert torch.equal(step.state.feed, step.readouts)


def test_word_dropout_never_touches_specials():
    torch.manual_seed(2)
    tokens = torch.arange(20).repeat(500, 1)
    dropped = drop_words(tokens, 0.3, unknown=1, special=3)
    assert torch.equal(dropped[:, :4], tokens[:, :4])
    changed = dropped[:, 4:] != tokens[:, 4:]
    assert (dropped[:, 4:][changed] == 1).all()
    assert changed.double().mean().item() == pytest.approx(0.3, abs=0.02)


def test_word_dropout_of_rate_zero_draws_nothing():
    tokens, state = torch.arange(20), torch.get_rng_state()
    assert drop_words(tokens, 0.0, unknown=1, special=3) is tokens
    assert torch.equal(torch.get_rng_state(), state)


def test_a_rate_that_rounds_to_all_keeps_something():
    assert torch.isfinite(dropout(torch.ones(2**16), 1 - 1e-9)).all()
