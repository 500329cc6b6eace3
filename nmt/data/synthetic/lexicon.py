"""Nouns, adjectives, determiners, pronouns, names, prepositions and adverbs of both languages.

Every English form has one German translation, and no English form is a noun and a verb at once: that is what makes the
translation a function of the source.
"""

from dataclasses import dataclass

from nmt.data.synthetic.german import ADJECTIVE_ENDINGS, DEFINITE, DER_ENDINGS, EIN_ENDINGS, Agreement, Case, Declension

# agreement of the finite verb: indices into its forms
FIRST, THIRD, PLURAL = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Noun:
    """A noun: English singular and plural, German gender, singular cases and plural."""

    english: tuple[str, str]
    gender: Agreement
    singular: dict[str, str]
    plural: str
    person: bool

    def agreement(self, plural: bool) -> Agreement:
        """Return the class that articles and adjectives agree with."""
        return "p" if plural else self.gender

    def german(self, case: Case, plural: bool) -> str:
        """Return the German form; the dative plural adds -n unless the plural ends in -n or -s."""
        if not plural:
            return self.singular[case]
        return self.plural if case != "dat" or self.plural[-1] in "ns" else self.plural + "n"


_GENDERS: dict[str, Agreement] = {"der": "m", "die": "f", "das": "n"}


def _noun(line: str, person: bool) -> Noun:
    """Parse ``man men der Mann Mannes Männer``: English, article, nominative, genitive, plural.

    A masculine genitive in -n shows the n-declension (der Junge, den Jungen).
    """
    singular, plural, article, nominative, genitive, german_plural = line.split()
    gender = _GENDERS[article]
    oblique = genitive if gender == "m" and genitive.endswith("n") else nominative
    cases = {"nom": nominative, "acc": oblique, "dat": oblique, "gen": genitive}
    return Noun((singular, plural), gender, cases, german_plural, person)


def _nouns(table: str, *, person: bool = False) -> dict[str, Noun]:
    """Parse one noun a line, by English singular."""
    return {line.split()[0]: _noun(line, person) for line in table.strip().splitlines()}


PERSONS = _nouns(
    """
man men der Mann Mannes Männer
woman women die Frau Frau Frauen
child children das Kind Kindes Kinder
boy boys der Junge Jungen Jungen
girl girls das Mädchen Mädchens Mädchen
teacher teachers der Lehrer Lehrers Lehrer
doctor doctors der Arzt Arztes Ärzte
student students der Student Studenten Studenten
neighbor neighbors der Nachbar Nachbarn Nachbarn
farmer farmers der Bauer Bauern Bauern
friend friends der Freund Freundes Freunde
sister sisters die Schwester Schwester Schwestern
mother mothers die Mutter Mutter Mütter
father fathers der Vater Vaters Väter
son sons der Sohn Sohnes Söhne
aunt aunts die Tante Tante Tanten
queen queens die Königin Königin Königinnen
king kings der König Königs Könige
guest guests der Gast Gastes Gäste
baker bakers der Bäcker Bäckers Bäcker
thief thieves der Dieb Diebes Diebe
""",
    person=True,
)
ANIMALS = _nouns(
    """
dog dogs der Hund Hundes Hunde
cat cats die Katze Katze Katzen
horse horses das Pferd Pferdes Pferde
bird birds der Vogel Vogels Vögel
bear bears der Bär Bären Bären
lion lions der Löwe Löwen Löwen
cow cows die Kuh Kuh Kühe
rabbit rabbits das Kaninchen Kaninchens Kaninchen
"""
)
THINGS = _nouns(
    """
book books das Buch Buches Bücher
letter letters der Brief Briefes Briefe
picture pictures das Bild Bildes Bilder
key keys der Schlüssel Schlüssels Schlüssel
bag bags die Tasche Tasche Taschen
coat coats der Mantel Mantels Mäntel
hat hats der Hut Hutes Hüte
knife knives das Messer Messers Messer
bottle bottles die Flasche Flasche Flaschen
cup cups die Tasse Tasse Tassen
lamp lamps die Lampe Lampe Lampen
table tables der Tisch Tisches Tische
bed beds das Bett Bettes Betten
door doors die Tür Tür Türen
window windows das Fenster Fensters Fenster
car cars das Auto Autos Autos
boat boats das Boot Bootes Boote
ring rings der Ring Ringes Ringe
flower flowers die Blume Blume Blumen
basket baskets der Korb Korbes Körbe
song songs das Lied Liedes Lieder
story stories die Geschichte Geschichte Geschichten
apple apples der Apfel Apfels Äpfel
cake cakes der Kuchen Kuchens Kuchen
egg eggs das Ei Eis Eier
potato potatoes die Kartoffel Kartoffel Kartoffeln
"""
)
PLACES = _nouns(
    """
house houses das Haus Hauses Häuser
garden gardens der Garten Gartens Gärten
school schools die Schule Schule Schulen
church churches die Kirche Kirche Kirchen
city cities die Stadt Stadt Städte
forest forests der Wald Waldes Wälder
kitchen kitchens die Küche Küche Küchen
room rooms das Zimmer Zimmers Zimmer
hotel hotels das Hotel Hotels Hotels
castle castles das Schloss Schlosses Schlösser
street streets die Straße Straße Straßen
bridge bridges die Brücke Brücke Brücken
tree trees der Baum Baumes Bäume
river rivers der Fluss Flusses Flüsse
lake lakes der See Sees Seen
"""
)
NOUNS = PERSONS | ANIMALS | THINGS | PLACES


