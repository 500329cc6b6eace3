import dataclasses
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from nmt.config import SearchConfig
from nmt.errors import ConfigError
from nmt.search import SearchOptions

FOLDER = Path(__file__).parents[2] / "configs" / "search"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("beam", 0, "at least 1"),
        ("n_best", 0, "at least 1"),
        ("length_penalty", float("nan"), "a finite number"),
        ("coverage_penalty", -0.1, "at least 0"),
        ("min_length", -1, "at least 0"),
        ("max_length_ratio", float("inf"), "at least 0 and finite"),
        ("max_length_offset", -1, "at least 0"),
        ("no_repeat_ngram", -1, "at least 0"),
        ("temperature", 0.0, "above 0"),
        ("temperature", float("nan"), "above 0"),
        ("top_k", -1, "at least 0"),
        ("top_p", 0.0, "above 0 and at most 1"),
        ("top_p", 1.5, "above 0 and at most 1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(name, value, accepted):
    with pytest.raises(ConfigError, match=rf"search\.{name}={value} is not accepted; it must be {accepted}"):
        SearchOptions(**{name: value})


def test_n_best_is_at_most_the_beam_unless_sampling():
    with pytest.raises(ConfigError, match=r"search\.n_best=6 is above search\.beam=5"):
        SearchOptions(n_best=6)
    assert SearchOptions(n_best=6, sample=True).n_best == 6


def test_mirrors_the_config():
    configured = {field.name: field.default for field in dataclasses.fields(SearchConfig)}
    del configured["batch_tokens"], configured["weights"]
    assert configured == {field.name: field.default for field in dataclasses.fields(SearchOptions)}


@pytest.mark.parametrize(
    ("ratio", "offset", "expected"),
    [(2.0, 10, [10, 12, 50]), (1.15, 0, [0, 1, 23]), (0.5, 1, [1, 1, 11])],
)
def test_maximum_lengths_count_source_pieces_without_eos(ratio, offset, expected):
    options = SearchOptions(max_length_ratio=ratio, max_length_offset=offset)
    assert options.maximum_lengths(torch.tensor([1, 2, 21])).tolist() == expected


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_group_file_fits_the_schema(path):
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SearchConfig), OmegaConf.load(path)))
    values = dataclasses.asdict(config)
    del values["batch_tokens"], values["weights"]
    options = SearchOptions(**values)
    assert (options.sample, options.beam) == {"beam": (False, 5), "greedy": (False, 1), "sample": (True, 5)}[path.stem]
