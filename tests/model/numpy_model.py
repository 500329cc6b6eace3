"""A torch model read as parameters of the NumPy references: the independent way from token ids to logits.

The references know torch's order of an LSTM's gates (i, f, g, o), the model lays them as i, f, o, g.
"""

from typing import NamedTuple

import numpy as np
from reference import attention, family, objectives, recurrent, wirings
from reference.recurrent import Norm

from nmt.model.attention import (
    AdditiveScore,
    ConcatLinearScore,
    ConstantScore,
    CosineScore,
    Coverage,
    DotScore,
    Entmax15,
    FixedContext,
    GeneralScore,
    GumbelSoftmax,
    HierarchicalAttention,
    LocalMonotonic,
    LocalPredictive,
    LocationScore,
    Monotonic,
    MultiHeadAttention,
    NoAlignment,
    PoolingScore,
    ProjectedAnnotations,
    SampledAlignment,
    SharedAnnotations,
    SingleAttention,
    Softmax,
    Sparsemax,
    SplitAnnotations,
    WeightedMean,
)
from nmt.model.cells import GRUCell, LSTMCell, RNNCell
from nmt.model.decoder import (
    AttendThenUpdate,
    AttentionalReadout,
    BackwardFirstBridge,
    CausalSelfAttention,
    FinalBridge,
    MaxoutReadout,
    UpdateThenAttend,
    ZeroBridge,
)
from nmt.model.encoder import (
    AttendedRecurrentEncoder,
    ConvolutionalEncoder,
    RecurrentEncoder,
    SelfAttentionEncoder,
)


def array(tensor):
    """A tensor's numbers."""
    return tensor.detach().numpy()


def _gates(tensor, order):
    blocks = np.split(array(tensor), len(order))
    return np.concatenate([blocks[index] for index in order])


def _rnn(cell, weight):
    norms = None
    if cell.layer_norm:
        norms = (Norm(array(cell.norm.weight), array(cell.norm.bias)),)
    return "rnn", [0], None, norms


def _gru(cell, weight):
    width, norms = cell.hidden_size, None
    hidden_bias = np.concatenate([np.zeros(2 * width), array(cell.candidate_bias)])
    if cell.layer_norm:
        given, recurring = cell.input_norm, cell.recurrent_norm
        norms = (
            Norm(array(recurring.gates.weight), np.zeros(2 * width)),
            Norm(array(given.gates.weight), array(given.gates.bias)),
            Norm(array(given.candidate.weight), array(given.candidate.bias)),
            Norm(array(recurring.candidate.weight), np.zeros(width)),
        )
    return "gru", [0, 1, 2], hidden_bias, norms


def _lstm(cell, weight):
    order, norms = [0, 1, 3, 2], None
    if cell.layer_norm:
        norms = (
            Norm(_gates(cell.recurrent_norm.weight, order), np.zeros(4 * cell.hidden_size)),
            Norm(_gates(cell.input_norm.weight, order), _gates(cell.input_norm.bias, order)),
            Norm(array(cell.cell_norm.weight), array(cell.cell_norm.bias)),
        )
    return "lstm", order, None, norms


_CELLS = {RNNCell: _rnn, GRUCell: _gru, LSTMCell: _lstm}


def cell(module):
    """A cell whose input is [inputs; feed]."""
    kind, order, hidden_bias, norms = _CELLS[type(module)](module, module.input.weight)
    parts = [module.input] if module.feed is None else [module.input, module.feed]
    inputs = np.concatenate([_gates(part.weight, order) for part in parts], axis=1)
    bias = None if module.input.bias is None else _gates(module.input.bias, order)
    return recurrent.Cell(kind, inputs, _gates(module.recurrent.weight, order), bias, hidden_bias, norms)


class Encoding(NamedTuple):
    """One sentence: keys and values [R, M], and a recurrent encoder's last states as the reference gives them."""

    states: np.ndarray
    values: np.ndarray
    forward_last: list
    backward_first: list


def _recurrent(encoder, embedded):
    forward, *backward = zip(*encoder.layers, strict=True)
    backwards = [cell(module) for module in backward[0]] if backward else None
    forwards = [cell(module) for module in forward]
    states, *last = recurrent.encode(embedded, forwards, backwards, residual=encoder.residual)
    return Encoding(states, states, *last)


