"""The references of `reference.family`: cases worked out by hand, limits, and brute force. NumPy alone.

tanh(ln 2) = 3/5, tanh(ln 3) = 4/5 make results rational.
"""

# ruff: noqa: N803, N806

import math
from itertools import product

import numpy as np
import pytest
from reference import attention, family
from reference.family import Convolution, EncoderLayer, Head, Stack
from reference.recurrent import Cell, Norm

LN2, LN3 = math.log(2), math.log(3)


def close(expected, tolerance=1e-12):
    return pytest.approx(np.array(expected, dtype=float), abs=tolerance)


def random(seed):
    generator = np.random.default_rng(seed)
    return lambda *shape: generator.normal(size=shape)


def on_simplex(seed, count, size):
    return np.random.default_rng(seed).dirichlet(np.full(size, 0.5), size=count)


# scores


def test_concat_linear_has_the_query_first_and_its_softmax_does_not_see_it():
    states, w = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([10.0, 0.5, -1.0])
    assert family.concat_linear(np.array([2.0]), states, w) == close([18.5, 21.5])
    weights = [attention.softmax(family.concat_linear(np.array([x]), states, w)) for x in (2.0, -7.0)]
    assert weights[0] == close(weights[1])
    assert weights[0][1] / weights[0][0] == pytest.approx(math.exp(3))


def test_pooling():
    W, w = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([1.0, 10.0, 100.0])
    states = np.array([[LN2, LN3], [LN3, -LN3], [0.0, 0.0]])
    assert family.pooling(states, W, w) == close([0.6 + 8 + 100 * 35 / 37, 0.8 - 8, 0])


# several heads


HALF_HEADS = [
    Head(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), attention.dot),
    Head(np.array([[0.0, 1.0]]), np.array([[0.0, 0.25]]), np.array([[0.0, 1.0]]), attention.dot),
]
HEAD_STATES = np.array([[0.0, 8.0], [LN3, 4.0]])


def test_multi_head_by_hand():
    # head 1: keys 0, ln 3, weights 1/4, 3/4, context 5; head 2: keys 2, 1 times ln 3, weights 3/4, 1/4, context 7
    W_o = np.array([[0.0, 1.0], [1.0, 2.0], [3.0, 0.0]])
    heads = family.multi_head(np.array([1.0, LN3]), HEAD_STATES, HALF_HEADS, W_o)
    assert heads.each == close([[0.25, 0.75], [0.75, 0.25]])
    assert heads.weights == close([0.5, 0.5])
    assert heads.context == close([7, 19, 15])


def test_multi_head_takes_a_score_for_each_head_and_any_alignment():
    general = Head(*HALF_HEADS[1][:3], lambda q, K: attention.general(q, K, np.array([[3.0]])))
    heads = family.multi_head(np.array([1.0, LN3]), HEAD_STATES, [HALF_HEADS[0], general], np.eye(2))
    assert heads.each == close([[1 / 4, 3 / 4], [27 / 28, 1 / 28]])
    hard = family.multi_head(np.array([2.0, LN3]), HEAD_STATES, HALF_HEADS, np.eye(2), family.sparsemax)
    assert hard.each == close([[0, 1], [1, 0]])  # the scores are further apart than 1
    assert hard.context == close([4, 8])


def test_one_head_of_identities_is_the_plain_attention():
    draw = random(0)
    h, states = draw(3), draw(5, 3)
    one = family.multi_head(h, states, [Head(np.eye(3), np.eye(3), np.eye(3))], np.eye(3))
    weights = attention.softmax(attention.scaled_dot(h, states))
    assert one.weights == close(weights)
    assert one.context == close(attention.weighted_mean(weights, states))


def test_a_head_is_scaled_by_its_own_size():
    # q = (1, 1, 1, 1), key_2 = (ln 3)/2 each: 2 ln 3 over sqrt(4) although H = M = 1
    heads = [Head(np.ones((4, 1)), np.ones((4, 1)), np.ones((4, 1)))]
    result = family.multi_head(np.ones(1), np.array([[0.0], [LN3 / 2]]), heads, np.eye(4))
    assert result.weights == close([1 / 4, 3 / 4])


