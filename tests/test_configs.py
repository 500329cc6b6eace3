"""Every option of every group in `configs/` composes, and what names a class of the model builds."""

import pytest
from composed import CONFIGS, composed, groups, options

from nmt.assemble import build_model
from nmt.component import component_class, constructor_parameters
from nmt.config import Cell, Config
from nmt.errors import ConfigError
from nmt.model import TranslationModel
from nmt.model.attention import GeneralScore
from nmt.model.decoder import AttendThenUpdate, MaxoutReadout, UpdateThenAttend

# what an option needs beside it
NEEDS = {
    "data/files": ("data.source=en", "data.target=de", "data.train=train"),
    "attention/alignment/none": ("attention/context=fixed", "attention/score=constant"),
    "attention/context/fixed": ("attention/alignment=none", "attention/score=constant"),
}
OPTIONS = [(group, name) for group in groups() for name in options(group)]
MODEL = [(group, name) for group, name in OPTIONS if group.split("/")[0] in ("attention", "encoder")]


def choose(group, name):
    return (f"{group}={name}", *NEEDS.get(f"{group}/{name}", ()))


def built(*overrides, joint=False, cell=None):
    """The model of `python train.py OVERRIDES`, all sizes as they come, but for the vocabularies."""
    config = composed(*overrides)
    if cell is not None:
        config.encoder["cell"], config.decoder.cell = cell, Cell(cell)
    return build_model(config, source_size=11, target_size=11 if joint else 13, joint=joint)


def test_the_groups_of_the_contract_are_there():
    assert {"attention", "encoder", "data", "tokenizer", "training", "search"} <= set(groups())


def test_the_attentions_of_the_contract_are_there():
    names = "none mean bahdanau luong_dot luong_general luong_concat luong_location scaled_dot cosine local_m local_p"
    assert set(names.split()) <= set(options("attention"))


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes(group, name):
    composed(*choose(group, name))


@pytest.mark.parametrize(("group", "name"), MODEL)
def test_every_part_of_the_model_builds(group, name):
    assert isinstance(built(*choose(group, name)), TranslationModel)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("attention", options("attention"))
def test_every_attention_builds_with_every_cell(attention, cell):
    assert built(f"attention={attention}", cell=cell).has_weights == (attention != "none")


def test_presets_choose_as_their_papers_do():
    bahdanau, luong = built("attention=bahdanau").decoder, built("attention=luong_dot").decoder
    assert isinstance(bahdanau, AttendThenUpdate) and isinstance(bahdanau.readout, MaxoutReadout)
    assert bahdanau.readout.reads_query
    assert isinstance(luong, UpdateThenAttend) and luong.input_feeding
    for name in options("attention"):
        decoder = built(f"attention={name}").decoder
        if name.startswith(("luong_", "local_")):
            assert isinstance(decoder, UpdateThenAttend) and decoder.input_feeding


def test_what_is_no_part_of_attention_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"attention\.cover is not an option; accepted: form, annotations, score, "):
        built("+attention.cover=true")


def test_one_part_can_be_exchanged():
    general = built("attention=bahdanau", "attention/score=general")
    assert isinstance(general.decoder.attention.score, GeneralScore)
    local = built("attention=local_p", "attention.alignment.window=3")
    assert local.decoder.attention.alignment.window == 3


COMPONENTS = [(group, name) for group, name in OPTIONS if group in ("data", "tokenizer", "encoder") or "/" in group]
# constructor arguments that are not for the user: sizes of other parts, and those parts
GIVEN = {
    *("query_size", "key_size", "hidden_size", "embedding_size", "context_size", "default_size", "backward_size"),
    *("target_size", "unknown", "source_size", "value_size", "source_parts", "layers", "parts", "readout", "attention"),
    "separator",
}


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_component_lists_its_options(group, name):
    """What can be overridden stands in the file, with its default: nothing is hidden in code."""
    node = composed(*choose(group, name))
    for key in group.split("/"):
        node = getattr(node, key) if isinstance(node, Config) else node[key]
    accepted = set(constructor_parameters(component_class(node, object, group)))
    listed = set(node) - {"_target_"}
    assert listed <= accepted
    assert accepted - listed <= GIVEN


