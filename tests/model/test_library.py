"""The functions in C are used where they are of the sources beside them, and of this processor."""

import ctypes
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
import torch

from nmt.model import eight_bit, integers, kernels, library
from nmt.model.eight_bit import ByteMatrix
from nmt.model.gating import GRU, LSTM, RNN
from nmt.model.integers import IntegerMatrix, Kind

pytestmark = pytest.mark.skipif(library.library() is None, reason="the functions in C are not compiled here")


@pytest.fixture
def looked_for_in(monkeypatch, tmp_path):
    """A folder where the library and its source are looked for, with copies of both."""
    folder = Path(library.__file__).parent
    (found,) = folder.glob("_kernels*")
    shutil.copy(found, tmp_path)
    for name in library.SOURCES:
        shutil.copy(folder / name, tmp_path)
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    return tmp_path


@pytest.mark.parametrize("name", library.SOURCES)
def test_a_library_of_another_source_is_not_used(looked_for_in, caplog, name):
    find = library.library.__wrapped__
    assert find() is not None
    with (looked_for_in / name).open("a") as source:
        source.write("/* changed */")
    with caplog.at_level("INFO"):
        assert find() is None
    assert "pip install it where there is a C compiler" in caplog.text
    (looked_for_in / name).unlink()
    assert find() is not None, "a wheel has no source"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_a_processor_that_does_not_multiply_integers_has_all_else(looked_for_in):
    (path,) = looked_for_in.glob("_kernels*")
    path.unlink()
    checksum = zlib.crc32(b"".join((looked_for_in / name).read_bytes() for name in library.SOURCES))
    sources = [looked_for_in / name for name in library.SOURCES[1:]]
    command = ["gcc", "-shared", "-fPIC", "-O1", "-fopenmp", f"-DCHECKSUM={checksum}", *sources, "-o", path]
    subprocess.run(command, check=True)
    found = library.library.__wrapped__()
    assert found is not None and not found.multiplies_integers()
    assert not hasattr(found, "product_of_bytes") and not hasattr(found, "products_of_integers")
    assert found.compare_float


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
@pytest.mark.parametrize("gating", [LSTM, GRU, RNN])
@pytest.mark.parametrize("with_gates", [True, False])
def test_without_vectors_of_16_it_computes_the_same(looked_for_in, monkeypatch, with_gates, gating):
    """Compiled for the least of processors, where the loops are of single numbers, as the compiler makes them."""
    path = looked_for_in / "least.so"
    sources = [looked_for_in / name for name in library.SOURCES[1:]]
    options = ["-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-DCHECKSUM=0"]
    subprocess.run(["gcc", "-shared", "-fPIC", *options, *sources, "-o", path], check=True)
    least = library._declared(ctypes.CDLL(str(path)))
    found = []
    for native in (library.library(), least):
        monkeypatch.setattr(kernels, "library", lambda native=native: native)
        torch.manual_seed(1)
        width = gating.blocks * 37
        products, inputs, bias, cell = (torch.randn(*shape) for shape in ((3, width), (3, width), (width,), (3, 37)))
        hidden, new, squashed, plain, output, of_cell = (torch.zeros(3, 37) for _ in range(6))
        gates, of_gates = torch.zeros(3, width), torch.zeros(3, width)
        kept = {"gates": gates, "squashed": squashed} if with_gates else {}
        gating.forward(products, cell, hidden, new, inputs=inputs, bias=bias, **kept)
        gating.back(gates, cell, squashed, [hidden], of_cell, of_gates)
        kernels.squash(products[:, :37].contiguous(), None, plain, output, None)
        keys, vector, of_vector = torch.randn(3, 5, 37), torch.randn(37), torch.zeros(37)
        scores = kernels.additive(hidden, keys, vector)
        of_keys, of_products = torch.zeros(3, 5, 37), torch.zeros(3, 37)
        kernels.additive_back(hidden, keys, vector, torch.randn(3, 5), of_keys, of_products, of_vector)
        found.append(
            [hidden, new, gates, squashed, of_cell, of_gates, plain, output, scores, of_keys, of_products, of_vector]
        )
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=2e-6)
    assert found[0][0].any() and found[0][2].any() == with_gates


def found_of_bytes():
    """What is made of products of bytes: of few rows and many, of whole tiles and not."""
    results, noise = [], torch.Generator().manual_seed(1)
    for count, columns, depth in [(1, 64, 64), (15, 70, 65), (33, 97, 1100), (80, 2048, 600), (400, 130, 513)]:
        rows, matrix = torch.randn(count, depth, generator=noise), torch.randn(columns, depth, generator=noise)
        for kind in (Kind.bytes, Kind.bytes_of_gradients):
            laid_out = IntegerMatrix(matrix, kind)
            results += [laid_out.product(rows), laid_out.product(rows.t().contiguous().t())]
            laid_out.product(rows, results[-1], more=True)
    rows, matrix, bias = (torch.randn(*shape, generator=noise) for shape in ((100, 70), (256, 70), (256,)))
    nll, of_bias, gradient = torch.empty(100), torch.zeros(256), torch.empty(100, 256, dtype=torch.float16)
    given = bias, torch.arange(100), None, 0.1, nll, of_bias, gradient
    IntegerMatrix(matrix, Kind.bytes).cross_entropy(rows, *given)
    (hidden, new), (gru, _) = torch.empty(2, 100, 64), torch.empty(2, 100, 64)
    ByteMatrix(matrix, bias, LSTM).advance([rows[:, :6], rows[:, 6:]], rows[:, :64], hidden, new)
    ByteMatrix(matrix, bias, GRU).advance([rows[:, :6], rows[:, 6:]], rows[:, :64], gru, torch.empty(100, 64))
    best, pieces = ByteMatrix(matrix, bias).choose(rows, 5, torch.tensor([3]))
    parts = ByteMatrix(matrix).product([rows[:, :6], rows[:, 6:]])
    return [*results, nll, of_bias, gradient, hidden, new, gru, best, pieces, parts]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_tiles_give_what_vectors_give(looked_for_in, monkeypatch):
    """Compiled without AMX, of which the sums are the same."""
    if not library.multiplies_integers() or not library.compiled().multiplies_in_tiles():
        pytest.skip("no AMX here")
    path = looked_for_in / "vectors.so"
    sources = [looked_for_in / name for name in library.SOURCES[1:]]
    options = ["-O2", "-fopenmp", "-march=native", "-mno-amx-int8", "-DCHECKSUM=0"]
    subprocess.run(["gcc", "-shared", "-fPIC", *options, *sources, "-o", path], check=True)
    vectors = library._declared(ctypes.CDLL(str(path)))
    vectors.prepare_integers()
    assert not vectors.multiplies_in_tiles()
    expected = found_of_bytes()
    for module in (integers, eight_bit):
        monkeypatch.setattr(module, "compiled", lambda: vectors)
    for one, other in zip(expected, found_of_bytes(), strict=True):
        assert torch.equal(one, other)


def test_what_is_no_library_is_not_used(looked_for_in):
    (path,) = looked_for_in.glob("_kernels*")
    path.write_bytes(b"nothing")
    assert library.library.__wrapped__() is None
