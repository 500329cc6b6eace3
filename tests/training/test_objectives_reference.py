"""The references of the objectives: hand numbers, brute force over all choices, finite differences, limits."""

import itertools
import math

import numpy as np
import pytest
from reference import objectives
from reference.attention import softmax
from reference.loss import log_softmax, sentence_loss

LN2, LN3 = math.log(2), math.log(3)
T, R, V = 3, 4, 5


def close(expected, tolerance=1e-12):
    return pytest.approx(np.array(expected, dtype=float), abs=tolerance)


def logs(*rows):
    return np.log(np.array(rows, dtype=float))


def random_case(seed=3):
    """Weights [T, R], logits [T, R, V], targets [T]."""
    generator = np.random.default_rng(seed)
    weights = np.array([softmax(row) for row in generator.normal(size=(T, R))])
    return weights, 2 * generator.normal(size=(T, R, V)), generator.integers(V, size=T).tolist()


def slope(function, x, size=1e-5):
    """Central differences of function(x) in every entry of x."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += size
        down[index] -= size
        gradient[index] = (function(up) - function(down)) / (2 * size)
    return gradient


# marginal

ALPHA, CHOICES = np.array([3 / 4, 1 / 4]), logs([1 / 2, 1 / 2], [1 / 4, 3 / 4])


def test_marginal_by_hand():
    assert objectives.marginal_probability(ALPHA, CHOICES, 1) == close(9 / 16)
    assert objectives.marginal_probability(ALPHA, CHOICES, 0) == close(7 / 16)
    loss, nll, tokens = objectives.marginal_loss(ALPHA[None], CHOICES[None], [1], 0.2)
    spread = 3 / 4 * LN2 + 1 / 4 * (2 * LN2 + 2 * LN2 - LN3) / 2
    assert (loss, nll) == close((0.8 * math.log(16 / 9) + 0.2 * spread, math.log(16 / 9)))
    assert tokens == 1


def test_marginal_of_the_largest_is_not_renormalised():
    assert objectives.marginal_probability(ALPHA, CHOICES, 1, k=1) == close(3 / 8)
    loss, nll, _ = objectives.marginal_loss(ALPHA[None], CHOICES[None], [1], 0.2, k=1)
    assert (loss, nll) == close((0.8 * math.log(8 / 3) + 0.2 * 3 / 4 * LN2, math.log(8 / 3)))


def test_largest_is_a_set_of_positions_and_prefers_the_first_of_equal_ones():
    weights = np.array([0.1, 0.3, 0.1, 0.4, 0.1])
    assert objectives.largest(weights, 2) == [1, 3]
    assert objectives.largest(weights, 3) == [0, 1, 3]
    assert objectives.largest(weights, 9) == objectives.largest(weights) == [0, 1, 2, 3, 4]


def test_marginal_equals_the_sum_over_all_sequences_of_choices():
    weights, logits, targets = random_case()
    total = 0.0
    for choice in itertools.product(range(R), repeat=T):
        joint = 1.0
        for t, z in enumerate(choice):
            joint *= weights[t, z] * math.exp(log_softmax(logits[t, z])[targets[t]])
        total += joint
    assert objectives.marginal_loss(weights, logits, targets).nll == close(-math.log(total))


def test_more_positions_give_a_closer_lower_bound():
    weights, logits, targets = random_case()
    nlls = [objectives.marginal_loss(weights, logits, targets, k=k).nll for k in range(1, R + 1)]
    assert nlls == sorted(nlls, reverse=True) and len(set(nlls)) == R
    assert nlls[-1] == objectives.marginal_loss(weights, logits, targets).nll


def test_marginal_sums_to_one_over_the_vocabulary():
    weights, logits, _ = random_case()
    assert sum(objectives.marginal_probability(weights[0], logits[0], v) for v in range(V)) == close(1)


def test_marginal_with_certain_choices_or_equal_readouts_is_the_plain_loss():
    weights, logits, targets = random_case()
    certain, chosen = np.zeros((T, R)), [2, 0, 3]
    for t, z in enumerate(chosen):
        certain[t, z] = 1.0
    plain = sentence_loss(np.array([logits[t, z] for t, z in enumerate(chosen)]), targets, 0.3)
    assert objectives.marginal_loss(certain, logits, targets, 0.3) == close(plain)
    same = np.repeat(logits[:, :1], R, axis=1)
    assert objectives.marginal_loss(weights, same, targets, 0.3) == close(sentence_loss(same[:, 0], targets, 0.3))


def test_marginal_with_no_weight_at_all_is_impossible():
    assert objectives.marginal_loss(np.zeros((1, 2)), CHOICES[None], [0]).nll == math.inf


def test_marginal_test_reads_the_best_position_alone():
    log_p, reported = objectives.marginal_test(np.array([0.3, 0.35, 0.35]), logs([1, 1], [1, 3], [3, 1]))
    assert np.exp(log_p) == close([1 / 4, 3 / 4])
    assert reported.tolist() == [0, 1, 0]


# reinforce

STEPS = {"gamma": 0.5, "lambda_r": 2.0, "lambda_e": 0.1}


def test_returns_by_hand():
    assert objectives.returns([-1, -2, -4], 0.5) == close([-3, -4, -4])
    assert objectives.returns([-1, -2, -4], 1.0) == close([-7, -6, -4])
    assert objectives.returns([-1, -2, -4], 0.0) == close([-1, -2, -4])
    assert objectives.returns([-1, -2, -4], 0.5, [True, True, False])[:2] == close([-2, -2])


def test_reinforce_by_hand():
    weights = np.array([[1 / 2, 1 / 2, 0], [1 / 4, 1 / 4, 1 / 2]])
    parts = objectives.reinforce(weights, [1, 0], [-1, -2], [1, -3], **STEPS)
    # R = (-2, -2), R - b = (-3, 1), log alpha(z) = (-ln 2, -2 ln 2), H = (ln 2, 3/2 ln 2)
    assert parts == close([-2 * (-3 * -LN2 + 1 * -2 * LN2), -0.1 * 2.5 * LN2, (9 + 1) / 2])
    assert parts.loss == close(-2 * LN2 - 0.25 * LN2 + 5)


def test_reinforce_leaves_out_what_is_not_real():
    weights, _, _ = random_case()
    whole = {"mask": [True, True, False], **STEPS}
    short = objectives.reinforce(weights[:2], [1, 0], [-1, -2], [0.5, -3], **STEPS)
    assert objectives.reinforce(weights, [1, 0, 3], [-1, -2, -9], [0.5, -3, 7], **whole) == close(short)
    gradient = objectives.reinforce_gradient(weights, [1, 0, 3], [-1, -2, -9], [0.5, -3, 7], **whole)
    assert gradient[2].tolist() == [0] * R
    assert gradient[:2] == close(objectives.reinforce_gradient(weights[:2], [1, 0], [-1, -2], [0.5, -3], **STEPS))


def test_policy_and_entropy_gradients_by_hand():
    alpha = np.array([1 / 2, 1 / 4, 1 / 4, 0])
    assert objectives.log_policy_gradient(alpha, 1) == close([-1 / 2, 3 / 4, -1 / 4, 0])
    assert objectives.entropy(alpha) == close(1.5 * LN2)
    assert objectives.entropy_gradient(alpha) == close([-LN2 / 4, LN2 / 8, LN2 / 8, 0])


@pytest.mark.parametrize("lambda_r, lambda_e", [(1.0, 0.0), (0.0, 1.0), (0.7, 0.3)])
def test_reinforce_gradient_equals_finite_differences_in_the_scores(lambda_r, lambda_e):
    scores = np.random.default_rng(5).normal(size=(T, R))
    chances = {"gamma": 0.9, "lambda_r": lambda_r, "lambda_e": lambda_e}
    sampled = [2, 0, 2], [-1.5, -0.2, -3], [-2.0, 0.4, 0.0]

    def loss(e):
        return objectives.reinforce(np.array([softmax(row) for row in e]), *sampled, **chances).loss

    by_hand = objectives.reinforce_gradient(np.array([softmax(row) for row in scores]), *sampled, **chances)
    assert by_hand == close(slope(loss, scores), 1e-9)
    assert by_hand.sum(axis=1) == close([0] * T) and abs(by_hand).max() > 0.1


def test_reinforce_gradient_is_zero_at_masked_source_positions():
    scores = np.random.default_rng(5).normal(size=R)
    alpha = softmax(scores, 3)
    gradient = objectives.reinforce_gradient(alpha[None], [1], [-2], [0], **STEPS)[0]
    short = objectives.reinforce_gradient(alpha[None, :3], [1], [-2], [0], **STEPS)[0]
    assert gradient.tolist() == [*short, 0]


def test_baseline_gradient_equals_finite_differences_in_its_own_parameters():
    generator = np.random.default_rng(7)
    queries, u_and_b, log_p = generator.normal(size=(T, 2)), generator.normal(size=3), [-1.0, -2.0, -0.5]

    def baselines(parameters):
        return [objectives.baseline(q, parameters[:2], parameters[2]) for q in queries]

    def loss(parameters):
        return objectives.reinforce(np.full((T, R), 1 / R), [0] * T, log_p, baselines(parameters), **STEPS).baseline

    in_u, in_b_0 = objectives.baseline_gradient(log_p, queries, baselines(u_and_b), STEPS["gamma"])
    assert [*in_u, in_b_0] == close(slope(loss, u_and_b), 1e-9)


class Game:
    """Three steps of three choices; policy, tokens and baseline all depend on the choices made before."""

    def __init__(self, gamma):
        generator = np.random.default_rng(12)
        self.gamma = gamma
        self.ends = list(itertools.product(range(3), repeat=3))
        self.prefixes = sorted({end[:t] for end in self.ends for t in range(3)})
        self.scores = {p: generator.normal(size=3) for p in self.prefixes}
        self.baseline = {p: float(generator.normal()) for p in self.prefixes}
        paths = sorted({end[: t + 1] for end in self.ends for t in range(3)})
        self.log_p = {p: -float(generator.exponential(3)) for p in paths}

    def reward(self, scores):
        """Expected sum of log p(y_t | z_0..z_t) over all choices."""
        total = 0.0
        for end in self.ends:
            chance = math.prod(softmax(scores[end[:t]])[z] for t, z in enumerate(end))
            total += chance * sum(self.log_p[end[: t + 1]] for t in range(3))
        return total

    def mean_gradient(self):
        """The surrogate's gradient in every score, averaged over all choices."""
        mean = {p: np.zeros(3) for p in self.prefixes}
        for end in self.ends:
            seen = [end[:t] for t in range(3)]
            weights = np.array([softmax(self.scores[p]) for p in seen])
            log_p, baselines = [self.log_p[end[: t + 1]] for t in range(3)], [self.baseline[p] for p in seen]
            gradient = objectives.reinforce_gradient(
                weights, end, log_p, baselines, gamma=self.gamma, lambda_r=1.0, lambda_e=0.0
            )
            for t, prefix in enumerate(seen):
                mean[prefix] += math.prod(weights[k][z] for k, z in enumerate(end)) * gradient[t]
        return mean

    def true_gradient(self, prefix):
        return slope(lambda e: self.reward({**self.scores, prefix: e}), self.scores[prefix])


