"""Copies of source words: against the references, with padding and repeated words; in search; on zero weights."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy_model import array
from reference import objectives
from toys import (
    TARGET_SIZE,
    assert_same,
    close,
    copy_ids,
    gradients,
    new_model,
    padded,
    random,
    toy_batch,
    toy_model,
    with_copied_targets,
)

from nmt.data.batches import EncodedPairs, FlatSequences
from nmt.data.vocabulary import BOS, EOS, PAD, UNK
from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.attention import Attended
from nmt.model.decoder import Decoded
from nmt.model.embedding import NoOutputLayer, OutputLayer
from nmt.model.prediction import Pointer, PointerGenerator
from nmt.search import SearchOptions, search

V = TARGET_SIZE
# words that the target vocabulary has (even) and lacks (odd), both more than once in a sentence
SOURCES = [[5, 8, 13, 5, 8, 13, 13], [7], [], [10, 4, 10]]
GENERATORS = [
    ("attention=pointer",),
    ("attention=pointer", "attention.wiring.input_feeding=false"),
    ("attention=bahdanau", "attention/prediction=pointer_generator"),
    ("attention=local_p", "attention/prediction=pointer_generator", "attention.alignment.window=1"),
]
POINTERS = [("attention=pointer_network",), ("attention=luong_general", "attention/prediction=pointer")]


def batch_of(targets):
    copies = [copy_ids(source) for source in SOURCES]
    return EncodedPairs(*map(FlatSequences.from_lists, (SOURCES, targets, copies))).batch(np.arange(len(SOURCES)))


# copies of several positions, of one, of EOS alone, and words that are not copied
MIXED = batch_of([[V + 0, 6, 8, V + 2, UNK], [V + 0, V + 0], [9], [10, 4, 17, 10]])
COPIED = batch_of([[V + 0, 8, V + 2, 8], [V + 0, V + 0, V + 0], [], [4, 10, 10]])


def sentences(batch):
    """Of each sentence its number, source and target lengths."""
    return zip(range(len(batch)), batch.source_lengths.tolist(), batch.target_lengths.tolist(), strict=True)


def gates(model, decoded, b, t):
    """The reference's gate of one step."""
    w = array(model.prediction.gate.weight)[0]
    M, H = decoded.attended.context.shape[-1], decoded.states.shape[-1]  # noqa: N806
    w_c, w_s, w_x = np.split(w, [M, M + H])
    parts = (array(each[b, t]) for each in (decoded.attended.context, decoded.states, decoded.embedded))
    bias = model.prediction.gate.bias.item()
    return objectives.generation_gate(*parts, w_c=w_c, w_s=w_s, w_x=w_x, b=bias)


def logits_of(model, decoded, b, length):
    return array(decoded.readouts[b, :length]) @ array(model.output.weight).T + array(model.output.bias)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("variant", GENERATORS, ids=str)
def test_losses_of_the_generator_equal_the_paper(variant, smoothing, fast):
    model, batch = toy_model(*variant), padded(MIXED, source=2, target=1, filling=PAD)
    with arithmetic(fast=fast), torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        found = model.losses(
            decoded, batch.target_out, batch.target_mask, label_smoothing=smoothing, copies=batch.copies
        )
    loss = 0.0
    for b, rows, tokens in sentences(batch):
        weights, copies = array(decoded.weights[b, :tokens, :rows]), batch.copies[b, :rows].tolist()
        given = logits_of(model, decoded, b, tokens), [gates(model, decoded, b, t) for t in range(tokens)], weights
        targets = batch.target_out[b, :tokens].tolist()
        expected = objectives.pointer_generator_loss(*given, copies, targets, smoothing)
        loss += expected.loss
        assert found.nll[b, :tokens].sum().item() == pytest.approx(expected.nll, rel=1e-12)
        assert not found.nll[b, tokens:].any()
    assert found.loss.item() == pytest.approx(loss, rel=1e-12)
    assert loss < 1e3


