"""The names that ``import circuitmeter`` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
