"""What the options of the built-in corpus change: word order, sentences to a line, names; the links stay exact."""

import re
from collections import Counter
from typing import Any

import pytest
from composed import composed

from nmt.component import build
from nmt.data.corpus import Corpus, CorpusSource, GoldLinks, ParallelText
from nmt.data.links import parse_links
from nmt.data.synthetic import SyntheticCorpus
from nmt.data.synthetic.clauses import Clause, PrepositionRelative, Subordinate, sentence
from nmt.data.synthetic.copies import Copies
from nmt.data.synthetic.lexicon import DETERMINERS, IN, NOUNS, PRONOUNS, TIMES, WITH
from nmt.data.synthetic.lines import crosses, in_natural_order, in_source_order, joined
from nmt.data.synthetic.nominals import Name, NounPhrase, PrepositionalPhrase, Pronoun
from nmt.data.synthetic.predicates import Predicate
from nmt.data.synthetic.verbs import PAST, PERFECT, PRESENT, PRESENT_MODALS, VERBS
from nmt.data.tokenizer import TokenizerTrainer, WordTrainer
from nmt.data.words import piece_words, split_words
from nmt.errors import ConfigError

SIZES: dict[str, Any] = {"train_sentences": 300, "valid_sentences": 30, "test_sentences": 60, "long_sentences": 15}
DIRECTIONS = [("en", "de"), ("de", "en")]
VERB = {(verb.base, verb.frame): verb for verb in VERBS}
YESTERDAY, ON_MONDAY = TIMES["past"][0], TIMES["past"][2]


def np(words: str, **options) -> NounPhrase:
    determiner, noun = words.split()
    return NounPhrase(DETERMINERS[determiner], NOUNS[noun], **options)


def me(english: str) -> Pronoun:
    return Pronoun(PRONOUNS[english])


def does(base: str, frame: str = "none", tense=PRESENT, **options) -> Predicate:
    return Predicate(VERB[base, frame], tense, **options)


def texts(corpus: Corpus) -> dict[str, ParallelText]:
    assert corpus.valid is not None
    assert corpus.test is not None
    return {"train": corpus.train, "valid": corpus.valid, "test": corpus.test, **corpus.extra}


def triples(text: ParallelText) -> list[tuple[str, str, GoldLinks]]:
    assert text.links is not None
    return list(zip(text.sources, text.targets, text.links, strict=True))


def words(line: str) -> list[str]:
    """The words of a line without marks and capitals."""
    return [word.strip(".,;").lower() for word in line.split()]


@pytest.mark.parametrize(
    ("source", "target", "fingerprint"),
    [
        ("en", "de", "3785e7f25539ff9cb9e6096c122ae5a5fa715a29d6b6df480fc777831a3ac41e"),
        ("de", "en", "0d58adf5ead84581425c0d063cc73966b804171e282c121f47f14efc4e3a21c2"),
    ],
)
def test_default_is_the_corpus_from_before_there_were_options(source, target, fingerprint: str):
    sizes = {"train_sentences": 200, "valid_sentences": 20, "test_sentences": 40, "long_sentences": 10}
    given = {"order": "natural", "sentences": 1, "sentence_separator": "<sep>", "names": 0}
    for options in ({}, given):
        assert SyntheticCorpus(**sizes, source=source, target=target, **options).load().fingerprint == fingerprint


def test_every_option_changes_the_fingerprint():
    barred = {"sentences": 2, "sentence_separator": "|"}
    variants = ({}, {"order": "source"}, {"sentences": 2}, barred, {"names": 0.5})
    prints = {SyntheticCorpus(**SIZES, **options).load().fingerprint for options in variants}
    assert len(prints) == len(variants)


# order


