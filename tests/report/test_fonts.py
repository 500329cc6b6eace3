import logging
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import font_manager

import nmt.report.fonts
from nmt.report import Heatmap, save_heatmap
from nmt.report.fonts import BASE, font_families

LATIN = "Straße, naïve – „Ж“ → Ω"


def fake_font(name, *, weight: int | str = 400, style="normal", size="scalable"):
    return SimpleNamespace(name=name, fname=name, weight=weight, style=style, size=size)


@pytest.fixture
def fonts(monkeypatch, bare_fonts):
    """Install fonts by name, each with the characters it draws."""

    def install(glyphs, entries):
        real = nmt.report.fonts._covered
        monkeypatch.setattr(
            nmt.report.fonts,
            "_covered",
            lambda path, wanted: wanted & set(glyphs[path]) if path in glyphs else real(path, wanted),
        )
        own = font_manager.fontManager.ttflist
        monkeypatch.setattr(font_manager.fontManager, "ttflist", [*own, *entries])

    return install


@pytest.mark.usefixtures("bare_fonts")
def test_own_font_is_enough_for_latin_greek_cyrillic(caplog):
    assert font_families([LATIN, "a\u200db\u200e\ufe0f "]) == [BASE]
    assert caplog.records == []


@pytest.mark.usefixtures("bare_fonts")
def test_missing_glyphs_are_told_once_with_what_to_install(caplog, tmp_path):
    heatmap = Heatmap(["我", "看"], ["I"], np.ones((1, 2)))
    save_heatmap(heatmap, tmp_path / "a.png")
    save_heatmap(heatmap, tmp_path / "b.svg")
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    message = warnings[0].getMessage()
    assert "fonts-noto-cjk" in message
    assert "我" in message
    assert "HTML pages need none" in message
    assert "我" in (tmp_path / "b.svg").read_text(encoding="utf-8")


@pytest.mark.usefixtures("bare_fonts")
def test_other_scripts_name_the_other_package(caplog):
    font_families(["हिन्दी", "日本"])
    messages = [record.getMessage() for record in caplog.records]
    assert ["fonts-noto-cjk" in message for message in messages] == [False, True]
    assert ["fonts-noto-core" in message for message in messages] == [True, False]


@pytest.mark.usefixtures("bare_fonts")
def test_html_asks_for_no_font(caplog, tmp_path):
    save_heatmap(Heatmap(["我"], ["I"], np.ones((1, 1))), tmp_path / "a.html")
    assert caplog.records == []


def test_fonts_are_added_until_all_is_covered(fonts, caplog):
    fonts({"A Sans": "我", "B Sans": "我看", "C Sans": "ก"}, [fake_font(f"{name} Sans") for name in "ABC"])
    assert font_families(["我看 กx"]) == [BASE, "B Sans", "C Sans"]
    assert caplog.records == []


def test_regular_upright_sans_of_the_text_s_region_is_preferred(fonts):
    entries = [
        fake_font("Han Serif SC"),
        fake_font("Han Sans JP"),
        fake_font("Han Sans KR"),
        fake_font("Han Sans Mono SC"),
        fake_font("Han Sans SC", weight=700),
        fake_font("Han Sans SC", weight="normal"),
        fake_font("AA Sans SC", style="italic"),
        fake_font("AA Sans bitmap SC", size="12"),
    ]
    fonts({entry.fname: "我のテ한" for entry in entries}, entries)
    assert font_families(["我"]) == [BASE, "Han Sans SC"]
    assert font_families(["我", "の"]) == [BASE, "Han Sans JP"]
    assert font_families(["我", "한"]) == [BASE, "Han Sans KR"]


def test_fonts_installed_after_matplotlib_s_cache_are_found(monkeypatch, bare_fonts):
    added = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["new.ttf", "broken.ttf"])

    def add(path):
        added.append(path)
        if path == "broken.ttf":
            raise RuntimeError("no scalable font")

    monkeypatch.setattr(font_manager.fontManager, "addfont", add)
    nmt.report.fonts._add_font.cache_clear()
    font_families(["我"])
    font_families(["我"])
    nmt.report.fonts._add_font.cache_clear()
    assert added == ["broken.ttf", "new.ttf"]
