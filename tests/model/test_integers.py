"""Products of whole numbers, against the formula in float64, and what trains with them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from composed import composed
from toys import configuration, gradients, ids, randomised, with_copied_targets

from nmt.assemble import build_model
from nmt.data.batches import EncodedPairs, FlatSequences
from nmt.model import Rounding, arithmetic, cross_entropy, integers, layer, products
from nmt.model.cells import LSTMCell
from nmt.model.cross_entropy import linear_cross_entropy
from nmt.model.integers import HALVES, IntegerMatrix, Kind
from nmt.model.library import multiplies_integers
from nmt.model.products import Factor, Linear, Operand, add_outer, outer, outers, times_transposed

pytestmark = pytest.mark.skipif(
    not multiplies_integers(), reason="no AVX-512 VNNI, or nmt/model/integers.c is not compiled here"
)
# a tile of rows, a thread's share of them, and some more; panels of columns; segments of places, and whole vectors
COUNTS = [0, 1, 13, 14, 15, 80, 129, 320, 321, 1100]
SIZES = [(64, 64), (1, 1), (97, 33), (130, 513), (32, 1100)]
# by how much of its size a product of random vectors may be wrong
NEAR = {Kind.shorts: 5e-4, Kind.bytes: 1.4e-2, Kind.bytes_of_gradients: 2e-2}
WHOLE = [Rounding.int16, Rounding.int8]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def turned(rows, *, side_by_side):
    """The same numbers, with the elements of rows side by side in memory, or those of columns."""
    return rows.contiguous() if side_by_side == "rows" else rows.t().contiguous().t()


def coins(rows, side_by_side):
    """What is added to the rows' elements [n, k] before they are rounded as gradients."""
    line, place = (index % 512 if axis else index for axis, index in enumerate(np.indices(rows.shape)))
    number = line * 619 % 1024 + place if side_by_side == "rows" else place * 619 % 1024 + line % 64
    return (number * 2654435769 % 2**32).astype(np.uint32).astype(np.int32) / 2**32


def in_segments(vector, kind, coin):
    """Whole numbers and scales of a vector's segments, as the module says, in float64."""
    found = []
    for start in range(0, len(vector), 512):
        part, added = (each[start : start + 512].astype(np.float64) for each in (vector, coin))
        scale = np.sqrt((part**2).sum()) / 32000 if kind is Kind.shorts else np.abs(part).max() / 127
        found.append((np.rint(part / scale + added), scale))
    return found


def by_formula(rows, matrix, kind, side_by_side):
    added = coins(rows, side_by_side) if kind is Kind.bytes_of_gradients else np.zeros(rows.shape)
    left = [in_segments(row, kind, coin) for row, coin in zip(rows.numpy(), added, strict=True)]
    right = [in_segments(row, kind, np.zeros(len(row))) for row in matrix.numpy()]
    return np.array([[sum(r * s * (p @ q) for (p, r), (q, s) in zip(x, w, strict=True)) for w in right] for x in left])


@pytest.mark.parametrize("matrix_has", ["rows", "columns"])
@pytest.mark.parametrize("rows_have", ["rows", "columns"])
@pytest.mark.parametrize(("columns", "depth"), SIZES)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", list(Kind))
def test_products(kind, count, columns, depth, rows_have, matrix_has):
    rows, matrix = noise(count, depth + 3)[:, 2 : depth + 2], noise(columns, depth, seed=1)
    expected = rows.double() @ matrix.double().t()
    given = turned(rows, side_by_side=rows_have) if rows_have == "columns" else rows
    found = IntegerMatrix(turned(matrix, side_by_side=matrix_has), kind).product(given)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    assert (found - expected).norm() <= NEAR[kind] * expected.norm()


def test_products_of_torch_in_bf16_go_on_as_before():
    """On processors with AMX both configure the same registers."""
    rows, matrix = noise(80, 512), noise(256, 512, seed=1)
    low = rows.bfloat16(), matrix.bfloat16()
    whole = IntegerMatrix(matrix, Kind.bytes)
    expected, exact = torch.nn.functional.linear(*low), whole.product(rows)
    for _ in range(3):
        assert torch.equal(torch.nn.functional.linear(*low), expected)
        assert torch.equal(whole.product(rows), exact)


