import numpy as np
import pytest
import torch
from numpy_model import array, encode, finals
from toys import CELLS, close, random, randomised

from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.encoder import RecurrentEncoder, mask_from_lengths
from nmt.model.encoder.rnn import _reorder, _reversal

B, S, E, H = 3, 7, 5, 11
LENGTHS = torch.tensor([4, 7, 1])


def make(**options):
    torch.manual_seed(1)
    return randomised(RecurrentEncoder(E, hidden_size=H, dropout=0.0, **options).double())


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("layers", "residual"), [(1, False), (2, False), (3, True)])
@pytest.mark.parametrize("cell", CELLS)
def test_encoder_equals_the_papers(cell, layers, residual, bidirectional, layer_norm, fast):
    encoder = make(cell=cell, layers=layers, residual=residual, bidirectional=bidirectional, layer_norm=layer_norm)
    embedded = random(B, S, E)
    with arithmetic(fast=fast):
        encoded = encoder(embedded, LENGTHS)
    assert encoded.states.shape == (B, S, encoder.size)
    assert len(encoded.finals) == layers and tuple(map(len, encoded.finals)) == encoder.final_parts
    for b, length in enumerate(LENGTHS.tolist()):
        expected = encode(encoder, array(embedded[b, :length]))
        assert array(encoded.states[b, :length]) == close(expected.states)
        assert not encoded.states[b, length:].any(), "a state on padding"
        for found, reference in zip(encoded.finals, finals(expected), strict=True):
            assert np.array([array(part[b]) for part in found]) == close(np.array(reference))
        assert array(encoded.summary[b]) == close(finals(expected)[-1][0])
        if bidirectional:
            assert array(encoded.backward_first[b]) == close(expected.backward_first[-1][0])


def test_what_is_known_of_a_batch():
    encoded = make()(random(B, S, E), LENGTHS)
    assert encoded.mask.sum(1).tolist() == LENGTHS.tolist()
    assert encoded.lengths.tolist() == [3, 6, 0], "words without EOS"
    assert make(bidirectional=False)(random(B, S, E), LENGTHS).backward_first is None


@pytest.mark.parametrize(("bidirectional", "size", "backward"), [(True, 2 * H, H), (False, H, 0)])
def test_sizes(bidirectional, size, backward):
    encoder = make(bidirectional=bidirectional)
    assert (encoder.size, encoder.backward_size) == (size, backward)


def test_no_gradient_reaches_padding():
    embedded = random(B, S, E).requires_grad_()
    encoded = make(layers=2)(embedded, LENGTHS)
    sum(tensor.square().sum() for tensor in (encoded.states, encoded.summary, encoded.backward_first)).backward()
    mask = mask_from_lengths(LENGTHS, S)
    assert not embedded.grad[~mask].any()
    assert embedded.grad[mask].abs().sum(-1).min() > 0


def test_layers_have_dropout_masks_of_their_own():
    torch.manual_seed(4)
    encoder = RecurrentEncoder(E, cell="gru", hidden_size=H, layers=2, dropout=0.5, variational_dropout=True).train()
    kept = []
    encoder.dropout.register_forward_hook(lambda _, __, states: kept.append(states != 0))
    encoder(torch.randn(B, S, E), torch.tensor([S] * B))
    assert len(kept) == 2 and not torch.equal(*kept)
    for mask in kept:
        assert torch.equal(mask, mask[:, :1].expand_as(mask)), "one mask for all positions"


@pytest.mark.parametrize(("name", "value"), [("hidden_size", 0), ("layers", 0), ("dropout", 1.0), ("dropout", -0.1)])
def test_wrong_options_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"encoder.{name}={value} is not accepted; it must be at least"):
        RecurrentEncoder(E, **{name: value})


def test_mask_is_true_on_real_tokens():
    assert mask_from_lengths(torch.tensor([2, 0, 3]), 3).tolist() == [[True, True, False], [False] * 3, [True] * 3]


def test_an_order_that_undoes_itself_has_its_gradient():
    sequence = random(3, 5, 2).requires_grad_()
    order = _reversal(torch.tensor([5, 2, 4]), 5)
    assert torch.equal(_reorder(_reorder(sequence, order), order), sequence)
    assert torch.equal(_reorder(sequence, order)[1, :, 0], sequence[1, [1, 0, 2, 3, 4], 0])
    assert torch.autograd.gradcheck(lambda given: _reorder(given, order), sequence)
