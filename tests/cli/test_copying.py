"""Copies from `python train.py` to `nmt translate`: names that no training line has come out as they went in."""

import random

import numpy as np
import pytest
from composed import composed

from nmt.assemble import build_model, open_run
from nmt.cli.copying import with_copies
from nmt.cli.train import main
from nmt.data import Corpus, ParallelText, SentencePieceTrainer, WordTrainer
from nmt.errors import ConfigError, DataError

NOUNS = {"the dog": "den Hund", "(a bird)": "(einen Vogel)"}
SMALL = (
    "data=files", "data.source=en", "data.target=de", "data.train=train", "data.valid=valid", "data.test=test",
    "tokenizer=word", "tokenizer.minimum_count=3", "embedding.size=16", "encoder.hidden_size=16",
    "decoder.hidden_size=32", "embedding.dropout=0", "encoder.dropout=0", "decoder.dropout=0",
    "training.batch_tokens=120", "training.max_epochs=8", "training.optimizer.learning_rate=2e-2",
    "training.schedule.warmup_steps=10", "training.schedule.horizon_epochs=8", "search.beam=3", "device=cpu",
    "training.validate_every=60", "precision=fp32", "threads=1",
)  # fmt: skip


def name(draw):
    return "".join(draw.choice("BDGKLMNPRST") + draw.choice("aeiou") for _ in range(4)).capitalize()


def line(draw):
    one, other = name(draw), name(draw)
    noun = draw.choice(list(NOUNS))
    if draw.random() < 0.5:
        return f"{one} sees {noun}.", f"{one} sieht {NOUNS[noun]}."
    return f"{one} sees {noun} and {other}.", f"{one} sieht {NOUNS[noun]} und {other}."


def reversed_line(draw):
    words = [draw.choice([name(draw), "red", "green", "blue"]) for _ in range(draw.randint(2, 4))]
    return " ".join(words), " ".join(words[::-1])


def write(folder, make):
    draw = random.Random(3)
    for split, size in (("train", 200), ("valid", 10), ("test", 30)):
        sources, targets = zip(*(make(draw) for _ in range(size)), strict=True)
        (folder / f"{split}.en").write_text("".join(f"{each}\n" for each in sources), encoding="utf-8")
        (folder / f"{split}.de").write_text("".join(f"{each}\n" for each in targets), encoding="utf-8")
    return folder


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NMT_CACHE", str(folder / "nmt"))
        patch.setenv("HF_HOME", str(folder / "hf"))
        yield


def train(folder, run, *overrides):
    return main([*SMALL, f"data.root={folder}", f"data.cache={folder / 'cache'}", f"run_dir={run}", *overrides])


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("names"), line)
    assert train(folder, folder / "run", "attention=pointer") == 0
    return open_run(folder / "run").folder


def test_unseen_names_are_in_the_results(generator):
    scores, vocabulary = generator.read_metrics(), open_run(generator.path).tokenizers.target
    lines = [generator.references().read_text().splitlines(), generator.hypotheses().read_text().splitlines()]
    names = [{word.strip(".") for word in text.split() if word.strip(".").istitle()} for text in lines[0]]
    names = [{word for word in given if vocabulary.token(word) is None} for given in names]
    assert sum(map(len, names)) > 30
    right = sum(len(given & set(text.replace(".", " ").split())) for given, text in zip(names, lines[1], strict=True))
    assert right >= 0.9 * sum(map(len, names))
    assert scores["test"]["bleu"] > 60 and scores["test"]["perplexity"] < 3
    assert (generator.path / "report.html").exists()


def test_translate_writes_unseen_names_with_their_spaces(generator, nmt, tmp_path):
    given = "Xeru sees the dog.\nQuolo sees (a bird) and Wyxi.\n\n"
    links = tmp_path / "links"
    result = nmt("translate", generator.path, "--alignments", links, given=given.encode())
    assert result.code == 0, result.err
    assert result.lines == ["Xeru sieht den Hund.", "Quolo sieht (einen Vogel) und Wyxi.", ""]
    found = links.read_text().splitlines()
    # each target word has its link, and a copied one that to its own word
    assert len(found) == 3 and {"0-0"} <= set(found[0].split()) and "6-6" not in found[1]
    assert "0-0" in found[1].split() and "5-5" in found[1].split()
    assert len(found[1].split()) == 6
    n_best = nmt("translate", generator.path, "--n-best", "3", "--no-repeat-ngram", "1", given=given.encode())
    assert n_best.code == 0, n_best.err
    texts = [text.split(" ||| ")[1] for text in n_best.lines]
    assert len(texts) == 9 and texts[0] == "Xeru sieht den Hund." and len(set(texts[:3])) == 3


