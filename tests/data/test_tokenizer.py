"""Tokenizers keep the text, tell the truth about their pieces, and are the same whenever they are trained again."""

import dataclasses
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml

from nmt.component import build
from nmt.data.tokenizer import (
    CharacterTrainer,
    Sampling,
    SentencePieceTrainer,
    TokenizerPair,
    TokenizerTrainer,
    WordTrainer,
)
from nmt.data.tokenizer import trainer as trainer_module
from nmt.data.tokenizer.trainer import spaced_sample
from nmt.data.vocabulary import BOS, EOS, PAD, UNK
from nmt.data.words import piece_words, split_words
from nmt.errors import ConfigError, DataError, RunError

ROOT = Path(__file__).parents[2]
NOUNS = "dog cat house river mountain bicycle teacher winter garden window".split()
VERBS = "sees finds carries remembers answers follows paints forgets".split()
NOMEN = "Hund Katze Haus Fluss Berg Fahrrad Lehrer Winter Garten Fenster".split()
HAN = "我你他喜欢看见狗猫房子河流山老师冬天花园窗户在大小的了"


def make_text(count, seed=0):
    generator = random.Random(seed)
    sources = [f"The {generator.choice(NOUNS)} {generator.choice(VERBS)} the {generator.choice(NOUNS)}."
               for _ in range(count)]  # fmt: skip
    targets = [f"{generator.choice(NOMEN)} – „{generator.choice(NOMEN)}“, so!" for _ in range(count)]
    return sources, targets


def make_chinese(count, seed=0):
    generator = random.Random(seed)
    return ["".join(generator.choice(HAN) for _ in range(generator.randrange(3, 12))) + "。" for _ in range(count)]


SUBWORDS = SentencePieceTrainer(
    model_type="unigram", vocabulary_size=400, joint=True, byte_fallback=True, sampling=0.0,
    character_coverage=1.0, threads=1,
)  # fmt: skip
TRAINERS = {
    "unigram": SUBWORDS,
    "bpe": dataclasses.replace(SUBWORDS, model_type="bpe"),
    "word": WordTrainer(vocabulary_size=400, minimum_count=1, joint=True, split_punctuation=True),
    "plain_word": WordTrainer(vocabulary_size=400, minimum_count=1, joint=True, split_punctuation=False),
    "char": CharacterTrainer(vocabulary_size=400, minimum_count=1, joint=True, byte_fallback=True),
}
# all but words, which cannot spell what they have not seen
SPELLING = ["unigram", "bpe", "char"]


@pytest.fixture(scope="module")
def text():
    return make_text(300)


@pytest.fixture(scope="module")
def pairs(text):
    return {name: trainer.train(*text, cache=None) for name, trainer in TRAINERS.items()}


@pytest.fixture(params=TRAINERS)
def tokenizer(request, pairs):
    return pairs[request.param].source


def test_known_text_comes_back(tokenizer, text):
    for lines in text:
        assert tokenizer.decode(tokenizer.encode(lines)) == lines


HARD = [
    "全角，标点！「你好」",
    "no\u00a0break \u202fspaces\u3000wide",
    "😀 👩‍👩‍👧 🇩🇪",
    "𠮷野家 𪚥 龘",
    "<s> </s> <unk> <pad> <0x41>",
    "tab\there\rcarriage\u2028separator\ufeff",
    "e\u0301 ﬁ ½ ＡＢＣ",
    "",
]


@pytest.mark.parametrize("name", SPELLING)
@pytest.mark.parametrize("line", HARD)
def test_strange_text_comes_back(pairs, name, line):
    tokenizer = pairs[name].source
    (ids,) = tokenizer.encode([line])
    assert tokenizer.decode([ids]) == [line]
    assert not set(ids) & {PAD, UNK, BOS, EOS}
    # an encoded line has one id at least for each of its words
    assert len(ids) >= len(line.split())


