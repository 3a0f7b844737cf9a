"""CEAP (``eap-path``, the conductance of every edge) against EAP-IG: which is truer, more stable, more faithful?

    python benchmarks/conductance.py [--steps 5 30] [--prompts 32] [--models mini] [--tasks ioi greater-than sva]

On certified models (compiled, gates, trained; patch ablation): the differences in the AUC, the F1 at the true
size and the Jaccard index of two resamples' circuits of that size, each paired by program, with a bootstrap interval
over programs. On language models: the Jaccard index of circuits of ``SIZES``, the rank correlation with exact patching
(``--exact``, for small models) and the faithfulness on held-out prompts, each paired by prompt, with an interval over
prompts. Positive: CEAP's is larger. EAP-IG with the paper's points (right ends) and with midpoints, because CEAP takes
midpoints. Prints tables in Markdown; results so far: docs/structure.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import rankdata

RESAMPLES = 300
SIZES = (0.03, 0.1, 0.3)
RIVALS = {"right ends": {"endpoint": "right"}, "midpoints": {"endpoint": "midpoint"}}
CERTIFIED = (
    *(f"tracr/{name}" for name in ("xproportion", "reverse", "hist", "sort", "pair_balance", "majority_a")),
    *(f"gates/{name}" for name in ("adder", "and", "or", "xor", "backup", "redundant", "cancelling", "saturation")),
    *(
        f"trained/{name}{norm}"
        for name in ("count_a", "equal_neighbours", "shift1", "xproportion")
        for norm in ("", "-norm")
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 30])
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--certified", nargs="*", default=CERTIFIED, help="tasks of models with a certified circuit")
    parser.add_argument("--models", nargs="*", default=["mini"])
    parser.add_argument("--tasks", nargs="+", default=["ioi", "greater-than", "sva"])
    parser.add_argument("--exact", action="store_true", help="compare with exact patching, on language models too")
    given = parser.parse_args()
    print("| on | steps | EAP-IG's points | number | EAP-IG | CEAP | difference | 95 % interval |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    if given.certified:
        for row in on_certified(given.certified, given.steps, given.prompts):
            _print(f"{len(given.certified)} certified models", row)
    for model in given.models:
        for task in given.tasks:
            for row in on_language_model(task, model, given.steps, given.prompts, given.exact):
                _print(f"`{model}`, {task}", row)


def _print(on: str, row: dict[str, Any]) -> None:
    one, other, gap, low, high = (f"{row[name]:.3f}" for name in ("eap-ig", "ceap", "difference", "low", "high"))
    print(
        f"| {on} | {row['steps']} | {row['points']} | {row['number']} | {one} | {other} | {gap} | {low} to {high} |",
        flush=True,
    )


def on_certified(tasks: tuple[str, ...], steps: list[int], n_prompts: int) -> Iterator[dict[str, Any]]:
    """A row per number of steps, EAP-IG's points and number, over programs."""
    from circuitmeter.suite.scoring.bootstrap import interval
    from circuitmeter.suite.scoring.recovery import recovery
    from circuitmeter.suite.scoring.structure.circuit_change import over_resamples, scores_from_flat

    found: dict[tuple[int, str, str], list[tuple[float, float]]] = {}
    for task in tasks:
        on = _subject(task, None, n_prompts)
        truth, graph = on.reference(_patch()), on.model.graph
        n = int(truth.core.sum())

        def numbers(scores: np.ndarray, truth: Any = truth, graph: Any = graph, n: int = n) -> dict[str, float]:
            whole = scores.mean(0)
            recovered = recovery(scores_from_flat(graph, whole), truth)
            return {
                "AUC": recovered["auroc"],
                "F1": recovered["f1"],
                "Jaccard": float(over_resamples(scores, None, [n], resamples=RESAMPLES)[0].jaccard[0]),
            }

        for m in steps:
            ceap = numbers(_scores(on, "eap-path", steps=m))
            for points, parameters in RIVALS.items():
                rival = numbers(_scores(on, "eap-ig", steps=m, **parameters))
                for name in ceap:
                    found.setdefault((m, points, name), []).append((rival[name], ceap[name]))
    for (m, points, name), pairs in found.items():
        values = np.array(pairs)
        gap = interval({task: [pair[1] - pair[0]] for task, pair in zip(tasks, pairs, strict=True)}, statistic="mean")
        yield _row(m, points, name, *values.mean(0), gap.estimate, gap.low, gap.high)


