"""Toy models of every variant in `configs/`, toy batches, and how tests compare them.

Sizes are distinct, so that swapped axes cannot pass: B = 3, S = 5, T = 6, E = 7, encoder 11 a direction, H = 13.
"""

from copy import deepcopy
from functools import cache

import numpy as np
import torch
from composed import CONFIGS, options
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from torch.nn import functional

from nmt.assemble import build_model
from nmt.config import Cell, from_omegaconf
from nmt.data.batches import Batch, EncodedPairs, FlatSequences
from nmt.data.vocabulary import EOS
from nmt.errors import ConfigError
from nmt.model.attention import (
    AttentionParts,
    GumbelSoftmax,
    NoCoverage,
    SampledAlignment,
    SharedAnnotations,
    SingleAttention,
)
from nmt.training.loss import batch_loss

CELLS = ["rnn", "gru", "lstm"]
# what draws random numbers in training mode, dropout apart
DRAWING = (GumbelSoftmax, SampledAlignment)
SOURCE_SIZE, TARGET_SIZE = 17, 19
# the source token between sentences; tests also put it on padding
SEPARATOR = 13
E, ENCODER, H = 7, 11, 13
TOY = (
    f"embedding.size={E}",
    f"encoder.hidden_size={ENCODER}",
    f"decoder.hidden_size={H}",
    "training.max_length=29",
    "embedding.dropout=0",
    "encoder.dropout=0",
    "decoder.dropout=0",
    "attention.coverage_loss=1",
)
_STACKED = ("encoder.layers=2", "decoder.layers=3", "encoder.residual=true", "decoder.residual=true")
_NORMED = ("encoder.layer_norm=true", "decoder.layer_norm=true")
_LOOK_BACK = ("decoder.self_attention=true", "decoder.hidden_size=12", "decoder.self_attention_heads=3")
# what an option needs beside it to make sense
_COMPANIONS = {
    "attention/alignment=none": ("attention/context=fixed", "attention/score=constant"),
    "attention/context=fixed": ("attention/alignment=none", "attention/score=constant"),
    "attention=multi_head": ("attention.form.heads=2",),
    "attention/form=multi_head": ("attention.form.heads=2",),
    "encoder=birnn_self_attention": ("encoder.heads=2",),
    "encoder=self_attention": ("encoder.heads=2",),
    # draw in all sentences, so that the baseline always learns
    "attention=hard_sample": ("attention.alignment.expectation=0",),
    "attention/alignment=sample": ("attention.alignment.expectation=0",),
    "attention=monotonic": ("attention.alignment.noise=0",),
    "attention/alignment=monotonic": ("attention.alignment.noise=0",),
}
_MORE = [
    ("attention=bahdanau", *_STACKED),
    ("attention=bahdanau", *_NORMED),
    ("attention=bahdanau", "attention.readout.state=new"),
    ("attention=luong_general", *_STACKED),
    ("attention=luong_general", *_NORMED, *_STACKED),
    ("attention=luong_general", "attention.wiring.input_feeding=false"),
    ("attention=luong_general", "attention.wiring.input_feeding=false", *_STACKED),
    ("attention=luong_general", "embedding.tie=two_way"),
    ("attention=luong_general", "embedding.tie=three_way"),
    ("attention=cosine", "attention.score.strength=2.3"),
    ("attention=local_m", "attention.alignment.window=1"),
    ("attention=local_m", "attention.alignment.window=1", "attention.wiring.input_feeding=false"),
    ("attention=bahdanau", "attention/alignment=local_m", "attention.alignment.window=1"),
    ("attention=local_p", "attention.alignment.window=1"),
    ("attention=local_p", "attention/score=additive", "attention.alignment.window=2"),
    ("attention=multi_head", "attention.form.heads=3", "attention.form.head_size=5"),
    ("attention=multi_head", "attention.form.heads=2", "attention.wiring.input_feeding=false"),
    ("attention=bahdanau", "attention/form=multi_head", "attention.form.heads=3", "attention.form.head_size=5"),
    ("attention=multi_head", "attention.form.heads=2", "attention.coverage=true"),
    ("attention=local_p", "attention/form=multi_head", "attention.form.heads=2", "attention.alignment.window=2"),
    ("attention=multi_head", "attention.form.heads=2", "attention/annotations=projected"),
    ("attention=bahdanau", "attention/form=hierarchical"),
    ("attention=bahdanau", "attention/form=hierarchical", "attention.coverage=true"),
    ("attention=luong_dot", "attention/form=hierarchical", "attention.wiring.input_feeding=false"),
    ("attention=hierarchical", "attention/annotations=projected", "attention.annotations.key_size=8"),
    ("attention=bahdanau", "attention.coverage=true"),
    ("attention=luong_general", "attention.coverage=true"),
    ("attention=luong_general", "attention.coverage=true", "attention.wiring.input_feeding=false"),
    ("attention=luong_dot", "attention.coverage=true"),
    ("attention=cosine", "attention.coverage=true"),
    ("attention=luong_location", "attention.coverage=true"),
    ("attention=local_m", "attention.coverage=true", "attention.alignment.window=1"),
    ("attention=monotonic", "attention.alignment.noise=0", "attention.coverage=true"),
    ("attention=monotonic", "attention.alignment.noise=0", "attention/score=location"),
    ("attention=hard", "attention.prediction.top_k=3"),
    ("attention=hard", "attention.wiring.input_feeding=false"),
    ("attention=pointer", "attention.coverage=true"),
    ("attention=pointer", "attention.wiring.input_feeding=false", "embedding.tie=two_way"),
    ("attention=bahdanau", "attention/prediction=pointer_generator"),
    ("attention=local_p", "attention/prediction=pointer_generator"),
    ("attention=multi_head", "attention.form.heads=2", "attention/prediction=pointer_generator"),
    ("attention=hard", "attention/readout=maxout", "attention/alignment=sparsemax", "attention.coverage=true"),
    ("attention=hard_sample", "attention.alignment.expectation=0", "attention.wiring.input_feeding=false"),
    ("attention=gumbel", "attention.coverage=true"),
    ("attention=sparsemax", "attention/score=additive"),
    ("attention=sparsemax", "attention/score=cosine"),
    ("attention=sparsemax", "attention/score=pooling", "attention.coverage=true"),
    ("attention=bahdanau", "attention/annotations=split", "attention/alignment=entmax15"),
    (
        "attention=luong_general",
        "attention/annotations=projected",
        "attention.annotations.key_size=8",
        "attention.annotations.value_size=10",
    ),
    ("attention=none", "encoder=self_attention", "encoder.heads=11", "encoder.layers=3", "encoder.feed_forward_size=9"),
    ("attention=bahdanau", "encoder=birnn_self_attention", "encoder.heads=1", *_STACKED),
    # fewer positions than the sentences have
    ("attention=key_value", "encoder=cnn", "encoder.layers=1", "encoder.kernel=5", "encoder.max_positions=3"),
    ("attention=luong_general", "decoder.self_attention=true"),
    ("attention=luong_general", "decoder.self_attention=true", "attention.wiring.input_feeding=false"),
    ("attention=luong_general", *_LOOK_BACK, *_STACKED),
    ("attention=luong_general", *_LOOK_BACK, "attention.wiring.input_feeding=false", *_STACKED),
    ("attention=bahdanau", *_LOOK_BACK),
    ("attention=bahdanau", *_LOOK_BACK, "attention.readout.state=new", *_STACKED),
    ("attention=monotonic", "attention.alignment.noise=0", "decoder.self_attention=true"),
]


