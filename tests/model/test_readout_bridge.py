from itertools import product

import numpy as np
import pytest
import torch
from composed import options
from numpy_model import BRIDGES, READOUTS, array, cell, encode
from toys import CELLS, close, random, randomised

from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.cells import make_cell
from nmt.model.decoder import AttentionalReadout, BackwardFirstBridge, FinalBridge, MaxoutReadout, ZeroBridge
from nmt.model.encoder import RecurrentEncoder

B, T, H, E, M, F, S = 3, 5, 11, 7, 13, 2, 4
LENGTHS = torch.tensor([4, 1, 3])


def test_every_readout_and_bridge_is_tested_here():
    assert options("attention/readout") == ["attentional", "maxout"]
    assert options("attention/bridge") == ["backward_first", "final", "zero"]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(
    "readout", [AttentionalReadout(H, M, H, size=F), MaxoutReadout(H, E, M, H, size=F)], ids=["attentional", "maxout"]
)
def test_readouts_equal_the_papers(readout, fast):
    readout = randomised(readout.double())
    state, embedded, context = random(B, T, H), random(B, T, E, seed=1), random(B, T, M, seed=2)
    with arithmetic(fast=fast):
        read = readout.prepare()
        found = read(state, embedded, context)
        apart = [read(state[:, t : t + 1], embedded[:, t : t + 1], context[:, t : t + 1]) for t in range(T)]
    reference = READOUTS[type(readout)](readout, H, E)
    for b, t in product(range(B), range(T)):
        assert array(found[b, t]) == close(reference(array(state[b, t]), array(embedded[b, t]), array(context[b, t])))
    assert array(torch.cat(apart, 1)) == close(found)


def test_sizes_of_readouts():
    assert AttentionalReadout(H, M, default_size=E).size == E
    assert MaxoutReadout(H, E, M, default_size=E, size=F).size == F
    assert MaxoutReadout(H, E, M, default_size=E).combine.weight.shape == (2 * E, H + E + M)
    for make in (lambda: AttentionalReadout(H, M, H, size=0), lambda: MaxoutReadout(H, E, M, H, size=0)):
        with pytest.raises(ConfigError, match="attention.readout.size=0 is not accepted; it must be at least 1"):
            make()


def test_which_state_is_read():
    assert not AttentionalReadout(H, M, H).reads_query
    assert MaxoutReadout(H, E, M, H).reads_query and not MaxoutReadout(H, E, M, H, state="new").reads_query


def make_bridge(name, encoder, hidden_size, layers, parts):
    sizes = {"hidden_size": hidden_size, "layers": layers, "parts": parts}
    if name == "zero":
        return ZeroBridge(**sizes)
    if name == "backward_first":
        return randomised(BackwardFirstBridge(encoder.backward_size, **sizes).double())
    return randomised(FinalBridge(encoder.size, encoder.final_parts, **sizes).double())


@pytest.mark.parametrize("hidden_size", [10, 11], ids=["same_size", "projected"])
@pytest.mark.parametrize(("encoder_layers", "layers"), [(1, 1), (1, 3), (2, 2), (3, 2)])
@pytest.mark.parametrize(("encoder_cell", "decoder_cell"), product(CELLS, CELLS))
@pytest.mark.parametrize("name", options("attention/bridge"))
def test_bridges_equal_the_reference(name, encoder_cell, decoder_cell, encoder_layers, layers, hidden_size):
    encoder = randomised(
        RecurrentEncoder(E, cell=encoder_cell, hidden_size=5, layers=encoder_layers, dropout=0.0).double()
    )
    cells = [make_cell(decoder_cell, E, hidden_size, feed_size=0, layer_norm=False).double() for _ in range(layers)]
    bridge = make_bridge(name, encoder, hidden_size, layers, cells[0].parts)
    embedded = random(B, S, E)
    found = bridge(encoder(embedded, LENGTHS))
    assert len(found) == layers
    for b, length in enumerate(LENGTHS.tolist()):
        encoding = encode(encoder, array(embedded[b, :length]))
        expected = BRIDGES[type(bridge)](bridge, encoding, [cell(each) for each in cells])
        for state, reference in zip(found, expected, strict=True):
            assert np.array([array(part[b]) for part in state]) == close(np.array(reference))


def test_final_states_of_one_size_go_over_as_they_are():
    encoder = RecurrentEncoder(E, cell="lstm", hidden_size=5)
    assert not list(FinalBridge(encoder.size, encoder.final_parts, 10, layers=2, parts=2).parameters())


def test_backward_first_needs_a_backward_state():
    with pytest.raises(ConfigError, match="backward_first needs a backward state, .* take a bidirectional one .*birnn"):
        BackwardFirstBridge(0, H, layers=1, parts=1)
