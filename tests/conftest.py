"""What all tests share: `tests/` on the import path (for the package `reference`) and the folder of real corpora."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # a thread that waits leaves its core to the other processes of tests; read when torch is first imported, and by
    # what a test starts
    os.environ["OMP_WAIT_POLICY"] = "passive"
import torch

TESTS = Path(__file__).parent
CORPORA = TESTS.parent.parent / "shared" / "data"

sys.path.insert(0, str(TESTS))
if not torch.cuda.is_available():
    # without a GPU what is written for one is read, not compiled; asked when Triton is first imported
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real corpora beside the repository; where it is absent, a test that needs it is skipped, aloud."""
    if not CORPORA.is_dir():
        pytest.skip("NOT TESTED: the real corpora are absent (expected in ../shared/data, relative to the repository)")
    return CORPORA


@pytest.fixture
def cuda() -> torch.device:
    """A CUDA device; where there is none, a test that needs one is skipped, aloud."""
    if not torch.cuda.is_available():
        pytest.skip("NOT TESTED: needs a CUDA device")
    return torch.device("cuda")


@pytest.fixture(autouse=True)
def fresh_logger() -> Iterator[None]:
    """Undo what a command, in a test or a fixture, did to the program's logger: it would write during other tests."""
    _reset_logger()
    yield
    _reset_logger()


def _reset_logger() -> None:
    logger = logging.getLogger("nmt")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True
