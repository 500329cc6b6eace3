"""The synchronous grammar against hand-written pairs and links, and the corpus against its promises."""

import hashlib
import random
from collections import Counter

import pytest

from nmt.data.corpus import Corpus, GoldLinks, ParallelText
from nmt.data.links import format_links, parse_links
from nmt.data.synthetic import SyntheticCorpus, lexicon
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
from nmt.data.synthetic.generation import Generator, _shows_subject
from nmt.data.synthetic.lexicon import ADJECTIVES, DETERMINERS, FREQUENCIES, MANNERS, NOUNS, PRONOUNS, TIMES
from nmt.data.synthetic.nominals import Both, Name, NounPhrase, PrepositionalPhrase, Pronoun
from nmt.data.synthetic.predicates import Predicate
from nmt.data.synthetic.verbs import (
    BE,
    FUTURE,
    PAST,
    PAST_MODALS,
    PERFECT,
    PLUPERFECT,
    PRESENT,
    PRESENT_MODALS,
    VERBS,
)
from nmt.errors import ConfigError

VERB = {(verb.base, verb.frame): verb for verb in VERBS}
PREPOSITION = {
    preposition.english: preposition for preposition in (lexicon.IN, lexicon.INTO, lexicon.UNDER, lexicon.BEHIND)
}
ADVERB = {
    " ".join(adverb.english): adverb
    for adverb in (*TIMES["past"], *TIMES["present"], *TIMES["future"], *FREQUENCIES, *MANNERS, *lexicon.OPENERS)
}


def np(words: str, **options) -> NounPhrase:
    """Build *the old dog*; a plural is written with its plural determiner and ``plural=True``."""
    determiner, *adjectives, noun = words.split()
    return NounPhrase(
        DETERMINERS[determiner], NOUNS[noun], adjectives=tuple(ADJECTIVES[a] for a in adjectives), **options
    )


def bare(noun: str, **options) -> NounPhrase:
    return NounPhrase(lexicon.BARE, NOUNS[noun], plural=True, **options)


def me(english: str) -> Pronoun:
    return Pronoun(PRONOUNS[english])


def at(words: str, **options) -> PrepositionalPhrase:
    preposition, rest = words.split(" ", 1)
    return PrepositionalPhrase(PREPOSITION[preposition], np(rest, **options))


def does(base: str, frame: str = "none", tense=PRESENT, **options) -> Predicate:
    return Predicate(VERB[base, frame], tense, **options)


def says(clause: Clause) -> tuple[str, str]:
    pair = sentence([clause], [])
    return pair.english, pair.german


