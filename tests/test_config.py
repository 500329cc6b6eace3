import math
from dataclasses import fields, is_dataclass

import pytest
from composed import composed
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from nmt.config import (
    _FREE,
    _RANGES,
    Cell,
    Config,
    TrainingConfig,
    changed_keys,
    flatten,
    from_omegaconf,
    read,
    to_plain,
    to_yaml,
)
from nmt.errors import ConfigError, RunError

# keys whose value is null in the default and that are checked when given
OPTIONAL = {"training.max_steps", "training.max_minutes", "training.batch_sentences", "training.validate_every"}


def with_value(key, value):
    """The default configuration with one value replaced, as it stands in a YAML file."""
    node = OmegaConf.create(to_plain(composed()))
    OmegaConf.update(node, key, value)
    return from_omegaconf(node)


def value_at(config, key):
    return flatten(to_plain(config))[key]


def outside(key):
    low, high, inclusive = _RANGES[key]
    yield low - 1
    if not inclusive:
        yield low
    if high != math.inf:
        yield high + 1 if high > 1 else high + 0.005


def inside(key):
    low, high, inclusive = _RANGES[key]
    yield low if inclusive else low + 1
    if high != math.inf:
        yield high


def cases(values):
    return [pytest.param(key, value, id=f"{key}={value}") for key in _RANGES for value in values(key)]


@pytest.mark.parametrize(("key", "value"), cases(outside))
def test_a_number_outside_its_range_is_refused(key, value):
    with pytest.raises(ConfigError, match=rf"^{key}=\S+ is not accepted; it must be (at least|above) "):
        with_value(key, value)


@pytest.mark.parametrize(("key", "value"), cases(inside))
def test_the_ends_of_a_range(key, value):
    assert value_at(with_value(key, value), key) == value


def test_every_range_is_that_of_a_number_in_the_schema():
    known = flatten(to_plain(composed()))
    assert set(_RANGES) <= set(known)
    assert {key for key in _RANGES if known[key] is None} <= OPTIONAL | {"training.patience", "threads"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.label_smoothing", 1.0, "1.0 is not accepted; it must be at least 0 and at most 0.99"),
        ("training.max_epochs", 0, "0.0 is not accepted; it must be above 0"),
    ],
)
def test_limits_of_a_range_are_told(key, value, message):
    with pytest.raises(ConfigError) as raised:
        with_value(key, value)
    assert str(raised.value) == f"{key}={message}"


def test_not_a_number_is_outside_every_range():
    with pytest.raises(ConfigError, match="training.max_epochs=nan is not accepted"):
        with_value("training.max_epochs", math.nan)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("decoder.layers", "two"),
        ("decoder.layers", 1.5),
        ("decoder.cell", "lstn"),
        ("training.optimizer.name", "sdg"),
        ("training.resume", "maybe"),
        ("training.max_length", None),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        with_value(key, value)


def test_an_unknown_key_is_refused_by_name():
    node = OmegaConf.create(to_plain(composed()))
    node.training["max_epoch"] = 3
    with pytest.raises(ConfigError, match="max_epoch"):
        from_omegaconf(node)
    with pytest.raises(ConfigCompositionException, match="max_epoch"):
        composed("training.max_epoch=3")


@pytest.mark.parametrize("key", ["epochs", "training.max_epoch", "training.optimizer.beta"])
def test_an_added_key_is_refused_by_name(key):
    with pytest.raises(ConfigError, match=f"{key}: "):
        composed(f"+{key}=3")


def test_a_missing_choice_is_refused_by_name():
    with pytest.raises(ConfigError, match="data"):
        from_omegaconf(OmegaConf.create({"run_dir": "x"}))


def test_values_have_the_types_of_the_schema():
    config = composed("training.max_epochs=3", "decoder.cell=gru", "training.clip_norm=null")
    assert isinstance(config, Config) and isinstance(config.training, TrainingConfig)
    assert type(config.training.max_epochs) is float and config.decoder.cell is Cell.gru
    assert config.training.clip_norm is None


