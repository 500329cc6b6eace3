"""Decoding options of a call: those of the run, with what the command line says in their place."""

import re
from argparse import Namespace
from dataclasses import fields
from typing import Any

from nmt.assemble import OpenRun, open_run, search_options
from nmt.config import Device, SearchWeights
from nmt.errors import ConfigError
from nmt.search import SearchOptions


def open_for(args: Namespace) -> OpenRun:
    """Open the run that the command line names, on the device it names."""
    device = None if args.device is None else Device(args.device)
    # a command without that option does not search, whatever the run's configuration says
    weights = getattr(args, "weights", SearchWeights.float.value)
    return open_run(args.run, device=device, weights=None if weights is None else SearchWeights(weights))


def chosen_options(run: OpenRun, args: Namespace, **fixed: Any) -> SearchOptions:
    """Return how to search: as the run's configuration says, but for options given in ``args`` and for ``fixed``.

    Raises:
        ConfigError: a value is not accepted; the sentence names the option.
    """
    given = {field.name: getattr(args, field.name, None) for field in fields(SearchOptions)}
    try:
        return search_options(run.config.search, **{**given, **fixed})
    except ConfigError as error:
        raise ConfigError(re.sub(r"search\.(\w+)=", _option, str(error))) from None


def chosen_batch_tokens(run: OpenRun, args: Namespace) -> int:
    """Return how many positions may be worked on at a time."""
    return run.config.search.batch_tokens if args.batch_tokens is None else args.batch_tokens


def _option(match: re.Match[str]) -> str:
    return f"--{match[1].replace('_', '-')} "
