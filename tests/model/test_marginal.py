"""Hard attention by its marginal likelihood: training against the mixture, use against the likeliest position."""

import numpy as np
import pytest
import torch
from numpy_model import READOUTS, array, encode, unroll
from reference import objectives
from reference.loss import Loss, log_softmax, sentence_loss
from toys import H, assert_same, close, gradients, new_model, padded, toy_batch, toy_model

from nmt.errors import ConfigError
from nmt.model import Rounding, arithmetic
from nmt.model.prediction import MarginalPrediction, marginal
from nmt.training.loss import batch_loss

HARD = "attention=hard"
WIRINGS = [
    (HARD,),
    (HARD, "attention.wiring.input_feeding=false"),
    (HARD, "attention/readout=maxout", "attention/annotations=projected"),
]


def choices(model, source, target_in):
    """Of one sentence: the weights [T, R] and the logits [T, R, V] of each position alone."""
    unrolled = unroll(model, source, target_in)
    annotations = encode(model.encoder, array(model.source_embedding.weight)[source]).values
    part = model.decoder.attention.annotations
    if hasattr(part, "value"):
        annotations = annotations @ array(part.value.weight).T
    words = array(model.target_embedding.weight)[target_in]
    readout = READOUTS[type(model.decoder.readout)](model.decoder.readout, H, words.shape[1])
    W, b = array(model.output.weight), array(model.output.bias)  # noqa: N806
    logits = [[W @ readout(s, x, h) + b for h in annotations] for s, x in zip(unrolled.states, words, strict=True)]
    return unrolled.weights, np.array(logits)


def sentences(batch):
    """Source with EOS, target from BOS, and target to EOS, of each pair of a batch."""
    for b in range(len(batch)):
        length = batch.target_lengths[b]
        source = batch.source[b, : batch.source_lengths[b]].numpy()
        yield b, source, batch.target_in[b, :length].numpy(), batch.target_out[b, :length].tolist()


def numbers(loss):
    """A batch's loss as the reference gives it."""
    return loss.loss.item(), loss.nll.item(), loss.tokens


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("top_k", [None, 1, 2, 4, 9])
@pytest.mark.parametrize("wiring", WIRINGS, ids=len)
def test_training_equals_the_mixture(wiring, top_k, smoothing, fast):
    model, batch = toy_model(*wiring, f"attention.prediction.top_k={'null' if top_k is None else top_k}"), toy_batch()
    total = Loss(0.0, 0.0, 0)
    for _, source, target_in, target_out in sentences(batch):
        one = objectives.marginal_loss(*choices(model, source, target_in), target_out, smoothing, top_k)
        total = Loss(*(a + b for a, b in zip(total, one, strict=True)))
    for each in (batch, padded(batch, source=4, target=2, filling=5)):
        with arithmetic(fast=fast), torch.no_grad():
            assert numbers(batch_loss(model, each, smoothing)) == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("wiring", WIRINGS, ids=len)
def test_use_reads_the_likeliest_position(wiring):
    model, batch = toy_model(*wiring).eval(), toy_batch()
    with torch.no_grad():
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        weights, log_probs = model.weights(decoded), model.prediction.log_probs(decoded, model.output.prepare(), None)
        found = numbers(batch_loss(model, batch, 0.2))
    total = Loss(0.0, 0.0, 0)
    for b, source, target_in, target_out in sentences(batch):
        alpha, logits = choices(model, source, target_in)
        chosen = [objectives.argmax(each) for each in alpha]
        for t, best in enumerate(chosen):
            expected, one_hot = objectives.marginal_test(alpha[t], logits[t])
            assert expected == log_softmax(logits[t, best])
            assert array(log_probs[b, t]) == close(expected)
            assert array(weights[b, t, : len(source)]).tolist() == one_hot.tolist()
        one = sentence_loss(logits[np.arange(len(chosen)), chosen], target_out, 0.2)
        total = Loss(*(a + b for a, b in zip(total, one, strict=True)))
    assert found == pytest.approx(total, rel=1e-10)


