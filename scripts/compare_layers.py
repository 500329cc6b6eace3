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
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nmt.model.attention import (
    AdditiveScore,
    Alignment,
    Attended,
    Attention,
    AttentionParts,
    ConcatLinearScore,
    CosineScore,
    Coverage,
    DotScore,
    Entmax15,
    GeneralScore,
    MultiHeadAttention,
    NoCoverage,
    Score,
    SharedAnnotations,
    SingleAttention,
    Softmax,
    Sparsemax,
    WeightedMean,
)
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

Values = dict[str, Tensor]


class NotInstalledError(Exception):
    """A package that a pair needs cannot be imported."""


class Both(NamedTuple):
    """What comes out of both layers, by name; and the inputs whose gradients are compared."""

    theirs: Values
    ours: Values
    inputs: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Pair:
    """A layer of theirs and one of ours.

    Attributes:
        package: the distribution that theirs comes from.
        layer: their layer, and how it was used.
        ours: our configuration's name for it.
        run: makes both from a draw and applies them.
        tolerance: the largest difference that is none.
        differs: why the two are different; empty where they must agree.
    """

    package: str
    layer: str
    ours: str
    run: Callable[["Draw"], Both]
    tolerance: float
    differs: str


PAIRS: list[Pair] = []


def pair(
    package: str, layer: str, ours: str, *, tolerance: float = FLOAT64, differs: str = ""
) -> Callable[[Callable[["Draw"], Both]], Callable[["Draw"], Both]]:
    """Add the decorated function to the pairs."""

    def add(run: Callable[["Draw"], Both]) -> Callable[["Draw"], Both]:
        PAIRS.append(Pair(package, layer, ours, run, tolerance, differs))
        return run

    return add


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

    def inputs(self, query_size: int, source_size: int) -> tuple[Tensor, Tensor]:
        """Return queries [B, Q, .] and annotations [B, S, .]."""
        return self.numbers(self.B, self.Q, query_size), self.numbers(self.B, self.S, source_size)

    @property
    def mask(self) -> Tensor:
        """[B, S], True on real positions."""
        return mask_from_lengths(self.lengths, self.S)

    def encoded(self, states: Tensor) -> Encoded:
        """Return these annotations as an encoder's."""
        return Encoded(states, self.mask, self.lengths - 1, (), None)

    def randomised(self, module: Any) -> Any:
        """Return the module in float64 with every parameter random, biases and gains too."""
        for parameter in module.parameters():
            parameter.data = self.numbers(*parameter.shape).detach()
        return module.double().train()


