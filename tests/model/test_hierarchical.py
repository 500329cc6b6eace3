"""Hierarchical attention: which sentence is whose, the formula, and where it is ordinary attention."""

import logging

import numpy as np
import pytest
import torch
from composed import composed
from numpy_model import array, cell
from reference import attention, family
from toys import SEPARATOR, close, new_model, random, toy_model

from nmt.assemble import build_model
from nmt.model.attention.hierarchical import _say_that_lines_are_sentences
from nmt.model.encoder import mask_from_lengths
from nmt.model.encoder.base import Encoded

EOS, PAD = 3, 0
LINES = [
    [5, 6, 7],
    [5, SEPARATOR, 6, SEPARATOR, 7, 8],
    [5, SEPARATOR, SEPARATOR, SEPARATOR, 6],
    [SEPARATOR, 5],
    [5, 6, SEPARATOR],
    [SEPARATOR, SEPARATOR],
    [SEPARATOR],
    [],
]


def source(module, lines=LINES, filling=PAD):
    """Encoded lines; the filling is on padding."""
    lengths = torch.tensor([len(line) + 1 for line in lines])
    width = int(lengths.max())
    tokens = torch.tensor([[*line, EOS, *[filling] * (width - len(line) - 1)] for line in lines])
    mask = mask_from_lengths(lengths, width)
    # a line's states do not depend on how wide the batch is
    states = torch.stack([random(9, module.size, seed=len(line))[:width] for line in lines]) * mask.unsqueeze(-1)
    return Encoded(states, mask, lengths - 1, ((states[:, 0],),), None, tokens=tokens)


def attend(module, given, queries=2):
    query = random(1, queries, 13, seed=99).expand(len(given.states), -1, -1)
    with torch.no_grad():
        return query, module(query, module.prepare(given), 0, module.start(given))


def general(score):
    return lambda h, states: attention.general(h, states, array(score.projection.weight))


@pytest.mark.parametrize("filling", [PAD, SEPARATOR])
def test_it_is_the_formula(filling):
    module = toy_model("attention=hierarchical").decoder.attention
    given = source(module, filling=filling)
    query, found = attend(module, given)
    forward, backward = (cell(part) for part in module.encoder.layers[0])
    for b, line in enumerate(LINES):
        tokens = [*line, EOS]
        for q in range(query.shape[1]):
            expected = family.hierarchical(
                array(query[b, q]),
                array(given.states[b, : len(tokens)]),
                family.sentence_numbers(tokens, SEPARATOR),
                word_score=general(module.words.score),
                sentence_score=general(module.score),
                forward=forward,
                backward=backward,
            )
            assert array(found.weights[b, q, : len(tokens)]) == close(expected.weights)
            assert array(found.context[b, q]) == close(expected.context)
            assert not found.weights[b, q, len(tokens) :].any()
    assert found.weights.sum(-1).numpy() == close(np.ones((len(LINES), 2)))


def test_words_and_sentences_have_scores_of_their_own():
    module = new_model("attention=hierarchical").decoder.attention
    assert module.score.projection.weight is not module.words.score.projection.weight


@pytest.mark.parametrize("coverage", ["true", "false"])
def test_a_line_of_one_sentence_gives_exactly_ordinary_attention(coverage):
    module = toy_model("attention=hierarchical", f"attention.coverage={coverage}").decoder.attention
    given = source(module)
    state, ordinary = module.start(given), module.words.start(given)
    memory, words = module.prepare(given), module.words.prepare(given)
    single = [b for b, line in enumerate(LINES) if SEPARATOR not in line[:-1]]
    others = [b for b in range(len(LINES)) if b not in single]
    for t in range(3):
        query = 0.1 * random(len(LINES), 1, 13, seed=t)
        with torch.no_grad():
            found, expected = module(query, memory, t, state), module.words(query, words, t, ordinary)
        state, ordinary = found.state, expected.state
        assert torch.equal(found.weights[single], expected.weights[single])
        assert torch.equal(found.context[single], expected.context[single])
        assert all((found.weights[b] - expected.weights[b]).abs().max() > 1e-3 for b in others)


def test_a_sentence_without_a_position_that_may_be_read_gets_no_weight():
    long = "attention.score.max_positions=3"
    module = toy_model("attention=hierarchical", "attention/score=location", long).decoder.attention
    given = source(module, [[5, 6, SEPARATOR, 7, 8], [5, SEPARATOR, 6, 7, 8]])
    _, found = attend(module, given)
    assert not found.weights[..., 3:].any() and found.weights[..., :3].all()
    assert found.weights.sum(-1).numpy() == close(np.ones((2, 2)))


@pytest.mark.parametrize(("separator", "count"), [(None, 1), (SEPARATOR, 0)])
def test_a_vocabulary_without_the_separator_is_told_once(separator, count, caplog):
    _say_that_lines_are_sentences.cache_clear()
    config = composed("attention=hierarchical", "encoder.hidden_size=6", "decoder.hidden_size=13")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            model = build_model(config, source_size=17, target_size=19, joint=False, separator=separator).double()
            module = model.decoder.attention
            _, found = attend(module, source(module))
    assert [record.getMessage().count("every line is one sentence") for record in caplog.records] == [1] * count
    given = source(module)
    _, ordinary = attend(module.words, given)
    assert torch.equal(found.weights, ordinary.weights) == (separator is None)
