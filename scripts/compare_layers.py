"""Hold the attention layers of this package against those that others publish, number for number.

    python scripts/compare_layers.py [--draws 20] [--only WORD]

Their weights are copied into our layer (or ours into theirs), both see the same random batches, of random sizes, with
random numbers on the padding, and everything that comes out is compared: scores, weights, contexts, and the gradients
of query and annotations. A pair that differs on purpose says what differs, and must go on doing so. What is not
installed here is skipped and named. Nothing is downloaded; run it in an environment that has the other toolkits:

    PYTHONPATH=. OTHER_ENVIRONMENT/bin/python scripts/compare_layers.py      # with entmax, which this package needs

One line a pair: its result, the largest difference of values and of gradients over all draws (relative to the largest
number of a tensor, where that is above 1), their layer, ours, what was compared. Exit code 0: every pair that was
compared is as expected; 1: one is not.
"""

import argparse
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmt.model import attention as own
from nmt.model.decoder import Decoded
from nmt.model.decoder.readout import AttentionalReadout
from nmt.model.embedding import OutputLayer
from nmt.model.encoder import Encoded, SelfAttentionEncoder, mask_from_lengths
from nmt.model.prediction import PointerGenerator
from nmt.model.self_attention import sinusoids

# everything is in float64; FLOAT32 where their layer computes a part in float32 whatever it is given
FLOAT64, FLOAT32 = 1e-11, 1e-4
# a difference on purpose is larger than this, or it is none
VISIBLE = 1e-3
# names of what is compared, beside scores, weights, context and readout
HEADS, THROUGH = "weights of each head", "context, through their linear_out"
# where the others keep W_q, W_k, W_v and W_o
ONMT_HEADS = ("linear_query", "linear_keys", "linear_values", "final_linear")
JOEY_HEADS = ("q_layer", "k_layer", "v_layer", "output_layer")

Values = dict[str, Tensor]


class Both(NamedTuple):
    """What comes out of both layers, by name; and the inputs whose gradients are compared."""

    theirs: Values
    ours: Values
    inputs: tuple[Tensor, ...] = ()


class Draw:
    """A random batch of sentences and queries: random sizes, lengths, numbers, the latter on padding too.

    Attributes:
        B, Q, S, H, M, N: sentences, queries a sentence, source positions, size of a query, of an annotation; heads.
        lengths: [B], one of them S.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.B, self.Q, self.S = self.integer(2, 5), self.integer(2, 4), self.integer(3, 9)
        self.N = self.integer(1, 4)
        # M has whole heads, and pairs of units for sines and cosines
        self.H, self.M = self.integer(2, 12), 2 * self.N * self.integer(1, 3)
        self.lengths = torch.randint(1, self.S + 1, (self.B,), generator=self.generator)
        self.lengths[self.integer(0, self.B - 1)] = self.S

    def integer(self, low: int, high: int) -> int:
        """Return a number from ``low`` to ``high``."""
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))

    def numbers(self, *shape: int) -> Tensor:
        """Return numbers of about 1, whose gradient can be asked for."""
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).requires_grad_()

    @property
    def mask(self) -> Tensor:
        """[B, S], True on real positions."""
        return mask_from_lengths(self.lengths, self.S)

    def encoded(self, states: Tensor) -> Encoded:
        """Return these annotations as an encoder's."""
        return Encoded(states, self.mask, self.lengths - 1, (), None)

    def randomised(self, module: Any) -> Any:
        """Return the module in float64 with every parameter random, biases and gains too."""
        return filled(module, *(self.numbers(*parameter.shape) for parameter in module.parameters()))


# parameters, from one layer to the other


def filled(module: Any, *values: Tensor) -> Any:
    """Return the module in float64 with these parameters, in its own order."""
    for parameter, value in zip(module.parameters(), values, strict=True):
        give(parameter, value)
    return module.double().train()


def give(parameter: Any, values: Tensor) -> None:
    """Set a parameter, which must have just this shape."""
    assert parameter.shape == values.shape, f"{tuple(values.shape)} given to {tuple(parameter.shape)}"
    parameter.data = values.detach().clone()


def give_heads(module: Any, weights: Sequence[Tensor], names: Sequence[str], *, biased: bool = False) -> Any:
    """Return the module with these W_q, W_k, W_v, W_o; biases that it has are 0, or stay what they are.

    ``names`` are those of its four linear maps; torch's attention has other parameters.
    """
    if isinstance(module, nn.MultiheadAttention):
        pairs = [(module.in_proj_weight, torch.cat([*weights[:3]])), (module.out_proj.weight, weights[3])]
        biases = [module.in_proj_bias, module.out_proj.bias]
    else:
        linears = [getattr(module, name) for name in names]
        pairs = [(linear.weight, weight) for linear, weight in zip(linears, weights, strict=True)]
        biases = [linear.bias for linear in linears]
    for parameter, weight in pairs:
        give(parameter, weight)
    for bias in biases:
        if bias is not None and not biased:
            give(bias, torch.zeros_like(bias))
    return module


def additive(v: Tensor, of_query: Tensor, of_key: Tensor) -> own.Score:
    """Return our additive score with v [A], W_a [A, H] and U_a [A, M]."""
    return filled(own.AdditiveScore(of_query.shape[1], of_key.shape[1], len(v)), v, of_query, of_key)


def general(weight: Tensor) -> own.Score:
    """Return our bilinear score with W_a [H, M]."""
    return filled(own.GeneralScore(*weight.shape), weight)


