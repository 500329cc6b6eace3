"""Losses at all places of a batch, padding weighted 0, equal those at the real ones; so do batches padded more."""

import math
from dataclasses import replace

import pytest
import torch
from toys import CASES, SOURCE_SIZE, TARGET_SIZE, assert_same, batch_for, gradients, label, toy_model

from nmt.data.batches import EncodedPairs, FlatSequences
from nmt.model import arithmetic
from nmt.model.cross_entropy import linear_cross_entropy
from nmt.model.prediction import rows
from nmt.model.prediction.rows import Rows
from nmt.training.loss import batch_loss

ONCE = {variant: (variant, cell) for variant, cell in CASES}.values()
MASK = torch.tensor([[True, False, True, False], [False] * 4, [True, True, True, False]])


@pytest.fixture(params=["cpu", "all"])
def places(request, monkeypatch):
    """Rows as a CPU has them, and as other devices do."""
    if request.param == "all":
        monkeypatch.setattr(rows, "_WITHOUT_WAITING", ())
    return request.param


def test_rows_go_back_to_their_places(places):
    found = Rows.of(MASK)
    values = torch.arange(1.0, 13.0).view(3, 4)
    taken = found.take(values)
    assert (found.real is None) == (places == "cpu")
    real = taken if found.real is None else taken[found.real]
    assert real.tolist() == [1, 3, 9, 10, 11]
    assert found.spread(taken).tolist() == [[1, 0, 3, 0], [0] * 4, [9, 10, 11, 0]]
    assert found.spread(taken, -math.inf).isinf().sum() == 7
    assert torch.equal(found.take(torch.stack([values] * 2, -1)), torch.stack([taken] * 2, -1))


def test_what_lies_step_by_step_has_the_same_rows(places):
    values = torch.randn(3, 4, 5, requires_grad=True)
    found = []
    for laid in (values, values.transpose(0, 1).contiguous().transpose(0, 1)):
        taken = Rows.of(MASK).take(laid)
        (gradient,) = torch.autograd.grad((taken * torch.arange(1.0, len(taken) + 1).unsqueeze(1)).sum(), values)
        found.append((taken, gradient))
    assert len(found[0][0]) == (5 if places == "cpu" else 12)
    assert all(map(torch.equal, *found))


def test_what_stands_on_padding_has_no_gradient(places):
    found, values = Rows.of(MASK), torch.zeros(3, 4, requires_grad=True)
    # a logarithm whose own gradient is infinite on padding would make 0 times infinity
    found.spread((found.take(values) + 1).log()).sum().backward()
    assert torch.equal(values.grad, MASK.float())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("fast", [True, False])
def test_rows_that_are_not_real_count_for_nothing(fast, smoothing):
    generator, real = torch.Generator().manual_seed(3), torch.tensor([True, False, False, True, True, False])
    readouts, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, 5), (11, 5), (11,))
    )
    targets, found = torch.tensor([3, 10, 0, 7, 7, 2]), []
    for chosen, mask in ((slice(None), real), (real, None)):
        given = [each.clone().requires_grad_() for each in (readouts[chosen], weight, bias)]
        with arithmetic(fast=fast):
            loss, nll = linear_cross_entropy(*given, targets[chosen], smoothing, mask)
        loss.backward()
        of_readouts = given[0].grad
        if mask is not None:
            assert not nll[real.logical_not()].any() and not of_readouts[real.logical_not()].any()
            nll, of_readouts = nll[real], of_readouts[real]
        found.append({"loss": loss.detach(), "nll": nll, "h": of_readouts, "W": given[1].grad, "b": given[2].grad})
    assert_same(*found, tolerance=1e-12)


def summed(model, batch):
    found = gradients(model, batch)
    return {**found, "nll": found["nll"].sum()}


@pytest.mark.parametrize(("variant", "cell"), ONCE, ids=[label(variant) for variant, _ in ONCE])
def test_a_batch_of_a_graph_has_the_same_gradients(variant, cell, monkeypatch):
    model = toy_model(*variant, cell=cell)
    batch = batch_for(model)
    expected = summed(model, batch)
    wide = batch.padded(5, batch.source.shape[1] + 3, batch.target_out.shape[1] + 2)
    assert_same(summed(model, wide), expected)
    monkeypatch.setattr(rows, "_WITHOUT_WAITING", ())
    assert_same(summed(model, batch), expected)
    assert_same(summed(model, wide), expected)


def test_links_that_are_none_teach_nothing():
    model = toy_model("attention=luong_general")
    sources, targets, links = [[5, 6], [7]], [[4], [8, 9]], [[0, 1, 1, 0], [0, 0, 0, 1, 2, 1]]
    assert max(map(max, sources)) < SOURCE_SIZE and max(map(max, targets)) < TARGET_SIZE
    pairs = EncodedPairs(*map(FlatSequences.from_lists, (sources, targets)), None, FlatSequences.from_lists(links))
    batch = pairs.batch([0, 1])
    losses = [
        batch_loss(model, each, 0.1, guided_alignment=0.7)
        for each in (batch, batch.padded(2, 3, 3, links=8), replace(batch, links=None))
    ]
    assert losses[1].loss.item() == pytest.approx(losses[0].loss.item(), rel=1e-12)
    assert losses[1].attention.item() == pytest.approx(losses[0].attention.item(), rel=1e-12)
    assert losses[2].loss.item() < losses[0].loss.item()
