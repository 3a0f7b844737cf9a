"""The factors of the ablation grid as options: each takes several levels, and all are crossed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .arguments import add_several

if TYPE_CHECKING:
    from ..setting import Setting

_HELP = {
    "component": "what is cut as one: edge (default), node (all edges out of it), head-qkv (all edges into one head's "
    "queries, keys or values)",
    "embedding": "input nodes: the circuit's own (default), token, sum, split, or kept, which are never cut",
    "set": "what is cut: the complement of the circuit (faithfulness, default) or the circuit (completeness)",
    "direction": "noising (a clean run with cut edges corrupted, default) or denoising (a corrupted run with kept "
    "edges clean)",
    "positions": "where edges are cut: all (default), or names of the task's positions joined by +",
    "aggregation": "ratio-of-means (default), median-of-ratios, or mean-of-ratios (only to reproduce a paper)",
    "reference": "what counts as nothing: cut-graph (everything cut, default), corrupted-run, none",
}


def add_factors(parser: argparse.ArgumentParser, *, ablation: str, objective: str) -> None:
    """An option for each factor.

    Args:
        ablation, objective: what the help says of their defaults.
    """
    add_several(parser, "--ablation", "A", f"what a cut edge carries (default: {ablation})")
    for factor in ("component", "embedding", "set", "direction", "positions"):
        add_several(parser, f"--{factor}", factor.upper(), _HELP[factor])
    add_several(parser, "--objective", "O", f"what is measured (default: {objective})")
    for factor in ("aggregation", "reference"):
        add_several(parser, f"--{factor}", factor.upper(), _HELP[factor])


def settings(options: argparse.Namespace, **defaults: Any) -> tuple[Setting, ...]:
    """Every combination of the levels given, each once.

    Args:
        defaults: factor -> levels, where the option was not given.

    Raises:
        SpecError: a level that does not exist.
    """
    from ..setting import FACTORS, grid

    levels = {factor: getattr(options, factor) or defaults.get(factor) for factor in FACTORS}
    return grid(**{factor: tuple(dict.fromkeys(given)) for factor, given in levels.items() if given})
