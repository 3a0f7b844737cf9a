"""The factors of the ablation grid as options: each takes several levels, and all are crossed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..intervention.levels import FACTORS, USUAL_LEVELS
from .arguments import Container, add_several

if TYPE_CHECKING:
    from ..intervention.setting import Setting

_HELP = {
    "ablation": "what a cut edge carries",
    "component": "what is cut as one: edge, node (all edges out of it), head-qkv (all edges into one head's queries, "
    "keys or values)",
    "embedding": "input nodes: the circuit's own, token, sum, split, or kept, which are never cut",
    "set": "what is cut: the complement of the circuit (faithfulness) or the circuit (completeness)",
    "direction": "noising (a clean run with cut edges corrupted) or denoising (a corrupted run with kept edges clean)",
    "pruning": "pruned (without dead ends: edges on no path of kept edges from an input to the logits) or unpruned",
    "positions": "where edges are cut: all, or names of the task's positions joined by +",
    "objective": "what is measured",
    "aggregation": "ratio-of-means, median-of-ratios, or mean-of-ratios (only to reproduce a paper)",
    "reference": "what counts as nothing: cut-graph (everything cut), corrupted-run, none",
}
_FLAGS = {"set": "cut"}  # of the factors whose option has another name: --set is a method's parameter everywhere


def add_factors(parser: Container, **defaults: str) -> None:
    """An option for each factor.

    Args:
        defaults: what the help says of the default of each factor that has another than a single setting's.
    """
    for factor, text in _HELP.items():
        flag = _FLAGS.get(factor, factor)
        metavar = factor[0].upper() if factor in ("ablation", "objective") else flag.upper()
        add_several(parser, f"--{flag}", metavar, f"{text} (default: {(USUAL_LEVELS | defaults)[factor]})", dest=factor)


def settings(options: argparse.Namespace, **defaults: Any) -> tuple[Setting, ...]:
    """Every combination of the levels given, each once.

    Args:
        defaults: factor -> levels, where the option was not given.

    Raises:
        SpecError: a level that does not exist.
    """
    from ..intervention.setting import grid

    levels = {factor: getattr(options, factor) or defaults.get(factor) for factor in FACTORS}
    return grid(**{factor: tuple(dict.fromkeys(given)) for factor, given in levels.items() if given})
