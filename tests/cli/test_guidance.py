"""`training.guided_alignment`: from word links beside the text to links between the pieces that are trained on."""

import logging

import numpy as np
import pytest
from composed import composed

from nmt.assemble import build_model
from nmt.cli.guidance import with_links
from nmt.config import GuidedAlignmentConfig
from nmt.data import Corpus, EncodedPairs, FlatSequences, GoldLinks, ParallelText, SentencePieceTrainer, WordTrainer
from nmt.errors import ConfigError, DataError

SOURCES = ["the dog sees a cat", "a cat sleeps", "the cat (sees) it", "it sleeps"]
TARGETS = ["der Hund sieht eine Katze", "die Katze schläft", "die Katze (sieht) es", "es schläft"]
SURE = [{(1, 1), (4, 4)}, set(), {(2, 2)}, {(0, 0)}]
WORDS = WordTrainer(vocabulary_size=100, joint=False, minimum_count=1, split_punctuation=True)


def corpus(links=SURE):
    gold = None if links is None else [GoldLinks(frozenset(sure), frozenset(sure | {(0, 1)})) for sure in links]
    train = ParallelText(SOURCES, TARGETS, gold)
    return Corpus("toys", True, "en", "de", train, None, None, "0")


def guided(
    text,
    *,
    kept=(0, 1, 2, 3),
    attention="luong_general",
    trainer=WORDS,
    change=lambda pairs, tokenizers: pairs,
    **options,
):
    kept = np.array(kept)
    tokenizers = trainer.train(SOURCES, TARGETS, cache=None)
    model = build_model(
        composed("embedding.size=4", f"attention={attention}"),
        source_size=tokenizers.source.size,
        target_size=tokenizers.target.size,
        joint=tokenizers.joint,
    )
    pairs = tokenizers.encode_pairs(text.train.sources, text.train.targets).select(kept)
    options = GuidedAlignmentConfig(**{"weight": 0.5, **options})
    return with_links(change(pairs, tokenizers), options, text, tokenizers, kept, model=model)


def test_sure_links_of_the_corpus_between_pieces(caplog):
    with caplog.at_level(logging.INFO):
        pairs = guided(corpus())
    # target and source position in turn; "(sees)" and "(sieht)" are three pieces each
    assert [pairs.links[i] for i in (0, 1, 3)] == [[1, 1, 4, 4], [], [0, 0]]
    assert pairs.links[2] == [place for s in (2, 3, 4) for t in (2, 3, 4) for place in (t, s)]
    assert "12 links between pieces, in 3 of 4 pairs" in caplog.text


def test_links_follow_the_pairs_that_are_kept():
    assert [guided(corpus(), kept=(3, 0)).links[i] for i in (0, 1)] == [[0, 0], [1, 1, 4, 4]]


def test_links_of_a_file_take_the_place_of_the_corpus_own(tmp_path):
    file = tmp_path / "links"
    file.write_text("0-0 1?1\n\n\n1-1\n")
    for text in (corpus(), corpus(None)):
        pairs = guided(text, links=str(file))
        assert [pairs.links[i] for i in range(4)] == [[0, 0], [], [], [1, 1]]


def test_copied_words_beyond_the_vocabulary_keep_their_links():
    def copied(pairs, tokenizers):
        """The same pairs, whose target words are copies of source words that the vocabulary lacks."""
        ids = np.full_like(pairs.target.ids, tokenizers.target.size)
        return EncodedPairs(pairs.source, FlatSequences(ids, pairs.target.offsets))

    plain, found = guided(corpus(), kept=(0, 3)), guided(corpus(), kept=(0, 3), change=copied)
    assert found.links.ids.tolist() == plain.links.ids.tolist() != []
    assert found.target.ids.tolist() != plain.target.ids.tolist()


def test_without_weight_nothing_is_made(tmp_path, caplog):
    assert guided(corpus(), weight=0.0).links is None
    assert not caplog.records
    assert guided(corpus(None), weight=0.0, attention="none", links=str(tmp_path / "absent")).links is None
    assert "training.guided_alignment.links is not read, since training.guided_alignment.weight is 0" in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("0-0\n", "has 1 lines of links for 4 sentence pairs"),
        ("0-0\n\n0-0\n2-0\n", ":4: the link 2-0 is to a word that is not there"),
        ("0-0\n\n0-0\n0-2\n", ":4: the link 0-2 is to a word that is not there"),
        ("0-0\n\nx\n0-0\n", ":3: 'x' is not a link"),
        ("\n\n0?0\n\n", "no pair of toys to train on has a sure link"),
    ],
)
def test_files_that_are_refused(tmp_path, content, sentence):
    file = tmp_path / "links"
    file.write_text(content)
    with pytest.raises(DataError, match=sentence):
        guided(corpus(), links=str(file))


def test_refused_in_a_sentence(tmp_path):
    with pytest.raises(DataError, match="needs word links of the training split, and toys has none; training.guided_"):
        guided(corpus(None))
    with pytest.raises(DataError, match="absent does not exist"):
        guided(corpus(), links=str(tmp_path / "absent"))
    for attention in ("none", "mean", "gumbel"):
        with pytest.raises(
            ConfigError, match="guided_alignment.weight=0.5 needs attention weights that links can teach"
        ):
            guided(corpus(), attention=attention)
    sampled = SentencePieceTrainer(
        model_type="bpe",
        vocabulary_size=60,
        joint=True,
        byte_fallback=False,
        sampling=0.1,
        character_coverage=1.0,
        threads=1,
    )
    with pytest.raises(ConfigError, match="tokenizer.sampling segments anew in each epoch; it must be 0"):
        guided(corpus(), trainer=sampled)