def theirs(module: str) -> Any:
    """Import a module of theirs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotInstalledError(str(error)) from error


def give(parameter: Any, values: Tensor) -> None:
    """Set a parameter, which must have just this shape."""
    assert parameter.shape == values.shape, f"{tuple(values.shape)} given to {tuple(parameter.shape)}"
    parameter.data = values.detach().clone()


def zero(*parameters: Any) -> None:
    """Set parameters to zero."""
    for parameter in parameters:
        give(parameter, torch.zeros_like(parameter))


def parts(
    score: Callable[[int, int], Score], alignment: Alignment, coverage: Callable[..., NoCoverage]
) -> AttentionParts:
    """Return what makes attention of these parts."""
    return AttentionParts(
        annotations=SharedAnnotations,
        score=score,
        coverage=coverage,
        alignment=lambda _: alignment,
        context=lambda size, _: WeightedMean(size),
    )


def single(score: Score, query: int, source: int, *, alignment: Any = None, coverage: Any = None) -> SingleAttention:
    """Return our attention with one distribution, softmax unless told."""
    own = parts(lambda *_: score, alignment or Softmax(), lambda *_: coverage or NoCoverage())
    return SingleAttention(own, query, source).double().train()


def attend(attention: Attention, query: Tensor, source: Encoded) -> Attended:
    """Ask with all queries at once; one after the other where each step needs the one before."""
    memory, state = attention.prepare(source), attention.start(source)
    if not attention.recurrent:
        return attention(query, memory, 0, state)
    steps = []
    for t in range(query.shape[1]):
        steps.append(attention(query[:, t : t + 1], memory, t, state))
        state = steps[-1].state
    context, weights = (torch.cat([step[i] for step in steps], 1) for i in (0, 1))
    return Attended(context, weights, state)


def scores(attention: SingleAttention, query: Tensor, source: Encoded) -> Tensor:
    """Return our scores, 0 on padding."""
    found = attention.score(query, attention.prepare(source).keys)
    return found.masked_fill(~source.mask.unsqueeze(1), 0.0)


def readout(weight: Tensor, attended: Attended, query: Tensor) -> Tensor:
    """Return our tanh(W_c [c; h]) with this W_c."""
    ours = AttentionalReadout(query.shape[-1], attended.context.shape[-1], len(weight))
    give(ours.combine.weight, weight)
    return ours.prepare()(query, query, attended.context)


def additive(v: Tensor, of_query: Tensor, of_key: Tensor) -> AdditiveScore:
    """Return our additive score with v [A], W_a [A, H] and U_a [A, M]."""
    score = AdditiveScore(of_query.shape[1], of_key.shape[1], len(v))
    for ours, given in ((score.vector, v), (score.query.weight, of_query), (score.key.weight, of_key)):
        give(ours, given)
    return score


def general(weight: Tensor) -> GeneralScore:
    """Return our bilinear score with W_a [H, M]."""
    score = GeneralScore(*weight.shape)
    give(score.projection.weight, weight)
    return score


# OpenNMT-py


def _global_attention(draw: Draw, **options: Any) -> tuple[Any, Score]:
    """Return their layer of size M and our score with its weights."""
    layer = draw.randomised(theirs("onmt.modules.global_attention").GlobalAttention(draw.M, **options))
    if layer.attn_type == "mlp":
        return layer, additive(layer.v.weight[0], layer.linear_query.weight, layer.linear_context.weight)
    # they project the query, we the keys: (W h_t) . h_s = h_t . (W^T h_s)
    return layer, general(layer.linear_in.weight.t()) if layer.attn_type == "general" else DotScore(draw.M, draw.M)


def _bilinear_onmt(draw: Draw, alignment: Alignment | None = None, **options: Any) -> Both:
    layer, score = _global_attention(draw, **options)
    query, states = draw.inputs(draw.M, draw.M)
    source, ours = draw.encoded(states), single(score, draw.M, draw.M, alignment=alignment)
    attended = attend(ours, query, source)
    read, weights = layer(query, states, draw.lengths)
    raw = layer.score(query, states).masked_fill(~draw.mask.unsqueeze(1), 0.0)
    return Both(
        {"scores": raw, "weights": weights, "readout": read},
        {
            "scores": scores(ours, query, source),
            "weights": attended.weights,
            "readout": readout(layer.linear_out.weight, attended, query),
        },
        (query, states),
    )


@pair("OpenNMT-py", "GlobalAttention general", "luong_general, readout attentional")
def _(draw: Draw) -> Both:
    return _bilinear_onmt(draw, attn_type="general")


@pair("OpenNMT-py", "GlobalAttention dot", "luong_dot, readout attentional")
def _(draw: Draw) -> Both:
    return _bilinear_onmt(draw, attn_type="dot")


@pair("OpenNMT-py", "GlobalAttention general, sparsemax", "luong_general with alignment sparsemax")
def _(draw: Draw) -> Both:
    return _bilinear_onmt(draw, Sparsemax(), attn_type="general", attn_func="sparsemax")


def _mlp_onmt(draw: Draw, *, biased: bool) -> Both:
    layer, score = _global_attention(draw, attn_type="mlp")
    if not biased:
        zero(layer.linear_query.bias)
    query, states = draw.inputs(draw.M, draw.M)
    source, ours = draw.encoded(states), single(score, draw.M, draw.M)
    attended = attend(ours, query, source)
    read, weights = layer(query, states, draw.lengths)
    raw = layer.score(query, states).masked_fill(~draw.mask.unsqueeze(1), 0.0)
    return Both(
        {"scores": raw, "weights": weights, "context, through their linear_out": read},
        {
            "scores": scores(ours, query, source),
            "weights": attended.weights,
            "context, through their linear_out": layer.linear_out(torch.cat([attended.context, query], -1)),
        },
        (query, states),
    )


@pair("OpenNMT-py", "GlobalAttention mlp, its bias 0", "score additive")
def _(draw: Draw) -> Both:
    return _mlp_onmt(draw, biased=False)


@pair(
    "OpenNMT-py",
    "GlobalAttention mlp",
    "score additive",
    differs="theirs has a bias in the query's projection, Bahdanau et al. (A.1.2) and ours none",
)
def _(draw: Draw) -> Both:
    return _mlp_onmt(draw, biased=True)


@pair(
    "OpenNMT-py",
    "GlobalAttention mlp, its bias 0: what it returns",
    "score additive, readout attentional",
    differs="their linear_out has a bias under mlp and no tanh after it; our readout is Luong's eq. 5 with every score",
)
def _(draw: Draw) -> Both:
    layer, score = _global_attention(draw, attn_type="mlp")
    zero(layer.linear_query.bias)
    query, states = draw.inputs(draw.M, draw.M)
    attended = attend(single(score, draw.M, draw.M), query, draw.encoded(states))
    read = readout(layer.linear_out.weight, attended, query)
    return Both({"readout": layer(query, states, draw.lengths)[0]}, {"readout": read})


def _coverage_onmt(draw: Draw, attn_type: str, move: Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Both:
    """Run both over Q steps; ``move`` (layer, annotations, coverage) gives the annotations to compare and to read."""
    layer, score = _global_attention(draw, attn_type=attn_type, coverage=True)
    if attn_type == "mlp":
        zero(layer.linear_query.bias)
    of_keys = layer.linear_context.weight if attn_type == "mlp" else layer.linear_in.weight.t()
    coverage = Coverage(len(of_keys), 0.0)
    # they move the annotation along w, we its projection: along the projected w
    give(coverage.direction, of_keys @ layer.linear_cover.weight[:, 0])
    query, states = draw.inputs(draw.M, draw.M)
    attended = attend(single(score, draw.M, draw.M, coverage=coverage.double()), query, draw.encoded(states))
    contexts, weights, covered = [], [], torch.zeros(draw.B, draw.S, dtype=torch.float64)
    for asked in query.split(1, dim=1):
        compared, read = move(layer, states, covered)
        raw = layer.score(asked, compared).masked_fill(~draw.mask.unsqueeze(1), -torch.inf)
        weights.append(raw.softmax(-1))
        contexts.append(weights[-1] @ read)
        covered = covered + weights[-1].squeeze(1)
    return Both(
        {"weights": torch.cat(weights, 1), "context": torch.cat(contexts, 1)},
        {"weights": attended.weights, "context": attended.context},
        (query, states),
    )


def _moved(layer: Any, states: Tensor, covered: Tensor) -> Tensor:
    return states + layer.linear_cover(covered.unsqueeze(-1))


_UNSQUASHED = "GlobalAttention {}, coverage=True: its score of enc_out + linear_cover(C), steps added up"


@pair("OpenNMT-py", _UNSQUASHED.format("mlp, its bias 0"), "score additive, coverage=true")
def _(draw: Draw) -> Both:
    return _coverage_onmt(draw, "mlp", lambda layer, states, covered: (_moved(layer, states, covered), states))


@pair("OpenNMT-py", _UNSQUASHED.format("general"), "luong_general, coverage=true")
def _(draw: Draw) -> Both:
    return _coverage_onmt(draw, "general", lambda layer, states, covered: (_moved(layer, states, covered), states))


@pair(
    "OpenNMT-py",
    "GlobalAttention mlp, coverage=True, its bias 0: as its forward does it",
    "score additive, coverage=true",
    differs="theirs puts a tanh on the moved annotations, reads the context from those, and moves enc_out in place, so "
    "that steps pile up; See et al.'s eq. 11 and ours move the projected key, inside the score only",
)
def _(draw: Draw) -> Both:
    layer, score = _global_attention(draw, attn_type="mlp", coverage=True)
    zero(layer.linear_query.bias)
    coverage = Coverage(draw.M, 0.0).double()
    give(coverage.direction, layer.linear_context.weight @ layer.linear_cover.weight[:, 0])
    query, states = (each.detach() for each in draw.inputs(draw.M, draw.M))
    ours = single(score, draw.M, draw.M, coverage=coverage)
    source, covered = draw.encoded(states), torch.rand(draw.B, draw.S, generator=draw.generator, dtype=torch.float64)
    attended = ours(query[:, :1], ours.prepare(source), 0, (covered.unsqueeze(1),))
    _, weights = layer(query[:, :1], states.clone(), draw.lengths, coverage=covered)
    return Both({"weights": weights}, {"weights": attended.weights})


def _decoder_onmt(draw: Draw, name: str, found: str, coverage: NoCoverage, **options: Any) -> Both:
    """Run their decoder, and ask ours with the queries that its attention of this name is asked with."""
    words: Any = nn.Linear(1, 3)
    words.embedding_size = 3
    kind = theirs("onmt.decoders.decoder").InputFeedRNNDecoder
    decoder = draw.randomised(kind("LSTM", False, 1, draw.M, attn_type="general", embeddings=words, **options))
    layer, asked = getattr(decoder, name), []
    layer.register_forward_hook(lambda _, given, __: asked.append(given[0]))
    _, states = draw.inputs(draw.M, draw.M)
    decoder.init_state(None, None, tuple(draw.numbers(1, draw.B, draw.M).detach() for _ in range(2)))
    _, weights = decoder(draw.numbers(draw.B, 4, 1), states, src_len=draw.lengths)
    ours = single(general(layer.linear_in.weight.t()), draw.M, draw.M, coverage=coverage)
    attended = attend(ours, torch.stack(asked, 1), draw.encoded(states))
    return Both({"weights": weights[found].transpose(0, 1)}, {"weights": attended.weights})


_DECODER = "InputFeedRNNDecoder, {}: its weights"


@pair("OpenNMT-py", _DECODER.format("coverage_attn=True"), "luong_general, coverage=false")
def _(draw: Draw) -> Both:
    return _decoder_onmt(draw, "attn", "std", NoCoverage(), coverage_attn=True)


@pair(
    "OpenNMT-py",
    _DECODER.format("coverage_attn=True"),
    "luong_general, coverage=true",
    differs="their decoder adds the weights up but never gives them to its attention: linear_cover has no use and gets "
    "no gradient, and only lambda_coverage (the loss) does anything",
)
def _(draw: Draw) -> Both:
    coverage = Coverage(draw.M, 0.0).double()
    give(coverage.direction, draw.numbers(draw.M))
    return _decoder_onmt(draw, "attn", "std", coverage, coverage_attn=True)


@pair(
    "OpenNMT-py",
    _DECODER.format("copy_attn=True, reuse_copy_attn=False"),
    "luong_general",
    differs="their decoder does not give the lengths to its copy attention, which reads padding; with reuse_copy_attn, "
    "as in ours, there is one attention, and it is masked",
)
def _(draw: Draw) -> Both:
    return _decoder_onmt(draw, "copy_attn", "copy", NoCoverage(), copy_attn=True)


def multi_head(draw: Draw, query_size: int, size: int, heads: int, head_size: int) -> MultiHeadAttention:
    """Return Vaswani et al.'s attention as we build it, every parameter random."""
    own = parts(lambda h, m: DotScore(h, m, scaled=True), Softmax(), lambda *_: NoCoverage())
    return draw.randomised(MultiHeadAttention(own, query_size, size, heads, head_size))


