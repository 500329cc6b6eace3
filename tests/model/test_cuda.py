"""On a CUDA device every variant computes what it computes on the CPU."""

from copy import deepcopy
from string import ascii_letters

import numpy as np
import pytest
import torch
from composed import composed
from toys import (
    CASES,
    SEPARATOR,
    SOURCE_SIZE,
    TARGET_SIZE,
    assert_same,
    batch_for,
    gradients,
    ids,
    label,
    padded,
    randomised,
    toy_model,
)

from nmt.assemble import build_model
from nmt.data import WordTrainer
from nmt.data.batches import EncodedPairs
from nmt.data.vocabulary import SPECIAL_PIECES
from nmt.evaluation import translate_lines
from nmt.model import Rounding, arithmetic
from nmt.search import SearchOptions

pytestmark = pytest.mark.gpu

# each variant once, whatever its cell
ONCE = list({variant: (variant, cell) for variant, cell in CASES}.values())
LINES = ["f h", "", "i", "g a d c e", "b b k", "m l k j i h g f e d a c b"]

every_variant = pytest.mark.parametrize(
    ("variant", "cell"), ONCE, ids=[f"{label(variant)}-{cell}" for variant, cell in ONCE]
)
# what rounding leaves of the results of a few steps
in_both_types = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)], ids=str)


def on_cpu(tensors):
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def direction(tensors):
    """All numbers of a dictionary of gradients, the losses apart."""
    return torch.cat([tensors[name].flatten() for name in sorted(tensors.keys() - {"loss", "nll"})])


def in_arithmetic(model, batch, **options):
    """Losses and gradients, on the CPU."""
    with arithmetic(**options):
        return on_cpu(gradients(model, batch))


@in_both_types
@every_variant
def test_loss_and_gradients_are_those_of_the_cpu(cuda, variant, cell, dtype, tolerance):
    model = toy_model(*variant, cell=cell).to(dtype)
    batch = batch_for(model)
    expected = gradients(model, batch)
    # sentences of unequal lengths, and padding behind the longest
    more = padded(batch, source=3, target=2, filling=SEPARATOR).to(cuda)
    found = gradients(deepcopy(model).to(cuda), more)
    assert {tensor.device.type for tensor in found.values()} == {cuda.type}
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    assert_same(on_cpu(found), expected, tolerance)


@in_both_types
@every_variant
def test_fast_arithmetic_is_plain_arithmetic(cuda, variant, cell, dtype, tolerance):
    model = toy_model(*variant, cell=cell).to(cuda).to(dtype)
    batch = batch_for(model).to(cuda)
    expected = in_arithmetic(model, batch, fast=False)
    assert_same(in_arithmetic(model, batch, fast=True), expected, tolerance)


@pytest.mark.parametrize("fast", [True, False])
@every_variant
def test_bf16_is_close_to_float32(cuda, variant, cell, fast):
    model = randomised(toy_model(*variant, cell=cell), size=0.4).to(cuda).to(torch.float32)
    batch = batch_for(model).to(cuda)
    expected = on_cpu(gradients(model, batch))
    found = in_arithmetic(model, batch, rounding=Rounding.bf16, fast=fast)
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert 0 < abs(found["nll"] - expected["nll"]) / batch.target_tokens < 0.1
    assert torch.cosine_similarity(direction(found), direction(expected), dim=0) > 0.99


@pytest.mark.parametrize("attention", ["bahdanau", "luong_general"])
def test_sizes_in_use(cuda, attention):
    """A batch of the size that is trained with, in float32, is as near to float64 as rounding lets it be."""
    plain = ("embedding.dropout=0", "encoder.dropout=0", "decoder.dropout=0")
    config = composed("experiment=benchmark_a", f"attention={attention}", "data=synthetic", *plain)
    # not as training begins, where a gradient that should be large cancels
    model = randomised(build_model(config, source_size=2000, target_size=2000, joint=True), size=0.1)
    lengths = [(5 + 7 * number) % 29 for number in range(64)]
    sides = ids(*lengths, size=2000, seed=1), ids(*reversed(lengths), size=2000, seed=2)
    batch = EncodedPairs.from_lists(*sides).batch(np.arange(len(lengths)))
    expected = gradients(model, batch)
    found = on_cpu(gradients(deepcopy(model).to(cuda, torch.float32), batch.to(cuda)))
    for name, tensor in expected.items():
        assert (found[name] - tensor).norm() <= 1e-4 * tensor.norm(), name


@pytest.fixture(scope="module")
def tokenizers():
    """As many words as the toys have, a letter each."""
    trainer = WordTrainer(vocabulary_size=100, joint=False, minimum_count=1, split_punctuation=False)
    source, target = (" ".join(ascii_letters[: size - len(SPECIAL_PIECES)]) for size in (SOURCE_SIZE, TARGET_SIZE))
    pair = trainer.train([source], [target], cache=None)
    assert (pair.source.size, pair.target.size) == (SOURCE_SIZE, TARGET_SIZE)
    return pair


@pytest.mark.parametrize("beam", [1, 5])
@every_variant
def test_translations_are_those_of_the_cpu(cuda, tokenizers, variant, cell, beam):
    # in float64, since rounding decides between what is nearly as likely
    model = toy_model(*variant, cell=cell)
    options = SearchOptions(beam=beam, n_best=beam, min_length=3)
    expected, found = (
        translate_lines(each, tokenizers, LINES, options, batch_tokens=1000, device=device)
        for each, device in ((model, "cpu"), (deepcopy(model).to(cuda), cuda))
    )
    assert len({tuple(candidate.tokens) for line in expected for candidate in line.candidates}) > 2
    for one, other in zip(found, expected, strict=True):
        assert [candidate.tokens for candidate in one.candidates] == [
            candidate.tokens for candidate in other.candidates
        ]
        for candidate, right in zip(one.candidates, other.candidates, strict=True):
            assert candidate.score == pytest.approx(right.score, rel=1e-6)
            np.testing.assert_allclose(candidate.weights, right.weights, atol=1e-6)
