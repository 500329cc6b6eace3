"""Encoders without recurrence, self-attention over a recurrent encoder, and the decoder's look back."""

import numpy as np
import pytest
import torch
from composed import composed
from numpy_model import array, encode, finals, heads
from reference import family
from toys import close, gradients, random, randomised, toy_batch, toy_model

from nmt.assemble import build_model
from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.decoder import CausalSelfAttention, NoSelfAttention
from nmt.model.encoder import (
    AttendedRecurrentEncoder,
    ConvolutionalEncoder,
    RecurrentEncoder,
    SelfAttentionEncoder,
    mask_from_lengths,
)
from nmt.model.self_attention import sinusoids

B, S, E, H = 3, 7, 5, 6
LENGTHS = torch.tensor([4, 7, 1])
ENCODERS = [
    (SelfAttentionEncoder, {"layers": 1, "heads": 1}),
    (SelfAttentionEncoder, {"layers": 3, "heads": 3, "feed_forward_size": 7}),
    (AttendedRecurrentEncoder, {"heads": 4}),
    (AttendedRecurrentEncoder, {"heads": 2, "cell": "gru", "layers": 2, "residual": True, "bidirectional": False}),
    (ConvolutionalEncoder, {"max_positions": 20}),
    (ConvolutionalEncoder, {"max_positions": 2, "layers": 3, "value_layers": 1, "kernel": 5}),
    (ConvolutionalEncoder, {"max_positions": 7, "layers": 1, "value_layers": 3, "kernel": 1}),
]
every_encoder = pytest.mark.parametrize(("kind", "given"), ENCODERS)


def make(kind, given, **more):
    torch.manual_seed(1)
    return randomised(kind(E, **{"hidden_size": H, "dropout": 0.0, **given, **more}).double())


def read(encoded):
    """What attention reads."""
    return encoded.states if encoded.values is None else encoded.values


@pytest.mark.parametrize("fast", [True, False])
@every_encoder
def test_encoder_equals_the_papers(kind, given, fast):
    encoder, embedded = make(kind, given), random(B, S, E)
    with arithmetic(fast=fast):
        encoded = encoder(embedded, LENGTHS)
    assert encoded.states.shape == read(encoded).shape == (B, S, encoder.size)
    assert tuple(map(len, encoded.finals)) == encoder.final_parts
    for b, length in enumerate(LENGTHS.tolist()):
        expected = encode(encoder, array(embedded[b, :length]))
        assert array(encoded.states[b, :length]) == close(expected.states)
        assert array(read(encoded)[b, :length]) == close(expected.values)
        assert not encoded.states[b, length:].any() and not read(encoded)[b, length:].any(), "a state on padding"
        for found, reference in zip(encoded.finals, finals(expected), strict=True):
            assert np.array([array(part[b]) for part in found]) == close(np.array(reference))


@every_encoder
def test_what_stands_on_padding_is_of_no_consequence(kind, given):
    encoder, embedded = make(kind, given), random(B, S, E)
    mask = mask_from_lengths(LENGTHS, S)
    junk = torch.where(mask.unsqueeze(2), embedded, 1e3).requires_grad_()
    encoded, expected = encoder(junk, LENGTHS), encoder(embedded, LENGTHS)
    for found, wanted in ((encoded.states, expected.states), (read(encoded), read(expected))):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(encoded.summary, expected.summary, rtol=1e-12, atol=1e-12)
    sum(tensor.square().sum() for tensor in (encoded.states, read(encoded), encoded.summary)).backward()
    assert not junk.grad[~mask].any()
    assert junk.grad[mask].abs().sum(-1).min() > 0


def test_annotations_are_as_large_as_those_of_a_bidirectional_rnn():
    for kind, given in ((SelfAttentionEncoder, {"heads": 2}), (ConvolutionalEncoder, {"max_positions": 3})):
        encoder = make(kind, given)
        assert (encoder.size, encoder.backward_size) == (RecurrentEncoder(E, hidden_size=H).size, 0)
        assert encoder(random(B, S, E), LENGTHS).backward_first is None


def test_the_decoder_starts_from_the_recurrent_states_alone():
    encoder, embedded = make(AttendedRecurrentEncoder, {"heads": 2, "layers": 2}), random(B, S, E)
    encoded, bare = encoder(embedded, LENGTHS), encoder.recurrent(embedded, LENGTHS)
    assert (encoder.size, encoder.backward_size, encoder.final_parts) == (2 * H, H, (2, 2))
    assert torch.equal(encoded.backward_first, bare.backward_first)
    assert all(map(torch.equal, encoded.finals[1], bare.finals[1]))
    assert not torch.equal(encoded.states, bare.states)


