"""Kinds of values in a benchmark's file: one or a list of them, and what a name must stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from ..errors import CircuitMeterError


def that_is(check: Callable[[Any], Any]) -> AfterValidator:
    """A validator that keeps a value when ``check`` accepts it; pydantic gathers what the checks say."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except CircuitMeterError as error:
            raise ValueError(str(error)) from error
        return value

    return AfterValidator(validate)


Item = TypeVar("Item")
AnyNumber = Annotated[
    tuple[Item, ...], BeforeValidator(lambda value: value if isinstance(value, (list, tuple)) else [value])
]
"""A tuple; a single value stands for a list of one."""

OneOrMore = Annotated[AnyNumber[Item], Field(min_length=1)]
"""The same, of one at least."""
