"""Who may import whom: data flows one way. Imports inside functions and under TYPE_CHECKING count, too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BELOW_ASSEMBLE = {
    "errors": set(),
    "config": {"errors"},
    "run_folder": {"errors"},
    "component": {"errors"},
    "sizes": set(),
    "data": {"errors", "sizes"},
    "model": {"errors", "sizes"},
    "training": {"errors", "sizes", "data", "model"},
    "search": {"errors"},
    "evaluation": {"errors", "data", "model", "search"},
    "report": {"errors", "evaluation"},
}
LAYERS = {**BELOW_ASSEMBLE, "assemble": set(BELOW_ASSEMBLE), "cli": {*BELOW_ASSEMBLE, "assemble"}}
# plain things that must be there before torch is
WITHOUT_TORCH = {"errors", "config", "run_folder", "component", "sizes"}

SOURCES = sorted((ROOT / "nmt").rglob("*.py"))
PROGRAMS = [*SOURCES, *sorted((ROOT / "scripts").rglob("*.py")), *ROOT.glob("*.py")]


def imported(source, package):
    """Dotted names of all that a module of `package` imports, `a.b.c` for `from a.b import c`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def part(name):
    """`nmt.model.cells` -> `model`."""
    return name.split(".")[1]


def package_of(path):
    inside = path.relative_to(ROOT).with_suffix("")
    return ".".join(inside.parts[:-1])


def edges(source, package, own):
    """The other parts of nmt that a module imports."""
    names = [name for name in imported(source, package) if name.startswith("nmt.")]
    return {part(name) for name in names} - {own}


def own_part(path):
    first = path.relative_to(ROOT / "nmt").parts[0]
    return Path(first).stem


def short(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_imports_go_one_way(path):
    own = own_part(path)
    if own == "__init__":
        assert not edges(path.read_text(), package_of(path), own)
        return
    assert own in LAYERS, f"{short(path)} belongs to no layer"
    found = edges(path.read_text(), package_of(path), own)
    assert found <= LAYERS[own], f"{own} must not import {', '.join(sorted(found - LAYERS[own]))}"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_tests_and_scripts_are_not_imported(path):
    roots = {name.split(".")[0] for name in imported(path.read_text(), package_of(path))}
    assert not roots & {"tests", "scripts", "train", "reference"}


@pytest.mark.parametrize("path", [path for path in SOURCES if own_part(path) in WITHOUT_TORCH], ids=short)
def test_plain_parts_do_without_torch(path):
    assert "torch" not in {name.split(".")[0] for name in imported(path.read_text(), package_of(path))}


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "reference").glob("*.py")), ids=short)
def test_references_know_neither_torch_nor_nmt(path):
    roots = {name.split(".")[0] for name in imported(path.read_text(), "reference")}
    assert not roots & {"torch", "nmt"}


def pickles(source):
    """What in a module could read or write a pickle."""
    for name in imported(source, ""):
        if name.split(".")[0] in {"pickle", "dill", "joblib", "shelve", "marshal"} or name in {
            "torch.load",
            "torch.save",
        }:
            yield name
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.save"}:
            yield ast.unparse(node)
        if isinstance(node, ast.keyword) and node.arg in {"allow_pickle", "weights_only"}:
            yield node.arg


@pytest.mark.parametrize("path", PROGRAMS, ids=short)
def test_nothing_is_pickled(path):
    assert not list(pickles(path.read_text()))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import nmt.search", {"search"}),
        ("from nmt import search, data", {"search", "data"}),
        ("from nmt.search.beam import x", {"search"}),
        ("from ..search import beam", {"search"}),
        ("from .. import search", {"search"}),
        ("from . import cells", set()),
        ("from nmt.model.cells import Cell", set()),
        ("def f():\n    from nmt.cli import main", {"cli"}),
        ("if TYPE_CHECKING:\n    from nmt.config import Config", {"config"}),
        ("import torch\nfrom torch import nn", set()),
    ],
)
def test_edges_are_seen(source, expected):
    assert edges(source, "nmt.model", "model") == expected


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "np.load('x', allow_pickle=True)",
    ],
)
def test_pickles_are_seen(source):
    assert list(pickles(source))
    assert not list(pickles("'''torch.load and pickle appear nowhere'''\nimport json\njson.load(open('x'))"))
