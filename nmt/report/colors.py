"""Colours for colour-blind readers too: one blue ramp for weights, orange for gold, Okabe and Ito's for runs."""

LEVELS = 20
"""Steps of the ramp in HTML: level ``round(weight * LEVELS)``, so a step is 5 % of weight."""

# ColorBrewer's Blues: lightness falls all the way, so the order survives grey printing and every kind of colour vision.
LIGHT_RAMP = ("#ffffff", "#deebf7", "#9ecae1", "#4292c6", "#08519c", "#08306b")
# On a dark page the ramp runs the other way: no weight is the page's own colour, much weight is bright.
DARK_RAMP = ("#161b22", "#17324f", "#1f5a8a", "#4497cf", "#9fd0f0", "#eef8ff")

LIGHT = {"surface": "#ffffff", "text": "#1f2328", "muted": "#59636e", "line": "#d8dee4", "gold": "#d55e00"}
DARK = {"surface": "#161b22", "text": "#e6edf3", "muted": "#9aa4af", "line": "#343b44", "gold": "#ffb000"}

# Okabe and Ito (2008), without their yellow, which is too pale on white; the dark ones are the same hues, lighter.
LIGHT_SERIES = ("#0072b2", "#d45d00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DARK_SERIES = ("#4aa8e0", "#ff8c42", "#2fce9f", "#e79fc6", "#ffc14d", "#9ad7ff")


def ramp_color(ramp: tuple[str, ...], weight: float) -> str:
    """Return the colour of a weight in 0..1: linear between the ramp's evenly spaced anchors, as ``#rrggbb``."""
    place = min(max(weight, 0.0), 1.0) * (len(ramp) - 1)
    low = min(int(place), len(ramp) - 2)
    share = place - low
    channels = zip(_channels(ramp[low]), _channels(ramp[low + 1]), strict=True)
    return "#" + "".join(f"{round(start + share * (end - start)):02x}" for start, end in channels)


def luminance(color: str) -> float:
    """Return the relative luminance of ``#rrggbb`` in 0..1 (WCAG 2.2)."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in _channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(color: str) -> tuple[int, int, int]:
    """Return red, green and blue of ``#rrggbb``, each in 0..255."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