def gradient_of_keys(rounding, *, of_keys):
    """The gradient of what makes keys, of states that differ little, through a softmax over them."""
    layer, query = Linear(128, 128, bias=False, of_keys=of_keys), noise(8, 128, 1, seed=1)
    states, values = noise(128) + 0.05 * noise(8, 20, 128, seed=2), noise(8, 20, seed=3)
    with torch.no_grad():
        layer.weight.copy_(noise(128, 128, seed=4) / 10)
    with arithmetic(rounding=rounding):
        ((layer(states) @ query).squeeze(-1).softmax(1) * values).sum().backward()
    return layer.weight.grad


def test_keys_are_made_in_16_bits():
    exact = gradient_of_keys(Rounding.none, of_keys=True)
    coarse, fine = (gradient_of_keys(Rounding.int8, of_keys=of_keys) for of_keys in (False, True))
    assert (fine - exact).norm() < 0.01 * exact.norm() < 0.05 * exact.norm() < (coarse - exact).norm()


@pytest.mark.parametrize("preset", ["luong_general", "bahdanau", "luong_concat", "pooling", "multi_head", "key_value"])
def test_what_makes_keys_says_so(preset):
    model = build_model(
        configuration(f"attention={preset}", "encoder.hidden_size=32"), source_size=20, target_size=20, joint=False
    )
    making = {name: each for name, each in model.named_modules() if name.endswith(("key", "score.projection"))}
    assert making and all(each.of_keys for each in making.values())


@pytest.mark.parametrize("side_by_side", ["rows", "columns"])
@pytest.mark.parametrize("depth", [33, 512, 1100])
@pytest.mark.parametrize("kind", list(Kind))
def test_it_is_the_formula(kind, depth, side_by_side):
    """But for a number in a thousand that lies so near the middle that float32 rounds it the other way."""
    rows, matrix = noise(70, depth), noise(70, depth, seed=1) * torch.logspace(-3, 3, depth)
    found = IntegerMatrix(turned(matrix, side_by_side=side_by_side), kind).product(
        turned(rows, side_by_side=side_by_side)
    )
    expected = by_formula(rows, matrix, kind, side_by_side)
    assert np.linalg.norm(found.numpy() - expected) <= (2e-5 if kind is Kind.shorts else 5e-4) * np.linalg.norm(
        expected
    )


@pytest.mark.parametrize("side_by_side", ["rows", "columns"])
@pytest.mark.parametrize("half", [False, True])
def test_what_is_small_in_gradients_is_not_lost(side_by_side, half):
    """A hundredth of the smallest number that is left of a row, 511 times: to the nearest that is nothing at all."""
    rows = torch.full((1024, 512), 0.01 / 127)
    rows[:, 3] = 1
    rows = turned(rows.half() if half else rows, side_by_side=side_by_side)
    others = torch.ones(64, 512)
    others[:, 3] = 0
    expected = rows.double().sum(1) - rows[:, 3]
    assert not IntegerMatrix(others, Kind.bytes).product(rows).any()
    found = IntegerMatrix(others, Kind.bytes_of_gradients).product(rows)[:, 0]
    assert abs(found.mean() / expected.mean() - 1) <= 0.05
    # nor is what they add up to very uneven, over rows
    assert (found / expected - 1).norm() <= 0.3 * len(rows) ** 0.5
    # or over places, of the 508 or so of which a line has 4 or 5 to add
    lines, ones = rows.clone(), torch.ones(64, 1024)
    lines[::512] = 1
    ones[:, ::512] = 0
    back = IntegerMatrix(ones, Kind.bytes_of_gradients).product(lines.t())[:, 0]
    assert not IntegerMatrix(ones, Kind.bytes).product(lines.t()[:3]).any()
    others = torch.arange(512) != 3
    assert abs(back[others].double().mean() / (1022 * 0.01 / 127) - 1) <= 0.05
    assert (back[others].double() / (1022 * 0.01 / 127) - 1).abs().max() <= 0.7


