"""Tables as people read them: chosen columns, rounded numbers with their intervals, the best in bold.

The tidy tables (``tables.py``) hold every number in full and go to CSV; what is here goes into pages and papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ...suite.store.record import Benchmark
from ..read.labels import ORACLE, method_of, ordered_ablations, ordered_labels

DASH = "–"
MOST_VALUES = 6
MOST_TESTS = 30
"""Rows of paired tests under an ablation: of 25 methods there are 300 pairs, and nobody reads them all."""


@dataclass(frozen=True)
class Cell:
    """One entry: its text, what it is sorted by (None: always last), and whether it is the best or level with it."""

    text: str
    sort: float | str | None = None
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table to be read. ``numeric`` says which columns are aligned right and sorted as numbers."""

    name: str
    title: str
    caption: str
    headings: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...] = field(default=())


def number(value: Any, digits: int = 2) -> str:
    """A rounded number; a dash for what is undefined."""
    return DASH if pd.isna(value) else f"{value:.{digits}f}"


def amount(value: Any) -> str:
    """Seconds or passes in three significant digits, with thousands separated."""
    if pd.isna(value):
        return DASH
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if abs(value) < 1 else f"{value:.3g}"


def with_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """``0.87 [0.71, 0.95]``; without the brackets where there is no interval."""
    return number(value, digits) if pd.isna(low) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def share(value: float) -> str:
    """A fraction in whole percents."""
    return DASH if pd.isna(value) else f"{100 * value:.0f} %"


def text_cell(value: Any) -> Cell:
    return Cell(DASH) if pd.isna(value) else Cell(str(value), str(value))


def number_cell(text: str, value: Any, best: bool = False) -> Cell:
    return Cell(text, None if pd.isna(value) else float(value), best)


def rivals(aggregate: pd.DataFrame, metric: str = "auroc") -> pd.DataFrame:
    """The rows that can be ranked: the metric is defined, on as many programs as any method of that ablation has.

    A median over fewer programs is over easier ones, perhaps. The method that is given the answer takes no part.
    """
    most = aggregate.groupby("ablation")["n_programs"].transform("max")
    return aggregate[(aggregate["method"] != ORACLE) & aggregate[metric].notna() & (aggregate["n_programs"] == most)]


def best_of(aggregate: pd.DataFrame, metric: str = "auroc") -> set[tuple[str, str]]:
    """(ablation, label) of the best rival by ablation, and of those whose estimate lies in the best one's interval."""
    chosen: set[tuple[str, str]] = set()
    for ablation, group in rivals(aggregate, metric).groupby("ablation", sort=False):
        leader = group.sort_values([metric, "mean_auroc"], ascending=False, kind="stable").iloc[0]
        low = leader[metric] if pd.isna(leader[f"{metric}_low"]) else leader[f"{metric}_low"]
        chosen |= {(ablation, label) for label in group.loc[group[metric] >= low - 1e-9, "label"]}
    return chosen


def leaderboard(aggregate: pd.DataFrame) -> Table:
    """The main table: each method under each ablation, best first."""
    measured = {
        "auroc": "AUC",
        "auroc_structural": "AUC (hard)",
        "average_precision": "Avg. precision",
        "precision": "Precision",
        "recall": "Recall",
    }
    best = {metric: best_of(aggregate, metric) for metric in measured}
    rows = []
    for found in aggregate.to_dict("records"):
        key = (found["ablation"], found["label"])
        cells = [text_cell(found["label"]), text_cell(found["ablation"])]
        for metric in measured:
            ends = [found[f"{metric}{end}"] for end in ("", "_low", "_high")]
            cells.append(number_cell(with_interval(*ends), found[metric], key in best[metric]))
        exact = f"{found['exact_cells']}/{found['exact_of']}" if found["exact_of"] else DASH
        share = found["exact_cells"] / found["exact_of"] if found["exact_of"] else float("nan")
        cells += [number_cell(exact, share), number_cell(number(found["node_auroc"]), found["node_auroc"])]
        cells += [number_cell(amount(found[name]), found[name]) for name in ("passes", "seconds", "n_programs")]
        rows.append(tuple(cells))
    return Table(
        "leaderboard",
        "Recovery of the known circuits",
        "Median over programs with a 95 % bootstrap interval, against the truth of each method's own ablation. AUC: "
        "area under the ROC curve over all edges; hard: only over edges whose weights connect. Precision and recall of "
        "the circuit of the true size; exact: runs in which it is the true circuit. Bold: the best, and all that lie "
        "within the best one's interval (truth is given the answer and takes no part, nor do methods that were run on "
        "fewer programs).",
        ("Method", "Ablation", *measured.values(), "Exact", "Node AUC", "Passes", "Seconds", "Programs"),
        (False, False, *[True] * (len(measured) + 5)),
        tuple(rows),
    )