INVERTED = Clause(
    np("the farmer"), (does("see", "accusative", PERFECT, accusative=np("a dog"), time=YESTERDAY),), ON_MONDAY
)
RELATIVE = Clause(
    np("the room", relative=PrepositionRelative(IN, Clause(Name("Anna"), (does("sleep", tense=PAST),)))),
    (does("help", "dative", PAST, dative=me("he")),),
    Subordinate("when", Clause(me("she"), (does("pick", "accusative", PAST, accusative=np("the man")),))),
)


@pytest.mark.parametrize(
    ("clauses", "forth", "source", "target", "links"),
    [
        (
            [INVERTED],
            True,
            "On Monday the farmer has seen a dog yesterday.",
            "Am Montag der Bauer hat gesehen einen Hund gestern.",
            "0-0 1-1 2-2 3-3 4-4 5-5 6-6 7-7 8-8",
        ),
        (
            [INVERTED],
            False,
            "Am Montag hat der Bauer gestern einen Hund gesehen.",
            "On Monday has the farmer yesterday a dog seen.",
            "0-0 1-1 2-2 3-3 4-4 5-5 6-6 7-7 8-8",
        ),
        # the sentence starts with another word; its marks are those of the source
        (
            [RELATIVE],
            False,
            "Als sie den Mann abholte, half ihm das Zimmer, in dem Anna schlief.",
            "When she the man picked up, helped him the room, in which Anna slept.",
            "0-0 1-1 2-2 3-3 4-4 4-5 5-6 6-7 7-8 8-9 9-10 10-11 11-12 12-13",
        ),
        # im is surely linked to two words, the article before the genitive possibly to one
        (
            [
                Clause(
                    np("the dog", possessor=np("the man")),
                    (does("sleep", tense=PERFECT, place=PrepositionalPhrase(IN, np("the garden"))),),
                )
            ],
            True,
            "The man's dog has slept in the garden.",
            "Des der Mannes Hund hat geschlafen im Garten.",
            "0-0 1?1 1-2 2-3 3-4 4-5 5-6 6-6 7-7",
        ),
        # Hund is a noun wherever it stands, and the pronoun no longer starts the sentence
        (
            [Clause(me("I"), (does("see", "accusative", PAST, accusative=np("the dog")),), YESTERDAY)],
            False,
            "Gestern sah ich den Hund.",
            "Yesterday saw I the dog.",
            "0-0 1-1 2-2 3-3 4-4",
        ),
    ],
)
def test_target_words_in_the_order_of_the_source(clauses, forth: bool, source: str, target: str, links: str):
    line = in_source_order(sentence(clauses, []), forth=forth)
    assert line == (source, target, parse_links(links, where="test"))


@pytest.mark.parametrize(
    "clause",
    [
        # abholen is picks and up, ihn between them
        Clause(np("the man"), (does("pick", "accusative", PRESENT_MODALS["can"], accusative=me("he")),)),
        # only a possible link crosses: did to sah, beyond not
        Clause(np("the man"), (does("see", "accusative", PAST, negated=True, accusative=me("he")),)),
    ],
)
def test_sentence_that_no_order_uncrosses_is_left_out(clause: Clause):
    assert in_source_order(sentence([clause], []), forth=True) is None


def test_crossing_links():
    def pairs(text: str):
        return parse_links(text, where="test").possible

    assert not crosses([])
    assert not crosses(pairs("0-0 0-1 1-1 1-2 2-2 4-3"))
    assert crosses(pairs("0-1 1-0"))
    assert crosses(pairs("0-0 0-2 1-1"))
    # not next to each other
    assert crosses(pairs("0-5 1-6 2-7 3-4"))


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_shared_order_links_the_same_words_and_never_crosses(source: str, target: str):
    options = {"source": source, "target": target}
    natural = SyntheticCorpus(**SIZES | {"train_sentences": 600, "test_sentences": 120}, **options).load()
    ordered = texts(SyntheticCorpus(**SIZES, order="source", **options).load())
    compared = 0
    for key, text in texts(natural).items():
        before = {line: (other, links) for line, other, links in triples(text)}
        for line, other, links in triples(ordered[key]):
            assert not crosses(links.possible)
            # the marks are those of the source, and the full stop is at the end
            assert Counter(re.findall("[,;]", other)) == Counter(re.findall("[,;]", line))
            assert re.fullmatch(r"[A-ZÄÖÜ][^.]*[^.,;]\.", other)
            if line not in before:
                continue
            compared += 1
            old, old_links = before[line]
            for kind in ("sure", "possible"):
                now = Counter((i, words(other)[j]) for i, j in getattr(links, kind))
                assert now == Counter((i, words(old)[j]) for i, j in getattr(old_links, kind))
            assert sorted(words(old)) == sorted(words(other))
    # the drawing is that of the default corpus, so most sentences are the same
    assert compared > 0.8 * sum(map(len, ordered.values()))


