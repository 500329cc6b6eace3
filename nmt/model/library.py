"""The functions in C: where they are, and what they take.

They are compiled for the very processor when the package is installed, if there is a C compiler, and call no torch:
whoever calls one passes addresses. ``kernels.py`` has the elementwise ones, ``panels.py``, ``integers.py`` and
``eight_bit.py`` the products, ``steps.py`` whole recurrences.
"""

import ctypes
import logging
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

# P: tensor, I: whole number, F: number, S: several tensors
_FUNCTIONS = {
    "cell_forward": "IPSPPIIPPPPPIPI",
    "cell_back": "IPPPSIIPP",
    "squash": "PPIIIPPPI",
    "squash_back": "SPIPIIP",
    "attend": "PPPPIIIPPPI",
    "attend_back": "SPIPPIIIPP",
    "cross_entropy": "PPPPIIFIPP",
    "additive": "PPPIIIIP",
    "additive_back": "PPPPIIIPPP",
    "choose": "PPPIIIIPP",
    "compare": "PPPIIIIP",
    "average": "PPPIIIIP",
}
_PLAIN = {
    "drop": "PPIFIP",
    "random_words": "IIP",
    "transpose": "PIIPI",
    "soften": "PPIIIP",
    "join_targets": "PPIIIFPPIPP",
    "add_by_token": "PPIIIIP",
    "squares": "PPI",
}
# where the processor multiplies whole numbers of 8 and 16 bits
_OF_INTEGERS = {
    "product_of_bytes": "SIPP",
    "cell_of_bytes": "ISIPPPPP",
    "choose_of_bytes": "SIPPPIIPP",
    "lay_out_integers": "PP",
    "products_of_integers": "PIIIIPIP",
    "cross_entropy_of_integers": "PIIPPPPFFPPP",
}
# where it has AVX-512
_OF_FLOATS = {
    "lay_out_floats": "PIIIIP",
    "product_of_floats": "PIIIPIP",
    "layers_forward": "PII",
    "layers_back": "PII",
    "fed_readouts_forward": "PPPI",
    "fed_readouts_back": "PPPI",
    "fed_contexts_forward": "PPPI",
    "fed_contexts_back": "PPI",
}
SOURCES = ("kernels.h", "kernels.c", "eight_bit.c", "panels.c", "integers.c", "halves.c", "steps.c")
_KINDS = {"P": ctypes.c_void_p, "I": ctypes.c_int64, "F": ctypes.c_float, "S": ctypes.c_void_p}
# number of tensors; then of each its place, the distance of its rows, and whether it is float32, or their width
Several = ctypes.c_int64 * 13


class Matrix(ctypes.Structure):
    """A matrix that is laid out; as in kernels.h."""

    _fields_ = [
        ("panels", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("columns", "depth", "kind")),
    ]


@cache
def library() -> Any | None:
    """Return the compiled functions; None where there are none for this processor."""
    folder = Path(__file__).parent
    for path in sorted(folder.glob("_kernels*")):
        try:
            # OpenMP's functions are found in what torch has loaded
            found = ctypes.CDLL(str(path))
            for ask in (found.checksum, found.multiplies_integers, found.multiplies_floats):
                ask.restype = ctypes.c_int64
            fits = found.runs_here() and _is_of(found.checksum(), [folder / name for name in SOURCES])
            declared = _declared(found)
        except (OSError, AttributeError) as error:
            log.debug("%s is not usable: %s", path, error)
            continue
        if fits:
            if found.multiplies_integers():
                found.prepare_integers()
            return declared
        log.debug("%s was compiled for another processor, or of another source", path)
    log.info(
        "nmt/model/kernels.c is not compiled for this processor: torch does its part, at less speed; "
        "pip install it where there is a C compiler"
    )
    return None


def _is_of(checksum: int, sources: Sequence[Path]) -> bool:
    """Say whether the library is of the sources beside it, where they are, as in a checkout that has moved on."""
    if not all(source.exists() for source in sources):
        return True
    return zlib.crc32(b"".join(source.read_bytes() for source in sources)) == checksum


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """Say what the functions take."""
    for name, kinds in _FUNCTIONS.items():
        for low in ("float", "bfloat16"):
            function = getattr(found, f"{name}_{low}")
            function.argtypes, function.restype = [_KINDS[kind] for kind in kinds], None
    of_integers = _OF_INTEGERS if found.multiplies_integers() else {}
    of_floats = _OF_FLOATS if found.multiplies_floats() else {}
    for name, kinds in (_PLAIN | of_integers | of_floats).items():
        function = getattr(found, name)
        function.argtypes, function.restype = [_KINDS[kind] for kind in kinds], None
    found.squares.restype = ctypes.c_double
    if of_integers:
        found.multiplies_in_tiles.restype = ctypes.c_int64
    return found


def compiled() -> Any:
    """Return the compiled functions, where it has been asked whether there are any."""
    found = library()
    assert found is not None
    return found


def multiplies_floats() -> bool:
    """Say whether the library has products of float32 for this processor."""
    native = library()
    return native is not None and bool(native.multiplies_floats())


def multiplies_integers() -> bool:
    """Say whether the library has products of numbers of 8 and of 16 bits for this processor."""
    native = library()
    return native is not None and bool(native.multiplies_integers())


def in_rows(part: Tensor) -> Tensor:
    """Return a float32 tensor with the elements of its rows side by side."""
    return part if part.stride(-1) == 1 and part.dtype == torch.float32 else part.float().contiguous()


def side_by_side(parts: Sequence[Tensor]) -> Any:
    """Return what the library knows as rows in parts, each of which :func:`in_rows` has seen."""
    numbers = [len(parts)]
    for part in parts:
        numbers += part.data_ptr(), part.stride(0), part.shape[1]
    return Several(*numbers)