# name: (clauses, joints, English, German, links)
LITERAL = {
    "verb second": (
        [Clause(np("the old dog"), (does("see", "accusative", accusative=np("a small cat")),))],
        "The old dog sees a small cat.",
        "Der alte Hund sieht eine kleine Katze.",
        "0-0 1-1 2-2 3-3 4-4 5-5 6-6",
    ),
    "inversion after an adverb, perfect": (
        [
            Clause(
                np("my teacher"),
                (does("help", "dative", PERFECT, dative=np("the boy")),),
                ADVERB["today"],
            )
        ],
        "Today my teacher has helped the boy.",
        "Heute hat mein Lehrer dem Jungen geholfen.",
        "0-0 3-1 1-2 2-3 5-4 6-5 4-6",
    ),
    "sein in the perfect, melted preposition": (
        [Clause(np("the woman"), (does("go", "direction", PERFECT, direction=at("into the house")),))],
        "The woman has gone into the house.",
        "Die Frau ist ins Haus gegangen.",
        "0-0 1-1 2-2 4-3 5-3 6-4 3-5",
    ),
    "separable verb with a particle": (
        [Clause(me("she"), (does("pick", "accusative", PAST, accusative=np("the child")),))],
        "She picked up the child.",
        "Sie holte das Kind ab.",
        "0-0 1-1 2?1 3-2 4-3 2-4 1?4",
    ),
    "separable verb without a particle, time before the object": (
        [
            Clause(
                np("the king"),
                (does("invite", "accusative", PAST, accusative=np("the guest"), time=ADVERB["yesterday"]),),
            )
        ],
        "The king invited the guest yesterday.",
        "Der König lud gestern den Gast ein.",
        "0-0 1-1 2-2 5-3 3-4 4-5 2-6",
    ),
    "pronoun between verb and particle, before a subject that is a noun": (
        [
            Clause(
                np("the farmer"),
                (does("pick", "accusative", PAST_MODALS["want"], accusative=me("he")),),
                ADVERB["on Monday"],
            )
        ],
        "On Monday the farmer wanted to pick him up.",
        "Am Montag wollte ihn der Bauer abholen.",
        "0-0 1-1 4-2 7-3 2-4 3-5 6-6 8-6 5?6",
    ),
    "negation with do, definite object": (
        [Clause(np("the girl"), (does("open", "accusative", negated=True, accusative=np("this door")),))],
        "The girl does not open this door.",
        "Das Mädchen macht diese Tür nicht auf.",
        "0-0 1-1 4-2 2?2 5-3 6-4 3-5 4-6",
    ),
    "cannot": (
        [Clause(me("I"), (does("swim", tense=PRESENT_MODALS["can"], negated=True, place=at("in the lake")),))],
        "I cannot swim in the lake.",
        "Ich kann nicht im See schwimmen.",
        "0-0 1-1 1-2 3-3 4-3 5-4 2-5",
    ),
    "is allowed to": (
        [Clause(me("we"), (does("sleep", tense=PRESENT_MODALS["may"], negated=True),))],
        "We are not allowed to sleep.",
        "Wir dürfen nicht schlafen.",
        "0-0 1-1 3-1 2-2 5-3 4?3",
    ),
    "to-dative before the accusative": (
        [
            Clause(
                np("the king"),
                (does("give", "ditransitive", FUTURE, accusative=np("the red book"), dative=np("her sister")),),
            )
        ],
        "The king will give the red book to her sister.",
        "Der König wird ihrer Schwester das rote Buch geben.",
        "0-0 1-1 2-2 8-3 7?3 9-4 4-5 5-6 6-7 3-8",
    ),
    "indefinite dative after the accusative": (
        [Clause(me("he"), (does("lend", "ditransitive", accusative=np("the key"), dative=np("a neighbor")),))],
        "He lends the key to a neighbor.",
        "Er leiht den Schlüssel einem Nachbarn.",
        "0-0 1-1 2-2 3-3 5-4 4?4 6-5",
    ),
    "fronted verb-final clause": (
        [
            Clause(
                me("she"),
                (does("laugh", tense=PAST),),
                Subordinate(
                    "because",
                    Clause(np("the lion"), (does("sleep", tense=PLUPERFECT, place=at("under the tree")),)),
                ),
            )
        ],
        "Because the lion had slept under the tree, she laughed.",
        "Weil der Löwe unter dem Baum geschlafen hatte, lachte sie.",
        "0-0 1-1 2-2 5-3 6-4 7-5 4-6 3-7 9-8 8-9",
    ),
    "complement with a separable verb, joined at the end": (
        [
            Clause(
                np("the doctor"),
                (
                    does(
                        "know",
                        "clause",
                        tail=Subordinate(
                            "that",
                            Clause(np("his father"), (does("call", "accusative", accusative=np("my queen")),)),
                        ),
                    ),
                ),
            )
        ],
        "The doctor knows that his father calls my queen.",
        "Der Arzt weiß, dass sein Vater meine Königin anruft.",
        "0-0 1-1 2-2 3-3 4-4 5-5 7-6 8-7 6-8",
    ),
    "know somebody and know whether": (
        [
            Clause(me("they"), (does("know", "accusative", accusative=Name("Anna")),)),
            Clause(
                me("I"),
                (does("know", "clause", tail=Subordinate("whether", Clause(me("they"), (does("cry"),)))),),
            ),
        ],
        "They know Anna, but I know whether they cry.",
        "Sie kennen Anna, aber ich weiß, ob sie weinen.",
        "0-0 1-1 2-2 3-3 4-4 5-5 6-6 7-7 8-8",
    ),
    "infinitive with zu inside the verb": (
        [
            Clause(
                np("the thief"),
                (
                    does(
                        "try",
                        "infinitive",
                        PERFECT,
                        tail=Infinitive(does("open", "accusative", accusative=np("the window"))),
                    ),
                ),
            )
        ],
        "The thief has tried to open the window.",
        "Der Dieb hat versucht, das Fenster aufzumachen.",
        "0-0 1-1 2-2 3-3 6-4 7-5 5-6 4-6",
    ),
    "bare infinitive": (
        [Clause(me("I"), (does("begin", "infinitive", tail=Infinitive(does("cry"))),))],
        "I begin to cry.",
        "Ich beginne zu weinen.",
        "0-0 1-1 2-2 3-3",
    ),
    "in order to, reflexive": (
        [
            Clause(
                me("I"),
                (
                    does(
                        "return",
                        tense=PAST,
                        tail=Infinitive(does("rest", place=at("in the garden")), purpose=True),
                    ),
                ),
            )
        ],
        "I returned in order to rest in the garden.",
        "Ich kam zurück, um mich im Garten auszuruhen.",
        "0-0 1-1 1-2 2-3 3-3 5?4 6-5 7-5 8-6 4-7 5-7",
    ),
    "subject relative clause, reflexive": (
        [
            Clause(
                np("the child", relative=SubjectRelative((does("sit", tense=PAST),))),
                (does("look", "accusative", PAST, accusative=np("the ring")),),
            )
        ],
        "The child who sat down looked for the ring.",
        "Das Kind, das sich hinsetzte, suchte den Ring.",
        "0-0 1-1 2-2 3?3 3-4 4-4 5-5 6?5 7-6 8-7",
    ),
    "relative clause of the object after the verbs": (
        [
            Clause(
                np("the man"),
                (
                    does(
                        "find",
                        "accusative",
                        PERFECT,
                        accusative=np(
                            "the dog",
                            relative=ObjectRelative(
                                Clause(np("the cat"), (does("see", "accusative", PAST),)),
                                "acc",
                            ),
                        ),
                    ),
                ),
            )
        ],
        "The man has found the dog that the cat saw.",
        "Der Mann hat den Hund gefunden, den die Katze sah.",
        "0-0 1-1 2-2 4-3 5-4 3-5 6-6 7-7 8-8 9-9",
    ),
    "relative clause of the dative stays before the accusative": (
        [
            Clause(
                np("the man"),
                (
                    does(
                        "show",
                        "ditransitive",
                        PAST,
                        accusative=np("the picture"),
                        dative=np("the woman", relative=SubjectRelative((does("wait", tense=PAST),))),
                    ),
                ),
            )
        ],
        "The man showed the picture to the woman who waited.",
        "Der Mann zeigte der Frau, die wartete, das Bild.",
        "0-0 1-1 2-2 6-3 5?3 7-4 8-5 9-6 3-7 4-8",
    ),
    "prepositional relative clause: no melting before it": (
        [
            Clause(
                me("he"),
                (
                    does(
                        "live",
                        "place",
                        place=at(
                            "in the castle",
                            relative=PrepositionRelative(
                                PREPOSITION["behind"],
                                Clause(np("the bear"), (does("sleep"),)),
                            ),
                        ),
                    ),
                ),
            )
        ],
        "He lives in the castle behind which the bear sleeps.",
        "Er wohnt in dem Schloss, hinter dem der Bär schläft.",
        "0-0 1-1 2-2 3-3 4-4 5-5 6-6 7-7 8-8 9-9",
    ),
    "to whom, whose": (
        [
            Clause(
                bare(
                    "friend",
                    relative=ObjectRelative(
                        Clause(me("I"), (does("send", "ditransitive", accusative=np("a letter")),)), "dat"
                    ),
                ),
                (
                    does(
                        "thank",
                        "dative",
                        dative=np(
                            "the woman",
                            relative=PossessiveRelative(NOUNS["dog"], (ADJECTIVES["old"],), (does("bark"),)),
                        ),
                    ),
                ),
            )
        ],
        "Friends to whom I send a letter thank the woman whose old dog barks.",
        "Freunde, denen ich einen Brief schicke, danken der Frau, deren alter Hund bellt.",
        "0-0 2-1 1?1 3-2 5-3 6-4 4-5 7-6 8-7 9-8 10-9 11-10 12-11 13-12",
    ),
    "possessors": (
        [
            Clause(
                np("the old dog", possessor=np("the tired farmer")),
                (does("hear", "accusative", accusative=np("the cat", possessor=Name("Peter"))),),
            )
        ],
        "The tired farmer's old dog hears Peter's cat.",
        "Der alte Hund des müden Bauern hört Peters Katze.",
        "2?0 3-1 4-2 0-3 1-4 2-5 5-6 6-7 7-8",
    ),
    "coordination of predicates and of nouns": (
        [
            Clause(
                Both(np("the boy"), np("the girl")),
                (
                    does("wake", tense=PAST),
                    does("listen", "dative", PAST, dative=np("the teacher")),
                ),
            )
        ],
        "The boy and the girl woke up and listened to the teacher.",
        "Der Junge und das Mädchen wachten auf und hörten dem Lehrer zu.",
        "0-0 1-1 2-2 3-3 4-4 5-5 6?5 6-6 5?6 7-7 8-8 9?8 10-9 11-10 8-11 9?11",
    ),
    "no pronoun before whose": (
        [
            Clause(
                np("the doctor", relative=PossessiveRelative(NOUNS["king"], (), (does("sit", tense=PAST),))),
                (does("laugh"),),
            )
        ],
        "The doctor whose king sat down laughs.",
        "Der Arzt, dessen König sich hinsetzte, lacht.",
        "0-0 1-1 2-2 3-3 4?4 4-5 5-5 6-6",
    ),
    "a pronoun before the subject of one predicate, after that of two": (
        [
            Clause(
                me("she"),
                (does("arrive", tense=PAST),),
                Subordinate("when", Clause(np("the boy"), (does("help", "dative", PAST, dative=me("I")),))),
            ),
            Clause(
                me("she"),
                (does("arrive", tense=PAST),),
                Subordinate(
                    "when",
                    Clause(np("the boy"), (does("help", "dative", PAST, dative=me("I")), does("cry", tense=PAST))),
                ),
            ),
        ],
        "When the boy helped me, she arrived, but when the boy helped me and cried, she arrived.",
        "Als mir der Junge half, kam sie an, aber als der Junge mir half und weinte, kam sie an.",
        "0-0 4-1 1-2 2-3 3-4 6-5 5-6 6-7 7-8 8-9 9-10 10-11 12-12 11-13 13-14 14-15 16-16 15-17 16-18",
    ),
    "sie as an object stays behind the subject": (
        [Clause(np("the girl"), (does("ask", "accusative", PAST, accusative=me("she")),), ADVERB["in the evening"])],
        "In the evening the girl asked her.",
        "Am Abend fragte das Mädchen sie.",
        "0-0 1-0 2-1 5-2 3-3 4-4 6-5",
    ),
    "an infinitive inside an infinitive": (
        [
            Clause(
                me("I"),
                (
                    does(
                        "try",
                        "infinitive",
                        tail=Infinitive(does("forget", "infinitive", tail=Infinitive(does("sing")))),
                    ),
                ),
            )
        ],
        "I try to forget to sing.",
        "Ich versuche, zu vergessen zu singen.",
        "0-0 1-1 2-2 3-3 4-4 5-5",
    ),
    "adverbs of frequency and manner": (
        [
            Clause(
                np("the farmer"),
                (
                    does(
                        "wash",
                        "accusative",
                        PERFECT,
                        accusative=np("a cup"),
                        frequency=ADVERB["often"],
                        manner=ADVERB["slowly"],
                        place=at("in the kitchen"),
                    ),
                ),
            )
        ],
        "The farmer has often washed a cup slowly in the kitchen.",
        "Der Bauer hat oft eine Tasse langsam in der Küche gewaschen.",
        "0-0 1-1 2-2 3-3 5-4 6-5 7-6 8-7 9-8 10-9 4-10",
    ),
    "prepositional object, adjective after sein": (
        [
            Clause(me("we"), (does("think", "preposition", oblique=np("every child")),)),
            Clause(np("the table"), (Predicate(BE, PAST, negated=True, adjective=ADJECTIVES["expensive"]),)),
        ],
        "We think of every child, but the table was not expensive.",
        "Wir denken an jedes Kind, aber der Tisch war nicht teuer.",
        "0-0 1-1 2-2 3-3 4-4 5-5 6-6 7-7 8-8 9-9 10-10",
    ),
}