def test_shared_order_keeps_capitals_inside_only_where_they_belong():
    natural, ordered = (SyntheticCorpus(**SIZES, order=order).load() for order in ("natural", "source"))
    inside = {word.strip(".,;") for line in natural.train.targets for word in line.split()[1:]}
    moved = {word.strip(".,;") for line in ordered.train.targets for word in line.split()[1:]}
    # nothing is capitalised or lower-cased that never is in a natural sentence
    assert {word for word in moved - inside if word.swapcase()[0] + word[1:] in inside} == set()


# sentences


def test_joined_lines_shift_the_links():
    first = in_natural_order(sentence([Clause(np("the dog"), (does("sleep"),))], []), forth=True)
    clause = Clause(me("she"), (does("pick", "accusative", PAST, accusative=np("the child")),))
    second = in_natural_order(sentence([clause], []), forth=True)
    line = joined([first, second, first], "<sep>")
    assert line.source == "The dog sleeps. <sep> She picked up the child. <sep> The dog sleeps."
    assert line.target == "Der Hund schläft. Sie holte das Kind ab. Der Hund schläft."
    links = "0-0 1-1 2-2 4-3 5-4 6?4 7-5 8-6 6-7 5?7 10-8 11-9 12-10"
    assert line.links == parse_links(links, where="test")


@pytest.mark.parametrize("order", ["natural", "source"])
@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_paragraphs_are_the_sentences_of_a_larger_corpus(source: str, target: str, order: str):
    options = {"source": source, "target": target, "order": order}
    single = texts(SyntheticCorpus(**{key: 3 * size for key, size in SIZES.items()}, **options).load())
    joint = texts(SyntheticCorpus(**SIZES, sentences=3, sentence_separator="<end>", **options).load())
    for key, text in joint.items():
        parts = iter(triples(single[key]))
        for line, other, links in triples(text):
            three = [next(parts) for _ in range(3)]
            assert line.split(" <end> ") == [part[0] for part in three]
            assert other == " ".join(part[1] for part in three)
            marks = [place for place, word in enumerate(line.split()) if word == "<end>"]
            assert len(marks) == 2
            assert not {i for i, _ in links.possible} & set(marks)
            starts = [0, *(mark + 1 for mark in marks)]
            begun = [sum(len(part[1].split()) for part in three[:number]) for number in range(3)]
            for kind in ("sure", "possible"):
                shifted = {
                    (i + starts[number], j + begun[number])
                    for number, part in enumerate(three)
                    for i, j in getattr(part[2], kind)
                }
                assert getattr(links, kind) == shifted
        assert next(parts, None) is None


# names


NUMBER = re.compile(r"[1-9][0-9]{1,5}")
NAME = re.compile(r"[BDFGKLMNPRSTVZ][aeiou]([bdfgklmnprstvz][aeiou]){2}[klmnrst]")


def copies(line: str) -> list[str]:
    """The made-up names and numbers of a line."""
    found = [word.strip(".,;") for word in line.split()]
    return [word for word in found if NUMBER.fullmatch(word) or NAME.fullmatch(word)]


