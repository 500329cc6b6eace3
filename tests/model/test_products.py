import pytest
import torch
from torch.nn import functional
from toys import close, random

from nmt.model import Rounding, arithmetic, products
from nmt.model.products import Linear, Operand, _Product, current, product, times_transposed

N, K, M, B, Q, S = 5, 7, 3, 2, 11, 13
WITH_ONEDNN = pytest.mark.skipif(not products._ONEDNN, reason="this torch has no oneDNN, or hides its product")


def test_arithmetic_ends_with_its_block():
    assert (current().rounding, current().fast) == (Rounding.none, True)
    with pytest.raises(KeyError), arithmetic(rounding=Rounding.bf16, fast=False):
        with arithmetic(fast=True):
            assert (current().rounding, current().fast) == (Rounding.none, True)
        assert (current().rounding, current().fast) == (Rounding.bf16, False)
        raise KeyError
    assert (current().rounding, current().fast) == (Rounding.none, True)


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(N, K, M), (1, K, M), (N, 1, M), (N, K, 1), (0, K, M), (300, 65, 33)])
@pytest.mark.parametrize("onednn", [False, pytest.param(True, marks=WITH_ONEDNN)])
def test_either_product_is_a_product(monkeypatch, shape, transposed, onednn):
    monkeypatch.setattr(products, "_ONEDNN_FLOAT32", onednn)
    n, k, m = shape
    left = random(k, n).float().t() if transposed[0] else random(n, k).float()
    right = random(k, m, seed=1).float().t() if transposed[1] else random(m, k, seed=1).float()
    assert times_transposed(left, right).numpy() == close(left.double() @ right.double().t(), 1e-4)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_equals_torch(bias, fast):
    linear = Linear(K, M, bias=bias).double()
    if linear.bias is not None:
        linear.bias.data = random(M, seed=4)
    inputs = random(B, N, K)
    with arithmetic(fast=fast):
        operand = linear.prepare()
        found = linear(inputs), operand(inputs), torch.stack([operand(inputs[:, n]) for n in range(N)], 1)
    for each in found:
        assert each.detach().numpy() == close(functional.linear(inputs, linear.weight, linear.bias))


def test_product_gradient():
    inputs, weight = random(B, N, K).requires_grad_(), random(M, K, seed=1).requires_grad_()
    bias = random(M, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: _Product.apply(*given, Rounding.none), (inputs, weight, bias))
    assert torch.autograd.gradcheck(lambda *given: _Product.apply(*given, None, Rounding.none), (inputs, weight))


def test_a_bias_has_the_sum_of_gradients_in_bf16_too():
    inputs, weight = random(N, B, K).float().transpose(0, 1).requires_grad_(), random(M, K, seed=1).float()
    bias = random(M, seed=2).float().requires_grad_()
    given = random(B, N, M, seed=3).float()
    with arithmetic(rounding=Rounding.bf16):
        found = product(inputs, weight, bias)
        found.backward(given)
    assert found.detach().numpy() == close(inputs.detach() @ weight.t() + bias.detach(), 0.1)
    assert bias.grad.dtype == torch.float32
    assert bias.grad.numpy() == close(given.sum((0, 1)), 0.05)


def recurrence(matrix, rows, *, transposed):
    """Four steps that meet one matrix, the second through the first; the third is not part of the result."""
    operand = Operand(matrix, transposed=transposed)
    first = operand(rows[0]).tanh()
    second = operand(rows[1] * first.sum(-1, keepdim=True)).tanh()
    operand(rows[2])
    return first * 2 + second + operand(rows[3])


CASES = [pytest.param((M, K), (4, B, Q), transposed, id=f"shared-{transposed}") for transposed in (True, False)] + [
    pytest.param((B, M, K), (4, B, Q), transposed, id=f"a_sentence-{transposed}") for transposed in (True, False)
]


def tensors(matrix, steps, transposed):
    rows = random(*steps, matrix[-1] if transposed else matrix[-2])
    return random(*matrix, seed=1).requires_grad_(), rows.requires_grad_()


