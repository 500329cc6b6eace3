"""Fonts for labels in any script: Matplotlib's own DejaVu Sans first, then installed fonts that have what it lacks."""

import logging
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.font_manager import FontEntry

log = logging.getLogger(__name__)

BASE = "DejaVu Sans"
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")
_warned: set[str] = set()


def font_families(texts: Iterable[str]) -> list[str]:
    """Return the font families that together draw ``texts``, ``DejaVu Sans`` first.

    Characters that no installed font has are drawn as boxes; one warning per process and Debian package names them.
    """
    from matplotlib import font_manager

    wanted = {character for text in texts for character in text if _needs_glyph(character)}
    missing = wanted - _covered(font_manager.findfont(BASE), wanted)
    families = [BASE]
    fonts = _installed_fonts(_regional_suffix(missing)) if missing else []
    while missing and fonts:
        best = max(fonts, key=lambda font: len(_covered(font.fname, missing)))
        found = _covered(best.fname, missing)
        if not found:
            break
        families.append(best.name)
        missing -= found
    if missing:
        _warn(missing)
    return families


def _needs_glyph(character: str) -> bool:
    """Say whether the character is drawn: not white space, a joiner, a direction mark or a variation selector."""
    return not (
        character.isspace()
        or unicodedata.category(character) in {"Cc", "Cf", "Cn", "Co", "Cs"}
        or 0xFE00 <= ord(character) <= 0xFE0F
    )


def _covered(path: str, characters: set[str]) -> set[str]:
    """Return those of ``characters`` that the font file has a glyph for."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
    except (OSError, RuntimeError):
        return set()
    return {character for character in characters if font.get_char_index(ord(character))}


def _installed_fonts(suffix: str) -> "list[FontEntry]":
    """Return this machine's upright fonts, first those to prefer: sans, regional ``suffix``, regular weight."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    # Matplotlib keeps its list of fonts in a cache that it does not renew when a font is installed later.
    known = {font.fname for font in manager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        _add_font(path)
    fonts = [font for font in manager.ttflist if font.style == "normal" and _draws_letters(font)]
    return sorted(fonts, key=lambda font: _rank(font, suffix))


def _draws_letters(font: "FontEntry") -> bool:
    """Say whether the font is scalable and has real glyphs: Last Resort has a box for every character there is."""
    return font.size == "scalable" and not font.name.startswith("Last Resort")


@cache
def _add_font(path: str) -> None:
    """Tell Matplotlib of a font file; one that it cannot read (colour bitmaps) is left out."""
    from matplotlib import font_manager

    try:
        font_manager.fontManager.addfont(path)
    except (OSError, RuntimeError, ValueError):
        log.debug("%s is not a font that can be drawn", path)


def _rank(font: "FontEntry", suffix: str) -> tuple[bool, bool, bool, float, str]:
    """Return a sort key, smallest first."""
    weight = font.weight if isinstance(font.weight, int | float) else 400
    return "Sans" not in font.name, "Mono" in font.name, not font.name.endswith(suffix), abs(weight - 400), font.name


def _regional_suffix(characters: set[str]) -> str:
    """Return how families name the region whose shapes are wanted: Japanese by kana, Korean by Hangul, else SC."""
    names = [unicodedata.name(character, "") for character in characters]
    if any("KATAKANA" in name or "HIRAGANA" in name for name in names):
        return " JP"
    return " KR" if any("HANGUL" in name for name in names) else " SC"


def _warn(missing: set[str]) -> None:
    """Say which characters stay boxes and what would help."""
    packages: dict[str, list[str]] = {}
    for character in sorted(missing):
        east_asian = unicodedata.name(character, "").startswith(_EAST_ASIAN)
        packages.setdefault("fonts-noto-cjk" if east_asian else "fonts-noto-core", []).append(character)
    for package, characters in packages.items():
        _warn_once(package, " ".join(characters[:5]))


def _warn_once(package: str, examples: str) -> None:
    if package not in _warned:
        _warned.add(package)
        log.warning(
            "no installed font has glyphs for characters such as %s, so PNG figures show boxes for them;"
            " install a font that does, for example Debian's package %s (HTML pages need none)",
            examples,
            package,
        )
