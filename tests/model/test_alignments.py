import math

import pytest
import torch
from composed import CONFIGS, options
from numpy_model import ALIGNMENTS, array
from omegaconf import OmegaConf
from reference import attention
from toys import close, random, randomised

from nmt.component import build
from nmt.errors import ConfigError
from nmt.model import arithmetic
from nmt.model.attention import Alignment, Keys, LocalMonotonic, LocalPredictive, Memory, NoAlignment, Softmax
from nmt.model.attention.base import masked_softmax
from nmt.model.encoder import mask_from_lengths

B, Q, S, H = 3, 17, 13, 5
LENGTHS = (13, 1, 7)  # EOS counted: the second sentence has no word
POSITIONS = list(range(Q))  # past the last word too

CASES = [(name, {}) for name in options("attention/alignment")]
CASES += [(name, {"window": size}) for name in ("local_m", "local_p") for size in (1, 2, 3)]


def make_alignment(name, **overrides):
    node = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"attention/alignment/{name}.yaml")) | overrides
    alignment = build(node, Alignment, "attention.alignment", query_size=H, key_size=3).double()
    # without the random numbers of training
    return randomised(alignment).eval()


def make_memory(alignment, lengths=LENGTHS):
    counted = torch.tensor(lengths)
    mask = mask_from_lengths(counted, max(lengths))
    return Memory(Keys(), mask, mask, counted - 1, alignment.prepare())


def make_scores():
    """Scores with junk, even infinities, where padding is."""
    scores = 3 * random(B, Q, S, seed=1)
    scores[2, :, 8], scores[2, :, 9], scores[2, :, 10] = math.inf, -math.inf, 1e300
    return scores


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_weights_equal_the_papers(name, options, fast):
    alignment = make_alignment(name, **options)
    scores, query = make_scores(), random(B, Q, H, seed=2)
    with arithmetic(fast=fast):
        memory = make_memory(alignment)
        weights = alignment(scores, query, memory, torch.tensor(POSITIONS))
        apart = [alignment(scores[:, t : t + 1], query[:, t : t + 1], memory, t) for t in POSITIONS]
    assert torch.cat(apart, 1).numpy(force=True) == close(weights)
    for b, length in enumerate(LENGTHS):
        assert not weights[b, :, length:].any(), "weight on padding"
        for t in POSITIONS:
            real = scores[b, t, :length].numpy()
            assert array(weights[b, t, :length]) == close(
                ALIGNMENTS[type(alignment)](alignment, real, array(query[b, t]), t)
            )


def test_hypotheses_of_one_step_share_its_position():
    alignment = LocalMonotonic(window=1)
    weights = alignment(make_scores(), random(B, Q, H), make_memory(alignment), 4)
    expected = attention.local_m(array(make_scores()[0, 16]), t=4, S=12, D=1)
    assert array(weights[0, 16]) == close(expected)


@pytest.mark.parametrize("name", options("attention/alignment"))
def test_selected_sentences(name):
    alignment = make_alignment(name)
    scores, query, picked = make_scores(), random(B, Q, H, seed=2), torch.tensor([2, 0])
    memory = make_memory(alignment)
    weights = alignment(scores, query, memory, 3)
    assert array(alignment(scores[picked], query[picked], memory.select(picked), 3)) == close(weights[picked])


def test_the_position_learns_through_the_gaussian():
    alignment = make_alignment("local_p", window=3)
    fast, plain = (_position_gradients(alignment, fast=fast) for fast in (True, False))
    for one, other in zip(fast, plain, strict=True):
        assert one.abs().sum() > 0
        assert array(one) == close(other)


def _position_gradients(alignment, *, fast):
    alignment.zero_grad()
    query = random(B, Q, H, seed=2).requires_grad_()
    with arithmetic(fast=fast):
        weights = alignment(torch.zeros(B, Q, S).double(), query, make_memory(alignment), 0)
    (weights * random(B, Q, S, seed=5)).sum().backward()
    return [alignment.hidden.weight.grad.clone(), alignment.vector.weight.grad.clone(), query.grad]


def test_no_alignment_has_no_weights():
    assert not NoAlignment.weighs
    assert Softmax.weighs and LocalMonotonic.weighs and LocalPredictive.weighs


@pytest.mark.parametrize("make", [lambda: LocalMonotonic(0), lambda: LocalPredictive(H, window=0)])
def test_a_window_holds_a_neighbour(make):
    with pytest.raises(ConfigError, match="alignment.window=0 is not accepted; it must be at least 1"):
        make()


def test_masked_softmax_of_huge_scores():
    weights = masked_softmax(torch.tensor([[3e38, -3e38, 3e38]]), torch.tensor([[True, True, False]]))
    assert weights.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("score", [-3e38, -1e30, 0.0, 3e38])
def test_masked_softmax_of_one_position(score):
    weights = masked_softmax(torch.tensor([[7.0, score]]), torch.tensor([[False, True]]))
    assert weights.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("scores", "allowed"),
    [([1.0, 2.0], [False, False]), ([-math.inf, 2.0], [True, False]), ([-math.inf, -math.inf], [True, True])],
)
def test_masked_softmax_with_nothing_allowed_is_zero_and_so_are_its_gradients(scores, allowed):
    scores = torch.tensor([scores]).requires_grad_()
    weights = masked_softmax(scores, torch.tensor([allowed]))
    assert weights.tolist() == [[0.0, 0.0]]
    weights.backward(torch.full_like(weights, 1e6))
    assert scores.grad.tolist() == [[0.0, 0.0]]


def test_masked_softmax_gradient():
    scores = random(2, 5).requires_grad_()
    allowed = torch.tensor([[True, True, False, True, True], [False, True, True, True, False]])
    assert torch.autograd.gradcheck(lambda given: masked_softmax(given, allowed), scores)


def test_a_window_past_the_last_row_of_location_gives_no_weight():
    scores = torch.full((1, 1, 9), -math.inf)
    scores[..., :3] = 0.5
    alignment = LocalMonotonic(window=1)
    memory, half = make_memory(alignment, lengths=(9,)), [0, 0.5, 0.5, 0, 0, 0, 0, 0, 0]
    assert array(alignment(scores, random(1, 1, H), memory, 2)[0, 0]) == close(half)
    assert not alignment(scores, random(1, 1, H), memory, 6).any()
