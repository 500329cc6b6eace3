"""The references themselves: cases worked out by hand, and the parts that torch also has against torch.

tanh(ln 2) = 3/5, tanh(ln 3) = 4/5, tanh(ln 6) = 35/37, sigmoid(ln 2) = 2/3, sigmoid(ln 3) = 3/4 make results rational.
"""

import math

import numpy as np
import pytest
import torch
from reference import attention, links, loss, penalties, recurrent, wirings
from reference.recurrent import Cell, Norm

LN2, LN3 = math.log(2), math.log(3)


def close(expected):
    return pytest.approx(np.array(expected, dtype=float), abs=1e-12)


def column(*numbers):
    return np.array(numbers, dtype=float)[:, None]


def logs(*numbers):
    return np.log(np.array(numbers, dtype=float))


QUERY, STATES = np.array([1.0, 2.0]), np.array([[3.0, -1.0], [0.5, 4.0], [-2.0, 1.0]])


def test_dot():
    assert attention.dot(QUERY, STATES) == close([1, 8.5, 0])


def test_general_puts_the_query_on_the_left():
    assert attention.general(QUERY, STATES, np.array([[1.0, 2.0], [0.0, -1.0]])) == close([3, 0.5, -2])


def test_general_takes_different_sizes():
    assert attention.general(np.array([2.0]), STATES, np.array([[1.0, 10.0]])) == close([-14, 81, 16])


def test_concat_has_the_query_first():
    scores = attention.concat(np.array([LN2]), column(LN3, 0), np.eye(2), np.array([1.0, -2.0]))
    assert scores == close([0.6 - 1.6, 0.6])


def test_additive():
    W_a, U_a, v_a = column(1, -1), np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([10.0, 100.0])  # noqa: N806
    s, states = np.array([LN2]), np.array([[LN2, 5.0], [2 * LN2, 7.0]])
    assert attention.additive(s, states, W_a, U_a, v_a) == close([6, 66])
    assert attention.additive(s, states, W_a, U_a, v_a, np.array([-LN2, 0.0])) == close([0, 60])