def plain_mixture(model, batch, smoothing, top_k=None):
    """The loss in the simplest torch, for its gradients."""
    with arithmetic(fast=False):
        decoded = model(batch.source, batch.source_lengths, batch.target_in)
        loss, annotations = 0.0, decoded.state.memory.values.matrix
        for b, _, target_in, target_out in sentences(batch):
            for t, y in enumerate(target_out[: len(target_in)]):
                alpha = decoded.weights[b, t, : batch.source_lengths[b]]
                used = alpha.topk(min(top_k or len(alpha), len(alpha))).indices
                contexts = annotations[b, used]
                repeat = (len(used), -1)
                read = decoded.state.recurrence.read(
                    decoded.states[b, t].expand(*repeat), decoded.embedded[b, t].expand(*repeat), contexts
                )
                log_probs = model.output(read).log_softmax(-1)
                loss = loss - (1 - smoothing) * (alpha[used] @ log_probs[:, y].exp()).log()
                loss = loss - smoothing * alpha[used] @ log_probs.mean(-1)
    return loss


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("rows", [3, 8192])
@pytest.mark.parametrize("kept", [0, 2**25])
@pytest.mark.parametrize("top_k", [None, 2])
def test_gradients_equal_those_of_the_plain_mixture(monkeypatch, top_k, kept, rows, fast):
    monkeypatch.setattr(marginal, "_ROWS", rows)
    monkeypatch.setattr(marginal, "_KEPT", kept)
    model, batch = toy_model(HARD, f"attention.prediction.top_k={'null' if top_k is None else top_k}"), toy_batch()
    model.zero_grad()
    plain_mixture(model, batch, 0.1, top_k).backward()
    expected = {name: each.grad.clone() for name, each in model.named_parameters()}
    with arithmetic(fast=fast):
        found = gradients(model, batch, 0.1)
    del found["loss"], found["nll"]
    assert_same(found, expected)


def test_gradients_equal_finite_differences():
    model, batch, step = toy_model(HARD), toy_batch(), 1e-5
    found = gradients(model, batch, 0.1)
    generator = torch.Generator().manual_seed(11)
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
                ends.append(batch_loss(model, batch, 0.1).loss.item())
                parameter -= sign * step * direction
        slope = (found[name] * direction).sum().item()
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("dropout", ["0", "0.4"])
@pytest.mark.parametrize("fast", [True, False])
def test_readouts_made_again_are_those_of_before(monkeypatch, fast, dropout):
    """In bf16, and with the backward pass outside the block that chooses it."""
    model, batch, found = toy_model(HARD, f"decoder.dropout={dropout}").float(), toy_batch(), []
    monkeypatch.setattr(marginal, "_ROWS", 5)
    for kept in (2**25, 0):
        monkeypatch.setattr(marginal, "_KEPT", kept)
        model.zero_grad()
        torch.manual_seed(5)
        with arithmetic(rounding=Rounding.bf16, fast=fast):
            loss = batch_loss(model, batch, 0.1).loss
        loss.backward()
        found.append({name: each.grad for name, each in model.named_parameters()})
    assert_same(*found, tolerance=1e-5)


