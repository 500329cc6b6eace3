import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from nmt.report import Example, Heatmap, Table, length_curve, save_heatmaps, write_report

EVIL = "<script>alert('x')</script> \"q\" & <img src=http://x.y/z onerror=f()>"


class Page(HTMLParser):
    """Elements with their attributes, and the text of each leaf."""

    VOID = frozenset({"meta", "br", "img", "link", "input"})

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag, **wanted):
        return [a for name, a in self.elements if name == tag and all(a.get(k) == v for k, v in wanted.items())]

    def classes(self, tag, name):
        return [a for a in self.all(tag) if name in (a.get("class") or "").split()]


def report(tmp_path, **options):
    path = tmp_path / "report.html"
    write_report(path, title=options.pop("title", "A run"), **options)
    return Page(path)


def test_heatmap_is_a_table_with_headers(heatmap, tmp_path):
    page = report(tmp_path, examples=[Example([heatmap])])
    assert [a["title"] for a in page.all("th", scope="col")] == ["the", "old", "man"]
    assert [a["title"] for a in page.all("th", scope="row")] == ["der", "Mann"]
    assert [text for tag, text in page.texts if tag == "td"] == ["90", "10", "30", "60"]
    assert all(a["dir"] == "auto" for a in page.all("span") if "class" not in a)


def test_cells_have_their_weight_as_level_and_tip(heatmap, tmp_path):
    page = report(tmp_path, examples=[Example([heatmap])])
    cells = [a for a in page.all("td") if "title" in a]
    assert [(a["class"], a["title"]) for a in cells] == [
        ("w18 gs", "the → der: 0.900 (gold link, sure)"),
        ("w2", "old → der: 0.100"),
        ("w6 gp", "old → Mann: 0.300 (gold link, possible)"),
        ("w12 gs", "man → Mann: 0.600 (gold link, sure)"),
    ]


def test_gold_without_weight_is_outlined(tmp_path):
    gold = SimpleNamespace(sure=frozenset(), possible=frozenset({(0, 0)}))
    page = report(tmp_path, examples=[Example([Heatmap(["a"], ["b"], np.zeros((1, 1)), gold)])])
    assert len(page.classes("td", "gp")) == 1
    assert any("All weights are zero." in text for _, text in page.texts)


@pytest.mark.parametrize("with_gold", [True, False])
def test_key_names_only_the_gold_there_is(heatmap, tmp_path, with_gold):
    shown = heatmap if with_gold else Heatmap(["a"], ["b"], np.ones((1, 1)))
    page = report(tmp_path, examples=[Example([shown])])
    assert len(page.classes("span", "swatch")) == (2 if with_gold else 0)