def test_mean_of_the_gradient_over_all_choices_is_that_of_the_expected_reward():
    game = Game(gamma=1.0)
    mean = game.mean_gradient()
    for prefix in game.prefixes:
        assert -mean[prefix] == close(game.true_gradient(prefix), 1e-8), prefix
    assert abs(mean[()]).max() > 0.01


def test_a_discount_biases_the_gradient():
    game = Game(gamma=0.5)
    assert -game.mean_gradient()[()] != close(game.true_gradient(()), 1e-3)


def test_the_mean_gradient_of_the_log_policy_is_zero():
    alpha = random_case()[0][0]
    assert sum(alpha[z] * objectives.log_policy_gradient(alpha, z) for z in range(R)) == close([0] * R)


# gumbel

NOISE = np.array([0.3, -0.2, 1.1, 0.4])


def test_gumbel_softmax_by_hand():
    # (log alpha + g) = logs of (1/2, 3/4): squared for tau = 1/2
    y = objectives.gumbel_softmax(np.array([1 / 2, 1 / 4, 0, 1 / 4]), np.array([0, LN3, 50, -50]), 0.5)
    assert y == close([4 / 13, 9 / 13, 0, 0])
    assert objectives.straight_through(y).tolist() == [0, 1, 0, 0]


def test_gumbel_softmax_limits():
    alpha = random_case()[0][0]
    assert objectives.gumbel_softmax(alpha, np.zeros(R), 1.0) == close(alpha)
    perturbed = np.log(alpha) + NOISE
    cold = objectives.gumbel_softmax(alpha, NOISE, 1e-3)
    assert cold == close(np.eye(R)[np.argmax(perturbed)])
    assert cold == close(objectives.straight_through(objectives.gumbel_softmax(alpha, NOISE, 5.0)))
    assert objectives.gumbel_softmax(alpha, NOISE, 1e6) == close([1 / R] * R, 1e-5)