def test_heads_of_cuts_by_blocks_of_rows():
    W_q, W_k, W_v = (np.arange(12.0).reshape(4, 3) + shift for shift in (0, 100, 200))
    first, second = family.heads_of(W_q, W_k, W_v, [attention.dot, attention.scaled_dot])
    assert first.W_q.tolist() == [[0, 1, 2], [3, 4, 5]] and second.W_q.tolist() == [[6, 7, 8], [9, 10, 11]]
    assert second.W_k[0, 0] == 106 and second.W_v[1, 2] == 211
    assert first.score is attention.dot and second.score is attention.scaled_dot


# hierarchy of sentences


@pytest.mark.parametrize(
    ("tokens", "numbers"),
    [
        ([5, 9, 7, 9, 8, 3], [0, 0, 1, 1, 2, 2]),
        ([5, 9, 7, 9, 3], [0, 0, 1, 1, 1]),
        ([9, 9, 3], [0, 1, 1]),
        ([5, 6, 3], [0, 0, 0]),
        ([9, 3], [0, 0]),
        ([3], [0]),
    ],
)
def test_a_separator_ends_its_sentence_and_eos_is_in_the_last(tokens, numbers):
    assert family.sentence_numbers(tokens, 9) == numbers


def half_gru():
    # every gate is sigmoid(0) = 1/2 and the candidate tanh of the first entry: h' = tanh(x) / 2 + h / 2
    return Cell("gru", np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), np.zeros((3, 1)))


SENTENCES = np.array([[0.0, 0.0], [2 * LN2, LN2], [LN3 + 1, 0.0], [LN3 - 1, 0.0]])


def test_sentence_states_read_the_means_both_ways():
    assert family.sentence_means(SENTENCES, [0, 0, 1, 1]) == close([[LN2, LN2 / 2], [LN3, 0]])
    g = family.sentence_states(SENTENCES, [0, 0, 1, 1], half_gru(), half_gru())
    assert g == close([[0.3, 0.5], [0.55, 0.4]])


def hierarchical(h, states, numbers):
    cells = {"forward": half_gru(), "backward": half_gru()}
    return family.hierarchical(
        h, states, numbers, word_score=lambda q, X: X[:, 1], sentence_score=attention.dot, **cells
    )


def test_hierarchical_by_hand():
    # beta: (4 ln 3) (0.55 - 0.3) = ln 3 apart; gamma: 1/3, 2/3 and 1/2, 1/2
    result = hierarchical(np.array([4 * LN3, 0.0]), SENTENCES, [0, 0, 1, 1])
    assert result.sentences == close([1 / 4, 3 / 4])
    assert result.words == close([1 / 3, 2 / 3, 1 / 2, 1 / 2])
    assert result.weights == close([1 / 12, 1 / 6, 3 / 8, 3 / 8])
    assert result.context == close([LN2 / 3 + 3 / 4 * LN3, LN2 / 6])


def test_hierarchical_with_one_sentence_and_with_sentences_of_one_word():
    h = np.array([0.7, -1.2])
    one = hierarchical(h, SENTENCES, [0, 0, 0, 0])
    assert one.weights == close(attention.softmax(SENTENCES[:, 1]))
    each = hierarchical(h, SENTENCES, [0, 1, 2, 3])
    assert each.words == close([1, 1, 1, 1])
    assert each.weights == close(each.sentences)
    assert each.weights.sum() == pytest.approx(1)


# sparse alignments


@pytest.mark.parametrize(
    ("scores", "weights"),
    [
        ([0.5, 0.0], [0.75, 0.25]),
        ([1.0, 0.0], [1, 0]),
        ([2.0, 1.5, -1.0], [0.75, 0.25, 0]),
        ([-1.0, 7.5, 8.0], [0, 0.25, 0.75]),
        ([3.0, 3.0, 3.0, 3.0], [0.25] * 4),
        ([0.3, 0.0, -0.3], [0.3 + 1 / 3, 1 / 3, 1 / 3 - 0.3]),
        ([-math.inf, 0.5, 0.0], [0, 0.75, 0.25]),
        ([-math.inf, -math.inf], [0, 0]),
    ],
)
def test_sparsemax_by_hand(scores, weights):
    assert family.sparsemax(np.array(scores)) == close(weights)


