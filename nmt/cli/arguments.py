"""The arguments of every sub-command but ``train``; nothing heavy is imported, so that ``--help`` is quick."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import nmt
from nmt.errors import ConfigError

_DESCRIPTION = "Train a recurrent neural translator, change its attention with one switch, and see what it learned."
_EXIT_CODES = "exit codes: 0 done; 2 a usage, configuration or data error; 130 after Ctrl-C; 143 after SIGTERM"
_INTEGER_LIMIT = 2**63


class _Parser(argparse.ArgumentParser):
    """Tells an error in one sentence, as everything else here does."""

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise ConfigError(f"{message}; `{self.prog} --help` lists what is accepted")


def parser() -> argparse.ArgumentParser:
    """Return the parser of ``nmt``."""
    top = _Parser(prog="nmt", description=_DESCRIPTION, epilog=_EXIT_CODES, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"nmt {nmt.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser(
        "train",
        add_help=False,
        help="train a run: `nmt train KEY=VALUE...`, the same as `python train.py`; `nmt train --help` shows all keys",
    )
    for name, add, summary, description in (
        ("translate", _translate, "translate lines of text", _TRANSLATE),
        ("evaluate", _evaluate, "score a run: BLEU, chrF, TER, perplexity, AER", _EVALUATE),
        ("align", _align, "align given sentence pairs by the run's attention", _ALIGN),
        ("compare", _compare, "set runs side by side, with a significance test", _COMPARE),
    ):
        command = commands.add_parser(
            name, help=summary, description=description, epilog=_EXIT_CODES, allow_abbrev=False
        )
        add(command)
    return top


_TRANSLATE = """Read lines and write exactly one line for each, in order, also for empty ones; everything else goes to
standard error. Only a line feed ends a line, a carriage return before it is removed, and bytes that are not UTF-8
become U+FFFD with a warning. Decoding settings are those of the run's `search`, unless they are given here."""


def _translate(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument("--input", type=Path, metavar="FILE", help="read this file, .gz or not, not standard input")
    command.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help="write `i ||| hypothesis ||| score` for the N best translations of each line, best first: i counts the "
        "input lines from 0, score is the length-normalised log-probability that ranks them; N is at most the beam; "
        "fewer than N lines where the search finds no more",
    )
    _add_search(command)
    command.add_argument(
        "--seed", type=_integer(0), metavar="N", help="of the random numbers of --sample (default: the run's seed)"
    )
    command.add_argument(
        "--alignments",
        type=Path,
        metavar="FILE",
        help="write the word links of every output line, also of every n-best line, as a Pharaoh line `i-j ...`: "
        "source word i, output word j, from 0; one link for each output word",
    )
    _add_heatmap(command)
    _add_machine(command)
    command.add_argument(
        "--chunk",
        type=_integer(1),
        metavar="LINES",
        help="translate and write so many lines before more are read (default: 1000; 1 at a terminal)",
    )


_EVALUATE = """Translate a test set, score it and print the scores as JSON: BLEU, chrF and TER with their signatures,
BLEU by source length, perplexity; with gold links AER. The run's metrics.json is not changed."""


