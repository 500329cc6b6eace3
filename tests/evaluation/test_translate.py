"""Lines in, lines out: order, empty lines, bounds, line breaks, n-best."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from nmt.evaluation import translate as module
from nmt.evaluation.translate import translate_lines, translation_alignments
from nmt.model.prediction import NextTokens
from nmt.search import SearchOptions

LINES = ["w1 w2", "", "w3", " \t\u3000", "w4 w5-w6 w7 w8", "w9", "w10 w11 w12 w0 w1 w2 w3"]


def _translate(model, tokenizers, lines, *, batch_tokens=40, keep_weights=True, **options):
    options = SearchOptions(**{"beam": 3, **options})
    return translate_lines(
        model, tokenizers, lines, options, batch_tokens=batch_tokens, device="cpu", keep_weights=keep_weights
    )


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("batch_tokens", [1, 20, 1000])
def test_one_translation_per_line_in_order(model, tokenizers, beam, batch_tokens):
    found = _translate(model, tokenizers, LINES, batch_tokens=batch_tokens, beam=beam)
    assert [translation.text for translation in found] == [line.strip() for line in LINES]
    assert [translation.source for translation in found] == LINES


def test_pieces_and_weights_belong_to_the_line(model, tokenizers):
    for translation in _translate(model, tokenizers, LINES):
        if translation.text:
            tokens = translation.source_tokens
            assert translation.source_pieces == tokenizers.source.pieces(tokens)
            assert translation.target_pieces == tokenizers.target.pieces(tokens)
            np.testing.assert_array_equal(translation.weights, np.eye(len(tokens) + 1, dtype=np.float32))
            assert translation.candidates[0].log_prob < 0


def test_empty_lines_do_not_reach_the_model(model, tokenizers):
    found = _translate(model, tokenizers, ["", "   ", "\t"], n_best=2)
    assert not model.calls
    assert [[candidate.text for candidate in line.candidates] for line in found] == [["", ""]] * 3
    assert all(candidate.score == 0 for line in found for candidate in line.candidates)
    assert _translate(model, tokenizers, []) == []


def test_bounds_on_positions_and_beam_rows(model, tokenizers):
    lines = ["w1"] * 30 + ["w1 w2 w3 w4 w5 w6 w7"] * 10
    _translate(model, tokenizers, lines, batch_tokens=24, beam=3)
    assert max(call.positions for call in model.calls) == 24
    # 8 sentences of 3 beams, though 12 sentences of 2 positions would fit
    assert max(call.rows for call in model.calls) == 24
    assert min(call.rows for call in model.calls if call.positions) >= 3


def test_large_vocabularies_lower_the_rows(model, tokenizers, monkeypatch):
    monkeypatch.setattr(module, "_LOGITS", {"cpu": (6 * tokenizers.target.size, 3 * tokenizers.target.size)})
    _translate(model, tokenizers, ["w1"] * 30, batch_tokens=1000, beam=3)
    assert max(call.rows for call in model.calls) == 6


def test_mode_is_put_back(model, tokenizers):
    model.train()
    _translate(model, tokenizers, LINES)
    assert model.training
    assert all(call.inference and not call.training for call in model.calls)


def test_a_line_break_becomes_a_space(model, tokenizers, monkeypatch):
    broken = "a\nb\rc\r\nd\u2028e\x85f\x0bg\x0ch"
    monkeypatch.setattr(tokenizers.target, "decode", lambda sequences: [broken] * len(sequences))
    (translation,) = _translate(model, tokenizers, ["w1"])
    assert translation.text == "a b c d e f g h"


def test_n_best_lists_are_ranked(model, tokenizers):
    for translation in _translate(model, tokenizers, ["w1 w2", "w5"], n_best=3):
        scores = [candidate.score for candidate in translation.candidates]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert len({candidate.text for candidate in translation.candidates}) == 3


def test_alignments_of_candidates(model, tokenizers):
    found = _translate(model, tokenizers, ["w1-w2 w3", ""], n_best=2)
    best = translation_alignments(found[0], tokenizers, shift=0)[0]
    assert best.source_words == best.target_words == ["w1-w2", "w3"]
    assert best.links == [(0, 0), (1, 1)]
    assert len(translation_alignments(found[0], tokenizers, shift=1)) == 2
    assert [alignment.links for alignment in translation_alignments(found[1], tokenizers, shift=0)] == [[], []]


def test_without_weights_the_translations_are_the_same(model, tokenizers):
    with_weights = _translate(model, tokenizers, LINES, n_best=2, coverage_penalty=0.3)
    without = _translate(model, tokenizers, LINES, n_best=2, coverage_penalty=0.3, keep_weights=False)
    for one, other in zip(with_weights, without, strict=True):
        assert [candidate.weights.shape for candidate in other.candidates] == [(0, len(one.source_tokens) + 1)] * 2
        texts = [[candidate._replace(weights=None) for candidate in line.candidates] for line in (one, other)]
        assert texts[0] == texts[1]


def test_lines_without_a_translation_are_told_once(model, tokenizers, caplog):
    step = model.step

    def without_w3(tokens, state):
        predict, after, weights = step(tokens, state)
        # lines that begin with w3
        impossible = (state.source[:, :1] == 7)[..., None]
        return NextTokens(lambda part: predict(part).masked_fill(impossible[part], -torch.inf)), after, weights

    model.step = without_w3
    with caplog.at_level("WARNING"):
        found = _translate(model, tokenizers, [*LINES, "w3 w1"], batch_tokens=2)
    assert [line.text for line in found] == ["w1 w2", "", "", "", *LINES[4:], ""]
    (message,) = caplog.messages
    assert message == "2 of 8 sentences have no translation of non-zero probability; their output is empty."


def test_a_very_long_line(model, tokenizers):
    line = " ".join(f"w{n % 13}" for n in range(300))
    found = _translate(model, tokenizers, [line, "w1"], batch_tokens=40, beam=2, max_length_ratio=1.1)
    assert [translation.text for translation in found] == [line, "w1"]
    assert found[0].weights.shape == (301, 301)


def test_sampling_follows_the_generator(model, tokenizers):
    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        options = SearchOptions(beam=1, sample=True, temperature=20.0)
        found = translate_lines(model, tokenizers, LINES, options, batch_tokens=40, device="cpu", generator=generator)
        return [translation.text for translation in found]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_translating_starts_without_the_scorers():
    code = "import sys, nmt.evaluation; sys.exit('sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