def test_evaluate_and_align_know_unseen_names(generator, nmt, tmp_path):
    source, target = tmp_path / "new.en", tmp_path / "new.de"
    source.write_text("Xeru sees the dog.\nNara sees (a bird) and Xeru.\n")
    right = "Xeru sieht den Hund.\nNara sieht (einen Vogel) und Xeru.\n"
    perplexity = {}
    for wrong in (True, False):
        target.write_text(right.replace("Xeru", "Quolo") if wrong else right)
        result = nmt("evaluate", generator.path, "--source", source, "--reference", target)
        assert result.code == 0, result.err
        perplexity[wrong] = result.json["perplexity"]
    assert perplexity[False] < 3 < perplexity[True]
    aligned = nmt("align", generator.path, "--source", source, "--target", target)
    assert aligned.code == 0 and "0-0" in aligned.lines[0].split()


def test_a_pointer_network_puts_source_words_in_another_order(tmp_path, nmt):
    folder = write(tmp_path, reversed_line)
    run = folder / "run"
    assert train(folder, run, "attention=pointer_network", "training.max_epochs=16", "tokenizer.joint=false") == 0
    given = "Xeru red Wyxi"
    result = nmt("translate", run, given=given.encode())
    assert result.code == 0 and set(result.lines[0].split()) <= set(given.split())
    assert result.lines == ["Wyxi red Xeru"]
    source, target = tmp_path / "new.en", tmp_path / "new.de"
    source.write_text("Xeru red\n")
    for reference, finite in (("red Xeru\n", True), ("red Wyxi\n", False)):
        target.write_text(reference)
        scores = nmt("evaluate", run, "--source", source, "--reference", target).json
        assert (scores["perplexity"] is not None) == (scores["nll"] is not None) == finite


def corpus(sources, targets, valid=None):
    texts = [None if each is None else ParallelText(*each) for each in ((sources, targets), valid)]
    return Corpus("toys", True, "en", "de", texts[0], texts[1], None, "0")


def prepared(text, attention, *, kept=None, trainer=None):
    trainer = trainer or WordTrainer(vocabulary_size=100, joint=False, minimum_count=2, split_punctuation=True)
    tokenizers = trainer.train(["red green"] * 2, ["red rot"] * 2, cache=None)
    sizes = {"source_size": tokenizers.source.size, "target_size": tokenizers.target.size, "joint": tokenizers.joint}
    model = build_model(composed("embedding.size=4", f"attention={attention}"), **sizes)
    kept = np.arange(len(text.train)) if kept is None else np.array(kept)
    pairs = tokenizers.encode_pairs(text.train.sources, text.train.targets).select(kept)
    return with_copies(pairs, text, tokenizers, kept, model=model), tokenizers


GOOD = (["green Anna", "red Otto red"], ["Anna green", "red red Otto"])
BAD = ([*GOOD[0], "Anna red", "Otto"], [*GOOD[1], "red rot", "Xu Otto"])


@pytest.mark.parametrize(("attention", "copied"), [("luong_general", False), ("pointer", True)])
def test_copies_are_made_where_the_prediction_copies(attention, copied):
    pairs, tokenizers = prepared(corpus(*BAD), attention, kept=[3, 0])
    assert (pairs.copies is not None) == copied
    if copied:
        size = tokenizers.target.size
        assert [pairs.copies[n] for n in range(2)] == [[size], [size, size + 1]]
        assert [pairs.target[n] for n in range(2)] == [[1, size], [size + 1, size]]


def test_a_pointer_network_refuses_what_it_cannot_copy():
    pairs, _ = prepared(corpus(*BAD), "pointer_network", kept=[1, 0])
    assert len(pairs) == 2
    with pytest.raises(DataError, match=r"line 3 of the training targets has 'rot', which its source line has not"):
        prepared(corpus(*BAD), "pointer_network")
    with pytest.raises(DataError, match=r"line 4 of the training targets has 'Xu', .*=pointer can only copy"):
        prepared(corpus(*BAD), "pointer_network", kept=[1, 3])
    with pytest.raises(DataError, match=r"line 1 of the validation targets has 'rot', which"):
        prepared(corpus(*GOOD, valid=(["red"], ["rot"])), "pointer_network")
    prepared(corpus(*GOOD, valid=GOOD), "pointer_network")


def test_pieces_that_change_cannot_be_copied():
    trainer = SentencePieceTrainer(
        model_type="unigram", vocabulary_size=300, joint=True, byte_fallback=True, sampling=0.3, threads=1,
        character_coverage=1.0,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"copies needs pieces that stay as they are, but tokenizer\.sampling"):
        prepared(corpus(*GOOD), "pointer", trainer=trainer)
    assert prepared(corpus(*GOOD), "luong_general", trainer=trainer)[0].copies is None
