"""Rules for predicates, clauses and sentences: where the two languages differ in order.

German::

    main clause   subject | finite | middle | prefix, participle or infinitive | after
    fronted       fronted | finite | subject, middle | prefix, participle or infinitive | after
    subordinate   conjunction | subject, middle | participle or infinitive, finite | after
    infinitive    middle | zu and infinitive | after

    middle  reflexive, pronouns, time, definite dative, definite accusative, frequency, nicht, indefinite dative, indefinite
            accusative, manner, prepositional object, place, direction, predicative adjective
    after   a relative clause from the end of the middle; subordinate clauses; infinitives

English: fronted, subject, auxiliary, not, frequency, verb, preposition of *look for*, particle, accusative (a pronoun goes
before the particle), dative, prepositional object, adjective, manner, direction, place, time, clause.

Links beyond those of ``nominals`` and ``verb_groups``: a German reflexive pronoun is possibly linked to the verb, the *to* of
*give to* possibly to the first word of the dative, *in order to* surely to *um* (in, order) and *zu* (to).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

from nmt.data.synthetic.german import RELATIVE, Case
from nmt.data.synthetic.lexicon import BARE, PLURAL, THIRD, Adjective, Adverb, Noun, Preposition
from nmt.data.synthetic.nominals import Nominal, NounPhrase, PrepositionalPhrase, RelativeClause
from nmt.data.synthetic.verb_groups import VerbGroup, finite_group, infinitive_group
from nmt.data.synthetic.verbs import CONJUNCTIONS, Tense, Verb
from nmt.data.synthetic.words import SEMICOLON, English, German, Pair, Phrase, english_comma, finish, german_comma

_NOTHING = Phrase((), ())


class Tail(ABC):
    """What follows the verbs at the end of a clause."""

    @abstractmethod
    def after(self, reflexive: str) -> Phrase:
        """Return both languages, the German with its commas; ``reflexive`` is the pronoun for the clause's subject."""


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

    def finite(self, person: int, reflexive: str) -> "Parts":
        """Return the predicate of a subject in this person."""
        return _parts(self, finite_group(self.verb, self.tense, person, negated=self.negated), reflexive)

    def infinitive(self, reflexive: str) -> "Parts":
        """Return the predicate with *to* and *zu*."""
        return _parts(self, infinitive_group(self.verb), reflexive)

    def ends_in_clause(self) -> bool:
        """Tell whether a clause ends it: what follows would belong to that clause."""
        objects = (self.accusative, self.dative, self.oblique)
        places = (phrase.nominal for phrase in (self.direction, self.place) if phrase)
        return self.tail is not None or any(nominal.heavy for nominal in (*objects, *places) if nominal)


class Parts(NamedTuple):
    """A predicate: the whole English, and the German by its slots."""

    english: list[English]
    verbs: VerbGroup
    middle: list[German]
    after: list[German]

    def second(self) -> tuple[list[German], list[German]]:
        """Return the German finite verb, and what follows the subject, of a main clause."""
        return self.verbs.finite, [*self.middle, *self.verbs.bracket, *self.after]

    def last(self) -> list[German]:
        """Return the German of a subordinate clause."""
        return [*self.middle, *self.verbs.joined, *self.after]


def adverbial(adverb: Adverb | None) -> Phrase:
    """Return an adverb or fixed adverbial with the lexicon's links."""
    if adverb is None:
        return _NOTHING
    english = [English(text) for text in adverb.english]
    links = [[english[i] for i, j in adverb.links if j == place] for place in range(len(adverb.german))]
    return Phrase(english, [German(text, sure) for text, sure in zip(adverb.german, links, strict=True)])


def _parts(predicate: Predicate, verbs: VerbGroup, reflexive: str) -> Parts:
    """Put objects and adverbials around the verbs, in the order of either language."""
    accusative = predicate.accusative.phrase("acc") if predicate.accusative else _NOTHING
    dative = _dative(predicate)
    frequency, manner, time = map(adverbial, (predicate.frequency, predicate.manner, predicate.time))
    direction, place = (phrase.phrase() if phrase else _NOTHING for phrase in (predicate.direction, predicate.place))
    rest = (_oblique(predicate), _adjective(predicate.adjective), manner, direction, place, time)
    tail = predicate.tail.after(reflexive) if predicate.tail else _NOTHING
    negation = _negation(predicate, verbs)
    pronominal = predicate.accusative is not None and predicate.accusative.pronominal
    objects = (accusative.english, verbs.particle) if pronominal else (verbs.particle, accusative.english)
    english = [*_english_verbs(predicate, verbs, negation, frequency), *verbs.marker, *objects[0], *objects[1]]
    for phrase in (dative, *rest, tail):
        english += phrase.english
    oblique, adjective = rest[:2]
    before, definite, indefinite = _objects(predicate, dative, accusative)
    nicht = Phrase((), [German("nicht", negation)]) if negation else _NOTHING
    middle, moved = _middle(
        [_reflexive(predicate.verb, verbs, reflexive), *before, time, *definite, frequency, nicht]
        + [*indefinite, manner, oblique, place, direction, adjective]
    )
    return Parts(english, verbs, middle, [*moved, *tail.german])


