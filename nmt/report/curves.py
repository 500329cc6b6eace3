"""Curves of several runs: BLEU by source length, and scores or losses over training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.errors import ConfigError
from nmt.report.colors import DARK, DARK_SERIES, LIGHT, LIGHT_SERIES
from nmt.report.figure import drawing, figure_bytes, inline_svg, set_text, write_file
from nmt.report.fonts import font_families
from nmt.report.text import clean, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")
NAME_LENGTH = 70
# With the colours these tell runs apart in grey print too; five and six share no divisor, so 30 runs look different.
_MARKERS = ("o", "s", "^", "D", "v")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2, 1, 2, 1, 2)))


@dataclass(frozen=True)
class Series:
    """One line of a chart: ``y`` over ``x``, nan where there is no value (the line is broken there)."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """Lines over a common x; with ``ticks`` x counts them: 0 is the first."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    ticks: Sequence[str] | None = None
    from_zero: bool = False


def length_curve(
    runs: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str = "BLEU by source length", score: str = "bleu"
) -> Chart:
    """Return the chart of a score over source length.

    Args:
        runs: name -> bins as ``nmt.evaluation.bleu_by_length`` gives them: ``low`` and ``high`` in source words, both
            inclusive (``high`` None: no bound), ``sentences``, and the score (None: no value).
        title: a line above the chart.
        score: the key of the score.
    """
    bounds = {(entry["low"], _bound(entry["high"])) for bins in runs.values() for entry in bins}
    places = {bound: place for place, bound in enumerate(sorted(bounds))}
    counts: dict[tuple[int, float], set[int]] = {bound: set() for bound in places}
    series = []
    for name, bins in runs.items():
        values = [math.nan] * len(places)
        for entry in bins:
            bound = (entry["low"], _bound(entry["high"]))
            values[places[bound]] = _number(entry[score])
            counts[bound].add(entry["sentences"])
        series.append(Series(name, range(len(places)), values))
    ticks = [_bin_name(bound, counts[bound]) for bound in places]
    return Chart(title, "source words (sentences)", score.upper(), series, ticks, from_zero=True)


def learning_curve(
    runs: Mapping[str, Iterable[tuple[float, float | None]]], *, title: str, x_label: str, y_label: str
) -> Chart:
    """Return the chart of (step, value) pairs of each run, such as the validation BLEU in ``metrics.jsonl``."""
    series = []
    for name, pairs in runs.items():
        points = sorted((step, _number(value)) for step, value in pairs)
        series.append(Series(name, [step for step, _ in points], [value for _, value in points]))
    return Chart(title, x_label, y_label, series)


def save_chart(chart: Chart, path: Path) -> None:
    """Save the chart as PNG or SVG, by the suffix of ``path``.

    Raises:
        ConfigError: another suffix, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        given = f"ends in {path.suffix}" if path.suffix else "has no suffix"
        raise ConfigError(f"the chart file {path} {given}; accepted: {', '.join(SUFFIXES)}")
    write_file(path, _chart_bytes(chart, suffix))


def chart_svg(chart: Chart, *, prefix: str) -> str:
    """Return the chart as an ``<svg>`` element with CSS variables as colours; ``prefix`` makes its ids unique."""
    variables = {color: f"series-{index}" for index, color in enumerate(LIGHT_SERIES)}
    variables |= {LIGHT[role]: role for role in ("text", "muted", "line")} | {"#ffffff": "page"}
    return inline_svg(_chart_bytes(chart, ".svg").decode(), variables, prefix)


def series_css(*, dark: bool) -> str:
    """Return the CSS variables that :func:`chart_svg` refers to."""
    colors = DARK_SERIES if dark else LIGHT_SERIES
    roles = DARK if dark else LIGHT
    lines = [f"--{role}:{roles[role]}" for role in roles]
    return ";".join(lines + [f"--series-{index}:{color}" for index, color in enumerate(colors)])


def _chart_bytes(chart: Chart, suffix: str) -> bytes:
    with drawing():
        return figure_bytes(draw(chart), suffix, clean(chart.title) or "chart")


def draw(chart: Chart) -> "Figure":
    """Return the figure; call it inside :func:`nmt.report.figure.drawing`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.8))
    axes = figure.add_axes((0, 0, 1, 1))
    for index, line in enumerate(chart.series):
        _draw_series(axes, line, index)
    names = [shorten(line.name, NAME_LENGTH) for line in chart.series]
    families = font_families([*names, chart.title])
    _style_axes(axes, chart, families)
    _draw_legend(axes, names, families, below=-0.2 if chart.ticks else -0.15)
    return figure


def _draw_series(axes: "Axes", line: Series, index: int) -> None:
    """Draw a line, with a marker at each point where they are few enough to stand apart."""
    axes.plot(
        line.x,
        line.y,
        color=LIGHT_SERIES[index % len(LIGHT_SERIES)],
        linestyle=_DASHES[index // len(LIGHT_SERIES) % len(_DASHES)],
        linewidth=1.8,
        marker=_MARKERS[index % len(_MARKERS)] if len(line.x) <= 40 else "",
        markersize=5,
    )


def _style_axes(axes: "Axes", chart: Chart, families: list[str]) -> None:
    """Set ticks, labels, a light horizontal grid and the title."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["muted"])
    axes.grid(axis="y", color=LIGHT["line"], linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=LIGHT["muted"])
    if chart.ticks is not None:
        axes.set_xticks(range(len(chart.ticks)), chart.ticks)
    if chart.from_zero:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(chart.x_label, color=LIGHT["muted"], fontsize=9)
    axes.set_ylabel(chart.y_label, color=LIGHT["muted"], fontsize=9)
    set_text(axes.set_title("", loc="left", fontsize=11, color=LIGHT["text"]), clean(chart.title), families)


def _draw_legend(axes: "Axes", names: list[str], families: list[str], *, below: float) -> None:
    """Name the runs below the chart, where names of any length have room."""
    if not names:
        return
    columns = 3 if max(map(len, names)) <= 24 else 1
    # placeholders first: Matplotlib would leave out a name that starts with an underscore
    legend = axes.legend(
        axes.lines, [str(index) for index in range(len(names))], loc="upper left", bbox_to_anchor=(-0.02, below),
        ncols=columns, frameon=False, fontsize=9, labelcolor=LIGHT["text"], handlelength=3,
    )  # fmt: skip
    for text, name in zip(legend.get_texts(), names, strict=True):
        set_text(text, name, families)


def _bound(high: float | None) -> float:
    return math.inf if high is None else high


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _bin_name(bound: tuple[int, float], counts: set[int]) -> str:
    """Return ``11–20``, ``61+``, and the number of sentences below it where all runs agree on it."""
    low, high = bound
    name = f"{low}+" if math.isinf(high) else f"{low}–{high:g}"
    return f"{name}\n({counts.pop():,})" if len(counts) == 1 else name