def covering(direction: Tensor) -> own.Coverage:
    """Return our coverage that moves keys in this direction."""
    return filled(own.Coverage(len(direction), 0.0), direction)


def readout(weight: Tensor, context: Tensor, state: Tensor) -> Tensor:
    """Return our tanh(W_c [c; h]) with this W_c."""
    ours = filled(AttentionalReadout(state.shape[-1], context.shape[-1], len(weight)), weight)
    return ours.prepare()(state, state, context)


# our attention, asked


def parts(
    score: Callable[[int, int], own.Score],
    *,
    alignment: own.Alignment | None = None,
    coverage: own.NoCoverage | None = None,
) -> own.AttentionParts:
    """Return what makes attention of these parts; softmax and no coverage unless given."""
    return own.AttentionParts(
        annotations=own.SharedAnnotations,
        score=score,
        coverage=lambda *_: coverage or own.NoCoverage(),
        alignment=lambda _: alignment or own.Softmax(),
        context=lambda size, _: own.WeightedMean(size),
    )


def single(score: own.Score, query_size: int, source_size: int, **given: Any) -> own.SingleAttention:
    """Return attention with one distribution; ``given`` as in :func:`parts`."""
    return own.SingleAttention(parts(lambda *_: score, **given), query_size, source_size).double().train()


def attend(attention: own.Attention, query: Tensor, source: Encoded) -> own.Attended:
    """Ask with all queries at once; one after the other where each step needs the one before."""
    memory, state = attention.prepare(source), attention.start(source)
    if not attention.recurrent:
        return attention(query, memory, 0, state)
    steps = []
    for t in range(query.shape[1]):
        steps.append(attention(query[:, t : t + 1], memory, t, state))
        state = steps[-1].state
    context, weights = (torch.cat([step[i] for step in steps], 1) for i in (0, 1))
    return own.Attended(context, weights, state)


class Asked:
    """Our attention and random inputs that it was asked with, for theirs to get the same.

    Attributes:
        query: [B, Q, query size].
        states: annotations [B, S, source size].
        values: scores (of one distribution), weights, contexts, and the weights of each head if there are several.
    """

    def __init__(self, draw: Draw, attention: own.Attention, query_size: int, source_size: int) -> None:
        self.query, self.states = draw.numbers(draw.B, draw.Q, query_size), draw.numbers(draw.B, draw.S, source_size)
        source = draw.encoded(self.states)
        attended = attend(attention, self.query, source)
        self.values: Values = {"weights": attended.weights, "context": attended.context}
        if attended.heads is not None:
            self.values[HEADS] = attended.heads
        if isinstance(attention, own.SingleAttention):
            self.values["scores"] = on_real(draw, attention.score(self.query, attention.prepare(source).keys))

    def against(self, theirs: Values, **also: Tensor) -> Both:
        """Return what theirs gives, and the same of ours or of what comes ``also`` of ours."""
        values = self.values | also
        return Both(theirs, {name: values[name] for name in theirs}, (self.query, self.states))


def ask(draw: Draw, score: own.Score, sizes: tuple[int, int] | None = None, **given: Any) -> Asked:
    """Ask attention with one distribution, of a query and annotations of these sizes; of M both unless told."""
    sizes = sizes or (draw.M, draw.M)
    return Asked(draw, single(score, *sizes, **given), *sizes)


def on_real(draw: Draw, scores: Tensor) -> Tensor:
    """Return scores [B, Q, S] with 0 on padding."""
    return scores.masked_fill(~draw.mask.unsqueeze(1), 0.0)


def each_alone(draw: Draw, asked: Asked, weigh: Callable[[Tensor, Tensor], Tensor]) -> Both:
    """Compare padded weights with theirs [Q, s] of each sentence alone, given its queries and its real annotations."""
    found = [weigh(q, h[:n]) for q, h, n in zip(asked.query, asked.states, draw.lengths.tolist(), strict=True)]
    return asked.against({"weights": torch.stack([functional.pad(w, (0, draw.S - w.shape[-1])) for w in found])})


# attention with one distribution


def global_attention(draw: Draw, attn_type: str, *, biased: bool = False, **options: Any) -> tuple[Any, own.Score]:
    """Return OpenNMT-py's attention of size M, and our score with its weights."""
    made = import_module("onmt.modules.global_attention").GlobalAttention(draw.M, attn_type=attn_type, **options)
    layer = draw.randomised(made)
    if attn_type == "mlp":
        give(layer.linear_query.bias, layer.linear_query.bias * biased)
        return layer, additive(layer.v.weight[0], layer.linear_query.weight, layer.linear_context.weight)
    # they project the query, we the keys: (W h_t) . h_s = h_t . (W^T h_s)
    score = general(layer.linear_in.weight.t()) if attn_type == "general" else own.DotScore(draw.M, draw.M)
    return layer, score


def onmt(draw: Draw, attn_type: str, *, through: bool = False, alignment: Any = None, **options: Any) -> Both:
    """Compare OpenNMT-py's attention and readout, or what its output layer makes of our context (``through``)."""
    layer, score = global_attention(draw, attn_type, **options)
    asked = ask(draw, score, alignment=alignment)
    read, weights = layer(asked.query, asked.states, draw.lengths)
    context = asked.values["context"]
    if through:
        name, our_read = THROUGH, layer.linear_out(torch.cat([context, asked.query], -1))
    else:
        name, our_read = "readout", readout(layer.linear_out.weight, context, asked.query)
    raw = on_real(draw, layer.score(asked.query, asked.states))
    return asked.against({"scores": raw, "weights": weights, name: read}, **{name: our_read})


