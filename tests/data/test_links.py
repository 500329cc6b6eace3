import pytest

from nmt.data.corpus import GoldLinks
from nmt.data.links import format_links, parse_links
from nmt.errors import DataError


def test_sure_links_are_possible_too():
    links = parse_links("0-0 2?1  10-3\t", where="f:1")
    assert links.sure == {(0, 0), (10, 3)}
    assert links.possible == {(0, 0), (2, 1), (10, 3)}


def test_a_link_given_both_ways_is_sure():
    assert parse_links("1?2 1-2", where="f:1") == GoldLinks(frozenset({(1, 2)}), frozenset({(1, 2)}))


def test_a_blank_line_has_no_links():
    assert parse_links(" ", where="f:1") == GoldLinks(frozenset(), frozenset())


@pytest.mark.parametrize("token", ["1", "1-", "a-b", "-1-2", "1-2-3", "1:2", "1.0-2", "١-٢"])
def test_what_is_no_link_is_named_with_its_line(token):
    with pytest.raises(DataError, match=r"^gold\.align:7: .* is not a link; accepted are i-j \(sure\) and i\?j"):
        parse_links(f"0-0 {token}", where="gold.align:7")


def test_format_is_sorted_and_read_back():
    line = format_links([(10, 0), (2, 3)], [(2, 1), (10, 0)])
    assert line == "2?1 2-3 10-0"
    links = parse_links(line, where="f:1")
    assert format_links(links.sure, links.possible) == line


def test_flipping():
    links = parse_links("0-1 2?3", where="f:1")
    assert links.flipped() == parse_links("1-0 3?2", where="f:1")
    assert links.flipped().flipped() == links