# square roots of the weights: (4/5, 3/5); (2/3, 2/3, 1/3); (4/5, 3/5, 0), where the third is 0 at half a score of -3/5
@pytest.mark.parametrize(
    ("scores", "weights"),
    [
        ([0.4, 0.0], [0.64, 0.36]),
        ([2.0, 0.0], [1, 0]),
        ([5.0, 0.0], [1, 0]),
        ([2 / 3, 2 / 3, 0.0], [4 / 9, 4 / 9, 1 / 9]),
        ([9.4, 9.0, 7.0], [0.64, 0.36, 0]),
        ([0.4, 0.0, -1.2], [0.64, 0.36, 0]),
        ([3.0, 3.0, 3.0, 3.0], [0.25] * 4),
        ([-math.inf, 0.4, 0.0], [0, 0.64, 0.36]),
        ([-math.inf, -math.inf], [0, 0]),
    ],
)
def test_entmax15_by_hand(scores, weights):
    assert family.entmax15(np.array(scores)) == close(weights)


@pytest.mark.parametrize("alignment", [family.sparsemax, family.entmax15])
def test_sparse_alignments_are_distributions_over_the_real_rows(alignment):
    scores = random(1)(7) * 1.5
    weights = alignment(scores, 4)
    assert weights[:4] == close(alignment(scores[:4]))
    assert weights[4:].tolist() == [0, 0, 0]
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights == close(alignment(scores - 1000, 4), 1e-9)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    scores = random(2)(6)
    best = np.sum((family.sparsemax(scores) - scores) ** 2)
    assert all(np.sum((p - scores) ** 2) > best for p in on_simplex(3, 3000, 6))


def test_entmax15_has_the_largest_regularised_score():
    def value(p, z):
        return p @ z + 4 / 3 * np.sum(p - p**1.5)  # 1 / (alpha (alpha - 1)) = 4/3

    scores = random(4)(6)
    best = value(family.entmax15(scores), scores)
    assert all(value(p, scores) < best for p in on_simplex(5, 3000, 6))


def test_a_small_step_from_a_sparse_alignment_is_no_better():
    # the optimum is a maximum along every edge direction, to second order in the step
    scores, step = random(6)(5) * 0.6, 1e-4
    regularised = {
        family.sparsemax: lambda p: p @ scores - 0.5 * p @ p,
        family.entmax15: lambda p: p @ scores + 4 / 3 * np.sum(p - p**1.5),
    }
    for alignment, value in regularised.items():
        p = alignment(scores)
        for source, target in product(range(5), repeat=2):
            if source != target and p[source] > step:
                moved = p.copy()
                moved[source] -= step
                moved[target] += step
                assert value(moved) < value(p)


# monotonic attention


def test_selection_adds_offset_and_noise():
    assert family.selection(np.array([0.0, LN3]), -LN3) == close([1 / 4, 1 / 2])
    assert family.selection(np.array([0.0, LN3]), -LN3, np.array([LN3, LN2])) == close([1 / 2, 2 / 3])
    assert family.selection(np.array([-math.inf]), 4.0).tolist() == [0]


def test_monotonic_expectation_by_hand():
    P = np.array([[1 / 2, 1 / 2, 1 / 2], [1 / 3, 1 / 2, 1]])
    assert family.monotonic_expectation(P) == close([[1 / 2, 1 / 4, 1 / 8], [1 / 6, 7 / 24, 5 / 12]])


def by_enumeration_of_choices(P):
    """Sum over all sequences of positions that never go back; R means that nothing is chosen, for good."""
    T, R = P.shape
    expectation = np.zeros((T, R))
    for path in product(range(R + 1), repeat=T):
        probability, k = 1.0, 0
        for t, j in enumerate(path):
            if j < k:
                probability = 0.0
            for passed in range(k, j):
                probability *= 1 - P[t, passed]
            if j < R:
                probability *= P[t, j]
            k = j
        for t, j in enumerate(path):
            if j < R:
                expectation[t, j] += probability
    return expectation


def by_enumeration_of_coins(P):
    """Sum over all outcomes of the T*R coins of what the test-time algorithm does with them as its probabilities."""
    expectation = np.zeros(P.shape)
    for coins in product((0.0, 1.0), repeat=P.size):
        Z = np.array(coins).reshape(P.shape)
        probability = np.prod(np.where(Z == 1, P, 1 - P))
        expectation += probability * family.monotonic_hard(Z)
    return expectation