IMPOSSIBLE = [
    (
        ("attention/score=dot", "decoder.hidden_size=11"),
        "attention/score=dot needs .* of one size, .* 11 and the encoder",
    ),
    (("attention/score=scaled_dot", "encoder.hidden_size=5"), "score=scaled_dot needs .* of one size, .* gives 10 "),
    (("attention/score=cosine", "encoder.bidirectional=false"), "attention/score=cosine needs .* of one size"),
    (("attention/context=fixed",), "context=fixed goes with alignment=none and with no other"),
    (("attention=multi_head", "attention.form.heads=3"), "heads=3 does not divide the encoder's 256 units"),
    (("attention=none", "attention/form=multi_head"), "form=multi_head reads a weighted mean .* take .*=weighted_mean"),
    (("attention=local_m", "attention/form=hierarchical"), "needs attention/alignment=softmax, but it is LocalMono"),
    (("attention=none", "attention/form=hierarchical"), "needs attention/alignment=softmax, but it is NoAlignment"),
    (("attention=hierarchical", "encoder=rnn", "encoder.hidden_size=7"), "needs encoder states of even size .* 7 unit"),
    (("attention/alignment=none",), "context=fixed goes with alignment=none and with no other"),
    (("attention=none", "attention/score=general"), "GeneralScore would never learn; take attention/score=constant"),
    (("attention=pointer_network", "embedding.tie=two_way"), "tie=two_way ties the output layer, but .* has none"),
    (("attention=none", "attention.coverage=true"), "attention.coverage=true sums weights, but .*none gives none"),
    (
        ("attention=key_value", "encoder.bidirectional=false", "encoder.hidden_size=5"),
        "annotations=split cuts .* their size is 5; take an even size or attention/annotations=projected",
    ),
    (("attention=bahdanau", "encoder.bidirectional=false"), "attention/bridge=backward_first needs a backward state"),
    (("embedding.tie=three_way",), "embedding.tie=three_way needs one vocabulary .* tokenizer.joint=true"),
    (("embedding.tie=two_way", "embedding.size=5", "attention.readout.size=7"), "two_way needs .*size=5 .* it is 7"),
    (("attention=bahdanau", "embedding.tie=two_way", "attention.readout.size=4"), "needs attention.readout.size="),
]


@pytest.mark.parametrize(("overrides", "message"), IMPOSSIBLE)
def test_impossible_pairs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        built(*overrides)


@pytest.mark.parametrize("attention", ["bahdanau", "luong_general"])
@pytest.mark.parametrize("tie", ["two_way", "three_way"])
def test_a_readout_fits_the_embeddings_it_is_tied_to(attention, tie):
    model = built(f"attention={attention}", f"embedding.tie={tie}", "embedding.size=5", joint=True)
    assert model.decoder.readout.size == model.output.weight.shape[1] == 5


WRONG = [
    ("+attention.form.heads=2", "attention.form.heads is not an option of SingleAttention"),
    ("attention.score.attention_size=abc", "attention.score.attention_size='abc' is not accepted; it must be int"),
    ("attention.score.attention_size=0", "attention.score.attention_size=0 is not accepted"),
    ("+attention.score.scaled=true", "attention.score.scaled is not an option of AdditiveScore"),
    ("attention.readout.state=old", "attention.readout.state='old' is not accepted; one of: query, new"),
    ("attention.readout.size=0", "attention.readout.size=0 is not accepted"),
    ("attention.coverage=maybe", "attention.coverage='maybe' is not accepted; it must be true or false"),
    ("attention.coverage=1", "attention.coverage=1 is not accepted; it must be true or false"),
    ("attention.coverage_loss=-0.1", "attention.coverage_loss=-0.1 is not accepted; it must be at least 0"),
    (
        "attention.coverage_loss_after=-1",
        "attention.coverage_loss_after=-1 is not accepted; it must be a number of upd",
    ),
    ("attention.coverage_loss_after=1.5", "attention.coverage_loss_after=1.5 is not accepted"),
    ("attention.coverage_loss=inf", "attention.coverage_loss=inf is not accepted; it must be at least 0"),
    ("attention.coverage_loss=nan", "attention.coverage_loss=nan is not accepted; it must be at least 0"),
    ("attention.coverage_loss=true", "attention.coverage_loss=True is not accepted; it must be at least 0"),
    ("attention.coverage_loss=null", "attention.coverage_loss=None is not accepted; it must be at least 0"),
    ("attention.score._target_=os.getcwd", "attention.score._target_ is 'os.getcwd'; it must name a class"),
    ("attention.wiring._target_=nmt.model.attention.Softmax", "attention.wiring._target_ names .* not a Decoder"),
    ("encoder.layers=0", "encoder.layers=0 is not accepted"),
    ("encoder.dropout=1.0", "encoder.dropout=1.0 is not accepted"),
    ("+encoder.heads=4", "encoder.heads is not an option of RecurrentEncoder"),
    ("+attention.wiring.input_feeding=true", "attention.wiring.input_feeding is not an option of AttendThenUpdate"),
]


@pytest.mark.parametrize(("override", "message"), WRONG)
def test_wrong_options_are_refused_by_name(override, message):
    with pytest.raises(ConfigError, match=message):
        built("attention=bahdanau", override)


def test_a_switch_of_the_wiring_must_be_one():
    with pytest.raises(ConfigError, match="attention.wiring.input_feeding='perhaps' is not accepted; it must be bool"):
        built("attention=luong_general", "attention.wiring.input_feeding=perhaps")


def test_no_option_is_left_over_from_another_folder():
    """A preset's file lists the parts and nothing else, so that a part is described in one place."""
    for name in options("attention"):
        text = (CONFIGS / "attention" / f"{name}.yaml").read_text()
        assert all(line.startswith(("#", "defaults:", "  - ")) for line in text.splitlines())
