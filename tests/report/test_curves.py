import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from nmt.errors import ConfigError
from nmt.report import Chart, Series, learning_curve, length_curve, save_chart
from nmt.report.curves import chart_svg, draw, series_css
from nmt.report.figure import drawing

SVG = "{http://www.w3.org/2000/svg}"


def bins(*rows):
    return [dict(zip(("low", "high", "sentences", "bleu"), row, strict=True)) for row in rows]


@pytest.fixture
def chart():
    first = bins((0, 10, 1200, 30.5), (11, 20, 7, 20.0), (61, None, 3, 10.0))
    second = bins((0, 10, 1200, 33.0), (61, None, 4, None))
    return length_curve({"none": first, "_luong $x$ <b>": second})


def texts(path):
    return [element.text for element in ET.parse(path).iter(f"{SVG}text")]


def test_length_curve_lines_up_bins(chart):
    assert chart.ticks == ["0–10\n(1,200)", "11–20\n(7)", "61+"]
    assert list(chart.series[0].y) == [30.5, 20.0, 10.0]
    assert chart.series[1].y[0] == 33.0
    assert all(math.isnan(value) for value in chart.series[1].y[1:])
    assert chart.y_label == "BLEU"


def test_length_curve_starts_at_zero(chart):
    with drawing():
        assert draw(chart).axes[0].get_ylim()[0] == 0


def test_learning_curve_sorts_by_step():
    chart = learning_curve({"a": [(20, 2.0), (10, 1.0), (30, None)]}, title="t", x_label="updates", y_label="BLEU")
    assert list(chart.series[0].x) == [10, 20, 30]
    assert list(chart.series[0].y[:2]) == [1.0, 2.0]
    assert math.isnan(chart.series[0].y[2])


def test_svg_names_every_run_as_it_stands(chart, tmp_path):
    save_chart(chart, tmp_path / "chart.svg")
    found = texts(tmp_path / "chart.svg")
    assert {"none", "_luong $x$ <b>", "BLEU", "BLEU by source length"} <= set(found)


def test_png_and_repeatable(chart, tmp_path):
    for suffix in (".png", ".svg"):
        save_chart(chart, tmp_path / f"a{suffix}")
        save_chart(chart, tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert 900 < image.width < 1500
        colors = {tuple(color) for color in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}
    assert {(0, 0x72, 0xB2), (0xD4, 0x5D, 0)} <= colors


def test_no_runs_and_many_runs_are_drawn(tmp_path):
    save_chart(length_curve({}), tmp_path / "none.png")
    names = [f"run {index}" for index in range(40)]
    many = Chart("", "x", "y", [Series(name, [0, 1], [index, index]) for index, name in enumerate(names)])
    save_chart(many, tmp_path / "many.svg")
    assert set(names) <= set(texts(tmp_path / "many.svg"))


def test_runs_differ_in_more_than_colour():
    many = Chart("", "x", "y", [Series(str(index), [0, 1], [0, 1]) for index in range(30)])
    with drawing():
        lines = draw(many).axes[0].lines
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 30
    assert len({line.get_marker() for line in lines[:5]}) == 5


def test_inline_svg_has_theme_colours_and_ids_of_its_own(chart):
    first, second = chart_svg(chart, prefix="c0-"), chart_svg(chart, prefix="c1-")
    ET.fromstring(first)
    assert first.startswith("<svg")
    assert "var(--series-0, #0072b2)" in first
    assert "metadata" not in first
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', first)) <= ids[0]
    # every variable that is used is one that the page defines
    used = set(re.findall(r"var\(--([\w-]+)", first)) - {"page"}
    assert all(f"--{name}:" in series_css(dark=dark) for name in used for dark in (True, False))


def test_other_suffix_is_refused(chart, tmp_path):
    with pytest.raises(ConfigError, match=r"chart\.html ends in \.html; accepted: \.png, \.svg"):
        save_chart(chart, tmp_path / "chart.html")
