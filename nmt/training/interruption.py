"""Ctrl-C and SIGTERM: the step at work is finished first, so that what is saved is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - it is no error
    """The training was asked to stop by a signal, and its state is saved.

    Attributes:
        signal: the signal; a command exits with 128 plus its number.
    """

    def __init__(self, number: int) -> None:
        """Say which signal it was."""
        self.signal = signal.Signals(number)
        super().__init__(f"interrupted by {self.signal.name}")


class Interruption:
    """Remembers the first signal; the handlers of before are back then, so that a second one acts at once."""

    def __init__(self) -> None:
        """Listen; only a program's main thread can."""
        self._received: int | None = None
        self._immediate = False
        main = threading.current_thread() is threading.main_thread()
        self._former = {number: signal.signal(number, self._receive) for number in _SIGNALS if main}

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal came."""
        if self._received is not None:
            raise Interrupted(self._received)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Let a signal raise :class:`Interrupted` inside the block: what it does can be done again."""
        self.check()
        self._immediate = True
        try:
            yield
        finally:
            self._immediate = False

    def close(self) -> None:
        """Put the handlers of before back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self.close()
        if self._immediate:
            raise Interrupted(number)
