"""Builds the class that a config node names by ``_target_``, after checking the node against its constructor."""

import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from nmt.errors import ConfigError

T = TypeVar("T")
_PLAIN = (bool, int, float, str)


def component_class(node: Mapping[str, Any], base: type[T], key: str) -> type[T]:
    """Return the class named by ``node["_target_"]``; it must live in ``nmt`` and subclass ``base``.

    Args:
        node: the config node, a plain mapping.
        base: the class that the named one must subclass.
        key: where the node stands in the config, for error messages.

    Raises:
        ConfigError: there is no target, it is not of this package, or not a ``base``.
    """
    target = node.get("_target_")
    if not isinstance(target, str) or not target.startswith("nmt."):
        raise ConfigError(f"{key}._target_ is {target!r}; it must name a class of this package (nmt.…)")
    module_name, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError):
        raise ConfigError(f"{key}._target_ names {target}, which does not exist") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{key}._target_ names {target}, which is not a {base.__name__}")
    if inspect.isabstract(found):
        raise ConfigError(f"{key}._target_ names {target}, which is an interface; name one of its subclasses")
    return found


def build(node: Mapping[str, Any], base: type[T], key: str, **given: Any) -> T:
    """Construct the component that ``node`` describes.

    Args:
        node: ``_target_`` and the constructor's options.
        base: the class that the target must subclass.
        key: where the node stands in the config, for error messages.
        given: arguments that do not come from the config (sizes, other components). Those that the constructor does not
            take are left out, so that a class asks only for what it needs; one with ``**options`` gets all of them.

    Raises:
        ConfigError: an option is unknown, missing or of the wrong type.
    """
    found = component_class(node, base, key)
    parameters = constructor_parameters(found)
    hints = typing.get_type_hints(found.__init__)
    options = {name: value for name, value in node.items() if name != "_target_"}
    accepted = [name for name in parameters if name not in given]
    for name, value in options.items():
        if name not in accepted:
            listed = ", ".join(accepted) or "none"
            raise ConfigError(f"{key}.{name} is not an option of {found.__name__}; accepted: {listed}")
        options[name] = _checked(value, hints.get(name), f"{key}.{name}")
    missing = [n for n in accepted if n not in options and parameters[n].default is inspect.Parameter.empty]
    if missing:
        raise ConfigError(f"{key} lacks {', '.join(missing)}, which {found.__name__} needs")
    taken = given if _takes_any(found) else {name: value for name, value in given.items() if name in parameters}
    return found(**options, **taken)


def constructor_parameters(found: type) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class's constructor."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(found.__init__).parameters
    return {name: p for name, p in signature.items() if name != "self" and p.kind in named}


def _takes_any(found: type) -> bool:
    """Whether the class's own constructor takes any keyword."""
    if "__init__" not in vars(found):
        return False
    kinds = {parameter.kind for parameter in inspect.signature(found.__init__).parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds


def _checked(value: Any, hint: Any, key: str) -> Any:
    """Return ``value``, an int as a float where the hint says so, or raise if it is not of the hinted type."""
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{key}={value!r} is not accepted; one of: {', '.join(map(str, choices))}")
        return value
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    plain = [option for option in options if option in _PLAIN]
    if not plain or (value is None and type(None) in options):
        return value
    if type(value) in plain:
        return value
    if float in plain and type(value) is int:
        return float(value)
    names = " or ".join(option.__name__ for option in plain)
    raise ConfigError(f"{key}={value!r} is not accepted; it must be {names}")
