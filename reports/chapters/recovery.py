"""How well methods find the circuits that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from ...suite.scoring.bootstrap import RESAMPLES
from ..draw.auc_by_method import auc_by_method
from ..draw.cost import cost
from ..draw.panels import LEADING, MOST_LINES, has_bands
from ..draw.ranking_curves import precision_recall, roc
from ..draw.true_size import true_size
from ..page.table import (
    MISSING,
    Table,
    count,
    count_cell,
    is_missing,
    listed,
    number,
    number_cell,
    over_fewer,
    text_cell,
    with_interval,
)
from ..read import tables
from ..read.labels import BASELINES, is_own, method_of, ordered_ablations
from ..read.ranking import SAME, best_of, bold, reachable, rivals
from ..read.results import Results
from .chapter import Chapter, Plot, chapter

_METRICS = {
    "auroc": "AUC",
    "auroc_structural": "AUC (hard)",
    "average_precision": "Avg. precision",
    "precision": "Precision",
    "recall": "Recall",
}


@chapter
class RecoveryChapter(Chapter):
    """Area, curves, precision and recall, cost; program by program and run by run."""

    name, title, order = "recovery", "Recovery", 10

    def tables(self, results: Results) -> Sequence[Table]:
        if results.recovery.empty:
            return ()
        return (
            leaderboard(results.aggregate),
            programs(tables.program_table(results.recovery)),
            runs(tables.run_table(results.recovery)),
        )

    def figures(self, results: Results) -> Sequence[Plot]:
        if results.recovery.empty:
            return ()
        means = results.curves
        lines = "Each method is judged by the truth of the ablation it was run with. Lines are means over programs."
        if means["label"].nunique() > MOST_LINES:
            own = any(map(is_own, means["label"].unique()))
            chosen = f"Your own methods and the {LEADING} others" if own else f"The {LEADING} methods"
            lines += f" {chosen} with the highest curves are told apart; the rest are grey."

        def band(kind: str) -> str:
            shown = has_bands(means[means["kind"] == kind])
            return lines + " Shaded bands are pointwise 95 % bootstrap intervals over programs." * shown

        return (
            Plot(
                "auc_by_method",
                "Area under the ROC curve",
                "Small dots are programs (mean over seeds and variants), large markers medians, bars 95 % bootstrap "
                "intervals over programs; the dashed line is chance. Methods stand in the order of the mean over "
                "ablations of these medians, the highest at the top; truth, which is given the answer, comes last. At "
                "the right: over how many programs; a hollow marker is over fewer than the others. Each method is "
                "judged by the truth of the ablation it was run with.",
                partial(auc_by_method, results.recovery, results.aggregate),
            ),
            Plot(
                "roc",
                "ROC curves",
                "How many true edges are found for how many false ones, as edges are added by absolute score. "
                f"{band('roc')} The diagonal is chance.",
                partial(roc, means),
            ),
            Plot(
                "precision_recall",
                "Precision-recall curves",
                "How pure the ranking is down to each share of the true edges; few edges are true, so this tells more "
                f"than the ROC. {band('precision-recall')}",
                partial(precision_recall, means),
            ),
            Plot(
                "true_size",
                "At the true size",
                "Precision and recall of the circuit with as many edges as the true one, medians over programs with "
                "95 % bootstrap intervals. The two differ where a method scores too few edges above zero. A circuit "
                "without edges has no precision; a hollow marker is over fewer programs than the others. Methods stand "
                "in the order of the mean over ablations of the median recall, the one that is given the answer last.",
                partial(true_size, results.aggregate),
            ),
            Plot(
                "cost",
                "Cost against recovery",
                "Median number of passes over one example (forward and backward alike) that a cell takes, against the "
                "median area under the ROC curve with its interval. Named are the methods to which no other is at once "
                "cheaper and better, and methods of your own; a hollow marker is over fewer programs than the others; "
                "the dashed line is chance.",
                partial(cost, results.aggregate),
            ),
        )

    def summary(self, results: Results) -> Sequence[str]:
        ablations = ordered_ablations(results.aggregate["ablation"])
        return [_winner(results.aggregate, results.pairwise, ablation) for ablation in ablations]

    def statistics(self, results: Results) -> Sequence[str]:
        if results.recovery.empty:
            return ()
        tested = (
            "Pairs of methods are compared by two-sided Wilcoxon signed-rank tests of the areas, program by program, "
            "Holm-corrected over all pairs under an ablation, with Vargha and Delaney's A12.",
        )
        return (
            "Recovery (area under the ROC curve over edges, average precision, precision and recall at the true size) "
            f"is the median over programs with a 95 % percentile bootstrap interval ({count(RESAMPLES)} resamples of "
            "programs and, within each, of its runs).",
            *([] if results.pairwise.empty else tested),
        )

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        return {
            "recovery": results.recovery,
            "circuits": tables.circuit_table(results.records),
            "curves": results.curves,
        }


def leaderboard(aggregate: pd.DataFrame) -> Table:
    """The main table: each method under each ablation, best first."""
    best = {metric: bold(aggregate, metric) for metric in _METRICS}
    rows = []
    for found in aggregate.to_dict("records"):
        key = (found["ablation"], found["label"])
        cells = [text_cell(found["label"]), text_cell(found["ablation"])]
        for metric in _METRICS:
            ends = [found[f"{metric}{end}"] for end in ("", "_low", "_high")]
            text = over_fewer(with_interval(*ends), int(found[f"{metric}_n"]), int(found["n_programs"]))
            cells.append(number_cell(text, found[metric], key in best[metric]))
        exact = f"{found['exact_cells']}/{found['exact_of']}" if found["exact_of"] else MISSING
        share = found["exact_cells"] / found["exact_of"] if found["exact_of"] else float("nan")
        cells += [number_cell(exact, share), number_cell(number(found["node_auroc"]), found["node_auroc"])]
        cells += [count_cell(found["passes"]), number_cell(number(found["seconds"]), found["seconds"])]
        rows.append((*cells, count_cell(found["n_programs"])))
    return Table(
        "leaderboard",
        "Recovery of the known circuits",
        "Median over programs with a 95 % bootstrap interval, against the truth of each method's own ablation. AUC: "
        "area under the ROC curve over all edges; hard: only over edges whose weights connect. Precision and recall of "
        "the circuit of the true size; exact: runs in which it is the true circuit. In brackets: over how many of the "
        "row's programs a number is, if not over all; a circuit without edges has no precision. Bold: the best, and "
        "all that lie within the best one's interval, where that sets them apart from others (truth is given the "
        "answer and takes no part, nor do numbers over fewer programs than others).",
        ("Method", "Ablation", *_METRICS.values(), "Exact", "Node AUC", "Passes", "Seconds", "Programs"),
        (False, False, *[True] * (len(_METRICS) + 5)),
        tuple(rows),
        aggregate,
        by=1,
    )


def programs(table: pd.DataFrame) -> Table:
    """How hard each task is: the best methods, the median over methods, and the worst. The file has every method."""
    labels = [name for name in table.columns if name not in ("ablation", "task", "true_size", "n_edges")]
    rivals = [label for label in labels if method_of(label) not in BASELINES]
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found["task"]), text_cell(found["ablation"])]
        cells += [count_cell(found[name]) for name in ("true_size", "n_edges")]
        areas = {label: round(found[label], 9) for label in rivals if not is_missing(found[label])}
        best, worst = (end(areas.values(), default=float("nan")) for end in (max, min))
        cells += [number_cell(number(best, 3), best), text_cell(_with(areas, best))]
        middle = float(np.median(list(areas.values()))) if areas else float("nan")
        cells.append(number_cell(number(middle, 3), middle))
        cells += [number_cell(number(worst, 3), worst), text_cell(_with(areas, worst)), count_cell(len(areas))]
        rows.append(tuple(cells))
    return Table(
        "programs",
        "Program by program",
        "Which programs are hard: area under the ROC curve against the truth of the method's own ablation, mean over "
        "seeds, of the best method, of the median over methods, and of the worst; baselines left out. The table's CSV "
        "file has a column for each method.",
        ("Task", "Ablation", "True edges", "Edges", "Best", "By", "Median", "Worst", "Of", "Methods"),
        (False, False, True, True, True, False, True, True, False, True),
        tuple(rows),
        table,
    )


def _with(areas: Mapping[str, float], area: float) -> str:
    """The methods that have an area: three of them, and how many more."""
    labels = [label for label, own in areas.items() if own == area]
    return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "") or MISSING


def runs(table: pd.DataFrame) -> Table:
    """Every method on every program under every ablation, with its cost."""
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found[name]) for name in ("label", "task", "ablation")]
        cells.append(count_cell(found["n_seeds"]))
        for metric in ("auroc", "average_precision"):
            ends = [found[f"{metric}{end}"] for end in ("", "_low", "_high")]
            cells.append(number_cell(with_interval(*ends), found[metric]))
        cells += [number_cell(number(found["seconds"]), found["seconds"]), count_cell(found["passes"])]
        rows.append(tuple(cells))
    return Table(
        "runs",
        "Method by program by ablation",
        "Against the truth of the method's own ablation: the mean over seeds and Student's 95 % interval of it, where "
        "there are several. Seconds and passes of one run, medians; seeds that ran together share what they cost.",
        ("Method", "Task", "Ablation", "Seeds", "AUC", "Avg. precision", "Seconds", "Passes"),
        (False, False, False, *[True] * 5),
        tuple(rows),
        table,
    )


def _winner(aggregate: pd.DataFrame, pairwise: pd.DataFrame, ablation: str) -> str:
    """Who ranks the true edges best under an ablation, by how much, and how sure that is."""
    group = rivals(aggregate)
    group = group[group["ablation"] == ablation]
    if group.empty:
        return f"Under {ablation} ablation no method's area is defined."
    leader = group.sort_values(["auroc", "mean_auroc"], ascending=False, kind="stable").iloc[0]
    equal = (group["auroc"] >= leader["auroc"] - SAME) & (group["mean_auroc"] >= leader["mean_auroc"] - SAME)
    first = sorted(group.loc[equal, "label"])
    area = with_interval(leader["auroc"], leader["auroc_low"], leader["auroc_high"])
    n = int(leader["n_programs"])
    rank = "ranks" if len(first) == 1 else "rank"
    over = "one program" if n == 1 else f"{n} programs"
    text = f"Under {ablation} ablation {listed(first)} {rank} the true edges best: "
    text += f"median area under the ROC curve {area} over {over}"
    if leader["exact_of"] and len(first) == 1:
        text += f", the true circuit found exactly in {leader['exact_cells']} of {leader['exact_of']} runs"
    level = [label for place, label in sorted(best_of(aggregate)) if place == ablation and label not in first]
    text += f". Within that interval: {listed(level)}." if level else "."
    rest = [label for label in group["label"] if label not in first and label not in level]
    if rest:
        second = group[group["label"] == rest[0]].iloc[0]
        next_area = with_interval(second["auroc"], second["auroc_low"], second["auroc_high"])
        text += f" Next comes {second['label']} with {next_area}."
    return text + (_certainty(pairwise, ablation, leader["label"]) if len(first) == 1 else "")


def _certainty(pairwise: pd.DataFrame, ablation: str, leader: str) -> str:
    """From which methods paired tests set the leader apart."""
    of_ablation = pairwise[pairwise["ablation"] == ablation]
    tests = of_ablation[(of_ablation["first"] == leader) | (of_ablation["second"] == leader)]
    if tests.empty:
        return ""
    beaten = []
    for test in tests[tests["p_holm"] < 0.05].to_dict("records"):
        better = (test["a12"] > 0.5) == (test["first"] == leader)
        beaten += [test["second"] if test["first"] == leader else test["first"]] if better else []
    if beaten:
        return f" Paired tests over programs (Wilcoxon, Holm-corrected) set it apart from {listed(sorted(beaten))}."
    if not reachable(of_ablation).enough:
        programs = int(tests["n"].max())
        over = "one program" if programs == 1 else f"{programs} programs"
        return f" Paired tests of all methods over {over} cannot tell it from another one at p < 0.05 after correction."
    return " No paired test over programs sets it apart from another method at p < 0.05 after correction."