@pytest.mark.parametrize("name", LITERAL)
def test_pair_and_links(name: str):
    clauses, english, german, links = LITERAL[name]
    pair = sentence(clauses, ["but"] * (len(clauses) - 1))
    assert (pair.english, pair.german) == (english, german)
    assert GoldLinks(pair.sure, pair.possible) == parse_links(links, where="test")


def test_semicolon_between_clauses():
    first = Clause(me("I"), (does("hope", "clause", tail=Subordinate("that", Clause(me("he"), (does("work"),)))),))
    pair = sentence([first, Clause(me("she"), (does("arrive"),))], [";"])
    assert (pair.english, pair.german) == (
        "I hope that he works; she arrives.",
        "Ich hoffe, dass er arbeitet; sie kommt an.",
    )
    assert pair.sure == parse_links("0-0 1-1 2-2 3-3 4-4 5-5 6-6 6-7", where="test").sure


# determiner, noun, plural: nominative, accusative, dative with an adjective
NOUN_PHRASES = {
    ("the", "man", False): ("der junge Mann", "den jungen Mann", "dem jungen Mann"),
    ("a", "man", False): ("ein junger Mann", "einen jungen Mann", "einem jungen Mann"),
    ("the", "woman", False): ("die junge Frau", "die junge Frau", "der jungen Frau"),
    ("a", "woman", False): ("eine junge Frau", "eine junge Frau", "einer jungen Frau"),
    ("the", "girl", False): ("das junge Mädchen", "das junge Mädchen", "dem jungen Mädchen"),
    ("a", "girl", False): ("ein junges Mädchen", "ein junges Mädchen", "einem jungen Mädchen"),
    ("the", "lion", False): ("der junge Löwe", "den jungen Löwen", "dem jungen Löwen"),
    ("every", "student", False): ("jeder junge Student", "jeden jungen Studenten", "jedem jungen Studenten"),
    ("the", "child", True): ("die jungen Kinder", "die jungen Kinder", "den jungen Kindern"),
    ("", "child", True): ("junge Kinder", "junge Kinder", "jungen Kindern"),
    ("two", "bird", True): ("zwei junge Vögel", "zwei junge Vögel", "zwei jungen Vögeln"),
    ("many", "dog", True): ("viele junge Hunde", "viele junge Hunde", "vielen jungen Hunden"),
    ("no", "woman", True): ("keine jungen Frauen", "keine jungen Frauen", "keinen jungen Frauen"),
    ("my", "aunt", False): ("meine junge Tante", "meine junge Tante", "meiner jungen Tante"),
    ("her", "baker", True): ("ihre jungen Bäcker", "ihre jungen Bäcker", "ihren jungen Bäckern"),
}