def test_components_are_plain_mappings():
    config = composed()
    for node in (config.data, config.tokenizer, config.encoder, config.attention, config.attention["score"]):
        assert type(node) is dict


def test_the_decoders_cell_is_the_encoders_unless_told():
    assert composed("encoder.cell=rnn").decoder.cell is Cell.rnn
    assert composed("encoder.cell=rnn", "decoder.cell=gru").decoder.cell is Cell.gru


@pytest.mark.parametrize(
    "overrides", [(), ("attention=bahdanau", "training=luong"), ("data=multi30k", "threads=2", "search=sample")]
)
def test_a_written_configuration_reads_the_same(tmp_path, overrides):
    config = composed(*overrides)
    config.choices = {"attention": "bahdanau"}
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert read(path) == config
    assert to_yaml(read(path)) == to_yaml(config)
    assert changed_keys(read(path), config) == []


def test_nothing_in_a_written_configuration_refers_to_something_else():
    assert "${" not in to_yaml(composed())
    assert all(not isinstance(value, str) or "???" not in value for value in flatten(to_plain(composed())).values())


def test_a_folder_without_configuration(tmp_path):
    with pytest.raises(RunError, match="is no run folder: it has no config.yaml"):
        read(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "cannot be read"),
        ("- 1\n", "top level is not a mapping"),
        ("run_dir: x\n", r"config.yaml: the configuration cannot be read"),
        ("\0", "cannot be read"),
    ],
)
def test_a_damaged_configuration(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(RunError, match=message) as raised:
        read(path)
    assert "\n" not in str(raised.value)


def test_changed_keys():
    old = composed()
    new = composed("training.batch_tokens=99", "attention=bahdanau", "encoder.hidden_size=7", "seed=2")
    changes = {key: (before, after) for key, before, after in changed_keys(old, new)}
    assert changes["training.batch_tokens"] == (old.training.batch_tokens, 99)
    assert changes["encoder.hidden_size"] == (old.encoder["hidden_size"], 7)
    assert changes["seed"] == (1, 2)
    assert changes["attention.score._target_"] == (
        "nmt.model.attention.GeneralScore",
        "nmt.model.attention.AdditiveScore",
    )
    assert changes["attention.score.attention_size"] == (None, new.decoder.hidden_size)
    assert changes["attention.wiring.input_feeding"] == (True, None)


def test_a_change_is_seen_both_ways():
    old, new = composed(), composed("attention=bahdanau")
    assert changed_keys(new, old) == [(key, after, before) for key, before, after in changed_keys(old, new)]


def test_limits_logging_search_and_device_may_change():
    new = composed(
        "training.max_epochs=99",
        "training.max_steps=7",
        "training.max_minutes=3",
        "training.patience=2",
        "training.resume=false",
        "training.log_every=3",
        "training.checkpoint_minutes=4",
        "search=sample",
        "search.beam=9",
        "device=cpu",
        "threads=1",
        "run_dir=elsewhere",
    )
    assert changed_keys(composed(), new) == []


def test_nothing_else_may_change():
    free = {key for key in flatten(to_plain(composed())) if any(key == f or key.startswith(f + ".") for f in _FREE)}
    assert {key for key in free if not key.startswith("search.")} == set(_FREE) - {"search", "choices"}
    assert "data" not in _FREE and "precision" not in _FREE and "seed" not in _FREE


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_every_option_of_the_schema_has_a_default_or_must_be_chosen():
    """`config.yaml` of an older version of a section reads with the defaults of what it lacks."""
    for field in fields(Config):
        node = getattr(Config(), field.name)
        assert is_dataclass(node) or field.name in {
            *("data", "tokenizer", "attention", "encoder", "run_dir"),
            *("seed", "device", "precision", "threads", "choices"),
        }
