"""The norm of all gradients, and what is longer made shorter."""

import math

import pytest
import torch
from torch import nn

from nmt.training.clipping import clip_gradients


def parameters(*gradients):
    found = []
    for gradient in gradients:
        found.append(nn.Parameter(torch.zeros(()) if gradient is None else torch.zeros_like(gradient)))
        found[-1].grad = gradient
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norm_and_scaling(dtype):
    noise = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=noise, dtype=dtype) for shape in [(300, 70), (5,), (), (4, 3, 2)]]
    given.append(torch.randn(40, 30, generator=noise, dtype=dtype).t())
    expected = math.sqrt(sum(float((each.double() ** 2).sum()) for each in given))
    before = [each.clone() for each in given]
    found = clip_gradients(parameters(*given, None), expected * 2)
    assert found.item() == pytest.approx(expected, rel=1e-6) and found.dtype == dtype
    assert all(torch.equal(one, other) for one, other in zip(given, before, strict=True)), "short enough"
    clip_gradients(parameters(*given), expected / 4)
    for one, other in zip(given, before, strict=True):
        torch.testing.assert_close(one, other / 4, rtol=1e-5, atol=0)


def test_millions_of_numbers_err_little():
    given = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)) * 1e-3
    expected = given.double().norm().item()
    assert clip_gradients(parameters(given), None).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(odd):
    assert not clip_gradients(parameters(torch.tensor([1.0, odd]), torch.ones(3)), 1.0).isfinite()


def test_no_gradients_have_no_norm():
    assert clip_gradients(parameters(None), 1.0).item() == 0.0