def kept_numbers(function):
    """How many numbers autograd keeps for the backward pass of a function."""
    sizes = {}

    def note(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        kept.append(tensor)
        return tensor

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        function()
    return sum(sizes.values())


def test_beyond_the_limit_memory_grows_by_a_few_numbers_a_row(monkeypatch):
    monkeypatch.setattr(marginal, "_ROWS", 16)
    model = toy_model(HARD, "attention.readout.size=101")
    found = {}
    for kept in (2**25, 0):
        monkeypatch.setattr(marginal, "_KEPT", kept)
        for words in (19, 39):
            batch = toy_batch((words,) * 4, (19,) * 4)
            decoded = model(batch.source, batch.source_lengths, batch.target_in)
            mask, held = batch.target_mask, []

            def losses(decoded=decoded, batch=batch, mask=mask, held=held):
                held.append(model.losses(decoded, batch.target_out, mask, label_smoothing=0.1))

            found[kept, words] = kept_numbers(losses)
    rows = 4 * 20 * 20  # more of them with 39 words than with 19
    assert found[2**25, 39] - found[2**25, 19] > 3 * 101 * rows
    assert found[0, 39] - found[0, 19] < 25 * rows


def test_dropout_has_one_mask_a_token():
    model, batch = toy_model(HARD, "attention.wiring.input_feeding=false"), toy_batch()
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    mask = (torch.rand(decoded.readouts.shape, generator=torch.Generator().manual_seed(1)) < 0.5) * 2.0

    def drop(vectors):
        return vectors * mask

    decoded.state.recurrence.drop = drop
    found = model.losses(
        decoded,
        batch.target_out,
        batch.target_mask,
        label_smoothing=0.1,
    )
    W, b, loss = array(model.output.weight), array(model.output.bias), 0.0  # noqa: N806
    for index, source, target_in, target_out in sentences(batch):
        alpha, logits = choices(model, source, target_in)
        # the readouts of all positions from their logits, which is possible as F is less than V
        readouts = (logits - b) @ np.linalg.pinv(W).T
        dropped = readouts * mask[index, : len(target_in), None].numpy()
        loss += objectives.marginal_loss(alpha, dropped @ W.T + b, target_out, 0.1).loss
    assert found.loss.item() == pytest.approx(loss, rel=1e-8)


@pytest.mark.parametrize("variational", ["true", "false"])
def test_dropout_drops_in_training_only(variational):
    model = toy_model(HARD, "decoder.dropout=0.4", f"decoder.variational_dropout={variational}")
    batch = toy_batch()
    one, other = (batch_loss(model, batch, 0.0).loss.item() for _ in range(2))
    assert one != other
    assert len({batch_loss(model.eval(), batch, 0.0).loss.item() for _ in range(2)}) == 1


def test_more_positions_are_a_tighter_bound():
    found = []
    for top_k in ("1", "2", "3", "4", "5", "null"):
        model = toy_model(HARD, f"attention.prediction.top_k={top_k}")
        found.append(batch_loss(model, toy_batch(), 0.0).nll.item())
    assert all(one > other for one, other in zip(found[:4], found[1:5], strict=True))
    assert found[4] == found[5]


def test_positions_without_weight_cost_nothing(monkeypatch):
    seen, original = [], marginal.token_log_probs
    monkeypatch.setattr(
        marginal, "token_log_probs", lambda rows, *rest: seen.append(len(rows)) or original(rows, *rest)
    )
    model, batch = toy_model(HARD, "attention/alignment=sparsemax"), toy_batch()
    loss = batch_loss(model, batch, 0.0)
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    support = (decoded.weights[batch.target_mask] > 0).sum().item()
    assert sum(seen) == support < int((batch.source_lengths * batch.target_lengths).sum())
    with torch.no_grad():
        assert loss.nll.item() == pytest.approx(plain_mixture(model, batch, 0.0).item(), rel=1e-10)


def test_a_step_without_any_weight_stays_finite():
    variant = ("attention/alignment=local_m", "attention.alignment.window=1", "attention/score=location")
    model, batch = toy_model(HARD, *variant, "attention.score.max_positions=1"), toy_batch()
    decoded = model(batch.source, batch.source_lengths, batch.target_in)
    assert not decoded.weights[0, 3].any() and decoded.weights[0, 0].any()
    for found in (gradients(model, batch), gradients(model.eval(), batch)):
        assert all(each.isfinite().all() for each in found.values())


REFUSED = [
    (("attention=bahdanau",), "needs a state that is there before the context.* take attention/wiring=update_then_att"),
    (
        ("attention=multi_head", "attention.form.heads=2"),
        "needs one distribution over positions, .* take attention/form=single",
    ),
    (
        ("attention=luong_dot", "attention/alignment=none", "attention/context=fixed", "attention/score=constant"),
        "must teach attention its weights, but here there are none",
    ),
    (("attention=mean", "attention/wiring=update_then_attend"), "all are alike"),
    (("attention=gumbel",), "one position is sampled"),
    (("attention=hard_sample",), "one position is sampled"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_what_it_cannot_predict_with_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=f"attention/prediction=marginal .*{message}"):
        new_model(*overrides, "attention/prediction=marginal")


def test_top_k_is_checked():
    with pytest.raises(ConfigError, match="attention.prediction.top_k=0 is not accepted; it must be at least 1 or nul"):
        MarginalPrediction(top_k=0)