def _negation(predicate: Predicate, verbs: VerbGroup) -> list[English]:
    """Return *not*, or *cannot* in place of the auxiliary, which then is the English of *kann* and of *nicht*."""
    if not predicate.negated:
        return []
    if verbs.auxiliary and verbs.auxiliary[0].text == "can":
        verbs.auxiliary[0].text = "cannot"
        return verbs.auxiliary
    return [English("not")]


def _english_verbs(
    predicate: Predicate, verbs: VerbGroup, negation: list[English], frequency: Phrase
) -> list[English]:
    """Put *not* and the adverb of frequency among the English verbs (has often seen, often wants to see, is often)."""
    if predicate.verb.frame == "copula" and not verbs.auxiliary:
        return [*verbs.main, *negation, *frequency.english]
    if negation == verbs.auxiliary:
        negation = []
    if predicate.tense.marker:
        return [*frequency.english, *verbs.auxiliary, *verbs.main]
    return [*verbs.auxiliary, *negation, *frequency.english, *verbs.main]


def _reflexive(verb: Verb, verbs: VerbGroup, reflexive: str) -> Phrase:
    return Phrase((), [German(reflexive, (), verbs.main[-1:])]) if verb.reflexive else _NOTHING


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


def _objects(predicate: Predicate, dative: Phrase, accusative: Phrase) -> tuple[list[Phrase], ...]:
    """Return the objects that are pronouns, definite and indefinite; dative before accusative within each."""
    slots: tuple[list[Phrase], ...] = ([], [], [])
    for nominal, phrase in ((predicate.dative, dative), (predicate.accusative, accusative)):
        if nominal is not None:
            slots[0 if nominal.pronominal else 1 if nominal.definite else 2].append(phrase)
    return slots


def _middle(phrases: list[Phrase]) -> tuple[list[German], Sequence[German]]:
    """Return the middle field and the relative clause that leaves it because it would stand right before the verbs."""
    filled = [phrase for phrase in phrases if phrase.german]
    words = [word for phrase in filled[:-1] for word in phrase.whole()]
    if not filled:
        return words, ()
    return [*words, *filled[-1].german], filled[-1].tail


def _last(predicates: Sequence[Predicate], person: int, reflexive: str) -> Phrase:
    """Return coordinated predicates with the finite verb last in German."""
    english: list[English] = []
    german: list[German] = []
    for place, predicate in enumerate(predicates):
        if place:
            _and(english, german)
        part = predicate.finite(person, reflexive)
        english += part.english
        german += part.last()
    return Phrase(english, german)


def _and(english: list[English], german: list[German]) -> None:
    word = English("and")
    english.append(word)
    german.append(German("und", [word]))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Clause:
    """A subject with one predicate or two joined by *and*; ``front`` is what a main clause puts before the subject."""

    subject: Nominal
    predicates: tuple[Predicate, ...]
    front: "Adverb | PrepositionalPhrase | Subordinate | None" = None

    def main(self) -> Phrase:
        """Return the clause with the German finite verb second."""
        fronted = self._fronted()
        subject = self.subject.phrase("nom")
        part = self.predicates[0].finite(self.subject.person, self.subject.reflexive)
        finite, rest = part.second()
        first, second = (fronted.german, subject.whole()) if self.front else (subject.whole(), [])
        english = [*fronted.english, *subject.english, *part.english]
        german = [*first, *finite, *second, *rest]
        for predicate in self.predicates[1:]:
            _and(english, german)
            part = predicate.finite(self.subject.person, self.subject.reflexive)
            finite, rest = part.second()
            english += part.english
            german += finite + rest
        return Phrase(english, german)

    def last(self) -> Phrase:
        """Return the clause with the German finite verb last."""
        subject = self.subject.phrase("nom")
        rest = _last(self.predicates, self.subject.person, self.subject.reflexive)
        return Phrase([*subject.english, *rest.english], [*subject.whole(), *rest.german])

    def _fronted(self) -> Phrase:
        if isinstance(self.front, Subordinate):
            phrase = self.front.phrase()
            return Phrase([*phrase.english, english_comma()], [*phrase.german, german_comma()])
        if isinstance(self.front, PrepositionalPhrase):
            return self.front.phrase()
        return adverbial(self.front)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Subordinate(Tail):
    """A clause with its conjunction, as a complement, an adverbial at the end or in front."""

    conjunction: str
    clause: Clause

    def phrase(self) -> Phrase:
        """Return both languages without commas around."""
        word, inner = English(self.conjunction), self.clause.last()
        return Phrase([word, *inner.english], [German(CONJUNCTIONS[self.conjunction], [word]), *inner.german])

    def after(self, reflexive: str) -> Phrase:
        """Return both languages, the German between commas."""
        phrase = self.phrase()
        return Phrase(phrase.english, [german_comma(), *phrase.german, german_comma()])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Infinitive(Tail):
    """*to open the door*, *die Tür zu öffnen*; with ``purpose`` *in order to* and *um zu*."""

    predicate: Predicate
    purpose: bool = False

    def after(self, reflexive: str) -> Phrase:
        """Return both languages; a bare *zu schlafen* has no commas."""
        part = self.predicate.infinitive(reflexive)
        if not self.purpose:
            comma = [german_comma()] if part.middle or part.after else []
            return Phrase(part.english, [*comma, *part.last(), *comma])
        words = [English("in"), English("order")]
        german = [german_comma(), German("um", words), *part.last(), german_comma()]
        return Phrase([*words, *part.english], german)