@pytest.mark.parametrize("line", HARD)
def test_words_that_were_seen_come_back_however_strange(line):
    for split in (True, False):
        trainer = WordTrainer(vocabulary_size=99, minimum_count=1, joint=True, split_punctuation=split)
        tokenizer = trainer.train([line], ["x"], cache=None).source
        assert tokenizer.decode(tokenizer.encode([line])) == [line]


def test_random_text_comes_back(pairs):
    generator = random.Random(7)
    for name in SPELLING:
        tokenizer = pairs[name].source
        for _ in range(100):
            characters = [chr(generator.choice([*range(0x20, 0x7F), *range(0xA0, 0x250), *range(0x4E00, 0x4F00)]))
                          for _ in range(20)]  # fmt: skip
            line = " ".join("".join(characters).split(" ")).strip(" ")
            line = " ".join(part for part in line.split(" ") if part)
            assert tokenizer.decode(tokenizer.encode([line])) == [line]


@pytest.mark.parametrize("word", ["<sep>", "##."])
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("name", TRAINERS)
def test_a_separator_between_sentences_is_one_token(name, joint, word, text, tmp_path):
    sources = [f"{one} {word} {other}" for one, other in zip(text[0], text[0][1:], strict=False)]
    trainer = dataclasses.replace(TRAINERS[name], separator=word, joint=joint)
    pair = trainer.train(sources, text[1][1:], cache=None)
    pair.save(tmp_path)
    for tokenizer in (pair.source, TokenizerPair.load(tmp_path).source):
        separator = tokenizer.token(word)
        lines = [*sources[:20], f"The dog {word} {word} {word} sees", f"{word} The dog {word}", word]
        encoded = tokenizer.encode(lines)
        assert [ids.count(separator) for ids in encoded] == [line.split().count(word) for line in lines]
        assert tokenizer.decode(encoded) == lines
        for ids, line in zip(encoded, lines, strict=True):
            assert piece_words(tokenizer.surfaces(ids))[0] == split_words(line)


@pytest.mark.parametrize("name", SPELLING)
def test_a_separator_inside_a_word_is_text(name, text):
    trainer = dataclasses.replace(TRAINERS[name], separator="<sep>")
    tokenizer = trainer.train(["The dog <sep> sees", *text[0]], text[1], cache=None).source
    (ids,) = tokenizer.encode(["a<sep>b"])
    assert tokenizer.token("<sep>") not in ids
    assert tokenizer.decode([ids]) == ["a<sep>b"]


@pytest.mark.parametrize("name", TRAINERS)
def test_a_separator_that_the_text_does_not_have_changes_nothing(name, text, pairs):
    tokenizer = dataclasses.replace(TRAINERS[name], separator="<sep>").train(*text, cache=None).source
    assert tokenizer.token("<sep>") is None
    every = range(tokenizer.size)
    assert tokenizer.pieces(every) == pairs[name].source.pieces(every)


def test_the_cache_is_asked_for_a_separator_only_where_the_text_has_it(text):
    def prints(trainer, sources):
        return [trainer.fingerprint(sources, text[1]), trainer.fingerprint(text[1], sources)]

    for trainer in TRAINERS.values():
        plain, barred, other = (dataclasses.replace(trainer, separator=each) for each in (None, "<sep>", "|"))
        inside = [*text[0][1:], "a<sep>b <sep>."]
        between = [*text[0][1:], "a <sep> b"]
        assert prints(plain, inside) == prints(barred, inside) == prints(other, inside)
        assert prints(plain, between) == prints(other, between)
        assert not set(prints(barred, between)) & set(prints(plain, between))


@pytest.mark.parametrize("rate", [("unigram", 0.3), ("bpe", 0.5)])
def test_random_segmentation_keeps_the_separator(rate, text):
    model_type, sampling = rate
    trainer = dataclasses.replace(SUBWORDS, model_type=model_type, sampling=sampling, separator="<sep>")
    lines = [f"{line} <sep> {line}" for line in text[0]]
    tokenizer = trainer.train(lines, text[1], cache=None).source
    separator = tokenizer.token("<sep>")
    drawn = tokenizer.encode(lines, sampler=Sampling(1, 2))
    assert drawn != tokenizer.encode(lines)
    assert all(ids.count(separator) == 1 for ids in drawn)


