"""What a run's attention is called."""

import shutil

import pytest
from composed import CONFIGS, composed, options

from nmt.cli import naming
from nmt.cli.naming import attention_name

BAHDANAU = {
    "attention": "bahdanau",
    "attention/score": "additive",
    "attention/alignment": "softmax",
    "attention/context": "weighted_mean",
    "attention/wiring": "attend_then_update",
    "attention/readout": "maxout",
    "attention/bridge": "backward_first",
}


def named(choices, *overrides):
    config = composed(*overrides)
    config.choices = choices
    return attention_name(config)


def test_a_preset_as_it_is():
    assert named(BAHDANAU, "attention=bahdanau") == "bahdanau"


def test_parts_chosen_otherwise_are_named():
    choices = {**BAHDANAU, "attention/score": "dot", "attention/bridge": "final"}
    assert named(choices, "attention=bahdanau") == "bahdanau, score=dot, bridge=final"


@pytest.mark.parametrize("preset", options("attention"))
def test_choices_that_are_not_recorded_are_the_presets(preset):
    assert named({"attention": preset, "encoder": "rnn"}, f"attention={preset}") == preset


def test_no_input_feeding():
    off = "attention=luong_dot", "attention.wiring.input_feeding=false"
    assert named({"attention": "luong_dot"}, *off) == "luong_dot, no input feeding"


def test_coverage():
    assert named({"attention": "luong_dot"}, "attention.coverage=true") == "luong_dot, coverage"


def test_a_preset_without_its_file():
    assert named({"attention": "mine", "attention/score": "dot"}) == "mine"
    assert named({}) == ""


def test_presets_without_all_parts(tmp_path, monkeypatch):
    shutil.copytree(CONFIGS / "attention", tmp_path / "attention")
    inheriting = "defaults:\n  - luong_dot\n  - override score: cosine\n  - _self_\n"
    (tmp_path / "attention" / "mine.yaml").write_text(inheriting)
    (tmp_path / "attention" / "bare.yaml").write_text("score: {}\n")
    monkeypatch.setattr(naming, "config_folder", lambda: tmp_path)
    assert named({"attention": "mine", "attention/score": "cosine", "attention/bridge": "zero"}) == "mine"
    assert named({"attention": "mine", "attention/score": "dot"}) == "mine, score=dot"
    assert named({"attention": "bare", "attention/score": "dot"}) == "bare"
