"""The command ``nmt``: train, translate, evaluate, align, compare. Each imports what it needs when it runs."""

import importlib
import sys

from nmt.cli.arguments import parser
from nmt.cli.common import exit_code, warnings_shown
from nmt.cli.memory import set_limits


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command.

    Args:
        argv: the arguments after ``nmt``, by default those of the command line.

    Returns:
        The exit code: 0; 2 for an error of the user's, told in one sentence on standard error; 130 after Ctrl-C, 143
        after SIGTERM.
    """
    arguments = sys.argv[1:] if argv is None else argv
    # what follows `train` is Hydra's to read, its own --help and --multirun included
    if arguments[:1] == ["train"]:
        return exit_code(lambda: importlib.import_module("nmt.cli.train").main(arguments[1:]))
    return exit_code(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    set_limits()
    with warnings_shown():
        importlib.import_module(f"nmt.cli.{options.command}").run(options)
    return 0