def test_all_text_is_escaped(tmp_path):
    evil = Heatmap([EVIL, "a"], [EVIL], np.ones((1, 2)) / 2, title=EVIL, source_language='"><script>')
    table = Table(EVIL, [EVIL, EVIL], [[EVIL, EVIL]], [EVIL])
    bins = [{"low": 1, "high": 9, "sentences": 1, "bleu": 3.0}]
    page = report(
        tmp_path,
        title=EVIL,
        corpus=EVIL,
        notes=[EVIL],
        tables=[table],
        charts=[length_curve({EVIL: bins}, title=EVIL)],
        examples=[Example([evil], {EVIL: EVIL}, EVIL)],
    )
    assert page.all("script") == []
    assert page.all("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert ("h1", EVIL) in [(tag, text) for tag, text in page.texts]


def test_page_needs_nothing_else(heatmap, tmp_path):
    page = report(tmp_path, charts=[length_curve({})], examples=[Example([heatmap])])
    links = [a[name] for _, a in page.elements for name in ("src", "href", "xlink:href") if name in a]
    assert all(link.startswith("#") for link in links)
    assert page.all("link") == []
    css = "".join(text for tag, text in page.texts if tag == "style")
    assert "@import" not in css
    assert "url(" not in css
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'")


def test_every_css_variable_is_defined_in_both_modes(heatmap, tmp_path):
    page = report(tmp_path, charts=[length_curve({})], examples=[Example([heatmap])])
    css = "".join(text for tag, text in page.texts if tag == "style")
    light, dark = re.findall(r":root\{([^}]*)\}", css)[:2]
    used = set(re.findall(r"var\((--[\w-]+)", css)) - {"--cell"}
    assert "prefers-color-scheme:dark" in css
    assert used <= set(re.findall(r"--[\w-]+", light))
    assert used <= set(re.findall(r"--[\w-]+", dark))


@pytest.mark.parametrize(("synthetic", "count"), [(True, 1), (False, 0)])
def test_corpus_says_when_it_is_synthetic(tmp_path, synthetic, count):
    page = report(tmp_path, corpus="en-de", synthetic=synthetic)
    assert ("bdi", "en-de") in page.texts
    assert sum("synthetic" in text for tag, text in page.texts if tag == "span") == count


def test_table_values(tmp_path):
    rows = [["a", 27.345, 0.12345, 1234567, None], ["b", 1.0, 2, "x", "y"]]
    page = report(tmp_path, tables=[Table("Test", ["run", "BLEU", "AER", "steps", "p"], rows, ["signature"])])
    cells = [text for tag, text in page.texts if tag == "td"]
    assert cells == ["27.34", "0.1235", "1,234,567", "-", "1", "2", "x", "y"]
    assert len(page.all("th", scope="row")) == 2
    assert len(page.all("th", scope="col")) == 5
    assert ("p", "signature") in page.texts


def test_chart_has_its_numbers_as_a_table(tmp_path):
    bins = [{"low": 0, "high": 10, "sentences": 5, "bleu": 12.5}]
    page = report(tmp_path, charts=[length_curve({"none": bins}, title="By length")])
    assert len(page.all("svg")) == 1
    assert page.all("figure", role="img")[0]["aria-label"] == "By length"
    assert ("td", "12.50") in page.texts
    assert ("bdi", "0–10 (5)") in page.texts


def test_sentence_shows_its_lines_and_several_heatmaps(heatmap, tmp_path):
    lines = {"source": "the old man", "reference": "مرحبا"}
    page = report(tmp_path, examples=[Example([heatmap, heatmap], lines, "Sentence 3")])
    assert ("dd", "the old man") in page.texts
    assert ("dd", "مرحبا") in page.texts
    assert all(a["dir"] == "auto" for a in page.all("dd"))
    assert len(page.classes("table", "map")) == 2


@pytest.mark.parametrize(("words", "size"), [(16, "small"), (17, None), (32, None), (33, "large")])
def test_cells_are_sized_by_the_number_of_words(tmp_path, words, size):
    page = report(tmp_path, examples=[Example([Heatmap(["w"] * words, ["x"], np.zeros((1, words)))])])
    assert [a["class"] for a in page.all("table")] == [f"map {size}" if size else "map"]


def test_languages_are_marked(tmp_path):
    heatmap = Heatmap(["我"], ["I"], np.ones((1, 1)), source_language="zh", target_language="en")
    page = report(tmp_path, examples=[Example([heatmap])])
    assert [a["lang"] for a in page.all("th")] == ["zh", "en"]
    assert page.all("th", scope="col")[0]["class"] == "up"


@pytest.mark.parametrize("words", [([], ["b"]), (["a"], []), ([], [])])
def test_empty_sides_are_said(tmp_path, words):
    source, target = words
    page = report(tmp_path, examples=[Example([Heatmap(source, target, np.zeros((len(target), len(source))))])])
    assert page.all("table") == []
    assert any("Nothing to align" in text for _, text in page.texts)


def test_sections_without_content_are_left_out(tmp_path):
    page = report(tmp_path)
    assert page.all("h2") == []
    assert page.all("section") == []


def test_no_heatmaps_still_make_a_page(tmp_path):
    assert save_heatmaps([], tmp_path / "page.html") == [tmp_path / "page.html"]
    assert ("h1", "Alignments") in Page(tmp_path / "page.html").texts
