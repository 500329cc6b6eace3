"""The recurrence with its derivative written by hand, against the same decoder gone through step by step."""

import gc
import logging
import weakref

import pytest
import torch
from toys import assert_same, batch_for, close, new_model, random, toy_model

from nmt.model import Rounding, arithmetic
from nmt.model.decoder import Decoder
from nmt.model.dropout import dropout
from nmt.model.recurrence import Unrolled
from nmt.training.loss import batch_loss

STACKED = ("encoder.layers=2", "decoder.layers=3")
RESIDUAL = (*STACKED, "encoder.residual=true", "decoder.residual=true")
# one position of a sentence of four words and EOS is beyond them
FEW = "attention.score.max_positions=4"
HEADS = "attention.form.heads=2"
BY_HAND = [
    ("attention=luong_general",),
    ("attention=luong_general", *STACKED),
    ("attention=luong_general", *RESIDUAL),
    ("attention=luong_dot",),
    ("attention=scaled_dot",),
    ("attention=luong_concat",),
    ("attention=luong_concat", *RESIDUAL),
    ("attention=luong_location", FEW),
    ("attention=local_m", "attention.alignment.window=1"),
    ("attention=pointer",),
    ("attention=key_value",),
    ("attention=bahdanau",),
    ("attention=bahdanau", *STACKED),
    ("attention=bahdanau", *RESIDUAL),
    ("attention=bahdanau", "attention.readout.state=new"),
    ("attention=bahdanau", "attention/score=general"),
    ("attention=bahdanau", "attention/alignment=local_m", "attention.alignment.window=1"),
    ("attention=bahdanau", "attention/score=location", FEW),
    *(
        (f"attention={name}", f"encoder.cell={cell}")
        for name in ("luong_general", "bahdanau")
        for cell in ("gru", "rnn")
    ),
    ("attention=luong_general", "encoder.cell=gru", *RESIDUAL),
    ("attention=local_p", "attention.alignment.window=1"),
    ("attention=local_p", "attention.alignment.window=2", "attention/score=additive"),
    ("attention=bahdanau", "attention/alignment=local_p", "attention.alignment.window=1"),
    ("attention=multi_head", HEADS),
    ("attention=multi_head", HEADS, "attention/alignment=local_p", "attention.alignment.window=1"),
    ("attention=multi_head", HEADS, "attention/score=additive", "attention/wiring=attend_then_update", *STACKED),
    ("attention=cosine",),
    ("attention=cosine", "attention.score.strength=2"),
    ("attention=bahdanau", "attention/score=cosine"),
    # steps without any weight: the window lies beyond what the score knows
    ("attention/alignment=local_m", "attention.alignment.window=1", "attention/score=location", FEW[:-1] + "1"),
]
AT_ONCE = [("attention=mean",), ("attention=mean", *RESIDUAL), ("attention=none",), ("attention=pooling",)]
BY_STEPS = [
    (("attention=sparsemax",), "lstm", "this attention"),
    (("attention=luong_general", "attention.coverage=true"), "lstm", "this attention"),
    (("attention=luong_general", "decoder.layer_norm=true"), "lstm", "layer-normalised cells"),
    (("attention=luong_general", "decoder.layer_norm=true"), "gru", "layer-normalised cells"),
    (("attention=bahdanau", "decoder.self_attention=true"), "lstm", "decoder.self_attention"),
    (("attention=luong_general", "attention/readout=maxout"), "lstm", "for this readout"),
    (("attention=monotonic", "attention/wiring=update_then_attend"), "lstm", "for this attention"),
    (
        ("attention.wiring.input_feeding=false", "attention.coverage=true"),
        "lstm",
        "for this attention, decoding without input feeding",
    ),
]


@pytest.fixture
def unrolled(monkeypatch):
    """Counts the recurrences that were gone through by hand."""
    seen = []
    first = Unrolled.__init__
    monkeypatch.setattr(Unrolled, "__init__", lambda self, *args, **options: seen.append(first(self, *args, **options)))
    return seen


def step_by_step(monkeypatch):
    monkeypatch.setattr(Decoder, "_parts_by_hand", lambda self, embedded, state: None)
    monkeypatch.setattr(
        "nmt.model.decoder.attend_then_update.AttendThenUpdate.forward",
        lambda self, embedded, state: self._by_steps(embedded, state),
    )


def outputs(model, batch):
    """Everything that comes out of reading a whole target, by name."""
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    state = decoded.state
    found = {name: getattr(decoded, name) for name in ("readouts", "states", "weights")}
    found |= {"context": decoded.attended.context, "top": state.top}
    found |= {} if state.feed is None else {"feed": state.feed}
    parts = [(layer, part) for layer, parts in enumerate(state.layers) for part in range(len(parts))]
    found |= {f"layer {layer}.{part}": state.layers[layer][part] for layer, part in parts}
    assert state.position == batch.target_in.shape[1]
    return found


