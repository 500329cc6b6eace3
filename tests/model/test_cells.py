from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from numpy_model import array, cell
from reference import recurrent
from toys import CELLS, close, random, randomised

from nmt.model import Rounding, arithmetic
from nmt.model.cells import LSTMCell, _Update, make_cell
from nmt.model.gating import GRU, LSTM, RNN
from nmt.model.layer import Layer, run_side_by_side

T, B, INPUT, FEED, H = 5, 3, 7, 2, 11
KINDS = list(product(CELLS, [False, True]))


def make(kind, layer_norm, feed_size=0, size=H):
    return randomised(make_cell(kind, INPUT, size, feed_size=feed_size, layer_norm=layer_norm).double())


def make_state(module, seed=1):
    return tuple(random(B, module.hidden_size, seed=seed + part) for part in range(module.parts))


def expected(module, inputs, state):
    """The reference's states [T, B, H] of each part for inputs [T, B, I]."""
    parameters = cell(module)
    steps = []
    states = [tuple(array(part[b]) for part in state) for b in range(B)]
    for x in inputs:
        states = [recurrent.step(parameters, array(x[b]), states[b]) for b in range(B)]
        steps.append(states)
    return [np.array([[state[part] for state in step] for step in steps]) for part in range(module.parts)]


def stepwise(module, inputs, feeds, state):
    """The states of each part [T, B, H], step by step."""
    advance, steps = module.prepare(), []
    for t, projected in enumerate(module.project(inputs)):
        state = advance(projected, None if feeds is None else feeds[t], state)
        steps.append(state)
    return [torch.stack(part) for part in zip(*steps, strict=True)]


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize(("kind", "layer_norm"), KINDS)
def test_steps_equal_the_papers(kind, layer_norm, fed, fast):
    module = make(kind, layer_norm, FEED if fed else 0)
    inputs, feeds = random(T, B, INPUT), random(T, B, FEED, seed=8)
    state = make_state(module)
    with arithmetic(fast=fast):
        found = stepwise(module, inputs, feeds if fed else None, state)
    whole = torch.cat([inputs, feeds], -1) if fed else inputs
    for part, reference in zip(found, expected(module, whole, state), strict=True):
        assert array(part) == close(reference)


def after(parts, ends):
    """Of parts [T, B, H] what each row has after so many steps."""
    ends = [len(parts[0])] * B if ends is None else ends
    return [np.array([array(part)[end - 1, row] for row, end in enumerate(ends)]) for part in parts]


ENDS = torch.tensor([T, 1, 3])


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("ends", [None, ENDS])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("kind", "layer_norm"), KINDS)
def test_a_whole_sequence_equals_the_papers(kind, layer_norm, fast, ends, gradient):
    """All hidden states, and the state at each row's end."""
    module = make(kind, layer_norm)
    inputs, state = random(T, B, INPUT), make_state(module)
    with arithmetic(fast=fast), torch.set_grad_enabled(gradient):
        hidden, last = module.run(inputs, state, ends=ends)
    reference = expected(module, inputs, state)
    assert array(hidden) == close(reference[0])
    for part, wanted in zip(last, after(list(map(torch.from_numpy, reference)), ends), strict=True):
        assert array(part) == close(wanted)


@pytest.mark.parametrize(("whole", "ends"), [(False, None), (True, None), (True, ENDS)])
@pytest.mark.parametrize(("kind", "layer_norm"), KINDS)
def test_gradients_of_fast_and_plain_arithmetic_agree(kind, layer_norm, whole, ends):
    feed = 0 if whole else FEED
    fast, plain = (_gradients(make(kind, layer_norm, feed), whole, ends, fast=fast) for fast in (True, False))
    for one, other in zip(fast, plain, strict=True):
        assert one.abs().sum() > 0
        assert array(one) == close(other)


def _gradients(module, whole, ends, *, fast):
    inputs, feeds = random(T, B, INPUT).requires_grad_(), random(T, B, FEED, seed=8).requires_grad_()
    state = tuple(part.requires_grad_() for part in make_state(module))
    with arithmetic(fast=fast):
        if whole:
            hidden, last = module.run(inputs, state, ends=ends)
            parts = [hidden, *last]
        else:
            parts = stepwise(module, inputs, feeds, state)
    sum((part * random(*part.shape, seed=20 + index)).sum() for index, part in enumerate(parts)).backward()
    leaves = [*module.parameters(), inputs, *state, *([] if whole else [feeds])]
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_new_lstm_remembers(layer_norm):
    module = LSTMCell(INPUT, H, layer_norm=layer_norm)
    bias = module.input_norm.bias if layer_norm else module.input.bias
    assert bias.view(4, H).tolist() == [[0.0] * H, [1.0] * H, [0.0] * H, [0.0] * H]


@pytest.mark.parametrize("kind", CELLS)
def test_new_recurrent_weights_are_orthogonal_gate_by_gate(kind):
    module = make_cell(kind, INPUT, H, feed_size=0, layer_norm=False)
    for block in module.recurrent.weight.detach().split(H):
        assert (block @ block.t()).numpy() == close(np.eye(H), 1e-5)


