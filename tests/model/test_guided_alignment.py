from dataclasses import replace

import numpy as np
import pytest
import torch
from composed import options
from reference import objectives
from torch.nn import functional
from toys import assert_same, close, new_model, toy_batch, toy_model

from nmt.data.batches import EncodedPairs, FlatSequences
from nmt.model import arithmetic
from nmt.training.loss import batch_loss, guided_alignment_loss

SEED, LAMBDA = 5, 0.7
# of each pair (source, target): nothing, one link, several to a token, one to EOS's neighbour
LINKS = [[(0, 0)], [], [(1, 0), (0, 2), (1, 2), (2, 2), (2, 1)]]
SOURCES, TARGETS = [[4, 5, 6, 7], [4], [4, 5, 6]], [[4], [5, 6, 7], [6, 7, 8, 9]]


def linked(links=LINKS, sources=SOURCES, targets=TARGETS):
    """Pairs with these links, in the order that pairs store them."""
    pairs = EncodedPairs.from_lists(sources, targets)
    flat = [[place for source, target in each for place in (target, source)] for each in links]
    return EncodedPairs(pairs.source, pairs.target, links=FlatSequences.from_lists(flat))


def random_weights(batch, *, dtype=torch.float64):
    """Attention over the real source positions, junk on padded target positions."""
    generator = torch.Generator().manual_seed(SEED)
    shape = (*batch.target_out.shape, batch.source.shape[1])
    weights = torch.rand(shape, generator=generator, dtype=dtype)
    real = torch.arange(shape[2]) < batch.source_lengths[:, None, None]
    return functional.normalize(weights * real, p=1, dim=-1)


def expected(weights, batch, links):
    """The reference's loss, one sentence without padding after the other."""
    total = 0.0
    for b, each in enumerate(links):
        alpha = weights[b, : batch.target_lengths[b], : batch.source_lengths[b]].numpy()
        total += objectives.guided_alignment_loss(alpha, each, LAMBDA)
    return total


def test_links_of_a_batch():
    batch = linked().batch([2, 0, 1])
    found = {tuple(link) for link in batch.links.T.tolist()}
    assert found == {(0, 0, 1, 1), (0, 2, 0, 3), (0, 2, 1, 3), (0, 2, 2, 3), (0, 1, 2, 1), (1, 0, 0, 1)}
    assert batch.links.dtype == torch.int64 and torch.equal(batch.to("cpu").links, batch.links)
    assert linked().batch([1]).links.shape == (4, 0)
    assert EncodedPairs.from_lists(SOURCES, TARGETS).batch([0]).links is None


def test_links_go_with_their_pairs():
    chosen = linked().select([2, 1])
    assert torch.equal(chosen.batch([0, 1]).links, linked().batch([2, 1]).links)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0), (1,), (1, 2, 2)])
def test_loss_equals_the_reference(order):
    batch = linked().batch(order)
    weights = random_weights(batch)
    loss = LAMBDA * guided_alignment_loss(weights, batch.links)
    assert loss.item() == close(expected(weights, batch, [LINKS[b] for b in order]), 1e-12)


def test_padding_has_no_part():
    batch = linked().batch([0, 1, 2])
    weights = random_weights(batch)
    wider = functional.pad(weights, (0, 2, 0, 3), value=0.3)
    one, other = weights.requires_grad_(), wider.requires_grad_()
    for each in (one, other):
        guided_alignment_loss(each, batch.links).backward()
    assert one.grad.any()
    assert torch.equal(functional.pad(one.grad, (0, 2, 0, 3)), other.grad)


def test_gradient():
    batch = linked().batch([0, 1, 2])
    torch.manual_seed(SEED)
    scores = torch.randn(*batch.target_out.shape, batch.source.shape[1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: guided_alignment_loss(e.softmax(-1), batch.links), [scores])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_of_zero_cost_a_finite_loss(dtype):
    batch = linked([[(0, 0)]], [[4, 5]], [[4]]).batch([0])
    weights = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]], dtype=dtype, requires_grad=True)
    loss = guided_alignment_loss(weights, batch.links)
    loss.backward()
    assert loss.item() == pytest.approx(-np.log(torch.finfo(dtype).tiny), rel=0.01)
    assert weights.grad.isfinite().all()