def heads(module):
    """Heads and W_o of a module whose W_q, W_k and W_v are one matrix."""
    each = family.heads_of(*np.split(array(module.project.weight), 3), [attention.scaled_dot] * module.heads)
    return each, array(module.output.weight)


def _norm(module):
    return Norm(array(module.weight), array(module.bias))


def _self_attended(encoder, embedded):
    layers = [
        family.EncoderLayer(
            *heads(layer.attention),
            _norm(layer.attention_norm),
            *(array(part) for linear in (layer.inner, layer.outer) for part in (linear.weight, linear.bias)),
            _norm(layer.inner_norm),
        )
        for layer in encoder.layers
    ]
    states = family.self_attention_encoder(embedded, array(encoder.input.weight), layers, _norm(encoder.norm))
    return Encoding(states, states, [(family.mean_state(states),)], [])


def _attended_recurrent(encoder, embedded):
    given = _recurrent(encoder.recurrent, embedded)
    states = family.attended_states(given.states, *heads(encoder.attention))
    return given._replace(states=states, values=states)


def _stack(module):
    """A stack whose layers have [D, k D] matrices: the reference has the offset last."""
    layers = [
        family.Convolution(array(each.weight.unflatten(1, (module.kernel, -1)).transpose(1, 2)), array(each.bias))
        for each in module.convolutions
    ]
    return family.Stack(array(module.input.weight), layers)


def _convolved(encoder, embedded):
    keys, values = family.cnn_encoder(embedded, array(encoder.positions), _stack(encoder.keys), _stack(encoder.values))
    return Encoding(keys, values, [(family.mean_state(values),)], [])


ENCODERS = {
    AttendedRecurrentEncoder: _attended_recurrent,
    ConvolutionalEncoder: _convolved,
    RecurrentEncoder: _recurrent,
    SelfAttentionEncoder: _self_attended,
}


def encode(encoder, embedded):
    """The reference's encoding of one sentence [R, E]."""
    return ENCODERS[type(encoder)](encoder, embedded)


def finals(encoding):
    """Of each encoder layer, the parts of its final state, both directions side by side."""
    if not encoding.backward_first:
        return encoding.forward_last
    both = zip(encoding.forward_last, encoding.backward_first, strict=True)
    return [tuple(np.concatenate(part) for part in zip(*pair, strict=True)) for pair in both]


SCORES = {
    AdditiveScore: lambda m, h, states: attention.additive(
        h, states, array(m.query.weight), array(m.key.weight), array(m.vector)
    ),
    ConcatLinearScore: lambda m, h, states: family.concat_linear(h, states, array(m.vector.weight[0])),
    ConstantScore: lambda m, h, states: np.zeros(len(states)),
    CosineScore: lambda m, h, states: attention.cosine(h, states, _strength(m, h)),
    DotScore: lambda m, h, states: (attention.dot if m.scale == 1 else attention.scaled_dot)(h, states),
    GeneralScore: lambda m, h, states: attention.general(h, states, array(m.projection.weight)),
    LocationScore: lambda m, h, states: attention.location(h, len(states), array(m.rows.weight)),
    PoolingScore: lambda m, h, states: family.pooling(states, array(m.key.weight), array(m.vector)),
}


def _strength(score, h):
    if score.key_strength is None:
        return score.strength
    return attention.key_strength(h, array(score.key_strength.weight[0]), score.key_strength.bias.item())


def _monotonic(alignment, scores):
    """The last row of weights for scores [t + 1, R] of the first steps, without noise."""
    P = family.selection(scores, alignment.offset.item())  # noqa: N806
    return (family.monotonic_expectation if alignment.training else family.monotonic_hard)(P)[-1]


def _likeliest(alignment, scores, h, t):
    """One-hot weights, as of alignments that draw in training and are not in training."""
    assert not alignment.training
    return objectives.one_hot(objectives.argmax(scores), len(scores))