@pytest.mark.parametrize("variant", GENERATORS, ids=str)
def test_distributions_of_the_generator_equal_the_paper(variant):
    model = toy_model(*variant)
    decoded, log_probs = predicted(model, padded(MIXED, source=2, target=1, filling=8))
    for b, rows, tokens in sentences(MIXED):
        logits, copies = logits_of(model, decoded, b, tokens), MIXED.copies[b, :rows].tolist()
        for t in range(tokens):
            alpha = array(decoded.weights[b, t, :rows])
            expected = objectives.pointer_generator(logits[t], gates(model, decoded, b, t), alpha, copies)
            assert array(log_probs[b, t].exp()) == close(np.pad(expected, (0, log_probs.shape[-1] - len(expected))))


def predicted(model, batch):
    with torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        return decoded, model.prediction.log_probs(decoded, model.output.prepare(), batch.copies)


@pytest.mark.parametrize("variant", POINTERS, ids=str)
def test_a_pointer_network_equals_the_paper(variant):
    model, batch = toy_model(*variant), padded(COPIED, source=2, target=1, filling=PAD)
    decoded, log_probs = predicted(model, batch)
    # smoothing changes nothing
    options = {"label_smoothing": 0.3, "copies": batch.copies}
    found = model.losses(decoded, batch.target_out, batch.target_mask, **options)
    for b, rows, tokens in sentences(COPIED):
        weights, copies = array(decoded.weights[b, :tokens, :rows]), COPIED.copies[b, :rows].tolist()
        expected = objectives.pointer_loss(weights, copies, COPIED.target_out[b, :tokens].tolist(), V)
        assert found.nll[b, :tokens].sum().item() == pytest.approx(expected.nll, rel=1e-12)
        for t, alpha in enumerate(weights):
            distribution = objectives.pointer(alpha, copies, V)
            assert array(log_probs[b, t].exp()) == close(
                np.pad(distribution, (0, log_probs.shape[-1] - len(distribution)))
            )
    assert found.loss.item() == pytest.approx(found.nll.sum().item())
    assert isinstance(model.output, NoOutputLayer) and not list(model.output.parameters())


@pytest.mark.parametrize("variant", [*GENERATORS[:1], *POINTERS[:1]], ids=str)
def test_the_loss_is_what_the_steps_say(variant):
    model, batch = toy_model(*variant), COPIED
    decoded, log_probs = predicted(model, batch)
    losses = model.losses(decoded, batch.target_out, batch.target_mask, label_smoothing=0.0, copies=batch.copies)
    chosen = log_probs.gather(2, batch.target_out.unsqueeze(2)).squeeze(2)[batch.target_mask]
    assert_same({"nll": losses.nll[batch.target_mask]}, {"nll": -chosen})


def test_a_copied_word_is_read_as_the_unknown_one():
    model = toy_model("attention=pointer")
    tokens = torch.tensor([[BOS, V - 1, V, V + 3, 5]])
    assert model.prediction.inputs(tokens).tolist() == [[BOS, V - 1, UNK, UNK, 5]]
    batch = with_copied_targets(toy_batch(), every=1)
    assert (batch.target_in >= V).any()
    with torch.no_grad():
        unknown = torch.where(batch.target_in >= V, UNK, batch.target_in)
        found, expected = (model(batch.source, batch.source_lengths, each) for each in (batch.target_in, unknown))
    assert torch.equal(found.readouts, expected.readouts)


def decoded_of(weights, readouts, context, states, embedded):
    return Decoded(readouts, states, embedded, Attended(context, weights), SimpleNamespace())


def tensors(sizes):
    return [random(2, 3, size, seed=seed).requires_grad_() for seed, size in enumerate(sizes)]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradient(smoothing):
    torch.manual_seed(1)
    prediction, output = PointerGenerator(4, 5, 6, 11, UNK).double(), OutputLayer(7, 11, tied=None).double()
    copies, targets = torch.tensor([[5, 11, 11, 3], [11, 4, 3, 0]]), torch.tensor([[11, 5, 3], [7, 3, 0]])
    mask = targets != PAD

    def loss(scores, *given):
        weights = torch.softmax(scores, -1)
        decoded = decoded_of(weights, *given)
        return prediction.losses(decoded, output, targets, mask, label_smoothing=smoothing, copies=copies).loss

    given = tensors((4, 7, 6, 4, 5))
    assert torch.autograd.gradcheck(loss, given)


