"""What goes with what, and how often: the weights and the tables that sentences are drawn from."""

from collections.abc import Sequence

from nmt.data.synthetic import lexicon
from nmt.data.synthetic.lexicon import ADJECTIVES, DETERMINERS, GROUPS, PRONOUNS, Determiner, Noun
from nmt.data.synthetic.verbs import (
    FUTURE,
    PAST,
    PAST_MODALS,
    PERFECT,
    PRESENT,
    PRESENT_MODALS,
    VERBS,
    Frame,
    Verb,
)

# kinds of subject and the groups of verbs' subjects they belong to
_KINDS = {"person": ("person", "animate"), "animal": ("animate",), "dog": ("animate", "dog"), "thing": ()}
_PLAIN_FRAMES: tuple[Frame, ...] = ("none", "accusative", "dative", "ditransitive", "preposition", "direction", "place")


def _verbs(kind: str, frames: Sequence[Frame]) -> tuple[Verb, ...]:
    return tuple(verb for verb in VERBS if verb.subject in _KINDS[kind] and verb.frame in frames)


# verbs by kind of subject: any that takes no clause; those whose last phrase can have a relative clause
PLAIN_VERBS = {kind: _verbs(kind, _PLAIN_FRAMES) for kind in _KINDS}
HOST_VERBS = {kind: _verbs(kind, _PLAIN_FRAMES[1:]) for kind in _KINDS}
COMPLEMENT_VERBS = _verbs("person", ("clause",))
INFINITIVE_VERBS = _verbs("person", ("infinitive",))
GIVING_VERBS = _verbs("person", ("ditransitive",))
# what somebody does in the place of a relative clause
LOCAL_VERBS = _verbs("person", ("none", "place", "preposition"))


def _takers(frame: Frame) -> dict[Noun, tuple[Verb, ...]]:
    """Return by noun the verbs that a person can be the subject of and the noun the object."""
    verbs = _verbs("person", (frame,))
    return {noun: tuple(verb for verb in verbs if noun in GROUPS[verb.object]) for noun in lexicon.NOUNS.values()}


ACCUSATIVE_VERBS_OF, DATIVE_VERBS_OF, OBLIQUE_VERBS_OF = (
    _takers("accusative"),
    _takers("dative"),
    _takers("preposition"),
)
PREPOSITIONS_OF = {
    noun: tuple(p for p, nouns in lexicon.PLACE_PHRASES if noun in nouns) for noun in lexicon.PLACES.values()
}
DOG = lexicon.ANIMALS["dog"]


def _determiners(names: str) -> tuple[Determiner, ...]:
    return tuple(DETERMINERS[name] for name in names.split())


SINGULAR = _determiners("the the the the a a my his her this every")
SINGULAR_DEFINITE = _determiners("the the the my his her this")
PLURAL = (*_determiners("the the the my his her this two many"), lexicon.BARE)
PLURAL_DEFINITE = _determiners("the the my his her this")
COORDINATED = _determiners("the the a my his")
SIZES = tuple(ADJECTIVES[word] for word in ("small", "big", "old", "new"))
COLOURS = tuple(ADJECTIVES[word] for word in ("red", "blue", "green", "white"))
# I is frequent enough to show its own verb forms
SUBJECT_PRONOUNS = (PRONOUNS["I"], PRONOUNS["I"], *PRONOUNS.values())
THIRD_PRONOUNS = (PRONOUNS["he"], PRONOUNS["she"])
FIRST_PRONOUNS = (PRONOUNS["I"], PRONOUNS["we"])
# subjects that do not meet a negation or an adverb of frequency: their scope would not be clear
QUANTIFYING_PRONOUNS = (PRONOUNS["nobody"], PRONOUNS["everybody"])
QUANTIFIERS = (lexicon.NO, DETERMINERS["every"])
PERSON_ADJECTIVES = tuple(lexicon.PERSON_ADJECTIVES.values())

# a sentence speaks of the past (True) or of the present and future
PLAIN_TENSE = {True: PAST, False: PRESENT}
TENSES = {
    True: (PAST,) * 6 + tuple(PAST_MODALS.values()),
    False: (PRESENT,) * 6 + (PERFECT,) * 2 + (FUTURE,) * 2 + tuple(PRESENT_MODALS.values()),
}
CONJUNCTIONS = {
    True: ("because", "because", "although", "when", "when", "while", "before", "after"),
    False: ("because", "because", "although", "if", "if", "while", "before"),
}
# the clause after these is in a plain past or present
PLAIN_CONJUNCTIONS = ("if", "when", "while", "before")