def onmt_coverage(draw: Draw, attn_type: str, *, forward: bool = False) -> Both:
    """Add up the weights of Q steps, with their score of the moved annotations, or with their ``forward``."""
    layer, score = global_attention(draw, attn_type, coverage=True)
    of_keys = layer.linear_context.weight if attn_type == "mlp" else layer.linear_in.weight.t()
    # they move the annotation along w, we its projection: along the projected w
    asked = ask(draw, score, coverage=covering(of_keys @ layer.linear_cover.weight[:, 0]))
    kept, covered, steps = asked.states.clone(), torch.zeros(draw.B, draw.S, dtype=torch.float64), []
    for query in asked.query.split(1, dim=1):
        if forward:
            steps.append(layer(query, kept, draw.lengths, coverage=covered)[1])
        else:
            raw = layer.score(query, asked.states + layer.linear_cover(covered.unsqueeze(-1)))
            steps.append(raw.masked_fill(~draw.mask.unsqueeze(1), -torch.inf).softmax(-1))
        covered = covered + steps[-1].squeeze(1)
    return asked.against({"weights": torch.cat(steps, 1)})


def onmt_decoder(draw: Draw, name: str, found: str, *, covers: bool = False, **options: Any) -> Both:
    """Run OpenNMT-py's decoder, and ask ours with the queries that its attention ``name`` is asked with."""
    words: Any = nn.Linear(1, 3)
    words.embedding_size = 3
    kind = import_module("onmt.decoders.decoder").InputFeedRNNDecoder
    decoder = draw.randomised(kind("LSTM", False, 1, draw.M, attn_type="general", embeddings=words, **options))
    layer, asked = getattr(decoder, name), []
    layer.register_forward_hook(lambda _, given, __: asked.append(given[0]))
    states = draw.numbers(draw.B, draw.S, draw.M)
    decoder.init_state(None, None, tuple(draw.numbers(1, draw.B, draw.M).detach() for _ in range(2)))
    _, weights = decoder(draw.numbers(draw.B, 4, 1), states, src_len=draw.lengths)
    coverage = covering(draw.numbers(draw.M)) if covers else None
    ours = single(general(layer.linear_in.weight.t()), draw.M, draw.M, coverage=coverage)
    attended = attend(ours, torch.stack(asked, 1), draw.encoded(states))
    return Both({"weights": weights[found].transpose(0, 1)}, {"weights": attended.weights})


def joey(draw: Draw, name: str) -> Both:
    """Compare JoeyNMT's attention of this name, step by step."""
    kind, sizes = getattr(import_module("joeynmt.attention"), name), (draw.H, draw.M)
    if name == "LuongAttention":
        layer = draw.randomised(kind(*sizes))
        score = general(layer.key_layer.weight)
    else:
        layer = draw.randomised(kind(draw.integer(1, 9), draw.M, draw.H))
        score = additive(layer.energy_layer.weight[0], layer.query_layer.weight, layer.key_layer.weight)
    asked = ask(draw, score, sizes)
    layer.compute_proj_keys(asked.states)
    steps = [layer(query, draw.mask.unsqueeze(1), asked.states) for query in asked.query.split(1, dim=1)]
    context, weights = (torch.cat([step[i] for step in steps], 1) for i in (0, 1))
    return asked.against({"weights": weights, "context": context})


def torch_dot(draw: Draw) -> Both:
    """Compare torch's own function."""
    asked, mask = ask(draw, own.DotScore(draw.M, draw.M, scaled=True)), draw.mask.unsqueeze(1)
    found = functional.scaled_dot_product_attention(asked.query, asked.states, asked.states, attn_mask=mask)
    return asked.against({"context": found})


def sparse(draw: Draw, name: str, alignment: own.Alignment, **options: Any) -> Both:
    """Compare a function of scores of the package entmax."""
    function = getattr(import_module("entmax"), name)
    asked = ask(draw, own.DotScore(draw.M, draw.M), alignment=alignment)
    return each_alone(draw, asked, lambda query, states: function(query @ states.t(), dim=-1, **options))


def allen(draw: Draw, name: str, ours: Callable[..., own.Score], *, sized: bool = False) -> Both:
    """Compare an attention of AllenNLP; it is made for the sizes of query and annotation (``sized``), or both are M.

    ``ours`` makes our score for both sizes and the parameters of theirs.
    """
    if name == "LinearAttention":
        # of a single position it loses the axis, and its softmax runs over the sentences
        draw.lengths = draw.lengths.clamp_min(2)
    sizes, kind = (draw.H, draw.M), getattr(import_module("allennlp_light.modules.attention"), name)
    layer = draw.randomised(kind(*sizes) if sized else kind())
    sizes = sizes if sized else (draw.M, draw.M)
    asked = ask(draw, ours(*sizes, **dict(layer.named_parameters())), sizes)
    return each_alone(draw, asked, lambda query, states: layer(query, states.expand(len(query), -1, -1)))


def allen_masked(draw: Draw) -> Both:
    """Compare scores of about -100: queries and annotations have a last unit of -100 and of 1."""
    layer, size = import_module("allennlp_light.modules.attention").DotProductAttention(), draw.M + 1
    draw.lengths[0] = draw.S - 1
    query = functional.pad(draw.numbers(draw.B, draw.Q, draw.M), (0, 1), value=-100.0)
    states = functional.pad(draw.numbers(draw.B, draw.S, draw.M), (0, 1), value=1.0)
    attended = attend(single(own.DotScore(size, size), size, size), query, draw.encoded(states))
    weights = torch.stack([layer(asked, states, draw.mask) for asked in query.unbind(1)], 1)
    return Both({"weights": weights}, {"weights": attended.weights})


