import pytest

from nmt.component import build, component_class, constructor_parameters
from nmt.errors import ConfigError
from nmt.model.attention import AdditiveScore, Alignment, CosineScore, LocalMonotonic, LocalPredictive, Score
from nmt.model.decoder import MaxoutReadout, Readout
from nmt.model.encoder import Encoder, RecurrentEncoder

PACKAGE = "nmt.model.attention."


def alignment(name="LocalMonotonic", **options):
    return build({"_target_": PACKAGE + name, **options}, Alignment, "attention.alignment", query_size=5)


def score(name, **options):
    return build({"_target_": PACKAGE + name, **options}, Score, "attention.score", query_size=5, key_size=5)


def test_options_and_what_is_given():
    made = alignment("LocalPredictive", window=3)
    assert isinstance(made, LocalPredictive)
    assert (made.window, made.hidden.weight.shape) == (3, (5, 5))


def test_a_class_gets_only_what_it_asks_for():
    assert isinstance(alignment(window=3), LocalMonotonic)


def test_defaults_of_the_constructor():
    assert alignment().window == 10


def test_unknown_option():
    with pytest.raises(
        ConfigError, match=r"attention.alignment.width is not an option of LocalMonotonic; accepted: window$"
    ):
        alignment(width=3)


def test_unknown_option_of_a_class_without_any():
    with pytest.raises(ConfigError, match=r"attention.alignment.window is not an option of Softmax; accepted: none$"):
        alignment("Softmax", window=3)


def test_a_size_that_is_given_is_not_an_option():
    with pytest.raises(ConfigError, match="attention.alignment.query_size is not an option of LocalPredictive"):
        alignment("LocalPredictive", query_size=7)


def test_missing_option():
    with pytest.raises(ConfigError, match="attention.score lacks attention_size, which AdditiveScore needs"):
        score("AdditiveScore")


@pytest.mark.parametrize("value", ["3", 3.0, True, None, [3]])
def test_a_whole_number_must_be_one(value):
    with pytest.raises(ConfigError, match="attention.alignment.window=.* is not accepted; it must be int"):
        alignment(window=value)


@pytest.mark.parametrize("value", ["1.5", True, [1.5]])
def test_a_number_or_null_must_be_one(value):
    with pytest.raises(ConfigError, match="attention.score.strength=.* is not accepted; it must be float"):
        score("CosineScore", strength=value)


@pytest.mark.parametrize(("value", "expected"), [(1.5, 1.5), (2, 2.0), (None, None)])
def test_a_number_may_be_whole_or_null(value, expected):
    made = score("CosineScore", strength=value)
    assert isinstance(made, CosineScore)
    assert made.strength == expected and type(made.strength) is type(expected)


@pytest.mark.parametrize("value", [1, "true", None])
def test_a_switch_must_be_one(value):
    with pytest.raises(ConfigError, match="attention.score.scaled=.* is not accepted; it must be bool"):
        score("DotScore", scaled=value)


def test_a_choice_must_be_among_those_offered():
    node = {"_target_": "nmt.model.decoder.MaxoutReadout", "state": "old"}
    sizes = {"hidden_size": 3, "embedding_size": 3, "context_size": 3, "default_size": 3}
    with pytest.raises(ConfigError, match="attention.readout.state='old' is not accepted; one of: query, new"):
        build(node, Readout, "attention.readout", **sizes)
    assert isinstance(build({**node, "state": "new"}, Readout, "attention.readout", **sizes), MaxoutReadout)


def test_the_cell_of_an_encoder():
    node = {"_target_": "nmt.model.encoder.RecurrentEncoder", "cell": "lstn"}
    with pytest.raises(ConfigError, match="encoder.cell='lstn' is not accepted; one of: rnn, gru, lstm"):
        build(node, Encoder, "encoder", embedding_size=3)


@pytest.mark.parametrize("target", ["os.getcwd", "torch.nn.Linear", "nmt_other.Thing", "", None, 7])
def test_a_target_outside_the_package_is_never_imported(target):
    with pytest.raises(ConfigError, match=r"encoder._target_ is .*; it must name a class of this package"):
        component_class({"_target_": target}, Encoder, "encoder")


def test_no_target():
    with pytest.raises(ConfigError, match="encoder._target_ is None; it must name a class"):
        component_class({"cell": "gru"}, Encoder, "encoder")


@pytest.mark.parametrize("target", ["nmt.model.encoder.Transformer", "nmt.modell.encoder.RecurrentEncoder", "nmt."])
def test_a_target_that_does_not_exist(target):
    with pytest.raises(ConfigError, match=f"encoder._target_ names {target}, which does not exist"):
        component_class({"_target_": target}, Encoder, "encoder")


@pytest.mark.parametrize("target", ["nmt.model.attention.Softmax", "nmt.model.encoder.mask_from_lengths"])
def test_a_target_of_another_kind(target):
    with pytest.raises(ConfigError, match=f"encoder._target_ names {target}, which is not a Encoder"):
        component_class({"_target_": target}, Encoder, "encoder")


def test_parameters_of_a_constructor():
    assert list(constructor_parameters(AdditiveScore)) == ["query_size", "key_size", "attention_size"]
    assert "embedding_size" in constructor_parameters(RecurrentEncoder)
