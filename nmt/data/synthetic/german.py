"""Inflection of German articles, pronouns and adjectives, as tables of case by agreement class."""

from typing import Literal

Case = Literal["nom", "acc", "dat", "gen"]
# masculine, feminine and neuter singular; plural of any gender
Agreement = Literal["m", "f", "n", "p"]
# which adjective endings a determiner calls for: after der-words, after ein-words, after none or a number
Declension = Literal["weak", "mixed", "strong"]
Table = dict[str, dict[str, str]]


def _table(nom: str, acc: str, dat: str, gen: str) -> Table:
    """Make a table from four rows of endings for m, f, n, p; ``-`` is the empty ending."""
    rows = {"nom": nom, "acc": acc, "dat": dat, "gen": gen}
    return {case: dict(zip("mfnp", row.replace("-", "").split(" "), strict=True)) for case, row in rows.items()}


DEFINITE = _table("der die das die", "den die das die", "dem der dem den", "des der des der")
RELATIVE = _table("der die das die", "den die das die", "dem der dem denen", "dessen deren dessen deren")
# dieser, jeder, viele, einige
DER_ENDINGS = _table("er e es e", "en e es e", "em er em en", "es er es er")
# ein, kein, mein
EIN_ENDINGS = _table("- e - e", "en e - e", "em er em en", "es er es er")
ADJECTIVE_ENDINGS: dict[str, Table] = {
    "weak": _table("e e e en", "en e e en", "en en en en", "en en en en"),
    "mixed": _table("er e es en", "en e es en", "en en en en", "en en en en"),
    "strong": _table("er e es e", "en e es e", "em er em en", "en er en er"),
}
# preposition and the definite article that melt into one word
CONTRACTIONS = {
    ("in", "dem"): "im",
    ("in", "das"): "ins",
    ("an", "dem"): "am",
}
