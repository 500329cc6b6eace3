import pytest
import torch
from composed import options
from numpy_model import array, encode, finals
from reference import attention
from toys import close, new_model, random, randomised, single_attention

from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.attention import (
    ConstantScore,
    FixedContext,
    GeneralScore,
    LocalPredictive,
    NoAlignment,
    Softmax,
    WeightedMean,
)
from nmt.model.encoder import Encoded, RecurrentEncoder, mask_from_lengths

B, Q, S, M, H = 3, 2, 5, 7, 11
LENGTHS = (5, 1, 3)


def make_source():
    """Annotations with junk where padding is."""
    lengths = torch.tensor(LENGTHS)
    return Encoded(random(B, S, M, seed=1), mask_from_lengths(lengths, S), lengths - 1, (), None)


def make_weights():
    weights = random(B, Q, S, seed=2).softmax(-1)
    return weights * make_source().mask.unsqueeze(1)


def test_every_context_is_tested_here():
    assert options("attention/context") == ["fixed", "weighted_mean"]


@pytest.mark.parametrize("fast", [True, False])
def test_weighted_mean(fast):
    context, weights = WeightedMean(M), make_weights()
    with arithmetic(fast=fast):
        values = context.prepare(make_source())
        contexts = context(weights, values)
        apart = [context(weights[:, q : q + 1], values) for q in range(Q)]
    assert context.size == M
    assert array(torch.cat(apart, 1)) == close(contexts)
    for b, length in enumerate(LENGTHS):
        for q in range(Q):
            expected = attention.weighted_mean(array(weights[b, q, :length]), array(make_source().states[b, :length]))
            assert array(contexts[b, q]) == close(expected)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
def test_fixed_context_is_what_each_direction_knows_at_its_end(bidirectional, layers):
    encoder = randomised(
        RecurrentEncoder(M, cell="gru", hidden_size=H, layers=layers, bidirectional=bidirectional, dropout=0.0).double()
    )
    embedded = random(B, S, M)
    encoded = encoder(embedded, torch.tensor(LENGTHS))
    context = FixedContext(encoder.size)
    contexts = context(make_weights(), context.prepare(encoded))
    assert contexts.shape == (B, Q, encoder.size)
    for b, length in enumerate(LENGTHS):
        encoding = encode(encoder, array(embedded[b, :length]))
        expected = attention.fixed_context(encoding.states, forward_size=H)
        assert expected == close(finals(encoding)[-1][0])
        assert array(contexts[b]) == close([expected] * Q)


@pytest.mark.parametrize("fast", [True, False])
def test_attention_composes_score_alignment_and_context(fast):
    score, alignment, context = GeneralScore(H, M), LocalPredictive(H, window=2), WeightedMean(M)
    module = randomised(single_attention(score, alignment, context).double())
    source, query = make_source(), random(B, Q, H, seed=3)
    with arithmetic(fast=fast):
        attended = module(query, module.prepare(source), 0, module.start(source))
    for b, length in enumerate(LENGTHS):
        attend = _attend(score, alignment, array(source.states[b, :length]))
        for q in range(Q):
            weights, expected = attend(array(query[b, q]), 0)
            assert array(attended.weights[b, q, :length]) == close(weights)
            assert array(attended.context[b, q]) == close(expected)


def _attend(score, alignment, states):
    W_a, W_p, v_p = (array(each.weight) for each in (score.projection, alignment.hidden, alignment.vector))  # noqa: N806
    return attention.attention(
        lambda h: attention.general(h, states, W_a),
        lambda scores, h, t: attention.local_p(scores, h, W_p, v_p[0], len(states) - 1, D=2),
        states,
    )


@pytest.mark.parametrize("annotations", ["projected", "split"])
def test_annotations_that_nobody_reads_are_refused(annotations):
    with pytest.raises(ConfigError, match="context=fixed reads no annotations, .* take attention/annotations=shared"):
        new_model("attention=none", f"attention/annotations={annotations}")


@pytest.mark.parametrize(
    ("alignment", "context", "message"),
    [
        (Softmax(), FixedContext(M), "Softmax gives weights .*FixedContext reads no weights; context=fixed goes with"),
        (NoAlignment(), WeightedMean(M), "NoAlignment gives no weights .*WeightedMean reads weights"),
    ],
)
def test_weights_that_nobody_reads_are_refused(alignment, context, message):
    with pytest.raises(ConfigError, match=message):
        single_attention(ConstantScore(), alignment, context)