@pytest.mark.parametrize(("matrix", "steps", "transposed"), CASES)
def test_deferred_gradients_are_gradients(matrix, steps, transposed):
    given = tensors(matrix, (4, B, 2), transposed)
    assert torch.autograd.gradcheck(lambda *each: recurrence(*each, transposed=transposed), given)


@pytest.mark.parametrize(("matrix", "steps", "transposed"), CASES)
def test_deferred_gradients_equal_plain_ones(matrix, steps, transposed):
    found = []
    for fast in (True, False):
        given = tensors(matrix, steps, transposed)
        with arithmetic(fast=fast):
            result = recurrence(*given, transposed=transposed)
        result.square().sum().backward()
        found.append([result.detach(), *(each.grad for each in given)])
    for one, other in zip(*found, strict=True):
        assert one.numpy() == close(other)
    assert not found[0][2][2].any(), "a step that is not part of the result"


def test_going_back_twice_counts_once_each():
    matrix, rows = tensors((M, K), (4, B, Q), True)
    result = recurrence(matrix, rows, transposed=True).sum()
    result.backward(retain_graph=True)
    once = matrix.grad.clone()
    result.backward()
    assert matrix.grad.numpy() == close(2 * once)


def test_one_matrix_in_two_recurrences():
    matrix, rows = tensors((M, K), (4, B, Q), True)
    sum(recurrence(matrix, rows, transposed=True).sum() * factor for factor in (1, 2)).backward()
    twice = matrix.grad.clone()
    matrix.grad = None
    recurrence(matrix, rows, transposed=True).sum().backward()
    assert twice.numpy() == close(3 * matrix.grad)


def test_a_fixed_matrix_has_no_gradient_and_rows_still_do():
    rows = random(B, K).requires_grad_()
    matrix = random(M, K)
    Operand(matrix)(rows).sum().backward()
    assert rows.grad.numpy() == close(matrix.sum(0).expand(B, K))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_selected_sentences(transposed, fast):
    matrix = random(B, M, K).requires_grad_()
    rows, picked = random(3, Q, K if transposed else M), torch.tensor([1, 0, 1])
    with arithmetic(fast=fast):
        result = Operand(matrix, transposed=transposed).select(picked)(rows)
        (result * random(*result.shape, seed=2)).sum().backward()
    expected = torch.autograd.functional.vjp(
        lambda given: rows @ (given[picked].transpose(1, 2) if transposed else given[picked]),
        matrix,
        random(*result.shape, seed=2),
    )
    assert result.detach().numpy() == close(expected[0])
    assert matrix.grad.numpy() == close(expected[1])


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_rounds_products_and_keeps_types(fast):
    inputs, weight = random(B, Q, K).float().requires_grad_(), random(M, K, seed=1).float().requires_grad_()
    exact = inputs.double() @ weight.double().t()
    with arithmetic(rounding=Rounding.bf16, fast=fast):
        for result in (product(inputs, weight), Operand(weight)(inputs)):
            inputs.grad = weight.grad = None
            result.sum().backward()
            assert {result.dtype, inputs.grad.dtype, weight.grad.dtype} == {torch.float32}
            assert 0 < (result - exact).abs().max() < 0.1
            assert weight.grad.numpy() == close(inputs.detach().sum((0, 1)).expand(M, K), 0.1)


@pytest.mark.parametrize("fast", [True, False])
def test_keys_and_values_stay_in_their_own_type(fast):
    keys, rows = random(B, S, K).float(), random(B, Q, K, seed=1).float()
    with arithmetic(rounding=Rounding.bf16, fast=fast):
        found = Operand(keys)(rows)
    assert found.numpy() == close(rows @ keys.transpose(1, 2), 1e-5)


def test_double_precision_stays_double():
    with arithmetic(rounding=Rounding.bf16):
        assert product(random(N, K), random(M, K)).numpy() == close(random(N, K) @ random(M, K).t())