def compared(model, batch, names=None):
    """What comes out, and the gradients of a random sum of it (of what is named), padding included."""
    model.zero_grad()
    found = outputs(model, batch)
    used = [name for name in found if (names is None or name in names) and found[name].requires_grad]
    sum((found[name] * random(*found[name].shape, seed=seed)).sum() for seed, name in enumerate(used)).backward()
    grads = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return {name: each.detach() for name, each in found.items()}, grads


@pytest.mark.parametrize("names", [None, {"readouts"}, {"weights"}, {"states", "context"}, {"layer 0.0", "layer 0.1"}])
@pytest.mark.parametrize("variant", BY_HAND, ids=lambda variant: ",".join(variant))
def test_equals_its_steps(variant, names, unrolled, monkeypatch):
    model = toy_model(*variant)
    batch = batch_for(model)
    found = compared(model, batch, names)
    assert len(unrolled) == 1
    step_by_step(monkeypatch)
    expected = compared(model, batch, names)
    assert len(unrolled) == 1
    assert_same(found[0], expected[0])
    # a parameter that nothing depends on may have no gradient or zeros
    missing = {name for name in found[1].keys() ^ expected[1].keys()}
    assert not any((found[1].get(name, expected[1].get(name))).any() for name in missing)
    assert_same(*({name: grads[name] for name in grads.keys() - missing} for grads in (found[1], expected[1])))


