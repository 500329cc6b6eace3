import math

import numpy as np
import pytest
import torch
from reference import loss as reference
from torch.nn import functional

from nmt.data.batches import Batch, EncodedPairs
from nmt.model import Rounding, arithmetic, cross_entropy, kernels
from nmt.model.cross_entropy import (
    _CHUNK,
    _LinearCrossEntropy,
    linear_cross_entropy,
    token_log_probs,
)
from nmt.model.decoder import Decoded
from nmt.model.prediction import VocabularyPrediction
from nmt.training.loss import batch_loss

F, V, SEED = 5, 11, 3


class Constant(torch.nn.Module):
    """A model whose readouts are a table of (source length, position): whatever stands on padding is junk."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(SEED)
        table = torch.randn(10, 12, F, generator=generator, dtype=torch.float64)
        self.table = torch.nn.Parameter(table)
        self.output = torch.nn.Linear(F, V).double()

    def forward(self, source, source_lengths, target_in):
        return Decoded(self.table[source_lengths, : target_in.shape[1]], None, None, None, None)

    def losses(self, decoded, targets, mask, **options):
        return VocabularyPrediction().losses(decoded, self.output, targets, mask, **options)


def make_batch(lengths=((4, 1), (2, 5), (6, 3))):
    """Sentences of these numbers of source and target tokens, EOS apart."""
    generator, sides = np.random.default_rng(SEED), zip(*lengths, strict=True)
    sources, targets = ([generator.integers(4, V, size).tolist() for size in side] for side in sides)
    return EncodedPairs.from_lists(sources, targets).batch(np.arange(len(lengths)))


@pytest.fixture
def model():
    torch.manual_seed(SEED)
    return Constant().eval()


def expected(model, batch, smoothing):
    with torch.no_grad():
        logits = model.output(model(batch.source, batch.source_lengths, batch.target_in).readouts).numpy()
    sentences = [
        (logits[b, :length], batch.target_out[b, :length].tolist()) for b, length in enumerate(batch.target_lengths)
    ]
    return reference.batch_loss(sentences, smoothing)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_loss_equals_the_reference(model, smoothing, fast):
    batch = make_batch()
    with arithmetic(fast=fast):
        loss, nll, tokens, _ = batch_loss(model, batch, smoothing)
    one = expected(model, batch, smoothing)
    assert (loss.item(), nll.item(), tokens) == pytest.approx((one.loss, one.nll, one.tokens), rel=1e-12)
    assert tokens == batch.target_tokens == 2 + 6 + 4


def test_reported_loss_is_not_smoothed(model):
    batch = make_batch()
    losses = [batch_loss(model, batch, smoothing) for smoothing in (0.0, 0.3)]
    assert losses[0].nll.item() == losses[1].nll.item() == pytest.approx(losses[0].loss.item())
    assert losses[1].loss.item() != pytest.approx(losses[1].nll.item(), rel=1e-6)
    assert not losses[1].nll.requires_grad


def test_an_even_guess_costs_the_logarithm_of_the_vocabulary():
    readouts, weight, bias = torch.zeros(3, F), torch.zeros(V, F), torch.zeros(V)
    for fast in (True, False):
        with arithmetic(fast=fast):
            loss, nll = linear_cross_entropy(readouts, weight, bias, torch.tensor([1, 5, 7]), 0.2)
        assert [loss.item(), nll.sum().item()] == pytest.approx([3 * math.log(V)] * 2, rel=1e-6)


@pytest.mark.parametrize("fast", [True, False])
def test_padding_and_split_change_nothing(model, fast):
    batch = make_batch()
    with arithmetic(fast=fast):
        whole = gradients(model, [batch])
        assert_same(gradients(model, [padded(batch, filling=0)]), whole)
        assert_same(gradients(model, [padded(batch, filling=7)]), whole)
        assert_same(gradients(model, [make_batch()] * 2), [2 * each for each in whole])
        assert_same(gradients(model, [one(batch, b) for b in range(len(batch))]), whole)


def gradients(model, batches):
    model.zero_grad()
    losses = [batch_loss(model, batch, 0.1) for batch in batches]
    total = sum(loss.loss for loss in losses)
    total.backward()
    assert model.table.grad.any()
    return [total.detach(), sum(loss.nll for loss in losses), *(each.grad.clone() for each in model.parameters())]


def assert_same(found, expected):
    for one_of, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one_of, other, rtol=1e-12, atol=1e-12)


def padded(batch, filling):
    def widen(tokens):
        return functional.pad(tokens, (0, 3), value=filling)

    return Batch(
        batch.source,
        batch.source_lengths,
        widen(batch.target_in),
        widen(batch.target_out),
        batch.target_lengths,
        batch.target_tokens,
    )


def one(batch, b):
    length = int(batch.target_lengths[b])
    return Batch(
        batch.source[b : b + 1],
        batch.source_lengths[b : b + 1],
        batch.target_in[b : b + 1, :length],
        batch.target_out[b : b + 1, :length],
        batch.target_lengths[b : b + 1],
        length,
    )


def tensors(rows, dtype=torch.float64):
    generator = torch.Generator().manual_seed(SEED)
    readouts, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((rows, F), (V, F), (V,))
    )
    return readouts, weight, bias, torch.randint(V, (rows,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("rows", [1, _CHUNK - 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK + 17])
def test_chunks_make_no_difference(rows, smoothing):
    found = []
    for fast in (True, False):
        *given, targets = tensors(rows)
        with arithmetic(fast=fast):
            loss, nll = linear_cross_entropy(*given, targets, smoothing)
        (3 * loss).backward()
        assert nll.shape == (rows,)
        found.append([loss.detach(), nll, *(each.grad for each in given)])
    assert_same(*found)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_blocks_make_no_difference(rows, monkeypatch):
    monkeypatch.setattr(cross_entropy, "_CHUNK", 2)
    monkeypatch.setattr(cross_entropy, "_BLOCK", rows * V * torch.float64.itemsize)
    found = []
    for fast in (True, False):
        *given, targets = tensors(11)
        with arithmetic(fast=fast):
            loss, nll = linear_cross_entropy(*given, targets, 0.2)
        loss.backward()
        found.append([loss.detach(), nll, *(each.grad for each in given)])
    assert_same(*found)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradient(smoothing):
    *given, targets = tensors(7)
    assert torch.autograd.gradcheck(
        lambda *each: _LinearCrossEntropy.apply(*each, targets, None, smoothing, Rounding.none, True)[0], given
    )


@pytest.mark.parametrize("rounding", list(Rounding))
def test_a_device_that_turns_no_rows_gives_the_same(rounding, monkeypatch):
    """As a GPU: the gradients of a whole block of logits meet the weight at once, in the type of products."""
    tensors_, targets = [each.detach().float().requires_grad_() for each in tensors(7)[:3]], tensors(7)[3]

    def found():
        with arithmetic(rounding=rounding):
            return torch.autograd.grad(linear_cross_entropy(*tensors_, targets, 0.1)[0], tensors_)

    expected = found()
    monkeypatch.setattr(cross_entropy, "flips", lambda rows: False)
    for one, other in zip(found(), expected, strict=True):
        assert one.dtype == torch.float32
        assert one.numpy() == pytest.approx(other.numpy(), rel=2e-2, abs=2e-2)


def test_inputs_stay_as_they_are():
    *given, targets = tensors(7)
    before = [each.detach().clone() for each in given]
    linear_cross_entropy(*given, targets, 0.1)[0].backward()
    assert all(torch.equal(each, old) for each, old in zip(given, before, strict=True))


def test_without_gradients_the_loss_is_the_same():
    *given, targets = tensors(7)
    with torch.no_grad():
        quiet = linear_cross_entropy(*given, targets, 0.1)
    loud = linear_cross_entropy(*given, targets, 0.1)
    assert not quiet[0].requires_grad and all(torch.equal(one, other) for one, other in zip(quiet, loud, strict=True))


def test_without_gradients_none_are_computed(monkeypatch):
    products = []

    def counted(owner, name):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: products.append(name) or real(*given))

    owned = (cross_entropy.Factor, "write"), (cross_entropy.Factor, "times"), (cross_entropy, "outer")
    for owner, name in owned:
        counted(owner, name)
    *given, targets = tensors(7)
    linear_cross_entropy(*given, targets, 0.1)
    assert products == ["write", "times", "outer"], "logits, gradients of readouts and of weight"
    products.clear()
    with torch.no_grad():
        linear_cross_entropy(*given, targets, 0.1)
    assert products == ["write"]


def test_extreme_logits_stay_finite():
    readouts = torch.full((2, F), 1e3).requires_grad_()
    weight = torch.zeros(V, F)
    weight[3], weight[4] = 1e3, -1e3
    loss, nll = linear_cross_entropy(readouts, weight, torch.zeros(V), torch.tensor([3, 4]), 0.0)
    loss.backward()
    assert nll.tolist() == pytest.approx([0, 2 * F * 1e6]) and readouts.grad.isfinite().all()


def test_bf16_is_close_and_keeps_types():
    *given, targets = tensors(2 * _CHUNK + 17, torch.float32)
    exact, nll = linear_cross_entropy(*given, targets, 0.1)
    with arithmetic(rounding=Rounding.bf16):
        rounded, rounded_nll = linear_cross_entropy(*given, targets, 0.1)
    rounded.backward()
    assert rounded.item() != exact.item()
    sums = exact.item(), nll.sum().item()
    assert (rounded.item(), rounded_nll.sum().item()) == pytest.approx(sums, rel=1e-2)
    assert {rounded.dtype, *(each.grad.dtype for each in given)} == {torch.float32}


@pytest.mark.parametrize("rows", [1, _CHUNK + 1, 2 * _CHUNK + 17])
def test_token_log_probs_have_gradients_of_their_own(rows):
    generator = torch.Generator().manual_seed(SEED)
    upstream = torch.randn(2, rows, generator=generator, dtype=torch.float64)
    found = []
    for fast in (True, False):
        *given, targets = tensors(rows)
        with arithmetic(fast=fast):
            results = token_log_probs(*given, targets)
        torch.stack(results).mul(upstream).sum().backward()
        found.append([*(each.detach() for each in results), *(each.grad for each in given)])
    assert_same(*found)
    *given, targets = tensors(rows)
    nll = linear_cross_entropy(*given, targets, 0.0)[1]
    torch.testing.assert_close(-found[0][0], nll, rtol=1e-12, atol=1e-12)


def test_token_log_probs_gradient():
    *given, targets = tensors(7)
    assert torch.autograd.gradcheck(lambda *each: token_log_probs(*each, targets), given)


@pytest.mark.parametrize(("tokens", "vocabulary"), [(4097, 8000), (4400, 8000), (1153, 50_000)])
@pytest.mark.parametrize("library", [True, False])
def test_chunks_of_nothing_but_padding(monkeypatch, tokens, vocabulary, library):
    if not library:
        monkeypatch.setattr(kernels, "library", lambda: None)
    generator = torch.Generator().manual_seed(1)
    readouts = torch.randn(tokens, 8, generator=generator).requires_grad_()
    weight = torch.randn(vocabulary, 8, generator=generator).requires_grad_()
    bias = torch.zeros(vocabulary, requires_grad=True)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    with arithmetic(rounding=Rounding.bf16):
        loss, nll = linear_cross_entropy(readouts, weight, bias, targets, 0.0)
        loss.backward()
        with torch.no_grad():
            again, _ = linear_cross_entropy(readouts, weight, bias, targets, 0.0)
    exact = torch.nn.functional.cross_entropy(readouts @ weight.t() + bias, targets, reduction="none")
    assert (nll - exact).abs().max() < 0.2 and again.item() == pytest.approx(loss.item(), rel=1e-6)
    # each row's gradients of logits add up to 0
    assert bias.grad.sum().abs() < 1e-2
