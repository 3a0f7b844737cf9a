"""How faithful circuits are: under which evaluation, at which size, and how much that verdict depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from ...suite.scoring.sensitivity.ranks import kendall_matrix
from ..draw.evaluation import MOST, evaluation, rows_of_map
from ..draw.faithfulness import BEYOND, RANGE, faithfulness, own_curves
from ..draw.panels import has_bands
from ..page.table import (
    Table,
    TableCell,
    count_cell,
    listed,
    number,
    number_cell,
    share_text,
    size_of_circuit,
    text_cell,
    with_interval,
)
from ..read.labels import BASELINES, ordered_ablations, ordered_labels
from ..read.ranking import on_fewer_tasks
from ..read.results import Results
from .chapter import Chapter, Plot, chapter

_MOST_NAMED = 8
"""Methods that the summary names; the table has all."""

_LEAST_CHANGE = 0.05
"""Medians no further apart than this are not told apart in words."""


@chapter
class FaithfulnessChapter(Chapter):
    """What circuits keep of the model, under each evaluation ablation and at each size."""

    name, title, order = "faithfulness", "Faithfulness", 40

    def tables(self, results: Results) -> Sequence[Table]:
        if not len(results.faithfulness):
            return ()
        return evaluations(results.faithfulness), areas(results.areas)

    def figures(self, results: Results) -> Sequence[Plot]:
        table = results.faithfulness
        if not len(table):
            return ()
        return [
            *_heat(table, size_told(table)),
            *([_curves(table)] if len(results.areas) else []),
        ]

    def words(self, results: Results) -> Sequence[str]:
        text = (
            "A circuit is faithful when the model without the rest still does what it did; what is put in place of the "
            "rest is the analyst's choice."
        )
        return (text,) if len(results.faithfulness) else ()

    def summary(self, results: Results) -> Sequence[str]:
        # Where methods are judged by a known circuit, that is what is said of each; else what their circuits keep is.
        kept = [] if len(results.recovery) else what_is_kept(results.faithfulness, results.measured_on)
        text = dependence(results.faithfulness)
        return [*kept, *([text] if text else [])]

    def statistics(self, results: Results) -> Sequence[str]:
        table = results.faithfulness
        if not len(table):
            return ()
        under = listed(ordered_ablations(table["evaluation_ablation"]))
        sizes = listed([size_of_circuit(size) for size in dict.fromkeys(table["size"])])
        one = table["n_programs"].max() == 1
        return (
            "Faithfulness, (circuit - everything cut) / (model - everything cut), of circuits evaluated under "
            f"{under} ablation at {sizes} is "
            + (f"that of {results.measured_on}." if one else "the median over tasks with a 95 % bootstrap interval."),
        )

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        return {"evaluations": results.evaluated}


def _heat(table: pd.DataFrame, size: str) -> Sequence[Plot]:
    methods = rows_of_map(table, size)["label"].nunique()
    if not methods:
        return ()
    best = f" (the {MOST} best of {methods} methods, by the mean of framed squares; the table has all)"
    caption = (
        f"{over_tasks_drawn(table)}: faithfulness of circuits of {size_of_circuit(size)}{best * (methods > MOST)}, "
        "found under one ablation (rows) and evaluated under another (columns): 1 is the full model, 0 the model with "
        "everything cut. Framed: both agree. Empty: not run; hatched: the setting has no meaning there; dotted: it "
        "has one, but no number, because the full model does no more than nothing."
    )
    title = "Faithfulness by discovery and evaluation ablation"
    return (Plot("evaluation", title, caption, partial(evaluation, table, size)),)


def _curves(table: pd.DataFrame) -> Plot:
    band, curves = " Shaded bands are 95 % bootstrap intervals over tasks.", own_curves(table)
    caption = (
        f"{over_tasks_drawn(table)}: circuits of each size, found and evaluated under the same ablation. The dashed "
        "line is the full model." + band * has_bands(curves, "faithfulness_low", "faithfulness_high")
    )
    if not curves["faithfulness"].between(*RANGE).all():
        caption += f" {BEYOND}"
    return Plot("faithfulness", "Faithfulness against circuit size", caption, partial(faithfulness, table))


def evaluations(table: pd.DataFrame) -> Table:
    """How faithful circuits found under one ablation are under each, at every size."""
    over, several = ordered_ablations(table["evaluation_ablation"]), bool(table["n_programs"].max() > 1)
    rows, places = [], ["label", "ablation", "size"]
    for (label, ablation, size), group in table.groupby(places, sort=False):
        found = {row["evaluation_ablation"]: row for row in group.to_dict("records")}
        part = group["share"].iloc[0]
        cells = [text_cell(label), text_cell(ablation)]
        cells.append(TableCell(size if pd.isna(part) else share_text(part), 0.0 if pd.isna(part) else part))
        tasks = group.loc[group["n_programs"] > 0, "n_programs"]
        for name in over:
            row = found.get(name)
            value = float("nan") if row is None else row["faithfulness"]
            ends = () if row is None else (row["faithfulness_low"], row["faithfulness_high"])
            text = "not run" if row is None else _state(row["state"]) or with_interval(value, *ends)
            cells.append(number_cell(text, value, shaded=name == ablation and not pd.isna(value)))
        rows.append((*cells, _tasks(tasks)))
    return Table(
        "faithfulness",
        "Faithfulness under every evaluation ablation",
        f"{over_tasks(table)}{' [95 % bootstrap interval]' * several}: (circuit - everything cut) / (model - "
        "everything cut), 1 is the model, 0 nothing. Size: as many edges as the truth of the "
        "discovery ablation has, or a share of them all. Shaded: found and "
        "evaluated under the same ablation. Tasks: how many have a number, from the "
        "ablation with the fewest to the one with the most.",
        ("Method", "Discovered under", "Size", *[f"evaluated: {name}" for name in over], "Tasks"),
        (False, False, True, *[True] * len(over), True),
        tuple(rows),
        table,
        by=1,
    )


def _tasks(tasks: pd.Series) -> TableCell:
    """How many tasks medians are of: ``3``, or ``2 to 3`` where they differ."""
    if tasks.empty:
        return TableCell("0", 0.0)
    low, high = int(tasks.min()), int(tasks.max())
    return TableCell(str(high) if low == high else f"{low} to {high}", float(high))


def _state(state: str) -> str | None:
    return {"undefined": "no meaning", "no number": "no number"}.get(state)


def areas(table: pd.DataFrame) -> Table:
    """Areas under faithfulness over circuit size."""
    measured = {"cpr": "CPR", "cmd": "CMD", "cpr_log": "CPR, log size", "cmd_log": "CMD, log size"}
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found[name]) for name in ("label", "ablation", "evaluation_ablation")]
        for name in measured:
            ends = [found[f"{name}{end}"] for end in ("", "_low", "_high")]
            cells.append(number_cell(with_interval(*ends), found[name]))
        rows.append((*cells, count_cell(found["n_programs"])))
    sizes = " / ".join(dict.fromkeys(table["sizes"]))
    return Table(
        "areas",
        "Areas over circuit size",
        "CPR: area under faithfulness, more is better. CMD: area between faithfulness and 1, less is better. By the "
        f"trapezoid rule over the shares of the edges {sizes}, linearly (as MIB) and over log size; median over "
        "tasks [95 % bootstrap interval].",
        ("Method", "Discovered under", "Evaluated under", *measured.values(), "Tasks"),
        (False, False, False, *[True] * (len(measured) + 1)),
        tuple(rows),
        table,
    )


def what_is_kept(table: pd.DataFrame, measured_on: str) -> list[str]:
    """A paragraph for each ablation: method by method, what circuits of each size keep under the ablation of their
    search, the best methods first.

    Args:
        table: ``read.evaluations.faithfulness_table``. Methods that ran on fewer tasks than others are only named.
        measured_on: ``read.evaluations.measured_on``.
    """
    own = table[(table["ablation"] == table["evaluation_ablation"]) & (table["state"] == "defined")]
    over, texts, fewer = "on" if own["n_programs"].max() == 1 else "in the median over", [], on_fewer_tasks(own)
    own = own[~own["label"].isin(fewer)]
    for ablation in ordered_ablations(own["ablation"]):
        grid = own[own["ablation"] == ablation].pivot(index="label", columns="size", values="faithfulness")
        grid = grid[[size for size in dict.fromkeys(own["size"]) if size in grid]]
        order = grid.mean(axis=1).round(9).sort_values(ascending=False, kind="stable").index
        kept = [f"{label} {' / '.join(number(value) for value in grid.loc[label])}" for label in order[:_MOST_NAMED]]
        more = f"; the table has {len(order) - _MOST_NAMED} more" * (len(order) > _MOST_NAMED)
        sizes = " / ".join("the true size" if size == "true" else share_text(float(size)) for size in grid)
        texts.append(
            f"Under {ablation} ablation circuits with {sizes} of the edges keep of the model's behaviour, {over} "
            f"{measured_on}: {'; '.join(kept)}{more} (1: the whole model, 0: everything cut)."
        )
    if texts and fewer:
        texts[-1] += f" Not listed, because they ran on fewer tasks: {listed(ordered_labels(fewer))}."
    return texts


def over_tasks(table: pd.DataFrame) -> str:
    """What numbers are, in a caption: ``Median over tasks``, or ``Of one task``."""
    return "Of one task" if table["n_programs"].max() == 1 else "Median over tasks"


def over_tasks_drawn(table: pd.DataFrame) -> str:
    """The same below a figure, which writes at a method's name how many tasks it ran on where others ran on more."""
    fewer = f" ({table['n_programs'].max()}; fewer where a name says so)" if on_fewer_tasks(table) else ""
    return f"{over_tasks(table)}{fewer}"