@pytest.mark.parametrize("kind", list(Kind))
def test_sums_do_not_leave_32_bits(kind):
    """The largest that there are: a segment whose elements are all alike, or one of them all there is."""
    alike, single = torch.full((2, 512), 3.0), torch.zeros(1, 512)
    single[0, 7] = -5.0
    rows = torch.cat([alike, -alike, single])
    found = IntegerMatrix(rows, kind).product(rows)
    assert torch.allclose(found, rows @ rows.t(), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("kind", list(Kind))
def test_rows_of_all_sizes_are_equally_near(kind):
    """What a row is multiplied by changes nothing, from where squares are lost in float32 up to where they overflow."""
    rows, made = (
        noise(1, 200).expand(9, -1) * torch.logspace(-14, 18, 9).unsqueeze(1),
        IntegerMatrix(noise(70, 200, seed=1), kind),
    )
    found, expected = made.product(rows).double(), rows.double() @ noise(70, 200, seed=1).double().t()
    assert ((found - expected).norm(dim=1) <= NEAR[kind] * expected.norm(dim=1)).all()


@pytest.mark.parametrize("kind", list(Kind))
def test_nothing_times_something_is_nothing(kind):
    rows = noise(20, 70)
    rows[3] = 0
    assert (IntegerMatrix(noise(90, 70, seed=1), kind).product(rows)[3] == 0).all()
    matrix = noise(90, 70, seed=1)
    matrix[5] = 0
    assert (IntegerMatrix(matrix, kind).product(rows)[:, 5] == 0).all()


@pytest.mark.parametrize("count", [5, 700])
@pytest.mark.parametrize("kind", list(Kind))
def test_columns_of_zeros_change_nothing_beside_them(kind, count):
    """Whole panels of some segments: in the first, in a later one, in all, and the last of few columns."""
    rows, matrix = noise(count, 1100), noise(175, 1100, seed=1)
    matrix[:32, :512] = 0
    matrix[32:64, 512:] = 0
    matrix[64:96] = 0
    matrix[160:] = 0
    laid_out, found = IntegerMatrix(matrix, kind), torch.full((count, 175), torch.nan)
    laid_out.product(rows, found)
    # beside a column that is not of zeros
    beside = matrix.clone()
    beside[::2] = noise(88, 1100, seed=2)
    assert torch.equal(found[:, 1::2], IntegerMatrix(beside, kind).product(rows)[:, 1::2])
    assert not found[:, 64:96].any() and not found[:, 160:].any() and found[:, :64].any(0).all()
    twice = found.clone()
    laid_out.product(rows, twice, more=True)
    assert (twice - 2 * found).abs().max() <= 1e-5 * found.abs().max()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side_by_side", ["rows", "columns"])
@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_not_a_number_stays_in_its_row(kind, value, side_by_side):
    rows = noise(20, 70)
    rows[3, 5] = value
    found = IntegerMatrix(noise(90, 70, seed=1), kind).product(turned(rows, side_by_side=side_by_side))
    assert not found[3].isfinite().any() and found[:3].isfinite().all() and found[4:].isfinite().all()


@pytest.mark.parametrize("kind", list(Kind))
def test_into_a_part_of_a_buffer(kind):
    rows, matrix, buffer = noise(40, 70), noise(129, 70, seed=1), torch.full((100, 129), 7.0)
    IntegerMatrix(matrix, kind).product(rows, buffer[30:70])
    assert torch.equal(buffer[30:70], IntegerMatrix(matrix, kind).product(rows))
    assert (buffer[:30] == 7).all() and (buffer[70:] == 7).all()


@pytest.mark.parametrize(("count", "rows_have"), [(83, "rows"), (83, "columns"), (700, "rows"), (700, "columns")])
@pytest.mark.parametrize("kind", list(Kind))
def test_neither_threads_nor_other_rows_change_a_number(kind, count, rows_have):
    """But for the coins of gradients, which are those of their places."""
    rows, matrix = noise(count, 1100), noise(2048, 1100, seed=1)
    threads, given = torch.get_num_threads(), turned(rows, side_by_side=rows_have)
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(IntegerMatrix(matrix, kind).product(given))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    places = slice(0, 83) if kind is Kind.bytes_of_gradients else slice(20, 27)
    some = turned(rows[places], side_by_side=rows_have)
    assert torch.equal(IntegerMatrix(matrix, kind).product(some), found[0][places])


@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(64, 63),
        torch.zeros(63, 64),
        torch.zeros(64, 64, dtype=torch.float64),
        torch.zeros(64, 64, dtype=torch.bfloat16),
        torch.zeros(2, 64, 64),
    ],
)
def test_what_is_left_to_torch(matrix):
    assert integers.serves(torch.zeros(64, 64)) and integers.serves(torch.zeros(64, 64).t())
    assert not integers.serves(matrix)


