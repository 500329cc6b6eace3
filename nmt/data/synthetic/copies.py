"""Made-up names and numbers for a model to copy: the other splits have none of those of training."""

from bisect import bisect_right
from collections.abc import Callable
from random import Random
from typing import final
from zlib import crc32

_ONSETS, _VOWELS, _CODAS = "bdfgklmnprstvz", "aeiou", "klmnrst"
# shares of the numbers with up to 2, 3, 4 and 5 digits; the fewer there are, the fewer are drawn
_UP_TO = (0.01, 0.05, 0.2, 0.6)


@final
class Copies:
    """An endless source of names (*Marovik*) and numbers (*4711*), none of which has a translation to learn.

    There are 2.4 million names and 1 million numbers; every fourth is for the held-out splits only, whatever the seed.

    Args:
        share: share of the sentences that have one.
        seed: seed of what is drawn.
        held_out: those of ``valid``, ``test`` and the long splits, rather than of ``train``.
    """

    def __init__(self, share: float, seed: int, *, held_out: bool) -> None:
        self._share = share
        # a string is a seed of its own: the sentences are drawn with the number
        self._random = Random(f"copies {seed}").random
        self._held_out = held_out

    def wanted(self) -> bool:
        """Draw whether the next sentence has a name or number."""
        return self._random() < self._share

    def name(self) -> str:
        """Draw a name of three syllables."""
        return self._own(lambda: "".join(map(self._letter, (_ONSETS, _VOWELS) * 3 + (_CODAS,))).capitalize())

    def number(self) -> str:
        """Draw a number of 2 to 6 digits."""
        return self._own(self._any_number)

    def _own(self, draw: Callable[[], str]) -> str:
        """Draw until the text is one of these splits."""
        while True:
            text = draw()
            if (crc32(text.encode()) % 4 == 0) == self._held_out:
                return text

    def _any_number(self) -> str:
        more = 1 + bisect_right(_UP_TO, self._random())
        return self._letter("123456789") + "".join(self._letter("0123456789") for _ in range(more))

    def _letter(self, letters: str) -> str:
        return letters[int(self._random() * len(letters))]