def test_runs_of_spaces_are_one(tokenizer):
    assert tokenizer.encode(["  The   dog  "]) == tokenizer.encode(["The dog"])
    assert tokenizer.encode(["", "   "]) == [[], []]
    assert tokenizer.decode([[], []]) == ["", ""]
    assert tokenizer.encode([]) == []
    assert tokenizer.decode([]) == []


def test_specials_vanish_and_unknown_shows(tokenizer):
    (ids,) = tokenizer.encode(["The dog"])
    assert tokenizer.decode([[BOS, *ids, EOS, PAD, PAD]]) == ["The dog"]
    assert "\u2047" in tokenizer.decode([[UNK]])[0]
    assert tokenizer.surfaces([PAD, BOS, EOS]) == [b"", b"", b""]
    assert tokenizer.pieces([PAD, UNK, BOS, EOS]) == ["<pad>", "<unk>", "<s>", "</s>"]


def test_surfaces_are_the_text_piece_by_piece(tokenizer, text):
    lines = [*text[0][:20], *HARD]
    for ids, decoded in zip(tokenizer.encode(lines), tokenizer.decode(tokenizer.encode(lines)), strict=True):
        surfaces = tokenizer.surfaces(ids)
        assert len(surfaces) == len(ids) == len(tokenizer.pieces(ids))
        assert b"".join(surfaces).decode().strip(" ") == decoded
        assert piece_words(surfaces)[0] == split_words(decoded)


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_decoding_is_the_librarys(pairs, name, text, tmp_path):
    import sentencepiece

    tokenizer = pairs[name].source
    (tmp_path / "m.model").write_bytes((tmp_path / tokenizer.save(tmp_path, "m")["file"]).read_bytes())
    library = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    generator = random.Random(3)
    sequences = tokenizer.encode([*text[0][:20], *HARD])
    sequences += [[generator.randrange(tokenizer.size) for _ in range(12)] for _ in range(100)]
    expected = [library.decode(ids).strip(" ") for ids in sequences]
    ours = tokenizer.decode(sequences)
    # where bytes are no text the library may write another number of replacement characters
    clean = [(a, b) for a, b in zip(ours, expected, strict=True) if "\ufffd" not in a + b]
    assert len(clean) >= 20
    assert all(a == b for a, b in clean)


def test_pieces_are_readable(pairs):
    ids = pairs["char"].source.encode(["a dog"])[0]
    assert pairs["char"].source.pieces(ids) == ["a", "▁", "d", "o", "g"]
    ids = pairs["word"].source.encode(["The dog."])[0]
    assert pairs["word"].source.pieces(ids) == ["▁The", "▁dog", "."]
    ids = pairs["plain_word"].source.encode(["The dog. qqq"])[0]
    assert pairs["plain_word"].source.pieces(ids) == ["▁The", "▁dog.", "<unk>"]
    assert "".join(pairs["bpe"].source.pieces(pairs["bpe"].source.encode(["The dog."])[0])) == "▁The▁dog."


def test_words_unknown_and_cut_off():
    lines = ["a a a b b c", "a a b d"]
    trainer = WordTrainer(vocabulary_size=6, minimum_count=1, joint=True, split_punctuation=True)
    tokenizer = trainer.train(lines, [], cache=None).source
    assert tokenizer.size == 6
    assert tokenizer.encode(["b c a zzz"]) == [[5, UNK, 4, UNK]]
    rare = WordTrainer(vocabulary_size=99, minimum_count=2, joint=True, split_punctuation=True)
    assert rare.train(lines, [], cache=None).source.size == 6
    none = WordTrainer(vocabulary_size=99, minimum_count=6, joint=True, split_punctuation=True)
    with pytest.raises(DataError, match="minimum_count=6"):
        none.train(lines, [], cache=None)


