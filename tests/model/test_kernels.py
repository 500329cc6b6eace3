"""The functions in C, and those for GPUs, against torch's operations beside them, and a whole model with each.

Without a GPU its functions are read by Triton's interpreter, on the CPU.
"""

from functools import cache
from pathlib import Path

import pytest
import torch
from toys import close, new_model, toy_batch

from nmt.model import Rounding, arithmetic, kernels
from nmt.model.attention.base import masked_softmax
from nmt.model.gating import GRU, LSTM, RNN
from nmt.training.loss import batch_loss

# more than a GPU's program takes at a time: columns, elements, logits
B, H, S, V = 21, 300, 9, 4501
LOW = [torch.float32, torch.bfloat16]
# what is rounded to bf16 may be rounded apart
NEAR = {torch.float32: 1e-5, torch.bfloat16: 8e-3}

KINDS = pytest.mark.parametrize("gating", [LSTM, GRU, RNN])

compiled = pytest.mark.skipif(kernels.library() is None, reason="nmt/model/kernels.c is not compiled here")


@pytest.fixture(params=[pytest.param("C", marks=compiled), "GPU"])
def way(request, monkeypatch):
    """One of the two, in force for what is made on the default device."""
    if request.param == "C":
        yield monkeypatch
        return
    triton = pytest.importorskip("triton", reason="NOT TESTED: there is no Triton")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and tuple(map(int, triton.__version__.split(".")[:2])) < (3, 9):
        pytest.skip("NOT TESTED: this Triton cannot interpret loops with this NumPy; 3.9 can")
    monkeypatch.setattr(kernels, "library", lambda: None)
    monkeypatch.setattr(kernels, "_GPUS", (device,))
    with torch.device(device):
        yield monkeypatch


@pytest.fixture
def only_c(monkeypatch):
    """The library alone."""
    if kernels.library() is None:
        pytest.skip("nmt/model/kernels.c is not compiled here")
    return monkeypatch


def noise(*shape, seed=0, low=torch.float32, scale=2.0):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), device="cpu") * scale
    return drawn.to(torch.get_default_device(), low)


def both(way, function):
    """What ``function`` returns in that way and in torch's, on the CPU."""
    found = function()
    with way.context() as patch:
        patch.setattr(kernels, "library", lambda: None)
        patch.setattr(kernels, "_GPUS", ())
        expected = function()
    return [each.cpu() for each in found], [each.cpu() for each in expected]


def assert_near(found, expected, low=torch.float32):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.double().numpy() == close(other.double(), NEAR[one.dtype if low is None else low])


def rows_of(low, size, places=3):
    """A place for rows inside a wider buffer."""
    return torch.zeros(B, places * size, dtype=low)


@KINDS
@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("given", ["all", "wide", "inputs", "bias"])
@pytest.mark.parametrize("kept", [True, False])
def test_cell_forward(way, gating, low, given, kept):
    wide_or_low, width = torch.float32 if given == "wide" else low, gating.blocks * H

    def run():
        wide, other = rows_of(low, H), rows_of(low, H)
        gates = torch.empty(B, width) if kept else None
        squashed = torch.empty(B, H) if kept and gating.squashes else None
        hidden, new = torch.empty(B, H), torch.empty(B, H)
        gating.forward(
            noise(B, width, low=low),
            noise(B, H, seed=1),
            hidden,
            new,
            inputs=None if given == "bias" else noise(B, 2 * width, seed=2, low=wide_or_low)[:, :width],
            bias=None if given == "inputs" else noise(width, seed=3),
            gates=gates,
            squashed=squashed,
            lows=[wide[:, H : 2 * H], other[:, 2 * H :]],
        )
        return [each for each in (hidden, new, gates, squashed, wide, other) if each is not None]

    found, expected = both(way, run)
    assert_near(found[:-2], expected[:-2])
    assert_near(found[-2:], expected[-2:], low)
    assert found[-1].any() and not found[-1][:, : 2 * H].any()