def with_links(batch, links):
    """The batch with these links."""
    places = linked(links, [[4]] * len(links), [[4]] * len(links)).batch(range(len(links))).links
    return replace(batch, links=places)


@pytest.mark.parametrize("attention", ["bahdanau", "luong_general", "local_p", "scaled_dot"])
def test_a_model_is_trained_by_row_t_for_token_t(attention):
    model, plain = toy_model(f"attention={attention}").train(), toy_batch()
    links = [[(0, 0), (3, 0)], [(0, 4), (0, 1)], [(2, 0), (1, 2)]]
    guided = with_links(plain, links)
    losses = [batch_loss(model, batch, 0.1, guided_alignment=LAMBDA) for batch in (plain, guided)]
    with torch.no_grad():
        weights = model(plain.source, plain.source_lengths, plain.target_in).weights
    assert (losses[1].loss - losses[0].loss).item() == close(expected(weights, plain, links), 1e-9)
    assert losses[1].attention.item() == close(expected(weights, plain, links), 1e-9)
    assert not losses[1].attention.requires_grad and losses[0].attention is None
    assert losses[1].nll.item() == losses[0].nll.item()
    assert batch_loss(model, guided, 0.1).loss.item() == losses[0].loss.item()


def test_validation_has_the_plain_loss():
    model, plain = toy_model("attention=luong_general").eval(), toy_batch()
    guided = with_links(plain, [[(0, 0)], [], [(1, 1)]])
    assert batch_loss(model, guided, 0.0, guided_alignment=LAMBDA).loss == batch_loss(model, plain, 0.0).loss


UNTAUGHT = {"none", "mean", "hard_sample", "gumbel"}


@pytest.mark.parametrize("attention", options("attention"))
def test_which_attentions_can_be_taught(attention):
    heads = ("attention.form.heads=2",) if attention == "multi_head" else ()
    assert new_model(f"attention={attention}", *heads).weights_learn == (attention not in UNTAUGHT)


@pytest.mark.parametrize(
    ("changes", "taught"),
    [
        (("attention=mean", "attention/alignment=local_m"), False),
        (("attention=mean", "attention/alignment=local_p"), True),
        (("attention=mean", "attention/form=multi_head", "attention.form.heads=2"), False),
        (("attention=hard_sample", "attention.alignment.expectation=1"), True),
        (("attention=gumbel", "attention.alignment.straight_through=false"), True),
    ],
)
def test_which_changes_can_be_taught(changes, taught):
    model = new_model(*changes).double()
    assert model.weights_learn == taught
    batch = with_links(toy_batch(), [[(0, 0), (3, 0)], [], [(1, 0), (2, 1)]])
    loss = guided_alignment_loss(model(batch.source, batch.source_lengths, batch.target_in).weights, batch.links)
    if loss.requires_grad:
        loss.backward()
    assert any(each.grad is not None and each.grad.any() for each in model.parameters()) == taught


@pytest.mark.parametrize("attention", ["bahdanau", "luong_general"])
def test_fast_and_plain_gradients_agree(attention):
    model, batch = toy_model(f"attention={attention}").train(), with_links(toy_batch(), [[(0, 0)], [], [(2, 1)]])
    found = []
    for fast in (True, False):
        model.zero_grad()
        with arithmetic(fast=fast):
            batch_loss(model, batch, 0.1, guided_alignment=LAMBDA).loss.backward()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert_same(*found)


def test_attention_learns_the_links():
    torch.manual_seed(SEED)
    model, links = toy_model("attention=luong_general").train(), [[(2, 0)], [], [(1, 0), (0, 1)]]
    batch = with_links(toy_batch(), links)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        batch_loss(model, batch, 0.0, guided_alignment=1.0).loss.backward()
        optimizer.step()
    with torch.no_grad():
        weights = model(batch.source, batch.source_lengths, batch.target_in).weights
    assert min(weights[b, t, s].item() for b, each in enumerate(links) for s, t in each) > 0.9
