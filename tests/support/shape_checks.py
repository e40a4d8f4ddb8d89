"""Shapes in annotations, checked where they are called: a test may hand in a method of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def says_a_shape(annotation: Any) -> bool:
    """Whether jaxtyping's arrays stand anywhere in it."""
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(says_a_shape(part) for part in get_args(annotation))


def shapes_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments, and what is returned, whose annotation says a shape."""
    kept = {name: hint for name, hint in function.__annotations__.items() if says_a_shape(hint)}
    function.__annotations__ = kept
    return _check(function) if kept else function