def test_words_with_marks_digits_and_no_spaces():
    line = "हिन्दी don't 3.5% 我们 x_y"
    trainer = WordTrainer(vocabulary_size=99, minimum_count=1, joint=True, split_punctuation=True)
    tokenizer = trainer.train([line], ["x"], cache=None).source
    expected = ["▁हिन्दी", "▁don", "'", "t", "▁3", ".", "5", "%", "▁我", "们", "▁x_y"]
    assert tokenizer.pieces(tokenizer.encode([line])[0]) == expected


def test_unknown_characters_without_bytes():
    trainer = CharacterTrainer(vocabulary_size=99, minimum_count=1, joint=True, byte_fallback=False)
    tokenizer = trainer.train(["abc"], ["d"], cache=None).source
    assert tokenizer.size == 8
    assert tokenizer.encode(["aé"]) == [[4, UNK]]


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_chinese_needs_no_segmentation(name):
    lines = make_chinese(300)
    tokenizer = TRAINERS[name].train(lines, lines, cache=None).source
    assert tokenizer.decode(tokenizer.encode(lines)) == lines
    byte_pieces = {
        piece for ids in tokenizer.encode(lines) for piece in tokenizer.pieces(ids) if piece.startswith("<0x")
    }
    assert not byte_pieces


@pytest.mark.parametrize("name", TRAINERS)
def test_training_again_gives_the_same(name, text, pairs):
    again = TRAINERS[name].train(*text, cache=None)
    assert again.source.encode(text[0][:50]) == pairs[name].source.encode(text[0][:50])
    assert again.source.pieces(range(again.source.size)) == pairs[name].source.pieces(range(again.source.size))


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize("joint", [True, False])
def test_saved_pairs_open_again(name, joint, text, tmp_path):
    pair = dataclasses.replace(TRAINERS[name], joint=joint).train(*text, cache=None)
    assert pair.joint == joint
    pair.save(tmp_path)
    assert all(path.name.startswith("tokenizer.") for path in tmp_path.iterdir())
    opened = TokenizerPair.load(tmp_path)
    assert opened.joint == joint
    for side, lines in zip(("source", "target"), text, strict=True):
        before, after = getattr(pair, side), getattr(opened, side)
        assert after.size == before.size
        assert after.encode([*lines, *HARD]) == before.encode([*lines, *HARD])
    if not joint:
        assert opened.source.encode(text[1]) != opened.target.encode(text[1])


def test_a_saved_pair_remembers_its_sampling(text, tmp_path):
    dataclasses.replace(SUBWORDS, sampling=0.25).train(*text, cache=None).save(tmp_path)
    assert TokenizerPair.load(tmp_path).source.sampling == 0.25


def test_a_missing_or_broken_tokenizer_is_told(pairs, tmp_path):
    with pytest.raises(RunError, match="tokenizer.json is missing"):
        TokenizerPair.load(tmp_path)
    pairs["unigram"].save(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(RunError, match="cannot be read"):
        TokenizerPair.load(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(RunError, match="tokenizer.model is missing"):
        TokenizerPair.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"both": {"class": "Nothing"}}')
    with pytest.raises(RunError, match="Nothing is no tokenizer"):
        TokenizerPair.load(tmp_path)


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_a_text_too_small_for_the_vocabulary_gives_fewer_pieces(name):
    trainer = dataclasses.replace(TRAINERS[name], vocabulary_size=8000)
    pair = trainer.train(["a small text", "one more small line"], ["ein kleiner Text", "noch einer"], cache=None)
    assert 4 + 256 < pair.source.size < 500
    assert pair.source.decode(pair.source.encode(["a small line"])) == ["a small line"]


def test_the_library_may_refuse_a_vocabulary_once(monkeypatch, text):
    import sentencepiece

    real, sizes = sentencepiece.SentencePieceTrainer.train, []

    def strict(**options):
        sizes.append(options["vocab_size"])
        if options["vocab_size"] > 300:
            raise RuntimeError("Vocabulary size too high (400). Please set it to a value <= 300.")
        real(**options)

    monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "train", staticmethod(strict))
    assert TRAINERS["bpe"].train(*text, cache=None).source.size == 300
    assert sizes == [400, 300]


