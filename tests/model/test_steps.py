"""All steps with one call of the library, against the same parts gone through one by one."""

import pytest
import torch
from composed import composed
from test_recurrence import BY_HAND, compared
from toys import assert_same, batch_for, close, randomised

from nmt.assemble import build_model
from nmt.model import Rounding, arithmetic, layer, recurrence
from nmt.model.cells import GRUCell, LSTMCell, RNNCell
from nmt.model.gating import LSTM
from nmt.model.layer import Layer
from nmt.model.library import compiled, library, multiplies_floats, multiplies_integers
from nmt.model.products import Factor
from nmt.model.recurrence import Attend, BilinearSteps
from nmt.model.steps import LayerSteps, describe

pytestmark = pytest.mark.skipif(not multiplies_floats(), reason="this processor has no AVX-512")
# that multiply in panels, those of AMD by oneDNN
ROUNDINGS = [Rounding.none, Rounding.int16, Rounding.int8] if multiplies_integers() else [Rounding.none]
SIZES = ("embedding.size=64", "encoder.hidden_size=64", "decoder.hidden_size=128", "training.max_length=29")
PLAIN = ("embedding.dropout=0", "encoder.dropout=0", "decoder.dropout=0")
# what steps.c has no score or weights of, and a stack of layers, leave the decoder's steps to Python
VARIANTS = [each for each in BY_HAND if not any("location" in choice for choice in each[1:])]
ENCODER_ALONE = {f"attention={name}" for name in ("luong_location", "local_p", "cosine", "multi_head")} | {
    "attention/alignment=local_p",
    "attention/score=cosine",
    "decoder.layers=3",
}


@pytest.fixture(autouse=True)
def in_panels(monkeypatch):
    monkeypatch.setattr("nmt.model.products._ONEDNN_FLOAT32", False)


@pytest.fixture
def calls(monkeypatch):
    """The names of the library's functions for all steps that were called."""
    seen = []

    class Counted:
        def __getattr__(self, name):
            return lambda *given: seen.append(name) or getattr(library(), name)(*given)

    for module in (layer, recurrence):
        monkeypatch.setattr(module, "compiled", Counted)
    return seen


def one_by_one(monkeypatch, *, halves=False):
    """With keys and values that float16 has, if asked to."""
    for module in (layer, recurrence):
        monkeypatch.setattr(module, "describe_factor", lambda structure, factor: None)
    begin = Attend.begin

    def begin_in_halves(attend):
        begin(attend)
        if halves and isinstance(attend.score, BilinearSteps):
            attend.score.keys, attend.values = (each.half().float() for each in (attend.score.keys, attend.values))

    monkeypatch.setattr(Attend, "begin", begin_in_halves)


def model_of(*overrides):
    """A model of sizes that are laid out for products, with random parameters."""
    config = composed("data=synthetic", *SIZES, *PLAIN, *overrides)
    return randomised(build_model(config, source_size=17, target_size=19, joint=False), size=0.2).float()


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda rounding: rounding.value)
@pytest.mark.parametrize("names", [None, {"readouts"}, {"weights"}, {"states", "context"}, {"layer 0.0", "layer 0.1"}])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: ",".join(variant))
def test_equals_its_steps(variant, names, rounding, calls, monkeypatch):
    """With padding on both sides, and a sentence that is nothing but its end."""
    model, attended = model_of(*variant), []
    batch = batch_for(model)
    monkeypatch.setattr(Attend, "begin", lambda attend, begin=Attend.begin: attended.append(attend) or begin(attend))
    with arithmetic(rounding=rounding):
        found = compared(model, batch, names)
        assert "layers_forward" in calls
        at_once = not ENCODER_ALONE & set(variant)
        assert any(name.startswith("fed_") and name.endswith("_back") for name in calls) == at_once
        calls.clear()
        halves = rounding.kinds is not None and at_once and isinstance(attended.pop().score, BilinearSteps)
        one_by_one(monkeypatch, halves=halves)
        expected = compared(model, batch, names)
    assert not calls
    # other sums: what lies in the middle of two whole numbers is rounded to the other one
    near = (2e-2 if rounding is Rounding.int8 else 1e-3) if halves else 1e-5
    assert_same(found[0], expected[0], near)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        # words' gradients are those of rows of a step here, of rows of all steps there, which have other coins
        coins = rounding is Rounding.int8 and name.startswith(("source_embedding", "target_embedding", "encoder"))
        least = 4e-2 if coins else max(2 * near, 1e-4)
        assert (gradient - expected[1][name]).norm() <= least * expected[1][name].norm() + 1e-6, name


