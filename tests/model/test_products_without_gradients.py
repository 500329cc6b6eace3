"""Operands made where no gradients are wanted are laid out once, and compute what the others compute."""

import pytest
import torch

from nmt.model import Rounding, arithmetic
from nmt.model.products import Operand

ROWS = [(1, 1), (3, 5), (0, 2)]


@pytest.fixture(params=["oneDNN", "plain"])
def library(request, monkeypatch):
    if request.param == "plain":
        monkeypatch.setattr("nmt.model.products._ONEDNN", False)
    return request.param


@pytest.mark.parametrize("shape", ROWS, ids=str)
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_product_is_the_same(library, shape, transposed, with_bias, dtype):
    torch.manual_seed(1)
    matrix = torch.nn.Parameter(torch.randn(13, 7, dtype=dtype))
    bias = torch.nn.Parameter(torch.randn(13, dtype=dtype)) if with_bias and transposed else None
    rows = torch.randn(*shape, 7 if transposed else 13, dtype=dtype)
    expected = rows @ (matrix.t() if transposed else matrix)
    expected = expected if bias is None else expected + bias
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            operand = Operand(matrix, bias, transposed=transposed)
            found = operand(rows)
        assert found.dtype == dtype and not found.requires_grad
        torch.testing.assert_close(found, expected.detach())
        assert operand(rows.clone().requires_grad_()).requires_grad, "a product with a gradient forgot it"


def test_in_bf16_only_factors_and_result_are_rounded(library):
    torch.manual_seed(2)
    matrix, bias, rows = torch.randn(17, 64), torch.randn(17), torch.randn(2, 3, 64)
    exact = rows.bfloat16().double() @ matrix.bfloat16().double().t() + bias.double()
    with torch.inference_mode(), arithmetic(rounding=Rounding.bf16):
        found = Operand(matrix, bias)(rows)
    assert found.dtype == torch.float32
    # the result and the sum with the bias are rounded once each at most
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=2**-6)
    assert not torch.equal(found, rows @ matrix.t() + bias)


def test_a_changed_matrix_is_seen_by_the_next_operand(library):
    matrix, rows = torch.ones(3, 2), torch.ones(1, 2)
    with torch.inference_mode():
        before = Operand(matrix)(rows)
        matrix.mul_(2)
        assert torch.equal(Operand(matrix)(rows), 2 * before)


def test_the_empty_matrix_of_a_model_without_output_layer(library):
    with torch.inference_mode():
        assert Operand(torch.empty(0, 4), torch.empty(0))(torch.ones(2, 3, 4)).shape == (2, 3, 0)


@pytest.mark.parametrize("transposed", [True, False])
def test_matrices_of_sentences(transposed):
    keys, rows = torch.randn(3, 5, 7), torch.randn(3, 2, 7 if transposed else 5)
    with torch.inference_mode():
        operand = Operand(keys, transposed=transposed)
        expected = rows @ (keys.transpose(1, 2) if transposed else keys)
        torch.testing.assert_close(operand(rows), expected)
        picked = torch.tensor([0, 2])
        torch.testing.assert_close(operand.select(picked)(rows[picked]), expected[picked])