@pytest.mark.parametrize(("T", "R"), [(1, 5), (3, 4), (4, 3), (5, 1)])
def test_monotonic_expectation_is_that_of_all_monotonic_choices(T, R):
    P = np.random.default_rng(T).uniform(0.05, 0.95, size=(T, R))
    expectation = family.monotonic_expectation(P)
    assert expectation == close(by_enumeration_of_choices(P))
    assert expectation == close(by_enumeration_of_coins(P))
    mass = [1.0, *expectation.sum(axis=1)]
    assert all(later < earlier for earlier, later in zip(mass, mass[1:], strict=False))


def test_monotonic_hard_starts_where_it_stopped_and_may_stay():
    P = np.array([[0.4, 0.5, 0.9], [0.9, 0.7, 0.9], [0.9, 0.49, 0.6]])
    assert family.monotonic_hard(P).tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_monotonic_hard_is_at_an_end_after_a_step_without_a_choice():
    P = np.array([[0.1, 0.9, 0.1], [0.9, 0.1, 0.1], [0.9, 0.9, 0.9]])
    assert family.monotonic_hard(P).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


# coverage


ADDITIVE = {
    "W_a": np.array([[1.0], [-1.0]]),
    "U_a": np.array([[0.0, 0.0], [1.0, 0.0]]),
    "v_a": np.array([10.0, 100.0]),
}


def test_additive_coverage_by_hand():
    s, states, w = np.array([LN2]), np.array([[LN2, 5.0], [2 * LN2, 7.0]]), np.array([-2 * LN2, 0.5 * LN2])
    assert family.additive_coverage(s, states, np.zeros(2), **ADDITIVE, w=w) == close([6, 66])
    covered = family.additive_coverage(s, states, np.array([2.0, 1.0]), **ADDITIVE, w=np.array([-LN2, LN2]))
    assert covered == close([-6 + 100 * 15 / 17, 100 * 15 / 17])  # tanh(2 ln 2) = 15/17
    shifted = family.additive_coverage(s, states, np.array([1.0, 0.0]), **ADDITIVE, w=w, b_a=np.array([0.0, LN2 / 2]))
    assert shifted[0] == pytest.approx(-6 + 60)


def test_bilinear_coverage_moves_the_key():
    draw = random(7)
    h, states, C, w, W_a, keys = draw(3), draw(4, 3), np.abs(draw(4)), draw(3), draw(3, 2), draw(4, 2)
    moved = states + C[:, None] * w
    assert family.bilinear_coverage(h, attention.dot(h, states), C, w) == close(attention.dot(h, moved))
    general = [h @ (W_a @ k + w * c) for k, c in zip(keys, C, strict=True)]
    assert family.bilinear_coverage(h, attention.general(h, keys, W_a), C, w) == close(general)
    assert family.bilinear_coverage(
        np.array([1.0, 2.0]), np.zeros(2), np.array([0.0, 3.0]), np.array([1.0, 1.0])
    ) == close([0, 9])


def test_covered_attention_adds_up_the_weights_before():
    states, seen = np.array([[1.0], [10.0]]), []

    def score(h, C):
        seen.append(C)
        return h[0] * np.array([LN3, 0.0]) - h[1] * C

    attend = family.covered_attention(score, attention.softmax, states)
    weights, context = attend(np.array([1.0, 5.0]), 0)
    assert weights == close([3 / 4, 1 / 4]) and context == close([13 / 4])
    weights, context = attend(np.array([1.0, 2 * LN3]), 1)  # scores 3/2 ln 3 below ln 3 and 1/2 ln 3 below 0: even
    assert weights == close([1 / 2, 1 / 2]) and context == close([5.5])
    attend(np.array([0.0, 0.0]), 2)
    assert np.array(seen) == close([[0, 0], [3 / 4, 1 / 4], [5 / 4, 3 / 4]])
    with pytest.raises(ValueError, match="in order"):
        attend(np.array([0.0, 0.0]), 2)


def test_coverage_loss_by_hand():
    weights = np.array([[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]])
    assert family.coverage_loss(weights, 1.0) == pytest.approx(0.7 + 0.7)
    assert family.coverage_loss(weights, 0.5) == pytest.approx(0.7)
    assert family.coverage_loss(np.eye(4), 1.0) == 0
    assert family.coverage_loss(np.array([[0.0, 1.0]] * 4), 1.0) == 3


