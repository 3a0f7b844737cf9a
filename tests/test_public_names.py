"""The names that ``import circuitmeter`` promises."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest
from test_layers import modules

import circuitmeter

PROMISED = [
    "Ablation", "Circuit", "CircuitMeterError", "Data", "Discovery", "Edge", "EdgeScores", "Evaluator", "Graph",
    "NodeScores", "Store", "Transformer", "__version__", "load_model", "load_task", "load_tokenizer", "method",
]  # fmt: skip


def test_the_public_names_are_these():
    assert sorted(circuitmeter.__all__) == PROMISED
    assert sorted(dir(circuitmeter)) == PROMISED


@pytest.mark.parametrize("name", PROMISED)
def test_a_public_name_imports(name):
    value = getattr(circuitmeter, name)
    assert value.__doc__ if name != "__version__" else value


def test_an_unknown_name_is_explained():
    with pytest.raises(AttributeError, match="circuitmeter has no 'Circuits'; it has Ablation"):
        circuitmeter.Circuits  # noqa: B018


def test_importing_circuitmeter_imports_nothing_heavy():
    code = "import circuitmeter, sys; print([name for name in ('torch', 'numpy', 'pandas') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_no_public_type_stands_for_two_things():
    found: dict[str, list[str]] = {}
    for module, file in modules().items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for name in defined(node):
                found.setdefault(name, []).append(module)
    twice = {name: where for name, where in found.items() if len(where) > 1}
    assert twice == {}, "a type of another module has this name"


def defined(node: ast.stmt) -> list[str]:
    """The public types that a statement defines: classes and aliases, which are written LikeThis."""
    names = [node.name] if isinstance(node, ast.ClassDef) else []
    if isinstance(node, ast.Assign):
        names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if name[0].isupper() and any(letter.islower() for letter in name)]
