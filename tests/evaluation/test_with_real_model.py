"""The passes over a real (untrained) model agree with each other and do not depend on batches."""

import numpy as np
import pytest
import torch

from nmt.data.batches import EncodedPairs
from nmt.evaluation.forced import _weights
from nmt.evaluation.perplexity import corpus_perplexity
from nmt.evaluation.translate import translate_lines
from nmt.model.attention import (
    AttentionParts,
    GeneralScore,
    NoCoverage,
    SharedAnnotations,
    SingleAttention,
    Softmax,
    WeightedMean,
)
from nmt.model.decoder import AttentionalReadout, FinalBridge, UpdateThenAttend
from nmt.model.embedding import Embedding, OutputLayer
from nmt.model.encoder import RecurrentEncoder
from nmt.model.prediction import VocabularyPrediction
from nmt.model.translation_model import TranslationModel
from nmt.search import SearchOptions

LINES = ["w1 w2", "", "w3", "w4 w5-w6 w7 w8", "w9 w9", "w10 w11 w12 w0 w1 w2 w3"]


@pytest.fixture
def real_model(tokenizers):
    torch.manual_seed(5)
    embedding = {"dropout": 0.5, "variational_dropout": False, "word_dropout": 0.1, "unknown": 1, "special": 3}
    size, vocabulary, hidden = 7, tokenizers.source.size, 11
    encoder = RecurrentEncoder(size, cell="gru", hidden_size=5, dropout=0.5)
    parts = AttentionParts(
        annotations=SharedAnnotations,
        score=GeneralScore,
        coverage=lambda score, query_size: NoCoverage(),
        alignment=lambda query_size: Softmax(),
        context=lambda value_size, source_size: WeightedMean(value_size),
    )
    decoder = UpdateThenAttend(
        embedding_size=size,
        attention=SingleAttention(parts, hidden, encoder.size),
        readout=AttentionalReadout(hidden, encoder.size, hidden),
        bridge=FinalBridge(encoder.size, encoder.final_parts, hidden, layers=1, parts=1),
        cell="gru",
        hidden_size=hidden,
        layers=1,
        residual=False,
        layer_norm=False,
        dropout=0.5,
        variational_dropout=False,
    )
    output = OutputLayer(hidden, vocabulary, tied=None)
    source, target = (Embedding(vocabulary, size, **embedding) for _ in range(2))
    model = TranslationModel(
        source_embedding=source,
        target_embedding=target,
        encoder=encoder,
        decoder=decoder,
        prediction=VocabularyPrediction(),
        output=output,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
    # float64, or the rounding of float32 would grow over the steps of so wild a model
    return model.double().train()


def _translate(model, tokenizers, *, batch_tokens, **options):
    options = SearchOptions(**options)
    return translate_lines(model, tokenizers, LINES, options, batch_tokens=batch_tokens, device="cpu")


@pytest.mark.parametrize("beam", [1, 4])
def test_translations_do_not_depend_on_batches(real_model, tokenizers, beam):
    together = _translate(real_model, tokenizers, batch_tokens=1000, beam=beam)
    alone = _translate(real_model, tokenizers, batch_tokens=1, beam=beam)
    assert len({translation.text for translation in together}) > 3
    for one, other in zip(together, alone, strict=True):
        assert one.candidates[0].tokens == other.candidates[0].tokens
        assert one.candidates[0].score == pytest.approx(other.candidates[0].score, abs=1e-4)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-5)


def test_forcing_a_translation_gives_the_attention_and_the_probability_it_was_found_with(real_model, tokenizers):
    found = [line for line in _translate(real_model, tokenizers, batch_tokens=1000, beam=3, n_best=2) if line.text]
    candidates = [(line.source_tokens, candidate) for line in found for candidate in line.candidates]
    pairs = EncodedPairs.from_lists([source for source, _ in candidates], [best.tokens for _, best in candidates])
    forced = _weights(real_model, pairs, batch_tokens=50, device="cpu", heads=False)
    weights = {index: row for index, row, _ in forced}
    for index, (_, candidate) in enumerate(candidates):
        np.testing.assert_allclose(weights[index], candidate.weights, atol=1e-5)
        alone = corpus_perplexity(real_model, pairs.select([index]), batch_tokens=50, device="cpu")
        assert alone.nll * alone.tokens == pytest.approx(-candidate.log_prob, abs=1e-3)


def test_perplexity_does_not_depend_on_batches_or_training_mode(real_model):
    generator = np.random.default_rng(1)
    sources, targets = (
        [generator.integers(4, 30, generator.integers(1, 12)).tolist() for _ in range(20)] for _ in range(2)
    )
    pairs = EncodedPairs.from_lists(sources, targets)
    one, many = (corpus_perplexity(real_model, pairs, batch_tokens=size, device="cpu") for size in (1, 200))
    assert one.tokens == many.tokens
    assert one.nll == pytest.approx(many.nll, rel=1e-6)
    assert real_model.training