def dependence(table: pd.DataFrame) -> str | None:
    """One paragraph: the typical and the largest change with the evaluation ablation, and what it does to the order.

    Args:
        table: ``read.evaluations.faithfulness_table``.
    Returns None where circuits were evaluated under one ablation only.
    """
    defined = table[(table["state"] == "defined") & ~table["label"].isin(BASELINES)]
    if defined.empty or defined["evaluation_ablation"].nunique() < 2:
        return None
    size = size_told(defined)
    defined = defined[defined["size"] == size]
    # Like the ranking, among methods that were run on as many programs as any.
    defined = defined[defined["n_programs"] == defined["n_programs"].max()]
    grid = defined.pivot(index=["label", "ablation"], columns="evaluation_ablation", values="faithfulness")
    grid = grid.dropna(thresh=2)
    if grid.empty:
        return None
    circuits = "circuits of the true size" if size == "true" else f"circuits with {size_of_circuit(size)}"
    tasks = int(defined["n_programs"].max())
    over, a_median = ("", "faithfulness") if tasks == 1 else (f"median over {tasks} tasks, ", "median faithfulness")
    moves = grid.max(axis=1) - grid.min(axis=1)
    if moves.max() < _LEAST_CHANGE:
        return f"Evaluating {circuits} under another ablation changes no {a_median} by {_LEAST_CHANGE:g} or more."
    label, ablation = moves.idxmax()
    best, worst = grid.loc[(label, ablation)].idxmax(), grid.loc[(label, ablation)].idxmin()
    ends = {
        row["evaluation_ablation"]: with_interval(*[row[f"faithfulness{end}"] for end in ("", "_low", "_high")])
        for row in defined[(defined["label"] == label) & (defined["ablation"] == ablation)].to_dict("records")
    }
    text = (
        f"Faithfulness depends on how a circuit is evaluated: what {label} finds under {ablation} ablation keeps "
        f"{ends[best]} of the model's behaviour ({over}{circuits}) when the rest is cut with {best}, "
        f"and {ends[worst]} with {worst}. "
    )
    text += (
        f"Over {len(grid)} pairs of method and discovery ablation, the evaluation ablation moves "
        f"{'it' if tasks == 1 else 'the median'} by "
        f"{number(moves.median())} (median) and {number(moves.max())} at most."
    )
    return text + _order(grid)