def torchnlp(draw: Draw, kind: str, *, reads_projected: bool = False) -> Both:
    """Compare PyTorch-NLP's attention, which knows no padding."""
    draw.lengths = draw.lengths.new_full((draw.B,), draw.S)
    layer = draw.randomised(import_module("torchnlp.nn.attention").Attention(draw.M, kind))
    asked = ask(draw, general(layer.linear_in.weight.t()) if kind == "general" else own.DotScore(draw.M, draw.M))
    read, weights = layer(asked.query, asked.states)
    state = layer.linear_in(asked.query) if reads_projected else asked.query
    our_read = readout(layer.linear_out.weight, asked.values["context"], state)
    return asked.against({"weights": weights, "readout": read}, readout=our_read)


# several heads


def ask_heads(draw: Draw, query_size: int, head_size: int) -> tuple[Asked, list[Tensor]]:
    """Ask Vaswani et al.'s attention as we build it; return its random W_q, W_k, W_v, W_o, too."""
    made = own.MultiHeadAttention(parts(partial(own.DotScore, scaled=True)), query_size, draw.M, draw.N, head_size)
    ours = draw.randomised(made)
    weights = [each.weight for each in (ours.query, ours.key, ours.value, ours.output)]
    return Asked(draw, ours, query_size, draw.M), weights


