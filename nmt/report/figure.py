"""Matplotlib without pyplot and without state: one place that opens, styles and saves a figure."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

DPI = 150
PAD = 0.12
"""White around a figure, in inches."""
MAX_PIXELS = 8000
"""A side of a PNG is never longer: a figure that would be is saved with fewer pixels per inch."""


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with Matplotlib's own defaults, whatever the user's ``matplotlibrc``; text in SVG stays text, ids repeat."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "nmt"})
        # fonts.py has said it once, in words that tell what to install
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def set_text(text: "Text", content: str, families: list[str]) -> None:
    """Give a label its content as it stands: dollar signs are no formula, and every script has its font."""
    text.set_parse_math(False)
    text.set_fontfamily(families)
    text.set_text(content)


def figure_bytes(figure: "Figure", suffix: str, title: str, *, width: int | None = None) -> bytes:
    """Return the figure as a file of this suffix (``.png`` or ``.svg``), the same bytes each time.

    Call it inside :func:`drawing`, where the figure was made.

    Args:
        figure: the figure.
        suffix: of the file.
        title: of the file.
        width: of a PNG in pixels; by default as many as ``DPI`` makes.
    """
    buffer = io.BytesIO()
    options = {"format": suffix[1:], "bbox_inches": "tight", "pad_inches": PAD, "facecolor": "white"}
    if suffix == ".svg":
        figure.savefig(buffer, metadata={"Title": title, "Date": None, "Creator": None}, **options)
    else:
        figure.savefig(buffer, dpi=_dpi(figure, width), metadata={"Title": title, "Software": None}, **options)
    return buffer.getvalue()


def inline_svg(svg: str, colors: Mapping[str, str], prefix: str) -> str:
    """Return an SVG file as an element of an HTML page.

    Args:
        svg: the file's text.
        colors: ``#rrggbb`` as drawn -> name of the CSS variable that takes its place, so that dark mode reaches it.
        prefix: put before every id, so that two figures of one page do not share any.
    """
    element = svg[svg.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r"(<svg [^>]*?)width=\"[^\"]*\" ", r"\1", re.sub(r"(<svg )height=\"[^\"]*\" ", r"\1", element))
    element = re.sub(r'\bid="', f'id="{prefix}', element)
    element = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", element)
    for color, variable in colors.items():
        element = element.replace(color, f"var(--{variable}, {color})")
    return element


def write_file(path: Path, content: bytes) -> None:
    """Write ``content``, making the folder where it lacks.

    Raises:
        ConfigError: the file cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _dpi(figure: "Figure", width: int | None) -> float:
    """Return pixels per inch: ``DPI`` or what makes ``width``, but no more than keep sides within ``MAX_PIXELS``."""
    box = figure.get_tightbbox()
    wanted = DPI if width is None else width / (box.width + 2 * PAD)
    return min(wanted, MAX_PIXELS / (max(box.width, box.height) + 2 * PAD))