def programs(table: pd.DataFrame) -> Table:
    """The area of every method on every task."""
    labels = [name for name in table.columns if name not in ("ablation", "task", "true_size", "n_edges")]
    rows = []
    for found in table.to_dict("records"):
        rivals = [found[label] for label in labels if method_of(label) != ORACLE and not pd.isna(found[label])]
        top = max(rivals, default=float("nan"))
        cells = [text_cell(found["task"]), text_cell(found["ablation"])]
        cells += [number_cell(number(found[name], 0), found[name]) for name in ("true_size", "n_edges")]
        for label in labels:
            value = found[label]
            cells.append(number_cell(number(value, 3), value, method_of(label) != ORACLE and value >= top - 5e-4))
        rows.append(tuple(cells))
    return Table(
        "programs",
        "Program by program",
        "Area under the ROC curve against the truth of the method's own ablation, mean over seeds. Bold: the best in "
        "the row.",
        ("Task", "Ablation", "True edges", "Edges", *labels),
        (False, False, *[True] * (2 + len(labels))),
        tuple(rows),
    )


def runs(table: pd.DataFrame) -> Table:
    """Every method on every program under every ablation, with its cost."""
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found[name]) for name in ("label", "task", "ablation")]
        cells.append(number_cell(number(found["n_seeds"], 0), found["n_seeds"]))
        for metric in ("auroc", "average_precision"):
            ends = [found[f"{metric}{end}"] for end in ("", "_low", "_high")]
            cells.append(number_cell(with_interval(*ends), found[metric]))
        cells += [number_cell(amount(found[name]), found[name]) for name in ("seconds", "passes")]
        rows.append(tuple(cells))
    return Table(
        "runs",
        "Method by program by ablation",
        "Against the truth of the method's own ablation: the mean over seeds and Student's 95 % interval of it, where "
        "there are several. Seconds and passes of one run, medians; seeds that ran together share what they cost.",
        ("Method", "Task", "Ablation", "Seeds", "AUC", "Avg. precision", "Seconds", "Passes"),
        (False, False, False, *[True] * 5),
        tuple(rows),
    )


def mismatches(table: pd.DataFrame) -> Table:
    """What was found under one ablation, scored against the truth of each."""
    truths = ordered_ablations(table["truth_ablation"])
    values = {(row.label, row.ablation, row.truth_ablation): row for row in table.itertuples()}
    rows = []
    for label in ordered_labels(table["label"]):
        for ablation in ordered_ablations(table.loc[table["label"] == label, "ablation"]):
            cells = [text_cell(label), text_cell(ablation)]
            for truth in truths:
                row = values.get((label, ablation, truth))
                value = float("nan") if row is None else row.average_precision
                ends = () if row is None else (row.average_precision_low, row.average_precision_high)
                text = DASH if row is None else with_interval(value, *ends)
                cells.append(number_cell(text, value, truth == ablation and row is not None))
            rows.append(tuple(cells))
    return Table(
        "mismatch",
        "Scored against another ablation's truth",
        "Median average precision over programs [95 % interval]; the ROC curve hardly sees a few edges too many where "
        "few are true. Bold: truth and discovery under the same ablation.",
        ("Method", "Discovered under", *[f"{truth} truth" for truth in truths]),
        (False, False, *[True] * len(truths)),
        tuple(rows),
    )


def structures(table: pd.DataFrame) -> Table:
    """Under which ablations each method misses each structure."""
    names = list(dict.fromkeys(table.sort_values("place", kind="stable")["structure"]))
    rows = []
    for label, of_label in table.groupby("label", sort=False):
        cells = [text_cell(label)]
        for name in names:
            of_both = of_label[of_label["structure"] == name]
            missed = [
                ablation if not found else f"{ablation} in {n - round(found * n)} of {n} runs"
                for ablation, found, n in of_both[["ablation", "found", "n_cells"]].itertuples(index=False)
                if found < 1
            ]
            text = "found" if not missed else f"misses {', '.join(missed)}"
            text = text if len(of_both) else DASH
            cells.append(number_cell(text, of_both["found"].mean(), text == "found"))
        found = of_label["found"].mean()
        rows.append((*cells, number_cell(share(found), found)))
    return Table(
        "structures",
        "Structures that a method misses",
        "Under which ablations the edges ranked first, as many as the smallest minimal circuit has, are no minimal "
        "circuit of the model. Bold: found under every ablation. Last: the share of all runs in which the structure is "
        "found.",
        ("Method", *names, "Found"),
        (False, *[True] * (len(names) + 1)),
        tuple(rows),
    )


