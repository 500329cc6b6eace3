"""``nmt evaluate RUN``: the scores of a run, anew, on its own test set or on another."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nmt.assemble import OpenRun
from nmt.cli.common import open_output, read_gold, read_pairs, say
from nmt.cli.decoding import chosen_batch_tokens, chosen_options, open_for
from nmt.cli.scoring import score_test
from nmt.data import GoldLinks
from nmt.errors import ConfigError, RunError
from nmt.evaluation import check_tokenizer
from nmt.run_folder import RunFolder


@dataclass(frozen=True)
class _TestSet:
    """What is scored, and how the output names it."""

    name: dict[str, Any]
    sources: Sequence[str]
    references: Sequence[str]
    gold: Sequence[GoldLinks] | None


def run(args: Namespace) -> None:
    """Evaluate.

    Raises:
        NmtError: the run, an option or a file cannot be used.
    """
    _check(args)
    test = _given(args) if args.source is not None else _own(RunFolder(args.run), args.split or "test")
    opened = open_for(args)
    check_tokenizer(opened.corpus["target_language"])
    options = chosen_options(opened, args, n_best=1)
    say(f"translating {len(test.sources):,} sentences")
    scores, _ = score_test(
        opened,
        test.sources,
        test.references,
        test.gold,
        options=options,
        shift=opened.alignment_shift,
        batch_tokens=chosen_batch_tokens(opened, args),
    )
    _write({**_origin(opened), **test.name, **scores, "search": asdict(options)}, args)


def _check(args: Namespace) -> None:
    """Check that the options go together."""
    if (args.source is None) != (args.reference is None):
        raise ConfigError("--source and --reference go together; give both, or none for the run's own test set")
    if args.gold is not None and args.source is None:
        raise ConfigError("--gold needs --source and --reference; the run's own gold links are used without it")
    if args.split is not None and args.source is not None:
        raise ConfigError("--split names a test set of the run; it cannot be given with --source")
    metrics = RunFolder(args.run).metrics
    if args.output is not None and args.output.resolve() == metrics.resolve():
        raise ConfigError(f"--output {args.output} is the run's metrics.json, which only training writes")


def _given(args: Namespace) -> _TestSet:
    """Return the test set of the files named on the command line."""
    sources, references = read_pairs(args.source, args.reference)
    gold = None if args.gold is None else read_gold(args.gold, sources, references)
    return _TestSet({"source": str(args.source), "reference": str(args.reference)}, sources, references, gold)


def _own(folder: RunFolder, split: str) -> _TestSet:
    """Return a test set of the run itself."""
    if not folder.started:
        raise RunError(f"{folder.path} is no run folder: it has no {folder.config.name}")
    if not folder.references(split).exists():
        found = sorted(path.name.split(".")[0] for path in folder.path.glob("*.references.txt"))
        raise RunError(
            f"{folder.path} has no test set {split!r} (there is: {', '.join(found) or 'none'}); "
            "give --source and --reference"
        )
    sources, references = read_pairs(folder.sources(split), folder.references(split))
    path = folder.gold(split)
    gold = read_gold(path, sources, references) if path.exists() else None
    return _TestSet({"split": split}, sources, references, gold)


def _origin(opened: OpenRun) -> dict[str, Any]:
    """Return which run it is and what it was trained on."""
    return {"run": str(opened.folder.path), "corpus": opened.corpus["name"], "synthetic": opened.corpus["synthetic"]}


def _write(result: dict[str, Any], args: Namespace) -> None:
    """Print the JSON, and write it to ``--output``."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()
    if args.output is not None:
        with open_output(args.output, "--output") as file:
            file.write(text)
