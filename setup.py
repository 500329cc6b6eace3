"""What pyproject.toml has no settled place for: the functions in C, without which the package does where it must."""

import platform
import zlib
from pathlib import Path

from setuptools import Extension, setup

_HEADER, *_SOURCES = (
    f"nmt/model/{name}"
    for name in ("kernels.h", "kernels.c", "eight_bit.c", "panels.c", "integers.c", "halves.c", "steps.c")
)
# OpenMP is not linked: it is the one that torch has loaded, whose threads torch has set.
_OPTIONS = ["-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
if platform.machine() == "x86_64":
    # where the library asks the processor whether it has all that it was compiled for
    _OPTIONS += ["-march=native", "-mprefer-vector-width=512"]
# by which nmt/model/kernels.py knows that the library is of the sources that it was written for
_CHECKSUM = zlib.crc32(b"".join((Path(__file__).parent / path).read_bytes() for path in (_HEADER, *_SOURCES)))

setup(
    ext_modules=[
        Extension(
            "nmt.model._kernels",
            _SOURCES,
            depends=[_HEADER],
            define_macros=[("CHECKSUM", str(_CHECKSUM))],
            extra_compile_args=_OPTIONS,
            optional=True,
        ),
    ],
)