def _evaluate(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument(
        "--split",
        metavar="NAME",
        help="which of the run's own test sets (default: test; the built-in corpus also has test_long)",
    )
    command.add_argument(
        "--source", type=Path, metavar="FILE", help="score these source lines, .gz or not, in place of the run's own"
    )
    command.add_argument("--reference", type=Path, metavar="FILE", help="their references, a line each; with --source")
    _add_gold(command, "with --source")
    command.add_argument("--output", type=Path, metavar="FILE.json", help="write the JSON to this file as well")
    _add_search(command)
    _add_machine(command)


_ALIGN = """Feed the model given translations (forced decoding) and write the word links that its attention makes, one
Pharaoh line `i-j ...` for each pair: source word i, target word j, from 0, one link for each target word. A word is
what spaces separate; in Han, Kana, Thai, Lao, Khmer and Myanmar script each character is one."""


def _align(command: argparse.ArgumentParser) -> None:
    _add_run(command)
    command.add_argument(
        "--source", type=Path, metavar="FILE", required=True, help="raw lines in the run's source language, .gz or not"
    )
    command.add_argument(
        "--target", type=Path, metavar="FILE", required=True, help="their translations, as many lines, .gz or not"
    )
    _add_gold(command, "AER of both shifts is then told on standard error")
    command.add_argument(
        "--shift",
        type=int,
        choices=(0, 1),
        help="read a target word's attention off the step that predicts it (0) or the next one, which has just read it "
        "(1); default: what the run's validation links decided, else 0",
    )
    _add_heatmap(command)
    command.add_argument(
        "--heads",
        action="store_true",
        help="with --heatmap: draw the weights of each head of multi-head attention beside their mean",
    )
    _add_machine(command)


_COMPARE = """Set runs side by side: one table, with 95% bootstrap intervals of test BLEU and the p-value of each run's
difference from the first one by paired bootstrap resampling (Koehn 2004). A run scored on other references than the
first is marked as not comparable; what an unfinished run has not yet is `-`. Where runs differ in their seed alone, a
second table has a row for each variant: mean and standard deviation over its runs."""


def _compare(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders; the first is the baseline")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the comparison to FILE.html (with curves), FILE.md or FILE.json as well",
    )
    command.add_argument(
        "--samples", type=_integer(1), default=1000, metavar="N", help="resampled test sets (default: 1000)"
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", type=Path, metavar="RUN", help="run folder, as training has left it")


def _add_gold(command: argparse.ArgumentParser, when: str) -> None:
    command.add_argument(
        "--gold",
        type=Path,
        metavar="FILE",
        help=f"gold word links, a line for each pair: `i-j` sure, `i?j` possible, source word first, from 0; {when}",
    )


def _add_heatmap(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--heatmap",
        type=Path,
        metavar="FILE",
        help="draw the alignments: FILE.html is one page, FILE.png and FILE.svg are numbered where there are several "
        "sentences",
    )
    command.add_argument(
        "--heatmap-sentences",
        type=_integer(1),
        default=100,
        metavar="N",
        help="draw at most the first N sentences (default: 100)",
    )


def _add_machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: the run's device")
    command.add_argument(
        "--batch-tokens",
        type=_integer(1),
        metavar="N",
        help="at most so many positions at a time (default: the run's search.batch_tokens)",
    )


def _add_search(command: argparse.ArgumentParser) -> None:
    """Add the options whose names are those of ``SearchOptions``, and ``weights``; not given, they are None."""
    group = command.add_argument_group("decoding", "each by default as the run's `search` says")
    group.add_argument("--beam", type=int, metavar="K", help="hypotheses kept for a sentence; 1 is greedy")
    group.add_argument(
        "--length-penalty",
        type=float,
        metavar="ALPHA",
        help="of GNMT's length normalisation; 0 ranks by log-probability",
    )
    group.add_argument("--coverage-penalty", type=float, metavar="BETA", help="of GNMT's coverage penalty; 0 is off")
    group.add_argument("--min-length", type=int, metavar="N", help="shortest translation in pieces")
    group.add_argument(
        "--max-length-ratio", type=float, metavar="R", help="longest translation in pieces: R * source pieces + offset"
    )
    group.add_argument("--max-length-offset", type=int, metavar="N", help="the offset of --max-length-ratio")
    group.add_argument("--no-repeat-ngram", type=int, metavar="N", help="no sequence of N pieces comes twice; 0 is off")
    group.add_argument("--sample", action=argparse.BooleanOptionalAction, help="draw at random in place of beam search")
    group.add_argument("--temperature", type=float, metavar="T", help="of sampling; below 1 is more careful")
    group.add_argument("--top-k", type=int, metavar="K", help="sample among the K most probable pieces; 0 is off")
    group.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="sample among the pieces that have a share P of the probability; 1 is off",
    )
    group.add_argument(
        "--weights",
        choices=("auto", "float", "int8"),
        help="keep large weights as the run's `precision` says (float), or in 8 bits (int8), which is faster where the "
        "processor multiplies bytes; auto: in 8 bits there, if `precision` is auto",
    )


def _integer(low: int) -> Callable[[str], int]:
    """Return the reader of an integer that is at least ``low``."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value < _INTEGER_LIMIT:
            raise argparse.ArgumentTypeError(f"{text!r} is not accepted; it must be an integer, at least {low}")
        return value

    return read
