"""Text as labels: without what a drawing or an XML file cannot hold, and cut to a length that can be read."""

import unicodedata

# Controls and lone surrogates, which XML forbids (the two non-characters at the end of the plane as well).
_FORBIDDEN = {"Cc", "Cs"}
_NONCHARACTERS = {"\ufffe", "\uffff"}


def clean(text: str) -> str:
    """Return ``text`` with runs of white space as one space and what XML cannot hold as U+FFFD."""
    joined = " ".join(text.split())
    return "".join("\ufffd" if _forbidden(character) else character for character in joined)


def shorten(text: str, limit: int) -> str:
    """Return ``clean(text)``, cut to ``limit`` characters of which the last is an ellipsis where it was longer."""
    cleaned = clean(text)
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def stands_upright(word: str) -> bool:
    """Say whether a column label needs no turning: one character, such as a Chinese word or a full stop."""
    return len(word) == 1


def _forbidden(character: str) -> bool:
    return unicodedata.category(character) in _FORBIDDEN or character in _NONCHARACTERS
