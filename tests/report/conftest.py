"""Small heatmaps, and a machine without fonts."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

import nmt.report.fonts
from nmt.report import Heatmap


def links(*pairs):
    return frozenset(pairs)


@pytest.fixture
def heatmap():
    """Two target and three source words; sure (0, 0) and (2, 1), possible (1, 1)."""
    weights = np.array([[0.9, 0.1, 0.0], [0.0, 0.3, 0.6]])
    gold = SimpleNamespace(sure=links((0, 0), (2, 1)), possible=links((0, 0), (2, 1), (1, 1)))
    return Heatmap(["the", "old", "man"], ["der", "Mann"], weights, gold, title="run 1")


@pytest.fixture
def bare_fonts(monkeypatch):
    """Leave only Matplotlib's own fonts, and let the warning come again."""
    from matplotlib import font_manager

    own = [font for font in font_manager.fontManager.ttflist if re.match("DejaVu|Last Resort", font.name)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    monkeypatch.setattr(nmt.report.fonts, "_warned", set())
