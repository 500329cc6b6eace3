"""What products are made in: decided by capability flags, never by the clock."""

import pytest
import torch
from composed import composed

from nmt import assemble
from nmt.assemble import ProductPrecision, resolve_precision
from nmt.config import Precision, SearchWeights
from nmt.errors import ConfigError
from nmt.model import Rounding
from nmt.model.products import current

CPU = torch.device("cpu")


def decide(precision="auto", weights="auto", device=CPU, *, fast=True):
    config = composed(f"training.fast={fast}")
    config.precision, config.search.weights = Precision(precision), SearchWeights(weights)
    return resolve_precision(config, device)


@pytest.fixture
def processor(monkeypatch):
    def put(*, amx=False, bf16=False, intel=False, vnni=False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
        monkeypatch.setattr(assemble, "is_intel", lambda: intel)
        monkeypatch.setattr(assemble, "multiplies_integers", lambda: vnni)

    return put


@pytest.mark.parametrize(
    ("flags", "rounding"),
    [
        ({"bf16": True}, Rounding.bf16),
        ({"bf16": True, "vnni": True}, Rounding.bf16),
        ({"bf16": True, "intel": True, "amx": True, "vnni": True}, Rounding.int8),
        # where there was no C compiler
        ({"bf16": True, "intel": True, "amx": True}, Rounding.bf16),
        # as virtual machines may show it: half as fast in bf16 as in float32
        ({"bf16": True, "intel": True}, Rounding.none),
        ({"bf16": True, "intel": True, "vnni": True}, Rounding.int8),
        ({"intel": True, "vnni": True}, Rounding.int8),
        ({}, Rounding.none),
    ],
    ids=str,
)
def test_auto_takes_what_is_fastest(processor, flags, rounding):
    processor(**flags)
    assert decide(weights="float") == ProductPrecision(rounding, search_int8=False)


@pytest.mark.parametrize("flags", [{}, {"bf16": True, "vnni": True}], ids=str)
def test_what_is_asked_for_is_taken(processor, flags):
    processor(**flags)
    assert decide("fp32") == ProductPrecision(Rounding.none, search_int8=False)
    assert decide("bf16") == ProductPrecision(Rounding.bf16, search_int8=False)


@pytest.mark.parametrize(
    ("precision", "weights", "int8"),
    [("auto", "auto", True), ("fp32", "auto", False), ("auto", "float", False), ("fp32", "int8", True)],
)
def test_search_takes_bytes_where_the_processor_multiplies_them(processor, precision, weights, int8):
    processor(vnni=True)
    assert decide(precision, weights).search_int8 == int8


def test_bytes_are_refused_where_nothing_multiplies_them(processor):
    processor()
    assert not decide().search_int8
    with pytest.raises(
        ConfigError, match=r"search\.weights=int8 .* not for this processor.*; accepted here: auto, float"
    ):
        decide(weights="int8")
    processor(vnni=True)
    with pytest.raises(ConfigError, match="not for device=cuda; accepted here: auto, float"):
        decide("fp32", "int8", torch.device("cuda"))


@pytest.mark.parametrize("rounding", [Rounding.int16, Rounding.int8])
def test_whole_numbers_are_taken_where_the_processor_multiplies_them(processor, rounding):
    name = rounding.value
    processor(vnni=True)
    assert decide(name) == ProductPrecision(rounding, search_int8=False)
    with pytest.raises(ConfigError, match=f"precision={name} .* not for device=cuda; accepted here: auto, fp32, bf16"):
        decide(name, device=torch.device("cuda"))
    processor()
    with pytest.raises(ConfigError, match=rf"precision={name} .* not for this processor.*; accepted here: auto, fp32"):
        decide(name)


@pytest.mark.parametrize("name", ["int16", "int8"])
def test_plain_arithmetic_has_no_whole_numbers(processor, name):
    processor(vnni=True)
    assert decide(fast=False) == ProductPrecision(Rounding.none, search_int8=True)
    with pytest.raises(ConfigError, match=rf"precision={name} .* training\.fast=false"):
        decide(name, fast=False)


def test_arithmetic_in_force():
    kept = {}
    with ProductPrecision(Rounding.bf16, search_int8=True).arithmetic(fast=False, prepared=kept):
        found = current()
        assert (found.rounding, found.search_int8, found.int8, found.fast) == (Rounding.bf16, True, False, False)
        assert current().prepared is kept