def _pick(names: str) -> tuple[Noun, ...]:
    return tuple(NOUNS[name] for name in names.split())


_INSIDE = _pick("house garden school church city forest kitchen room hotel castle")
# what verbs take as subject, object or destination
GROUPS: dict[str, tuple[Noun, ...]] = {
    "person": tuple(PERSONS.values()),
    "animal": tuple(ANIMALS.values()),
    "animate": (*PERSONS.values(), *ANIMALS.values()),
    "thing": tuple(THINGS.values()),
    "any": (*PERSONS.values(), *ANIMALS.values(), *THINGS.values()),
    "portable": _pick("book letter picture key bag coat hat knife bottle cup lamp ring flower basket"),
    "openable": _pick("door window bottle bag"),
    "washable": _pick("coat cup bottle car window apple knife"),
    "made": _pick("boat table bed house bridge castle"),
    "food": _pick("apple cake egg potato"),
    "text": _pick("book letter song story"),
    "told": _pick("story"),
    "visited": (*PERSONS.values(), *_pick("castle city church school")),
    "dog": _pick("dog"),
    "inside": _INSIDE,
}


@dataclass(frozen=True, slots=True, eq=False)
class Adjective:
    """An adjective; ``stem`` takes the endings where it differs from the predicative form (teuer, teure)."""

    english: str
    german: str
    stem: str

    def inflected(self, declension: Declension, case: Case, agreement: Agreement) -> str:
        """Return the attributive form."""
        return self.stem + ADJECTIVE_ENDINGS[declension][case][agreement]


_STEMS = {"müde": "müd", "teuer": "teur", "dunkel": "dunkl"}


ADJECTIVES: dict[str, Adjective] = {}


def _adjectives(table: str) -> dict[str, Adjective]:
    """Parse ``english german`` pairs separated by commas; a word of two tables is one adjective."""
    pairs = [entry.split() for entry in table.split(",")]
    return {
        english: ADJECTIVES.setdefault(english, Adjective(english, german, _STEMS.get(german, german)))
        for english, german in pairs
    }


ANIMATE_ADJECTIVES = _adjectives(
    """old alt, young jung, small klein, big groß, tired müde, happy glücklich, hungry hungrig, clever klug,
    strong stark, brave mutig, lazy faul"""
)
PERSON_ADJECTIVES = ANIMATE_ADJECTIVES | _adjectives("friendly freundlich, rich reich, poor arm, famous berühmt")
THING_ADJECTIVES = _adjectives(
    """old alt, new neu, small klein, big groß, expensive teuer, red rot, blue blau, green grün, white weiß,
    heavy schwer, beautiful schön, dirty schmutzig"""
)
PLACE_ADJECTIVES = _adjectives("old alt, new neu, small klein, big groß, beautiful schön, dark dunkel, empty leer")