def on_language_model(task: str, model: str, steps: list[int], n_prompts: int, exact: bool) -> Iterator[dict[str, Any]]:
    """A row per number of steps, EAP-IG's points, number and size, over prompts."""
    from circuitmeter.suite.scoring.structure.circuit_change import over_resamples
    from circuitmeter.suite.scoring.structure.stability import difference, prompt_counts, resampled

    on = _subject(task, model, n_prompts)
    sizes = [max(1, round(share * on.model.graph.n_edges)) for share in SIZES]
    counts = prompt_counts(on.data.n, None, RESAMPLES)
    truth = resampled(_scores(on, "exact"), counts) if exact else None
    for m in steps:
        ceap = _scores(on, "eap-path", steps=m)
        stable, _ = over_resamples(ceap, None, sizes, resamples=RESAMPLES)
        for points, parameters in RIVALS.items():
            rival = _scores(on, "eap-ig", steps=m, **parameters)
            other, _ = over_resamples(rival, None, sizes, resamples=RESAMPLES)
            for i, gap in enumerate(difference(stable, other, counts)):
                yield _row(m, points, f"Jaccard, {SIZES[i]:.0%} of edges", other.jaccard[i], stable.jaccard[i], *gap)
            if truth is not None:
                both = [_rank_correlations(resampled(each, counts), truth) for each in (rival, ceap)]
                yield _over_draws(m, points, "rank correlation with exact patching", *both)
            kept = _faithfulness(on, [rival.mean(0), ceap.mean(0)], sizes, n_prompts)
            for i, draws in enumerate(kept):
                yield _over_draws(m, points, f"faithfulness, {SIZES[i]:.0%} of edges", *draws)


def _row(steps: int, points: str, number: str, one: float, other: float, gap: float, low: float, high: float) -> dict:
    found = {"steps": steps, "points": points, "number": number, "eap-ig": one, "ceap": other}
    return found | {"difference": gap, "low": low, "high": high}


def _over_draws(steps: int, points: str, number: str, one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """The row of a number in each resample, of EAP-IG and of CEAP on the same ones; percentile interval."""
    low, high = np.quantile(other - one, [0.025, 0.975])
    return _row(steps, points, number, one.mean(), other.mean(), (other - one).mean(), low, high)


def _rank_correlations(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Spearman's correlation of absolute scores, row by row: [B] of [B, E] and [B, E]."""
    ranks = [rankdata(np.abs(each).round(12), axis=1) for each in (scores, others)]
    ranks = [each - each.mean(1, keepdims=True) for each in ranks]
    return (ranks[0] * ranks[1]).sum(1) / np.linalg.norm(ranks[0], axis=1) / np.linalg.norm(ranks[1], axis=1)


def _faithfulness(on: Any, scores: list[np.ndarray], sizes: list[int], n_prompts: int) -> list[list[np.ndarray]]:
    """By size, of both methods' circuits, the faithfulness in each resample of the held-out prompts [B]."""
    import torch

    from circuitmeter.suite.circuit import top_n
    from circuitmeter.suite.intervention.faithfulness import measure_circuits
    from circuitmeter.suite.intervention.objective import OBJECTIVES
    from circuitmeter.suite.intervention.setting import Cut
    from circuitmeter.suite.plan.subject import limit_prompts
    from circuitmeter.suite.scoring.structure.circuit_change import scores_from_flat

    data = limit_prompts(on.task.data("validation"), n_prompts)
    circuits = [top_n(scores_from_flat(on.model.graph, each), size) for size in sizes for each in scores]
    found = measure_circuits(on.model, data, circuits, Cut(_patch()), OBJECTIVES.get(on.task.objective))
    rows = torch.from_numpy(np.random.default_rng(0).integers(data.n, size=(RESAMPLES, data.n)))
    values = found.faithfulness(rows=rows).numpy()
    return [list(values[2 * i : 2 * i + 2]) for i in range(len(sizes))]


def _patch() -> Any:
    from circuitmeter.suite.intervention.ablation import Ablation

    return Ablation.parse("patch")


def _subject(task: str, model: str | None, n_prompts: int) -> Any:
    from circuitmeter.suite.plan.subject import subject

    return subject(task, model, prompts=n_prompts)


def _scores(on: Any, name: str, **parameters: Any) -> np.ndarray:
    """The scores of each prompt [N, E]."""
    from circuitmeter.suite.intervention.objective import OBJECTIVES
    from circuitmeter.suite.methods import METHODS

    method = METHODS.get(name)
    given = {"ablation": _patch(), "objective": OBJECTIVES.get(on.task.objective), **method.resolve(parameters)}
    return method.scores_by_prompt(on.model, on.data, **given).numpy()


if __name__ == "__main__":
    main()
