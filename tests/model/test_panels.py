"""Products of float32 with a matrix in panels, against float64, and where training takes them."""

import pytest
import torch
from toys import close

from nmt.model import panels, products
from nmt.model.cells import LSTMCell
from nmt.model.library import multiplies_floats
from nmt.model.panels import Panels
from nmt.model.products import Factor, Rounding

pytestmark = pytest.mark.skipif(not multiplies_floats(), reason="this processor has no AVX-512")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_product(found, rows, matrix):
    expected = rows.double() @ matrix.double().t()
    assert found.dtype == torch.float32 and found.shape == expected.shape
    assert (found - expected).norm() <= 2e-6 * expected.norm()


@pytest.mark.parametrize("side_by_side", ["rows", "columns"])
@pytest.mark.parametrize(("columns", "depth"), [(1, 1), (64, 16), (5, 64), (70, 501), (130, 1030), (64, 2100)])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 13, 80, 145, 300])
def test_products(count, columns, depth, side_by_side):
    rows = noise(count, depth + 3)[:, 2 : depth + 2]
    matrix = noise(columns, depth, seed=1) if side_by_side == "rows" else noise(depth, columns, seed=1).t()
    assert_product(Panels(matrix).product(rows), rows, matrix)


def test_into_a_part_of_a_buffer():
    rows, matrix, buffer = noise(40, 70), noise(129, 70, seed=1), torch.full((100, 129), 7.0)
    Panels(matrix).product(rows, buffer[30:70])
    assert_product(buffer[30:70], rows, matrix)
    assert (buffer[:30] == 7).all() and (buffer[70:] == 7).all()


def test_rows_of_columns_are_copied():
    rows, matrix = noise(70, 40).t(), noise(129, 70, seed=1)
    assert_product(Panels(matrix).product(rows), rows, matrix)


def test_neither_threads_nor_other_rows_change_a_number():
    rows, made = noise(83, 1100), Panels(noise(2048, 1100, seed=1))
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(made.product(rows))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert torch.equal(made.product(rows[20:27]), found[0][20:27])


def test_what_is_not_a_number_stays_in_its_row():
    rows, matrix = noise(20, 70), noise(90, 70, seed=1)
    rows[3, 5] = float("nan")
    found = Panels(matrix).product(rows)
    assert found[3].isnan().all() and not found[:3].isnan().any() and not found[4:].isnan().any()


@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(64, 63),
        torch.zeros(63, 64),
        torch.zeros(64, 64, dtype=torch.float64),
        torch.zeros(64, 64, dtype=torch.bfloat16),
        torch.zeros(2, 64, 64),
        torch.zeros(128, 128)[::2, ::2],
    ],
)
def test_what_is_left_to_torch(matrix):
    assert panels.serves(torch.zeros(64, 64)) and panels.serves(torch.zeros(64, 64).t())
    assert not panels.serves(matrix)


@pytest.mark.parametrize("served", [True, False])
def test_a_factor_multiplies_from_both_sides(monkeypatch, served):
    monkeypatch.setattr(products, "_ONEDNN_FLOAT32", not served and products._ONEDNN)
    if not served:
        monkeypatch.setattr(panels, "serves", lambda matrix: False)
    matrix, rows, others = noise(130, 70), noise(33, 70, seed=1), noise(33, 130, seed=2)
    factor, into = Factor(matrix, rounding=Rounding.none), torch.empty(33, 130)
    factor.write(into, rows)
    for found in (factor.times_transposed(rows), into):
        assert found.numpy() == close((rows.double() @ matrix.double().t()), 1e-4)
    assert factor.times(others).numpy() == close(others.double() @ matrix.double(), 1e-4)


def test_a_recurrence_lays_its_matrix_out_once_for_each_way(monkeypatch):
    made = []

    class Counted(Panels):
        def __init__(self, matrix):
            made.append(tuple(matrix.shape))
            super().__init__(matrix)

    monkeypatch.setattr(products, "_ONEDNN_FLOAT32", False)
    monkeypatch.setattr(products, "Panels", Counted)
    cell, inputs = LSTMCell(64, 64), noise(5, 3, 64)
    hidden, _ = cell.run(inputs, cell.zero_state(inputs, 3))
    hidden.sum().backward()
    assert made == [(256, 64), (64, 256)]