@pytest.mark.parametrize("key", NOUN_PHRASES)
def test_article_adjective_and_noun_agree(key: tuple[str, str, bool]):
    determiner, noun, plural = key
    phrase = NounPhrase(DETERMINERS[determiner], NOUNS[noun], plural=plural, adjectives=(ADJECTIVES["young"],))
    forms = tuple(" ".join(word.text for word in phrase.phrase(case).german) for case in ("nom", "acc", "dat"))
    assert forms == NOUN_PHRASES[key]


@pytest.mark.parametrize(
    ("owner", "german"),
    [
        (np("the old man"), "der Hund des alten Mannes"),
        (np("my boy"), "der Hund meines Jungen"),
        (np("her young queen"), "der Hund ihrer jungen Königin"),
        (np("this child"), "der Hund dieses Kindes"),
        (Name("Laura"), "Lauras Hund"),
    ],
)
def test_genitive(owner, german: str):
    assert [w.text for w in np("the dog", possessor=owner).phrase("nom").german] == german.split()


def test_stems_of_adjectives_and_vowel_after_a():
    english, german = says(Clause(np("a expensive hat"), (Predicate(BE, PRESENT, adjective=ADJECTIVES["old"]),)))
    assert (english, german) == ("An expensive hat is old.", "Ein teurer Hut ist alt.")


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        (("sleep", "none"), "ich schlafe, er schläft, wir schlafen, ich schlief, wir schliefen"),
        (("work", "none"), "ich arbeite, er arbeitet, wir arbeiten, ich arbeitete, wir arbeiteten"),
        (("know", "clause"), "ich weiß, er weiß, wir wissen, ich wusste, wir wussten"),
        (("feed", "accusative"), "ich füttere, er füttert, wir füttern, ich fütterte, wir fütterten"),
        (("find", "accusative"), "ich finde, er findet, wir finden, ich fand, wir fanden"),
        (("forget", "accusative"), "ich vergesse, er vergisst, wir vergessen, ich vergaß, wir vergaßen"),
    ],
)
def test_german_verb_forms(verb: tuple[str, str], forms: str):
    german = VERB[verb]
    made = [f"{who} {form}" for who, form in zip(("ich", "er", "wir"), german.german_present, strict=True)]
    assert ", ".join([*made, f"ich {german.german_past[0]}", f"wir {german.german_past[2]}"]) == forms