def comparisons(table: pd.DataFrame) -> Table:
    """Paired tests between methods: under each ablation those that differ most surely, up to ``MOST_TESTS``."""
    rows = []
    surest = table.sort_values(["p_holm", "p_value"], kind="stable").groupby("ablation", sort=False).head(MOST_TESTS)
    left_out = len(table) - len(surest)
    place = {ablation: i for i, ablation in enumerate(ordered_ablations(table["ablation"]))}
    kept = surest.sort_values("ablation", kind="stable", key=lambda column: column.map(place))
    for found in kept.to_dict("records"):
        winner = found["p_holm"] < 0.05
        cells = [text_cell(found[name]) for name in ("ablation", "first", "second")]
        cells += [number_cell(f"{found['n_different']} of {found['n']}", found["n_different"])]
        cells += [
            number_cell(f"{found['median_difference']:+.3f}", found["median_difference"]),
            number_cell(number(found["a12"]), found["a12"]),
        ]
        ends = ("p_holm", "p_value", "smallest_p")
        cells += [number_cell(number(found[name], 3), found[name], winner) for name in ends]
        rows.append(tuple(cells))
    return Table(
        "comparisons",
        "Paired tests between methods",
        "Wilcoxon signed-rank test of the areas, program by program; p (Holm) is corrected for all pairs under an "
        "ablation, bold below 0.05. A12 above one half: the first is better. Smallest p: what so many differing "
        "programs could give at best."
        + (f" The {left_out:,} less certain pairs are in comparisons.csv." if left_out else ""),
        (
            "Ablation",
            "First",
            "Second",
            "Programs that differ",
            "Median difference",
            "A12",
            "p (Holm)",
            "p",
            "Smallest p",
        ),
        (False, False, False, *[True] * 6),
        tuple(rows),
    )


def failures(table: pd.DataFrame) -> Table:
    """Cells without a result, and why; cells that differ in the task only share a row."""
    rows = []
    keys = ["kind", "label", "ablation", "reason"]
    for (kind, label, ablation, reason), group in table.groupby(keys, sort=True) if len(table) else ():
        tasks = ", ".join(sorted(set(group["task"])))
        rows.append(
            (
                text_cell(kind),
                text_cell(label),
                text_cell(ablation),
                number_cell(str(len(group)), len(group)),
                text_cell(reason),
                text_cell(tasks),
            )
        )
    return Table(
        "failures",
        "Cells without a result",
        "Undefined: the combination has no meaning. All others went wrong; run again with --retry-failed.",
        ("Kind", "Method", "Ablation", "Cells", "Reason", "Tasks"),
        (False, False, False, True, False, False),
        tuple(rows),
    )


def benchmarks(asked: Mapping[str, Benchmark], statuses: Mapping[str, str]) -> Table:
    """What the stores were filled for, and how far.

    Args:
        asked: ``Stores.benchmarks()``.
        statuses: cell key -> ``done`` or ``failed``, of the cells that there are.
    """
    rows = []
    for name, benchmark in asked.items():
        cells = benchmark.cells
        done = sum(statuses.get(key) == "done" for key in cells)
        missing = sum(key not in statuses for key in cells)
        counts = [number_cell(f"{n:,}", n) for n in (len(cells), done, len(cells) - done - missing, missing)]
        rows.append((text_cell(name), *counts, text_cell(str(benchmark.spec.get("description", "")))))
    return Table(
        "benchmarks",
        "Benchmarks",
        "What was asked for. Cells of one benchmark may be another's, too.",
        ("Benchmark", "Cells", "Done", "Without a result", "Not run yet", "What it measures"),
        (False, True, True, True, True, False),
        tuple(rows),
    )


def provenance(table: pd.DataFrame) -> Table:
    """Where the numbers come from; entries that differ in nearly every cell are only counted."""
    rows = []
    for name, group in table.groupby("name", sort=True):
        if len(group) > MOST_VALUES:
            rows.append(
                (
                    text_cell(name),
                    Cell(f"{len(group)} different values"),
                    number_cell(str(group["cells"].sum()), group["cells"].sum()),
                )
            )
        else:
            rows += [
                (text_cell(name), text_cell(row.value), number_cell(str(row.cells), row.cells))
                for row in group.itertuples()
            ]
    return Table(
        "provenance",
        "Provenance",
        "What the cells were computed with.",
        ("What", "Value", "Cells"),
        (False, False, True),
        tuple(rows),
    )
