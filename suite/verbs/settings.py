"""``--set KEY=VALUE``: text becomes a value of the parameter's own type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import SpecError, unknown
from ..reading import Unreadable, parse_json, shown


def parse_settings(method: Any, settings: Sequence[str]) -> dict[str, Any]:
    """The parameters in ``settings``, each typed as the default of the method's parameter is.

    Raises:
        SpecError: no ``=``, a parameter the method does not have, one given twice, or a value of another type.
    """
    defaults = method.parameters
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise SpecError(f"--set {setting}: write KEY=VALUE, such as steps=5.")
        if key not in defaults:
            raise SpecError(f"--set {setting}: {unknown(f'parameter of {method.name}', key, defaults)}")
        if key in values:
            raise SpecError(f"--set gives {key} twice; give it once.")
        values[key] = typed(key, text, defaults[key])
    return values


def typed(key: str, text: str, default: Any) -> Any:
    """``text`` as a value of the type that ``default`` has.

    Lists are JSON or comma-separated. Where the default tells no type, JSON is read, or else the text itself is taken.

    >>> typed("steps", "7", 5), typed("thresholds", "0.1,1", (0.5,)), typed("order", "reverse", "forward")
    (7, [0.1, 1.0], 'reverse')
    """
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(default, int | float):
            return type(default)(text)
        if isinstance(default, list | tuple):
            return _several(text, default)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}.get(
            type(default), "a list of such values"
        )
        raise SpecError(f"--set {key}={shown(text)}: {key} is {kind}, such as {_shown(default)}.") from error
    return text if isinstance(default, str) else _guessed(text)


def _several(text: str, default: list[Any] | tuple[Any, ...]) -> list[Any]:
    parts = parse_json(text) if text.startswith("[") else [part for part in text.split(",") if part]
    return [type(default[0])(part) if default else _guessed(part) for part in parts]


def _guessed(text: Any) -> Any:
    try:
        return parse_json(text) if isinstance(text, str) else text
    except Unreadable:
        return text


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value).lower()
