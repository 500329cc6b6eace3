"""A torch model read as parameters of the NumPy references: the independent way from token ids to logits.

The references know torch's order of an LSTM's gates (i, f, g, o), the model lays them as i, f, o, g.
"""

import numpy as np
from reference import attention, recurrent, wirings
from reference.recurrent import Norm

from nmt.model.attention import (
    AdditiveScore,
    ConstantScore,
    CosineScore,
    DotScore,
    FixedContext,
    GeneralScore,
    LocalMonotonic,
    LocalPredictive,
    LocationScore,
    NoAlignment,
    Softmax,
    WeightedMean,
)
from nmt.model.cells import GRUCell, LSTMCell, RNNCell
from nmt.model.decoder import (
    AttendThenUpdate,
    AttentionalReadout,
    BackwardFirstBridge,
    FinalBridge,
    MaxoutReadout,
    UpdateThenAttend,
    ZeroBridge,
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


def encode(encoder, embedded):
    """The reference's encoding of one sentence [R, E]."""
    forward, *backward = zip(*encoder.layers, strict=True)
    backwards = [cell(module) for module in backward[0]] if backward else None
    return recurrent.encode(embedded, [cell(module) for module in forward], backwards, residual=encoder.residual)


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
    ConstantScore: lambda m, h, states: np.zeros(len(states)),
    CosineScore: lambda m, h, states: attention.cosine(h, states, _strength(m, h)),
    DotScore: lambda m, h, states: (attention.dot if m.scale == 1 else attention.scaled_dot)(h, states),
    GeneralScore: lambda m, h, states: attention.general(h, states, array(m.projection.weight)),
    LocationScore: lambda m, h, states: attention.location(h, len(states), array(m.rows.weight)),
}


def _strength(score, h):
    if score.key_strength is None:
        return score.strength
    return attention.key_strength(h, array(score.key_strength.weight[0]), score.key_strength.bias.item())


ALIGNMENTS = {
    LocalMonotonic: lambda m, scores, h, t: attention.local_m(scores, t, len(scores) - 1, m.window),
    LocalPredictive: lambda m, scores, h, t: attention.local_p(
        scores, h, array(m.hidden.weight), array(m.vector.weight[0]), len(scores) - 1, m.window
    ),
    NoAlignment: lambda m, scores, h, t: np.zeros(len(scores)),
    Softmax: lambda m, scores, h, t: attention.softmax(scores),
}


def attend(module, states, C):  # noqa: N803
    """The function (h, t) -> (weights, context) over the states [R, M] of one sentence with the fixed vector C."""
    score, align, context = module.score, module.alignment, module.context
    read = {WeightedMean: lambda weights: attention.weighted_mean(weights, states), FixedContext: lambda _: C}

    def attending(h, t):
        weights = ALIGNMENTS[type(align)](align, SCORES[type(score)](score, h, states), h, t)
        return weights, read[type(context)](weights)

    return attending


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


def decode(decoder, embedded, encoding, W, b):  # noqa: N803
    """The reference's teacher-forced decoding of one sentence, embedded [T, E]; W, b of the output layer."""
    cells = [cell(module) for module in decoder.cells]
    initial = BRIDGES[type(decoder.bridge)](decoder.bridge, encoding, cells)
    attending = attend(decoder.attention, encoding.states, finals(encoding)[-1][0])
    readout = READOUTS[type(decoder.readout)](decoder.readout, cells[0].W_hh.shape[1], embedded.shape[1])
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
    return decode(model.decoder, embedded, encoding, array(model.output.weight), array(model.output.bias))
