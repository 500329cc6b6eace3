"""Files of a cache: they come whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a place for a file, alone in a folder of its own, that is ``path`` once the block has written it.

    Nothing is left of a block that fails.

    Raises:
        OSError: the folder of ``path`` cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as temporary:
        fresh = Path(temporary) / path.name
        yield fresh
        # on the disk before it has its name: after a power cut a file may have its full size and zeros for content
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        # in one rename, so that nobody reads half of it; who has mapped a former file keeps that
        os.replace(fresh, path)