def _four(ours: MultiHeadAttention) -> tuple[Tensor, ...]:
    """Return W_q, W_k, W_v, W_o."""
    return tuple(each.weight for each in (ours.query, ours.key, ours.value, ours.output))


def _whole_heads(draw: Draw, apply: Callable[[MultiHeadAttention, Tensor, Tensor], Values]) -> Both:
    """Compare heads that share the size M of queries and annotations."""
    ours = multi_head(draw, draw.M, draw.M, draw.N, draw.M // draw.N)
    query, states = draw.inputs(draw.M, draw.M)
    found = apply(ours, query, states)
    attended = attend(ours, query, draw.encoded(states))
    own = {"weights of each head": attended.heads, "weights": attended.weights, "context": attended.context}
    return Both(found, {name: value for name, value in own.items() if name in found}, (query, states))  # pyright: ignore


@pair("OpenNMT-py", "MultiHeadedAttention", "attention/form multi_head, scaled_dot", tolerance=FLOAT32)
def _(draw: Draw) -> Both:
    def apply(ours: MultiHeadAttention, query: Tensor, states: Tensor) -> Values:
        layer = theirs("onmt.modules").MultiHeadedAttention(draw.N, draw.M, dropout=0.0, attn_type="context").double()
        named = (layer.linear_query, layer.linear_keys, layer.linear_values, layer.final_linear)
        for linear, weight in zip(named, _four(ours), strict=True):
            give(linear.weight, weight)
        padding = ~draw.mask.unsqueeze(1).unsqueeze(1)
        context, heads = layer(states, states, query, mask=padding, return_attn=True)
        return {"weights of each head": heads.transpose(1, 2), "context": context}

    return _whole_heads(draw, apply)


class _Sentences:
    """Copying as their CopyGenerator wants it and as our PointerGenerator does, of the same random source words."""

    def __init__(self, draw: Draw, steps: int) -> None:
        self.V, self.steps, self.draw = draw.integer(8, 12), steps, draw
        # words 0 and 1 are <unk> and padding; the target vocabulary has the words below V
        words = torch.randint(2, self.V + 4, (draw.B, draw.S), generator=draw.generator)
        self.rows = [row[:length].tolist() for row, length in zip(words, draw.lengths.tolist(), strict=True)]
        self.extended = [[0, 1, *dict.fromkeys(row)] for row in self.rows]
        width = max(map(len, self.extended))
        self.src_map = torch.zeros(draw.B, draw.S, width, dtype=torch.float64)
        # junk on padding: copies of a word that the sentence may have
        self.copies = torch.full((draw.B, draw.S), 2)
        for b, row in enumerate(self.rows):
            for j, word in enumerate(row):
                self.src_map[b, j, self.extended[b].index(word)] = 1.0
                self.copies[b, j] = word if word < self.V else self.V + row.index(word)

    def columns(self, b: int) -> tuple[list[int], list[int]]:
        """Return the ids of all words of the vocabulary and of the sentence, theirs and ours."""
        rare = [word for word in self.extended[b][2:] if word >= self.V]
        known = list(range(self.V))
        own = [self.V + self.rows[b].index(word) for word in rare]
        return known + [self.V + self.extended[b].index(word) for word in rare], known + own

    def collapsed(self, scores: Tensor) -> Tensor:
        """Return their scores [B, T, V + words] with copies added to the words of the vocabulary, by their function."""
        vocabulary = _Vocabulary((str(word), word) for word in range(self.V))
        tokens = [_Tokens([str(word) for word in words]) for words in self.extended]
        collapse = theirs("onmt.modules.copy_generator").collapse_copy_scores
        return collapse(scores.clone(), {"src_ex_vocab": tokens}, vocabulary, batch_dim=0)


class _Vocabulary(dict[str, int]):
    """Words and their ids, 0 for those that it lacks."""

    def __missing__(self, word: str) -> int:
        return 0


class _Tokens:
    """The words of one sentence by their ids in it."""

    def __init__(self, tokens: list[str]) -> None:
        self.ids_to_tokens = tokens

    def __len__(self) -> int:
        return len(self.ids_to_tokens)


def _copying(draw: Draw, steps: int) -> Both:
    """Compare the distributions [B, T, .] of copying, and the loss of random targets of which half are copies."""
    text, module = _Sentences(draw, steps), theirs("onmt.modules.copy_generator")
    size = draw.M + draw.H + 3
    context, state, embedded = (draw.numbers(draw.B, steps, each) for each in (draw.M, draw.H, 3))
    hidden = torch.cat([context, state, embedded], -1)
    weights = draw.numbers(draw.B, steps, draw.S).masked_fill(~draw.mask.unsqueeze(1), -torch.inf).softmax(-1)
    layer = draw.randomised(module.CopyGenerator(size, text.V, 1))
    # theirs computes 1 - sigmoid(x), which has no digits left for large x; ours takes logarithms
    give(layer.linear_copy.weight, layer.linear_copy.weight / size**0.5)
    ours, output = PointerGenerator(draw.H, 3, draw.M, text.V, 0).double(), OutputLayer(size, text.V, tied=None)
    give(output.weight, layer.linear.weight)
    give(output.bias, layer.linear.bias.masked_fill(torch.arange(text.V) == 1, -torch.inf))
    # their gate is the probability of copying, ours that of generating
    give(ours.gate.weight, -layer.linear_copy.weight)
    give(ours.gate.bias, -layer.linear_copy.bias)
    # as their loss calls it: hidden sentence by sentence, the weights step by step
    found = layer(hidden.flatten(0, 1), weights.transpose(0, 1).flatten(0, 1), text.src_map)
    collapsed = text.collapsed(found.unflatten(0, (draw.B, steps)))
    decoded = Decoded(hidden, state, embedded, Attended(context, weights), None)  # pyright: ignore
    own = ours.log_probs(decoded, output.prepare(), text.copies).exp()
    one, other = {}, {}
    for b in range(draw.B):
        columns = text.columns(b)
        one[f"P, sentence {b}"], other[f"P, sentence {b}"] = collapsed[b][:, columns[0]], own[b][:, columns[1]]
    target, align, ids = _targets(text)
    # without the 1e-20 that theirs adds to every probability
    criterion = module.CopyGeneratorLoss(text.V, force_copy=False, unk_index=0, ignore_index=1, eps=0.0)
    one["nll"] = criterion(found, align.flatten(), target.flatten())
    real = torch.ones_like(ids, dtype=torch.bool)
    other["nll"] = ours.losses(decoded, output, ids, real, label_smoothing=0.0, copies=text.copies).nll
    return Both(one, other)


def _targets(text: _Sentences) -> tuple[Tensor, Tensor, Tensor]:
    """Return [B, T]: their target ids (unknown where only the source has the word), their alignment, our ids."""
    target, align, ids = (torch.zeros(text.draw.B, text.steps, dtype=torch.long) for _ in range(3))
    for b, row in enumerate(text.rows):
        for t in range(text.steps):
            word = row[text.draw.integer(0, len(row) - 1)] if t % 2 == 0 else text.draw.integer(2, text.V - 1)
            target[b, t] = word if word < text.V else 0
            align[b, t] = text.extended[b].index(word) if word in row else 0
            ids[b, t] = word if word < text.V else text.V + row.index(word)
    return target, align, ids


_COPYING = "prediction pointer_generator, loss without smoothing"


@pair("OpenNMT-py", "CopyGenerator, CopyGeneratorLoss, collapse_copy_scores: one step a call", _COPYING)
def _(draw: Draw) -> Both:
    return _copying(draw, 1)


@pair("OpenNMT-py", "CopyGenerator, CopyGeneratorLoss, collapse_copy_scores: one sentence a call", _COPYING)
def _(draw: Draw) -> Both:
    draw.B, draw.lengths = 1, draw.lengths[:1].fill_(draw.S)
    return _copying(draw, 5)


@pair(
    "OpenNMT-py",
    "CopyGenerator as its training calls it: several sentences of several steps",
    _COPYING,
    differs="their hidden rows come sentence by sentence, their attention rows step by step, and p_copy of the former "
    "multiplies the latter: a gate of another step and sentence (translation, one step a call, is not affected)",
)
def _(draw: Draw) -> Both:
    return _copying(draw, 3)


# JoeyNMT


def _joey(draw: Draw, layer: Any, score: Score) -> Both:
    query, states = draw.inputs(draw.H, draw.M)
    source = draw.encoded(states)
    attended = attend(single(score, draw.H, draw.M), query, source)
    layer.compute_proj_keys(states)
    steps = [layer(asked, draw.mask.unsqueeze(1), states) for asked in query.split(1, dim=1)]
    context, weights = (torch.cat([step[i] for step in steps], 1) for i in (0, 1))
    return Both(
        {"weights": weights, "context": context},
        {"weights": attended.weights, "context": attended.context},
        (query, states),
    )


@pair("joeynmt", "LuongAttention", "luong_general")
def _(draw: Draw) -> Both:
    layer = draw.randomised(theirs("joeynmt.attention").LuongAttention(draw.H, draw.M))
    return _joey(draw, layer, general(layer.key_layer.weight))


@pair("joeynmt", "BahdanauAttention", "score additive")
def _(draw: Draw) -> Both:
    layer = draw.randomised(theirs("joeynmt.attention").BahdanauAttention(draw.integer(1, 9), draw.M, draw.H))
    return _joey(draw, layer, additive(layer.energy_layer.weight[0], layer.query_layer.weight, layer.key_layer.weight))


def _heads_joey(draw: Draw, *, biased: bool) -> Both:
    def apply(ours: MultiHeadAttention, query: Tensor, states: Tensor) -> Values:
        module = theirs("joeynmt.transformer_layers")
        layer = draw.randomised(module.MultiHeadedAttention(draw.N, draw.M, dropout=0.0))
        linears = (layer.q_layer, layer.k_layer, layer.v_layer, layer.output_layer)
        for linear, weight in zip(linears, _four(ours), strict=True):
            give(linear.weight, weight)
        if not biased:
            zero(*(linear.bias for linear in linears))
        context, weights = layer(states, states, query, draw.mask.unsqueeze(1), return_weights=True)
        return {"weights": weights, "context": context}

    return _whole_heads(draw, apply)


@pair("joeynmt", "MultiHeadedAttention, its biases 0", "attention/form multi_head, scaled_dot")
def _(draw: Draw) -> Both:
    return _heads_joey(draw, biased=False)


_BIASES = "theirs has biases in all four projections; ours none, as in Vaswani et al.'s formula and code"


@pair("joeynmt", "MultiHeadedAttention", "attention/form multi_head, scaled_dot", differs=_BIASES)
def _(draw: Draw) -> Both:
    return _heads_joey(draw, biased=True)


# torch


def _heads_torch(draw: Draw, *, biased: bool) -> Both:
    def apply(ours: MultiHeadAttention, query: Tensor, states: Tensor) -> Values:
        layer = draw.randomised(nn.MultiheadAttention(draw.M, draw.N, bias=biased, batch_first=True))
        *projections, output = _four(ours)
        give(layer.in_proj_weight, torch.cat(projections))
        give(layer.out_proj.weight, output)
        context, heads = layer(query, states, states, key_padding_mask=~draw.mask, average_attn_weights=False)
        return {"weights of each head": heads.transpose(1, 2), "weights": heads.mean(1), "context": context}

    return _whole_heads(draw, apply)


@pair("torch", "nn.MultiheadAttention(bias=False)", "attention/form multi_head, scaled_dot")
def _(draw: Draw) -> Both:
    return _heads_torch(draw, biased=False)


@pair("torch", "nn.MultiheadAttention", "attention/form multi_head, scaled_dot", differs=_BIASES)
def _(draw: Draw) -> Both:
    return _heads_torch(draw, biased=True)


@pair("torch", "nn.functional.scaled_dot_product_attention", "scaled_dot")
def _(draw: Draw) -> Both:
    query, states = draw.inputs(draw.M, draw.M)
    source = draw.encoded(states)
    context = functional.scaled_dot_product_attention(query, states, states, attn_mask=draw.mask.unsqueeze(1))
    ours = attend(single(DotScore(draw.M, draw.M, scaled=True), draw.M, draw.M), query, source)
    return Both({"context": context}, {"context": ours.context}, (query, states))


def _encoders(draw: Draw, layers: Callable[[Any, Tensor], Tensor]) -> Both:
    """Compare encoders of two layers on real positions; theirs has our words, positions and last norm."""
    ours = SelfAttentionEncoder(
        draw.H, hidden_size=draw.M // 2, layers=2, heads=draw.N, feed_forward_size=draw.integer(1, 9), dropout=0.0
    )
    ours = draw.randomised(ours)
    words = draw.numbers(draw.B, draw.S, draw.H)
    found = layers(ours, ours.input(words) + sinusoids(draw.S, draw.M, words))
    real = draw.mask.unsqueeze(-1)
    states = ours(words, draw.lengths).states
    return Both({"annotations": found * real}, {"annotations": states}, (words,))


def _copy_norm(norm: Any, ours: Any) -> None:
    give(norm.weight, ours.weight)
    give(norm.bias, ours.bias)
    # 1e-5 is ours and torch's; OpenNMT-py and JoeyNMT have 1e-6
    norm.eps = ours.eps


def _copy_linear(linear: Any, ours: Any) -> None:
    give(linear.weight, ours.weight)
    give(linear.bias, ours.bias)


def _layers_torch(draw: Draw, *, biased: bool, norm_first: bool) -> Both:
    def layers(ours: Any, states: Tensor) -> Tensor:
        for own in ours.layers:
            made = nn.TransformerEncoderLayer(
                draw.M, draw.N, len(own.inner.weight), dropout=0.0, batch_first=True, norm_first=norm_first
            )
            layer = draw.randomised(made)
            give(layer.self_attn.in_proj_weight, own.attention.project.weight)
            give(layer.self_attn.out_proj.weight, own.attention.output.weight)
            if not biased:
                zero(layer.self_attn.in_proj_bias, layer.self_attn.out_proj.bias)
            _copy_norm(layer.norm1, own.attention_norm)
            _copy_norm(layer.norm2, own.inner_norm)
            _copy_linear(layer.linear1, own.inner)
            _copy_linear(layer.linear2, own.outer)
            states = layer(states, src_key_padding_mask=~draw.mask)
        return ours.norm(states)

    return _encoders(draw, layers)


@pair("torch", "nn.TransformerEncoderLayer(norm_first=True), its attention's biases 0", "encoder self_attention")
def _(draw: Draw) -> Both:
    return _layers_torch(draw, biased=False, norm_first=True)


@pair("torch", "nn.TransformerEncoderLayer(norm_first=True)", "encoder self_attention", differs=_BIASES)
def _(draw: Draw) -> Both:
    return _layers_torch(draw, biased=True, norm_first=True)


@pair(
    "torch",
    "nn.TransformerEncoderLayer(norm_first=False), its attention's biases 0",
    "encoder self_attention",
    differs="the norms follow the sums in theirs (and in the paper), in ours they come before the parts",
)
def _(draw: Draw) -> Both:
    return _layers_torch(draw, biased=False, norm_first=False)


@pair("OpenNMT-py", "TransformerEncoderLayer, eps of its norms 1e-5", "encoder self_attention", tolerance=FLOAT32)
def _(draw: Draw) -> Both:
    def layers(ours: Any, states: Tensor) -> Tensor:
        kind = theirs("onmt.encoders.transformer").TransformerEncoderLayer
        padding = ~draw.mask.unsqueeze(1).unsqueeze(1).expand(-1, -1, draw.S, -1)
        for own in ours.layers:
            layer = draw.randomised(kind(draw.M, draw.N, len(own.inner.weight), 0.0, 0.0))
            attention, network = layer.self_attn, layer.feed_forward
            projections = own.attention.project.weight.chunk(3)
            linears = (attention.linear_query, attention.linear_keys, attention.linear_values)
            for linear, weight in zip(linears, projections, strict=True):
                give(linear.weight, weight)
            give(attention.final_linear.weight, own.attention.output.weight)
            _copy_norm(layer.layer_norm, own.attention_norm)
            _copy_norm(network.layer_norm, own.inner_norm)
            _copy_linear(network.w_1, own.inner)
            _copy_linear(network.w_2, own.outer)
            states = layer(states, padding)
        return ours.norm(states)

    return _encoders(draw, layers)


@pair("joeynmt", "TransformerEncoderLayer(pre), its attention's biases 0, eps 1e-5", "encoder self_attention")
def _(draw: Draw) -> Both:
    def layers(ours: Any, states: Tensor) -> Tensor:
        kind = theirs("joeynmt.transformer_layers").TransformerEncoderLayer
        for own in ours.layers:
            layer = draw.randomised(kind(draw.M, len(own.inner.weight), draw.N, dropout=0.0, layer_norm="pre"))
            attention, network = layer.src_src_att, layer.feed_forward
            linears = (attention.q_layer, attention.k_layer, attention.v_layer, attention.output_layer)
            projections = own.attention.project.weight.chunk(3)
            for linear, weight in zip(linears, (*projections, own.attention.output.weight), strict=True):
                give(linear.weight, weight)
                zero(linear.bias)
            _copy_norm(layer.layer_norm, own.attention_norm)
            _copy_norm(network.layer_norm, own.inner_norm)
            _copy_linear(network.pwff_layer[0], own.inner)
            _copy_linear(network.pwff_layer[3], own.outer)
            states = layer(states, draw.mask.unsqueeze(1))
        return ours.norm(states)

    return _encoders(draw, layers)


@pair("joeynmt", "PositionalEncoding", "sinusoids of encoder self_attention", tolerance=FLOAT32)
def _(draw: Draw) -> Both:
    words = draw.numbers(draw.B, draw.S, draw.M)
    table = theirs("joeynmt.transformer_layers").PositionalEncoding(draw.M)
    return Both({"sum": table(words)}, {"sum": words + sinusoids(draw.S, draw.M, words)})


@pair("OpenNMT-py", "PositionalEncoding", "sinusoids of encoder self_attention", tolerance=FLOAT32)
def _(draw: Draw) -> Both:
    words = draw.numbers(draw.B, draw.S, draw.M)
    table = theirs("onmt.modules.embeddings").PositionalEncoding(draw.M, "SinusoidalInterleaved")
    # theirs multiplies the words by sqrt(D) here, ours in the first values of W_in
    return Both({"sum": table(words)}, {"sum": words * draw.M**0.5 + sinusoids(draw.S, draw.M, words)})


# entmax


def _sparse(draw: Draw, alignment: Alignment, function: Callable[[Tensor], Tensor]) -> Both:
    """Compare weights of padded scores with those of each sentence alone."""
    query, states = draw.inputs(draw.M, draw.M)
    ours = single(DotScore(draw.M, draw.M), draw.M, draw.M, alignment=alignment)
    attended = attend(ours, query, draw.encoded(states))
    rows = []
    for b, length in enumerate(draw.lengths.tolist()):
        found = function(query[b] @ states[b, :length].t())
        rows.append(functional.pad(found, (0, draw.S - length)))
    return Both({"weights": torch.stack(rows)}, {"weights": attended.weights}, (query, states))


@pair("entmax", "sparsemax, each sentence alone", "alignment sparsemax")
def _(draw: Draw) -> Both:
    return _sparse(draw, Sparsemax(), lambda given: theirs("entmax").sparsemax(given, dim=-1))


@pair("entmax", "entmax15, each sentence alone", "alignment entmax15")
def _(draw: Draw) -> Both:
    return _sparse(draw, Entmax15(), lambda given: theirs("entmax").entmax15(given, dim=-1))


@pair("entmax", "sparsemax_bisect, each sentence alone", "alignment sparsemax")
def _(draw: Draw) -> Both:
    return _sparse(draw, Sparsemax(), lambda given: theirs("entmax").sparsemax_bisect(given, dim=-1, n_iter=60))


@pair("entmax", "entmax_bisect(alpha=1.5), each sentence alone", "alignment entmax15")
def _(draw: Draw) -> Both:
    def bisected(given: Tensor) -> Tensor:
        return theirs("entmax").entmax_bisect(given, alpha=1.5, dim=-1, n_iter=60)

    return _sparse(draw, Entmax15(), bisected)


# allennlp-light


def _allen(draw: Draw, name: str, sizes: tuple[int, int], ours: Callable[[Any], Score], *given: Any) -> Both:
    """Compare padded weights with theirs of each sentence alone; of their masks see the last of these pairs."""
    layer = draw.randomised(getattr(theirs("allennlp_light.modules.attention"), name)(*given))
    query, states = draw.inputs(*sizes)
    attended = attend(single(ours(layer), *sizes), query, draw.encoded(states))
    rows = []
    for b, length in enumerate(draw.lengths.tolist()):
        found = layer(query[b], states[b, :length].expand(draw.Q, -1, -1))
        rows.append(functional.pad(found, (0, draw.S - length)))
    return Both({"weights": torch.stack(rows)}, {"weights": attended.weights}, (query, states))


@pair("allennlp-light", "AdditiveAttention", "score additive, attention_size H")
def _(draw: Draw) -> Both:
    def ours(layer: Any) -> Score:
        return additive(layer._v_vector[:, 0], layer._w_matrix.t(), layer._u_matrix.t())

    return _allen(draw, "AdditiveAttention", (draw.H, draw.M), ours, draw.H, draw.M)


@pair("allennlp-light", "BilinearAttention (its bias is one for all positions)", "luong_general")
def _(draw: Draw) -> Both:
    return _allen(
        draw, "BilinearAttention", (draw.H, draw.M), lambda layer: general(layer._weight_matrix), draw.H, draw.M
    )


@pair("allennlp-light", "DotProductAttention", "luong_dot")
def _(draw: Draw) -> Both:
    return _allen(draw, "DotProductAttention", (draw.M, draw.M), lambda _: DotScore(draw.M, draw.M))


@pair("allennlp-light", "ScaledDotProductAttention", "scaled_dot")
def _(draw: Draw) -> Both:
    return _allen(draw, "ScaledDotProductAttention", (draw.M, draw.M), lambda _: DotScore(draw.M, draw.M, scaled=True))


@pair("allennlp-light", "CosineAttention", "cosine with strength=1")
def _(draw: Draw) -> Both:
    return _allen(draw, "CosineAttention", (draw.M, draw.M), lambda _: CosineScore(draw.M, draw.M, strength=1.0))


@pair("allennlp-light", 'LinearAttention(combination="x,y") (its bias is one for all positions)', "concat_linear")
def _(draw: Draw) -> Both:
    # of a single position it loses the axis, and its softmax runs over the sentences
    draw.lengths = draw.lengths.clamp_min(2)

    def ours(layer: Any) -> Score:
        score = ConcatLinearScore(draw.H, draw.M)
        give(score.vector.weight, layer._weight_vector.unsqueeze(0))
        return score

    return _allen(draw, "LinearAttention", (draw.H, draw.M), ours, draw.H, draw.M)


@pair(
    "allennlp-light",
    "DotProductAttention with a mask, scores about -100",
    "luong_dot",
    differs="theirs puts 0, not minus infinity, in place of a masked score, then divides by the sum of the rest plus "
    "1e-13: where all real scores are far below 0, the weights vanish with them",
)
def _(draw: Draw) -> Both:
    layer = theirs("allennlp_light.modules.attention").DotProductAttention()
    query, states = (each.detach() for each in draw.inputs(draw.M, draw.M))
    draw.lengths[0] = draw.S - 1
    query, states = (
        torch.cat([query, torch.full_like(query[..., :1], -100.0)], -1),
        functional.pad(states, (0, 1), value=1.0),
    )
    size = draw.M + 1
    attended = attend(single(DotScore(size, size), size, size), query, draw.encoded(states))
    weights = torch.stack([layer(asked, states, draw.mask) for asked in query.unbind(1)], 1)
    return Both({"weights": weights}, {"weights": attended.weights})


# pytorch-nlp


def _torchnlp(draw: Draw, kind: str, *, reads_projected: bool) -> Both:
    # it knows no padding
    draw.lengths = draw.lengths.new_full((draw.B,), draw.S)
    layer = draw.randomised(theirs("torchnlp.nn.attention").Attention(draw.M, kind))
    query, states = draw.inputs(draw.M, draw.M)
    score = general(layer.linear_in.weight.t()) if kind == "general" else DotScore(draw.M, draw.M)
    attended = attend(single(score, draw.M, draw.M), query, draw.encoded(states))
    read, weights = layer(query, states)
    state = layer.linear_in(query) if reads_projected else query
    return Both(
        {"weights": weights, "readout": read},
        {"weights": attended.weights, "readout": readout(layer.linear_out.weight, attended, state)},
        (query, states),
    )


@pair("pytorch-nlp", "Attention dot, without padding", "luong_dot, readout attentional")
def _(draw: Draw) -> Both:
    return _torchnlp(draw, "dot", reads_projected=False)


@pair("pytorch-nlp", "Attention general, without padding", "luong_general, readout attentional of W_a h_t")
def _(draw: Draw) -> Both:
    return _torchnlp(draw, "general", reads_projected=True)


@pair(
    "pytorch-nlp",
    "Attention general, without padding",
    "luong_general, readout attentional",
    differs="theirs reads tanh(W_c [c_t; W_a h_t]): the query stays projected; Luong et al.'s eq. 5 and ours have h_t",
)
def _(draw: Draw) -> Both:
    return _torchnlp(draw, "general", reads_projected=False)


# x-transformers


@pair(
    "x-transformers",
    "Attention with a context",
    "attention/form multi_head, scaled_dot, any head_size",
    tolerance=FLOAT32,
)
def _(draw: Draw) -> Both:
    size = draw.integer(1, 5)
    ours = multi_head(draw, draw.H, draw.M, draw.N, size)
    made = theirs("x_transformers.x_transformers").Attention(
        draw.H, dim_context=draw.M, dim_out=draw.M, heads=draw.N, dim_head=size, project_out=True
    )
    layer = made.double()
    for linear, weight in zip((layer.to_q, layer.to_k, layer.to_v, layer.to_out), _four(ours), strict=True):
        give(linear.weight, weight)
    query, states = draw.inputs(draw.H, draw.M)
    attended = attend(ours, query, draw.encoded(states))
    context, notes = layer(query, context=states, context_mask=draw.mask, return_intermediates=True)
    return Both(
        {"weights of each head": notes.post_softmax_attn.transpose(1, 2), "context": context},
        {"weights of each head": attended.heads, "context": attended.context},  # pyright: ignore
        (query, states),
    )


# report


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
        assert both.theirs.keys() == both.ours.keys(), f"{compared.layer}: {both.theirs.keys()} and {both.ours.keys()}"
        names = tuple(dict.fromkeys(name.partition(", sentence")[0] for name in both.ours))
        for name, value in both.theirs.items():
            values = max(values, difference(value, both.ours[name]))
        if both.inputs:
            apart = map(difference, derivatives(both.theirs, both.inputs), derivatives(both.ours, both.inputs))
            gradients = max(gradients or 0.0, *apart)
    return Found(values, gradients, names)


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, divided by our largest number if above 1; infinite where one is no number."""
    assert one.shape == other.shape, f"shapes {tuple(one.shape)} and {tuple(other.shape)}"
    apart = torch.where(one == other, 0.0, (one.double() - other.double()).abs().nan_to_num(torch.inf))
    return (apart.max() / other.abs().max().clamp_min(1.0)).item()


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
    gradients = "" if found.gradients is None or compared.differs else f", gradients {found.gradients:.1e}"
    what = f"{compared.package} {compared.layer} | {compared.ours} | {'; '.join(found.names)}"
    return f"{word:8} {found.values:.1e}{gradients} | {what}" + (f" | {compared.differs}" if compared.differs else "")


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence what the other packages warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    chosen = [each for each in PAIRS if args.only in f"{each.package} {each.layer} | {each.ours}"]
    if not chosen:
        parser.error(f"no pair has {args.only!r} in its name")
    packages = dict.fromkeys(each.package for each in PAIRS)
    print("versions: " + ", ".join(f"{package} {version(package)}" for package in packages))
    failed, skipped = 0, 0
    for each in chosen:
        try:
            with without_warnings():
                found = measure(each, args.draws)
        except NotInstalledError as error:
            skipped += 1
            print(f"SKIPPED  {each.package} {each.layer} | {each.ours} | cannot be imported here: {error}")
            continue
        expected, word = judge(each, found)
        failed += not expected
        print(line(each, found, word))
    done = len(chosen) - skipped
    print(f"{done} of {len(chosen)} pairs compared, {failed} not as expected, {skipped} SKIPPED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
