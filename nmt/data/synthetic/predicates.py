"""Rules for predicates: a verb with its objects and adverbials, ordered as either language wants.

English: auxiliary, not, frequency, verb, preposition of *look for*, particle, accusative (a pronoun goes before the
particle), dative, prepositional object, adjective, manner, direction, place, time, clause.

German::

    light   a reflexive or object pronoun: before the subject if that is a noun after the finite verb or conjunction
    middle  the pronoun sie, time, definite dative, definite accusative, frequency, nicht, indefinite dative, indefinite
            accusative, manner, prepositional object, place, direction, adjective
    verbs   second: the finite one before all that, the others after it; last: all after it
    after   a relative clause from the end of the middle; subordinate clauses; infinitives

Links: a German reflexive pronoun is possibly linked to the verb, the *to* of *give to* possibly to the first word of
the dative; *nicht* to *not*, and to *cannot*, of which *kann* is the other part.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from nmt.data.synthetic.lexicon import Adjective, Adverb
from nmt.data.synthetic.nominals import Nominal, PrepositionalPhrase
from nmt.data.synthetic.verb_groups import VerbGroup, finite_group, infinitive_group
from nmt.data.synthetic.verbs import Tense, Verb
from nmt.data.synthetic.words import English, German, Phrase

_NOTHING = Phrase((), ())


class Tail(ABC):
    """What follows the verbs at the end of a clause."""

    @abstractmethod
    def after(self, reflexive: str) -> Phrase:
        """Return both languages, the German with its commas; ``reflexive`` is the pronoun for the clause's subject."""


class Parts(NamedTuple):
    """A predicate: the whole English, and the German by its slots."""

    english: list[English]
    verbs: VerbGroup
    light: list[German]
    middle: list[German]
    after: list[German]

    def second(self, subject: Sequence[German] = (), *, light_first: bool = False) -> list[German]:
        """Return the German with the finite verb first, then a subject or none."""
        return [*self.verbs.finite, *self._inner(subject, light_first), *self.verbs.bracket, *self.after]

    def last(self, subject: Sequence[German] = (), *, light_first: bool = False) -> list[German]:
        """Return the German with the verbs last."""
        return [*self._inner(subject, light_first), *self.verbs.joined, *self.after]

    def _inner(self, subject: Sequence[German], light_first: bool) -> list[German]:
        return [*self.light, *subject, *self.middle] if light_first else [*subject, *self.light, *self.middle]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Predicate:
    """A verb with all that belongs to it except its subject."""

    verb: Verb
    tense: Tense
    negated: bool = False
    accusative: Nominal | None = None
    dative: Nominal | None = None
    oblique: Nominal | None = None
    adjective: Adjective | None = None
    frequency: Adverb | None = None
    manner: Adverb | None = None
    direction: PrepositionalPhrase | None = None
    place: PrepositionalPhrase | None = None
    time: Adverb | None = None
    tail: Tail | None = None

    def finite(self, person: int, reflexive: str) -> Parts:
        """Return the predicate of a subject in this person."""
        return _parts(self, finite_group(self.verb, self.tense, person, negated=self.negated), reflexive)

    def infinitive(self, reflexive: str) -> Parts:
        """Return the predicate with *to* and *zu*."""
        return _parts(self, infinitive_group(self.verb), reflexive)

    def ends_in_clause(self) -> bool:
        """Tell whether a clause ends it: what follows would belong to that clause."""
        objects = (self.accusative, self.dative, self.oblique)
        places = (phrase.nominal for phrase in (self.direction, self.place) if phrase)
        return self.tail is not None or any(nominal.heavy for nominal in (*objects, *places) if nominal)


def adverbial(adverb: Adverb | None) -> Phrase:
    """Return an adverb or fixed adverbial with the lexicon's links."""
    if adverb is None:
        return _NOTHING
    english = [English(text) for text in adverb.english]
    links = [[english[i] for i, j in adverb.links if j == place] for place in range(len(adverb.german))]
    return Phrase(english, [German(text, sure) for text, sure in zip(adverb.german, links, strict=True)])


class _Pieces(NamedTuple):
    """The phrases of a predicate; what is not there is empty."""

    accusative: Phrase
    dative: Phrase
    oblique: Phrase
    adjective: Phrase
    manner: Phrase
    direction: Phrase
    place: Phrase
    time: Phrase
    tail: Phrase
    frequency: Phrase
    negation: Phrase