# self-attention


def test_sinusoids():
    assert family.sinusoid(0, 4) == close([0, 1, 0, 1])
    assert family.sinusoid(3, 4) == close([math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)])
    assert family.sinusoid(7, 6)[4] == pytest.approx(math.sin(7 / 10000 ** (4 / 6)))
    # sin a sin b + cos a cos b = cos(a - b): products depend on the distance alone
    for start in (0, 5, 40):
        product_ = family.sinusoid(start, 8) @ family.sinusoid(start + 3, 8)
        assert product_ == pytest.approx(sum(math.cos(3 / 10**i) for i in range(4)))


def plain(size):
    return Norm(np.ones(size), np.zeros(size))


def test_encoder_layer_of_one_position_by_hand():
    # x = (3, 1): the norm gives (u, -u), the attention weight is 1
    u = 1 / math.sqrt(1 + 1e-5)
    v = (1 + 2 * u) / math.sqrt((1 + 2 * u) ** 2 + 1e-5)
    layer = EncoderLayer(
        [Head(np.eye(2), np.eye(2), 2 * np.eye(2))],
        np.eye(2),
        plain(2),
        np.eye(2),
        np.array([0.0, 0.5]),
        np.array([[0.0, 9.0], [3.0, 0.0]]),
        np.array([0.25, 0.0]),
        plain(2),
    )
    expected = np.array([3 + 2 * u + 0.25, 1 - 2 * u + 3 * v])
    assert family.encoder_layer(np.array([[3.0, 1.0]]), layer) == close([expected])
    # W_in (3, 0) and the sinusoid (0, 1) of position 0 are the x above
    W_in = np.array([[1.5], [0.0]])
    encoded = family.self_attention_encoder(
        np.array([[2.0]]), W_in, [layer], Norm(np.full(2, 2.0), np.array([0.0, 1.0]))
    )
    half = (expected[0] - expected[1]) / 2
    n = half / math.sqrt(half**2 + 1e-5)
    assert encoded == close([[2 * n, 1 - 2 * n]])


def test_each_norm_has_its_place():
    """Constant rows are normalised to the bias of their norm: attention sees norm_1, the rest sees norm_2."""
    layer = EncoderLayer(
        [Head(np.zeros((2, 2)), np.zeros((2, 2)), np.eye(2))],
        np.eye(2),
        Norm(np.ones(2), np.array([10.0, 10.0])),
        np.eye(2),
        np.zeros(2),
        np.eye(2),
        np.zeros(2),
        Norm(np.ones(2), np.array([100.0, -100.0])),
    )
    assert family.encoder_layer(np.array([[4.0, 4.0], [7.0, 7.0]]), layer) == close([[114, 14], [117, 17]])


def some_heads(draw, size, count=2, d=3):
    return [Head(draw(d, size), draw(d, size), draw(d, size)) for _ in range(count)], draw(size, count * d)


def test_self_attention_moves_with_its_rows_and_the_encoder_does_not():
    draw = random(8)
    states, order = draw(5, 4), [3, 0, 4, 1, 2]
    heads, W_o = some_heads(draw, 4)
    assert family.self_attention(states[order], heads, W_o) == close(family.self_attention(states, heads, W_o)[order])
    layer = EncoderLayer(heads, W_o, plain(4), draw(6, 4), draw(6), draw(4, 6), draw(4), plain(4))
    encoded = family.self_attention_encoder(states, np.eye(4), [layer, layer], plain(4))
    moved = family.self_attention_encoder(states[order], np.eye(4), [layer, layer], plain(4))
    assert np.abs(moved - encoded[order]).max() > 0.1
    assert encoded.mean(axis=1) == close(np.zeros(5))


def test_self_attention_by_hand():
    heads = [Head(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))]
    states, W_o = np.array([[0.0, 8.0], [1.0, 0.0]]), np.array([[1.0], [10.0]])
    # row 0 asks 0 of the keys (0, 1): mean value 4; row 1 asks 1: weights 1, e
    of_two = 8 / (1 + math.e)
    assert family.self_attention(states, heads, W_o) == close([[4, 40], [of_two, 10 * of_two]])
    assert family.attended_states(states, heads, W_o) == close([[4, 48], [1 + of_two, 10 * of_two]])


