"""Circuits that papers published for language models, made from their rules: references, never truths.

    ioi/acdc                    963 edges
    ioi/auto-circuit            739 edges, as that library's code gives them
    ioi/auto-circuit@corrected  771 edges, with its mistake about the output corrected
    ioi/eap-ig                  215 edges
    greater-than/acdc           235 edges
    greater-than/eap-ig         240 edges
    docstring/acdc               24 edges

The rules of one task disagree in substance: of the 215 edges of ``ioi/eap-ig``, 144 are in ``ioi/acdc``. Whoever scores
against one of them says which.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...suite.circuit import Reference
from ...suite.errors import SpecError, unknown
from ...suite.model.graph import Graph
from . import docstring, greater_than, ioi

GPT2 = Graph(n_layers=12, n_heads=12)
ATTENTION_ONLY = Graph(n_layers=4, n_heads=8, mlps=False)

# Name -> (the graph, whose edges the rule gives, the rule).
RULES: dict[str, tuple[Graph, Callable[[Graph], set[str]]]] = {
    "ioi/acdc": (GPT2, ioi.acdc),
    "ioi/auto-circuit": (GPT2, ioi.auto_circuit),
    "ioi/auto-circuit@corrected": (GPT2, ioi.auto_circuit_corrected),
    "ioi/eap-ig": (GPT2, ioi.eap_ig),
    "greater-than/acdc": (GPT2, greater_than.acdc),
    "greater-than/eap-ig": (GPT2, greater_than.eap_ig),
    "docstring/acdc": (ATTENTION_ONLY, docstring.acdc),
}


def names() -> list[str]:
    """The published circuits."""
    return list(RULES)


def load(name: str) -> Reference:
    """A published circuit as a reference that is not certified. Raises SpecError when none has this name."""
    if name not in RULES:
        raise SpecError(unknown("published circuit", name, RULES))
    graph, rule = RULES[name]
    core = graph.matrix(sorted(rule(graph)))
    return Reference(name, graph, core=core, optional=torch.zeros_like(core), certified=False)


__all__ = ["load", "names"]