def _variants():
    presets = (f"attention={name}" for name in options("attention"))
    yield from ((preset, *_COMPANIONS.get(preset, ())) for preset in presets)
    for folder in sorted(path.name for path in (CONFIGS / "attention").iterdir() if path.is_dir()):
        for name in options(f"attention/{folder}"):
            choice = f"attention/{folder}={name}"
            yield ("attention=luong_general", choice, *_COMPANIONS.get(choice, ()))
    encoders = (f"encoder={name}" for name in options("encoder"))
    yield from (("attention=luong_general", encoder, *_COMPANIONS.get(encoder, ())) for encoder in encoders)
    yield from _MORE


def _meaning(variant):
    """What a variant chooses: two presets and parts may say the same in other words."""
    chosen = dict(choice.split("=") for choice in variant)
    chosen = {"encoder": "birnn", **dict(_parts(chosen.pop("attention", "luong_general"))), **chosen}
    return str([(key, _content(key, chosen[key])) for key in sorted(chosen)])


def _parts(preset):
    """The groups and options that a preset lists."""
    return [
        (f"attention/{part}", name)
        for default in _content("attention", preset).defaults
        for part, name in default.items()
    ]


@cache
def _content(key, name):
    """What the file of an option says; of what has no file, the name itself."""
    path = CONFIGS / key / f"{name}.yaml"
    return OmegaConf.load(path) if path.exists() else name


