"""AER by hand, and the oracle against enumeration."""

import itertools
import random

import pytest

from nmt.data.corpus import GoldLinks
from nmt.errors import DataError
from nmt.evaluation.aer import alignment_error_rate, better_shift, oracle_aer


def _gold(sure, possible=()):
    return GoldLinks(frozenset(sure), frozenset(sure) | frozenset(possible))


def test_by_hand():
    gold = [_gold({(0, 0)}, {(1, 1)})]
    # |A∩S| = 1, |A∩P| = 2, |A| = 3, |S| = 1
    assert alignment_error_rate([[(0, 0), (1, 1), (2, 1)]], gold) == pytest.approx(1 - 3 / 4)


def test_counts_are_summed_over_the_corpus():
    gold = [_gold({(0, 0)}), _gold({(i, i) for i in range(4)})]
    # the first pair is all wrong, the second all right: 1 - 8/10, not the mean of 1 and 0
    assert alignment_error_rate([[(1, 0)], [(i, i) for i in range(4)]], gold) == pytest.approx(0.2)


def test_possible_links_are_neither_demanded_nor_wrong():
    gold = [_gold({(0, 0)}, {(1, 1), (2, 1)})]
    assert alignment_error_rate([[(0, 0)]], gold) == 0
    assert alignment_error_rate([[(0, 0), (2, 1)]], gold) == 0
    assert alignment_error_rate([[]], gold) == 1


def test_links_are_source_target_and_counted_once():
    assert alignment_error_rate([[(0, 1), (0, 1)]], [_gold({(0, 1)})]) == 0
    assert alignment_error_rate([[(1, 0)]], [_gold({(0, 1)})]) == 1


def test_nothing_to_find():
    assert alignment_error_rate([[]], [_gold(())]) == 0
    assert oracle_aer([_gold(())], [0]) == 0


def test_oracle_by_hand():
    # target words: 0 has two sure links (one is missed), 1 a possible one, 2 none (its link is wrong)
    gold = [_gold({(0, 0), (1, 0)}, {(2, 1)})]
    assert oracle_aer(gold, [3]) == pytest.approx(1 - (1 + 2) / (3 + 2))
    assert oracle_aer([_gold({(1, 0), (0, 1)})], [2]) == 0


def test_oracle_is_the_best_of_all_alignments():
    generator = random.Random(2)
    for _ in range(20):
        lengths = [generator.randint(1, 3) for _ in range(2)]
        gold = []
        for length in lengths:
            cells = list(itertools.product(range(3), range(length)))
            possible = generator.sample(cells, generator.randint(0, len(cells)))
            gold.append(_gold(generator.sample(possible, generator.randint(0, len(possible))), possible))
        choices = itertools.product(*(itertools.product(range(3), repeat=length) for length in lengths))
        best = min(
            alignment_error_rate([[(source, t) for t, source in enumerate(row)] for row in rows], gold)
            for rows in choices
        )
        assert oracle_aer(gold, lengths) == pytest.approx(best)


def test_shift_is_the_better_one_and_0_on_a_tie():
    assert [better_shift(0.3, 0.2), better_shift(0.2, 0.3), better_shift(0.2, 0.2)] == [1, 0, 0]


def test_counts_must_agree():
    with pytest.raises(DataError, match="2 sentence pairs cannot be scored with 1 lines of gold links"):
        alignment_error_rate([[], []], [_gold(())])
    with pytest.raises(DataError, match="1 lines of gold"):
        oracle_aer([_gold(())], [1, 2])
    with pytest.raises(DataError, match="pair 1 has a gold link to target word 5, but only 2 words"):
        oracle_aer([_gold({(0, 5)})], [2])
