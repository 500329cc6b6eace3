"""Rules for clauses and sentences: where the German verbs go.

German::

    main clause   subject | finite | middle | prefix, participle or infinitive | after
    fronted       fronted | finite | subject, middle | prefix, participle or infinitive | after
    subordinate   conjunction or relative pronoun | subject, middle | participle or infinitive, finite | after
    infinitive    middle | zu and infinitive | after

A relative clause of the subject stays with it; one at the end of the middle goes after the verbs (``predicates``).
English puts a comma after a fronted clause only, German one at either side of every clause but a bare *zu schlafen*.

Links: conjunctions and relative pronouns to each other; *in order to* surely to *um* (in, order) and *zu* (to); the
*to* of *to whom* possibly to the pronoun.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from nmt.data.synthetic.german import RELATIVE, Case
from nmt.data.synthetic.lexicon import BARE, PLURAL, THIRD, Adjective, Adverb, Noun, Preposition
from nmt.data.synthetic.nominals import Nominal, NounPhrase, PrepositionalPhrase, RelativeClause
from nmt.data.synthetic.predicates import Predicate, Tail, adverbial
from nmt.data.synthetic.verbs import CONJUNCTIONS
from nmt.data.synthetic.words import SEMICOLON, English, German, Pair, Phrase, english_comma, finish, german_comma


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
        front = self._fronted()
        subject = self.subject.phrase("nom")
        parts = [predicate.finite(self.subject.person, self.subject.reflexive) for predicate in self.predicates]
        first, more = parts[0], parts[1:]
        english = [*front.english, *subject.english, *first.english]
        if self.front:
            german = [*front.german, *first.second(subject.whole(), light_first=not self.subject.pronominal)]
        else:
            german = [*subject.whole(), *first.second()]
        for part in more:
            _and(english, german)
            english += part.english
            german += part.second()
        return Phrase(english, german)

    def last(self) -> Phrase:
        """Return the clause with the German finite verb last.

        A pronoun goes before a noun as subject, unless the noun is the subject of a second predicate too.
        """
        subject = self.subject.phrase("nom")
        first, more = self.predicates[0], self.predicates[1:]
        if more:
            rest = _last(self.predicates, self.subject.person, self.subject.reflexive)
            return Phrase([*subject.english, *rest.english], [*subject.whole(), *rest.german])
        part = first.finite(self.subject.person, self.subject.reflexive)
        german = part.last(subject.whole(), light_first=not self.subject.pronominal)
        return Phrase([*subject.english, *part.english], german)

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
            comma = [german_comma()] if part.light or part.middle or part.after else []
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
        head = subject.phrase("nom")
        # dessen and deren stay first: no pronoun goes before this subject
        rest = _last(self.predicates, subject.person, subject.reflexive)
        return _between_commas([*head.english, *rest.english], [*head.german, *rest.german])


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
