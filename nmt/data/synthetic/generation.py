"""Draws sentences from the grammar.

What is drawn is decidable: a relative clause or a clause after the verb ends its English clause, so everything that
follows belongs to the innermost clause; clauses are coordinated in main position only, after a comma (a semicolon
where the clause before ends in another clause); of two coordinated predicates the first has no negation and no
clause, and both have the same tense with an auxiliary of their own; an object relative clause is drawn only where
German shows which noun is the subject.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple, TypeVar

from nmt.data.synthetic import choices, lexicon
from nmt.data.synthetic.clauses import (
    Clause,
    Infinitive,
    ObjectRelative,
    PossessiveRelative,
    PrepositionRelative,
    SubjectRelative,
    Subordinate,
    sentence,
)
from nmt.data.synthetic.copies import Copies
from nmt.data.synthetic.lexicon import GROUPS, THIRD, Adjective, Adverb, Noun, adjectives_for
from nmt.data.synthetic.nominals import Both, Name, Nominal, NounPhrase, PrepositionalPhrase, Pronoun, RelativeClause
from nmt.data.synthetic.predicates import Predicate, Tail
from nmt.data.synthetic.verbs import BE, PLUPERFECT, PRESENT, Tense, Verb
from nmt.data.synthetic.words import MARKS, SEMICOLON, Pair

T = TypeVar("T")
_ANYONE = Name(lexicon.NAMES[0])


class _Subject(NamedTuple):
    """A subject with what its predicate must know."""

    nominal: Nominal
    # person, animal, dog or thing
    kind: str
    adjectives: tuple[Adjective, ...]
    quantified: bool = False
    first: bool = False


class _Context(NamedTuple):
    """What a predicate must know of its clause."""

    subject: _Subject
    tense: Tense
    # the front has a place or a time already
    placed: bool = False
    timed: bool = False
    negatable: bool = True


class Generator:
    """An endless source of sentence pairs that depends on ``seed`` alone.

    Only ``Random.random`` is used, whose values are the same in every version of Python.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed).random
        self._past = False
        # a factor of the probability of everything optional, drawn for each sentence
        self._rich = 0.5
        # where made-up names and numbers of this sentence come from, and those drawn so far
        self._copies: Copies | None = None
        self._copied: set[str] = set()

    def pair(self, clauses: int, copies: Copies | None = None) -> Pair:
        """Draw a sentence of so many clauses, infinitives included; with ``copies`` one that has a name or number."""
        self._copies, self._copied = copies, set()
        pair = self._pair(clauses)
        while copies is not None and self._copied.isdisjoint(word.rstrip(MARKS) for word in pair.english_words):
            pair = self._pair(clauses)
        return pair

    def _pair(self, clauses: int) -> Pair:
        self._past = self._chance(0.5)
        self._rich = 0.1 + 0.9 * self._random()
        drawn = [self._main_clause(size) for size in self._main_sizes(clauses)]
        joints = [
            SEMICOLON if clause.predicates[-1].ends_in_clause() else self._choice(("and", "and", "but"))
            for clause in drawn[:-1]
        ]
        return sentence(drawn, joints)

    def number(self, weights: Sequence[int]) -> int:
        """Draw an index with a probability proportional to its weight."""
        left = int(self._random() * sum(weights))
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        raise AssertionError("the weights sum to more than was drawn")

    def _choice(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def _chance(self, probability: float) -> bool:
        return self._random() < probability

    def _optional(self, probability: float) -> bool:
        return self._random() < probability * self._rich

    # clauses

    def _main_sizes(self, clauses: int) -> list[int]:
        """Split the clauses over one main clause or several coordinated ones."""
        count = 1
        while count < clauses and self._chance(0.25 if clauses < 4 else 0.5):
            count += 1
        sizes = [1] * count
        for _ in range(clauses - count):
            sizes[int(self._random() * count)] += 1
        return sizes

    def _main_clause(self, size: int) -> Clause:
        """Draw a main clause of so many clauses, with something in front of the subject or not."""
        front, inside, end = self._sites(size - 1, (3, 2, 5))
        subject = self._subject(inside)
        context = _Context(subject, self._tense(subject.kind, quantified=subject.quantified))
        if front:
            return Clause(subject.nominal, self._predicates(context, end), self._adverbial_clause(front))
        return self._fronted_clause(context, end)

    def _fronted_clause(self, context: _Context, end: int) -> Clause:
        """Draw a main clause with a time, a place, another adverb or nothing in front."""
        front: Adverb | PrepositionalPhrase | None = None
        drawn = self._random()
        if drawn < 0.2:
            front = self._choice(lexicon.TIMES[context.tense.time])
            context = context._replace(timed=True)
        elif drawn < 0.28 and context.subject.kind != "thing":
            front = self._place()
            context = context._replace(placed=True)
        elif drawn < 0.36:
            front = self._choice(lexicon.OPENERS)
        return Clause(context.subject.nominal, self._predicates(context, end), front)

    def _clause(self, size: int, tense: Tense | None = None) -> Clause:
        """Draw a clause that is not main, in this tense or any."""
        _, inside, end = self._sites(size - 1, (0, 3, 7))
        subject = self._subject(inside)
        tense = tense or self._tense(subject.kind, quantified=subject.quantified)
        return Clause(subject.nominal, self._predicates(_Context(subject, tense), end))

    def _sites(self, clauses: int, weights: tuple[int, int, int]) -> list[int]:
        """Say how many clauses go in front, into the subject and to the end."""
        sites = [0, 0, 0]
        for _ in range(clauses):
            sites[self.number(weights)] += 1
        return sites

    def _tense(self, kind: str, *, quantified: bool = False) -> Tense:
        """Draw a tense; things want nothing, and *nobody must* is not *niemand muss*."""
        tense = self._choice(choices.TENSES[self._past])
        plain = kind == "thing" or (quantified and not tense.negatable)
        return choices.PLAIN_TENSE[self._past] if plain else tense

    def _adverbial_clause(self, clauses: int) -> Subordinate:
        conjunction = self._choice(choices.CONJUNCTIONS[self._past])
        tense = None
        if conjunction == "after":
            tense = PLUPERFECT
        elif conjunction in choices.PLAIN_CONJUNCTIONS:
            tense = choices.PLAIN_TENSE[self._past]
        return Subordinate(conjunction, self._clause(clauses, tense))

    # nominals

    def _subject(self, relative: int, *, person: bool = False) -> _Subject:
        """Draw a subject; ``relative`` clauses, if any, modify it."""
        if not relative and self._copying():
            return _Subject(self._made_up_name(), "person", choices.PERSON_ADJECTIVES)
        drawn = self._random() * (0.78 if person else 1.0)
        if not relative and drawn < 0.2:
            word = self._choice(choices.SUBJECT_PRONOUNS)
            quantified, first = word in choices.QUANTIFYING_PRONOUNS, word in choices.FIRST_PRONOUNS
            return _Subject(Pronoun(word), "person", choices.PERSON_ADJECTIVES, quantified, first)
        if not relative and drawn < 0.28:
            return _Subject(Name(self._choice(lexicon.NAMES)), "person", choices.PERSON_ADJECTIVES)
        kind = "person" if drawn < 0.78 else "animal" if drawn < 0.93 else "thing"
        noun = self._choice(GROUPS[kind])
        if not relative and kind == "person" and self._optional(0.15):
            return _Subject(self._both(kind), kind, choices.PERSON_ADJECTIVES)
        phrase = self._noun_phrase(noun, no=True, relative=relative, subject=True)
        quantified = phrase.determiner in choices.QUANTIFIERS
        adjectives = adjectives_for(noun, phrase.adjectives)
        return _Subject(phrase, "dog" if noun is choices.DOG else kind, adjectives, quantified)

    def _both(self, group: str) -> Both:
        """Draw two different nouns of a group, joined by *and*."""
        nouns = GROUPS[group]
        first = int(self._random() * len(nouns))
        second = (first + 1 + int(self._random() * (len(nouns) - 1))) % len(nouns)
        return Both(self._plain(nouns[first]), self._plain(nouns[second]))

    def _plain(self, noun: Noun) -> NounPhrase:
        return NounPhrase(self._choice(choices.COORDINATED), noun, adjectives=self._adjectives(noun))

    def _object(self, group: str, *, definite: bool, no: bool, first: bool, relative: int = 0) -> Nominal:
        """Draw an object: a pronoun (not *me* for *I*), a name, two nouns or a noun phrase."""
        noun = self._choice(GROUPS[group])
        if relative:
            return self._noun_phrase(noun, definite=definite, relative=relative)
        if noun.person and self._copying():
            return self._made_up_name()
        drawn = self._random()
        if noun.person and drawn < 0.22:
            thirds = choices.THIRD_PRONOUNS
            return Pronoun(self._choice(thirds if first else (*thirds, *choices.FIRST_PRONOUNS)))
        if noun.person and drawn < 0.3:
            return Name(self._choice(lexicon.NAMES))
        if not definite and len(GROUPS[group]) > 3 and self._optional(0.12):
            return self._both(group)
        return self._noun_phrase(noun, definite=definite, no=no)

    def _noun_phrase(
        self, noun: Noun, *, definite: bool = False, no: bool = False, relative: int = 0, subject: bool = False
    ) -> NounPhrase:
        """Draw a noun phrase; one with a relative clause has neither possessor nor prepositional phrase."""
        plural = self._chance(0.28)
        determiner = self._determiner(plural=plural, definite=definite, no=no)
        adjectives = self._adjectives(noun)
        if relative:
            clause = self._relative(noun, plural, relative, adjectives)
            label = self._apposition(noun, determiner, plural=plural)
            return NounPhrase(determiner, noun, plural=plural, adjectives=adjectives, apposition=label, relative=clause)
        if self._optional(0.12):
            owner = self._possessor()
            return NounPhrase(lexicon.IMPLIED, noun, plural=plural, adjectives=adjectives, possessor=owner)
        modifier = self._modifier(noun, subject=subject) if self._optional(0.15) else None
        label = self._apposition(noun, determiner, plural=plural)
        return NounPhrase(determiner, noun, plural=plural, adjectives=adjectives, apposition=label, modifier=modifier)

    def _determiner(self, *, plural: bool, definite: bool, no: bool) -> lexicon.Determiner:
        if no and not definite and self._chance(0.05):
            return lexicon.NO
        if plural:
            return self._choice(choices.PLURAL_DEFINITE if definite else choices.PLURAL)
        return self._choice(choices.SINGULAR_DEFINITE if definite else choices.SINGULAR)

    def _adjectives(self, noun: Noun) -> tuple[Adjective, ...]:
        """Draw no adjective, one, or for a thing a size or age and a colour."""
        if not self._optional(0.6):
            return ()
        if noun in GROUPS["thing"] and noun not in lexicon.ABSTRACT and self._optional(0.2):
            return self._choice(choices.SIZES), self._choice(choices.COLOURS)
        return (self._choice(adjectives_for(noun)),)

    def _possessor(self) -> Nominal:
        if self._chance(0.3):
            return Name(self._choice(lexicon.NAMES))
        noun = self._choice(GROUPS["person"])
        return NounPhrase(self._choice(choices.SINGULAR_DEFINITE), noun, adjectives=self._adjectives(noun))

    def _modifier(self, noun: Noun, *, subject: bool) -> PrepositionalPhrase | None:
        """Draw a place for an animate subject, *with* or *without* something for a person."""
        if subject and noun in GROUPS["animate"] and self._chance(0.5):
            return self._place()
        if not noun.person:
            return None
        preposition = self._choice((lexicon.WITH, lexicon.WITH, lexicon.WITHOUT))
        return PrepositionalPhrase(preposition, self._plain(self._choice(lexicon.COMPANIONS)))

    def _place(self, relative: int = 0) -> PrepositionalPhrase:
        preposition, nouns = self._choice(lexicon.PLACE_PHRASES)
        return PrepositionalPhrase(preposition, self._place_noun(self._choice(nouns), relative))

    def _direction(self, verb: Verb, relative: int = 0) -> PrepositionalPhrase:
        return PrepositionalPhrase(lexicon.INTO, self._place_noun(self._choice(GROUPS[verb.object]), relative))

    def _place_noun(self, noun: Noun, relative: int) -> NounPhrase:
        plural = self._chance(0.1)
        determiner = self._determiner(plural=plural, definite=True, no=False)
        adjectives = self._adjectives(noun)
        clause = self._relative(noun, plural, relative, adjectives) if relative else None
        label = self._apposition(noun, determiner, plural=plural)
        return NounPhrase(determiner, noun, plural=plural, adjectives=adjectives, apposition=label, relative=clause)

    # made-up names and numbers, which both languages write alike

    def _copying(self) -> bool:
        """Tell whether a name or number goes where it may; never, and nothing is drawn, in a sentence without."""
        return self._copies is not None and self._chance(0.3)

    def _copy(self, draw: Callable[[], str]) -> str:
        text = draw()
        self._copied.add(text)
        return text

    def _made_up_name(self) -> Name:
        assert self._copies is not None, "a sentence with copies"
        return Name(self._copy(self._copies.name))

    def _apposition(self, noun: Noun, determiner: lexicon.Determiner, *, plural: bool) -> tuple[tuple[str, str], ...]:
        """Draw *the teacher Marovik*, *the room number 4711* or nothing; what is definite and singular has it."""
        if plural or not determiner.definite or determiner in choices.QUANTIFIERS or not self._copying():
            return ()
        assert self._copies is not None, "a sentence with copies"
        text = self._copy(self._copies.name if noun.person else self._copies.number)
        return ((text, text),) if noun.person else (("number", "Nummer"), (text, text))

    # predicates

    def _predicates(self, context: _Context, end: int) -> tuple[Predicate, ...]:
        """Draw one predicate or two joined by *and*; the last one ends in so many clauses."""
        last = self._heavy(context, end) if end else self._light(context)
        if context.subject.kind == "thing" or last.verb is BE or not self._optional(0.2):
            return (last,)
        first = self._light(context._replace(placed=True, timed=True, negatable=False))
        return (last,) if first.verb is last.verb else (first, last)

    def _light(self, context: _Context) -> Predicate:
        """Draw a predicate without a clause."""
        kind = context.subject.kind
        negatable = context.negatable and context.tense.negatable and not context.subject.quantified
        negated = negatable and self._chance(0.12)
        if kind == "thing" or self._chance(0.08):
            return self._copula(context, negated=negated)
        return self._filled(context, self._choice(choices.PLAIN_VERBS[kind]), negated=negated)

    def _copula(self, context: _Context, *, negated: bool = False, tail: Tail | None = None) -> Predicate:
        time = None if tail else self._time(context, 0.2)
        return Predicate(
            BE,
            choices.PLAIN_TENSE[self._past] if context.tense.active else context.tense,
            negated=negated,
            adjective=self._choice(context.subject.adjectives),
            frequency=None if negated or time else self._frequency(context),
            time=time,
            tail=tail,
        )

    def _filled(
        self, context: _Context, verb: Verb, *, negated: bool = False, tail: Tail | None = None, gap: str = ""
    ) -> Predicate:
        """Fill a verb's frame, but for the ``gap`` of a relative clause, and add adverbials."""
        frame = verb.frame
        nominals = self._nominals(context, verb, gap, definite=negated)
        quantified = any(_says_no(nominal) for nominal in nominals.values())
        time = self._time(context, 0.3)
        loose = frame not in ("direction", "place") and not gap
        place = gap != "place" and (frame == "place" or (loose and not context.placed and self._optional(0.25)))
        return Predicate(
            verb,
            context.tense,
            negated=negated,
            frequency=None if negated or quantified or time else self._frequency(context),
            manner=self._manner() if verb.action and loose and not quantified else None,
            direction=self._direction(verb) if frame == "direction" else None,
            place=self._place() if place else None,
            time=time,
            tail=tail,
            accusative=nominals.get("accusative"),
            dative=nominals.get("dative"),
            oblique=nominals.get("oblique"),
        )

    def _nominals(self, context: _Context, verb: Verb, gap: str, *, definite: bool) -> dict[str, Nominal]:
        """Draw the objects of a verb; definite ones with a negation or a quantified subject."""
        frame = verb.frame
        definite = definite or context.subject.quantified
        no = frame == "accusative" and context.tense.negatable
        groups = {
            "accusative": verb.object if frame in ("accusative", "ditransitive") else "",
            "dative": verb.object if frame == "dative" else "person" if frame == "ditransitive" else "",
            "oblique": verb.object if frame == "preposition" else "",
        }
        return {
            slot: self._object(group, definite=definite, no=no, first=context.subject.first)
            for slot, group in groups.items()
            if group and slot != gap
        }

    def _time(self, context: _Context, probability: float) -> Adverb | None:
        if context.timed or not self._optional(probability):
            return None
        return self._choice(lexicon.TIMES[context.tense.time])

    def _frequency(self, context: _Context) -> Adverb | None:
        """Draw an adverb of frequency; not *never*, the last, where the tense does not go with a negation."""
        if context.timed or context.subject.quantified or not self._optional(0.2):
            return None
        return self._choice(lexicon.FREQUENCIES if context.tense.negatable else lexicon.FREQUENCIES[:-1])

    def _manner(self) -> Adverb | None:
        return self._choice(lexicon.MANNERS) if self._optional(0.2) else None

    # predicates that end in a clause

    def _heavy(self, context: _Context, clauses: int) -> Predicate:
        """Draw a predicate that ends in a complement, an infinitive, an adverbial clause or a relative clause."""
        kind, drawn = context.subject.kind, self._random()
        if kind == "thing":
            return self._copula(context, tail=self._adverbial_clause(clauses))
        if kind == "person" and drawn < 0.3:
            verb = self._choice(choices.COMPLEMENT_VERBS)
            tail = Subordinate(self._choice(verb.conjunctions), self._clause(clauses))
            return Predicate(verb, context.tense, frequency=self._frequency(context), tail=tail)
        if kind == "person" and drawn < 0.45:
            verb, infinitive = self._choice(choices.INFINITIVE_VERBS), self._infinitive(context, clauses)
            return Predicate(verb, context.tense, frequency=self._frequency(context), tail=infinitive)
        if drawn < 0.75:
            return self._explained(context, clauses)
        return self._host(context, clauses)

    def _explained(self, context: _Context, clauses: int) -> Predicate:
        """Draw a predicate followed by an adverbial clause or *in order to*."""
        kind = context.subject.kind
        purpose = kind == "person" and self._chance(0.2)
        tail = self._infinitive(context, clauses, purpose=True) if purpose else self._adverbial_clause(clauses)
        return self._filled(context, self._choice(choices.PLAIN_VERBS[kind]), tail=tail)

    def _infinitive(self, context: _Context, clauses: int, *, purpose: bool = False) -> Infinitive:
        """Draw an infinitive with the same subject; it takes no tense, so no adverb of frequency or time either."""
        inner = context._replace(tense=PRESENT, timed=True)
        if clauses > 1:
            predicate = self._heavy(inner, clauses - 1)
        else:
            predicate = self._filled(inner, self._choice(choices.PLAIN_VERBS[context.subject.kind]))
        return Infinitive(replace(predicate, frequency=None), purpose)

    def _host(self, context: _Context, clauses: int) -> Predicate:
        """Draw a predicate whose last English phrase has a relative clause."""
        verb = self._choice(choices.HOST_VERBS[context.subject.kind])
        if verb.frame == "direction":
            return Predicate(verb, context.tense, direction=self._direction(verb, clauses))
        if verb.frame == "place":
            return Predicate(verb, context.tense, place=self._place(clauses))
        slot = {"accusative": "accusative", "preposition": "oblique"}.get(verb.frame, "dative")
        group = "person" if verb.frame == "ditransitive" else verb.object
        nominals = self._nominals(context, verb, slot, definite=False)
        definite, first = context.subject.quantified, context.subject.first
        nominals[slot] = self._object(group, definite=definite, no=False, first=first, relative=clauses)
        return Predicate(
            verb,
            context.tense,
            accusative=nominals.get("accusative"),
            dative=nominals.get("dative"),
            oblique=nominals.get("oblique"),
        )

    # relative clauses

    def _relative(self, noun: Noun, plural: bool, clauses: int, said: tuple[Adjective, ...]) -> RelativeClause:
        """Draw a relative clause for a noun of which the adjectives are ``said``, made of so many clauses."""
        inner, drawn = clauses - 1, self._random()
        animate = noun in GROUPS["animate"]
        if noun in choices.PREPOSITIONS_OF and drawn < 0.7:
            return self._place_relative(noun, inner)
        if choices.ACCUSATIVE_VERBS_OF[noun] and drawn < (0.25 if animate else 0.75):
            subject = self._subject(0, person=True)
            if _shows_subject(noun, plural, subject.nominal):
                predicate = self._gapped(subject, choices.ACCUSATIVE_VERBS_OF[noun], "accusative", inner)
                return ObjectRelative(Clause(subject.nominal, (predicate,)), "acc")
        if animate and drawn < 0.4:
            return self._dative_relative(noun, inner)
        if animate and drawn < 0.5:
            return self._oblique_relative(noun, inner)
        if noun.person and drawn < 0.6:
            return self._possessive_relative(inner)
        kind = "person" if noun.person else "dog" if noun is choices.DOG else "animal" if animate else "thing"
        subject = _Subject(_ANYONE, kind, adjectives_for(noun, said))
        return SubjectRelative(self._predicates(_Context(subject, self._tense(kind)), inner))

    def _gapped(self, subject: _Subject, verbs: Sequence[Verb], gap: str, clauses: int) -> Predicate:
        """Draw a predicate that lacks a phrase and ends in an adverbial clause or nothing."""
        tail = self._adverbial_clause(clauses) if clauses else None
        tense = self._tense("person", quantified=subject.quantified)
        return self._filled(_Context(subject, tense), self._choice(verbs), tail=tail, gap=gap)

    def _place_relative(self, noun: Noun, clauses: int) -> RelativeClause:
        subject = self._subject(0, person=True)
        predicate = self._gapped(subject, choices.LOCAL_VERBS, "place", clauses)
        preposition = self._choice(choices.PREPOSITIONS_OF[noun])
        return PrepositionRelative(preposition, Clause(subject.nominal, (predicate,)))

    def _dative_relative(self, noun: Noun, clauses: int) -> RelativeClause:
        """Draw *whom the man helps* or *to whom the man gives the book*."""
        subject = self._subject(0, person=True)
        verbs = choices.GIVING_VERBS if noun.person and self._chance(0.5) else choices.DATIVE_VERBS_OF[noun]
        return ObjectRelative(Clause(subject.nominal, (self._gapped(subject, verbs, "dative", clauses),)), "dat")

    def _oblique_relative(self, noun: Noun, clauses: int) -> RelativeClause:
        """Draw *with whom the man speaks*."""
        subject = self._subject(0, person=True)
        predicate = self._gapped(subject, choices.OBLIQUE_VERBS_OF[noun], "oblique", clauses)
        assert predicate.verb.preposition is not None, "a verb with a prepositional object"
        return PrepositionRelative(predicate.verb.preposition, Clause(subject.nominal, (predicate,)))

    def _possessive_relative(self, clauses: int) -> RelativeClause:
        """Draw *whose dog barks*."""
        kind = self._choice(("person", "animal"))
        noun = self._choice(GROUPS[kind])
        adjectives = self._adjectives(noun)
        subject = _Subject(_ANYONE, kind, adjectives_for(noun, adjectives))
        predicates = self._predicates(_Context(subject, self._tense(kind)), clauses)
        return PossessiveRelative(noun, adjectives, predicates)


def _shows_subject(noun: Noun, plural: bool, subject: Nominal) -> bool:
    """Tell whether a German relative clause with an accusative pronoun shows that its noun phrase is the subject.

    *die Frau, die das Kind sieht* does not; *den Mann* and *der Mann* do, and so does the verb's number.
    """
    number = lexicon.PLURAL if plural else THIRD
    return noun.agreement(plural) == "m" or subject.distinct or subject.person != number


def _says_no(nominal: Nominal) -> bool:
    return isinstance(nominal, NounPhrase) and nominal.determiner is lexicon.NO
