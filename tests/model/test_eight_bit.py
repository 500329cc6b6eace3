"""Search with weights of 8 bits: the functions in C against loops, and whole searches against those in float32."""

import numpy as np
import pytest
import torch
from reference import eight_bit as reference
from toys import SOURCE_SIZE, close, configuration, toy_batch

from nmt.assemble import build_model
from nmt.model import arithmetic, eight_bit, searching
from nmt.model.cells import make_cell
from nmt.model.eight_bit import ByteMatrix
from nmt.model.gating import GRU, LSTM, RNN
from nmt.model.library import multiplies_integers
from nmt.model.products import Operand
from nmt.search import SearchOptions, search

pytestmark = pytest.mark.skipif(
    not multiplies_integers(), reason="no AVX-512 VNNI, or nmt/model/eight_bit.c is not compiled here"
)
# rows of a tile or less, of several tiles and some more
COUNTS = [1, 5, 14, 17, 40, 70]
WIDTHS = [(70,), (64, 7), (3, 33), (4, 8, 24, 31), (600, 5)]


def noise(*shape, seed=0, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def parts_of(count, widths):
    # of very different sizes, as embeddings and states are; views of wider rows, as in buffers
    return [noise(count, 2 * width, seed=width)[:, width:] * 10.0**-place for place, width in enumerate(widths)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("columns", [64, 101, 192])
def test_product(count, widths, columns):
    parts, matrix = parts_of(count, widths), noise(columns, sum(widths), seed=1, scale=0.3)
    matrix[3] = 0
    found = ByteMatrix(matrix).product(parts)
    expected = reference.product([part.double().numpy() for part in parts], matrix.double().numpy())
    assert found.shape == (count, columns) and found.dtype == torch.float32
    assert found.numpy() == close(expected, 1e-5)
    assert not found[:, 3].any()


def test_every_part_has_a_scale_of_its_own():
    matrix, small, large = noise(64, 128, seed=1), noise(9, 64, seed=2, scale=1e-4), noise(9, 64, seed=3)
    alone = ByteMatrix(matrix[:, :64]).product([small])
    matrix[:, 64:] = 0
    together = ByteMatrix(matrix).product([small, large])
    assert together.numpy() == close(alone, 1e-6)


def test_parts_of_which_there_are_too_many_share_a_scale():
    parts = parts_of(7, (1, 2, 3, 4, 60))
    matrix, whole = noise(64, 70, seed=1), torch.cat(parts, 1)
    assert torch.equal(ByteMatrix(matrix).product(parts), ByteMatrix(matrix).product([whole]))


def test_rows_may_come_in_other_parts_than_before():
    matrix, rows = ByteMatrix(noise(64, 700, seed=1)), noise(5, 700)
    for widths in [(700,), (188, 512), (350, 350), (700,)]:
        parts = rows.split(widths, 1)
        expected = reference.product([part.double().numpy() for part in parts], noise(64, 700, seed=1).double().numpy())
        assert matrix.product(parts).numpy() == close(expected, 1e-5)


def test_quantisation_errs_by_a_percent():
    rows, matrix = noise(40, 512, seed=1), noise(300, 512, seed=2)
    exact = rows @ matrix.t()
    assert (ByteMatrix(matrix).product([rows]) - exact).std() < 0.015 * exact.std()


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_visible_in_its_row(odd):
    rows, matrix = noise(8, 64), ByteMatrix(noise(64, 64, seed=1))
    rows[5, 9] = odd
    found = matrix.product([rows])
    assert found.isfinite().all(1).tolist() == [True] * 5 + [False] + [True] * 2


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_stays_visible_in_its_column(odd):
    weight = noise(70, 64)
    weight[5, 9] = odd
    found = ByteMatrix(weight).product([noise(8, 64)])
    assert found.isfinite().all(0).tolist() == [True] * 5 + [False] + [True] * 64


@pytest.mark.parametrize("tiny", [1e-38, 1e-44])
def test_what_is_next_to_nothing_is_nothing(tiny):
    assert not ByteMatrix(torch.full((64, 64), tiny)).product([noise(3, 64)]).any()
    assert not ByteMatrix(noise(64, 64)).product([torch.full((3, 64), tiny)]).any()


def test_rows_of_another_width_are_refused():
    for parts in ([noise(2, 32)], [noise(2, 32), noise(2, 64)], [noise(2, 32), noise(3, 32)]):
        with pytest.raises(AssertionError):
            ByteMatrix(noise(64, 64)).product(parts)


def test_nothing_but_zeros():
    assert not ByteMatrix(torch.zeros(64, 64)).product([noise(3, 64)]).any()
    assert not ByteMatrix(noise(64, 64)).product([torch.zeros(3, 64)]).any()
    assert ByteMatrix(noise(64, 64)).product([torch.zeros(0, 64)]).shape == (0, 64)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("size", [16, 48, 128])
@pytest.mark.parametrize(("gating", "expected_of"), [(LSTM, reference.lstm), (GRU, reference.gru)])
def test_cell(gating, expected_of, count, size):
    parts, matrix = parts_of(count, (8, size)), noise(4 * size, 8 + size, seed=1)
    bias, cell = noise(4 * size, seed=2), noise(count, size, seed=3)
    hidden, new = torch.full((2, count, size), torch.nan)
    ByteMatrix(matrix, bias, gating).advance(parts, cell, hidden, new)
    gates = reference.product([part.double().numpy() for part in parts], matrix.double().numpy())
    expected = expected_of(gates + bias.double().numpy(), cell.double().numpy())
    assert hidden.numpy() == close(expected[0], 1e-5) and new.numpy() == close(expected[1], 1e-5)


def test_gates_far_from_zero_are_shut_or_open():
    size = 16
    for sign in (-1, 1):
        hidden, new = torch.empty(2, 1, size)
        bias = torch.full((4 * size,), sign * 1e4)
        cell = torch.full((1, size), 0.5)
        ByteMatrix(torch.zeros(64, 64), bias, LSTM).advance([torch.zeros(1, 64)], cell, hidden, new)
        expected = (0.0, 0.0) if sign < 0 else (np.tanh(1.5), 1.5)
        found = [hidden[0, 0].item(), new[0, 0].item()]
        assert found == pytest.approx(expected, abs=1e-6)
        assert (hidden == found[0]).all() and (new == found[1]).all()


@pytest.mark.parametrize("candidate", [-1e4, -60.0, -44.0, -43.0, 44.0])
@pytest.mark.parametrize("entering", [-3.0, -1.2, 0.0, 2.0])
def test_one_gate_far_from_zero_leaves_the_other_as_it_is(entering, candidate):
    size = 16
    hidden, new = torch.empty(2, 1, size)
    bias = torch.tensor([entering, -1e4, entering, candidate]).repeat_interleave(size)
    ByteMatrix(torch.zeros(64, 64), bias, LSTM).advance([torch.zeros(1, 64)], torch.zeros(1, size), hidden, new)
    opened = reference.sigmoid(entering)
    cell = opened * np.tanh(candidate)
    assert new.tolist() == [pytest.approx([cell] * size, rel=1e-6)]
    assert hidden.tolist() == [pytest.approx([opened * np.tanh(cell)] * size, rel=1e-6)]


def test_pieces_of_no_probability_first():
    bias = torch.zeros(200)
    bias[:130] = float("-inf")
    log_probs, pieces = ByteMatrix(torch.zeros(200, 64), bias).choose(noise(3, 64), 2, torch.empty(0, dtype=torch.long))
    assert (log_probs.numpy() == close(np.full((3, 2), -np.log(70)), 1e-5)) and pieces.tolist() == [[130, 131]] * 3


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("columns", [64, 70, 333])
@pytest.mark.parametrize("wanted", [1, 5, 64])
def test_choose(count, columns, wanted):
    rows, matrix, bias = noise(count, 72), noise(columns, 72, seed=1, scale=0.2), noise(columns, seed=2)
    never = torch.tensor([0, 3, columns - 1])
    wanted = min(wanted, columns - 3)
    log_probs, pieces = ByteMatrix(matrix, bias).choose(rows, wanted, never)
    logits = reference.product([rows.double().numpy()], matrix.double().numpy()) + bias.double().numpy()
    expected = reference.best(logits, wanted, set(never.tolist()))
    assert log_probs.numpy() == close(expected[0], 1e-4)
    assert np.array_equal(pieces.numpy(), expected[1])


def test_of_equal_pieces_the_first_is_chosen_whatever_the_threads():
    matrix = ByteMatrix(torch.zeros(300, 64))
    found = [matrix.choose(noise(50, 64), 7, torch.tensor([1]))[1]]
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3, 16):
            torch.set_num_threads(number)
            found.append(matrix.choose(noise(50, 64), 7, torch.tensor([1]))[1])
    finally:
        torch.set_num_threads(threads)
    assert all(each.tolist() == [[0, 2, 3, 4, 5, 6, 7]] * 50 for each in found)


def test_excluded_pieces_come_last_and_are_impossible():
    log_probs, pieces = ByteMatrix(noise(64, 64)).choose(noise(3, 64), 64, torch.tensor([2, 5]))
    assert (log_probs[:, 62:] == -torch.inf).all() and log_probs[:, :62].isfinite().all()
    assert all(sorted(row.tolist()) == sorted({*range(64)} - {2, 5}) for row in pieces[:, :62])


def test_a_row_of_nothing_that_is_a_number_has_real_pieces():
    rows = torch.full((3, 64), torch.nan)
    log_probs, pieces = ByteMatrix(noise(70, 64)).choose(rows, 3, torch.empty(0, dtype=torch.long))
    assert log_probs.isnan().all() and (pieces >= 0).all() and (pieces < 70).all()


@pytest.mark.parametrize(
    ("matrix", "serves"),
    [
        (torch.zeros(64, 64), True),
        (torch.zeros(63, 64), False),
        (torch.zeros(64, 63), False),
        (torch.zeros(64, 64, dtype=torch.float64), False),
        (torch.zeros(0, 64), False),
    ],
)
def test_what_is_small_or_of_another_type_stays_as_it_is(matrix, serves):
    assert eight_bit.serves(matrix) == serves
    with torch.inference_mode(), arithmetic(search_int8=True), searching():
        assert (Operand(matrix)._fixed.bytes is not None) == serves


@pytest.mark.parametrize("size", [64, 75])
@pytest.mark.parametrize(("gating", "gates"), [(LSTM, 4), (GRU, 3), (RNN, 1)])
def test_cells_whose_blocks_are_no_whole_panels_take_bytes_for_the_product_alone(gating, gates, size):
    weights = noise(gates * size, 70) / 8, noise(gates * size, size, seed=1) / 8
    bias, rows, hidden, cell = noise(gating.blocks * size), noise(5, 70, seed=2), noise(5, size), noise(5, size, seed=3)
    matrix = gating.side_by_side(weights)
    assert ByteMatrix(matrix, bias, gating).advances == (size == 64 and gating is not RNN)
    found, expected = torch.empty(2, 5, size), torch.empty(2, 5, size)
    gating.forward(torch.cat([rows, hidden], 1) @ matrix.t(), cell, *expected, bias=bias)
    with torch.inference_mode(), arithmetic(search_int8=True), searching():
        Operand(weights, bias, gating=gating).advance([rows, hidden], cell, *found)
    assert 0 < (found - expected).abs().max() < 0.1


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_step_of_a_cell_is_the_same_whole_and_of_a_projected_input(kind):
    cell = make_cell(kind, 70, 64, feed_size=65, layer_norm=False)
    inputs, feed = noise(5, 70), noise(5, 65, seed=1)
    state = tuple(noise(5, 64, seed=2 + part) for part in range(cell.parts))
    with torch.inference_mode(), arithmetic(search_int8=True, prepared={}), searching():
        found = cell.prepare()(cell.project(inputs), feed, state)
        for part, whole in zip(found, cell.prepare_whole()(inputs, feed, state), strict=True):
            assert part.numpy() == close(whole, 1e-5)


def test_only_a_search_takes_bytes():
    weight, rows = torch.nn.Parameter(noise(64, 64)), noise(2, 64, seed=1)

    def exact():
        return torch.allclose(Operand(weight)(rows), rows @ weight.t(), atol=1e-4)

    with arithmetic(search_int8=True):
        with torch.inference_mode():
            assert exact()
            with searching():
                assert not exact()
        with searching():
            assert exact(), "gradients are wanted"
    with arithmetic(), torch.inference_mode(), searching():
        assert exact(), "nobody asked for it"


def test_keys_of_a_search_are_in_bf16():
    keys, rows = noise(3, 5, 7), noise(3, 2, 7, seed=1)
    with torch.inference_mode(), arithmetic(search_int8=True), searching():
        operand = Operand(keys)
        assert operand.select(torch.tensor([0, 2])).matrix.dtype == torch.bfloat16
        few = operand.select(torch.tensor([0, 2])).select(torch.tensor([1]))
        assert torch.equal(few.matrix, keys[2:].bfloat16()) and torch.equal(operand.matrix, keys.bfloat16())
        assert few(rows[2:]).numpy() == close(rows[2:] @ keys[2:].bfloat16().float().transpose(1, 2), 1e-5)
        assert torch.equal(operand.select(torch.tensor([1])).matrix, keys[1:2].bfloat16()), "asked for before"
        assert Operand(keys.transpose(0, 1)).matrix.is_contiguous()
        assert operand(rows).numpy() == close(rows @ keys.bfloat16().float().transpose(1, 2), 1e-5)


def translations(model, batch, *, int8, beam):
    """What the model finds, as pieces and scores."""
    options = SearchOptions(beam=beam, n_best=beam, max_length_offset=5)
    with torch.inference_mode(), arithmetic(search_int8=int8), searching():
        found = search(
            model.step,
            model.encode(batch.source, batch.source_lengths),
            source_lengths=batch.source_lengths,
            options=options,
            bos=1,
            eos=2,
            forbidden=(0, 1),
        )
    return found


LARGE = ("embedding.size=64", "encoder.hidden_size=64", "decoder.hidden_size=128")


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(
    "preset", ["none", "luong_general", "luong_concat", "bahdanau", "local_p", "cosine", "luong_location", "multi_head"]
)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_whole_search_scores_almost_as_in_float32(preset, cell, beam):
    # a seed with which no two pieces are so nearly alike that the searches part early
    torch.manual_seed(13)
    config = configuration(f"attention={preset}", f"encoder.cell={cell}", *LARGE)
    model = build_model(config, source_size=SOURCE_SIZE, target_size=100, joint=False).eval()
    batch = toy_batch()
    coarse, exact = (translations(model, batch, int8=int8, beam=beam) for int8 in (True, False))
    differ = False
    for found, expected in zip(coarse, exact, strict=True):
        # an untrained model is all but indifferent, so that the pieces may differ, but not what the best are worth
        assert found[0].score == pytest.approx(expected[0].score, abs=0.02)
        differ |= found[0].log_prob != expected[0].log_prob
    assert differ, "the search did not take bytes"


def test_prepared_matrices_are_met_again_until_they_change():
    weight, kept = torch.nn.Parameter(noise(64, 64)), {}
    with torch.inference_mode(), arithmetic(prepared=kept):
        first = Operand(weight)._fixed
        assert Operand(weight)._fixed is first and len(kept) == 1
        assert Operand(weight, transposed=False)._fixed is not first
    with torch.no_grad():
        weight.mul_(2)
    with torch.inference_mode(), arithmetic(prepared=kept):
        assert Operand(weight)._fixed is not first
        # what is no parameter may be gone by then
        assert Operand(weight * 1)._fixed is not None and len(kept) == 2
    layer = torch.nn.Linear(64, 64)
    rows, kept = noise(2, 64), {}
    with torch.inference_mode(), arithmetic(prepared=kept):
        before = Operand(layer.weight, layer.bias)(rows)
        layer.double()
        after = Operand(layer.weight, layer.bias)(rows.double())
    assert after.dtype == torch.float64 and torch.allclose(after.float(), before, atol=1e-5)
    with torch.inference_mode(), arithmetic(prepared=kept):
        assert Operand(torch.nn.Parameter(noise(64, 64)))._fixed is not None, "made where nothing tells of changes"
