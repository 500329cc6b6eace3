"""Rules for noun phrases: each node makes its English and its German at once, given the case.

Links: an article links to the article, adjective to adjective, noun to noun, each word of an apposition to its own. In
*the man's dog* / *der Hund des Mannes* the German head's article has no English counterpart and is possibly linked to
the possessor. A German word that melts a preposition and an article (*im*) is surely linked to both.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from nmt.data.synthetic.german import CONTRACTIONS, Case
from nmt.data.synthetic.lexicon import (
    ABSENT,
    IMPLIED,
    PLURAL,
    THIRD,
    Adjective,
    Determiner,
    Noun,
    Preposition,
    PronounWord,
)
from nmt.data.synthetic.words import English, German, Phrase


class Nominal(ABC):
    """What can be a subject or an object."""

    person: int
    definite: bool
    reflexive: str = "sich"
    # a personal pronoun goes before everything else in the German middle field
    pronominal: bool = False
    # nominative and accusative differ in form
    distinct: bool = False
    # a clause ends it
    heavy: bool = False
    # as a possessor it goes before the German noun, in place of an article (Peters Hund)
    leads: bool = False

    @abstractmethod
    def phrase(self, case: Case) -> Phrase:
        """Return both languages, the German in this case."""

    def owner(self) -> Phrase:
        """Return the nominal as a possessor: the genitive, with 's at the last English word."""
        phrase = self.phrase("gen")
        phrase.english[-1].text += "'s"
        return phrase


class RelativeClause(ABC):
    """A clause that modifies the noun before it."""

    @abstractmethod
    def phrase(self, noun: Noun, plural: bool) -> Phrase:
        """Return both languages, the German with its commas; the relative pronoun agrees with ``noun``."""


@final
class Pronoun(Nominal):
    """A pronoun."""

    definite = True

    def __init__(self, word: PronounWord) -> None:
        self.word = word
        self.person = word.person
        self.reflexive = word.reflexive
        self.pronominal = word.personal
        self.distinct = word.german["nom"] in ("ich", "er", "wir", "jeder")

    def phrase(self, case: Case) -> Phrase:
        """Return the subject form in the nominative, else the object form."""
        english = English(self.word.english if case == "nom" else self.word.object)
        return Phrase([english], [German(self.word.german[case], [english])])


@final
class Name(Nominal):
    """A given name; both languages write it alike."""

    person = THIRD
    definite = True
    leads = True

    def __init__(self, name: str) -> None:
        self.name = name

    def phrase(self, case: Case) -> Phrase:
        """Return the name; only the German genitive has an ending."""
        english = English(self.name)
        return Phrase([english], [German(self.name + ("s" if case == "gen" else ""), [english])])


@final
@dataclass(frozen=True, slots=True, eq=False)
class PrepositionalPhrase:
    """A preposition with its nominal."""

    preposition: Preposition
    nominal: Nominal

    def phrase(self) -> Phrase:
        """Return both languages; *in dem* is *im*, but not before a relative clause (in dem Haus, das)."""
        inner = self.nominal.phrase(self.preposition.case)
        english = English(self.preposition.english)
        first, *rest = inner.german
        melted = CONTRACTIONS.get((self.preposition.german, first.text))
        if melted and not inner.tail:
            german = [German(melted, (english, *first.sure), first.possible), *rest]
        else:
            german = [German(self.preposition.german, [english]), first, *rest]
        return Phrase([english, *inner.english], german, inner.tail)


@final
class NounPhrase(Nominal):
    """Determiner, adjectives and noun, with what may go with them.

    Args:
        determiner: the article; ignored when there is a possessor.
        noun: the head.
        plural: number.
        adjectives: in order.
        possessor: a singular noun phrase, a name or *whose*.
        apposition: pairs of an English and a German word after the noun, linked one to one and not inflected.
        modifier: a prepositional phrase after the noun.
        relative: a relative clause after the noun.
    """

    def __init__(
        self,
        determiner: Determiner,
        noun: Noun,
        *,
        plural: bool = False,
        adjectives: tuple[Adjective, ...] = (),
        possessor: Nominal | None = None,
        apposition: tuple[tuple[str, str], ...] = (),
        modifier: PrepositionalPhrase | None = None,
        relative: RelativeClause | None = None,
    ) -> None:
        self.determiner = determiner
        self.noun = noun
        self.plural = plural
        self.adjectives = adjectives
        self.possessor = possessor
        self.apposition = apposition
        self.modifier = modifier
        self.relative = relative
        self.person = PLURAL if plural else THIRD
        self.heavy = relative is not None
        self.definite = determiner.definite or possessor is not None
        self.distinct = not plural and noun.gender == "m" and not (possessor and possessor.leads)

    def phrase(self, case: Case) -> Phrase:
        """Return both languages in this case."""
        if self.possessor is None:
            core = self._core(self.determiner, self._article(case), Phrase((), ()), case)
        else:
            core = self._possessed(self.possessor, case)
        english, german = list(core.english), list(core.german)
        if self.modifier is not None:
            modifier = self.modifier.phrase()
            english += modifier.english
            german += modifier.german
        if self.relative is None:
            return Phrase(english, german)
        relative = self.relative.phrase(self.noun, self.plural)
        return Phrase(english + list(relative.english), german, relative.german)

    def _article(self, case: Case) -> Phrase:
        text = self.determiner.english[self.plural]
        if not text:
            return Phrase((), ())
        if text == "a" and (self.adjectives[0].english if self.adjectives else self.noun.english[0])[0] in "aeiou":
            text = "an"
        english = English(text)
        return Phrase([english], [German(self._article_form(self.determiner, case), [english])])

    def _article_form(self, determiner: Determiner, case: Case) -> str:
        return determiner.forms[case][self.noun.agreement(self.plural)]

    def _possessed(self, possessor: Nominal, case: Case) -> Phrase:
        """Return *Peters Hund* for a name, *dessen Hund* for *whose*, *der Hund des Mannes* for a noun phrase."""
        owner = possessor.owner()
        if possessor.leads:
            return self._core(ABSENT, owner, Phrase((), ()), case)
        article = German(self._article_form(IMPLIED, case), (), [owner.english[-1]])
        return self._core(IMPLIED, Phrase(owner.english, [article]), Phrase((), owner.german), case)

    def _core(self, determiner: Determiner, before: Phrase, after: Phrase, case: Case) -> Phrase:
        """Put the adjectives, the noun and its apposition between what goes before and what goes after."""
        agreement = self.noun.agreement(self.plural)
        english, german = list(before.english), list(before.german)
        for adjective in self.adjectives:
            word = English(adjective.english)
            english.append(word)
            german.append(German(adjective.inflected(determiner.declension, case, agreement), [word]))
        word = English(self.noun.english[self.plural])
        noun = German(self.noun.german(case, self.plural), [word])
        named = [English(text) for text, _ in self.apposition]
        names = [German(text, [name]) for name, (_, text) in zip(named, self.apposition, strict=True)]
        return Phrase([*english, word, *named], [*german, noun, *names, *after.german])


@final
class Both(Nominal):
    """Two noun phrases joined by *and*."""

    person = PLURAL

    def __init__(self, first: Nominal, second: Nominal) -> None:
        self.first = first
        self.second = second
        self.definite = first.definite and second.definite

    def phrase(self, case: Case) -> Phrase:
        """Return both, each in the case."""
        first, second, word = self.first.phrase(case), self.second.phrase(case), English("and")
        english = [*first.english, word, *second.english]
        return Phrase(english, [*first.german, German("und", [word]), *second.german])
