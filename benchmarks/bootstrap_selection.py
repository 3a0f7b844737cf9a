"""The bootstrap that selects edges, with truth: how many of the false ones it keeps, against its resamples B.

    python benchmarks/bootstrap_selection.py [--prompts 32] [--figure docs/bootstrap-selection.svg]

An edge is kept when the interval of its mean score over prompts excludes zero (``suite/selection.py``, ``confident``).
The code released with arXiv:2510.25786 takes the standard deviation of B bootstrap means, which is the standard error
already, and divides it by sqrt(B) once more. Two truths: a simulation in which 100 of 2,000 edges have an effect, one
standard deviation of a prompt's score, and the others none; and the trained models, whose circuit under patch is
certified, by scores of EAP-IG (5 steps, as there). Prints a table in Markdown; results so far: docs/structure.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

SEEDS = 10
RESAMPLES = (10, 30, 100, 300, 1000, 3000)
RULES = {"standard error": False, "released: divided by √B again": True}
TRAINED = ("count_a", "equal_neighbours", "shift1", "xproportion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--figure", type=Path, help="an SVG file to write")
    given = parser.parse_args()
    table = pd.DataFrame(measured(given.prompts))
    print("| scores | rule | B | false that are kept | 95 % interval | kept that are false | true that are kept |")
    print("|---|---|---|---|---|---|---|")
    for row in table.to_dict("records"):
        ends = f"{row['low']:.2f} to {row['high']:.2f}"
        shares = f"{row['false_discoveries']:.2f} | {row['true_kept']:.2f}"
        print(f"| {row['panel']} | {row['series']} | {row['x']} | {row['y']:.2f} | {ends} | {shares} |")
    if given.figure:
        from circuitmeter.reports.draw.lines import lines
        from circuitmeter.reports.draw.style import render

        x_label, y_label = "bootstrap resamples B", "share of the false edges\nthat are kept"
        figure = lines(table.assign(origin="ours"), x_label, y_label, log=("x",))
        given.figure.write_bytes(render(figure, "svg"))


def measured(n_prompts: int) -> Iterator[dict[str, object]]:
    """One row per set of scores, rule and B: means over simulations or models, with a bootstrap interval over them."""
    from circuitmeter.suite.scoring.bootstrap import interval

    sets = {"simulated": simulated(n_prompts), "trained models": of_trained(n_prompts)}
    for panel, scores in sets.items():
        for rule, released in RULES.items():
            for resamples in RESAMPLES:
                found = {name: shares_of(*each, resamples, released) for name, each in scores.items()}
                row = {"panel": panel, "series": rule, "x": resamples}
                for column, name in enumerate(("y", "false_discoveries", "true_kept")):
                    over = interval({key: of_one[:, column] for key, of_one in found.items()}, statistic="mean")
                    row[name] = over.estimate
                    row |= {"low": over.low, "high": over.high} if name == "y" else {}
                yield row


def shares_of(by_prompt: np.ndarray, true: np.ndarray, resamples: int, released: bool) -> np.ndarray:
    """The share of the false edges kept, of the edges kept that are false, of the true kept: float64 [SEEDS, 3]."""
    from circuitmeter.suite.selection import confident

    rows = []
    for seed in range(SEEDS):
        kept = confident(by_prompt, resamples=resamples, seed=seed, released=released)
        rows.append([kept[~true].mean(), (~true)[kept].mean() if kept.any() else np.nan, kept[true].mean()])
    return np.array(rows)


def simulated(n_prompts: int) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """Scores [N, 2000] of ten simulations, and which edges have an effect."""
    true = np.arange(2000) < 100
    draw = {f"{i}": np.random.default_rng(i).normal(size=(n_prompts, len(true))) for i in range(10)}
    return {name: (noise + true, true) for name, noise in draw.items()}


def of_trained(n_prompts: int) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """EAP-IG's scores of each prompt [N, E] on the trained models, and which edges are certified; optional ones out."""
    from circuitmeter.suite.intervention.ablation import Ablation
    from circuitmeter.suite.intervention.objective import OBJECTIVES
    from circuitmeter.suite.methods import METHODS
    from circuitmeter.suite.plan.subject import subject

    patch, method, found = Ablation.parse("patch"), METHODS.get("eap-ig"), {}
    for task in (f"trained/{program}{norm}" for program in TRAINED for norm in ("", "-norm")):
        on = subject(task, None, prompts=n_prompts)
        truth, objective = on.reference(patch), OBJECTIVES.get(on.task.objective)
        given = {"ablation": patch, "objective": objective, **method.resolve({})}
        scores = method.scores_by_prompt(on.model, on.data, **given).numpy()
        exists = on.model.graph.exists
        counted = ~truth.optional[exists].numpy()
        found[task] = scores[:, counted], truth.core[exists].numpy()[counted]
    return found


if __name__ == "__main__":
    main()