def test_straight_through_draws_from_the_weights():
    alpha, generator, draws = np.array([0.5, 0.2, 0.0, 0.3]), np.random.default_rng(0), 4000
    counts = sum(
        objectives.straight_through(objectives.gumbel_softmax(alpha, generator.gumbel(size=R), 0.7))
        for _ in range(draws)
    )
    assert counts / draws == close(alpha, 0.03)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_gumbel_softmax_gradient_equals_finite_differences(tau):
    generator = np.random.default_rng(9)
    scores, upstream = generator.normal(size=R), generator.normal(size=R)

    def in_scores(e):
        return upstream @ objectives.gumbel_softmax(softmax(e), NOISE, tau)

    def in_logs(log_alpha):
        return upstream @ objectives.gumbel_softmax(np.exp(log_alpha), NOISE, tau)

    alpha = softmax(scores)
    by_hand = objectives.gumbel_softmax_gradient(objectives.gumbel_softmax(alpha, NOISE, tau), upstream, tau)
    assert by_hand == close(slope(in_scores, scores), 1e-8)
    assert by_hand == close(slope(in_logs, np.log(alpha)), 1e-8)


def test_temperature_falls_to_its_minimum():
    assert objectives.temperature(0, 2.0, 0.1, 0.5) == 2
    assert objectives.temperature(10, 2.0, LN2 / 10, 0.5) == close(1)
    assert objectives.temperature(20, 2.0, LN2 / 10, 0.5) == close(0.5)
    assert objectives.temperature(30, 2.0, LN2 / 10, 0.5) == 0.5
    assert objectives.temperature(10**6, 2.0, 0.0, 0.5) == 2


