"""Word-level alignment heatmaps: target words down, source words across, gold links outlined."""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nmt.report.colors import LIGHT, LIGHT_RAMP, ramp_color
from nmt.report.figure import drawing, figure_bytes, set_text
from nmt.report.fonts import font_families
from nmt.report.text import clean, shorten, stands_upright

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

CELL = 0.24
"""Side of a cell in inches: room for a line of text in 9 points."""
HEAD_CELL = 0.06
"""Smallest side of a cell of a head's panel in inches."""
HEAD_GAP = 0.3
"""Inches between the panels of heads: room for a title."""
HEAD_WIDTH = 0.5
"""Smallest width of a head's panel with its title."""
LABEL_LENGTH = 28
POSSIBLE_DASHES = (0, (2.2, 1.3))
VISIBLE = 0.005
"""Smaller weights are not drawn: they are white within a step of the ramp."""


class Links(Protocol):
    """Gold links as ``nmt.data.GoldLinks`` has them: sets of (source word, target word), 0-based, possible ⊇ sure."""

    @property
    def sure(self) -> frozenset[tuple[int, int]]:
        """Links that annotators are sure of."""
        ...

    @property
    def possible(self) -> frozenset[tuple[int, int]]:
        """Links that may be made, the sure ones among them."""
        ...


@dataclass(frozen=True, eq=False)
class Heatmap:
    """One sentence's word weights.

    Args:
        source_words: Ws words.
        target_words: Wt words.
        weights: [Wt, Ws] in 0..1; a row may sum to less than 1 (EOS is dropped, local windows are not renormalised).
        gold: links to outline, or None.
        title: a line above the figure.
        source_language: ISO 639-1 code or "", so that a browser chooses the right shapes of shared characters.
        target_language: the same for the target.
        heads: [Wt, Ws] each, weights of the heads whose mean ``weights`` is, drawn smaller beside it.

    Raises:
        ValueError: weights are not finite or not of shape [Wt, Ws], or a gold link lies outside.
    """

    source_words: Sequence[str]
    target_words: Sequence[str]
    weights: np.ndarray
    gold: Links | None = None
    title: str = ""
    source_language: str = ""
    target_language: str = ""
    heads: Sequence[np.ndarray] = ()

    def __post_init__(self) -> None:
        expected = (len(self.target_words), len(self.source_words))
        for weights in (self.weights, *self.heads):
            if weights.shape != expected:
                raise ValueError(f"heatmap weights have shape {weights.shape}; its words need {expected}")
            if not np.isfinite(weights).all():
                raise ValueError("heatmap weights are not all finite")
        for source, target in self.sure | self.possible:
            if not (0 <= source < expected[1] and 0 <= target < expected[0]):
                raise ValueError(
                    f"gold link {source}-{target} lies outside {expected[1]} source, {expected[0]} target words"
                )

    @property
    def sure(self) -> frozenset[tuple[int, int]]:
        """Sure gold links, empty without gold."""
        return frozenset(self.gold.sure) if self.gold else frozenset()

    @property
    def possible(self) -> frozenset[tuple[int, int]]:
        """Gold links that are possible and not sure, empty without gold."""
        return frozenset(self.gold.possible) - self.sure if self.gold else frozenset()

    def of_heads(self) -> list["Heatmap"]:
        """Return a heatmap of each head."""
        return [
            replace(self, weights=weights, title=f"head {number}", heads=())
            for number, weights in enumerate(self.heads, start=1)
        ]

    @property
    def note(self) -> str:
        """What a reader should know of an unusual heatmap, or ""."""
        if not self.weights.size:
            return "nothing to align: a side has no words"
        return "" if (self.weights >= VISIBLE).any() else "all weights are zero"


