"""``nmt compare RUN...``: runs side by side, and whether a difference is more than luck. Needs no torch."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.cli.common import open_output, say
from nmt.cli.naming import attention_name
from nmt.cli.variants import plain_variants, variant_table, variants
from nmt.config import Config
from nmt.config import read as read_config
from nmt.errors import ConfigError, RunError
from nmt.report import (
    Chart,
    Table,
    chart_table,
    learning_curve,
    length_curve,
    markdown_table,
    plain_table,
    write_report,
)
from nmt.run_folder import RunFolder, read_json, read_lines

if TYPE_CHECKING:
    from nmt.evaluation import BootstrapResult

SUFFIXES = (".html", ".json", ".md")
_SEED = 12345
_INCOMPARABLE = "not comparable"
# BLEU of the same files differs by less, whatever the version of sacreBLEU
_ROUNDING = 0.01


@dataclass(frozen=True)
class Run:
    """What a comparison takes from a run folder.

    Attributes:
        name: what tells it from the others.
        folder: where it is.
        config: its configuration.
        corpus: its ``corpus.json``.
        metrics: its ``metrics.json``; empty while it is unfinished.
        references: of its test set; empty without one.
        hypotheses: its translations, as many.
    """

    name: str
    folder: RunFolder
    config: Config
    corpus: dict[str, Any]
    metrics: dict[str, Any]
    references: list[str]
    hypotheses: list[str]

    def metric(self, *keys: str) -> Any:
        """Return a value of ``metrics.json``, or None where the run does not have it."""
        found: Any = self.metrics
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    @property
    def test_sets(self) -> list[str]:
        """The names of its scored test sets."""
        return sorted(name for name in self.metrics if name.startswith("test"))

    def comparable(self, other: "Run") -> bool:
        """Whether both were scored on the same references in the same way."""
        return (
            bool(self.references)
            and self.references == other.references
            and self.metric("test", "signature") == other.metric("test", "signature")
        )


@dataclass(frozen=True)
class Comparison:
    """Runs, the first of which is the baseline, and the significance of their differences in test BLEU.

    Attributes:
        runs: the runs.
        intervals: one per run, None without a test set; its ``p_value`` is None unless the run can be compared with the
            baseline.
        samples: how many test sets were resampled.
    """

    runs: Sequence[Run]
    intervals: "Sequence[BootstrapResult | None]"
    samples: int

    def verdict(self, place: int) -> str | float | None:
        """Return what stands in the column of p-values: a number, a word, or None for what is not there yet."""
        baseline, run, interval = self.runs[0], self.runs[place], self.intervals[place]
        if interval is None or self.intervals[0] is None:
            return None
        if place == 0:
            return "baseline"
        return interval.p_value if run.comparable(baseline) else _INCOMPARABLE


def run(args: Namespace) -> None:
    """Compare.

    Raises:
        NmtError: a folder is no run, or the file cannot be written.
    """
    if args.output is not None and args.output.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--output {args.output} must end in one of: {', '.join(SUFFIXES)}")
    found = compare(args.runs, samples=args.samples)
    tables = [*_tables(found), *map(chart_table, _length_charts(found))]
    text = f"{_corpus_line(found.runs)}\n\n" + "\n".join(plain_table(table) for table in tables)
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()
    if args.output is not None:
        _write(found, tables, args.output)
        say(f"written: {args.output}")


def compare(paths: Sequence[Path], *, samples: int) -> Comparison:
    """Read run folders and test the differences of the others from the first one.

    Raises:
        RunError: a folder is no run, or is damaged.
    """
    runs = [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    return Comparison(runs, _intervals(runs, samples), samples)


def main_table(found: Comparison) -> Table:
    """Return the table of all runs."""
    columns = {
        "run": [run.name for run in found.runs],
        "attention": [attention_name(run.config) or None for run in found.runs],
        "cell": [_cell(run.config) for run in found.runs],
        "parameters": [run.metric("model", "parameters") for run in found.runs],
        "epochs": [run.metric("train", "epochs") for run in found.runs],
        "tokens/s": [_rounded(run.metric("train", "target_tokens_per_second")) for run in found.runs],
        "valid BLEU": [run.metric("valid", "bleu") for run in found.runs],
        "test BLEU": [run.metric("test", "bleu") for run in found.runs],
        "95% interval": [_interval(interval) for interval in found.intervals],
        "p": [found.verdict(place) for place in range(len(found.runs))],
        "test_long BLEU": [run.metric("test_long", "bleu") for run in found.runs],
        "AER": [run.metric("test", "aer") for run in found.runs],
        "oracle AER": [run.metric("test", "aer_oracle") for run in found.runs],
        "wall time": [_duration(run.metric("train", "wall_seconds")) for run in found.runs],
    }
    if not any("test_long" in run.metrics for run in found.runs):
        del columns["test_long BLEU"]
    encoders = [run.config.choices.get("encoder") for run in found.runs]
    if len(set(encoders)) > 1:
        columns["encoder"] = encoders
    if len({_corpus_name(run) for run in found.runs}) > 1:
        columns["corpus"] = [_corpus_name(run) for run in found.runs]
    return Table("Runs", list(columns), list(zip(*columns.values(), strict=True)), _notes(found))


def _tables(found: Comparison) -> list[Table]:
    """Return the table of all runs, and that of the variants where some of them are one variant."""
    grouped = variant_table(variants(found.runs))
    return [main_table(found), *([] if grouped is None else [grouped])]


def _read(path: Path, name: str) -> Run:
    """Read what is compared of one run; an unfinished one has a configuration at least."""
    folder = RunFolder(path)
    config = read_config(folder.config)
    metrics = folder.read_metrics() if folder.finished else {}
    references = hypotheses = []
    if "test" in metrics:
        references, hypotheses = _lines(folder.references()), _lines(folder.hypotheses())
        if len(references) != len(hypotheses):
            raise RunError(
                f"{path} is damaged: it has {len(references):,} references and {len(hypotheses):,} translations of its "
                "test set"
            )
    return Run(name, folder, config, read_json(folder.corpus), metrics, references, hypotheses)


def _lines(path: Path) -> list[str]:
    try:
        return read_lines(path)
    except UnicodeDecodeError:
        raise RunError(f"{path} is not UTF-8; it is damaged") from None


def _names(paths: Sequence[Path]) -> list[str]:
    """Return what is left of each path without the folders that all of them lie in."""
    parts = [path.resolve().parts for path in paths]
    shared = len(os.path.commonprefix(parts))
    names: list[str] = []
    for part in parts:
        name = "/".join(part[min(shared, len(part) - 1) :])
        names.append(
            name if name not in names else f"{name} ({sum(part == other for other in parts[: len(names) + 1])})"
        )
    return names


def _intervals(runs: Sequence[Run], samples: int) -> "list[BootstrapResult | None]":
    """Return each run's interval, and the p-value of those that can be compared with the first one."""
    from nmt.evaluation import bootstrap_interval, paired_bootstrap

    options = {"samples": samples, "seed": _SEED}
    paired = [place for place, run in enumerate(runs) if place and run.comparable(runs[0])]
    found: list[BootstrapResult | None] = [None] * len(runs)
    if runs[0].references:
        results = paired_bootstrap(
            runs[0].references,
            runs[0].hypotheses,
            [runs[place].hypotheses for place in paired],
            runs[0].corpus["target_language"],
            **options,
        )
        for place, result in zip([0, *paired], results, strict=True):
            found[place] = result
    for place, run in enumerate(runs):
        if found[place] is None and run.references:
            found[place] = bootstrap_interval(run.hypotheses, run.references, run.corpus["target_language"], **options)
    return found


