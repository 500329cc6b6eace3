"""The page's style sheet: light and dark, readable at 60 words, no image, font or script from elsewhere."""

from nmt.report.colors import DARK_RAMP, LEVELS, LIGHT_RAMP, luminance, ramp_color
from nmt.report.curves import series_css

_LAYOUT = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:110rem;padding:1.5rem clamp(1rem,3vw,3rem) 4rem;background:var(--page);color:var(--text);
  font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .75rem}
h3{font-size:1rem;margin:0 0 .5rem;overflow-wrap:anywhere}
.subtitle{margin:0;color:var(--muted);overflow-wrap:anywhere}
.badge{display:inline-block;padding:0 .6em;border:1px solid var(--gold);border-radius:1em;color:var(--text);
  font-size:.85rem}
.note{color:var(--muted);font-size:.875rem;margin:.5rem 0;max-width:75ch;overflow-wrap:anywhere}
.scroll{overflow:auto;max-width:100%}
:focus-visible{outline:2px solid var(--series-0);outline-offset:2px}
table{border-collapse:collapse}
.data{font-variant-numeric:tabular-nums;font-size:.925rem}
.data caption{text-align:left;font-weight:600;padding:.25rem 0}
.data th,.data td{padding:.35rem .9rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
.data th{text-align:left;font-weight:600;overflow-wrap:anywhere}
.data tbody th{min-width:9rem}
.data thead th{color:var(--muted);font-weight:500;white-space:nowrap}
.data .number{text-align:right}
.chart{margin:0 0 1.5rem;max-width:46rem}
.chart svg{display:block;width:100%;height:auto;overflow:visible}
details{margin:.5rem 0}
summary{cursor:pointer;color:var(--muted);font-size:.875rem}
.example{padding:1rem 1.25rem 1.25rem;margin:0 0 1.25rem;background:var(--surface);
  border:1px solid var(--line);border-radius:.5rem;
  content-visibility:auto;contain-intrinsic-size:auto 30rem}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1rem;margin:0 0 1rem}
dt{color:var(--muted)}
dd{margin:0;overflow-wrap:anywhere}
@media (max-width:40rem){dl{grid-template-columns:minmax(0,1fr)}dd{margin-bottom:.35rem}}
.maps{display:flex;flex-wrap:wrap;gap:1.25rem 2.5rem}
figure{margin:0;min-width:0;max-width:100%}
figcaption{font-size:.9rem;margin-bottom:.4rem;color:var(--muted);overflow-wrap:anywhere}
.key{display:flex;flex-wrap:wrap;gap:.4rem 1.5rem;align-items:center;color:var(--muted);font-size:.875rem;
  margin:0 0 1rem;padding:0;list-style:none}
.key li{display:flex;align-items:center;gap:.5rem}
.ramp{display:flex;border:1px solid var(--line)}
.ramp i{width:.4rem;height:.8rem;print-color-adjust:exact;forced-color-adjust:none}
.swatch{width:1.1rem;height:1.1rem}
"""

_MAP = """
.mapbox{overflow:auto;max-width:100%;max-height:92vh}
.map{--cell:1.15rem;border-collapse:separate;border-spacing:0;font-size:.78rem;line-height:1.35}
.map.small{--cell:2rem;font-size:.875rem}
.map.large{--cell:1rem;font-size:.72rem;line-height:1.3}
.map th{font-weight:400;background:var(--surface);white-space:nowrap;padding:0}
.map thead{position:sticky;top:0;z-index:2}
.map thead th{vertical-align:bottom;text-align:center;padding:.15rem 0 .3rem}
.map thead td{position:sticky;left:0;z-index:3;background:var(--surface)}
.map thead span{display:block;margin:0 auto;max-height:11rem;overflow:hidden;text-overflow:ellipsis;
  writing-mode:vertical-rl;text-orientation:sideways;transform:rotate(180deg)}
.map thead .up span{writing-mode:horizontal-tb;transform:none}
.map tbody th{position:sticky;left:0;z-index:1;text-align:right;padding:0 .4rem 0 .1rem}
.map tbody th span{display:block;max-width:min(14rem,30vw);overflow:hidden;text-overflow:ellipsis}
.map tbody td{width:var(--cell);min-width:var(--cell);max-width:var(--cell);height:var(--cell);padding:0;
  overflow:hidden;text-align:center;font-size:.6rem;color:transparent;border:solid var(--line);border-width:0 1px 1px 0;
  print-color-adjust:exact;forced-color-adjust:none}
.map.small tbody td{font-size:.75rem}
.map tbody td:nth-child(2){border-left-width:1px}
.map tbody tr:first-child td{border-top-width:1px}
.map tbody tr:hover th{background:var(--hover)}
.map tbody td:hover{outline:2px solid var(--text);outline-offset:-1px}
.gs,.gp{box-shadow:inset 0 0 0 3px var(--surface);outline:2px solid var(--gold);outline-offset:-2px}
.gp{outline-style:dashed}
"""


def style_sheet(columns: int) -> str:
    """Return the CSS of a page whose widest heatmap has ``columns`` source words."""
    light = f"color-scheme:light dark;--page:#f6f8fa;--hover:#e7ecf1;{series_css(dark=False)};{_ramp_css(LIGHT_RAMP)}"
    dark = f"--page:#0d1117;--hover:#2a323c;{series_css(dark=True)};{_ramp_css(DARK_RAMP)}"
    steps = "\n".join(f".w{level}{{background:var(--w{level})}}" for level in range(1, LEVELS + 1))
    numbers = "\n".join(f".small .w{level}{{color:var(--n{level})}}" for level in range(1, LEVELS + 1))
    root = f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    paper = (
        f"@media print{{:root{{{light};--page:#fff}}.mapbox{{max-height:none}}.example{{content-visibility:visible}}}}"
    )
    return "\n".join([root, _LAYOUT.strip(), _MAP.strip(), steps, numbers, _column_rules(columns), paper])


def _ramp_css(ramp: tuple[str, ...]) -> str:
    """Return the variables of the levels: ``--w7`` a cell's colour, ``--n7`` that of the number on it."""
    variables = []
    for level in range(LEVELS + 1):
        color = ramp_color(ramp, level / LEVELS)
        # the lightness where black and white stand out equally (WCAG contrast)
        ink = "#101418" if luminance(color) > 0.18 else "#ffffff"
        variables += [f"--w{level}:{color}", f"--n{level}:{ink}"]
    return ";".join(variables)


def _column_rules(columns: int) -> str:
    """Return the rules that mark the source word above the cell under the pointer."""
    if not columns:
        return ""
    selectors = (
        f".map:has(tbody td:nth-child({place}):hover) thead th:nth-child({place})" for place in range(2, columns + 2)
    )
    return ",\n".join(selectors) + "{background:var(--hover)}"