@KINDS
@pytest.mark.parametrize("low", LOW)
def test_cell_back(way, gating, low):
    def run():
        of_cell, of_gates = noise(B, H, seed=4), torch.empty(B, gating.blocks * H, dtype=low)
        gates = torch.sigmoid(noise(B, gating.blocks * H))
        squashed = torch.tanh(noise(B, H, seed=2)) if gating.squashes else None
        terms = [noise(B, H, seed=5), noise(B, 3 * H, seed=6, low=low)[:, H : 2 * H], noise(B, H, seed=7)]
        gating.back(gates, noise(B, H, seed=1), squashed, terms, of_cell, of_gates)
        return of_cell, of_gates

    found, expected = both(way, run)
    assert_near(found[:1], expected[:1])
    assert_near(found[1:], expected[1:], low)


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("masks", [0, 1, B])
def test_squash(way, low, masks):
    mask = noise(masks, H, seed=1) if masks else None

    def run():
        plain, wide = torch.empty(B, H), rows_of(low, H)
        output = plain if mask is None else torch.empty(B, H)
        kernels.squash(noise(B, H, low=low), mask, plain, output, wide[:, H : 2 * H])
        of_products = torch.empty(B, H, dtype=low)
        kernels.squash_back([noise(B, 2 * H, low=low)[:, H:], noise(B, H, seed=3)], mask, plain, of_products)
        return plain, output, wide, of_products

    found, expected = both(way, run)
    assert_near(found[:2], expected[:2])
    assert_near(found[2:], expected[2:], low)


def sources(positions):
    """Of sentences of all lengths: which positions are allowed, what is added to their scores, and values."""
    allowed = torch.arange(positions) < torch.arange(B).remainder(positions + 1).unsqueeze(1)
    padding = torch.zeros(B, positions).masked_fill_(~allowed, torch.finfo(torch.float32).min)
    return allowed, padding, noise(B, positions, H)


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("from_elsewhere", [True, False])
@pytest.mark.parametrize("positions", [S, 40])
def test_attend(way, low, from_elsewhere, positions):
    allowed, padding, values = sources(positions)
    scores = noise(B, positions, seed=1, scale=30.0)
    # as a score that does not know a position says
    scores[:, 3] = float("-inf")

    def run():
        weights, contexts, wide = torch.empty(B, positions), torch.empty(B, H), rows_of(low, H)
        kernels.attend(scores, padding, allowed.float(), values, weights, contexts, wide[:, :H])
        of_contexts, of_scores = torch.empty(B, H), torch.empty(B, positions)
        of_weights = noise(B, 2 * positions, seed=4)[:, positions:] if from_elsewhere else None
        terms = [noise(B, 2 * H, seed=5, low=low)[:, H:], noise(B, H, seed=6)]
        kernels.attend_back(terms, of_weights, weights, values, of_contexts, of_scores)
        return weights, contexts, of_contexts, of_scores, wide

    found, expected = both(way, run)
    assert not found[0][~allowed.cpu()].any() and not found[0][:, 3].any() and found[0][1:, 0].any()
    assert_near(found[:3], expected[:3])
    assert found[3].numpy() == close(expected[3], 2e-5)
    assert_near(found[4:], expected[4:], low)


@pytest.mark.parametrize("low", LOW)
def test_additive(way, low):
    of_scores = noise(B, S, seed=3)
    of_scores[:, -2:] = 0.0

    def run():
        given = noise(B, H, low=low), noise(B, S, H, seed=1), noise(H, seed=2)
        of_keys, of_products, of_vector = noise(B, S, H, seed=4), torch.empty(B, H, dtype=low), noise(H, seed=5)
        kernels.additive_back(*given, of_scores, of_keys, of_products, of_vector)
        return kernels.additive(*given), of_keys, of_vector, of_products

    found, expected = both(way, run)
    assert found[0].numpy() == close(expected[0], 1e-5)
    assert found[2].numpy() == close(expected[2], 1e-4)
    assert_near(found[1:2], expected[1:2])
    assert found[3].double().numpy() == close(expected[3].double(), 2e-5 if low == torch.float32 else 6e-2)


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("padded", [True, False])
def test_cross_entropy(way, low, smoothing, padded):
    real = torch.arange(B).remainder(3) > 0 if padded else None

    def run():
        logits, nll, of_bias = noise(B, V, low=low), torch.empty(B), noise(V, seed=3)
        targets = torch.arange(B).remainder(V)
        given = noise(V, seed=1), targets, real, smoothing, nll, of_bias
        kernels.cross_entropy(logits, *given, differentiate=True)
        return nll, of_bias, logits

    found, expected = both(way, run)
    assert_near(found[:1], expected[:1])
    if low == torch.float32 or kernels.library() is not None:
        assert_near(found[1:2], expected[1:2])
    else:
        # on a GPU the sum of what was rounded
        assert found[1].numpy() == close(expected[1], 2e-2)
    assert_near(found[2:], expected[2:], low)
    assert real is None or not found[2][~real.cpu()].any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("padded", [True, False])