def _cell(config: Config) -> str:
    """Return the recurrent cell, of encoder and decoder where they differ."""
    encoder, decoder = config.encoder["cell"], config.decoder.cell.value
    return encoder if encoder == decoder else f"{encoder}, {decoder}"


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _interval(interval: "BootstrapResult | None") -> str | None:
    """Return the interval, within what BLEU can be: on a small test set it is wide, and symmetric around the mean."""
    return None if interval is None else f"{max(interval.low, 0.0):.2f} to {min(interval.high, 100.0):.2f}"


def _duration(seconds: float | None) -> str | None:
    """Return hours, minutes and seconds as ``h:mm:ss``."""
    if seconds is None:
        return None
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _corpus_name(run: Run) -> str:
    return run.corpus["name"] + (" (synthetic corpus)" if run.corpus["synthetic"] else "")


def _corpus_line(runs: Sequence[Run]) -> str:
    return "corpus: " + ", ".join(dict.fromkeys(map(_corpus_name, runs)))


def _notes(found: Comparison) -> list[str]:
    """Return what a reader of the table must know."""
    baseline = found.runs[0].name
    notes = [
        f"Intervals and p by bootstrap resampling of the test set, {found.samples:,} samples, seed {_SEED}. p is of "
        f"the difference in test BLEU from {baseline}, paired, two-sided."
    ]
    if any(found.verdict(place) == _INCOMPARABLE for place in range(len(found.runs))):
        notes.append(f"{_INCOMPARABLE}: scored on other references than {baseline}, or with another signature.")
    unfinished = [run.name for run in found.runs if not run.metrics]
    if unfinished:
        notes.append(f"Not finished: {', '.join(unfinished)}.")
    notes += [
        f"{run.name}: metrics.json says BLEU {run.metric('test', 'bleu'):.2f}, but its files score {interval.bleu:.2f}."
        for run, interval in zip(found.runs, found.intervals, strict=True)
        if interval is not None and abs(run.metric("test", "bleu") - interval.bleu) > _ROUNDING
    ]
    notes += [f"BLEU: {signature}" for signature in _signatures(found.runs)]
    return notes


