import pytest

from nmt.data.languages import iso639_1


@pytest.mark.parametrize(
    ("code", "reduced"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("deu", "de"),
        ("ger", "de"),
        ("zh-CN", "zh"),
        ("zh_Hans", "zh"),
        ("cmn", "zh"),
        ("cmn_Hans", "zh"),
        ("cn", "zh"),
        ("jpn", "ja"),
        ("jp", "ja"),
        ("en_GB", "en"),
        ("nb", "nb"),
        ("lc.norm.tok.de", "de"),
        ("ast", "ast"),
        ("Src", "src"),
        ("tgt", "tgt"),
    ],
)
def test_codes_are_reduced(code, reduced):
    assert iso639_1(code) == reduced


def test_every_two_letter_code_of_the_table_stays_itself():
    from nmt.data import languages

    reduced = set(languages._REDUCED.values())
    assert len(reduced) == 183
    assert all(len(code) == 2 and iso639_1(code) == code for code in reduced)


def test_no_code_stands_for_two_languages():
    from nmt.data import languages

    codes = languages._CODES.replace("|", " ").split()
    assert len(codes) == len(set(codes))