def test_scaled_dot_divides_by_the_root_of_the_size():
    states = np.array([[2.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    assert attention.scaled_dot(np.array([1.0, 2.0, 2.0, 4.0]), states) == close([4, 4.5])


def test_key_strength_is_a_softplus():
    assert attention.key_strength(QUERY, np.array([1.0, 1.0]), -3.0) == pytest.approx(LN2, abs=1e-12)
    assert attention.key_strength(QUERY, np.array([1.0, 1.0]), LN3 - 3.0) == pytest.approx(math.log(4), abs=1e-12)
    assert attention.key_strength(QUERY, np.array([0.0, 0.0]), 1000.0) == 1000.0


def test_cosine_has_a_strength_and_no_length():
    states = np.array([[4.0, 3.0], [-3.0, -4.0], [0.0, 2.0], [0.0, 0.0]])
    assert attention.cosine(np.array([3.0, 4.0]), states, 2.5) == close([2.4, -2.5, 2.0, 0])
    assert attention.cosine(np.array([30.0, 40.0]), 7 * states, 1.0) == close([0.96, -1, 0.8, 0])


def test_location_takes_the_top_rows_and_ignores_words_near_the_end():
    h, W_a = logs(2, 3), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # noqa: N806
    assert attention.softmax(attention.location(h, 2, W_a)) == close([2 / 5, 3 / 5])
    assert attention.softmax(attention.location(h, 3, W_a)) == close([2 / 11, 3 / 11, 6 / 11])
    assert attention.softmax(attention.location(h, 5, W_a)) == close([2 / 11, 3 / 11, 6 / 11, 0, 0])


def test_softmax_sees_real_rows_only():
    assert attention.softmax(logs(1, 3, 4)) == close([1 / 8, 3 / 8, 4 / 8])
    assert attention.softmax(logs(1, 3, 4), real=2) == close([1 / 4, 3 / 4, 0])
    assert attention.softmax(np.array([1000.0, 1000.0 + LN3])) == close([1 / 4, 3 / 4])


def test_uniform():
    assert attention.uniform(4) == close([0.25] * 4)
    assert attention.uniform(4, real=3) == close([1 / 3, 1 / 3, 1 / 3, 0])


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (0, [1 / 3, 2 / 3, 0, 0, 0, 0]),
        (1, [1 / 6, 2 / 6, 3 / 6, 0, 0, 0]),
        (4, [0, 0, 0, 4 / 15, 5 / 15, 6 / 15]),
        (9, [0, 0, 0, 4 / 15, 5 / 15, 6 / 15]),
    ],
)
def test_local_m_of_five_tokens_and_eos(t, expected):
    assert attention.local_m(logs(1, 2, 3, 4, 5, 6), t, S=5, D=1) == close(expected)


def local_p(scores, *, sigmoid_of, S, D):  # noqa: N803
    h, W_p, v_p = np.array([LN2, 7.0]), np.array([[1.0, 0.0]]), np.array([sigmoid_of / 0.6])  # noqa: N806
    return attention.local_p(scores, h, W_p, v_p, S, D)


def test_local_p_at_a_whole_position():
    weights = local_p(logs(9, 1, 2, 3, 4), sigmoid_of=LN3, S=4, D=2)
    assert weights == close([0, 0.1 * math.exp(-2), 0.2 * math.exp(-0.5), 0.3, 0.4 * math.exp(-0.5)])


def test_local_p_has_a_whole_centre_and_a_real_mean():
    weights = local_p(logs(5, 1, 1, 2), sigmoid_of=LN3, S=3, D=1)
    assert weights == close([0, math.exp(-3.125) / 4, math.exp(-0.125) / 4, math.exp(-1.125) / 2])


def test_local_p_rounds_the_centre_down():
    weights = local_p(logs(1, 1, 1, 2, 1, 1), sigmoid_of=LN3, S=5, D=1)
    assert weights == close([0, 0, math.exp(-6.125) / 4, math.exp(-1.125) / 2, math.exp(-0.125) / 4, 0])


def test_local_p_at_the_end_is_centred_on_the_last_token():
    weights = local_p(logs(5, 1, 1, 2), sigmoid_of=1000.0, S=3, D=1)
    assert weights == close([0, math.exp(-8) / 4, math.exp(-2) / 4, 1 / 2])


def test_local_alignments_of_an_empty_sentence_attend_to_eos():
    assert attention.local_m(np.zeros(1), 3, S=0, D=1) == close([1])
    assert local_p(np.zeros(1), sigmoid_of=LN3, S=0, D=1) == close([1])


def test_weighted_mean():
    assert attention.weighted_mean(np.array([0.25, 0.75]), np.array([[4.0, 0.0], [0.0, 8.0]])) == close([1, 6])


def test_fixed_context_takes_what_each_direction_knows_at_its_end():
    states = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert attention.fixed_context(states, 2) == close([4, 5, 3])
    assert attention.fixed_context(states, 3) == close([4, 5, 6])


def test_rnn_step():
    cell = Cell("rnn", column(1, 0), np.array([[0.0, 0.0], [1.0, 0.0]]))
    assert recurrent.rnn_step(cell, np.array([LN2]), np.array([LN3, 9.0])) == close([0.6, 0.8])
    cell = cell._replace(b_ih=np.array([-LN2, 0.0]), b_hh=np.array([0.0, LN3]))
    assert recurrent.rnn_step(cell, np.array([LN2]), np.array([LN3, 9.0])) == close([0, 40 / 41])


def test_gru_step_resets_the_hidden_bias_too():
    cell = Cell("gru", column(LN3, LN2, LN3), column(0, 0, LN2 / 15), b_hh=np.array([0.0, 0.0, LN2]))
    assert recurrent.gru_step(cell, np.array([1.0]), np.array([5.0])) == close([35 / 37 / 3 + 10 / 3])


def test_lstm_step():
    cell = Cell("lstm", column(LN3, LN2, LN2, 0), column(0, 0, 0, 0))
    h, c = recurrent.lstm_step(cell, np.array([1.0]), np.array([9.0]), np.array([1.5 * (LN2 - 0.45)]))
    assert h == close([0.5 * 0.6])
    assert c == close([LN2])


def test_layer_norm():
    norm = Norm(np.array([2.0, 3.0]), np.array([10.0, 20.0]))
    assert recurrent.layer_norm(np.array([1.0, 3.0]), norm, 0.0) == close([8, 23])
    assert recurrent.layer_norm(np.array([1.0, 3.0]), norm, 3.0) == close([9, 21.5])


def norm_of(*gain):
    return Norm(np.array(gain), np.zeros(len(gain)))


def test_normalised_lstm_step_keeps_the_bare_cell():
    hidden = norm_of(1.0, 1.0, LN2 + 1, LN2 + 1, 1.0, 1.0, 2.0, 2.0)
    inputs = norm_of(LN3 - 1, LN3 - 1, 1.0, 1.0, LN2 + 1, LN2 + 1, 1.0, 1.0)
    W_hh = np.hstack([column(1, 1, 1, 1, -1, -1, -1, -1), np.ones((8, 1))])  # noqa: N806
    norms = (hidden, inputs, norm_of(LN2, LN3))
    bias = np.array([0.0, 0, 0, 0, 0, 0, 3, 3])
    cell = Cell("lstm", column(1, 1, -1, -1, 1, 1, -1, -1), W_hh, b_ih=bias, norms=norms, epsilon=0.0)
    h, c = recurrent.lstm_step(cell, np.array([1.0]), np.array([2.0, 0.0]), np.array([3.0, 0.0]))
    assert h == close([0.3, -0.4])
    assert c == close([2.45, 0.45])


def test_normalised_gru_step():
    norms = (
        norm_of(1.0, 1.0, 1 + LN2, -1 - LN2),
        norm_of(LN3 - 1, LN3 + 1, 1.0, 1.0),
        norm_of(LN3, LN3),
        norm_of(4 * LN2 / 3, 4 * LN2 / 3),
    )
    W_hh = np.hstack([column(1, -1, 1, -1, 1.5, -1.5), np.ones((6, 1))])  # noqa: N806
    cell = Cell("gru", column(1, 1, -1, -1, 1, -1), W_hh, norms=norms, epsilon=0.0)
    h = recurrent.gru_step(cell, np.array([1.0]), np.array([2.0, 0.0]))
    assert h == close([35 / 111 + 4 / 3, -35 / 111])


def test_normalised_rnn_step_normalises_the_sum():
    cell = Cell("rnn", column(1, 1), np.array([[0.0, 0.0], [0.0, 2.0]]), norms=(norm_of(LN2, LN3),), epsilon=0.0)
    assert recurrent.rnn_step(cell, np.array([1.0]), np.array([5.0, 1.0])) == close([-0.6, 0.8])


def one_word_cells():
    """Cells of size 1 that read the words [ln 2], [0] to 3/5, 4/5 forwards and, from the end, to 4/5, -3/5."""
    forward = Cell("rnn", column(1), column(LN3 / 0.6))
    backward = Cell("rnn", column(-1), column(-LN3 / 0.8), b_ih=np.array([LN3]))
    return forward, backward


def test_encoder_reads_both_ways():
    forward, backward = one_word_cells()
    encoding = recurrent.encode(column(LN2, 0), [forward], [backward])
    assert encoding.states == close([[0.6, -0.6], [0.8, 0.8]])
    assert encoding.forward_last[0][0] == close([0.8])
    assert encoding.backward_first[0][0] == close([-0.6])
    assert attention.fixed_context(encoding.states, 1) == close([0.8, -0.6])


def test_encoder_adds_its_input_from_the_second_layer_on():
    forward, backward = one_word_cells()
    above = [Cell("rnn", np.zeros((1, 2)), column(0), b_ih=np.array([bias])) for bias in (LN2, LN3)]
    plain = recurrent.encode(column(LN2, 0), [forward, above[0]], [backward, above[1]])
    residual = recurrent.encode(column(LN2, 0), [forward, above[0]], [backward, above[1]], residual=True)
    assert plain.states == close([[0.6, 0.8], [0.6, 0.8]])
    assert residual.states == close([[1.2, 0.2], [1.4, 1.6]])
    assert residual.forward_last[1][0] == close([0.6])


def cell_of(layer, kind, suffix=""):
    """The parameters of a torch cell, or of one direction of a torch RNN, as a `Cell`."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return Cell(kind, *(getattr(layer, name + suffix).detach().numpy() for name in names))


@pytest.mark.parametrize(("kind", "torch_class"), [("rnn", "RNN"), ("gru", "GRU"), ("lstm", "LSTM")])
def test_encoder_equals_torch(kind, torch_class):
    torch.manual_seed(3)
    network = getattr(torch.nn, torch_class)(5, 3, num_layers=2, bidirectional=True, dtype=torch.float64)
    inputs = torch.randn(7, 5, dtype=torch.float64)
    forward = [cell_of(network, kind, f"_l{layer}") for layer in range(2)]
    backward = [cell_of(network, kind, f"_l{layer}_reverse") for layer in range(2)]
    expected, final = network(inputs)
    final = final[0] if kind == "lstm" else final
    encoding = recurrent.encode(inputs.numpy(), forward, backward)
    assert encoding.states == close(expected.detach().numpy())
    assert encoding.forward_last[1][0] == close(final[2].detach().numpy())
    assert encoding.backward_first[1][0] == close(final[3].detach().numpy())


def test_layer_norm_equals_torch():
    torch.manual_seed(3)
    z, gain, bias = torch.randn(3, 11, dtype=torch.float64)
    expected = torch.nn.functional.layer_norm(z, (11,), gain, bias, eps=1e-5)
    assert recurrent.layer_norm(z.numpy(), Norm(gain.numpy(), bias.numpy()), 1e-5) == close(expected.numpy())


ROWS = column(1, 3)


def attend_by_general(t_seen=None):
    """A query of 3/5 weighs the states [1], [3] with 1/4, 3/4, a query of -3/5 the other way round."""
    W_a = column(LN3 / 1.2)  # noqa: N806

    def align(scores, h, t):
        if t_seen is not None:
            t_seen.append(t)
        return attention.softmax(scores)

    return attention.attention(lambda h: attention.general(h, ROWS, W_a), align, ROWS)


READOUT = {"W_c": np.array([[0.2, (LN3 - 0.5) / 0.6]]), "W_s": column(1, -2), "b_s": np.array([0.0, 1.0])}


def check_luong(out, steps):
    second = math.tanh(0.8 - LN3)
    assert out.states == close([[0.6], [-0.6]])
    assert out.weights == close([[1 / 4, 3 / 4], [3 / 4, 1 / 4]])
    assert out.contexts == close([[2.5], [1.5]])
    assert out.readouts == close([[0.8], [second]])
    assert out.logits == close([[0.8, -0.6], [second, 1 - 2 * second]])
    assert steps == [0, 1]


def test_luong_with_input_feeding():
    cell, steps = Cell("rnn", np.array([[1.0, 2.0]]), column(1)), []
    words = column(LN2 - 0.5, -LN2 - 0.6 - 1.6)
    check_luong(wirings.luong(words, attend_by_general(steps), [cell], [(np.array([0.5]),)], **READOUT), steps)


def test_luong_without_input_feeding():
    cell, steps = Cell("rnn", column(1), column(1)), []
    words, initial = column(LN2 - 0.5, -LN2 - 0.6), [(np.array([0.5]),)]
    check_luong(wirings.luong(words, attend_by_general(steps), [cell], initial, input_feeding=False, **READOUT), steps)


@pytest.mark.parametrize(("residual", "query"), [(False, 0.8), (True, 1.4)])
def test_luong_queries_with_the_top_layer(residual, query):
    cells = [Cell("rnn", column(1), column(0)), Cell("rnn", column(LN3 / 0.6), column(0))]
    out = wirings.luong(
        column(LN2),
        attend_by_general(),
        cells,
        [(np.zeros(1),), (np.zeros(1),)],
        input_feeding=False,
        residual=residual,
        **READOUT,
    )
    odds = 3 ** (query / 0.6)
    assert out.states == close([[query]])
    assert out.weights == close([[1 / (1 + odds), odds / (1 + odds)]])


MAXOUT = {
    "U_o": column(1, 0, 0, 2),
    "V_o": column(0, 1, 0, 0),
    "C_o": column(0, 2, 1, 0),
    "W_o": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
    "b_o": np.array([0.0, 0.0, 1.0]),
}


@pytest.mark.parametrize(
    ("readout_state", "readouts"),
    [("previous", [[0.6, 2.5], [LN3 + 0.6, 1.5]]), ("new", [[-0.6, 2.5], [LN3 + 0.6, 1.6]])],
)
def test_bahdanau(readout_state, readouts):
    cell, steps = Cell("rnn", np.array([[1.0, 2.0]]), column(1)), []
    words, initial = column(-LN2 - 5.6, LN3 - 2.4), [(np.array([0.6]),)]
    out = wirings.bahdanau(words, attend_by_general(steps), [cell], initial, readout_state=readout_state, **MAXOUT)
    assert out.weights == close([[1 / 4, 3 / 4], [3 / 4, 1 / 4]])
    assert out.contexts == close([[2.5], [1.5]])
    assert out.states == close([[-0.6], [0.8]])
    assert out.readouts == close(readouts)
    assert out.logits == close([[a, b, a + b + 1] for a, b in readouts])
    assert steps == [0, 1]


def test_bahdanau_queries_with_the_top_layer_and_feeds_the_first():
    cells = [Cell("rnn", np.array([[1.0, 2.0]]), column(0)), Cell("rnn", column(LN3 / 0.6), column(0))]
    initial = [(np.array([9.0]),), (np.array([0.6]),)]
    out = wirings.bahdanau(column(LN2 - 5), attend_by_general(), cells, initial, **MAXOUT)
    assert out.weights == close([[1 / 4, 3 / 4]])
    assert out.states == close([[0.8]])
    assert out.readouts == close([[LN2, 2.5]])


def test_maxout_takes_neighbours_and_adds_its_bias_before():
    zero = np.zeros((4, 1))
    bias = np.array([1.0, 5.0, 3.0, 2.0])
    got = wirings.maxout_readout(np.ones(1), np.ones(1), np.ones(1), U_o=zero, V_o=zero, C_o=zero, b=bias)
    assert got == close([5, 3])


def test_first_state_comes_from_the_backward_state():
    assert wirings.backward_first(column(1, 2), np.array([LN2])) == close([0.6, 15 / 17])
    assert wirings.backward_first(column(1, 0), np.array([LN2]), np.array([0.0, LN3])) == close([0.6, 0.8])


def test_smoothed_loss_of_one_token():
    got = loss.sentence_loss(np.array([[0.0, LN3]]), [1], epsilon=0.1)
    nll = math.log(4 / 3)
    assert got.nll == pytest.approx(nll, abs=1e-12)
    assert got.loss == pytest.approx(0.9 * nll + 0.05 * (math.log(4) + nll), abs=1e-12)
    assert got.tokens == 1


def test_batch_loss_is_a_sum_and_equals_torch():
    generator = np.random.default_rng(5)
    sentences = [(generator.normal(size=(3, 7)), [1, 6, 3]), (generator.normal(size=(2, 7)), [0, 3])]
    got = loss.batch_loss(sentences, epsilon=0.2)
    logits, targets = np.vstack([sentences[0][0], sentences[1][0]]), torch.tensor([1, 6, 3, 0, 3])
    for value, smoothing in ((got.loss, 0.2), (got.nll, 0.0)):
        expected = torch.nn.functional.cross_entropy(
            torch.from_numpy(logits), targets, reduction="sum", label_smoothing=smoothing
        )
        assert value == pytest.approx(expected.item(), abs=1e-12)
    assert got.tokens == 5


def test_length_penalty():
    assert penalties.length_penalty(7, 1.0) == pytest.approx(2)
    assert penalties.length_penalty(19, 0.5) == pytest.approx(2)
    assert penalties.length_penalty(19, 0.0) == 1
    assert penalties.length_penalty(1, 0.7) == 1


def test_coverage_penalty_is_capped_at_one_and_counts_real_positions():
    weights = np.array([[0.5, 0.25, 0.25], [0.8, 0.2, 0.0]])
    assert penalties.coverage_penalty(weights, 2.0, 2) == pytest.approx(2 * math.log(0.45))
    assert penalties.coverage_penalty(weights, 2.0, 3) == pytest.approx(2 * math.log(0.45 * 0.25))
    assert penalties.coverage_penalty(weights[1:], 2.0, 3) == -math.inf
    assert penalties.coverage_penalty(weights[1:], 0.0, 3) == 0


def test_ranking_score_divides_only_the_log_probability():
    assert penalties.ranking_score(-6.0, 7, 1.0, coverage=-1.0) == pytest.approx(-4)


def test_alignment_error_rate_sums_over_the_corpus():
    found = [{(0, 0), (1, 1), (2, 0)}, {(0, 1)}]
    sure, possible = [{(0, 0)}, {(0, 0), (1, 1)}], [{(1, 1)}, set()]
    assert links.alignment_error_rate(found[:1], sure[:1], possible[:1]) == pytest.approx(1 / 4)
    assert links.alignment_error_rate(found, sure, possible) == pytest.approx(4 / 7)
    assert links.alignment_error_rate(sure, sure, possible) == 0