# of these one at most is said of a noun
_EXCLUSIVE = (
    "old young new",
    "small big",
    "red blue green white",
    "rich poor",
)
_CLASHES = {
    adjective: {word for group in _EXCLUSIVE if english in group.split() for word in group.split()} | {english}
    for english, adjective in ADJECTIVES.items()
}


def adjectives_for(noun: Noun, said: tuple[Adjective, ...] = ()) -> tuple[Adjective, ...]:
    """Return the adjectives that suit a noun of which some are said already."""
    if not said:
        return _SUITABLE[noun]
    clashes = set().union(*(_CLASHES[adjective] for adjective in said))
    return tuple(adjective for adjective in _SUITABLE[noun] if adjective.english not in clashes)


_SUITABLE: dict[Noun, tuple[Adjective, ...]] = {
    noun: tuple(adjectives.values())
    for nouns, adjectives in (
        (PERSONS, PERSON_ADJECTIVES),
        (ANIMALS, ANIMATE_ADJECTIVES),
        (THINGS, THING_ADJECTIVES),
        (PLACES, PLACE_ADJECTIVES),
    )
    for noun in nouns.values()
}
ABSTRACT = _pick("song story")
_SUITABLE |= dict.fromkeys(ABSTRACT, tuple(ADJECTIVES[word] for word in ("old", "new", "beautiful")))


@dataclass(frozen=True, slots=True, eq=False)
class Determiner:
    """An article or what stands in its place; ``english`` is (singular, plural), empty where there is no word.

    ``forms`` maps case and agreement to the German word, empty where there is none.
    """

    english: tuple[str, str]
    forms: dict[str, dict[str, str]]
    declension: Declension
    definite: bool