@pytest.mark.parametrize("variational", [False, True])
def test_dropout_falls_on_readouts(variational, calls, monkeypatch):
    model = model_of("attention=luong_general")
    model.decoder.dropout.rate, model.decoder.dropout.variational = 0.4, variational
    batch = batch_for(model)

    def run():
        torch.manual_seed(5)
        return compared(model, batch)

    found = run()
    assert "fed_readouts_back" in calls and (found[0]["readouts"] == 0).any(-1).all()
    one_by_one(monkeypatch)
    for one, other in zip(found, run(), strict=True):
        assert_same(one, other, 1e-5)


@pytest.mark.parametrize("attention", ["luong_general", "bahdanau"])
def test_one_pair_of_one_token(attention, calls, monkeypatch):
    """What is one long in time and batch has no stride of its own."""
    model = model_of(f"attention={attention}")
    batch = batch_for(model, source_lengths=(0,), target_lengths=(0,))
    found = compared(model, batch)
    assert len(calls) == 4
    one_by_one(monkeypatch)
    for one, other in zip(found, compared(model, batch), strict=True):
        assert_same(one, other, 1e-5)


@pytest.mark.parametrize("attention", ["luong_general", "bahdanau"])
def test_goes_back_again_with_other_gradients(attention):
    """What the first time was given, the second must not read."""
    model = model_of(f"attention={attention}")
    batch = batch_for(model)
    parameters = [each for each in model.decoder.parameters() if each.requires_grad]

    def again(*names):
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        parts = {name: getattr(decoded, name).square().sum() for name in ("weights", "states", "readouts")}
        for name in names:
            found = torch.autograd.grad(parts[name], parameters, retain_graph=True, allow_unused=True)
        return found

    for one, other in zip(again("weights", "states", "readouts"), again("readouts"), strict=True):
        assert (one is None and other is None) or one.numpy() == close(other, 1e-5)


@pytest.mark.parametrize("ends", [None, torch.tensor([7, 1, 3, 6, 3])])
@pytest.mark.parametrize("kind", [LSTMCell, GRUCell, RNNCell])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(layers, kind, ends, calls, monkeypatch):
    """Layers side by side have a thread each where there are enough of them; and as step by step."""
    torch.manual_seed(4)
    cells, inputs = [kind(64, 64) for _ in range(layers)], [torch.randn(7, 5, 64) for _ in range(layers)]
    states = [cell.zero_state(each, 5) for cell, each in zip(cells, inputs, strict=True)]
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3, 4, 2):
            torch.set_num_threads(number)
            if len(found) == 4:
                assert len(calls) == 8
                one_by_one(monkeypatch)
            outputs = kind.run_together(cells, inputs, states, ends)
            total = sum((all_ * all_).sum() + (last[0] * last[0]).sum() + last[-1].sum() for all_, last in outputs)
            parameters = [each for cell in cells for each in cell.parameters() if each.requires_grad]
            found.append((total, *torch.autograd.grad(total, parameters)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert one.detach().numpy() == close(same, 1e-5)


def test_small_matrices_and_double_precision_go_one_by_one(calls):
    for cell, inputs in ((LSTMCell(64, 32), torch.randn(3, 2, 64)), (LSTMCell(64, 64).double(), random_double())):
        hidden, _ = cell.run(inputs, cell.zero_state(inputs, 2))
        hidden.sum().backward()
    assert not calls


def random_double():
    return torch.randn(3, 2, 64, dtype=torch.float64)


def test_what_is_not_there_any_more_is_not_read():
    structure, buffer = LayerSteps(), torch.zeros(3, 2, 4)
    describe(structure, of_hiddens=buffer, batch=2)
    assert structure.of_hiddens.values == buffer.data_ptr()
    assert (structure.of_hiddens.step, structure.of_hiddens.row) == (8, 4)
    describe(structure, of_hiddens=None)
    assert structure.of_hiddens.values is None and structure.batch == 2


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, 2, 4).double(), torch.zeros(2, 4), torch.zeros(3, 4, 2).transpose(1, 2)]
)
def test_what_the_library_would_misread_is_refused(wrong):
    with pytest.raises(AssertionError):
        describe(LayerSteps(), gates=wrong)


def test_a_layer_is_described_where_its_matrix_is_laid_out():
    def made(size, rounding):
        given = (torch.zeros(2, size), torch.zeros(2, size)), torch.zeros(4 * size, size), torch.zeros(4 * size)
        found = Layer(LSTM, *given, fed=None, words=None, steps=3, rounding=rounding)
        found.begin()
        return found.described

    assert compiled() is not None and Factor(torch.zeros(256, 64), rounding=Rounding.none).laid_out is not None
    assert made(64, Rounding.none) is not None
    assert made(32, Rounding.none) is None and made(64, Rounding.bf16) is None