VARIANTS = list({_meaning(variant): variant for variant in reversed(list(_variants()))}.values())[::-1]
# the presets of the two wirings, and the options of what cells are part of
_CELLULAR = ("attention=bahdanau", "attention=luong_general"), ("encoder", "decoder", "attention/bridge")


def _cells(number, variant):
    """All cells where a variant is about what they are part of; elsewhere they take turns."""
    presets, options = _CELLULAR
    all_of_them = (len(variant) == 1 and variant[0] in presets) or any(each.startswith(options) for each in variant)
    return CELLS if all_of_them else [CELLS[number % len(CELLS)]]


CASES = [(variant, cell) for number, variant in enumerate(VARIANTS) for cell in _cells(number, variant)]


def label(variant):
    """A short name of a variant, for pytest."""
    short = (each.replace("attention=luong_general", "").removeprefix("attention.") for each in variant)
    return ",".join(each for each in short if each) or "attention=luong_general"


def configuration(*overrides):
    """What Hydra composes of the toys' sizes and these overrides, several times as fast: every file is read once."""
    return deepcopy(_configuration(overrides))


@cache
def _configuration(overrides):
    node = deepcopy(_toy_node())
    groups = [override for override in overrides if (CONFIGS / f"{override.replace('=', '/')}.yaml").exists()]
    for group, name in (override.split("=") for override in groups):
        for part, option in _parts(name) if group == "attention" else [(group, name)]:
            OmegaConf.update(node, part.replace("/", "."), _content(part, option), merge=False)
    # again, as those of an encoder have just been replaced
    for override in (*TOY, *overrides):
        if override not in groups:
            OmegaConf.update(node, override.split("=")[0], _value(override))
    return from_omegaconf(node)


@cache
def _value(override):
    return OverridesParser.create().parse_override(override).value()


@cache
def _toy_node():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", ["run_dir=unused", *TOY])


def toy_model(*overrides, cell=None):
    """A model of that configuration in float64, all its parameters random; H is M where the parts ask for that.

    In training mode, but for those that draw at random there.
    """
    model = randomised(new_model(*overrides, cell=cell).double())
    return model.eval() if any(isinstance(module, DRAWING) for module in model.modules()) else model


def new_model(*overrides, cell=None):
    """The model as training begins with it."""
    config = configuration(*overrides)
    if cell is not None:
        config.encoder["cell"], config.decoder.cell = cell, Cell(cell)
    torch.manual_seed(7)
    return _built(config)


def _built(config):
    sizes = {"source_size": SOURCE_SIZE, "target_size": TARGET_SIZE, "joint": False, "separator": SEPARATOR}
    if config.embedding.tie.value == "three_way":
        sizes |= {"source_size": TARGET_SIZE, "joint": True}
    try:
        return build_model(config, **sizes)
    except ConfigError as error:
        if "of one size" not in str(error):
            raise
    config.decoder.hidden_size = ENCODER * (2 if config.encoder.get("bidirectional", True) else 1)
    return build_model(config, **sizes)


def randomised(module, seed=3, size=0.7):
    """The module, biases and gains random too, so that none of them can be forgotten or swapped."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) * 2 * size - size
    return module


def random(*shape, seed=0):
    """Random numbers of about 1."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def single_attention(score, alignment, context, coverage=None):
    """Attention of these parts."""
    parts = AttentionParts(
        annotations=SharedAnnotations,
        score=lambda *_: score,
        coverage=lambda *_: coverage or NoCoverage(),
        alignment=lambda *_: alignment,
        context=lambda *_: context,
    )
    return SingleAttention(parts, 1, 1)


def ids(*lengths, size, seed=0):
    """Lists of random tokens, specials apart."""
    generator = np.random.default_rng(seed)
    return [generator.integers(4, size, length).tolist() for length in lengths]


