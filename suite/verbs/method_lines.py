"""One line per method, as its source declares it: importing a method imports torch, which takes seconds.

Where another package has methods (entry points), those can only be known by importing them, and all come from METHODS.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ..registry import METHODS_GROUP, plug_ins

_FOLDER = Path(__file__).parents[1] / "methods"


def method_lines() -> list[dict[str, str]]:
    """The name, the paper and the description of each method, sorted by name."""
    if plug_ins(METHODS_GROUP):
        from ..methods import METHODS

        methods = map(METHODS.get, METHODS)
        return [{"name": its.name, "paper": its.paper, "description": its.description} for its in methods]
    sources = (file.read_text(encoding="utf-8") for file in _FOLDER.glob("*.py"))
    return sorted((line for source in sources for line in _declared(source)), key=lambda line: line["name"])


def _declared(source: str) -> Iterator[dict[str, str]]:
    """What a file's functions with the decorator ``@method(name, paper=...)`` say of themselves."""
    if "\n@method(" not in source:
        return
    for function in (each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef)):
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "method":
                (paper,) = (given.value for given in call.keywords if given.arg == "paper")
                yield {
                    "name": ast.literal_eval(call.args[0]),
                    "paper": ast.literal_eval(paper),
                    "description": (ast.get_docstring(function) or "").partition("\n")[0],
                }