ALIGNMENTS = {
    Entmax15: lambda m, scores, h, t: family.entmax15(scores),
    GumbelSoftmax: _likeliest,
    LocalMonotonic: lambda m, scores, h, t: attention.local_m(scores, t, len(scores) - 1, m.window),
    LocalPredictive: lambda m, scores, h, t: attention.local_p(
        scores, h, array(m.hidden.weight), array(m.vector.weight[0]), len(scores) - 1, m.window
    ),
    Monotonic: lambda m, scores, h, t: _monotonic(m, scores[None]),
    NoAlignment: lambda m, scores, h, t: np.zeros(len(scores)),
    SampledAlignment: _likeliest,
    Softmax: lambda m, scores, h, t: attention.softmax(scores),
    Sparsemax: lambda m, scores, h, t: family.sparsemax(scores),
}
# of alignments that look back: from the scores of all steps so far; above they are at their first step
RECURRENT = {Monotonic: _monotonic}


def _split(annotations, states, values):
    half = states.shape[1] // 2
    return states[:, :half], values[:, half:]


ANNOTATIONS = {
    ProjectedAnnotations: lambda m, states, values: (states @ array(m.key.weight).T, values @ array(m.value.weight).T),
    SharedAnnotations: lambda m, states, values: (states, values),
    SplitAnnotations: _split,
}


def _scores(module, h, keys, coverage):
    """Scores of keys [R, ..] after steps whose weights add up to `coverage` [R]."""
    score = module.score
    if not isinstance(module.coverage, Coverage):
        return SCORES[type(score)](score, h, keys)
    w = array(module.coverage.direction)
    if isinstance(score, AdditiveScore):
        W_a, U_a, v_a = array(score.query.weight), array(score.key.weight), array(score.vector)  # noqa: N806
        return family.additive_coverage(h, keys, coverage, W_a=W_a, U_a=U_a, v_a=v_a, w=w)
    return family.bilinear_coverage(h, SCORES[type(score)](score, h, keys), coverage, w)


def attend(module, states, C, values, source):  # noqa: N803
    """The function (h, t) -> (weights, context) over the states and values [R, M] of one sentence with fixed vector C.

    Its steps must be taken in order. `source`: the sentence's ids.
    """
    return FORMS[type(module)](module, states, C, values, source)


def _single(module, states, C, values, source):  # noqa: N803
    align, context = module.alignment, module.context
    keys, values = ANNOTATIONS[type(module.annotations)](module.annotations, states, values)
    read = {WeightedMean: lambda weights: attention.weighted_mean(weights, values), FixedContext: lambda _: C}
    all_scores, coverage = [], [np.zeros(len(states))]

    def attending(h, t):
        assert t == len(all_scores)
        scores = _scores(module, h, keys, coverage[-1])
        all_scores.append(scores)
        if align.recurrent:
            weights = RECURRENT[type(align)](align, np.array(all_scores))
        else:
            weights = ALIGNMENTS[type(align)](align, scores, h, t)
        coverage.append(coverage[-1] + weights)
        return weights, read[type(context)](weights)

    return attending


def _multi_head(module, states, C, values, source):  # noqa: N803
    keys, values = ANNOTATIONS[type(module.annotations)](module.annotations, states, values)
    given = (array(each.weight) for each in (module.query, module.key, module.value))
    cut = family.heads_of(*given, scores=list(module.heads))
    singles = [_single(head.score, keys @ head.W_k.T, C, values @ head.W_v.T, source) for head in cut]

    def attending(h, t):
        attended = [single(head.W_q @ h, t) for head, single in zip(cut, singles, strict=True)]
        weights, contexts = zip(*attended, strict=True)
        return sum(weights) / len(cut), array(module.output.weight) @ np.concatenate(contexts)

    return attending


def _hierarchical(module, states, C, values, source):  # noqa: N803
    words, gru = module.words, [cell(each) for each in module.encoder.layers[0]]
    keys, values = ANNOTATIONS[type(words.annotations)](words.annotations, states, values)
    numbers = family.sentence_numbers(source, module.separator)
    g = family.sentence_states(states, numbers, *gru)
    coverage = [np.zeros(len(states))]

    def attending(h, t):
        assert t == len(coverage) - 1
        beta = attention.softmax(SCORES[type(module.score)](module.score, h, g))
        scores = _scores(words, h, keys, coverage[-1])
        weights = np.zeros(len(states))
        for s in range(len(beta)):
            weights += beta[s] * attention.softmax_over(scores, [j for j, own in enumerate(numbers) if own == s])
        coverage.append(coverage[-1] + weights)
        return weights, attention.weighted_mean(weights, values)

    return attending


