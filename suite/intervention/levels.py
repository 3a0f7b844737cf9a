"""The factors of the ablation grid, their levels, and the level that each has unless told otherwise.

Without torch, because the command line names them before anything is loaded.
"""

from __future__ import annotations

from typing import Literal, get_args

Component = Literal["edge", "node", "head-qkv"]
Embedding = Literal["own", "token", "sum", "split", "kept"]
Set = Literal["complement", "circuit"]
Direction = Literal["noising", "denoising"]
Pruning = Literal["pruned", "unpruned"]
Aggregation = Literal["ratio-of-means", "median-of-ratios", "mean-of-ratios"]
ReferencePoint = Literal["none", "corrupted-run", "cut-graph"]
LEVELS: dict[str, tuple[str, ...]] = {
    "component": get_args(Component),
    "embedding": get_args(Embedding),
    "set": get_args(Set),
    "direction": get_args(Direction),
    "pruning": get_args(Pruning),
    "aggregation": get_args(Aggregation),
    "reference": get_args(ReferencePoint),
}
USUAL_LEVELS = {
    "component": "edge",
    "embedding": "own",
    "set": "complement",
    "direction": "noising",
    "pruning": "pruned",
    "positions": "all",
    "aggregation": "ratio-of-means",
    "reference": "cut-graph",
}
"""What a setting is where nothing else is said (a test compares it with ``Cut`` and ``Setting``)."""

CUT_FACTORS = ("ablation", "component", "embedding", "set", "direction", "pruning", "positions")
VALUE_FACTORS = ("objective", "aggregation", "reference")
FACTORS = (*CUT_FACTORS, *VALUE_FACTORS)