def test_the_decoder_starts_from_the_mean_of_the_values():
    encoded = make(ConvolutionalEncoder, {"max_positions": 9})(random(B, S, E), LENGTHS)
    for b, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(encoded.summary[b], encoded.values[b, :length].mean(0))


@pytest.mark.parametrize("size", [1, 6, 7])
def test_sinusoids_are_the_papers(size):
    expected = [family.sinusoid(position, size) for position in range(300)]
    assert array(sinusoids(300, size, torch.zeros(1, dtype=torch.float64))) == close(expected)
    single = sinusoids(300, size, torch.zeros(1))
    assert single.dtype == torch.float32 and array(single) == close(expected, 1e-4)


def test_words_are_as_loud_as_positions_at_first():
    """Embeddings begin uniform in [-0.1, 0.1]: without the factor sqrt(D) the sinusoids would drown them."""
    torch.manual_seed(2)
    words = SelfAttentionEncoder(128, hidden_size=128).input(torch.rand(50, 128) * 0.2 - 0.1)
    assert 0.5 < words.std() < 1.0 and sinusoids(50, 256, words).square().mean().sqrt() == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize(
    ("kind", "given", "count"),
    [
        (SelfAttentionEncoder, {"layers": 2, "heads": 2}, 5),
        (AttendedRecurrentEncoder, {"heads": 2}, 1),
        (ConvolutionalEncoder, {"max_positions": 9}, 1),
    ],
)
def test_dropout_falls_where_it_should_in_training_alone(kind, given, count, variational):
    encoder, dropped = make(kind, given, dropout=0.5, variational_dropout=variational).train(), []
    encoder.dropout.register_forward_hook(lambda _, __, states: dropped.append(states == 0))
    torch.manual_seed(5)
    encoder(random(B, S, E), torch.tensor([S] * B))
    assert len(dropped) == count and all(mask.any() for mask in dropped)
    assert all(torch.equal(mask, mask[:, :1].expand_as(mask)) == variational for mask in dropped)
    one, other = (encoder.eval()(random(B, S, E), LENGTHS).states for _ in range(2))
    assert torch.equal(one, other)


REFUSED = [
    (SelfAttentionEncoder, {"hidden_size": 0}, "encoder.hidden_size=0 is not accepted; it must be at least 1"),
    (SelfAttentionEncoder, {"layers": 0}, "encoder.layers=0 is not accepted"),
    (SelfAttentionEncoder, {"feed_forward_size": 0}, "encoder.feed_forward_size=0 is not accepted"),
    (SelfAttentionEncoder, {"dropout": 1.0}, "encoder.dropout=1.0 is not accepted; it must be at least 0 and below 1"),
    (SelfAttentionEncoder, {"heads": 0}, "encoder.heads=0 is not accepted; it must be at least 1 and divide"),
    (SelfAttentionEncoder, {"heads": 5}, "encoder.heads=5 is not accepted; .* divide the states' size, 12"),
    (AttendedRecurrentEncoder, {"heads": 5}, "encoder.heads=5 is not accepted; .* divide the states' size, 12"),
    (AttendedRecurrentEncoder, {"layers": 0}, "encoder.layers=0 is not accepted"),
    (ConvolutionalEncoder, {"max_positions": 0}, "encoder.max_positions=0 is not accepted"),
    (ConvolutionalEncoder, {"max_positions": 2, "value_layers": 0}, "encoder.value_layers=0 is not accepted"),
    (ConvolutionalEncoder, {"max_positions": 2, "kernel": 4}, "encoder.kernel=4 is not accepted; it must be odd"),
    (ConvolutionalEncoder, {"max_positions": 2, "kernel": -1}, "encoder.kernel=-1 is not accepted"),
    (ConvolutionalEncoder, {"max_positions": 2, "dropout": -0.1}, "encoder.dropout=-0.1 is not accepted"),
]


@pytest.mark.parametrize(("kind", "given", "message"), REFUSED)
def test_wrong_options_are_refused(kind, given, message):
    with pytest.raises(ConfigError, match=message):
        make(kind, given)


def built(*overrides):
    return build_model(composed(*overrides), source_size=11, target_size=13, joint=False)