def toy_batch(source_lengths=(4, 0, 2), target_lengths=(1, 5, 3)):
    """A batch of lines of these lengths, EOS apart: one of them has nothing but its EOS.

    In a source of four tokens the second and third are separators: the sentence that the third ends has nothing else.
    """
    sources = ids(*source_lengths, size=SOURCE_SIZE, seed=1)
    for source in sources:
        if len(source) == 4:
            source[1:3] = [SEPARATOR] * 2
    targets = ids(*target_lengths, size=TARGET_SIZE, seed=2)
    pairs = EncodedPairs.from_lists(sources, targets)
    copies = FlatSequences.from_lists([copy_ids(source) for source in sources])
    return EncodedPairs(pairs.source, pairs.target, copies).batch(np.arange(len(sources)))


def batch_for(model, **lengths):
    """A toy batch with copies among its targets where the model copies, and no others where it can only copy."""
    batch = toy_batch(**lengths)
    return with_copied_targets(batch, every=2 if model.prediction.generates else 1) if model.copies else batch


def with_copied_targets(batch, every):
    """The batch with every so-manieth word of its targets taken from the source, or EOS where that has no word."""
    sides = [(batch.source, batch.source_lengths), (batch.target_out, batch.target_lengths)]
    sources, targets, copies = (
        [row[: length - 1] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
        for tokens, lengths in (*sides, (batch.copies, batch.source_lengths))
    )
    for target, copied in zip(targets, copies, strict=True):
        for t in range(every - 1, len(target), every):
            target[t] = copied[3 * t % len(copied)] if copied else EOS
    pairs = EncodedPairs(*map(FlatSequences.from_lists, (sources, targets, copies)))
    return pairs.batch(np.arange(len(sources)))


def copy_ids(source):
    """The target id of which each source token is a copy: the target vocabulary lacks the odd ones."""
    return [token if token % 2 == 0 else TARGET_SIZE + source.index(token) for token in source]


def padded(batch, source, target, filling):
    """The batch with more positions on both sides, and `filling` on all padding."""

    def fill(tokens, lengths, more):
        wider = functional.pad(tokens, (0, more))
        return torch.where(torch.arange(wider.shape[1]) < lengths.unsqueeze(1), wider, filling)

    return Batch(
        fill(batch.source, batch.source_lengths, source),
        batch.source_lengths,
        fill(batch.target_in, batch.target_lengths, target),
        fill(batch.target_out, batch.target_lengths, target),
        batch.target_lengths,
        batch.target_tokens,
        fill(batch.copies, batch.source_lengths, source),
    )


def rows(batch, indices):
    """Some sentences of the batch, in that order, as wide as they need."""
    picked = torch.as_tensor(indices)
    source_lengths, target_lengths = batch.source_lengths[picked], batch.target_lengths[picked]
    source, target = int(source_lengths.max()), int(target_lengths.max())
    return Batch(
        batch.source[picked, :source],
        source_lengths,
        batch.target_in[picked, :target],
        batch.target_out[picked, :target],
        target_lengths,
        int(target_lengths.sum()),
        batch.copies[picked, :source],
    )


def gradients(model, batch, label_smoothing=0.1):
    """The loss of a batch and every parameter's gradient."""
    model.zero_grad()
    loss = batch_loss(model, batch, label_smoothing)
    loss.loss.backward()
    parameters = model.named_parameters()
    found = {name: torch.zeros_like(each) if each.grad is None else each.grad for name, each in parameters}
    return {"loss": loss.loss.detach(), "nll": loss.nll, **found}


class close:  # noqa: N801 - as pytest.approx, which takes seconds for a thousand numbers
    """What equals these numbers up to rounding, as :func:`assert_same` has it."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, expected, tolerance=1e-9):
        self.expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
        self.tolerance = tolerance
        self.far = ""

    def __eq__(self, found):
        found = np.asarray(found)
        if found.shape != self.expected.shape:
            self.far = f"; not of shape {found.shape}"
            return False
        far = np.argwhere(~np.isclose(found, self.expected, rtol=self.tolerance, atol=self.tolerance))
        if len(far):
            place = tuple(map(int, far[0]))
            self.far = f"; {len(far)} are far, first {found[place]} at {place} from {self.expected[place]}"
        return not len(far)

    def __repr__(self):
        return f"close({np.array2string(self.expected, threshold=20)}, {self.tolerance}{self.far})"


def assert_same(one, other, tolerance=1e-9):
    """Compare two dictionaries of tensors."""
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance, err_msg=name)