def test_targets_apart_are_joined_to_the_gradients(only_c, smoothing, padded):
    """Two rows have a target in common."""
    real = torch.arange(B).remainder(3) > 0 if padded else None
    targets = torch.arange(B).remainder(V)
    targets[4] = targets[5]

    def run():
        whole, weight, readouts = noise(B, V), noise(V, H, seed=4), noise(B, H, seed=5)
        kernels.cross_entropy(
            whole, noise(V, seed=1), targets, real, smoothing, torch.empty(B), torch.zeros(V), differentiate=True
        )
        own = torch.zeros(B, V).scatter_(1, targets.unsqueeze(1), smoothing - 1)
        others = whole - (own if real is None else own * real.unsqueeze(1))
        of_readouts, of_weight = others @ weight, others.t() @ readouts
        both_ways = {"readouts": readouts, "of_readouts": of_readouts}
        kernels.join_targets(targets, real, 1 - smoothing, weight=weight, of_weight=of_weight, **both_ways)
        assert_near([of_readouts, of_weight], [whole @ weight, whole.t() @ readouts])
        return of_readouts, of_weight

    assert_near(*both(only_c, run))


@pytest.mark.parametrize("vocabulary", [3, 500])
def test_sums_by_token(only_c, vocabulary):
    tokens = torch.randint(0, vocabulary, (200,), generator=torch.Generator().manual_seed(1))
    values = noise(200, H + 2)[:, 1:-1]
    found, expected = both(only_c, lambda: (kernels.add_by_token(tokens, values, vocabulary),))
    assert found[0].shape == (vocabulary, H)
    assert_near(found, expected)


def test_sum_of_squares_is_the_same_by_any_number_of_threads(only_c):
    tensors = [noise(*shape) for shape in [(), (5,), (300, 70), (65536,), (3, 65537), (0,)]]
    expected, threads = sum(float(each.double().square().sum()) for each in tensors), torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(kernels.sum_of_squares(tensors))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2] == pytest.approx(expected, rel=1e-6)
    for other in (tensors[2].t(), tensors[2].double()):
        assert kernels.sum_of_squares([*tensors, other]) is None
    only_c.setattr(kernels, "library", lambda: None)
    assert kernels.sum_of_squares(tensors) is None


def test_factors_are_what_ones_become(only_c):
    bits = torch.randint(-(2**15), 2**15, (30, 40), dtype=torch.int16)

    def run():
        return kernels.drop(None, bits, -12345, 1.25), kernels.drop(torch.ones(30, 40), bits, -12345, 1.25)

    (found, of_ones), expected = both(only_c, run)
    assert torch.equal(found, of_ones) and torch.equal(found, expected[0]) and found.unique().tolist() == [0, 1.25]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("wrong", [-100, -1, V, 10**12])
def test_an_id_outside_the_vocabulary_is_seen(wrong):
    logits, nll, targets = noise(B, V), torch.empty(B), torch.zeros(B, dtype=torch.long)
    targets[4] = wrong
    kernels.cross_entropy(logits, torch.zeros(V), targets, None, 0.0, nll, torch.zeros(V), differentiate=True)
    assert nll.isnan().nonzero().tolist() == [[4]]


@pytest.mark.parametrize("strange", ["expanded", "columns"])
def test_rows_whose_elements_are_apart(way, strange):
    def apart(seed):
        return noise(B, 1, seed=seed).expand(B, H) if strange == "expanded" else noise(H, B, seed=seed).t()

    def run():
        of_cell, of_gates = noise(B, H), torch.empty(B, 4 * H)
        LSTM.back(noise(B, 4 * H), noise(B, H), noise(B, H), [apart(1), noise(B, H)], of_cell, of_gates)
        of_products, of_contexts, of_scores = torch.empty(B, H), torch.empty(B, H), torch.empty(B, S)
        kernels.squash_back([apart(2)], apart(3), noise(B, H), of_products)
        kernels.attend_back([apart(4)], None, noise(B, S), noise(B, S, H), of_contexts, of_scores)
        return of_cell, of_gates, of_products, of_contexts

    assert_near(*both(way, run))


@pytest.mark.parametrize("wiring", ["sparsemax", "luong_general", "bahdanau"])
def test_a_sum_over_states_has_its_gradient(way, wiring):
    def run():
        model = new_model(f"attention={wiring}")
        batch = toy_batch()
        model(batch.source, batch.source_lengths, batch.target_in).states.sum().backward()
        return [each.grad for each in model.parameters() if each.grad is not None]

    for one, other in zip(*both(way, run), strict=True):
        assert one.numpy() == close(other, 1e-4)