def test_a_vocabulary_too_small_for_the_text_is_told():
    lines = make_chinese(50)
    with pytest.raises(ConfigError, match=r"vocabulary_size=262 is too small.*at least \d+.*character_coverage"):
        dataclasses.replace(SUBWORDS, vocabulary_size=262).train(lines, lines, cache=None)


@pytest.mark.parametrize("name", TRAINERS)
def test_an_empty_text_is_told(name):
    with pytest.raises(DataError, match="training text"):
        TRAINERS[name].train([], [""], cache=None)


@pytest.mark.parametrize(
    ("trainer", "option", "value"),
    [
        (SUBWORDS, "vocabulary_size", 4),
        (SUBWORDS, "sampling", -0.1),
        (SUBWORDS, "sampling", 1.5),
        (SUBWORDS, "character_coverage", 0.5),
        (SUBWORDS, "threads", 0),
        (TRAINERS["word"], "minimum_count", 0),
        (TRAINERS["word"], "vocabulary_size", 4),
        (TRAINERS["char"], "vocabulary_size", 260),
        (TRAINERS["char"], "minimum_count", 0),
    ],
)
def test_options_are_checked(trainer, option, value):
    with pytest.raises(ConfigError, match=f"tokenizer.{option}={value} is not accepted; it must be"):
        dataclasses.replace(trainer, **{option: value})


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trained_tokenizer_is_cached(name, text, tmp_path, monkeypatch):
    trainer = TRAINERS[name]
    first = trainer.train(*text, cache=tmp_path / "deep" / "cache")
    assert [path.name for path in (tmp_path / "deep" / "cache").iterdir()] == [trainer.fingerprint(*text)]
    monkeypatch.setattr(type(trainer), "train_one", lambda *_: pytest.fail("trained again"))
    again = trainer.train(*text, cache=tmp_path / "deep" / "cache")
    assert again.source.encode(text[0]) == first.source.encode(text[0])


def test_the_fingerprint_depends_on_text_side_and_options(text):
    sources, targets = text
    prints = {
        SUBWORDS.fingerprint(sources, targets),
        SUBWORDS.fingerprint(targets, sources),
        SUBWORDS.fingerprint(sources[:-1], targets[:-1]),
        SUBWORDS.fingerprint([*sources, targets[0]], targets[1:]),
        SUBWORDS.fingerprint(["x", *sources[1:]], targets),
        *(trainer.fingerprint(sources, targets) for trainer in list(TRAINERS.values())[1:]),
        *(dataclasses.replace(SUBWORDS, **{key: value}).fingerprint(sources, targets)
          for key, value in {"joint": False, "sampling": 0.1, "byte_fallback": False, "threads": 2}.items()),
    }  # fmt: skip
    assert len(prints) == 5 + 4 + 4
    assert SUBWORDS.fingerprint(tuple(sources), tuple(targets)) in prints