@pytest.mark.parametrize("kind", CELLS)
def test_a_normalised_cell_has_no_bias_before_its_norm(kind):
    assert make(kind, layer_norm=True).input.bias is None


GATINGS = pytest.mark.parametrize("gating", [LSTM, GRU, RNN])


@GATINGS
def test_update_gradient(gating):
    parts = [random(2, 3, gating.blocks * 5, seed=seed).requires_grad_() for seed in (1, 2)]
    given = gating, *parts, random(2, 3, 5, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(_Update.apply, given)


@GATINGS
def test_update_leaves_its_inputs_alone(gating):
    given = random(B, gating.blocks * H), random(B, gating.blocks * H, seed=1), random(B, H)
    before = [tensor.clone() for tensor in given]
    _Update.apply(gating, *given)
    assert all(torch.equal(tensor, old) for tensor, old in zip(given, before, strict=True))


def sequence_tensors(gating, directions):
    """Of each direction h_0, c_0 [B, H], inputs [T, B, I], their weights, recurrent weights and bias."""
    width = gating.blocks * 5
    shapes = [(2, 5), (2, 5), (3, 2, 6), (width, 6), (width, 5), (width,)] * directions
    return [random(*shape, seed=4 + number) for number, shape in enumerate(shapes)]


def run_sequences(gating, *tensors, ends=None):
    layers = []
    for start in range(0, len(tensors), 6):
        *state, inputs, weight, recurrent, bias = tensors[start : start + 6]
        given = gating, state, recurrent, bias
        layers.append(Layer(*given, fed=None, words=(inputs, weight), steps=3, rounding=Rounding.none))
    return [part for found in run_side_by_side(layers, ends) for part in found]


@GATINGS
@pytest.mark.parametrize("ends", [None, torch.tensor([2, 1])])
@pytest.mark.parametrize("directions", [1, 2])
def test_sequence_gradient(gating, directions, ends):
    given = [tensor.requires_grad_() for tensor in sequence_tensors(gating, directions)]
    assert torch.autograd.gradcheck(partial(run_sequences, gating, ends=ends), given)


@GATINGS
def test_sequence_leaves_its_inputs_alone(gating):
    given = sequence_tensors(gating, 2)
    before = [tensor.clone() for tensor in given]
    run_sequences(gating, *given)
    assert all(torch.equal(tensor, old) for tensor, old in zip(given, before, strict=True))


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("feed_size", [0, FEED])
@pytest.mark.parametrize(("kind", "layer_norm"), KINDS)
def test_a_sequence_is_the_same_without_gradients(kind, layer_norm, feed_size, bf16):
    module = make(kind, layer_norm, feed_size=feed_size)
    inputs, state = random(T, B, INPUT), make_state(module)
    feeds = random(T, B, FEED, seed=5) if feed_size else None
    with arithmetic(rounding=Rounding.bf16 if bf16 else Rounding.none):
        expected_hidden, expected_last = module.run(inputs, state, feeds)
        with torch.no_grad():
            hidden, last = module.run(inputs, state, feeds)
    assert not hidden.requires_grad
    for part, same in zip((hidden, *last), (expected_hidden, *expected_last), strict=True):
        assert part.numpy() == close(same)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("kind", "layer_norm"), KINDS)
def test_what_is_fed_beforehand_is_fed(kind, layer_norm, fast):
    module = make(kind, layer_norm, feed_size=FEED)
    inputs, feeds, state = random(T, B, INPUT), random(T, B, FEED, seed=5), make_state(module)
    with arithmetic(fast=fast):
        hidden, last = module.run(inputs, state, feeds)
        advance, states = module.prepare(), [state]
        for given in zip(module.project(inputs), feeds, strict=True):
            states.append(advance(*given, states[-1]))
    assert array(hidden) == close(torch.stack([each[0] for each in states[1:]]))
    for part, same in zip(last, states[-1], strict=True):
        assert array(part) == close(same)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("kind", "layer_norm"), KINDS)
def test_cells_together_do_what_each_does_alone(kind, layer_norm, fast):
    cells = [randomised(make(kind, layer_norm), seed=seed) for seed in (1, 2)]
    inputs, states = [random(T, B, INPUT, seed=seed) for seed in (3, 4)], [make_state(cells[0])] * 2
    with arithmetic(fast=fast):
        together = type(cells[0]).run_together(cells, inputs, states, ENDS)
        alone = [cell.run(*given, ends=ENDS) for cell, *given in zip(cells, inputs, states, strict=True)]
    for one, other in zip(together, alone, strict=True):
        for part, same in zip((one[0], *one[1]), (other[0], *other[1]), strict=True):
            torch.testing.assert_close(part, same, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_is_close(fast):
    module = make("lstm", layer_norm=False).float()
    inputs, state = random(T, B, INPUT).float(), tuple(part.float() for part in make_state(module))
    exact, _ = module.run(inputs, state)
    with arithmetic(rounding=Rounding.bf16, fast=fast):
        rounded, _ = module.run(inputs, state)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05