@pytest.mark.usefixtures("way")
def test_what_is_not_a_number_stays_visible():
    logits, nll = noise(B, V), torch.empty(B)
    logits[5, 7] = float("nan")
    kernels.cross_entropy(
        logits, torch.zeros(V), torch.zeros(B, dtype=torch.long), None, 0.0, nll, torch.zeros(V), differentiate=True
    )
    assert nll.isnan().nonzero().tolist() == [[5]] and logits[5].isnan().all()


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("asked", [1, 2, 3, 4, 5, 6, 11])
@pytest.mark.parametrize("size", [70, 128, 300])
def test_products_of_each_sentence(only_c, asked, size, low):
    queries, keys, weights = noise(B, asked, size), noise(B, S, size, seed=1, low=low), noise(B, asked, S, seed=2)
    weights[:, :, 4:6] = 0

    def run():
        return kernels.compare(queries, keys), kernels.average(weights, keys)

    found, expected = both(only_c, run)
    for one, other in zip(found, expected, strict=True):
        assert one.numpy() == close(other, 1e-4) and one.dtype == torch.float32
    assert found[0][3, -1, 2].item() == pytest.approx((queries[3, -1] * keys[3, 2]).sum().item(), abs=1e-4)
    strange = keys.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(kernels.average(weights, strange), torch.bmm(weights, keys.float())), "left to torch"


@pytest.mark.usefixtures("only_c")
@pytest.mark.parametrize("asked", [1, 5])
def test_what_no_weight_is_on_is_not_read(asked):
    values, weights = noise(B, S, 300), noise(B, asked, S, seed=1)
    weights[:, :, 2] = 0
    expected = kernels.average(weights, values)
    values[:, 2] = float("nan")
    assert torch.equal(kernels.average(weights, values), expected)
    weights[3, :, 4] = float("nan")
    assert kernels.average(weights, values).isnan().any(2).any(1).nonzero().tolist() == [[3]]


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("asked", [1, 5])
def test_sentences_among_more(only_c, asked, low):
    places = torch.tensor([5, 0, 20, 5])
    queries, keys, weights = noise(4, asked, H), noise(B, S, H, seed=1, low=low), noise(4, asked, S, seed=2)

    def run():
        return kernels.compare(queries, keys, places), kernels.average(weights, keys, places)

    for one, other in zip(*both(only_c, run), strict=True):
        assert one.numpy() == close(other, 1e-4)
    assert torch.equal(run()[0], kernels.compare(queries, keys[places])), "as if they were alone"


@pytest.mark.parametrize("asked", [1, 3])
@pytest.mark.parametrize("each", [True, False], ids=["a mask a query", "a mask a sentence"])
@pytest.mark.parametrize("positions", [1, S, 70])
def test_soften(only_c, asked, each, positions):
    scores = noise(B, asked, positions, scale=5.0)
    allowed = noise(B, asked if each else 1, positions, seed=1) > 0
    allowed[3] = False
    scores[4, 0, 0], scores[5, 0, 0], scores[6] = float("-inf"), float("nan"), -3e38

    def run():
        return [masked_softmax(scores, allowed)]

    assert kernels.soften(scores, allowed) is not None
    found, expected = both(only_c, run)
    assert_near(found, expected)
    assert not found[0][3].any() and not found[0].masked_select(~allowed.expand_as(scores)).any()


@pytest.mark.usefixtures("only_c")
def test_weights_are_0_where_float32_would_not_have_them_whole():
    weights = kernels.soften(torch.tensor([[[0.0, -60.0, -80.0, -95.0]]]), torch.ones(1, 1, 4, dtype=torch.bool))
    assert weights.tolist() == [[[1.0, pytest.approx(8.756511e-27, rel=1e-5), 0.0, 0.0]]]


@pytest.mark.usefixtures("only_c")
@pytest.mark.parametrize(
    ("scores", "allowed"),
    [
        pytest.param(torch.zeros(2, 1, 3, dtype=torch.float64), torch.ones(2, 1, 3), id="other types"),
        pytest.param(torch.zeros(2, 4, 3), torch.ones(2, 2, 3), id="a mask for two of four queries"),
        pytest.param(torch.zeros(2, 3), torch.ones(2, 3), id="two axes"),
        pytest.param(torch.zeros(0, 1, 3), torch.ones(0, 1, 3), id="nothing"),
        pytest.param(torch.zeros(2, 3, 4).transpose(1, 2), torch.ones(2, 1, 3), id="strides"),
    ],
)
def test_soften_leaves_to_torch_what_it_does_not_serve(scores, allowed):
    assert kernels.soften(scores, allowed.bool()) is None


