"""Where log lines go: the terminal, and a run's train.log."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def to_console() -> None:
    """Send the program's log lines to standard error, once."""
    root = logging.getLogger("nmt")
    root.setLevel(logging.INFO)
    root.propagate = False
    if not any(getattr(handler, "name", None) == "console" for handler in root.handlers):
        handler = _ConsoleHandler()
        handler.set_name("console")
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)


@contextmanager
def to_file(path: Path) -> Iterator[None]:
    """Append the program's log lines to ``path`` inside the block."""
    root = logging.getLogger("nmt")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


class _ConsoleHandler(logging.Handler):
    """Writes to whatever standard error is at the time, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)