@pytest.mark.parametrize("rounding", WHOLE)
def test_a_factor_multiplies_from_both_sides(rounding):
    """Gradients come from the back."""
    matrix, rows, others, into = noise(130, 70), noise(33, 70, seed=1), noise(33, 130, seed=2), torch.empty(33, 130)
    factor = Factor(matrix, rounding=rounding)
    factor.write(into, rows)
    expected = IntegerMatrix(matrix, rounding.kinds[0]).product(rows)
    assert torch.equal(factor.times_transposed(rows), expected) and torch.equal(into, expected)
    assert torch.equal(factor.times(others), IntegerMatrix(matrix.t(), rounding.kinds[1]).product(others))


@pytest.mark.parametrize("has", ["rows", "columns"])
@pytest.mark.parametrize(
    ("sizes", "others"),
    [((512, 64), 130), ((1024, 512, 33), 97), ((70, 130), 97), ((64, 128, 1), 600), ((70,), 97), ((1100,), 3000)],
)
@pytest.mark.parametrize("kinds", [rounding.kinds for rounding in WHOLE], ids=str)
def test_a_matrix_in_parts_is_the_whole(kinds, sizes, others, has):
    """Also where a part begins inside a segment, and where squares of a large one are laid out both ways at once."""
    matrix, rows = turned(noise(others, sum(sizes)), side_by_side=has), noise(33, sum(sizes), seed=1)
    parts = [turned(part, side_by_side=has) for part in matrix.split(sizes, 1)]
    found, back = IntegerMatrix.both(*parts, kinds=kinds)
    expected = rows.double() @ matrix.double().t()
    assert (found.product(rows) - expected).norm() <= NEAR[kinds[0]] * expected.norm()
    rows = noise(33, others, seed=2)
    expected = rows.double() @ matrix.double()
    assert (back.product(rows) - expected).norm() <= NEAR[kinds[1]] * expected.norm()
    assert (back.scaled(0.25).product(rows) - back.product(rows) / 4).abs().max() <= 1e-5


@pytest.mark.parametrize("rounding", [Rounding.none, *WHOLE])
@pytest.mark.parametrize("size", [512, 70, 20])
def test_a_factor_in_parts_is_the_whole(size, rounding):
    """Also where the parts are put together first, since one is small."""
    parts = [noise(130, size), noise(130, 70, seed=1)]
    one, whole = Factor(*parts, rounding=rounding), Factor(torch.cat(parts, 1), rounding=rounding)
    assert one.laid_out is not None and whole.laid_out is not None
    assert [type(each) for each in one.laid_out] == [type(each) for each in whole.laid_out]
    rows, others = noise(33, size + 70, seed=2), noise(33, 130, seed=3)
    near = 2 if rounding is Rounding.int8 else 1e-2
    assert (one.times_transposed(rows) - whole.times_transposed(rows)).abs().max() <= near
    assert (one.times(others) - whole.times(others)).abs().max() <= near


@pytest.mark.parametrize("rounding", WHOLE)
def test_products_that_meet_once(rounding):
    left, right, bias = noise(100, 70), noise(90, 70, seed=1), noise(90, seed=2)
    expected = IntegerMatrix(right, rounding.kinds[0]).product(left)
    assert torch.equal(times_transposed(left, right, rounding=rounding), expected)
    assert torch.equal(times_transposed(left, right, bias, rounding=rounding), expected + bias)
    expected = IntegerMatrix(right, rounding.kinds[1]).product(left)
    assert torch.equal(times_transposed(left, right, rounding=rounding, of_gradients=True), expected)
    # zeros follow the rows of one
    padded = torch.cat([right.t(), torch.zeros(30, 90)])
    columns = IntegerMatrix(turned(right, side_by_side="columns"), rounding.kinds[1])
    assert torch.equal(outer(left, padded, rounding), columns.product(left))


@pytest.mark.parametrize("rounding", WHOLE)
def test_small_products_are_in_float32(rounding):
    left, right = noise(100, 20), noise(90, 20, seed=1)
    assert torch.equal(times_transposed(left, right, rounding=rounding), times_transposed(left, right))
    factor = Factor(right, rounding=rounding)
    assert torch.equal(factor.times_transposed(left), times_transposed(left, right))