@pytest.mark.parametrize("low", LOW)
def test_additive_scores_of_nothing(way, low):
    nothing, vector = noise(0, H, low=low), noise(H)
    for (found,) in both(way, lambda: [kernels.additive(nothing, noise(0, S, H), vector)]):
        assert found.shape == (0, S)


@pytest.mark.parametrize("low", LOW)
def test_additive_scores_of_several_rows_a_sentence(way, low):
    products, keys, vector = noise(3 * B, H, low=low), noise(B, S, H, seed=1), noise(H, seed=2)
    found, expected = both(way, lambda: [kernels.additive(products, keys, vector)])
    assert found[0].numpy() == close(expected[0], 1e-4) and found[0].shape == (3 * B, S)
    alone = kernels.additive(products[2::3].contiguous(), keys, vector)
    assert found[0][2::3].numpy() == close(alone, 1e-6)


@pytest.mark.usefixtures("only_c")
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (37, 70), (300, 33), (64, 500), (0, 5)])
def test_flipped(shape):
    rows = torch.arange(shape[0] * shape[1]).to(torch.int16).view(torch.bfloat16).view(shape)
    found = kernels.flipped(rows)
    assert torch.equal(found.view(torch.int16), rows.t().contiguous().view(torch.int16)) and found.is_contiguous()
    wide = rows.float()
    assert kernels.flipped(wide).data_ptr() == wide.data_ptr(), "a view where that is as fast"


@pytest.mark.parametrize("shape", [(32, 64), (5, 3), (17, 300)])
def test_flip_into_a_part(only_c, shape):
    rows = noise(*shape, low=torch.bfloat16)

    def run():
        buffer = torch.full((shape[1], shape[0] + 9), 7.0, dtype=torch.bfloat16)
        kernels.flip(rows, buffer[:, 4 : 4 + shape[0]])
        return [buffer]

    found, expected = both(only_c, run)
    assert torch.equal(found[0], expected[0])
    assert (found[0][:, :4] == 7).all() and torch.equal(found[0][:, 4:-5], rows.t())


def test_drop(only_c):
    bits = torch.arange(-(2**15), 2**15).to(torch.int16)
    values = noise(2**16)
    found, expected = both(only_c, lambda: [kernels.drop(values, bits, 0, 2.0)])
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[0] != 0, (bits >= 0) & (values != 0))


@pytest.mark.usefixtures("way")
def test_threads_do_not_change_a_result_twice():
    # an interpreter takes its time
    rows = 300 if kernels.library() else 20
    logits, targets = noise(rows, V), torch.arange(rows)

    def run():
        of_bias = torch.zeros(V)
        kernels.cross_entropy(
            logits.clone(), torch.zeros(V), targets, None, 0.0, torch.empty(rows), of_bias, differentiate=True
        )
        return of_bias

    first = run()
    assert all(torch.equal(run(), first) for _ in range(20 if kernels.library() else 2))