# copying

VOCABULARY = {"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3, "▁the": 4, "s": 5}


def test_copy_ids():
    pieces = ["▁Zo", "s", "▁the", "▁Zo", "▁qu", "s"]
    assert objectives.copy_ids(pieces, VOCABULARY, 6, 3) == [6, 5, 4, 6, 10, 5, 3]
    assert objectives.copy_ids([], VOCABULARY, 6, 3) == [3]


def test_generation_gate():
    parameters = {"w_c": np.array([1.0, 2.0]), "w_s": np.array([-1.0]), "w_x": np.array([4.0]), "b": LN2 - 5}
    gate = objectives.generation_gate(np.array([1.0, 3.0]), np.array([10.0]), np.array([2.0]), **parameters)
    assert gate == close(2 / 3)  # 7 - 10 + 8 - 5 + ln 2


POINTER = np.array([1 / 2, 1 / 8, 1 / 8, 1 / 4])
COPIES, WORDS = [2, 3, 2, 1], logs([1 / 4, 1 / 2, 1 / 4])


def test_pointer_adds_up_repeated_pieces():
    assert objectives.pointer(POINTER, COPIES, 3) == close([0, 1 / 4, 5 / 8, 1 / 8, 0, 0, 0])


def test_pointer_generator_by_hand():
    P = objectives.pointer_generator(WORDS[0], 1 / 5, POINTER, COPIES)  # noqa: N806
    assert P == close([1 / 20, 1 / 10 + 1 / 5, 1 / 20 + 1 / 2, 1 / 10, 0, 0, 0])


def test_pointer_generator_equals_the_sum_over_all_ways_to_write_a_word():
    weights, logits, _ = random_case()
    copies = [1, V, V, 4]
    expected = np.zeros(V + R)
    for way, j, word in itertools.product(("write", "copy"), range(R), range(V)):
        written = math.exp(log_softmax(logits[0, 0])[word])
        joint = {"write": 0.3, "copy": 0.7}[way] * weights[0, j] * written
        expected[word if way == "write" else copies[j]] += joint
    assert objectives.pointer_generator(logits[0, 0], 0.3, weights[0], copies) == close(expected)
    assert sum(expected) == close(1)


def test_pointer_generator_limits():
    weights, logits, targets = random_case()
    copies, logits = [0, 1, 2, 3], logits[:, 0]
    only_write = objectives.pointer_generator_loss(logits, [1.0] * T, weights, copies, targets, 0.3)
    assert only_write == close(sentence_loss(logits, targets, 0.3))
    targets = [0, 3, 1]
    only_copy = objectives.pointer_generator_loss(logits, [0.0] * T, weights, copies, targets)
    assert only_copy == close(objectives.pointer_loss(weights, copies, targets, V))
    nll = -sum(math.log(weights[t, y]) for t, y in enumerate(targets))
    assert only_copy == close([nll, nll, T])


def test_pointer_generator_loss_by_hand():
    logits, weights = np.repeat(WORDS, 2, axis=0), np.array([POINTER, POINTER])
    loss, nll, tokens = objectives.pointer_generator_loss(logits, [1 / 5] * 2, weights, COPIES, [1, 3], 0.1)
    plain = -math.log(3 / 10) - math.log(1 / 10)
    assert (loss, nll, tokens) == close((0.9 * plain + 0.1 * 2 * 5 * LN2 / 3, plain, 2))


def test_pointer_loss_is_infinite_where_nothing_copies_the_target():
    assert objectives.pointer_loss(POINTER[None], COPIES, [0], 3).loss == math.inf
    assert objectives.pointer_loss(POINTER[None], COPIES, [2], 3) == close([math.log(8 / 5)] * 2 + [1])


# coverage

WEIGHTS = np.array([[3 / 4, 1 / 4, 0], [1 / 2, 1 / 4, 1 / 4], [0, 1 / 2, 1 / 2]])


def test_coverage_by_hand():
    assert objectives.coverage(WEIGHTS) == close([[0, 0, 0], [3 / 4, 1 / 4, 0], [5 / 4, 1 / 2, 1 / 4]])
    # min: 0; 1/2 + 1/4; 1/2 + 1/4
    assert objectives.coverage_loss(WEIGHTS, 2.0) == close(3)


def test_coverage_loss_limits():
    assert objectives.coverage_loss(np.eye(4), 1.0) == 0
    assert objectives.coverage_loss(np.tile(np.eye(4)[1], (5, 1)), 1.0) == close(4)
    assert objectives.coverage_loss(WEIGHTS[:1], 1.0) == 0


# guided alignment


def test_piece_links_are_all_pairs_of_pieces():
    # source: a | b b | c, target: x x | y
    links = objectives.piece_links([(1, 0), (2, 1), (2, 0)], [0, 1, 1, 2], [0, 0, 1])
    assert links == {(1, 0), (2, 0), (1, 1), (2, 1), (3, 2), (3, 0), (3, 1)}
    assert objectives.piece_links([(1, 0)], [0, 1], [1]) == set()


def test_guided_alignment_by_hand():
    links = [(0, 0), (1, 1), (2, 1), (1, 1)]
    assert objectives.guided_alignment_loss(WEIGHTS, links, 3.0) == close(3 * (math.log(4 / 3) + 2 * LN2))
    assert objectives.guided_alignment_loss(WEIGHTS, [], 3.0) == 0
    assert objectives.guided_alignment_loss(WEIGHTS, [(2, 0)], 3.0) == math.inf


def test_guided_alignment_is_least_where_the_weights_are_the_links():
    scores, links = np.random.default_rng(1).normal(size=(1, R)), [(1, 0), (3, 0)]
    best = objectives.guided_alignment_loss(np.array([[0, 0.5, 0, 0.5]]), links, 1.0)
    assert best == close(LN2)

    def loss(e):
        return objectives.guided_alignment_loss(softmax(e[0])[None], links, 1.0)

    assert loss(scores) > best
    assert slope(loss, scores)[0] == close(softmax(scores[0]) - [0, 0.5, 0, 0.5], 1e-9)