@pytest.mark.parametrize("variant", AT_ONCE, ids=lambda variant: ",".join(variant))
def test_attention_that_does_not_ask_needs_no_loop(variant, monkeypatch):
    model = toy_model(*variant)
    batch = batch_for(model)
    found = compared(model, batch)
    step_by_step(monkeypatch)
    for one, other in zip(found, compared(model, batch), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_falls_on_readouts_and_between_layers(variational, monkeypatch):
    """With masks that follow from the shape alone, both ways drop the same."""
    model = toy_model("attention=luong_general", *STACKED)
    model.decoder.dropout.rate, model.decoder.dropout.variational = 0.4, variational
    batch = batch_for(model)

    def masks(vectors, rate):
        torch.manual_seed(5)
        return dropout(vectors, rate)

    def factors(self, like, count):
        """The masks of all steps as those of the steps: drawn anew, and alike, at each."""
        return torch.stack([masks(torch.ones_like(like), self.rate)] * (1 if self.variational else count))

    monkeypatch.setattr("nmt.model.dropout.dropout", masks)
    monkeypatch.setattr("nmt.model.dropout.Dropout.factors", factors)
    found = compared(model, batch)
    assert (found[0]["readouts"] == 0).any(-1).all()
    step_by_step(monkeypatch)
    for one, other in zip(found, compared(model, batch), strict=True):
        assert_same(one, other)


def test_factors_of_dropout():
    model = new_model("attention=luong_general")
    drop = model.decoder.dropout
    drop.rate, like = 0.25, torch.zeros(40, 50)
    assert drop.train(False).factors(like, 3) is None
    plain = drop.train(True).factors(like, 30)
    assert plain.shape == (30, 40, 50) and plain.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (plain == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(plain[0], plain[1])
    drop.variational = True
    assert drop.factors(like, 30).shape == (1, 40, 50)
    drop.rate = 0.0
    assert drop.factors(like, 3) is None


@pytest.mark.parametrize("variant", BY_HAND[:1] + BY_HAND[5:6] + BY_HAND[11:12], ids=lambda variant: ",".join(variant))
def test_bf16_is_near(variant, unrolled):
    model = toy_model(*variant).float()
    batch = batch_for(model)
    exact = compared(model, batch, {"readouts"})
    with arithmetic(rounding=Rounding.bf16):
        coarse = compared(model, batch, {"readouts"})
    assert len(unrolled) == 2
    assert coarse[0]["readouts"].dtype == torch.float32
    assert 0 < (coarse[0]["readouts"] - exact[0]["readouts"]).abs().max() < 0.1
    one, other = (torch.cat([each.flatten() for each in grads.values()]) for grads in (coarse[1], exact[1]))
    assert torch.cosine_similarity(one, other, dim=0) > 0.99


@pytest.mark.parametrize(("variant", "cell", "why"), BY_STEPS)
def test_the_rest_goes_step_by_step_and_says_so_once(variant, cell, why, unrolled, caplog):
    model = new_model(*variant, cell=cell)
    batch = batch_for(model)
    with caplog.at_level(logging.INFO, "nmt.model.decoder"), torch.no_grad():
        outputs(model, batch)
    assert not caplog.records
    with caplog.at_level(logging.INFO, "nmt.model.decoder"):
        for _ in range(2):
            batch_loss(model, batch, 0.0).loss.backward()
    assert len(caplog.records) == 1 and why in caplog.text and "step by step" in caplog.text
    assert not unrolled


def test_plain_arithmetic_goes_step_by_step(unrolled):
    model = toy_model("attention=luong_general")
    with arithmetic(fast=False):
        outputs(model, batch_for(model))
    assert not unrolled


@pytest.mark.parametrize("more", [(), RESIDUAL], ids=["", "residual"])
@pytest.mark.parametrize(
    "variant",
    [("attention=luong_general",), ("attention=bahdanau",), ("attention.wiring.input_feeding=false",)],
    ids=lambda variant: ",".join(variant),
)
def test_starts_from_any_state(variant, more):
    """A target read in two halves is the target read whole: local windows, fed readouts, queries and states go on."""
    model = toy_model(*variant, *more, "attention/alignment=local_m", "attention.alignment.window=1")
    batch = batch_for(model)
    embedded = model.target_embedding(batch.target_in)
    whole = model.decoder(embedded, model.encode(batch.source, batch.source_lengths).decoder)
    first = model.decoder(embedded[:, :2], model.encode(batch.source, batch.source_lengths).decoder)
    second = model.decoder(embedded[:, 2:], first.state)
    for name in ("readouts", "states", "weights"):
        halves = torch.cat([getattr(first, name), getattr(second, name)], 1)
        assert halves.detach().numpy() == close(getattr(whole, name))


@pytest.mark.parametrize("variant", BY_HAND, ids=lambda variant: ",".join(variant))
def test_goes_back_again_and_notices_what_has_changed(variant):
    model = toy_model(*variant)
    batch = batch_for(model)

    def total():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        return decoded.readouts.square().sum() + decoded.weights.square().sum()

    loss, parameters = total(), [each for each in model.decoder.parameters() if each.requires_grad]
    first, again = (
        torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True) for keep in (True, False)
    )
    for one, other in zip(first, again, strict=True):
        assert (one is None and other is None) or one.numpy() == close(other)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, parameters, allow_unused=True)
    loss = total()
    with torch.no_grad():
        model.decoder.cells[0].recurrent.weight.add_(1)
    if model.decoder.cells[0].gates == 3:
        # a GRU's weights are copied before they are used, so that what becomes of them does not matter
        changed = torch.autograd.grad(loss, parameters, allow_unused=True)
        for one, other in zip(first, changed, strict=True):
            assert (one is None and other is None) or one.numpy() == close(other)
        return
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("variant", BY_HAND, ids=lambda variant: ",".join(variant))
def test_no_parameter_is_written_into(variant):
    """One pair of a target with nothing but EOS: what is one long in time and batch is easily a view."""
    model = toy_model(*variant)
    batch = batch_for(model, source_lengths=(2,), target_lengths=(0,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert batch.target_in.shape == (1, 1)
    outputs(model, batch)["readouts"].sum().backward()
    assert_same(dict(model.state_dict()), before, 0)


def test_double_precision_stays_double_where_bf16_is_asked_for():
    model = toy_model("attention=luong_concat")
    batch = batch_for(model)
    exact = compared(model, batch)
    with arithmetic(rounding=Rounding.bf16):
        for one, other in zip(compared(model, batch), exact, strict=True):
            assert_same(one, other)


@pytest.mark.parametrize("variant", BY_HAND[:1] + BY_HAND[11:12], ids=lambda variant: ",".join(variant))
def test_without_gradients_no_buffers_of_all_steps_are_made(variant, unrolled):
    model = toy_model(*variant)
    batch = batch_for(model)
    expected = outputs(model, batch)
    with torch.no_grad():
        found = outputs(model, batch)
    assert len(unrolled) == 1
    assert_same(found, {name: each.detach() for name, each in expected.items()})


@pytest.mark.parametrize("variant", BY_HAND[:1] + BY_HAND[11:12], ids=lambda variant: ",".join(variant))
def test_nothing_keeps_the_buffers_alive(variant):
    model = toy_model(*variant)
    batch = batch_for(model)
    # what other tests left
    old = {id(each) for each in gc.get_objects() if isinstance(each, Unrolled)}
    gc.disable()
    try:
        loss = batch_loss(model, batch, 0.0)
        (new,) = (each for each in gc.get_objects() if isinstance(each, Unrolled) and id(each) not in old)
        watched = weakref.ref(new)
        del new
        assert watched() is not None
        loss.loss.backward()
        del loss
        assert watched() is None
    finally:
        gc.enable()
