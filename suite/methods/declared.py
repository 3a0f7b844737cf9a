"""The declarations of a method in a user's file, read in a process of its own: planning does not execute the file."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..errors import MethodError, SpecError
from ..process import Ended, Raised, call_apart
from .registry import Method, load_user_method

_SECONDS = 300.0  # for the file and all that it imports
_CODE = ("function", "passes", "code")  # what JSON cannot hold
_SETS = ("needs", "ablations", "cost_only", "exact_for", "nodes", "may_be_zero")  # or "any", which is a word


def declared_by(where: str, load: Callable[[str], Method] = load_user_method) -> Method:
    """A method as it is declared. Its function has the signature of the user's function and cannot be called.

    Args:
        where: what ``load`` takes, such as ``FILE.py:FUNCTION``.
        load: returns the method; a function of a module, because the other process finds it by name.

    Raises:
        MethodError: ``load`` raises it, or the process has ended.
        SpecError: a default is not a number, a text or a list.
    """
    try:
        stated = json.loads(call_apart(_declarations, where, load, seconds=_SECONDS))
    except Ended as error:
        raise MethodError(f"{where.rpartition(':')[0]} cannot be imported: {error}.") from None
    except Raised as error:
        raise (SpecError if error.error == "SpecError" else MethodError)(str(error)) from None
    signature = inspect.Signature([_parameter(*each) for each in stated.pop("signature")])
    sets: dict[str, Any] = {
        name: each if isinstance(each := stated.pop(name), str) else frozenset(each) for name in _SETS
    }
    return Method(function=_only_declared(where, signature), **stated, **sets)


def _declarations(where: str, load: Callable[[str], Method]) -> bytes:
    """The declarations of a method, as JSON."""
    method = load(where)
    stated = {field.name: getattr(method, field.name) for field in fields(method) if field.name not in _CODE}
    stated |= {name: each if isinstance(each := stated[name], str) else sorted(each) for name in _SETS}
    stated["code"] = method.version
    signature = [_stated(each) for each in inspect.signature(method.function).parameters.values()]
    try:
        return json.dumps(stated | {"signature": signature, "presets": dict(method.presets)}).encode()
    except (TypeError, ValueError) as error:
        raise SpecError(f"{method.name}: parameters must be numbers, texts or lists ({error}).") from None


def _stated(parameter: inspect.Parameter) -> tuple[str, int, bool, Any]:
    has_default = parameter.default is not parameter.empty
    return parameter.name, int(parameter.kind), has_default, parameter.default if has_default else None


def _parameter(name: str, kind: int, has_default: bool, default: Any) -> inspect.Parameter:
    default = tuple(default) if isinstance(default, list) else default
    return inspect.Parameter(name, inspect._ParameterKind(kind), default=default if has_default else inspect._empty)


def _only_declared(where: str, signature: inspect.Signature) -> Callable[..., Any]:
    def function(*given: Any, **named: Any) -> Any:
        raise MethodError(f"{where} is only declared here; it runs in a process of its own.")

    vars(function)["__signature__"] = signature
    return function