def _between_commas(english: Sequence[English], german: Sequence[German]) -> Phrase:
    return Phrase(english, [german_comma(), *german, german_comma()])


def _pronoun(noun: Noun, plural: bool, case: Case, *, bare: bool) -> tuple[English, German]:
    """Return who, whom, which or that, and der, die, das in the case; ``bare`` is without a preposition before it."""
    person = "who" if case == "nom" else "whom"
    english = English(person if noun.person else "that" if bare else "which")
    return english, German(RELATIVE[case][noun.agreement(plural)], [english])


@final
@dataclass(frozen=True, slots=True, eq=False)
class SubjectRelative(RelativeClause):
    """*who sees the dog*, *der den Hund sieht*."""

    predicates: tuple[Predicate, ...]

    def phrase(self, noun: Noun, plural: bool) -> Phrase:
        """Return the clause; its verb agrees with the noun."""
        english, german = _pronoun(noun, plural, "nom", bare=True)
        rest = _last(self.predicates, PLURAL if plural else THIRD, "sich")
        return _between_commas([english, *rest.english], [german, *rest.german])


@final
@dataclass(frozen=True, slots=True, eq=False)
class ObjectRelative(RelativeClause):
    """*whom the man sees*, *den der Mann sieht*; with a dative gap of two objects *to whom*, *dem*."""

    clause: Clause
    case: Case

    def phrase(self, noun: Noun, plural: bool) -> Phrase:
        """Return the clause, whose predicate lacks the object in ``case``."""
        to = self.case == "dat" and self.clause.predicates[0].verb.frame == "ditransitive"
        english, german = _pronoun(noun, plural, self.case, bare=not to)
        before = [English("to")] if to else []
        rest = self.clause.last()
        pronoun = German(german.text, german.sure, before)
        return _between_commas([*before, english, *rest.english], [pronoun, *rest.german])


@final
@dataclass(frozen=True, slots=True, eq=False)
class PrepositionRelative(RelativeClause):
    """*in which the man lives*, *in dem der Mann wohnt*."""

    preposition: Preposition
    clause: Clause

    def phrase(self, noun: Noun, plural: bool) -> Phrase:
        """Return the clause, whose predicate lacks the prepositional phrase."""
        word = English(self.preposition.english)
        english, german = _pronoun(noun, plural, self.preposition.case, bare=False)
        rest = self.clause.last()
        return _between_commas(
            [word, english, *rest.english], [German(self.preposition.german, [word]), german, *rest.german]
        )


@final
class Whose(Nominal):
    """*whose*, *dessen* or *deren*, as the possessor of what follows."""

    leads = True
    person = THIRD
    definite = True

    def __init__(self, noun: Noun, plural: bool) -> None:
        self.german = RELATIVE["gen"][noun.agreement(plural)]

    def phrase(self, case: Case) -> Phrase:
        """Return the pronoun."""
        english = English("whose")
        return Phrase([english], [German(self.german, [english])])

    def owner(self) -> Phrase:
        """Return the pronoun, which has no 's."""
        return self.phrase("gen")


@final
@dataclass(frozen=True, slots=True, eq=False)
class PossessiveRelative(RelativeClause):
    """*whose old dog barks*, *dessen alter Hund bellt*."""

    possessed: Noun
    adjectives: tuple[Adjective, ...]
    predicates: tuple[Predicate, ...]

    def phrase(self, noun: Noun, plural: bool) -> Phrase:
        """Return the clause."""
        subject = NounPhrase(BARE, self.possessed, adjectives=self.adjectives, possessor=Whose(noun, plural))
        rest = Clause(subject, self.predicates).last()
        return _between_commas(rest.english, rest.german)


def sentence(clauses: Sequence[Clause], joints: Sequence[str]) -> Pair:
    """Join main clauses into a sentence: each joint is *and* or *but* after a comma, or ``;``."""
    first, *rest = [clause.main() for clause in clauses]
    english, german = list(first.english), list(first.german)
    for joint, phrase in zip(joints, rest, strict=True):
        if joint == SEMICOLON:
            english.append(English(SEMICOLON))
            german.append(German(SEMICOLON))
        else:
            word = English(joint)
            english += [english_comma(), word]
            german += [german_comma(), German({"and": "und", "but": "aber"}[joint], [word])]
        english += phrase.english
        german += phrase.german
    return finish(english, german)
