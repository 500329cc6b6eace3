"""Alignment error rate of word links."""

from collections.abc import Iterable, Sequence

Link = tuple[int, int]


def alignment_error_rate(
    links: Sequence[Iterable[Link]], sure: Sequence[Iterable[Link]], possible: Sequence[Iterable[Link]]
) -> float:
    """AER = 1 - (|A & S| + |A & P|) / (|A| + |S|), counted over the corpus; Och and Ney 2003 (ACL Anthology J03-1002).

    One entry a sentence pair. Sure links count as possible whether listed there or not. 0 is perfect; a corpus with
    neither links nor sure links, undefined in the paper, raises ZeroDivisionError.
    """
    hits = size = 0
    for found, certain, allowed in zip(links, sure, possible, strict=True):
        predicted, gold = set(found), set(certain)
        for link in predicted:
            hits += link in gold
            hits += link in gold or link in set(allowed)
        size += len(predicted) + len(gold)
    return 1 - hits / size
