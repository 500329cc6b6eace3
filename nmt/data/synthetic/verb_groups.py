"""Rules for the verbs of a clause: tense, modals, negation, separable prefixes and English particles.

Links: auxiliary to auxiliary (*darf* to both words of *is allowed*), main verb to main verb. A separated prefix is
surely linked to the English particle and possibly to the verb, the stem surely to the verb and possibly to the
particle; where English has no particle, stem and prefix are both surely linked to the verb. A form in one word
(anrufen, abgeholt) is surely linked to verb and particle. The *do* of a negation, the *to* of *wants to see* and the
preposition of *looks for* (suchen) have possible links only.
"""

from collections.abc import Sequence
from typing import NamedTuple

from nmt.data.synthetic.lexicon import THIRD
from nmt.data.synthetic.verbs import SEIN, Tense, Verb
from nmt.data.synthetic.words import English, German


class VerbGroup(NamedTuple):
    """The verbs in both languages.

    ``auxiliary`` (one word, two in *is allowed*, or none), ``main`` (which may start with *to*), ``particle`` and
    ``marker`` (one or none each) are the English words; ``finite`` and ``bracket`` are the German verbs around the
    middle field of a main clause, ``joined`` those at the end of a subordinate clause.
    """

    auxiliary: list[English]
    main: list[English]
    particle: list[English]
    marker: list[English]
    finite: list[German]
    bracket: list[German]
    joined: list[German]


def finite_group(verb: Verb, tense: Tense, person: int, *, negated: bool) -> VerbGroup:
    """Return the verbs of a finite clause, without *not*."""
    auxiliary = _auxiliary(verb, tense, person, negated=negated)
    to = [English("to")] if tense.marker else []
    words = _Words(verb, _english_form(verb, tense, person, negated=negated), to)
    if tense.german is None:
        forms = verb.german_present if tense.english_form == "present" else verb.german_past
        finite, bracket = words.split(forms[person], auxiliary)
        joined = [words.join(forms[person], auxiliary)]
    else:
        forms = SEIN[tense] if verb.sein and tense in SEIN else tense.german
        finite = [German(forms[person], auxiliary)]
        bracket = [words.join(verb.participle if tense.english_form == "participle" else verb.infinitive)]
        joined = [*bracket, *finite]
    return VerbGroup(auxiliary, [*to, words.main], words.particle, words.marker, finite, bracket, joined)


def infinitive_group(verb: Verb) -> VerbGroup:
    """Return *to call* and *anzurufen*, *to see* and *zu sehen*; there is no finite verb."""
    to = English("to")
    words = _Words(verb, verb.base, [])
    if verb.prefix:
        german = [German(f"{verb.prefix}zu{verb.infinitive}", [to, words.main, *words.particle], words.marker)]
    else:
        german = [German("zu", [to]), words.join(verb.infinitive)]
    return VerbGroup([], [to, words.main], words.particle, words.marker, [], german, german)


class _Words:
    """The English words of a main verb, and its German forms linked to them."""

    def __init__(self, verb: Verb, form: str, to: list[English]) -> None:
        self.prefix = verb.prefix
        self.main = English(form)
        self.particle = [English(verb.particle)] if verb.particle else []
        self.marker = [English(verb.marker)] if verb.marker else []
        self.silent = [*self.marker, *to]

    def join(self, form: str, support: Sequence[English] = ()) -> German:
        """Return the German verb in one word; ``support`` are further words that it possibly translates."""
        return German(self.prefix + form, [self.main, *self.particle], [*self.silent, *support])

    def split(self, form: str, support: Sequence[English]) -> tuple[list[German], list[German]]:
        """Return the finite stem and its separated prefix."""
        if not self.prefix:
            return [self.join(form, support)], []
        if not self.particle:
            return [German(form, [self.main], [*self.silent, *support])], [
                German(self.prefix, [self.main], self.silent)
            ]
        stem = German(form, [self.main], [*self.particle, *self.silent, *support])
        return [stem], [German(self.prefix, self.particle, [self.main])]


def _auxiliary(verb: Verb, tense: Tense, person: int, *, negated: bool) -> list[English]:
    """Return the English auxiliary of the tense, or the *do* that a negation needs."""
    if tense.english is not None:
        auxiliary = English(tense.english[person])
        return [auxiliary, English(tense.participle)] if tense.participle else [auxiliary]
    if not negated or verb.frame == "copula":
        return []
    if tense.english_form == "past":
        return [English("did")]
    return [English("does" if person == THIRD else "do")]


def _english_form(verb: Verb, tense: Tense, person: int, *, negated: bool) -> str:
    """Return the English main verb; its base after the *do* of a negation."""
    if tense.english_form == "participle":
        return verb.english_participle
    if tense.english_form == "base" or (negated and verb.frame != "copula"):
        return verb.base
    return (verb.english_present if tense.english_form == "present" else verb.english_past)[person]
