"""What pyproject.toml has no settled place for: the functions in C, without which the package does where it must."""

import platform
import zlib
from pathlib import Path

from setuptools import Extension, setup

_SOURCE = "nmt/model/kernels.c"
# OpenMP is not linked: it is the one that torch has loaded, whose threads torch has set.
_OPTIONS = ["-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
if platform.machine() == "x86_64":
    # where the library asks the processor whether it has all that it was compiled for
    _OPTIONS += ["-march=native", "-mprefer-vector-width=512"]
# by which nmt/model/kernels.py knows that the library is of the source that it was written for
_CHECKSUM = zlib.crc32((Path(__file__).parent / _SOURCE).read_bytes())

setup(
    ext_modules=[
        Extension(
            "nmt.model._kernels",
            [_SOURCE],
            define_macros=[("CHECKSUM", str(_CHECKSUM))],
            extra_compile_args=_OPTIONS,
            optional=True,
        ),
    ],
)