def _signatures(runs: Sequence[Run]) -> list[str]:
    found = (run.metric("test", "signature") for run in runs)
    return list(dict.fromkeys(signature for signature in found if signature))


def _length_charts(found: Comparison) -> list[Chart]:
    """Return the chart of BLEU by source length for each test set."""
    charts = []
    labels = [
        f"{run.name} ({_INCOMPARABLE})" if found.verdict(place) == _INCOMPARABLE else run.name
        for place, run in enumerate(found.runs)
    ]
    for name in sorted({name for run in found.runs for name in run.test_sets}):
        bins = {label: run.metric(name, "bleu_by_length") for label, run in zip(labels, found.runs, strict=True)}
        shown = {run: entries for run, entries in bins.items() if entries}
        if shown:
            charts.append(length_curve(shown, title=f"BLEU by source length, {name}"))
    return charts


def _learning_charts(runs: Sequence[Run]) -> list[Chart]:
    """Return the chart of validation BLEU over training."""
    points = {run.name: _validations(run.folder.path / "metrics.jsonl") for run in runs}
    shown = {name: pairs for name, pairs in points.items() if pairs}
    title = "Validation BLEU during training (greedy)"
    return [learning_curve(shown, title=title, x_label="updates", y_label="BLEU")] if shown else []


def _validations(path: Path) -> list[tuple[float, float | None]]:
    """Return (step, BLEU) of every validation; a run at work may be writing the last line."""
    if not path.is_file():
        return []
    found: list[tuple[float, float | None]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["kind"] == "valid" and "bleu" in record:
            found.append((record["step"], record["bleu"]))
    return found


def _write(found: Comparison, tables: Sequence[Table], path: Path) -> None:
    """Write the comparison as its suffix says."""
    suffix = path.suffix.lower()
    if suffix == ".html":
        write_report(
            path,
            title="Comparison of runs",
            corpus=_corpus_line(found.runs).removeprefix("corpus: "),
            synthetic=all(run.corpus["synthetic"] for run in found.runs),
            tables=_tables(found),
            charts=[*_length_charts(found), *_learning_charts(found.runs)],
        )
        return
    if suffix == ".json":
        text = json.dumps(_plain(found), indent=2, ensure_ascii=False) + "\n"
    else:
        heading = f"# Comparison of runs\n\n{_corpus_line(found.runs)}\n\n"
        text = heading + "\n".join(markdown_table(table) for table in tables)
    with open_output(path, "--output") as file:
        file.write(text)


def _plain(found: Comparison) -> dict[str, Any]:
    """Return the comparison as plain JSON values."""
    rows = []
    for place, (run, interval) in enumerate(zip(found.runs, found.intervals, strict=True)):
        verdict = found.verdict(place)
        rows.append(
            {
                "name": run.name,
                "path": str(run.folder.path),
                "finished": bool(run.metrics),
                "attention": attention_name(run.config) or None,
                "cell": _cell(run.config),
                "corpus": run.corpus["name"],
                "synthetic": run.corpus["synthetic"],
                "comparable": isinstance(verdict, float) or verdict == "baseline",
                "p_value": verdict if isinstance(verdict, float) else None,
                "interval": None if interval is None else [interval.low, interval.high],
                "metrics": run.metrics or None,
            }
        )
    return {
        "baseline": found.runs[0].name,
        "samples": found.samples,
        "seed": _SEED,
        "runs": rows,
        "variants": plain_variants(variants(found.runs)),
    }
