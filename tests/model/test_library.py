"""The functions in C are used where they are of the sources beside them, and of this processor."""

import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from nmt.model import library

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


def test_what_is_no_library_is_not_used(looked_for_in):
    (path,) = looked_for_in.glob("_kernels*")
    path.write_bytes(b"nothing")
    assert library.library.__wrapped__() is None
