"""What pyproject.toml has no settled place for: the functions in C, without which the package does where it must."""

from setuptools import Extension, setup

# for the very processor. OpenMP is not linked: it is the one that torch has loaded, whose threads torch has set.
_OPTIONS = ["-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]

setup(
    ext_modules=[
        Extension("nmt.model._kernels", ["nmt/model/kernels.c"], extra_compile_args=_OPTIONS, optional=True),
    ],
)