def test_a_broken_cache_is_replaced(text, tmp_path):
    SUBWORDS.train(*text, cache=tmp_path)
    folder = tmp_path / SUBWORDS.fingerprint(*text)
    (folder / "tokenizer.model").write_bytes(b"nonsense")
    SUBWORDS.train(*text, cache=tmp_path)
    TokenizerPair.load(folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_cache_that_cannot_be_written_is_a_warning(text, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file stands here")
    pair = TRAINERS["char"].train(*text, cache=tmp_path / "cache")
    assert pair.source.size > 4
    assert "could not be cached" in caplog.text


def test_a_huge_corpus_is_thinned_evenly(monkeypatch, text):
    assert list(spaced_sample("abcdefgh", 4)) == ["a", "c", "e", "g"]
    assert list(spaced_sample("abc", 3)) == ["a", "b", "c"]
    assert list(spaced_sample([], 3)) == []
    seen = []
    monkeypatch.setattr(trainer_module, "MAX_TRAINING_LINES", 10)
    monkeypatch.setattr(WordTrainer, "train_one", lambda _, lines: seen.extend(lines))
    TRAINERS["word"].train(*text, cache=None)
    assert seen == text[0][::30] + text[1][::30]


@pytest.mark.parametrize("name", ["unigram", "bpe"])
def test_sampled_segmentation_is_random_and_repeatable(name, text):
    pair = dataclasses.replace(TRAINERS[name], sampling=0.2).train(*text, cache=None)
    tokenizer, lines = pair.source, text[0]
    plain = tokenizer.encode(lines)
    first = tokenizer.encode(lines, sampler=Sampling(1, 0))
    # whatever was drawn in this thread or in another does not matter
    tokenizer.encode(lines[:7], sampler=Sampling(9, 9))
    again = []
    thread = threading.Thread(target=lambda: again.extend(tokenizer.encode(lines, sampler=Sampling(1, 0))))
    thread.start()
    thread.join()
    assert first == again
    others = [Sampling(2, 0), Sampling(1, 1), Sampling(1, 0, pool=1), Sampling(1, 0, side=1)]
    for other in others:
        assert tokenizer.encode(lines, sampler=other) != first
    assert first != plain
    assert tokenizer.encode(lines) == plain
    assert tokenizer.decode(first) == lines
    # the draws are spread over the corpus, not only its first lines
    assert sum(a != b for a, b in zip(first[150:], plain[150:], strict=True)) > 15


def test_sampling_off_is_the_plain_segmentation(pairs, text):
    for pair in pairs.values():
        assert pair.source.encode(text[0][:30], sampler=Sampling(1, 0)) == pair.source.encode(text[0][:30])
        assert not pair.sampling
        assert pair.epoch_encoder(*text, seed=1) is None


def test_encoded_pairs(pairs, text, monkeypatch):
    pair = pairs["unigram"]
    monkeypatch.setattr("nmt.data.tokenizer.pair._POOL_LINES", 17)
    encoded = pair.encode_pairs(*text)
    for side, lines in zip((encoded.source, encoded.target), text, strict=True):
        assert [side[i] for i in range(len(side))] == pair.source.encode(lines)
    some = pair.encode_pairs(*text, indices=np.array([40, 2]))
    assert [some.target[i] for i in range(2)] == pair.target.encode([text[1][40], text[1][2]])
    assert len(pair.encode_pairs([], [])) == 0
    with pytest.raises(DataError, match="300 source and 299 target lines"):
        pair.encode_pairs(text[0], text[1][1:])


def test_epochs_are_segmented_anew(text, monkeypatch):
    pair = dataclasses.replace(SUBWORDS, sampling=0.2, joint=False).train(*text, cache=None)
    monkeypatch.setattr("nmt.data.tokenizer.pair._POOL_LINES", 20)
    indices = np.arange(0, 300, 5)
    encode = pair.epoch_encoder([text[0][0]] * 300, text[1], seed=1, indices=indices)
    first, again, second = encode(0), encode(0), encode(1)
    assert len(first) == 60
    assert first.source.ids.tolist() == again.source.ids.tolist()
    assert first.target.ids.tolist() == again.target.ids.tolist()
    assert first.source.ids.tolist() != second.source.ids.tolist()
    # the same line in every place, yet each pool draws its own
    pools = [[first.source[i] for i in range(start, start + 20)] for start in (0, 20, 40)]
    assert pools[0] != pools[1] != pools[2]
    assert pair.target.decode([first.target[i] for i in range(60)]) == [text[1][i] for i in indices]


@pytest.mark.parametrize("path", sorted((ROOT / "configs/tokenizer").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_builds_and_trains(path, text):
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    trainer = build(node, TokenizerTrainer, "tokenizer")
    assert trainer.vocabulary_size == 8000
    assert trainer.joint
    if "threads" in node:
        trainer = dataclasses.replace(trainer, threads=1)
    pair = trainer.train(*text, cache=None)
    assert pair.source.decode(pair.source.encode(text[0])) == text[0]


def test_there_is_a_config_for_every_kind():
    assert {path.stem for path in (ROOT / "configs/tokenizer").glob("*.yaml")} >= {"unigram", "bpe", "word", "char"}