PRESETS = [
    each.stem
    for each in sorted((Path(__file__).parents[2] / "configs" / "attention").glob("*.yaml"))
    # that one needs sentences of several parts, or draws at random what only a rounding may decide
    if each.stem not in {"hierarchical", "hard_sample", "gumbel"}
]
LAYERS = ("encoder.layers=2", "decoder.layers=3", "encoder.residual=true", "decoder.residual=true")


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("layers", [(), LAYERS], ids=["one", "three"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_model_learns_the_same_in_c(only_c, preset, layers, bf16):
    assert_learns_the_same(only_c, preset, layers, bf16=bf16, near=3e-2 if bf16 else 1e-5)


# on a GPU tests/model/test_cuda.py has all; an interpreter takes seconds for each
@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("preset", ["luong_general", "bahdanau", "local_m", "pointer", "sparsemax"])
@pytest.mark.parametrize("way", ["GPU"], indirect=True)
def test_a_model_learns_the_same_on_a_gpu(way, preset, bf16):
    # a tanh that is another by its last bit rounds otherwise
    assert_learns_the_same(way, preset, (), bf16=bf16, near=0.1 if bf16 else 2e-5)


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize(("preset", "cell"), [("local_p", "gru"), ("multi_head", "rnn"), ("cosine", "gru")])
@pytest.mark.parametrize("way", ["GPU"], indirect=True)
def test_other_cells_learn_the_same_on_a_gpu(way, preset, cell, bf16):
    near = 0.1 if bf16 else 2e-5
    assert_learns_the_same(way, preset, (f"encoder.cell={cell}",), bf16=bf16, near=near)


def assert_learns_the_same(way, preset, layers, *, bf16, near):
    batch = toy_batch()

    def run():
        torch.manual_seed(3)
        sizes = ["attention.form.head_size=5"] if preset == "multi_head" else []
        dropout = ["decoder.dropout=0.3", "encoder.dropout=0.2"]
        model = new_model(f"attention={preset}", *dropout, *sizes, *layers).train()
        assert next(model.parameters()).dtype == torch.float32
        with arithmetic(rounding=Rounding.bf16 if bf16 else Rounding.none):
            loss = batch_loss(model, batch, 0.1).loss
            loss.backward()
        return [loss.detach(), *(each.grad for each in model.parameters() if each.grad is not None)]

    for one, other in zip(*both(way, run), strict=True):
        assert one.numpy() == close(other, near * max(other.abs().max().item(), 1e-2))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("size", [7, 64, 501])
@pytest.mark.parametrize("count", [1, 5, 7])
def test_choose(low, size, count):
    # no two alike in bf16 either
    logits = torch.stack([torch.randperm(size, generator=torch.Generator().manual_seed(i)) for i in range(B)]) / 4
    logits, bias, never = logits.to(low), torch.zeros(size), torch.tensor([0, 3])
    assert low == torch.float32 or size > 256 or all(len(row.unique()) == size for row in logits)
    bias[1] = 0.125
    found = kernels.choose(logits, bias, count, never)
    log_probs = torch.log_softmax(logits.double() + bias, -1).index_fill_(1, never, float("-inf"))
    best, pieces = log_probs.topk(count)
    assert found[0].double().numpy() == close(best, 1e-5)
    if size <= 256 or low == torch.float32:
        real = best > float("-inf")
        assert torch.equal(found[1][real], pieces[real])
    assert found[1].dtype == torch.long


@pytest.mark.usefixtures("way")
def test_choose_takes_no_piece_twice():
    found = kernels.choose(torch.zeros(B, 70), torch.zeros(70), 70, torch.empty(0, dtype=torch.long))
    assert all(sorted(row.tolist()) == list(range(70)) for row in found[1])


@pytest.mark.usefixtures("way")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_row_of_nothing_that_is_a_number_has_real_pieces():
    _, pieces = kernels.choose(torch.full((3, 10), torch.nan), torch.zeros(10), 3, torch.empty(0, dtype=torch.long))
    assert (pieces >= 0).all() and (pieces < 10).all()


@pytest.mark.parametrize("missing", ["Triton", "a compiler"])
def test_without_triton_torch_does_its_part(monkeypatch, caplog, missing):
    def refuse(*_):
        raise (ImportError if missing == "Triton" else RuntimeError)(f"no {missing} here")

    if missing == "Triton":
        monkeypatch.setattr(kernels, "import_module", refuse)
    else:
        monkeypatch.setattr(pytest.importorskip("nmt.model.gpu_kernels"), "try_out", refuse)
    monkeypatch.setattr(kernels, "gpu_kernels", cache(kernels.gpu_kernels.__wrapped__))
    monkeypatch.setattr(kernels, "library", lambda: None)
    monkeypatch.setattr(kernels, "_GPUS", ("cpu",))
    products, plain = noise(B, H), torch.empty(B, H)
    with caplog.at_level("INFO"):
        for _ in range(2):
            kernels.squash(products, None, plain, plain, None)
    assert plain.numpy() == close(products.tanh(), 1e-6)
    assert not kernels.chooses(noise(V))
    (record,) = caplog.records
    assert f"no {missing} here" in record.message


def test_random_words(monkeypatch):
    """The first numbers of SplitMix64 from 0 on, as they are published, and torch's the same as the library's."""
    words = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert [word % 2**64 for word in kernels.random_words(0, 4).tolist()] == words
    seeds = [0, 1, -1, 2**63 - 1, -(2**63)]
    found = [kernels.random_words(seed, 20_001) for seed in seeds]
    monkeypatch.setattr(kernels, "library", lambda: None)
    for seed, each in zip(seeds, found, strict=True):
        assert torch.equal(kernels.random_words(seed, 20_001), each)
    assert kernels.random_words(5, 0).shape == (0,)
