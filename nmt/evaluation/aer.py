"""Alignment error rate against gold links, and the best rate that one link per target word can reach."""

from collections.abc import Iterable, Sequence

from nmt.data.corpus import GoldLinks, Link
from nmt.errors import DataError


def alignment_error_rate(links: Sequence[Iterable[Link]], gold: Sequence[GoldLinks]) -> float:
    """Return the alignment error rate of a corpus.

    AER = 1 - (|A∩S| + |A∩P|) / (|A| + |S|), where P contains S (Och & Ney 2003, Computational Linguistics 29(1)). The
    counts are summed over the corpus before dividing. With neither links nor sure gold links the rate is 0.

    Args:
        links: the found links A of each pair, (source word, target word), 0-based; repeated links count once.
        gold: the sure links S and possible links P of each pair.

    Returns:
        A rate from 0 (best) to 1.

    Raises:
        DataError: the counts of pairs differ.
    """
    _check_counts(len(links), gold)
    agreed = total = 0
    for found, truth in zip(links, gold, strict=True):
        found = frozenset(found)
        agreed += len(found & truth.sure) + len(found & truth.possible)
        total += len(found) + len(truth.sure)
    return 1 - agreed / total if total else 0.0


def oracle_aer(gold: Sequence[GoldLinks], target_lengths: Sequence[int]) -> float:
    """Return the lowest AER of any alignment that gives every target word exactly one link, as an attention does.

    Such an alignment has as many links as there are target words, so |A| + |S| is the same for all of them and each
    word's best link can be chosen by itself: a sure one adds 2 to |A∩S| + |A∩P|, a possible one 1. A target word
    without gold links must be linked all the same, wrongly, and adds 0. So gold links that leave target words out, or
    give one word several sure links, keep the oracle above 0. (A model whose weights for a word are all 0, as outside
    a local window, has no link there and can in principle do better.)

    Args:
        gold: the gold links of each pair.
        target_lengths: the number of target words of each pair.

    Raises:
        DataError: the counts of pairs differ, or a link is to a word beyond the target sentence.
    """
    _check_counts(len(target_lengths), gold)
    agreed = total = 0
    for number, (truth, length) in enumerate(zip(gold, target_lengths, strict=True), start=1):
        sure = {target for _, target in truth.sure}
        possible = {target for _, target in truth.possible}
        if possible and max(possible) >= length:
            raise DataError(f"pair {number} has a gold link to target word {max(possible)}, but only {length} words")
        agreed += len(sure) + len(possible)
        total += length + len(truth.sure)
    return 1 - agreed / total if total else 0.0


def better_shift(unshifted: float, shifted: float) -> int:
    """Return the shift (0 or 1) with the lower validation AER, 0 on a tie.

    Content-based scores on s_t align the input word y_{t-1} rather than y_t (Luong et al. 2015, footnote 14), so which
    one is a model's alignment is decided on validation links, never on test links.
    """
    return int(shifted < unshifted)


def _check_counts(pairs: int, gold: Sequence[GoldLinks]) -> None:
    if pairs != len(gold):
        raise DataError(
            f"{pairs} sentence pairs cannot be scored with {len(gold)} lines of gold links; one each is needed"
        )