FORMS = {HierarchicalAttention: _hierarchical, MultiHeadAttention: _multi_head, SingleAttention: _single}


def _final_bridge(bridge, encoding, cells):
    given = finals(encoding)
    states = []
    for layer, each in enumerate(cells):
        state = recurrent.zero_state(each)
        unused = max(0, len(given) - len(cells))
        parts = list(given[min(unused + layer, len(given) - 1)][: len(state)])
        if len(bridge.projections):
            linear = [(array(p.weight), array(p.bias)) for p in bridge.projections[layer]]
            parts = [W @ part + b for (W, b), part in zip(linear, parts, strict=True)]  # noqa: N806
            parts[0] = np.tanh(parts[0])
        states.append((*parts, *state[len(parts) :]))
    return states


def _backward_first_bridge(bridge, encoding, cells):
    linear = bridge.projection
    hidden = wirings.backward_first(array(linear.weight), encoding.backward_first[-1][0], array(linear.bias))
    return [(hidden, *recurrent.zero_state(each)[1:]) for each in cells]


BRIDGES = {
    BackwardFirstBridge: _backward_first_bridge,
    FinalBridge: _final_bridge,
    ZeroBridge: lambda bridge, encoding, cells: [recurrent.zero_state(each) for each in cells],
}


def _attentional(module, H, E):  # noqa: N803
    return lambda s, y, c: wirings.attentional_readout(s, y, c, W_c=array(module.combine.weight))


def _maxout(module, H, E):  # noqa: N803
    U_o, V_o, C_o = np.split(array(module.combine.weight), [H, H + E], axis=1)  # noqa: N806
    b = array(module.combine.bias)
    return lambda s, y, c: wirings.maxout_readout(s, y, c, U_o=U_o, V_o=V_o, C_o=C_o, b=b)


READOUTS = {AttentionalReadout: _attentional, MaxoutReadout: _maxout}


def looking_back(module, attending, readout):
    """Both functions, given the bare states of the top layer: what they read has looked back at those that asked."""
    asked = []

    def look_back(s):
        # in Bahdanau's wiring the readout may read a state that has not asked yet
        tops = asked if s is asked[-1] else [*asked, s]
        return family.causal_self_attention(np.array(tops), *heads(module))[-1]

    def attend_looking_back(s, t):
        asked.append(s)
        return attending(look_back(s), t)

    return attend_looking_back, lambda s, y, c: readout(look_back(s), y, c)


def decode(decoder, embedded, encoding, source, W, b):  # noqa: N803
    """The reference's teacher-forced decoding of one sentence, embedded [T, E]; W, b of the output layer.

    Of its source sentence: the encoding, and the ids with EOS.
    """
    cells = [cell(module) for module in decoder.cells]
    initial = BRIDGES[type(decoder.bridge)](decoder.bridge, encoding, cells)
    attending = attend(decoder.attention, encoding.states, finals(encoding)[-1][0], encoding.values, source)
    readout = READOUTS[type(decoder.readout)](decoder.readout, cells[0].W_hh.shape[1], embedded.shape[1])
    if isinstance(decoder.self_attention, CausalSelfAttention):
        attending, readout = looking_back(decoder.self_attention, attending, readout)
    given = (embedded, attending, cells, initial, readout, W, b)
    if isinstance(decoder, AttendThenUpdate):
        state = "previous" if decoder.readout.reads_query else "new"
        return wirings.attend_then_update(*given, readout_state=state, residual=decoder.residual)
    assert isinstance(decoder, UpdateThenAttend)
    feed_size = decoder.readout.size if decoder.input_feeding else 0
    return wirings.update_then_attend(*given, feed_size=feed_size, residual=decoder.residual)


def unroll(model, source, target_in):
    """What the model should do with one sentence's ids, EOS at the end of the source and BOS before the target."""
    encoding = encode(model.encoder, array(model.source_embedding.weight)[source])
    embedded = array(model.target_embedding.weight)[target_in]
    return decode(model.decoder, embedded, encoding, source, array(model.output.weight), array(model.output.bias))