def heatmap_image(heatmap: Heatmap) -> np.ndarray:
    """Return the drawn heatmap as pixels [height, width, 3] of uint8, such as TensorBoard's image summaries take."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(heatmap_bytes(heatmap, ".png"))).convert("RGB"))


def heatmap_bytes(heatmap: Heatmap, suffix: str, *, width: int | None = None) -> bytes:
    """Return the drawn heatmap as a file of the format ``suffix``, .png or .svg; a PNG as wide as asked, in pixels."""
    with drawing():
        return figure_bytes(draw(heatmap), suffix, clean(heatmap.title) or "alignment", width=width)


def draw(heatmap: Heatmap) -> "Figure":
    """Return the figure; call it inside :func:`nmt.report.figure.drawing`.

    The axes fill the figure and one data unit is ``CELL`` inches; labels, title and key stand outside, where saving
    with a tight bounding box finds them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, rows = max(len(heatmap.source_words), 1), max(len(heatmap.target_words), 1)
    figure = Figure(figsize=(columns * CELL, rows * CELL))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(rows, 0))
    _draw_cells(axes, heatmap.weights)
    _draw_gold(axes, heatmap)
    _label(axes, heatmap)
    renderer = FigureCanvasAgg(figure).get_renderer()
    if heatmap.heads and heatmap.weights.size:
        _draw_heads(figure, axes, heatmap, renderer)
    _draw_key(figure, heatmap, renderer)
    return figure


def _draw_cells(axes: "Axes", weights: np.ndarray, *, line: float = 0.4) -> None:
    """Draw the grid, its lines so many points wide, and the cells that have weight."""
    from matplotlib.collections import PolyCollection

    rows, columns = weights.shape
    axes.vlines(range(columns + 1), 0, rows, color=LIGHT["line"], linewidth=line, zorder=1, clip_on=False)
    axes.hlines(range(rows + 1), 0, columns, color=LIGHT["line"], linewidth=line, zorder=1, clip_on=False)
    cells = np.argwhere(weights >= VISIBLE)
    corners = [[(s, t), (s + 1, t), (s + 1, t + 1), (s, t + 1)] for t, s in cells]
    colors = [ramp_color(LIGHT_RAMP, float(weights[t, s])) for t, s in cells]
    axes.add_collection(
        PolyCollection(corners, facecolors=colors, edgecolors=LIGHT["line"], linewidths=line, zorder=2, clip_on=False)
    )


def _draw_gold(axes: "Axes", heatmap: Heatmap) -> None:
    """Outline gold links, sure ones solid, possible ones dashed; a white line below parts them from dark cells."""
    for links, name, style in ((heatmap.sure, "sure", "-"), (heatmap.possible, "possible", POSSIBLE_DASHES)):
        for source, target in sorted(links):
            _outline(axes, source, target, color="white", linewidth=2.8)
            _outline(
                axes,
                source,
                target,
                color=LIGHT["gold"],
                linewidth=1.5,
                style=style,
                gid=f"gold-{name}-{source}-{target}",
            )


def _outline(
    axes: "Axes", source: int, target: int, *, color: str, linewidth: float, style: Any = "-", gid: str = ""
) -> None:
    from matplotlib.patches import Rectangle

    inset = 0.09
    axes.add_patch(
        Rectangle(
            (source + inset, target + inset),
            1 - 2 * inset,
            1 - 2 * inset,
            fill=False,
            edgecolor=color,
            linewidth=linewidth,
            linestyle=style,
            gid=gid or None,
            joinstyle="miter",
            zorder=3,
        )
    )


def _label(axes: "Axes", heatmap: Heatmap) -> None:
    """Write the words at the cells, on all four sides where the heatmap is too large to follow a line across."""
    source = [shorten(word, LABEL_LENGTH) for word in heatmap.source_words]
    target = [shorten(word, LABEL_LENGTH) for word in heatmap.target_words]
    families = font_families([*source, *target, heatmap.title])
    axes.set_xticks(np.arange(len(source)) + 0.5, source, rotation=90)
    axes.set_yticks(np.arange(len(target)) + 0.5, target)
    axes.tick_params(
        length=0, pad=3, labelsize=9, labelcolor=LIGHT["text"], top=True, labeltop=True, labelbottom=len(target) > 20
    )
    axes.tick_params(axis="y", right=True, labelright=len(source) > 20)
    axes.spines[:].set_visible(False)
    for tick, word in zip(axes.xaxis.get_major_ticks(), source, strict=True):
        for label in (tick.label1, tick.label2):
            set_text(label, word, families)
            label.set_rotation(0 if stands_upright(word) else 90)
    for tick, word in zip(axes.yaxis.get_major_ticks(), target, strict=True):
        set_text(tick.label1, word, families)
        set_text(tick.label2, word, families)
    width = max(50, int(len(source) * CELL * 11))
    title = axes.set_title("", loc="left", fontsize=10, color=LIGHT["text"], pad=8)
    set_text(title, "\n".join(textwrap.wrap(clean(heatmap.title), width)), families)


