"""CircuitMeter: does a circuit-discovery method find the circuit? The public names, imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "1.0.0rc1"

_PUBLIC = {
    "Ablation": "suite.intervention.ablation",
    "Circuit": "suite.circuit",
    "CircuitMeterError": "suite.errors",
    "Data": "suite.data",
    "Discovery": "suite.circuit",
    "Edge": "suite.model.graph",
    "EdgeScores": "suite.circuit",
    "Evaluator": "suite.intervention.evaluator",
    "Graph": "suite.model.graph",
    "NodeScores": "suite.circuit",
    "Store": "suite.store.store",
    "Transformer": "suite.model.transformer",
    "load_model": "suite.model.load.by_name",
    "load_task": "tasks:load",
    "load_tokenizer": "suite.model.load.by_name",
    "method": "suite.methods",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"circuitmeter has no {name!r}; it has {', '.join(__all__)}.")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(f"circuitmeter.{module}"), attribute or name)


def __dir__() -> list[str]:
    return __all__
