"""Runs that differ in their seed alone, taken together: a row for each variant. Needs no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from nmt.cli.naming import attention_name
from nmt.config import flatten, to_plain
from nmt.report import Table

if TYPE_CHECKING:
    from nmt.cli.compare import Run

# what two runs of one variant may differ in
_FREE = {"seed", "run_dir", "device", "threads"}
_FREE |= {f"training.{name}" for name in ("resume", "log_every", "checkpoint_minutes")}
# a variant is named by at most so many options beside its attention
_MOST_OPTIONS = 3
# column -> where the number stands in metrics.json
_COLUMNS = {
    "parameters": ("model", "parameters"),
    "tokens/s": ("train", "target_tokens_per_second"),
    "valid BLEU": ("valid", "bleu"),
    "test BLEU": ("test", "bleu"),
    "test_long BLEU": ("test_long", "bleu"),
    "AER": ("test", "aer"),
}


class Spread(NamedTuple):
    """Mean and sample standard deviation of ``count`` runs; of one run there is no deviation."""

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True)
class Variant:
    """The finished runs of one configuration.

    Attributes:
        name: its attention, and the options that tell it from others of the same attention.
        runs: the runs, in the order given.
    """

    name: str
    runs: "Sequence[Run]"

    def spread(self, column: str) -> Spread | None:
        """Return the spread of a column over the runs that have it; None where none has."""
        found = (run.metric(*_COLUMNS[column]) for run in self.runs)
        values = [value for value in found if value is not None]
        if not values:
            return None
        return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def variants(runs: "Sequence[Run]") -> list[Variant]:
    """Return the variants of the finished runs, in the order of their first runs; a folder counts once."""
    groups: dict[str, list[Run]] = {}
    options: dict[str, dict[str, Any]] = {}
    finished = {run.folder.path.resolve(): run for run in runs if run.metrics}
    for run in finished.values():
        own = _options(run)
        key = json.dumps(own, sort_keys=True)
        options[key] = own
        groups.setdefault(key, []).append(run)
    names = _names([(group[0], options[key]) for key, group in groups.items()])
    return [Variant(name, group) for name, group in zip(names, groups.values(), strict=True)]


def variant_table(found: Sequence[Variant]) -> Table | None:
    """Return the table of variants; None where no variant has several runs, which are then rows of their own."""
    if all(len(variant.runs) == 1 for variant in found):
        return None
    spreads = {column: [variant.spread(column) for variant in found] for column in _COLUMNS}
    shown = {column: values for column, values in spreads.items() if any(value is not None for value in values)}
    columns: dict[str, Sequence[str | int | None]] = {
        "variant": [variant.name for variant in found],
        "runs": [len(variant.runs) for variant in found],
        **{column: [_text(column, value) for value in values] for column, values in shown.items()},
    }
    note = "Mean ± sample standard deviation over finished runs that differ in their seed alone."
    return Table("Variants", list(columns), list(zip(*columns.values(), strict=True)), [note])


def plain_variants(found: Sequence[Variant]) -> list[dict[str, Any]]:
    """Return the variants as plain JSON values."""
    return [
        {
            "name": variant.name,
            "runs": [run.name for run in variant.runs],
            "seeds": [run.config.seed for run in variant.runs],
            **{
                column: None if spread is None else spread._asdict()
                for column, spread in ((column, variant.spread(column)) for column in _COLUMNS)
            },
        }
        for variant in found
    ]


def _options(run: "Run") -> dict[str, Any]:
    """Return what makes a run this variant: its options and its corpus."""
    flat = flatten(to_plain(run.config))
    own = {key: value for key, value in flat.items() if key not in _FREE and not key.startswith("choices.")}
    return {**own, "corpus": [run.corpus["name"], run.corpus.get("fingerprint")]}


def _names(firsts: "Sequence[tuple[Run, Mapping[str, Any]]]") -> list[str]:
    """Return the name of each variant, given a run of it and its options."""
    attentions = [attention_name(run.config) or run.name for run, _ in firsts]
    names = []
    for attention, (run, own) in zip(attentions, firsts, strict=True):
        alike = [first for other, first in zip(attentions, firsts, strict=True) if other == attention]
        chosen = _differing(run.config.choices, [other.config.choices for other, _ in alike])
        groups = tuple(f"{group}." for group in chosen)
        options = _differing(own, [options for _, options in alike])
        told = chosen | {key: value for key, value in options.items() if not key.startswith(groups)}
        few = len(told) <= _MOST_OPTIONS and "corpus" not in told
        names.append(", ".join([attention, *(f"{key}={value}" for key, value in told.items())]) if few else run.name)
    return names


def _differing(own: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return those of ``own`` that are not the same in all ``others``."""
    return {key: value for key, value in own.items() if any(other.get(key) != value for other in others)}


def _text(column: str, spread: Spread | None) -> str | None:
    """Return the cell of a spread: whole numbers for counts, four decimals for rates below 1, else two."""
    if spread is None:
        return None
    digits = 0 if column in ("parameters", "tokens/s") else 4 if column == "AER" else 2
    mean = f"{spread.mean:,.{digits}f}"
    if spread.deviation is None or column == "parameters":
        return mean
    return f"{mean} ± {spread.deviation:,.{digits}f}"