@pytest.mark.parametrize("kind", ["generator", "pointer"])
def test_weights_of_zero_leave_loss_and_gradient_finite(kind):
    prediction = PointerGenerator(4, 5, 6, 11, UNK) if kind == "generator" else Pointer(11, UNK)
    output = OutputLayer(7, 11, tied=None)
    weights = torch.tensor([[[0.0, 1.0, 0.0]] * 3], requires_grad=True)
    given = [tensor.float()[:1] for tensor in tensors((7, 6, 4, 5))]
    # a copy of weight 0, one of weight 1, and a word that is no copy
    targets, copies = torch.tensor([[11, 12, 5]]), torch.tensor([[11, 12, EOS]])
    decoded, mask = decoded_of(weights, *given), torch.ones(1, 3, dtype=torch.bool)
    losses = prediction.losses(decoded, output, targets, mask, label_smoothing=0.1, copies=copies)
    losses.loss.backward()
    assert losses.loss.isfinite() and weights.grad.isfinite().all()
    assert losses.nll[0, 0] > 80 and losses.nll[0, 1] < 20
    assert all(each.grad is None or each.grad.isfinite().all() for each in prediction.parameters())


def found_by(model, batch, **options):
    state = model.encode(batch.source, batch.source_lengths, batch.copies)
    generator = torch.Generator().manual_seed(2)
    return search(
        model.step, state, source_lengths=batch.source_lengths, options=SearchOptions(**options), bos=BOS, eos=EOS,
        forbidden=(PAD, BOS), generator=generator,
    )  # fmt: skip


SEARCHES = [
    {"beam": 1, "n_best": 1},
    {"beam": 4, "n_best": 4},
    {"beam": 8, "n_best": 8, "min_length": 2},
    {"sample": True, "n_best": 6, "beam": 1},
]


@pytest.mark.parametrize("options", SEARCHES, ids=str)
@pytest.mark.parametrize("variant", [*GENERATORS[:1], *POINTERS[:1]], ids=str)
def test_what_cannot_be_said_is_never_chosen(variant, options):
    model = toy_model(*variant).eval()
    with torch.no_grad():
        if model.prediction.generates:
            # copies by preference
            model.prediction.gate.bias.sub_(5)
    for copies, hypotheses in zip(COPIED.copies.tolist(), found_by(model, COPIED, **options), strict=True):
        possible = set(copies) | (set(range(V)) if model.prediction.generates else set())
        possible -= {PAD, BOS, EOS}
        assert hypotheses
        for hypothesis in hypotheses:
            assert set(hypothesis.tokens) <= possible
            assert math.isfinite(hypothesis.log_prob) or not hypothesis.tokens


def test_copies_are_found_and_are_not_repeated():
    model = toy_model("attention=pointer_network").eval()
    found = found_by(model, COPIED, beam=5, n_best=5, min_length=3)
    assert any(token >= V for hypothesis in found[0] for token in hypothesis.tokens)
    assert any(len(set(hypothesis.tokens)) < len(hypothesis.tokens) for hypothesis in found[0])
    for hypothesis in found_by(model, COPIED, beam=5, n_best=5, min_length=3, no_repeat_ngram=1)[0]:
        assert len(set(hypothesis.tokens)) == len(hypothesis.tokens)


UNTAUGHT = [("none",), ("mean",), ("hard_sample",), ("gumbel",), ("luong_general", "attention/score=constant")]


@pytest.mark.parametrize("prediction", ["pointer", "pointer_generator"])
@pytest.mark.parametrize("attention", UNTAUGHT, ids=str)
def test_weights_that_do_not_learn_are_refused(attention, prediction):
    name, *more = attention
    with pytest.raises(ConfigError, match="pointer and pointer_generator must teach attention its weights, but here"):
        new_model(f"attention={name}", *more, f"attention/prediction={prediction}")


def test_a_pointer_must_look_at_the_decoder():
    pooling = "attention=luong_general", "attention/score=pooling", "attention/prediction=pointer"
    with pytest.raises(ConfigError, match="must depend on the decoder's state, which attention/score=pooling does not"):
        new_model(*pooling)
    new_model("attention=pooling", "attention/prediction=pointer_generator")
    for asking in ("attention.coverage=true", "attention/alignment=local_p"):
        assert gradients(toy_model(*pooling, asking), COPIED)["decoder.cells.0.input.weight"].any()
