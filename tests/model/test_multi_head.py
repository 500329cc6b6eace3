"""Multi-head attention against Vaswani et al.'s formula, and what its heads add up to."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy_model import SCORES, array
from reference import family
from toys import close, random, toy_batch, toy_model

from nmt.model.attention import MultiHeadAttention, Softmax
from nmt.model.encoder import mask_from_lengths
from nmt.model.encoder.base import Encoded

HEADS, SIZE = 3, 5
SIZES = (f"attention.form.heads={HEADS}", f"attention.form.head_size={SIZE}")
LENGTHS = torch.tensor([4, 1, 3])


def source(size):
    """Encoded sentences; what stands on padding must not matter."""
    states, finals = random(3, 4, size), ((random(3, size, seed=1),),)
    return Encoded(states, mask_from_lengths(LENGTHS, 4), LENGTHS - 1, finals, None)


def attended(*overrides, queries=2):
    """What attention of that configuration does, its queries and its source."""
    module = toy_model("attention=multi_head", *overrides).decoder.attention
    given, query = source(module.size), random(3, queries, module.query.weight.shape[1], seed=2)
    with torch.no_grad():
        return module, given, query, module(query, module.prepare(given), 0, module.start(given))


@pytest.mark.parametrize("score", ["scaled_dot", "dot", "general", "additive"])
def test_heads_are_those_of_the_paper(score):
    module, given, query, found = attended(*SIZES, f"attention/score={score}")
    assert isinstance(module, MultiHeadAttention)
    matrices = (array(part.weight) for part in (module.query, module.key, module.value))
    heads = family.heads_of(*matrices, scores=[partial(SCORES[type(head.score)], head.score) for head in module.heads])
    for b, length in enumerate(LENGTHS):
        for q in range(query.shape[1]):
            states = array(given.states[b, :length])
            expected = family.multi_head(array(query[b, q]), states, heads, array(module.output.weight))
            assert array(found.context[b, q]) == close(expected.context)
            assert array(found.weights[b, q, :length]) == close(expected.weights)
            assert array(found.heads[b, q, :, :length]) == close(expected.each)
            assert not found.heads[b, q, :, length:].any()


def test_heads_differ_and_weights_are_their_mean():
    _, _, _, found = attended(*SIZES)
    assert found.heads.shape == (3, 2, HEADS, 4)
    assert (found.heads[0, :, 0] - found.heads[0, :, 1]).abs().max() > 0.01
    torch.testing.assert_close(found.weights, found.heads.mean(2))


def test_a_head_is_as_large_as_the_annotations_leave_it():
    module, *_ = attended("attention.form.heads=2")
    assert module.head_size == module.size // 2 == 11
    assert [type(head.alignment) for head in module.heads] == [Softmax, Softmax]


@pytest.mark.parametrize("feeding", ["true", "false"])
def test_all_steps_of_all_heads_are_there(feeding):
    batch = toy_batch()
    model = toy_model("attention=multi_head", *SIZES, f"attention.wiring.input_feeding={feeding}")
    with torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
    assert decoded.attended.heads.shape == (3, batch.target_in.shape[1], HEADS, batch.source.shape[1])
    torch.testing.assert_close(decoded.attended.heads.mean(2), decoded.weights)


def test_the_loss_of_coverage_is_that_of_all_heads():
    batch = toy_batch()
    model = toy_model("attention=multi_head", *SIZES, "attention.coverage=true", "attention.coverage_loss=0.7")
    with torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        found = model.decoder.attention.penalty(decoded.attended, torch.zeros(batch.target_in.shape), batch.target_mask)
    expected = 0.0
    for b, (words, tokens) in enumerate(zip(batch.source_lengths, batch.target_lengths, strict=True)):
        for head in range(HEADS):
            expected += family.coverage_loss(array(decoded.attended.heads[b, :tokens, head, :words]), 0.7)
    np.testing.assert_allclose(array(found), expected, rtol=1e-12)
