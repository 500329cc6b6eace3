import math

import pytest
import torch
from numpy_model import ALIGNMENTS, array
from toys import close, random

from nmt.model.attention import Entmax15, Keys, Memory, Sparsemax
from nmt.model.attention.sparse import _prepared

both = pytest.mark.parametrize("make", [Sparsemax, Entmax15])


def aligned(make, scores, mask=None):
    """Weights for scores [n, S], each row a sentence of its own."""
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else torch.tensor(mask).expand_as(scores)
    memory = Memory(Keys(), mask, mask, mask.sum(-1) - 1, None)
    return make()(scores.unsqueeze(1), scores.unsqueeze(1), memory, 0).squeeze(1)


@both
def test_weights_by_hand(make):
    # sparsemax: tau = (1.5 - 1) / 2; entmax: halves .5, .25 and tau with (.5 - tau)^2 + (.25 - tau)^2 = 1
    scores = torch.tensor([[1.0, 0.5, -2.0]], dtype=torch.float64)
    tau = 0.375 - math.sqrt(0.5 - 0.125**2)
    expected = {Sparsemax: [0.75, 0.25, 0], Entmax15: [(0.5 - tau) ** 2, (0.25 - tau) ** 2, 0]}
    assert array(aligned(make, scores)) == close([expected[make]])


@both
def test_no_weight_where_the_best_is_far_ahead(make):
    reach = {Sparsemax: 1.0, Entmax15: 2.0}[make]
    scores = torch.tensor([[0.0, -reach], [0.0, -reach + 0.01]], dtype=torch.float64)
    weights = aligned(make, scores)
    assert weights[0].tolist() == [1.0, 0.0]
    assert weights[1, 1] > 0


@both
def test_gradient_beside_padding_and_forbidden_positions(make):
    # several positions share the weight in every row, and none is at the edge of the support
    scores = (0.3 * random(4, 6, seed=1)).requires_grad_()
    mask = [True, True, False, True, True, False]
    weights = aligned(make, scores, mask)
    assert ((weights > 0.02).sum(-1) >= 3).all()
    assert torch.autograd.gradcheck(lambda given: aligned(make, given, mask), scores)
    forbidding = torch.tensor([0, -math.inf, 0, 0, 0, 0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda given: aligned(make, given + forbidding, mask), scores)


@both
def test_gradient_with_weights_of_zero(make):
    scores = random(5, 7, seed=2).requires_grad_()
    assert (aligned(make, scores) == 0).any(-1).sum() >= 3
    assert torch.autograd.gradcheck(lambda given: aligned(make, given), scores)


@both
def test_a_forbidden_position_is_one_that_is_not_there(make):
    scores = random(3, 5, seed=3)
    forbidden = scores.clone()
    forbidden[:, 2] = -math.inf
    left = [0, 1, 3, 4]
    assert array(aligned(make, forbidden)[:, left]) == close(aligned(make, scores[:, left]))
    assert not aligned(make, forbidden)[:, 2].any()


@both
@pytest.mark.parametrize(
    ("scores", "mask"),
    [([1.0, 2.0], [False, False]), ([-math.inf, 2.0], [True, False]), ([-math.inf, -math.inf], [True, True])],
)
def test_with_nothing_allowed_weights_and_gradients_are_zero(make, scores, mask):
    given = torch.tensor([scores]).requires_grad_()
    weights = aligned(make, given, mask)
    assert weights.tolist() == [[0.0, 0.0]]
    weights.backward(torch.full_like(weights, 1e6))
    assert given.grad.tolist() == [[0.0, 0.0]]


@both
@pytest.mark.parametrize("highest", [-3e38, -1e30, 0.0, 1e30, 3e38])
def test_huge_scores(make, highest):
    scores = torch.tensor([[highest, -3.1e38, highest, 3.3e38], [-3.2e38, highest, highest, math.inf]])
    weights = aligned(make, scores, [True, True, True, False])
    assert array(weights) == close([[0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0]], 1e-7)
    assert torch.equal(weights > 0, torch.tensor([[True, False, True, False], [False, True, True, False]]))


def test_what_is_far_below_is_raised_and_so_is_what_is_forbidden():
    scores = torch.tensor([[-1e30, 7.0, 6.5, 9.0, -3e38], [-math.inf, 1.0, 2.0, 3.0, 4.0]])
    allowed = torch.tensor([[True, True, True, False, True], [False] * 5])
    assert _prepared(scores, allowed).tolist() == [[-10, 0, -0.5, -10, -10], [0] * 5]


@both
@pytest.mark.parametrize("size", [0.1, 3.0, 100.0])
def test_single_precision(make, size):
    scores = size * random(20, 9, seed=4)
    weights = aligned(make, scores.float())
    expected = [ALIGNMENTS[make](None, row, None, 0) for row in scores.float().double().numpy()]
    # rounding of scores as large as these; weights change by as much at most
    assert array(weights) == close(expected, 1e-6 * max(1.0, size))
    assert array(weights.sum(-1)) == close([1.0] * 20, 1e-5)
