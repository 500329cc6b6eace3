"""From sentence pairs to lines: the direction, the order of the target words, several sentences to a line."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nmt.data.corpus import GoldLinks, Link
from nmt.data.synthetic.words import MARKS, Pair, as_sentence


class Line(NamedTuple):
    """A line of text on both sides; links are (source word, target word), 0-based."""

    source: str
    target: str
    links: GoldLinks


def in_natural_order(pair: Pair, *, forth: bool) -> Line:
    """Return the sentences as the languages have them; ``forth`` is from English to German."""
    links = GoldLinks(pair.sure, pair.possible)
    if forth:
        return Line(pair.english, pair.german, links)
    return Line(pair.german, pair.english, links.flipped())


def in_source_order(pair: Pair, *, forth: bool) -> Line | None:
    """Return the sentences with the target words in the order of the source words they are linked to.

    A target word goes by the first and the last source word it is linked to; words of one place keep their order. Every
    word of the grammar has a link. The marks are those of the source, each at the last target word of what stands
    before it.

    Returns:
        The line, or None where links, sure or possible, cross in every order: the separable verb in *picks him up* is
        one German word, the *do* of *does not see* is possibly linked to a verb beyond the *not*.
    """
    source, target = pair.english_words, pair.german_words
    links = GoldLinks(pair.sure, pair.possible)
    if not forth:
        source, target, links = target, source, links.flipped()
    places = [_places(links, word) for word in range(len(target))]
    order = sorted(range(len(target)), key=places.__getitem__)
    position = {word: place for place, word in enumerate(order)}
    moved = GoldLinks(_moved(links.sure, position), _moved(links.possible, position))
    if crosses(moved.possible):
        return None
    words = [target[word].rstrip(MARKS) for word in order]
    starts = [places[word][0] for word in order]
    for place, word in enumerate(source):
        last = bisect_right(starts, place) - 1
        if last >= 0 and word[-1] in MARKS:
            words[last] = words[last].rstrip(MARKS) + word[-1]
    return Line(as_sentence(source), as_sentence(words), moved)


def joined(lines: Sequence[Line], separator: str) -> Line:
    """Return the lines as one, the sources with ``separator`` between them as a word without links."""
    sure: list[Link] = []
    possible: list[Link] = []
    source_words = target_words = 0
    for line in lines:
        sure += [(source + source_words, target + target_words) for source, target in line.links.sure]
        possible += [(source + source_words, target + target_words) for source, target in line.links.possible]
        source_words += len(line.source.split()) + 1
        target_words += len(line.target.split())
    source = f" {separator} ".join(line.source for line in lines)
    target = " ".join(line.target for line in lines)
    return Line(source, target, GoldLinks(frozenset(sure), frozenset(possible)))


def crosses(links: Iterable[Link]) -> bool:
    """Tell whether of two links one has the earlier source word and the later target word."""
    reached, row, row_reached = -1, -1, -1
    for source, target in sorted(links):
        if source != row:
            reached, row = max(reached, row_reached), source
        if target < reached:
            return True
        row_reached = max(row_reached, target)
    return False


def _places(links: GoldLinks, word: int) -> tuple[int, int]:
    """Return the first and the last source word that a target word is linked to."""
    places = [source for source, target in links.possible if target == word]
    return min(places), max(places)


def _moved(links: frozenset[Link], position: dict[int, int]) -> frozenset[Link]:
    return frozenset((source, position[target]) for source, target in links)