def test_a_recurrence_lays_its_matrix_out_once_for_each_way(monkeypatch):
    made = []

    class Counted(IntegerMatrix):
        @classmethod
        def both(cls, *parts, **options):
            made.extend(tuple(part.shape) for part in parts)
            return super().both(*parts, **options)

    for module in (products, cross_entropy):
        monkeypatch.setattr(module, "IntegerMatrix", Counted)
    cell, inputs = LSTMCell(64, 64), noise(70, 3, 64)
    with arithmetic(rounding=Rounding.int16):
        hidden, _ = cell.run(inputs, cell.zero_state(inputs, 3))
    hidden.sum().backward()
    # U and W
    assert made == [(256, 64)] * 2


PRESETS = [
    each.stem
    for each in sorted((Path(__file__).parents[2] / "configs" / "attention").glob("*.yaml"))
    # that one needs sentences of several parts, or draws at random what only a rounding may decide
    if each.stem not in {"hierarchical", "hard_sample", "gumbel"}
]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_attention_learns_nearly_the_same(monkeypatch, preset):
    """With padding on both sides, and not by float32's own products: in 16 bits nearer to float32 than bf16 is."""
    made = []

    class Counted(IntegerMatrix):
        def product(self, rows, into=None, **options):
            made.append(self._kind)
            return super().product(rows, into, **options)

    for module in (products, cross_entropy):
        monkeypatch.setattr(module, "IntegerMatrix", Counted)
    sizes = ("embedding.size=64", "encoder.hidden_size=64", "decoder.hidden_size=128", "data=synthetic")
    plain = ("embedding.dropout=0", "encoder.dropout=0", "decoder.dropout=0")
    config = composed(f"attention={preset}", *sizes, *plain)
    model = randomised(build_model(config, source_size=100, target_size=100, joint=True), size=0.3).float()
    sides = ids(9, 0, 4, size=100, seed=1), ids(3, 7, 0, size=100, seed=2)
    if model.copies:
        # a source token is a copy of the target token of its number
        pairs = EncodedPairs(*map(FlatSequences.from_lists, (*sides, sides[0])))
        batch = with_copied_targets(pairs.batch(np.arange(3)), every=2 if model.prediction.generates else 1)
    else:
        batch = EncodedPairs.from_lists(*sides).batch(np.arange(3))

    def run():
        # for what adds noise
        torch.manual_seed(3)
        return gradients(model, batch)

    expected = run()
    assert not made
    found = {}
    keys = {Kind.shorts} if any(getattr(each, "of_keys", False) for each in model.modules()) else set()
    for rounding in (Rounding.int16, Rounding.bf16, Rounding.int8):
        made.clear()
        with arithmetic(rounding=rounding):
            found[rounding] = run()
        # gradients that meet matrices in a recurrence are not among those counted here
        least = set((rounding.kinds or ())[:1]) | (keys if rounding is Rounding.int8 else set())
        assert least <= set(made) <= least | set(rounding.kinds or ())
        assert len(made) >= 5 or rounding is Rounding.bf16
    for name, tensor in expected.items():
        error = (found[Rounding.int16][name] - tensor).norm()
        assert error <= 5e-3 * tensor.norm() + 1e-6, name
    wholes = {key: torch.cat([given[name].flatten() for name in expected]) for key, given in found.items()}
    exact = torch.cat([tensor.flatten() for tensor in expected.values()])
    errors = {key: ((whole - exact).norm() / exact.norm()).item() for key, whole in wholes.items()}
    assert 0 < errors[Rounding.int16] < errors[Rounding.bf16] and errors[Rounding.int16] < errors[Rounding.int8] < 0.05


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("rounding", WHOLE)
def test_a_targets_1_does_not_take_the_digits_of_small_probabilities(rounding, smoothing, padded):
    """Weights that have much in common: what many small probabilities take away nearly cancels what a target adds."""
    size, features, count = 4000, 64, 300
    weight, bias, readouts = 1 + 0.1 * noise(size, features), noise(size, seed=1), noise(count, features, seed=2)
    targets = torch.randint(0, size, (count,), generator=torch.Generator().manual_seed(3))
    real = torch.arange(count) % 3 > 0 if padded else None

    def gradients_of(dtype, rounding):
        given = [each.to(dtype).requires_grad_() for each in (readouts, weight, bias)]
        with arithmetic(rounding=rounding):
            loss, _ = linear_cross_entropy(*given, targets, smoothing, real)
        return torch.autograd.grad(2 * loss, given)

    exact = gradients_of(torch.float64, Rounding.none)
    for found, expected in zip(gradients_of(torch.float32, rounding), exact, strict=True):
        assert (found - expected).norm() <= (3e-2 if rounding is Rounding.int8 else 1e-3) * expected.norm()