def size_told(table: pd.DataFrame) -> str:
    """The size that the figure and the summary are about: the true one where there is one, else the middle one."""
    sizes = list(table["size"].unique())
    return "true" if "true" in sizes else sizes[len(sizes) // 2]


def _order(grid: pd.DataFrame) -> str:
    """Whether methods come in the same order: Kendall's tau-b between evaluation ablations, per discovery ablation."""
    correlations, leaders = [], []
    for ablation in ordered_ablations(grid.index.get_level_values("ablation")):
        methods = (
            grid.xs(ablation, level="ablation").dropna(axis=1, how="all").dropna().round(6)
        )  # rounding breaks no tie
        if len(methods) < 3 or methods.shape[1] < 2:
            continue
        tau = kendall_matrix(methods.to_numpy())
        correlations += list(tau[np.triu_indices(len(tau), 1)])
        first = {frozenset(methods.index[methods[name] >= methods[name].max() - _LEAST_CHANGE]) for name in methods}
        leaders += [ablation] if not frozenset.intersection(*first) else []
    known = [value for value in correlations if not np.isnan(value)]
    if not known:
        return ""
    text = (
        " Under two evaluation ablations methods come in orders that agree by Kendall's tau of "
        f"{number(np.mean(known))} on average (1: the same order)"
    )
    if leaders:
        return f"{text}; of circuits found under {' and '.join(leaders)} no method is the best under all of them."
    return f"{text}; some method is the best, or within {_LEAST_CHANGE:g} of it, under all of them."