@pytest.mark.parametrize(("source", "target"), DIRECTIONS)
def test_names_and_numbers_are_the_same_and_linked_one_to_one(source: str, target: str):
    corpus = SyntheticCorpus(**SIZES, names=1, source=source, target=target).load()
    for text in texts(corpus).values():
        for line, other, links in triples(text):
            made = copies(line)
            assert made
            assert Counter(copies(other)) == Counter(made)
            both = line.split(), other.split()
            touching = [link for link in links.possible if any(copies(both[side][link[side]]) for side in (0, 1))]
            sure = [link for link in touching if link in links.sure]
            assert sorted(copies(both[0][i])[0] for i, _ in sure) == sorted(made)
            assert all(copies(both[0][i]) == copies(both[1][j]) for i, j in sure)
            # "gives it to Marovik" is "gibt es Marovik": the grammar's possible link of "to" to the dative's first word
            assert {both[source == "de"][link[source == "de"]] for link in touching if link not in sure} <= {"to"}


def test_share_of_names():
    natural = SyntheticCorpus(**SIZES).load()
    assert not any(copies(line) for text in texts(natural).values() for line in (*text.sources, *text.targets))
    train = SyntheticCorpus(**SIZES | {"train_sentences": 2000}, names=0.3).load().train
    made = [copies(line) for line in train.sources]
    # 0.3 and four standard deviations
    assert abs(sum(map(bool, made)) / 2000 - 0.3) < 0.041
    kinds = Counter("number" if word[0].isdigit() else "name" for words in made for word in words)
    assert min(kinds.values()) > 0.1 * sum(kinds.values())
    assert any(len(words) > 1 for words in made)
    # what is labelled is definite and one
    labelled = {word for line in train.targets for word in re.findall(r"(\w+) (?:\w+ )?\w+ Nummer \d", line)}
    assert labelled
    assert not any(re.match("jede|kein|viele|zwei|ein", word.lower()) for word in labelled)


def test_names_of_the_other_splits_are_unseen_and_few_repeat():
    corpus = texts(SyntheticCorpus(**SIZES | {"train_sentences": 3000}, names=1).load())
    made = {key: [word for line in text.sources for word in copies(line)] for key, text in corpus.items()}
    seen = {word for line in (*corpus["train"].sources, *corpus["train"].targets) for word in copies(line)}
    for key in corpus.keys() - {"train"}:
        assert made[key]
        assert not seen & set(made[key])
    assert len(made["train"]) > 3000
    assert len(set(made["train"])) > 0.97 * len(made["train"])
    lengths = Counter(len(word) for word in made["train"] if word.isdigit())
    assert set(lengths) == {2, 3, 4, 5, 6}
    # no real word looks like a name
    forms = {form for noun in NOUNS.values() for form in (*noun.singular.values(), noun.plural)}
    assert not any(NAME.fullmatch(word) for word in forms)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_draw_is_of_its_own_pool(held_out: bool):
    mine, other = (Copies(1, 3, held_out=side) for side in (held_out, not held_out))
    assert not {mine.number() for _ in range(2000)} & {other.number() for _ in range(2000)}
    # the short numbers are few enough to be drawn all: both pools together have each, and no other
    short = [{word for word in (pool.number() for _ in range(40000)) if len(word) == 2} for pool in (mine, other)]
    assert short[0] | short[1] == {str(number) for number in range(10, 100)}
    assert not short[0] & short[1]