def _draw_heads(figure: "Figure", axes: "Axes", heatmap: Heatmap, renderer: "RendererAgg") -> None:
    """Draw a small unlabelled panel for each head to the right, in lines that fit the height of the mean."""
    rows, columns = heatmap.weights.shape
    width, height = figure.get_size_inches()
    lines = max(2, math.ceil(math.sqrt(len(heatmap.heads) / 2)))
    a_line = math.ceil(len(heatmap.heads) / lines)
    cell = max(HEAD_CELL, (height - (lines - 1) * HEAD_GAP) / lines / rows)
    box = axes.get_tightbbox(renderer)
    assert box is not None
    first = box.x1 / figure.dpi + HEAD_GAP
    step = max(columns * cell, HEAD_WIDTH) + HEAD_GAP
    for number, head in enumerate(heatmap.of_heads()):
        line, place = divmod(number, a_line)
        left, bottom = first + place * step, height - (line + 1) * rows * cell - line * HEAD_GAP
        panel = figure.add_axes(
            (left / width, bottom / height, columns * cell / width, rows * cell / height),
            xlim=(0, columns),
            ylim=(rows, 0),
            xticks=[],
            yticks=[],
        )
        panel.spines[:].set_visible(False)
        _draw_cells(panel, head.weights, line=0.3)
        panel.set_title(head.title, loc="left", fontsize=8, color=LIGHT["muted"], pad=3)


def _draw_key(figure: "Figure", heatmap: Heatmap, renderer: "RendererAgg") -> None:
    """Draw below everything what the colours and outlines mean, or what is unusual."""
    line = figure.get_tightbbox(renderer).y0 - 0.25
    if heatmap.note:
        _write(figure, 0.0, line, heatmap.note)
    else:
        _draw_ramp(figure, line)
    place = 2.1
    for links, name, style in ((heatmap.sure, "sure", "-"), (heatmap.possible, "possible", POSSIBLE_DASHES)):
        if links:
            box_options = {"edgecolor": LIGHT["gold"], "linewidth": 1.5, "linestyle": style, "fill": False}
            _add_box(figure, (place, line - 0.06), 0.13, 0.13, **box_options)
            _write(figure, place + 0.2, line, f"gold, {name}")
            place += 1.0


def _draw_ramp(figure: "Figure", line: float) -> None:
    """Draw the ramp of weights around the height ``line``, in inches."""
    steps, width = 40, 1.0
    _write(figure, 0.0, line, "weight 0")
    for step in range(steps):
        color = ramp_color(LIGHT_RAMP, (step + 0.5) / steps)
        left = 0.6 + width * step / steps
        # each strip reaches under the next one, so that no seam shows between them
        _add_box(figure, (left, line - 0.05), min(1.5 * width / steps, 0.6 + width - left), 0.1, facecolor=color)
    _add_box(figure, (0.6, line - 0.05), width, 0.1, fill=False, edgecolor=LIGHT["line"], linewidth=0.5)
    _write(figure, 0.65 + width, line, "1")


def _add_box(figure: "Figure", corner: tuple[float, float], width: float, height: float, **options: Any) -> None:
    """Add a rectangle with sizes in inches from the lower left corner of the axes."""
    from matplotlib.patches import Rectangle

    figure.add_artist(Rectangle(corner, width, height, transform=_inches(figure), **options))


def _write(figure: "Figure", left: float, line: float, content: str) -> None:
    """Write a muted text with its middle at the height ``line``, in inches from the lower left corner of the axes."""
    figure.text(left, line, content, transform=_inches(figure), fontsize=8, color=LIGHT["muted"], va="center_baseline")


def _inches(figure: "Figure") -> "Transform":
    """Return the transform from inches; it goes by the figure's own box, which saving with a tight box moves along."""
    from matplotlib.transforms import Affine2D

    return Affine2D().scale(*(1 / figure.get_size_inches())) + figure.transFigure
