from itertools import product

import pytest
import torch
from composed import options
from numpy_model import array, unroll
from toys import CASES, CELLS, close, label, toy_batch, toy_model

from nmt.model import arithmetic

STACKS = [(1, False), (2, False), (3, True)]
LUONG = [
    (f"attention.wiring.input_feeding={feeding}", f"attention/readout={readout}")
    for feeding, readout in product(["true", "false"], ["attentional", "maxout"])
]
BAHDANAU = [
    ("attention/readout=maxout", "attention.readout.state=query"),
    ("attention/readout=maxout", "attention.readout.state=new"),
    ("attention/readout=attentional",),
]
WIRINGS = [("attention=luong_general", *each) for each in LUONG] + [("attention=bahdanau", *each) for each in BAHDANAU]


def assert_equals_reference(model, *, fast):
    """Readouts, weights and logits of a padded batch against the NumPy model of each sentence alone."""
    batch = toy_batch()
    with arithmetic(fast=fast), torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        logits = model.output(decoded.readouts)
    for b in range(len(batch)):
        source, target = batch.source[b, : batch.source_lengths[b]], batch.target_in[b, : batch.target_lengths[b]]
        expected = unroll(model, source.numpy(), target.numpy())
        words, tokens = len(source), len(target)
        assert array(decoded.weights[b, :tokens, :words]) == close(expected.weights)
        assert array(decoded.readouts[b, :tokens]) == close(expected.readouts)
        assert array(logits[b, :tokens]) == close(expected.logits)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("layers", "residual"), STACKS)
@pytest.mark.parametrize("wiring", WIRINGS, ids=label)
def test_wirings_equal_the_papers(wiring, layers, residual, fast):
    stack = (f"decoder.layers={layers}", f"decoder.residual={str(residual).lower()}")
    assert_equals_reference(toy_model(*wiring, *stack, cell="gru"), fast=fast)


@pytest.mark.parametrize(("variant", "cell"), CASES, ids=lambda each: each if isinstance(each, str) else label(each))
def test_every_variant_equals_the_papers(variant, cell):
    assert_equals_reference(toy_model(*variant, cell=cell), fast=True)


@pytest.mark.parametrize("alignment", sorted({*options("attention/alignment")} - {"none"}))
@pytest.mark.parametrize("score", options("attention/score"))
def test_every_score_goes_with_every_alignment(score, alignment):
    silent = ("attention.alignment.noise=0",) if alignment == "monotonic" else ()
    parts = (f"attention/score={score}", f"attention/alignment={alignment}", *silent)
    assert_equals_reference(toy_model("attention=luong_general", *parts, cell="gru"), fast=True)


@pytest.mark.parametrize("wiring", WIRINGS[::2], ids=label)
def test_layer_normalised_decoders_equal_the_papers(wiring):
    for cell in CELLS:
        assert_equals_reference(toy_model(*wiring, "decoder.layer_norm=true", cell=cell), fast=True)