def test_appositions():
    room = np("the room", apposition=(("number", "Nummer"), ("4711", "4711")))
    person = np("my student", apposition=(("Marovik", "Marovik"),))
    place = PrepositionalPhrase(IN, room)
    clause = Clause(me("I"), (does("help", "dative", PAST, dative=person, place=place),))
    pair = sentence([clause], [])
    assert pair.english == "I helped my student Marovik in the room number 4711."
    assert pair.german == "Ich half meinem Studenten Marovik im Zimmer Nummer 4711."
    assert pair.sure == parse_links("0-0 1-1 2-2 3-3 4-4 5-5 6-5 7-6 8-7 9-8", where="test").sure
    owned = np("the dog", possessor=np("the man"), apposition=(("number", "Nummer"), ("17", "17")))
    pair = sentence([Clause(owned, (does("sleep", tense=PAST),))], [])
    assert (pair.english, pair.german) == ("The man's dog number 17 slept.", "Der Hund Nummer 17 des Mannes schlief.")
    with_relative = np(
        "the dog",
        apposition=(("number", "Nummer"), ("17", "17")),
        relative=PrepositionRelative(WITH, Clause(Name("Anna"), (does("sleep", tense=PAST),))),
    )
    phrase = with_relative.phrase("nom")
    assert [word.text for word in phrase.english[:6]] == ["the", "dog", "number", "17", "with", "which"]
    assert [word.text for word in phrase.whole()] == ["der", "Hund", "Nummer", "17", ",", "mit", "dem", "Anna",
                                                      "schlief", ","]  # fmt: skip


# configuration


@pytest.mark.parametrize(
    ("name", "option", "default"),
    [
        ("synthetic_shared_order", {"order": "source"}, True),
        ("synthetic_paragraphs", {"sentences": 3, "sentence_separator": "<sep>"}, False),
        ("synthetic_copying", {"names": 0.7}, True),
    ],
)
def test_configurations(name: str, option: dict, default: bool):
    plain = composed().data
    data = composed(f"data={name}").data
    assert data == plain | data
    assert data.items() >= option.items()
    if default:
        assert data == plain | option
    assert isinstance(build(data, CorpusSource, "data"), SyntheticCorpus)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "target"}, "data.order=target"),
        ({"sentences": 0}, "data.sentences=0"),
        ({"sentence_separator": ""}, "data.sentence_separator=''"),
        ({"sentence_separator": "a b"}, "data.sentence_separator='a b'"),
        ({"names": 1.5}, "data.names=1.5"),
        ({"names": -0.1}, "data.names=-0.1"),
        ({"names": float("nan")}, "data.names=nan"),
    ],
)
def test_refused_options(options: dict, message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        SyntheticCorpus(**options)


# tokens


def test_word_tokenizer_keeps_the_separator_and_cannot_know_the_names():
    word = build(composed("tokenizer=word").tokenizer, TokenizerTrainer, "tokenizer", separator="<sep>")
    corpus = SyntheticCorpus(**SIZES, sentences=2, names=1).load()
    tokenizer = word.train(corpus.train.sources, corpus.train.targets, cache=None).source
    line = corpus.train.sources[0]
    ids = tokenizer.encode([line])[0]
    assert tokenizer.pieces(ids).count("\u2581<sep>") == 1
    found, pieces = piece_words(tokenizer.surfaces(ids))
    assert found == split_words(line) == line.split()
    assert [found[word] for (word,), piece in zip(pieces, tokenizer.pieces(ids), strict=True) if "<" in piece] == [
        "<sep>"
    ]
    assert corpus.test is not None
    names = {"\u2581" + name for line in corpus.test.sources for name in copies(line)}
    assert names
    assert not names & set(tokenizer.pieces(range(tokenizer.size)))


def test_word_tokenizer_splits_brackets_that_are_no_separator():
    lines = ["a <sep> b", "a<sep> b <", "2 < 3 >", "<a b> <>"]
    trainer = WordTrainer(vocabulary_size=50, minimum_count=1, joint=True, split_punctuation=True, separator="<sep>")
    tokenizer = trainer.train(lines, lines, cache=None).source
    pieces = [tokenizer.pieces(ids) for ids in tokenizer.encode(lines)]
    assert ["|".join(line).replace("\u2581", "_") for line in pieces] == [
        "_a|_<sep>|_b",
        "_a|<|sep|>|_b|_<",
        "_2|_<|_3|_>",
        "_<|a|_b|>|_<|>",
    ]
    assert tokenizer.decode(tokenizer.encode(lines)) == lines