def test_no_english_form_is_a_noun_and_a_verb_or_two_words():
    nouns = Counter(form for noun in NOUNS.values() for form in noun.english)
    assert max(nouns.values()) == 1
    verbs = {
        form
        for verb in (*VERBS, BE)
        for form in (*verb.english_present, *verb.english_past, verb.base, verb.english_participle)
    }
    modals = {form for modal in (*PRESENT_MODALS.values(), *PAST_MODALS.values()) for form in modal.english}
    assert not nouns.keys() & (verbs | modals)
    assert not nouns.keys() & ADJECTIVES.keys()


def test_each_english_verb_has_one_german_verb_in_a_frame():
    assert len(VERB) == len(VERBS)
    german = {}
    for verb in VERBS:
        german.setdefault(verb.base, set()).add(verb.prefix + verb.infinitive)
    # "know somebody" and "know that" differ, and the frame tells them apart
    assert {base for base, infinitives in german.items() if len(infinitives) > 1} == {"know"}


@pytest.mark.parametrize(
    ("noun", "plural", "subject", "shown"),
    [
        ("woman", False, np("the child"), False),
        ("woman", False, np("the man"), True),
        ("man", False, np("the child"), True),
        ("woman", False, bare("child"), True),
        ("woman", True, bare("child"), False),
        ("child", False, me("she"), False),
        ("child", False, me("I"), True),
        ("child", False, Name("Peter"), False),
        ("child", False, Both(np("the woman"), np("the girl")), True),
    ],
)
def test_german_shows_the_subject_of_a_relative_clause(noun, plural: bool, subject, shown: bool):
    """*die Frau, die das Kind sieht* has two readings; a masculine noun or the verb's number leaves one."""
    assert _shows_subject(NOUNS[noun], plural, subject) is shown


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return SyntheticCorpus(train_sentences=3000, valid_sentences=100, test_sentences=200, long_sentences=50).load()


