"""Word links as Pharaoh lines: ``i-j`` is sure, ``i?j`` possible, 0-based, source word first."""

import re
from collections.abc import Iterable

from nmt.data.corpus import GoldLinks, Link
from nmt.errors import DataError

_LINK = re.compile(r"([0-9]+)([-?])([0-9]+)", re.ASCII)


def parse_links(line: str, *, where: str) -> GoldLinks:
    """Return the links of one line; a blank line has none.

    Args:
        line: links separated by white space.
        where: ``file:line``, for the error.

    Raises:
        DataError: something in the line is not a link.
    """
    sure: set[Link] = set()
    possible: set[Link] = set()
    for token in line.split():
        match = _LINK.fullmatch(token)
        if match is None:
            raise DataError(f"{where}: {token!r} is not a link; accepted are i-j (sure) and i?j (possible), from 0 on")
        link = (int(match[1]), int(match[3]))
        possible.add(link)
        if match[2] == "-":
            sure.add(link)
    return GoldLinks(frozenset(sure), frozenset(possible))


def format_links(sure: Iterable[Link], possible: Iterable[Link] = ()) -> str:
    """Return one Pharaoh line, links in ascending order.

    Args:
        sure: links written ``i-j``.
        possible: links written ``i?j``, unless they are sure too.
    """
    marks = dict.fromkeys(possible, "?") | dict.fromkeys(sure, "-")
    return " ".join(f"{source}{mark}{target}" for (source, target), mark in sorted(marks.items()))