def _parts(predicate: Predicate, verbs: VerbGroup, reflexive: str) -> Parts:
    """Make the phrases and put them around the verbs."""
    pieces = _Pieces(
        accusative=predicate.accusative.phrase("acc") if predicate.accusative else _NOTHING,
        dative=_dative(predicate),
        oblique=_oblique(predicate),
        adjective=_adjective(predicate.adjective),
        manner=adverbial(predicate.manner),
        direction=predicate.direction.phrase() if predicate.direction else _NOTHING,
        place=predicate.place.phrase() if predicate.place else _NOTHING,
        time=adverbial(predicate.time),
        tail=predicate.tail.after(reflexive) if predicate.tail else _NOTHING,
        frequency=adverbial(predicate.frequency),
        negation=_negation(verbs) if predicate.negated else _NOTHING,
    )
    light = [German(reflexive, (), verbs.main[-1:])] if predicate.verb.reflexive else []
    light += _light_object(predicate, pieces)
    middle, moved = _middle(_middle_order(predicate, pieces))
    return Parts(_english(predicate, verbs, pieces), verbs, light, middle, [*moved, *pieces.tail.german])


def _english(predicate: Predicate, verbs: VerbGroup, pieces: _Pieces) -> list[English]:
    """Return the English in its order."""
    pronominal = predicate.accusative is not None and predicate.accusative.pronominal
    accusative = pieces.accusative.english
    words = [
        *_english_verbs(predicate, verbs, pieces),
        *verbs.marker,
        *([*accusative, *verbs.particle] if pronominal else [*verbs.particle, *accusative]),
    ]
    # from the dative to the tail they are in English order
    for phrase in pieces[1:9]:
        words += phrase.english
    return words


def _english_verbs(predicate: Predicate, verbs: VerbGroup, pieces: _Pieces) -> list[English]:
    """Put *not* and the adverb of frequency among the English verbs.

    *has often seen*, *often wants to see*, *is not allowed to see*, *is often*; an infinitive has neither.
    """
    negation, frequency = pieces.negation.english, pieces.frequency.english
    if predicate.verb.frame == "copula" and not verbs.auxiliary:
        return [*verbs.main, *negation, *frequency]
    if predicate.tense.marker and not predicate.tense.participle:
        return [*frequency, *verbs.auxiliary, *verbs.main]
    return [*verbs.auxiliary[:1], *negation, *frequency, *verbs.auxiliary[1:], *verbs.main]


def _negation(verbs: VerbGroup) -> Phrase:
    """Return *not* and *nicht*; *can* becomes *cannot*, which is the English of *nicht* too."""
    if verbs.auxiliary and verbs.auxiliary[0].text == "can":
        verbs.auxiliary[0].text = "cannot"
        return Phrase((), [German("nicht", verbs.auxiliary)])
    word = English("not")
    return Phrase([word], [German("nicht", [word])])


def _dative(predicate: Predicate) -> Phrase:
    """Return the dative; English says *to* where there is an accusative too."""
    if predicate.dative is None:
        return _NOTHING
    phrase = predicate.dative.phrase("dat")
    if predicate.verb.frame != "ditransitive":
        return phrase
    to = English("to")
    first, *rest = phrase.german
    return Phrase([to, *phrase.english], [German(first.text, first.sure, (*first.possible, to)), *rest], phrase.tail)


def _oblique(predicate: Predicate) -> Phrase:
    """Return the prepositional object."""
    if predicate.oblique is None or predicate.verb.preposition is None:
        return _NOTHING
    return PrepositionalPhrase(predicate.verb.preposition, predicate.oblique).phrase()


def _adjective(adjective: Adjective | None) -> Phrase:
    """Return a predicative adjective, which is not inflected."""
    if adjective is None:
        return _NOTHING
    english = English(adjective.english)
    return Phrase([english], [German(adjective.german, [english])])


def _is_light(nominal: Nominal | None, phrase: Phrase) -> bool:
    """Tell a pronoun that may go before the subject; *sie* could be taken for the subject."""
    return nominal is not None and nominal.pronominal and phrase.german[0].text != "sie"


def _light_object(predicate: Predicate, pieces: _Pieces) -> list[German]:
    pairs = ((predicate.dative, pieces.dative), (predicate.accusative, pieces.accusative))
    return [word for nominal, phrase in pairs if _is_light(nominal, phrase) for word in phrase.german]


def _middle_order(predicate: Predicate, pieces: _Pieces) -> list[Phrase]:
    """Return the phrases of the German middle field in their order."""
    pronouns: list[Phrase] = []
    definite: list[Phrase] = []
    indefinite: list[Phrase] = []
    for nominal, phrase in ((predicate.dative, pieces.dative), (predicate.accusative, pieces.accusative)):
        if nominal is not None and not _is_light(nominal, phrase):
            (pronouns if nominal.pronominal else definite if nominal.definite else indefinite).append(phrase)
    before = [*pronouns, pieces.time, *definite, pieces.frequency, pieces.negation, *indefinite]
    return [*before, pieces.manner, pieces.oblique, pieces.place, pieces.direction, pieces.adjective]


def _middle(phrases: list[Phrase]) -> tuple[list[German], Sequence[German]]:
    """Return the middle field, and the relative clause that leaves it because it would stand right before the verbs."""
    filled = [phrase for phrase in phrases if phrase.german]
    if not filled:
        return [], ()
    words = [word for phrase in filled[:-1] for word in phrase.whole()]
    return [*words, *filled[-1].german], filled[-1].tail
