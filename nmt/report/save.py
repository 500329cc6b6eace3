"""Heatmaps to files: a figure each, or one HTML page of all."""

from collections.abc import Sequence
from pathlib import Path

from nmt.errors import ConfigError
from nmt.report.figure import write_file
from nmt.report.heatmap import Heatmap, heatmap_bytes
from nmt.report.html import Example, write_report

SUFFIXES = (".png", ".svg", ".html")


def figure_suffix(path: Path) -> str:
    """Return the suffix of a heatmap file in lower case; check it before long work.

    Raises:
        ConfigError: it is none of ``SUFFIXES``.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        given = f"ends in {path.suffix}" if path.suffix else "has no suffix"
        raise ConfigError(f"the heatmap file {path} {given}; accepted: {', '.join(SUFFIXES)}")
    return suffix


def save_heatmap(heatmap: Heatmap, path: Path) -> None:
    """Save one heatmap as PNG, SVG or an HTML page, by the suffix of ``path``.

    Raises:
        ConfigError: another suffix, or the file cannot be written.
    """
    save_heatmaps([heatmap], path)


def save_heatmaps(heatmaps: Sequence[Heatmap], path: Path, *, title: str = "Alignments") -> list[Path]:
    """Save heatmaps: as one page where ``path`` ends in .html, else as a file each.

    Args:
        heatmaps: any number of them.
        path: the file; several PNG or SVG files are numbered from 0, ``name-0003.png``.
        title: heading of the page.

    Returns:
        The files written, in order; none for no heatmaps as PNG or SVG.

    Raises:
        ConfigError: another suffix, or a file cannot be written.
    """
    suffix = figure_suffix(path)
    if suffix == ".html":
        write_report(path, title=title, examples=[Example([heatmap]) for heatmap in heatmaps])
        return [path]
    several = len(heatmaps) > 1
    paths = [path.with_name(f"{path.stem}-{i:04d}{path.suffix}") if several else path for i in range(len(heatmaps))]
    for heatmap, file in zip(heatmaps, paths, strict=True):
        write_file(file, heatmap_bytes(heatmap, suffix))
    return paths