def texts(corpus: Corpus) -> dict[str, ParallelText]:
    assert corpus.valid is not None
    assert corpus.test is not None
    return {"train": corpus.train, "valid": corpus.valid, "test": corpus.test, **corpus.extra}


def test_sizes_and_lengths(corpus: Corpus):
    sizes = {"train": 3000, "valid": 100, "test": 200, "valid_long": 50, "test_long": 50}
    assert {key: len(text) for key, text in texts(corpus).items()} == sizes
    for key, text in texts(corpus).items():
        low, high = (31, 60) if key.endswith("long") else (3, 30)
        lengths = [len(line.split()) for line in (*text.sources, *text.targets)]
        assert low <= min(lengths)
        assert max(lengths) <= high


def test_sentences_are_unique_and_splits_disjoint(corpus: Corpus):
    for side in ("sources", "targets"):
        lines = [line for text in texts(corpus).values() for line in getattr(text, side)]
        assert len(set(lines)) == len(lines)


def test_links_are_within_bounds_and_cover_the_target(corpus: Corpus):
    silent = {"sich", "mich", "uns", "der", "die", "das", "den", "dem"}
    for text in texts(corpus).values():
        assert text.links is not None
        for source, target, gold in zip(text.sources, text.targets, text.links, strict=True):
            words = target.split()
            assert all(0 <= i < len(source.split()) and 0 <= j < len(words) for i, j in gold.possible)
            assert {j for _, j in gold.possible} == set(range(len(words)))
            without = set(range(len(words))) - {j for _, j in gold.sure}
            # reflexive pronouns and the article before a genitive
            assert {words[j].lower().strip(".,;") for j in without} <= silent


