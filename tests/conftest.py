"""What all tests share: `tests/` on the import path (for the package `reference`) and the folder of real corpora."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CORPORA = TESTS.parent.parent / "shared" / "data"

sys.path.insert(0, str(TESTS))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real corpora beside the repository; where it is absent, a test that needs it is skipped, aloud."""
    if not CORPORA.is_dir():
        pytest.skip("NOT TESTED: the real corpora are absent (expected in ../shared/data, relative to the repository)")
    return CORPORA


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command does to the program's logger, or it would write during later tests."""
    logger = logging.getLogger("nmt")
    former = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = former