def _inflected(stem: str, endings: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {case: {key: stem + ending for key, ending in row.items()} for case, row in endings.items()}


def _constant(word: str) -> dict[str, dict[str, str]]:
    return {case: dict.fromkeys("mfnp", word) for case in DEFINITE}


def _ein(english: tuple[str, str], stem: str, *, definite: bool) -> Determiner:
    return Determiner(english, _inflected(stem, EIN_ENDINGS), "mixed", definite)


THE = Determiner(("the", "the"), DEFINITE, "weak", True)
# the head of "the man's dog" has an article in German only
IMPLIED = Determiner(("", ""), DEFINITE, "weak", True)
# after a name in the genitive (Peters alter Hund)
ABSENT = Determiner(("", ""), _constant(""), "strong", True)
BARE = Determiner(("", ""), _constant(""), "strong", False)
A = _ein(("a", ""), "ein", definite=False)
NO = _ein(("no", "no"), "kein", definite=False)
DETERMINERS = {
    "the": THE,
    "a": A,
    "no": NO,
    "": BARE,
    "my": _ein(("my", "my"), "mein", definite=True),
    "his": _ein(("his", "his"), "sein", definite=True),
    "her": _ein(("her", "her"), "ihr", definite=True),
    "this": Determiner(("this", "these"), _inflected("dies", DER_ENDINGS), "weak", True),
    "every": Determiner(("every", ""), _inflected("jed", DER_ENDINGS), "weak", True),
    "two": Determiner(("", "two"), _constant("zwei"), "strong", False),
    "many": Determiner(("", "many"), _inflected("viel", DER_ENDINGS), "strong", False),
}


@dataclass(frozen=True, slots=True, eq=False)
class PronounWord:
    """A personal or indefinite pronoun; ``object`` and the oblique cases are empty where it is a subject only."""

    english: str
    object: str
    german: dict[str, str]
    reflexive: str
    person: int
    personal: bool


def _pronoun(
    english: str, german: str, reflexive: str = "sich", person: int = THIRD, *, personal: bool = True
) -> PronounWord:
    subject, _, objective = english.partition(" ")
    cases: dict[str, str] = dict(zip(("nom", "acc", "dat"), german.split(), strict=False))
    return PronounWord(subject, objective, cases, reflexive, person, personal)


PRONOUNS = {
    word.english: word
    for word in (
        _pronoun("I me", "ich mich mir", "mich", FIRST),
        _pronoun("he him", "er ihn ihm"),
        _pronoun("she her", "sie sie ihr"),
        _pronoun("we us", "wir uns uns", "uns", PLURAL),
        # no "them" and no "their": German "sie" and "ihr" would be two English words
        _pronoun("they", "sie", person=PLURAL),
        _pronoun("nobody", "niemand", personal=False),
        _pronoun("somebody", "jemand", personal=False),
        _pronoun("everybody", "jeder", personal=False),
    )
}
NAMES = ("Anna", "Peter", "Maria", "Simon", "Laura", "Paul")


@dataclass(frozen=True, slots=True, eq=False)
class Preposition:
    """A preposition and the German case it governs."""

    english: str
    german: str
    case: Case


IN = Preposition("in", "in", "dat")
ON = Preposition("on", "auf", "dat")
AT = Preposition("at", "an", "dat")
UNDER = Preposition("under", "unter", "dat")
BEHIND = Preposition("behind", "hinter", "dat")
BESIDE = Preposition("beside", "neben", "dat")
INTO = Preposition("into", "in", "acc")
WITH = Preposition("with", "mit", "dat")
WITHOUT = Preposition("without", "ohne", "acc")
# where somebody can be
PLACE_PHRASES: tuple[tuple[Preposition, tuple[Noun, ...]], ...] = (
    (IN, _INSIDE),
    (ON, _pick("street bridge")),
    (AT, _pick("river lake window door table")),
    (UNDER, _pick("tree bridge")),
    (BEHIND, _pick("house school church tree castle hotel door")),
    (BESIDE, _pick("house school church tree river table bed car castle window")),
)
# what a person is with or without
COMPANIONS = _pick("dog cat horse bag coat hat basket ring child flower knife book")


@dataclass(frozen=True, slots=True, eq=False)
class Adverb:
    """An adverb or a fixed adverbial; ``links`` are its (English, German) word links, all of them sure."""

    english: tuple[str, ...]
    german: tuple[str, ...]
    links: tuple[tuple[int, int], ...]


def _adverbs(table: str) -> tuple[Adverb, ...]:
    return tuple(Adverb((english,), (german,), ((0, 0),)) for english, german in (e.split() for e in table.split(",")))


def _phrases(english: str, german: str, table: str) -> tuple[Adverb, ...]:
    """Make ``on Monday / am Montag`` from the two prepositions and pairs of nouns."""
    head = tuple(english.split())
    links = (*((i, 0) for i in range(len(head))), (len(head), 1))
    return tuple(
        Adverb((*head, first), (german, second), links) for first, second in (e.split() for e in table.split(","))
    )


WEEKDAYS = _phrases("on", "am", "Monday Montag, Friday Freitag, Sunday Sonntag")
DAYTIMES = _phrases("in the", "am", "morning Morgen, evening Abend")
SEASONS = _phrases("in", "im", "summer Sommer, winter Winter")
# adverbials of time by the time that the verb speaks of; an English perfect takes hardly any
TIMES: dict[str, tuple[Adverb, ...]] = {
    "past": (*_adverbs("yesterday gestern, recently neulich"), *WEEKDAYS, *DAYTIMES, *SEASONS),
    "present": (*_adverbs("today heute, now jetzt"), *DAYTIMES, *SEASONS),
    "future": (*_adverbs("tomorrow morgen, soon bald, today heute"), *WEEKDAYS, *DAYTIMES, *SEASONS),
    "perfect": _adverbs("today heute"),
}
FREQUENCIES = _adverbs("often oft, always immer, sometimes manchmal, rarely selten, never nie")
MANNERS = _adverbs(
    """quickly schnell, slowly langsam, quietly leise, carefully vorsichtig, patiently geduldig,
    secretly heimlich"""
)
# sentence adverbs, always fronted
OPENERS = _adverbs("then dann, therefore deshalb, perhaps vielleicht, unfortunately leider, suddenly plötzlich")
