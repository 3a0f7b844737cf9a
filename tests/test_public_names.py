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


# What every file of a folder, or every registry, calls alike because it plays the same part there.
SAME_PART = {
    "acdc": "ground_truth.manual", "eap_ig": "ground_truth.manual",
    "add_arguments": "suite.verbs", "run": "suite",  # a verb's, and a benchmark's
    "convert": "suite.model.convert", "discover": "suite.methods", "read_out": "suite.methods",
    "execute": "suite.run.executors", "family": "tasks", "prompts": "tasks", "task": "tasks", "main": "",
    "load": "", "names": "", "method": "suite",  # by name: ``tasks.load``, ``manual.names``, ``names.method``
    "NAME": "suite.verbs", "HELP": "suite.verbs", "EPILOG": "suite.verbs", "RENAMED": "suite.verbs",
    "FAMILY": "tasks", "FAMILIES": "tasks", "FAMILY_NAME": "tasks", "TEMPLATES": "tasks", "VARIANTS": "tasks",
    "MODEL_TYPES": "suite.model.convert",
}  # fmt: skip


def test_no_public_name_stands_for_two_things():
    found: dict[str, list[str]] = {}
    for module, file in modules().items():
        if module.rpartition(".")[2].startswith("_"):
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            for name in defined(node):
                found.setdefault(name, []).append(module)
    for name, where in found.items():
        part = SAME_PART.get(name)
        alike = part is not None and all(module.startswith(part) for module in where)
        assert len(where) == 1 or alike, f"{name} is defined in {', '.join(where)}"
    assert all(len(found[name]) > 1 for name in SAME_PART), "these stand for one thing: take them off the list"


def defined(node: ast.stmt) -> list[str]:
    """The public functions, types and constants that a statement defines; variables of types are none of them."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        names = [node.name]
    elif isinstance(node, ast.Assign) and not ast.unparse(node.value).startswith("TypeVar("):
        targets = [part for target in node.targets for part in ast.walk(target)]
        names = [target.id for target in targets if isinstance(target, ast.Name)]
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        names = [node.target.id]
    else:
        names = []
    return [name for name in names if not name.startswith("_")]
