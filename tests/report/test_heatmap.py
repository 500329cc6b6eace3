import subprocess
import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nmt.errors import ConfigError
from nmt.report import Heatmap, figure_suffix, heatmap_image, save_heatmap, save_heatmaps
from nmt.report.figure import MAX_PIXELS, drawing
from nmt.report.heatmap import draw

SVG = "{http://www.w3.org/2000/svg}"


def svg_texts(path):
    return [element.text for element in ET.parse(path).iter(f"{SVG}text")]


def svg_ids(path, start):
    return sorted(e.get("id") for e in ET.parse(path).iter() if (e.get("id") or "").startswith(start))


def cell_pixel(heatmap, *, row, column):
    """Red, green and blue at the middle of a cell as drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with drawing():
        figure = draw(heatmap)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())
        x, y = figure.axes[0].transData.transform((column + 0.5, row + 0.5))
    return pixels[pixels.shape[0] - 1 - int(y), int(x), :3].astype(int)


def test_svg_has_words_as_text_and_every_gold_link_once(heatmap, tmp_path):
    path = tmp_path / "figure.svg"
    save_heatmap(heatmap, path)
    texts = svg_texts(path)
    assert all(texts.count(word) == 1 for word in ("the", "old", "man", "der", "Mann", "run 1"))
    assert svg_ids(path, "gold-") == ["gold-possible-1-1", "gold-sure-0-0", "gold-sure-2-1"]
    assert {"gold, sure", "gold, possible"} <= set(texts)


def test_possible_links_are_dashed_and_sure_ones_solid(heatmap, tmp_path):
    save_heatmap(heatmap, tmp_path / "figure.svg")
    groups = {e.get("id"): e for e in ET.parse(tmp_path / "figure.svg").iter(f"{SVG}g")}
    styles = {name: groups[name].find(f"{SVG}path").get("style") for name in ("gold-sure-0-0", "gold-possible-1-1")}
    assert "dasharray" not in styles["gold-sure-0-0"]
    assert "dasharray" in styles["gold-possible-1-1"]
    assert all("#d55e00" in style for style in styles.values())


def test_no_gold_no_outlines_and_no_key_for_them(heatmap, tmp_path):
    plain = Heatmap(heatmap.source_words, heatmap.target_words, heatmap.weights)
    save_heatmap(plain, tmp_path / "figure.svg")
    assert svg_ids(tmp_path / "figure.svg", "gold-") == []
    assert not any("gold" in text for text in svg_texts(tmp_path / "figure.svg"))


def test_more_weight_is_darker():
    weights = np.array([[0.0, 0.25, 0.5, 0.75, 1.0]])
    heatmap = Heatmap(list("abcde"), ["x"], weights)
    brightness = [cell_pixel(heatmap, row=0, column=column).sum() for column in range(5)]
    assert brightness == sorted(brightness, reverse=True)
    assert len(set(brightness)) == 5
    assert brightness[0] == 3 * 255


def test_rows_are_target_words_from_the_top():
    heatmap = Heatmap(["a", "b"], ["x", "y", "z"], np.array([[0, 1], [0, 0], [0, 0]]))
    assert cell_pixel(heatmap, row=0, column=1).sum() < 255
    for row, column in [(0, 0), (1, 1), (2, 1), (2, 0)]:
        assert cell_pixel(heatmap, row=row, column=column).sum() == 3 * 255


def test_png_of_60_words_has_room_for_labels(tmp_path):
    words = [f"word{index}" for index in range(60)]
    save_heatmap(Heatmap(words, words, np.eye(60)), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        width, height = image.size
    # a label of 9 points needs 20 pixels at 150 per inch, 60 of them 1200
    assert 60 * 30 <= width <= 4000
    assert 60 * 30 <= height <= 4000


def test_png_of_very_many_words_stays_within_bounds(tmp_path):
    words = ["w"] * 300
    save_heatmap(Heatmap(words, ["x"], np.zeros((1, 300))), tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert MAX_PIXELS * 0.95 <= image.width <= MAX_PIXELS + 2


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_same_heatmap_same_bytes(heatmap, tmp_path, suffix):
    save_heatmap(heatmap, tmp_path / f"a{suffix}")
    save_heatmap(heatmap, tmp_path / f"b{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert content == (tmp_path / f"b{suffix}").read_bytes()
    assert len(content) > 1000


def test_labels_are_no_formulas_no_markup_and_valid_xml(tmp_path):
    words = ["$x_1$", "$5", "<script>", "&amp;", "a\x00\x1bb", "\ud800", "_x"]
    save_heatmap(Heatmap(words, ["$^$"], np.ones((1, 7)), title="$a$ <b>"), tmp_path / "figure.svg")
    save_heatmap(Heatmap(words, ["$^$"], np.ones((1, 7)), title="$a$ <b>"), tmp_path / "figure.png")
    expected = {"$x_1$", "$5", "<script>", "&amp;", "a\ufffd\ufffdb", "\ufffd", "_x", "$^$", "$a$ <b>"}
    assert expected <= set(svg_texts(tmp_path / "figure.svg"))


def test_long_words_are_cut(tmp_path):
    save_heatmap(Heatmap(["a" * 200], ["b" * 200], np.ones((1, 1))), tmp_path / "figure.svg")
    assert {"a" * 27 + "…", "b" * 27 + "…"} <= set(svg_texts(tmp_path / "figure.svg"))


@pytest.mark.parametrize(
    ("source", "target", "note"),
    [
        ([], ["b"], "nothing to align: a side has no words"),
        (["a"], [], "nothing to align: a side has no words"),
        ([], [], "nothing to align: a side has no words"),
        (["a"], ["b", "c"], "all weights are zero"),
    ],
)
def test_nothing_to_see_is_said(tmp_path, source, target, note):
    heatmap = Heatmap(source, target, np.zeros((len(target), len(source))))
    save_heatmap(heatmap, tmp_path / "figure.svg")
    save_heatmap(heatmap, tmp_path / "figure.png")
    assert note in svg_texts(tmp_path / "figure.svg")


def test_tensorboard_image_is_rgb(heatmap):
    image = heatmap_image(heatmap)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert tuple(image[0, 0]) == (255, 255, 255)


def test_several_pngs_are_numbered(heatmap, tmp_path):
    written = save_heatmaps([heatmap, heatmap], tmp_path / "new" / "figure.PNG")
    assert [path.name for path in written] == ["figure-0000.PNG", "figure-0001.PNG"]
    assert all(path.stat().st_size > 1000 for path in written)
    assert save_heatmaps([heatmap], tmp_path / "one.svg") == [tmp_path / "one.svg"]
    assert save_heatmaps([], tmp_path / "none.svg") == []


@pytest.mark.parametrize(("name", "given"), [("figure.pdf", r"ends in \.pdf"), ("figure", "has no suffix")])
def test_other_suffixes_are_refused(heatmap, tmp_path, name, given):
    with pytest.raises(ConfigError, match=rf"{name} {given}; accepted: \.png, \.svg, \.html"):
        save_heatmap(heatmap, tmp_path / name)
    with pytest.raises(ConfigError, match="accepted"):
        figure_suffix(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_a_config_error(heatmap, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_heatmap(heatmap, tmp_path / "file" / "figure.svg")


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\); its words need \(3, 2\)"):
        Heatmap(["a", "b"], ["x", "y", "z"], np.zeros((2, 3)))


def test_weights_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        Heatmap(["a"], ["x"], np.array([[np.nan]]))


def test_weights_of_heads_must_fit_too():
    with pytest.raises(ValueError, match=r"shape \(1, 2\); its words need \(1, 1\)"):
        Heatmap(["a"], ["x"], np.ones((1, 1)), heads=[np.ones((1, 1)), np.ones((1, 2))])
    with pytest.raises(ValueError, match="finite"):
        Heatmap(["a"], ["x"], np.ones((1, 1)), heads=[np.array([[np.inf]])])


@pytest.mark.parametrize(("words", "count"), [(1, 1), (1, 16), (6, 4), (6, 8), (6, 16), (45, 1), (45, 8)])
def test_panels_of_heads_stand_apart_to_the_right(count, words):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    heads = [np.full((words, words), place / count) for place in range(count)]
    names = [f"w{place}" for place in range(words)]
    gold = SimpleNamespace(sure=frozenset({(0, 0)}), possible=frozenset({(0, 0)}))
    with drawing():
        figure = draw(Heatmap(names, names, np.full((words, words), 0.5), gold, title="t", heads=heads))
        renderer = FigureCanvasAgg(figure).get_renderer()
        mean, *panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
        key = [text.get_window_extent(renderer) for text in figure.texts]
    assert [axes.get_title("left") for axes in figure.axes[1:]] == [f"head {n}" for n in range(1, count + 1)]
    assert all(panel.x0 > mean.x1 for panel in panels)
    boxes = [*panels, *key]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    # no panel shows more than half the size of the mean
    assert max(panel.width for panel in panels) < max(mean.width, 0.6 * figure.dpi)


def test_a_panel_shows_the_weights_of_its_head(tmp_path):
    heads = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    heatmap = Heatmap(["a", "b"], ["x"], sum(heads) / 2, heads=heads)
    with drawing():
        figure = draw(heatmap)
        cells = [axes.collections[-1].get_paths() for axes in figure.axes]
    # the mean has two cells, each head one: the first on the left, the second on the right
    assert [len(each) for each in cells] == [2, 1, 1]
    assert [each[0].get_extents().x0 for each in cells[1:]] == [0, 1]


@pytest.mark.parametrize("link", [(1, 0), (0, 2), (-1, 0)])
def test_gold_links_outside_are_refused(link):
    gold = SimpleNamespace(sure=frozenset(), possible=frozenset({link}))
    with pytest.raises(ValueError, match=f"gold link {link[0]}-{link[1]} lies outside"):
        Heatmap(["a"], ["x", "y"], np.zeros((2, 1)), gold)


def test_neither_settings_nor_pyplot_are_touched(tmp_path):
    """In a process of its own: importing draws in no Matplotlib, drawing no pyplot, and the user's settings stay."""
    script = f"""
import sys
import numpy as np
from pathlib import Path
from nmt.report import Heatmap, save_heatmap
assert "matplotlib" not in sys.modules
heatmap = Heatmap(["a"], ["b"], np.ones((1, 1)))
save_heatmap(heatmap, Path({str(tmp_path)!r}) / "figure.html")
assert "matplotlib" not in sys.modules
import matplotlib
matplotlib.rcParams["font.size"] = 33
settings = ("font.size", "svg.fonttype", "svg.hashsalt")
before = [matplotlib.rcParams[name] for name in settings]
save_heatmap(heatmap, Path({str(tmp_path)!r}) / "figure.svg")
assert before == [33, "path", None]
assert [matplotlib.rcParams[name] for name in settings] == before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