@pytest.mark.parametrize("encoder", ["birnn_self_attention", "cnn", "self_attention"])
# of annotations they ask the decoder's size, an even one, a multiple of four, a backward state; and nothing
@pytest.mark.parametrize("attention", ["luong_dot", "hierarchical", "multi_head", "bahdanau", "none"])
def test_attention_reads_every_encoder_without_further_options(attention, encoder):
    chosen = (f"attention={attention}", f"encoder={encoder}")
    if attention == "bahdanau" and encoder != "birnn_self_attention":
        with pytest.raises(
            ConfigError, match="backward_first needs a backward state, which this encoder does not have"
        ):
            built(*chosen)
        chosen = (*chosen, "attention/bridge=final")
    assert built(*chosen).encoder.size == 256


@pytest.mark.parametrize(
    ("attention", "encoder", "idle"),
    [
        ("none", "cnn", "encoder.keys."),
        ("mean", "cnn", "encoder.keys."),
        ("luong_location", "cnn", "encoder.keys."),
        ("none", "birnn_self_attention", "encoder.attention."),
    ],
)
def test_what_no_attention_reads_is_idle_and_nothing_else(attention, encoder, idle):
    heads = ("encoder.heads=2",) if encoder == "birnn_self_attention" else ()
    found = gradients(toy_model(f"attention={attention}", f"encoder={encoder}", *heads), toy_batch())
    names = [name for name, gradient in found.items() if not gradient.any()]
    assert names and names == [name for name in found if name.startswith(idle)]


# the decoder's look back


def look_back(size=12, heads=3, **options):
    torch.manual_seed(1)
    module = CausalSelfAttention(size, heads, **{"dropout": 0.0, "variational_dropout": False, **options})
    return randomised(module.double())


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_looking_back_equals_the_reference(count, fast):
    module, tops = look_back(heads=count), random(B, 1, 6, 12)
    with arithmetic(fast=fast):
        found, past = module.prepare()(tops, module.start(tops[:, :, 0]))
    assert past[0].shape == (B, 1, 6, 24)
    for b in range(B):
        assert array(found[b, 0]) == close(family.causal_self_attention(array(tops[b, 0]), *heads(module)))


@pytest.mark.parametrize("parts", [[1] * 6, [4, 2], [1, 5]])
def test_looking_back_in_parts_is_looking_back_at_once(parts):
    module, tops = look_back(), random(B, 2, 6, 12)
    use, past, found = module.prepare(), module.start(tops[:, :, 0]), []
    for part in tops.split(parts, dim=2):
        read_part, past = use(part, past)
        found.append(read_part)
    torch.testing.assert_close(torch.cat(found, 2), module.prepare()(tops, module.start(tops[:, :, 0]))[0])


def test_gradients_of_steps_are_those_of_the_whole():
    module, tops = look_back(), random(B, 1, 5, 12)

    def learned(parts):
        module.zero_grad()
        use, past, total = module.prepare(), module.start(tops[:, :, 0]), 0.0
        for part in tops.split(parts, dim=2):
            read_part, past = use(part, past)
            total = total + read_part.sin().sum()
        total.backward()
        return [parameter.grad.clone() for parameter in module.parameters()]

    for steps, whole in zip(learned([1] * 5), learned([5]), strict=True):
        assert steps.any()
        torch.testing.assert_close(steps, whole)


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_falls_on_what_the_look_back_adds(variational):
    module = look_back(dropout=0.5, variational_dropout=variational).train()
    torch.manual_seed(6)
    for parts in ([6], [1] * 6):
        tops = random(B, 1, 6, 12)
        use, past, masks = module.prepare(), module.start(tops[:, :, 0]), []
        for part in tops.split(parts, dim=2):
            read_part, past = use(part, past)
            masks.append(read_part == part)
        dropped = torch.cat(masks, 2)
        assert 0.3 < dropped.double().mean() < 0.7
        assert torch.equal(dropped, dropped[:, :, :1].expand_as(dropped)) == variational


def test_the_look_back_is_off_unless_asked_for():
    off, on = built().decoder, built("decoder.self_attention=true", "decoder.self_attention_heads=8").decoder
    assert type(off.self_attention) is NoSelfAttention and not list(off.self_attention.parameters())
    assert isinstance(on.self_attention, CausalSelfAttention) and on.self_attention.heads == 8


@pytest.mark.parametrize(
    ("heads_given", "message"),
    [(3, "decoder.self_attention_heads=3 is not accepted; .* divide the states' size, 256"), (0, "at least 1")],
)
def test_heads_that_do_not_divide_the_hidden_size_are_refused(heads_given, message):
    with pytest.raises(ConfigError, match=message):
        built("decoder.self_attention=true", f"decoder.self_attention_heads={heads_given}")
