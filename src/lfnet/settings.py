"""Settings are dataclasses: checks of their values, and the way from plain dictionaries and back."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from lfnet.errors import UserError


class ConfigError(UserError):
    """A configuration that does not fit: an unknown key, a wrong type, or values that contradict each other."""


def require_at_least(config: Any, path: str, least: Mapping[str, float]) -> None:
    """Check that settings are numbers not smaller than they may be; None, a setting left out, passes.

    Raises:
        ConfigError: naming the first setting that is, as `path.name`.
    """
    for name, bound in least.items():
        _require(config, path, name, lambda value, bound=bound: value >= bound, f"at least {bound:g}")


def require_above(config: Any, path: str, bounds: Mapping[str, float]) -> None:
    """Check that settings are numbers above a bound; None, a setting left out, passes.

    Raises:
        ConfigError: naming the first setting that is not, as `path.name`.
    """
    for name, bound in bounds.items():
        _require(config, path, name, lambda value, bound=bound: value > bound, f"a number above {bound:g}")


def require_within(config: Any, path: str, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that settings lie between two numbers, or at one of them; None, a setting left out, passes.

    Raises:
        ConfigError: naming the first setting that does not, as `path.name`.
    """
    for name, (low, high) in ranges.items():
        within = f"a number in [{low:g}, {high:g}]"
        _require(config, path, name, lambda value, low=low, high=high: low <= value <= high, within)


def _require(config: Any, path: str, name: str, fits: Callable[[float], bool], expected: str) -> None:
    value = getattr(config, name)
    if value is not None and not (math.isfinite(value) and fits(value)):
        raise ConfigError(f"{path}{'.' * bool(path)}{name}: expected {expected}, got {value}")


def require_odd(config: Any, path: str, names: tuple[str, ...]) -> None:
    """Check that sides of windows, which have a middle, are odd and positive.

    Raises:
        ConfigError: naming the first setting that is not, as `path.name`.
    """
    for name in names:
        value = getattr(config, name)
        if value < 1 or value % 2 == 0:
            raise ConfigError(f"{path}.{name}: expected an odd number of at least 1, got {value}")


def config_to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dictionary of a configuration, ready for JSON."""
    return dataclasses.asdict(config)


def config_from_dict(kind: type, values: dict[str, Any], path: str = "") -> Any:
    """Build a configuration from a nested dictionary; the inverse of `config_to_dict`.

    Raises:
        ConfigError: on an unknown key (with the known ones) or a value of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{path or kind.__name__}: expected a table of settings, got {values!r}")
    hints = typing.get_type_hints(kind)
    known = {entry.name for entry in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"unknown setting {path}{unknown[0]!s}; {kind.__name__} has {', '.join(sorted(known))}")
    return kind(**{name: _convert(hints[name], value, f"{path}{name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return config_from_dict(typing.cast(type, hint), value, f"{path}.")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = [option for option in arguments if option is not type(None)]
        return _convert(options[0], value, path)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{path}: expected one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path}: expected a list, got {value!r}")
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise ConfigError(f"{path}: expected {len(arguments)} values, got {len(value)}")
        return tuple(_convert(arguments[0], item, path) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path}: expected {hint.__name__}, got {value!r}")
    return value