def onmt_heads(draw: Draw) -> Both:
    """Compare OpenNMT-py's heads."""
    asked, weights = ask_heads(draw, draw.M, draw.M // draw.N)
    kind = import_module("onmt.modules").MultiHeadedAttention
    layer = give_heads(kind(draw.N, draw.M, dropout=0.0, attn_type="context").double(), weights, ONMT_HEADS)
    padding = ~draw.mask.unsqueeze(1).unsqueeze(1)
    context, heads = layer(asked.states, asked.states, asked.query, mask=padding, return_attn=True)
    return asked.against({HEADS: heads.transpose(1, 2), "context": context})


def joey_heads(draw: Draw, *, biased: bool) -> Both:
    """Compare JoeyNMT's heads."""
    asked, weights = ask_heads(draw, draw.M, draw.M // draw.N)
    made = import_module("joeynmt.transformer_layers").MultiHeadedAttention(draw.N, draw.M, dropout=0.0)
    layer = give_heads(draw.randomised(made), weights, JOEY_HEADS, biased=biased)
    given = asked.states, asked.states, asked.query, draw.mask.unsqueeze(1)
    context, mean = layer(*given, return_weights=True)
    return asked.against({"weights": mean, "context": context})


def torch_heads(draw: Draw, *, biased: bool) -> Both:
    """Compare torch's heads."""
    asked, weights = ask_heads(draw, draw.M, draw.M // draw.N)
    made = draw.randomised(nn.MultiheadAttention(draw.M, draw.N, bias=biased, batch_first=True))
    layer, options = give_heads(made, weights, (), biased=biased), {"average_attn_weights": False}
    context, heads = layer(asked.query, asked.states, asked.states, key_padding_mask=~draw.mask, **options)
    return asked.against({HEADS: heads.transpose(1, 2), "weights": heads.mean(1), "context": context})


def x_heads(draw: Draw) -> Both:
    """Compare the heads of x-transformers."""
    head_size = draw.integer(1, 5)
    asked, weights = ask_heads(draw, draw.H, head_size)
    sizes = {"dim_context": draw.M, "dim_out": draw.M, "heads": draw.N, "dim_head": head_size}
    made = import_module("x_transformers.x_transformers").Attention(draw.H, **sizes, project_out=True).double()
    layer = give_heads(made, weights, ("to_q", "to_k", "to_v", "to_out"))
    context, notes = layer(asked.query, context=asked.states, context_mask=draw.mask, return_intermediates=True)
    return asked.against({HEADS: notes.post_softmax_attn.transpose(1, 2), "context": context})


# encoders


def encoders(
    draw: Draw,
    make: Callable[[int], nn.Module],
    attention: str,
    heads: Sequence[str],
    others: Sequence[str],
    *,
    biased: bool = False,
    **mask: Tensor,
) -> Both:
    """Compare encoders of two layers on real positions; theirs has our words, positions and last norm.

    Args:
        draw: what is random.
        make: makes a layer of theirs with an inner vector of this size.
        attention: where its attention is.
        heads: the names of the four maps in there.
        others: where its two norms and its two other maps are.
        biased: whether the attention has biases that are not 0.
        mask: says to it where padding is.
    """
    inner = draw.integer(1, 9)
    ours: Any = draw.randomised(
        SelfAttentionEncoder(
            draw.H, hidden_size=draw.M // 2, layers=2, heads=draw.N, feed_forward_size=inner, dropout=0.0
        )
    )
    words = draw.numbers(draw.B, draw.S, draw.H)
    states = ours.input(words) + sinusoids(draw.S, draw.M, words)
    for layer in ours.layers:
        made = draw.randomised(make(inner))
        weights = [*layer.attention.project.weight.chunk(3), layer.attention.output.weight]
        give_heads(made.get_submodule(attention), weights, heads, biased=biased)
        parts = layer.attention_norm, layer.inner_norm, layer.inner, layer.outer
        for part, other in zip(parts, map(made.get_submodule, others), strict=True):
            filled(other, part.weight, part.bias)
            # of a norm: 1e-5 is ours and torch's, OpenNMT-py and JoeyNMT have 1e-6
            other.eps = ours.norm.eps
        states = made(states, **mask)
    found = ours.norm(states) * draw.mask.unsqueeze(-1)
    return Both({"annotations": found}, {"annotations": ours(words, draw.lengths).states}, (words,))


def torch_encoder(draw: Draw, *, norm_first: bool = True, biased: bool = False) -> Both:
    """Compare an encoder of torch's layers."""
    options = {"dropout": 0.0, "batch_first": True, "norm_first": norm_first}
    make = partial(nn.TransformerEncoderLayer, draw.M, draw.N, **options)
    others = ("norm1", "norm2", "linear1", "linear2")
    return encoders(draw, make, "self_attn", (), others, biased=biased, src_key_padding_mask=~draw.mask)


def onmt_encoder(draw: Draw) -> Both:
    """Compare an encoder of OpenNMT-py's layers."""
    kind = import_module("onmt.encoders.transformer").TransformerEncoderLayer
    others = ("layer_norm", "feed_forward.layer_norm", "feed_forward.w_1", "feed_forward.w_2")
    padding = ~draw.mask.unsqueeze(1).unsqueeze(1).expand(-1, -1, draw.S, -1)
    return encoders(
        draw, lambda inner: kind(draw.M, draw.N, inner, 0.0, 0.0), "self_attn", ONMT_HEADS, others, mask=padding
    )


def joey_encoder(draw: Draw) -> Both:
    """Compare an encoder of JoeyNMT's layers."""
    kind = import_module("joeynmt.transformer_layers").TransformerEncoderLayer
    make = partial(kind, draw.M, num_heads=draw.N, dropout=0.0, layer_norm="pre")
    others = ("layer_norm", *(f"feed_forward.{name}" for name in ("layer_norm", "pwff_layer.0", "pwff_layer.3")))
    return encoders(draw, make, "src_src_att", JOEY_HEADS, others, mask=draw.mask.unsqueeze(1))


def positions(draw: Draw, module: str, *options: Any) -> Both:
    """Compare words with positions added."""
    words = draw.numbers(draw.B, draw.S, draw.M)
    table = import_module(module).PositionalEncoding(draw.M, *options)
    # OpenNMT-py multiplies the words by sqrt(D) here, ours in the first values of W_in
    factor = draw.M**0.5 if module.startswith("onmt") else 1.0
    return Both({"sum": table(words)}, {"sum": words * factor + sinusoids(draw.S, draw.M, words)})


# copying


class Sentences:
    """Random source words, numbered as OpenNMT-py's CopyGenerator wants them and as our PointerGenerator does.

    Words 0 and 1 are <unk> and padding, and the target vocabulary has the words below V.
    """

    def __init__(self, draw: Draw) -> None:
        self.V = draw.integer(8, 12)
        words = torch.randint(2, self.V + 4, (draw.B, draw.S), generator=draw.generator)
        self.rows = [row[:length].tolist() for row, length in zip(words, draw.lengths.tolist(), strict=True)]
        self.extended = [[0, 1, *dict.fromkeys(row)] for row in self.rows]
        self.src_map = torch.zeros(draw.B, draw.S, max(map(len, self.extended)), dtype=torch.float64)
        # junk on padding: copies of a word that the sentence may have
        self.copies = torch.full((draw.B, draw.S), 2)
        for b, row in enumerate(self.rows):
            for j, word in enumerate(row):
                self.src_map[b, j, self.extended[b].index(word)] = 1.0
                self.copies[b, j] = self.own_id(b, word)

    def own_id(self, b: int, word: int) -> int:
        """Return our id of a word beside sentence b."""
        return word if word < self.V else self.V + self.rows[b].index(word)

    def columns(self, b: int) -> tuple[list[int], list[int]]:
        """Return the ids of all words of the vocabulary and of the sentence, theirs and ours."""
        known, rare = list(range(self.V)), [word for word in self.extended[b] if word >= self.V]
        expected = [self.V + self.extended[b].index(word) for word in rare]
        return known + expected, known + [self.own_id(b, word) for word in rare]

    def collapsed(self, scores: Tensor) -> Tensor:
        """Return their scores [B, T, V + words] with copies added to the words of the vocabulary, by their function."""
        vocabulary = defaultdict(int, {str(word): word for word in range(self.V)})
        tokens = [Tokens(map(str, words)) for words in self.extended]
        collapse = import_module("onmt.modules.copy_generator").collapse_copy_scores
        return collapse(scores.clone(), {"src_ex_vocab": tokens}, vocabulary, batch_dim=0)

    def targets(self, draw: Draw, steps: int) -> list[Tensor]:
        """Draw target words, half of them copies; return their ids (0: only the source has it), their alignment, ours.

        All are [B, steps].
        """
        found = []
        for b, row in enumerate(self.rows):
            words = [draw.integer(2, self.V - 1) if t % 2 else row[draw.integer(0, len(row) - 1)] for t in range(steps)]
            known = [word if word < self.V else 0 for word in words]
            align = [self.extended[b].index(word) if word in row else 0 for word in words]
            found.append((known, align, [self.own_id(b, word) for word in words]))
        return [torch.tensor(each) for each in zip(*found, strict=True)]


class Tokens(list[str]):
    """The words of one sentence, as their vocabulary of it holds them."""

    @property
    def ids_to_tokens(self) -> list[str]:
        """The words by their ids."""
        return self


def copying(draw: Draw, steps: int, *, sentences: int | None = None) -> Both:
    """Compare the distributions [B, T, .] of copying, and the loss of random targets of which half are copies."""
    if sentences is not None:
        draw.B, draw.lengths = sentences, draw.lengths[:sentences].fill_(draw.S)
    module, text, size = import_module("onmt.modules.copy_generator"), Sentences(draw), draw.M + draw.H + 3
    context, state, embedded = (draw.numbers(draw.B, steps, each) for each in (draw.M, draw.H, 3))
    hidden = torch.cat([context, state, embedded], -1)
    weights = draw.numbers(draw.B, steps, draw.S).masked_fill(~draw.mask.unsqueeze(1), -torch.inf).softmax(-1)
    layer = draw.randomised(module.CopyGenerator(size, text.V, 1))
    # theirs computes 1 - sigmoid(x), which has no digits left for large x; ours takes logarithms
    give(layer.linear_copy.weight, layer.linear_copy.weight / size**0.5)
    # their gate is the probability of copying, ours that of generating; their padding is never generated
    gate, bias = layer.linear_copy, layer.linear.bias.masked_fill(torch.arange(text.V) == 1, -torch.inf)
    ours = filled(PointerGenerator(draw.H, 3, draw.M, text.V, 0), -gate.weight, -gate.bias)
    output = filled(OutputLayer(size, text.V, tied=None), layer.linear.weight, bias)
    # as their loss calls it: hidden sentence by sentence, the weights step by step
    found = layer(hidden.flatten(0, 1), weights.transpose(0, 1).flatten(0, 1), text.src_map)
    collapsed = text.collapsed(found.unflatten(0, (draw.B, steps)))
    decoded = Decoded(hidden, state, embedded, own.Attended(context, weights), None)  # pyright: ignore
    probabilities = ours.log_probs(decoded, output.prepare(), text.copies).exp()
    known, align, ids = text.targets(draw, steps)
    # without the 1e-20 that theirs adds to every probability
    criterion = module.CopyGeneratorLoss(text.V, force_copy=False, unk_index=0, ignore_index=1, eps=0.0)
    real = torch.ones_like(ids, dtype=torch.bool)
    losses = ours.losses(decoded, output, ids, real, label_smoothing=0.0, copies=text.copies)
    theirs, mine = {"nll": criterion(found, align.flatten(), known.flatten())}, {"nll": losses.nll.flatten()}
    for b in range(draw.B):
        columns = text.columns(b)
        theirs[f"P, sentence {b}"] = collapsed[b][:, columns[0]]
        mine[f"P, sentence {b}"] = probabilities[b][:, columns[1]]
    return Both(theirs, mine)


# the pairs


@dataclass(frozen=True)
class Pair:
    """A layer of theirs and one of ours.

    Attributes:
        package: the distribution that theirs comes from.
        layer: their layer, and how it was used.
        ours: our configuration's name for it.
        run: makes both from a draw and applies them.
        differs: why the two are different; empty where they must agree.
        tolerance: the largest difference that is none.
    """

    package: str
    layer: str
    ours: str
    run: Callable[[Draw], Both]
    differs: str = ""
    tolerance: float = FLOAT64

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{self.package} {self.layer} | {self.ours}"


MLP = "GlobalAttention mlp, its bias 0"
COVERAGE = "GlobalAttention {}, coverage=True: its score of enc_out + linear_cover(C), steps added up"
DECODER = "InputFeedRNNDecoder, {}: its weights"
COPYING = "CopyGenerator, CopyGeneratorLoss, collapse_copy_scores: one {} a call"
POINTER = "prediction pointer_generator, loss without smoothing"
FORM, ENCODER = "attention/form multi_head, scaled_dot", "encoder self_attention"
BIASES = "theirs has biases in all four projections; ours none, as in Vaswani et al.'s formula and code"

# fmt: off
PAIRS = [
    Pair("OpenNMT-py", "GlobalAttention general", "luong_general, readout attentional",
         partial(onmt, attn_type="general")),
    Pair("OpenNMT-py", "GlobalAttention dot", "luong_dot, readout attentional", partial(onmt, attn_type="dot")),
    Pair("OpenNMT-py", "GlobalAttention general, sparsemax", "luong_general with alignment sparsemax",
         partial(onmt, attn_type="general", alignment=own.Sparsemax(), attn_func="sparsemax")),
    Pair("OpenNMT-py", MLP, "score additive", partial(onmt, attn_type="mlp", through=True)),
    Pair("OpenNMT-py", "GlobalAttention mlp", "score additive",
         partial(onmt, attn_type="mlp", through=True, biased=True),
         "theirs has a bias in the query's projection, Bahdanau et al. (A.1.2) and ours none"),
    Pair("OpenNMT-py", f"{MLP}: what it returns", "score additive, readout attentional",
         partial(onmt, attn_type="mlp"),
         "their linear_out has a bias under mlp and no tanh after it; our readout is Luong's eq. 5 with every score"),
    Pair("OpenNMT-py", COVERAGE.format("mlp, its bias 0"), "score additive, coverage=true",
         partial(onmt_coverage, attn_type="mlp")),
    Pair("OpenNMT-py", COVERAGE.format("general"), "luong_general, coverage=true",
         partial(onmt_coverage, attn_type="general")),
    Pair("OpenNMT-py", "GlobalAttention mlp, coverage=True, its bias 0: as its forward does it",
         "score additive, coverage=true", partial(onmt_coverage, attn_type="mlp", forward=True),
         "theirs puts a tanh on the moved annotations, reads the context from those, and moves enc_out in place, so "
         "that steps pile up; See et al.'s eq. 11 and ours move the projected key, inside the score only"),
    Pair("OpenNMT-py", DECODER.format("coverage_attn=True"), "luong_general, coverage=false",
         partial(onmt_decoder, name="attn", found="std", coverage_attn=True)),
    Pair("OpenNMT-py", DECODER.format("coverage_attn=True"), "luong_general, coverage=true",
         partial(onmt_decoder, name="attn", found="std", coverage_attn=True, covers=True),
         "their decoder adds the weights up but never gives them to its attention: linear_cover has no use and gets no "
         "gradient, and only lambda_coverage (the loss) does anything"),
    Pair("OpenNMT-py", DECODER.format("copy_attn=True, reuse_copy_attn=False"), "luong_general",
         partial(onmt_decoder, name="copy_attn", found="copy", copy_attn=True),
         "their decoder does not give the lengths to its copy attention, which reads padding; with reuse_copy_attn, as "
         "in ours, there is one attention, and it is masked"),
    Pair("OpenNMT-py", "MultiHeadedAttention", FORM, onmt_heads, tolerance=FLOAT32),
    Pair("OpenNMT-py", COPYING.format("step"), POINTER, partial(copying, steps=1)),
    Pair("OpenNMT-py", COPYING.format("sentence"), POINTER, partial(copying, steps=5, sentences=1)),
    Pair("OpenNMT-py", "CopyGenerator as its training calls it: several sentences of several steps", POINTER,
         partial(copying, steps=3),
         "their hidden rows come sentence by sentence, their attention rows step by step, and p_copy of the former "
         "multiplies the latter: a gate of another step and sentence (translation, one step a call, is not affected)"),
    Pair("joeynmt", "LuongAttention", "luong_general", partial(joey, name="LuongAttention")),
    Pair("joeynmt", "BahdanauAttention", "score additive", partial(joey, name="BahdanauAttention")),
    Pair("joeynmt", "MultiHeadedAttention, its biases 0", FORM, partial(joey_heads, biased=False)),
    Pair("joeynmt", "MultiHeadedAttention", FORM, partial(joey_heads, biased=True), BIASES),
    Pair("torch", "nn.MultiheadAttention(bias=False)", FORM, partial(torch_heads, biased=False)),
    Pair("torch", "nn.MultiheadAttention", FORM, partial(torch_heads, biased=True), BIASES),
    Pair("torch", "nn.functional.scaled_dot_product_attention", "scaled_dot", torch_dot),
    Pair("torch", "nn.TransformerEncoderLayer(norm_first=True), its attention's biases 0", ENCODER,
         torch_encoder),
    Pair("torch", "nn.TransformerEncoderLayer(norm_first=True)", ENCODER,
         partial(torch_encoder, biased=True), BIASES),
    Pair("torch", "nn.TransformerEncoderLayer(norm_first=False), its attention's biases 0", ENCODER,
         partial(torch_encoder, norm_first=False),
         "the norms follow the sums in theirs (and in the paper), in ours they come before the parts"),
    Pair("OpenNMT-py", "TransformerEncoderLayer, eps of its norms 1e-5", ENCODER,
         onmt_encoder, tolerance=FLOAT32),
    Pair("joeynmt", "TransformerEncoderLayer(pre), its attention's biases 0, eps 1e-5", ENCODER,
         joey_encoder),
    Pair("joeynmt", "PositionalEncoding", f"sinusoids of {ENCODER}",
         lambda draw: positions(draw, "joeynmt.transformer_layers"), tolerance=FLOAT32),
    Pair("OpenNMT-py", "PositionalEncoding", f"sinusoids of {ENCODER}",
         lambda draw: positions(draw, "onmt.modules.embeddings", "SinusoidalInterleaved"),
         tolerance=FLOAT32),
    Pair("entmax", "sparsemax, each sentence alone", "alignment sparsemax",
         partial(sparse, name="sparsemax", alignment=own.Sparsemax())),
    Pair("entmax", "entmax15, each sentence alone", "alignment entmax15",
         partial(sparse, name="entmax15", alignment=own.Entmax15())),
    Pair("entmax", "sparsemax_bisect, each sentence alone", "alignment sparsemax",
         partial(sparse, name="sparsemax_bisect", alignment=own.Sparsemax(), n_iter=60)),
    Pair("entmax", "entmax_bisect(alpha=1.5), each sentence alone", "alignment entmax15",
         partial(sparse, name="entmax_bisect", alignment=own.Entmax15(), alpha=1.5, n_iter=60)),
    Pair("allennlp-light", "AdditiveAttention", "score additive, attention_size H",
         partial(allen, name="AdditiveAttention", sized=True, ours=lambda *_, _v_vector, _w_matrix, _u_matrix:
                 additive(_v_vector[:, 0], _w_matrix.t(), _u_matrix.t()))),
    Pair("allennlp-light", "BilinearAttention (its bias is one for all positions)", "luong_general",
         partial(allen, name="BilinearAttention", sized=True, ours=lambda *_, _weight_matrix, _bias:
                 general(_weight_matrix))),
    Pair("allennlp-light", "DotProductAttention", "luong_dot",
         partial(allen, name="DotProductAttention", ours=own.DotScore)),
    Pair("allennlp-light", "ScaledDotProductAttention", "scaled_dot",
         partial(allen, name="ScaledDotProductAttention", ours=partial(own.DotScore, scaled=True))),
    Pair("allennlp-light", "CosineAttention", "cosine with strength=1",
         partial(allen, name="CosineAttention", ours=partial(own.CosineScore, strength=1.0))),
    Pair("allennlp-light", 'LinearAttention(combination="x,y") (its bias is one for all positions)', "concat_linear",
         partial(allen, name="LinearAttention", sized=True, ours=lambda *sizes, _weight_vector, _bias:
                 filled(own.ConcatLinearScore(*sizes), _weight_vector.unsqueeze(0)))),
    Pair("allennlp-light", "DotProductAttention with a mask, scores about -100", "luong_dot", allen_masked,
         "theirs puts 0, not minus infinity, in place of a masked score, then divides by the sum of the rest plus "
         "1e-13: where all real scores are far below 0, the weights vanish with them"),
    Pair("pytorch-nlp", "Attention dot, without padding", "luong_dot, readout attentional",
         partial(torchnlp, kind="dot")),
    Pair("pytorch-nlp", "Attention general, without padding", "luong_general, readout attentional of W_a h_t",
         partial(torchnlp, kind="general", reads_projected=True)),
    Pair("pytorch-nlp", "Attention general, without padding", "luong_general, readout attentional",
         partial(torchnlp, kind="general"),
         "theirs reads tanh(W_c [c_t; W_a h_t]): the query stays projected; Luong et al.'s eq. 5 and ours have h_t"),
    Pair("x-transformers", "Attention with a context", f"{FORM}, any head_size", x_heads, tolerance=FLOAT32),
]
# fmt: on


# the report


class Found(NamedTuple):
    """The largest differences of a pair over all draws, and what was compared."""

    values: float
    gradients: float | None
    names: tuple[str, ...]


def measure(compared: Pair, draws: int) -> Found:
    """Run a pair on random batches."""
    values, gradients, names = 0.0, None, ()
    for seed in range(draws):
        both = compared.run(Draw(seed))
        assert both.theirs.keys() == both.ours.keys(), f"{compared.name}: {both.theirs.keys()} and {both.ours.keys()}"
        names = tuple(dict.fromkeys(name.partition(", sentence")[0] for name in both.ours))
        for name, value in both.theirs.items():
            values = max(values, difference(value, both.ours[name]))
        if both.inputs and not compared.differs:
            apart = map(difference, derivatives(both.theirs, both.inputs), derivatives(both.ours, both.inputs))
            gradients = max(gradients or 0.0, *apart)
    return Found(values, gradients, names)


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, divided by our largest number if above 1; infinite where one is no number."""
    assert one.shape == other.shape, f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
    apart = torch.where(one == other, 0.0, (one.double() - other.double()).abs().nan_to_num(torch.inf, torch.inf))
    return (apart.max() / other.abs().nan_to_num(0.0, 0.0).max().clamp_min(1.0)).item()


def derivatives(values: Values, inputs: tuple[Tensor, ...]) -> Sequence[Tensor]:
    """Return the gradients of a random sum of everything."""
    generator = torch.Generator().manual_seed(1)
    total = torch.zeros((), dtype=torch.float64)
    for name in sorted(values):
        factors = torch.randn(values[name].shape, generator=generator, dtype=torch.float64)
        total = total + (values[name] * factors).sum()
    return torch.autograd.grad(total, inputs)


def judge(compared: Pair, found: Found) -> tuple[bool, str]:
    """Return whether a pair is as expected, and the word for it."""
    if compared.differs:
        return (True, "differs") if found.values > VISIBLE else (False, "SAME BUT SHOULD DIFFER")
    agrees = max(found.values, found.gradients or 0.0) <= compared.tolerance
    return agrees, "agrees" if agrees else "DIFFERS"


def line(compared: Pair, found: Found, word: str) -> str:
    """Return a pair's line."""
    gradients = "" if found.gradients is None else f", gradients {found.gradients:.1e}"
    reason = f" | {compared.differs}" if compared.differs else ""
    return f"{word:8} {found.values:.1e}{gradients} | {compared.name} | {'; '.join(found.names)}{reason}"


def version(package: str) -> str:
    """Return the installed version of a distribution."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def main(argv: Sequence[str] | None = None) -> int:
    """Compare all pairs, print a line each, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=20, metavar="N", help="random batches a pair (default: 20)")
    parser.add_argument("--only", default="", metavar="WORD", help="pairs in whose names this stands")
    args = parser.parse_args(argv)
    if args.draws < 1:
        parser.error("--draws must be at least 1")
    chosen = [each for each in PAIRS if args.only in each.name]
    if not chosen:
        parser.error(f"no pair has {args.only!r} in its name")
    print("versions: " + ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(each.package for each in PAIRS)))
    failed, skipped = 0, 0
    for each in chosen:
        try:
            # what the other packages warn of
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = measure(each, args.draws)
        except ImportError as error:
            skipped += 1
            print(f"SKIPPED  {each.name} | cannot be imported here: {error}")
            continue
        expected, word = judge(each, found)
        failed += not expected
        print(line(each, found, word))
    done = len(chosen) - skipped
    print(f"{done} of {len(chosen)} pairs compared, {failed} not as expected, {skipped} SKIPPED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
