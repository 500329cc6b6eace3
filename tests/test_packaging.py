import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("nmt/**/__init__.py")}
    assert set(listed) == folders | {"nmt.configs"}


def test_the_library_is_compiled_where_it_is_looked_for() -> None:
    (extension,) = extensions(ROOT / "setup.py")
    assert extension.optional, "the package works without"
    assert {ROOT / source for source in extension.sources} == set((ROOT / "nmt" / "model").glob("*.c"))
    assert {ROOT / source for source in extension.depends} == set((ROOT / "nmt" / "model").glob("*.h"))
    assert extension.name.split(".") == ["nmt", "model", "_kernels"]


def extensions(path: Path) -> list[Any]:
    """What a setup.py asks setuptools to compile."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", lambda **options: found.extend(options["ext_modules"]))
        runpy.run_path(str(path))
    return found
