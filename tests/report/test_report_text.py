import pytest

from nmt.report.text import clean, shorten, stands_upright


def test_clean_keeps_text_and_replaces_what_xml_forbids():
    assert clean(" a\n\tb  c ") == "a b c"
    assert clean("x\x00\x1b\ud800\ufffe\uffffy") == "x" + "\ufffd" * 5 + "y"
    assert clean("é 我 \u200f😀") == "é 我 \u200f😀"


@pytest.mark.parametrize(("text", "expected"), [("abcd", "abcd"), ("abcde", "abc…"), ("", "")])
def test_shorten_counts_the_ellipsis(text, expected):
    assert shorten(text, 4) == expected


def test_single_characters_stand_upright():
    assert stands_upright("我")
    assert not stands_upright("on")