def test_every_english_word_has_a_link(corpus: Corpus):
    for text in texts(corpus).values():
        for source, gold in zip(text.sources, text.links or (), strict=True):
            assert {i for i, _ in gold.possible} == set(range(len(source.split()))), source


def test_translation_is_a_function_in_both_directions():
    """Among many drawn sentences, repeats included, no side has two translations."""
    generator = Generator(5)
    to_german: dict[str, str] = {}
    to_english: dict[str, str] = {}
    for _ in range(20000):
        pair = generator.pair(1)
        assert to_german.setdefault(pair.english, pair.german) == pair.german
        assert to_english.setdefault(pair.german, pair.english) == pair.english
    assert len(to_german) < 20000


def test_most_sentences_are_reordered_and_far(corpus: Corpus):
    def crosses(gold: GoldLinks) -> bool:
        targets = [j for _, j in sorted(gold.sure)]
        return targets != sorted(targets)

    assert sum(map(crosses, corpus.train.links or ())) > 0.75 * len(corpus.train)
    far = [max(abs(i - j) for i, j in gold.sure) for gold in corpus.extra["test_long"].links or ()]
    assert sum(distance >= 6 for distance in far) > 0.6 * len(far)


def test_lengths_spread(corpus: Corpus):
    lengths = [len(line.split()) for line in corpus.train.sources]
    assert 10 < sum(lengths) / len(lengths) < 13
    assert sum(length > 20 for length in lengths) > 0.08 * len(lengths)
    assert sum(length < 6 for length in lengths) > 0.08 * len(lengths)


def test_same_text_on_every_machine_and_in_every_order(corpus: Corpus):
    random.seed(99)
    test = texts(corpus)["test"]
    links = [format_links(gold.sure, gold.possible) for gold in test.links or ()]
    digest = hashlib.sha256("\n".join([*test.sources, *test.targets, *links]).encode()).hexdigest()
    assert digest == "aa22ed7beddbbcb8efbc42381b8c683093ee934ac39dbfb2e361c51cebb407a8"
    assert corpus.train.sources[:2] == [
        "The dog swam.",
        "The tired son always had to be clever, but my dog under my trees waited for his son's rabbit quietly and came "
        "into his castles in the morning.",
    ]


def test_training_size_leaves_the_other_splits_alone(corpus: Corpus):
    other = SyntheticCorpus(train_sentences=10, valid_sentences=100, test_sentences=200, long_sentences=50).load()
    assert texts(other)["test_long"] == texts(corpus)["test_long"]
    assert other.train.sources == corpus.train.sources[:10]
    assert other.fingerprint != corpus.fingerprint


def test_another_seed_is_another_text():
    sizes = {"train_sentences": 20, "valid_sentences": 5, "test_sentences": 5, "long_sentences": 2}
    first, second = (SyntheticCorpus(**sizes, seed=seed).load() for seed in (1, 2))
    assert not set(first.train.sources) & set(second.train.sources)


def test_direction_flips_text_links_and_languages():
    sizes = {"train_sentences": 20, "valid_sentences": 5, "test_sentences": 5, "long_sentences": 2}
    forth = SyntheticCorpus(**sizes).load()
    back = SyntheticCorpus(**sizes, source="de", target="en").load()
    assert (back.source_language, back.target_language, back.synthetic) == ("de", "en", True)
    assert back.train.sources == forth.train.targets
    assert back.train.links == [gold.flipped() for gold in forth.train.links or ()]
    assert back.fingerprint != forth.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "en", "target": "en"}, "data.source=en data.target=en"),
        ({"train_sentences": 0}, "data.train_sentences=0"),
        ({"long_sentences": -1}, "data.long_sentences=-1"),
    ],
)
def test_refused_options(options: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        SyntheticCorpus(**options)
