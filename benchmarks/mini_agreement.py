"""How each method ranks the edges of the small trained models, against exact patching of every edge.

    python benchmarks/mini_agreement.py [--models mini ...] [--tasks ioi greater-than] [--prompts 50]

Rankings by absolute score under patch ablation. Methods that run circuits or train masks keep near the whole model and
are given KL; the others the task's own objective. Faithfulness: of the best edges by absolute score, at each of
``SIZES``, on the same number of validation prompts, in the task's objective. Prints a table in Markdown; results so
far: docs/mini-models.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau, spearmanr

SIZES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EXACT = "exact"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mini"])
    parser.add_argument("--tasks", nargs="+", default=["ioi", "greater-than"])
    parser.add_argument("--prompts", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | task | method | objective | Spearman | Kendall | rise | fall | at 10 % | at 30 % | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for model in given.models:
        for task in given.tasks:
            for row in agreement(model, task, given.prompts):
                numbers = (row[name] for name in ("spearman", "kendall", "rise", "fall", "at 10 %", "at 30 %"))
                shown = " | ".join(f"{number:.2f}" for number in numbers)
                print(f"| {model} | {task} | {row['method']} | {row['objective']} | {shown} | {row['seconds']:.2f} |")


def agreement(model_name: str, task_name: str, n_prompts: int, methods: list[str] | None = None) -> Iterator[dict]:
    """One row a method: its rank correlations with exact patching, and what its circuits keep.

    Args:
        n_prompts: of the training split for the search, and of the validation split for faithfulness.
        methods: names; ``None`` for all that need no known truth.

    Yields:
        ``spearman``, ``kendall``: with exact patching, of absolute scores over all edges; ``rise``: Spearman's rank
        correlation of faithfulness with size; ``fall``: how far a larger circuit is ever below a smaller one, over the
        range of the curve; ``at 10 %``, ``at 30 %``: faithfulness of so many edges.
    """
    from circuitmeter.suite.intervention.ablation import Ablation
    from circuitmeter.suite.intervention.objective import OBJECTIVES
    from circuitmeter.suite.methods import METHODS
    from circuitmeter.suite.plan.subject import limit_prompts, subject

    on, patch = subject(task_name, model_name, prompts=n_prompts), Ablation.parse("patch")
    judged_on = limit_prompts(on.task.data("validation"), n_prompts)

    def search(name: str) -> tuple[str, Any]:
        method = METHODS.get(name)
        objective = "kl" if method.objectives == "divergence" else on.task.objective
        preset = "quick" if method.objectives == "divergence" and "quick" in method.presets else None
        given = {"ablation": patch, "objective": OBJECTIVES.get(objective), "seed": 0, "truth": None}
        return objective, method.discover(on.model, on.data, **given, **method.resolve({}, preset)).scores

    exact = abs(search(EXACT)[1].flat())
    for name in METHODS if methods is None else methods:
        if "truth" in METHODS.get(name).needs:
            continue
        start = time.process_time()
        objective, scores = search(name)
        seconds, ranked = time.process_time() - start, abs(scores.flat())
        kept = faithfulness(on, scores, judged_on)
        yield {
            "method": name,
            "objective": objective,
            "spearman": float(spearmanr(ranked, exact)[0]),
            "kendall": float(kendalltau(ranked, exact)[0]),
            "rise": float(spearmanr(SIZES, kept)[0]),
            "fall": float((np.maximum.accumulate(kept) - kept).max() / np.ptp(kept)),
            "faithfulness": kept,
            "at 10 %": kept[SIZES.index(0.1)],
            "at 30 %": kept[SIZES.index(0.3)],
            "seconds": seconds,
        }


def faithfulness(on: Any, scores: Any, data: Any) -> list[float]:
    """Of the best edges by absolute score, one number a size: noising, the rest patched, the task's objective."""
    from circuitmeter.suite.circuit import top_n
    from circuitmeter.suite.intervention.faithfulness import measure_circuits
    from circuitmeter.suite.intervention.objective import OBJECTIVES
    from circuitmeter.suite.intervention.setting import Setting

    circuits = [top_n(scores, int(size * scores.graph.n_edges), True) for size in SIZES]
    setting = Setting.parse(f"patch | {on.task.objective}")
    found = measure_circuits(on.model, data, circuits, setting.cut, OBJECTIVES.get(on.task.objective))
    return [float(value) for value in found.faithfulness(setting.aggregation, setting.reference)]


if __name__ == "__main__":
    main()
