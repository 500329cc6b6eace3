"""Attention over keys and values in float16, against its formulas in float64."""

import ctypes

import numpy as np
import pytest
import torch
from toys import close

from nmt.model.library import compiled, multiplies_integers

pytestmark = pytest.mark.skipif(
    not multiplies_integers(), reason="no AVX-512 VNNI, or nmt/model/halves.c is not compiled here"
)
LOWEST = torch.finfo(torch.float32).min


class Sum(ctypes.Structure):
    """As in kernels.h: so many terms, of each where it is, the distance of its rows, and that it is float32."""

    _fields_ = [("count", ctypes.c_int64), ("terms", ctypes.c_int64 * 12)]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def places(*tensors):
    return [ctypes.c_void_p(each.data_ptr()) for each in tensors]


def numbers(*values):
    return [ctypes.c_int64(value) for value in values]


def case(rows, positions, key_size, size):
    """Keys and values that float16 has; of the first row one place is open, of the last none."""
    keys, values = noise(rows, positions, key_size, seed=1).half(), noise(rows, positions, size, seed=2).half()
    open_places = torch.arange(positions) < torch.arange(1, rows + 1).unsqueeze(1)
    open_places[-1] = rows == 1
    return noise(rows, key_size), keys, values, open_places


@pytest.mark.parametrize("rows", [1, 3, 80])
@pytest.mark.parametrize("positions", [1, 4, 17, 33])
@pytest.mark.parametrize(("key_size", "size"), [(64, 64), (70, 130), (512, 512)])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_forwards_and_back(rows, positions, key_size, size, scale):
    queries, keys, values, allowed = case(rows, positions, key_size, size)
    padding, factors = torch.zeros(rows, positions).masked_fill_(~allowed, LOWEST), allowed.float()
    weights, contexts, low = (
        torch.full((rows, positions), 7.0),
        torch.full((rows, size), 7.0),
        torch.zeros(rows, size + 5),
    )
    sizes = numbers(rows, positions, key_size, size)
    given = *places(queries, keys, values), ctypes.c_float(scale), *places(padding, factors), *sizes
    compiled().attend_to_halves(*given, *places(weights, contexts, low), *numbers(size + 5))

    q, k, v, mask = (each.double().numpy() for each in (queries, keys, values, allowed))
    scores = np.where(mask, scale * np.einsum("bk,bjk->bj", q, k), -np.inf)
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(1, keepdims=True, initial=-1e300))
    alphas = powers / np.maximum(powers.sum(1, keepdims=True), 1e-300)
    alphas[alphas < 1e-30] = 0
    assert weights.numpy() == close(alphas, 1e-5)
    assert contexts.numpy() == close(np.einsum("bj,bjk->bk", alphas, v), 1e-5)
    assert torch.equal(low[:, :size], contexts) and not low[:, size:].any()

    both, of_weights = (
        (noise(rows, size + 2, seed=3)[:, 1:-1], noise(rows, size, seed=4)),
        noise(rows, positions, seed=5),
    )
    terms = [number for each in both for number in (each.data_ptr(), each.stride(0), 1)]
    total = Sum(2, (ctypes.c_int64 * 12)(*terms))
    of_contexts, of_scores, of_queries = (
        torch.empty(rows, size),
        torch.empty(rows, positions),
        torch.empty(rows, key_size),
    )
    given = ctypes.byref(total), *places(of_weights), *numbers(positions), *places(weights, keys, values)
    found = places(of_contexts, of_scores, of_queries)
    compiled().attend_to_halves_back(*given, ctypes.c_float(scale), *sizes, *found)

    of_context = (both[0].double() + both[1].double()).numpy()
    of_alphas = np.einsum("bk,bjk->bj", of_context, v) + of_weights.double().numpy()
    expected = alphas * (of_alphas - (alphas * of_alphas).sum(1, keepdims=True))
    assert of_contexts.numpy() == close(of_context, 1e-5)
    assert of_scores.numpy() == close(expected, 1e-4)
    assert of_queries.numpy() == close(scale * np.einsum("bj,bjk->bk", expected, k), 1e-4)


def test_what_is_not_a_number_stays_in_its_row():
    queries, keys, values, allowed = case(3, 5, 64, 64)
    queries[1, 3] = float("nan")
    padding, factors = torch.zeros(3, 5).masked_fill_(~allowed, LOWEST), allowed.float()
    weights, contexts, low = torch.zeros(3, 5), torch.zeros(3, 64), torch.zeros(3, 64)
    given = *places(queries, keys, values), ctypes.c_float(1), *places(padding, factors), *numbers(3, 5, 64, 64)
    compiled().attend_to_halves(*given, *places(weights, contexts, low), *numbers(64))
    assert contexts.isfinite().all(1).tolist() == [True, False, True]