# a tile of rows, the logits that are made at a time, several times those and some more
@pytest.mark.parametrize("count", [1, 14, 70, 71, 300])
@pytest.mark.parametrize(("columns", "depth"), [(64, 64), (97, 70), (1000, 600)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", [Kind.shorts, Kind.bytes])
def test_cross_entropy(kind, count, columns, depth, smoothing, padded):
    """Each row's nll and gradients from their definition, in float64."""
    rows, bias = noise(count, depth + 3)[:, 2 : depth + 2], 2 * noise(columns, seed=2)
    matrix, generator = noise(columns, depth, seed=1) / depth**0.5, torch.Generator().manual_seed(3)
    targets = torch.randint(0, columns, (count,), generator=generator)
    real = torch.arange(count) % 3 != 1 if padded else torch.ones(count, dtype=torch.bool)
    nll, of_bias = torch.full((2, count), -7.0), noise(columns, seed=4)
    before, gradient = of_bias.clone(), torch.full((count, columns), 7, dtype=torch.float16)
    given = rows, bias, targets, real if padded else None, smoothing
    IntegerMatrix(matrix, kind).cross_entropy(*given, nll[0], of_bias, gradient)
    IntegerMatrix(matrix, kind).cross_entropy(*given, nll[1])
    log_probs = torch.log_softmax(rows.double() @ matrix.double().t() + bias, 1)
    expected = -log_probs.gather(1, targets.unsqueeze(1)).squeeze(1) * real
    assert (nll.double() - expected).abs().max() <= 10 * NEAR[kind] and torch.equal(nll[0], nll[1])
    others = (log_probs.exp() - smoothing / columns) * real.unsqueeze(1)
    assert (gradient.double() / HALVES - others).norm() <= 4 * NEAR[kind] * others.norm()
    assert not gradient[~real].any()
    own = torch.zeros(count, columns, dtype=torch.float64).scatter_(1, targets.unsqueeze(1), smoothing - 1)
    of_logits = (others + own * real.unsqueeze(1)).sum(0)
    assert ((of_bias - before).double() - of_logits).norm() <= 4 * NEAR[kind] * (others + own).norm() + 1e-5


def test_small_probabilities_keep_their_digits():
    """Next to the largest, down to a hundred millionth, all gradients have an error of a two-thousandth at most."""
    bias = torch.cat([torch.linspace(0, -16, 127), torch.full((1,), -60.0)])
    nll, of_bias, gradient = torch.empty(3), torch.zeros(128), torch.empty(3, 128, dtype=torch.float16)
    targets = torch.tensor([0, 5, 127])
    IntegerMatrix(noise(128, 64)).cross_entropy(torch.zeros(3, 64), bias, targets, None, 0.0, nll, of_bias, gradient)
    expected = torch.softmax(bias.double(), 0)
    assert ((gradient[:, :-1].double() / HALVES / expected[:-1] - 1).abs() <= 5e-4).all()
    assert (gradient[:, -1] == 0).all()
    assert (nll - (-torch.log_softmax(bias, 0))[targets]).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", [Kind.shorts, Kind.bytes])
def test_a_target_that_is_no_column_has_no_nll(kind):
    rows, targets = noise(4, 64), torch.tensor([3, -1, 128, 5])
    nll, of_bias, gradient = torch.empty(4), torch.zeros(128), torch.ones(4, 128, dtype=torch.float16)
    layer = IntegerMatrix(noise(128, 64), kind)
    layer.cross_entropy(rows, torch.zeros(128), targets, None, 0.0, nll, of_bias, gradient)
    assert nll.isfinite().tolist() == [True, False, False, True]
    assert of_bias.isfinite().all() and not gradient[1:3].any() and gradient[0].any() and gradient[3].any()


@pytest.mark.parametrize("kind", [Kind.shorts, Kind.bytes])
def test_what_is_not_a_number_shows_in_its_nll(kind):
    rows, nll = noise(20, 64), torch.empty(20)
    rows[3, 5] = float("nan")
    IntegerMatrix(noise(128, 64), kind).cross_entropy(rows, torch.zeros(128), torch.arange(20), None, 0.0, nll)
    assert not nll[3].isfinite() and nll[:3].isfinite().all() and nll[4:].isfinite().all()


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [Kind.shorts, Kind.bytes])
def test_cross_entropy_repeats(kind, threads):
    """Who makes which logits depends on who is faster; the results do not."""
    rows, matrix, bias = noise(200, 600), IntegerMatrix(noise(1500, 600, seed=1) / 25, kind), noise(1500, seed=2)
    targets, before, found = torch.arange(200), torch.get_num_threads(), []
    try:
        torch.set_num_threads(threads)
        for _ in range(5):
            nll, of_bias, gradient = torch.empty(200), torch.zeros(1500), torch.empty(200, 1500, dtype=torch.float16)
            matrix.cross_entropy(rows, bias, targets, None, 0.1, nll, of_bias, gradient)
            found.append((nll, of_bias, gradient))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(map(torch.equal, others, found[0]))


@pytest.mark.parametrize("count", [5, 80, 700])
@pytest.mark.parametrize("rows_have", ["rows", "columns"])
@pytest.mark.parametrize("kind", list(Kind))
def test_rows_in_float16(kind, count, rows_have):
    rows, matrix = (
        turned(noise(count, 1100).half(), side_by_side=rows_have),
        IntegerMatrix(noise(97, 1100, seed=1), kind),
    )
    found = matrix.product(rows)
    assert found.dtype == torch.float32
    assert torch.equal(found, matrix.product(turned(rows.float(), side_by_side=rows_have)))


@pytest.mark.parametrize("rounding", WHOLE)
def test_no_target_at_all_has_no_gradient(rounding):
    given = [each.requires_grad_() for each in (noise(0, 64), noise(70, 64), noise(70))]
    with arithmetic(rounding=rounding):
        loss, nll = linear_cross_entropy(*given, torch.zeros(0, dtype=torch.int64), 0.0)
    assert loss == 0 and len(nll) == 0
    assert not any(each.any() for each in torch.autograd.grad(loss, given))


@pytest.mark.parametrize("rounding", WHOLE)
def test_blocks_of_rows_add_up(monkeypatch, rounding):
    """Whose gradients do not fit into one block of memory; the graph may be gone back through again."""
    given = [each.requires_grad_() for each in (noise(300, 64), noise(90, 64, seed=1), noise(90, seed=2))]
    targets, found = torch.arange(300) % 90, []
    for size in (2**25, 2 * 90 * 64):
        monkeypatch.setattr(cross_entropy, "_BLOCK", size)
        with arithmetic(rounding=rounding):
            loss, _ = linear_cross_entropy(*given, targets, 0.1)
        for share in (1, 0.25):
            found.append([each / share for each in torch.autograd.grad(share * loss, given, retain_graph=True)])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert (one - other).norm() <= (3e-2 if rounding is Rounding.int8 else 5e-4) * other.norm()


def test_gradients_and_all_else_are_rounded_each_in_its_way(monkeypatch):
    """In 8 bits, at an update: what meets a matrix forwards to the nearest, all that meets one backwards by coins."""
    made = {}

    class Noting(IntegerMatrix):
        def product(self, rows, into=None, **options):
            made.setdefault(self._kind, []).append((*rows.shape, self.columns))
            return super().product(rows, into, **options)

        def cross_entropy(self, rows, *given):
            made.setdefault(self._kind, []).append((*rows.shape, self.columns))
            super().cross_entropy(rows, *given)

    def several(rows, matrices):
        for each in matrices:
            made.setdefault(each._kind, []).append((*rows.shape, each.columns))
        return of_several(rows, matrices)

    of_several = integers.products
    monkeypatch.setattr(integers, "products", several)
    for module in (products, cross_entropy):
        monkeypatch.setattr(module, "IntegerMatrix", Noting)
    # step by step, so that the steps' products are seen too
    monkeypatch.setattr(layer, "describe_factor", lambda *_: None)
    cell, output = LSTMCell(72, 80), noise(200, 96).requires_grad_()
    inputs, bias = noise(3, 70, 72).requires_grad_(), noise(200).requires_grad_()
    between = noise(96, 80, seed=1).requires_grad_()
    with arithmetic(rounding=Rounding.int8):
        hiddens, _ = cell.run(inputs, cell.zero_state(inputs, 70))
        readouts = products.product(hiddens.flatten(0, 1), between)
        loss, _ = linear_cross_entropy(readouts, output, bias, torch.arange(210) % 200, 0.1)
    words, steps = (210, 72, 320), [(70, 80, 320)] * 3
    assert made == {Kind.bytes: [words, *steps, (210, 80, 96), (210, 96, 200)]}
    made.clear()
    loss.backward()
    # by readouts and output layer; by states and the layer between; by states of each step, U, W and words
    found = [(210, 200, 96), (200, 210, 96), (210, 96, 80), (96, 210, 80), *[(70, 320, 80)] * 3]
    # rows of zeros follow those of the words
    assert made == {Kind.bytes_of_gradients: [*found, (320, 210, 80), (320, 210, 72), (224, 320, 72)]}


@pytest.mark.parametrize("rounding", WHOLE)
def test_without_gradients_products_are_in_float32(rounding):
    """Perplexity, forced decoding: what is reported of a model is not of its training's arithmetic."""
    given, targets = (noise(100, 70), noise(90, 70, seed=1), noise(90, seed=2)), torch.arange(100) % 90
    with torch.no_grad():
        expected = products.product(*given), *linear_cross_entropy(*given, targets, 0.1)
        with arithmetic(rounding=rounding):
            found = products.product(*given), *linear_cross_entropy(*given, targets, 0.1)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("rounding", WHOLE)
@pytest.mark.parametrize("transposed", [True, False])
def test_an_operand_rounds_gradients_as_gradients(rounding, transposed):
    matrix = noise(70, 90).requires_grad_()
    rows, above = noise(80, 90 if transposed else 70).requires_grad_(), noise(80, 70 if transposed else 90, seed=1)
    forward, back = matrix.detach(), matrix.detach().t()
    if not transposed:
        forward, back = back, forward
    with arithmetic(rounding=rounding):
        found = Operand(matrix, transposed=transposed)(rows)
        of_rows, of_matrix = torch.autograd.grad(found, (rows, matrix), above)
    assert torch.equal(found, IntegerMatrix(forward, rounding.kinds[0]).product(rows.detach()))
    assert torch.equal(of_rows, IntegerMatrix(back, rounding.kinds[1]).product(above))
    of_forward = IntegerMatrix(rows.detach().t(), rounding.kinds[1]).product(above.t())
    assert torch.equal(of_matrix, of_forward if transposed else of_forward.t())


@pytest.mark.parametrize("count", [80, 700])
@pytest.mark.parametrize("rows_have", ["rows", "columns"])
@pytest.mark.parametrize("kind", list(Kind))
def test_several_products_of_the_same_rows(kind, count, rows_have):
    rows = turned(noise(count, 513), side_by_side=rows_have)
    matrices = [IntegerMatrix(noise(columns, 513, seed=columns), kind) for columns in (97, 32, 256, 64)]
    results, sums = integers.products(rows, matrices)
    for found, matrix in zip(results, matrices, strict=True):
        assert torch.equal(found, matrix.product(rows))
    assert sums.shape == (count,) and (sums - rows.double().sum(1)).abs().max() <= 1e-4


@pytest.mark.parametrize("columns", [70, 128])
@pytest.mark.parametrize("count", [33, 700])
@pytest.mark.parametrize("kind", list(Kind))
def test_more_is_added_to_what_is_there(kind, count, columns):
    rows, matrix, total = noise(count, 600), IntegerMatrix(noise(columns, 600, seed=1), kind), noise(count, columns)
    expected = total + matrix.product(rows)
    assert matrix.product(rows, total, more=True) is total
    assert (total - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("rounding", list(Rounding))
def test_outer_products_together_and_added(rounding):
    """Rows of zeros may follow those of one."""
    left, rights = noise(90, 200), [noise(200, 70, seed=1), torch.cat([noise(200, 64, seed=2), torch.zeros(9, 64)])]
    if rounding is Rounding.bf16:
        left, rights = left.bfloat16(), [each.bfloat16() for each in rights]
    expected = [outer(left, each, rounding) for each in rights]
    results, sums = outers(left, rights, rounding)
    for found, other in zip(results, expected, strict=True):
        assert torch.equal(found, other)
    wanted = left.double().sum(1)
    assert (sums - wanted).norm() <= (1e-2 if rounding is Rounding.bf16 else 1e-5) * wanted.norm()
    total = noise(90, 70, seed=3)
    wanted = total + expected[0]
    add_outer(total, left, rights[0])
    near = {Rounding.int16: 1e-3, Rounding.int8: 3e-2}.get(rounding, 1e-5)
    assert total.dtype == torch.float32 and (total - wanted).norm() <= near * wanted.norm()