def test_mean_state():
    assert family.mean_state(np.array([[1.0, 2.0], [2.0, 4.0], [6.0, 0.0]])) == close([3, 2])


def test_causal_self_attention_with_even_weights_adds_the_mean_so_far():
    heads, tops = [Head(np.zeros((2, 2)), np.eye(2), np.eye(2))], np.array([[2.0, 0.0], [4.0, 1.0], [0.0, 5.0]])
    assert family.causal_self_attention(tops, heads, np.eye(2)) == close([[4, 0], [7, 1.5], [2, 7]])


def test_causal_self_attention_sees_itself_and_the_past_alone():
    draw = random(9)
    tops = draw(6, 4)
    heads, W_o = some_heads(draw, 4)
    attended = family.causal_self_attention(tops, heads, W_o)
    for t in range(6):
        assert attended[: t + 1] == close(family.causal_self_attention(tops[: t + 1], heads, W_o))
    assert attended[-1] == close(family.attended_states(tops, heads, W_o)[-1])
    assert attended[0] == close(tops[0] + W_o @ np.concatenate([head.W_v @ tops[0] for head in heads]))


# convolutions


def test_convolve_by_hand():
    x = np.array([[1.0], [10.0], [100.0]])
    assert family.convolve(x, Convolution(np.array([[[1.0, 2.0, 3.0]]]), np.array([0.5]))) == close(
        [[32.5], [321.5], [210.5]]
    )
    assert family.convolve(x, Convolution(np.array([[[7.0]]]), np.array([0.0]))) == close([[7], [70], [700]])
    wide = Convolution(np.array([[[1.0, 0.0, 0.0, 0.0, 2.0]]]), np.array([0.0]))
    assert family.convolve(x, wide) == close([[200], [0], [1]])


def test_convolve_has_the_output_first():
    W = np.zeros((2, 2, 1))
    W[0, 1, 0] = 5.0
    assert family.convolve(np.array([[1.0, 2.0]]), Convolution(W, np.zeros(2))) == close([[10, 0]])


def test_convolutions_add_the_input_before_the_tanh_and_pad_with_zero_in_each_layer():
    right, left = np.array([[[0.0, 0.0, 1.0]]]), np.array([[[1.0, 0.0, 0.0]]])
    stack = Stack(np.array([[1.0, 0.0]]), [Convolution(right, np.zeros(1))])
    e = np.array([[LN2, -1.0], [LN2, -1.0], [LN3, -1.0]])
    # tanh of ln 2 + ln 2, ln 3 + ln 2 and 0 + ln 3; that of ln a is (a^2 - 1) / (a^2 + 1)
    assert family.convolutions(e, stack) == close([[15 / 17], [35 / 37], [0.8]])
    # 0 and bias ln 3 give 0.8 everywhere; the second layer reads zero, not 0.8, to the left of the sentence
    stack = Stack(np.zeros((1, 2)), [Convolution(right, np.array([LN3])), Convolution(left, np.array([LN2]))])
    inner = math.tanh(0.8 + LN2 + 0.8)
    assert family.convolutions(e, stack) == close([[math.tanh(LN2 + 0.8)], [inner], [inner]])


def test_cnn_encoder_repeats_the_last_position_and_has_two_stacks():
    positions, embedded = np.array([[0.0], [LN2]]), np.array([[0.0], [LN2], [LN3], [0.0]])
    keys = Stack(np.array([[1.0]]), [])
    values = Stack(np.array([[1.0], [2.0]]), [Convolution(np.zeros((2, 2, 3)), np.array([LN2, LN3]))])
    a, c = family.cnn_encoder(embedded, positions, keys, values)
    assert a == close([[0], [math.log(4)], [math.log(6)], [LN2]])
    # tanh of ln 2 + e and of ln 3 + 2 e
    assert c == close([[3 / 5, 4 / 5], [63 / 65, 2303 / 2305], [143 / 145, 11663 / 11665], [15 / 17, 143 / 145]])
    assert family.mean_state(c) == close([c[:, 0].sum() / 4, c[:, 1].sum() / 4])
