"""What was found under one ablation, scored against the truth of another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from ..draw.mismatch import MOST_COLUMNS, mismatch
from ..page.table import MISSING, Table, number, number_cell, text_cell, with_interval
from ..read.labels import BASELINES, ordered_ablations, ordered_labels
from ..read.ranking import compared_alike
from ..read.results import Results
from .chapter import Chapter, Plot, chapter

_SMALL = 0.01
"""A change of the median average precision up to which the truth's ablation makes no difference in words."""


@chapter
class MismatchChapter(Chapter):
    """Which circuit is true depends on how edges are cut."""

    name, title, order = "mismatch", "Truth mismatch", 20

    def tables(self, results: Results) -> Sequence[Table]:
        return (mismatches(results.mismatch),) if _several(results) else ()

    def figures(self, results: Results) -> Sequence[Plot]:
        if not _several(results):
            return ()
        caption = (
            "Median average precision when what was found under one ablation is scored against the true circuit of "
            "another. Framed: both agree, which is how methods are judged elsewhere on this page. Empty: not run, or "
            "without a certified circuit."
        )
        n = results.mismatch["ablation"].nunique() * results.mismatch["truth_ablation"].nunique()
        caption += " The median over methods, baselines left out; the table has each." * (n > MOST_COLUMNS)
        return (Plot("mismatch", "Truth mismatch", caption, partial(mismatch, results.mismatch)),)

    def words(self, results: Results) -> Sequence[str]:
        text = "An edge that one ablation needs another may not: which circuit is true depends on how edges are cut."
        return (text,) if _several(results) else ()

    def summary(self, results: Results) -> Sequence[str]:
        table = results.mismatch
        searched_under = table["truth_ablation"].isin(table["ablation"])  # another certified truth is in the table only
        text = largest_drop(table[searched_under])
        return (text,) if text else ()


def _several(results: Results) -> bool:
    return results.mismatch["truth_ablation"].nunique() > 1


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
                text = MISSING if row is None else with_interval(value, *ends)
                cells.append(number_cell(text, value, shaded=truth == ablation and row is not None))
            rows.append(tuple(cells))
    return Table(
        "mismatch",
        "Scored against another ablation's truth",
        "Median average precision over programs [95 % interval]; the ROC curve hardly sees a few edges too many where "
        "few are true. Shaded: truth and discovery under the same ablation.",
        ("Method", "Discovered under", *[f"{truth} truth" for truth in truths]),
        (False, False, *[True] * len(truths)),
        tuple(rows),
        table,
    )


def largest_drop(table: pd.DataFrame) -> str | None:
    """What scoring against another ablation's truth does, by its largest effect among methods that are no baselines."""
    rows = compared_alike(table)
    rows = rows[~rows["label"].isin(BASELINES)]
    if rows.empty:
        return None
    own = rows[rows["own"].astype(bool)].set_index(["label", "ablation"])["average_precision"]
    drops = [
        (own[row.label, row.ablation] - row.average_precision, row)
        for row in rows[~rows["own"].astype(bool)].itertuples()
        if (row.label, row.ablation) in own.index and not pd.isna(row.average_precision)
    ]
    if not drops:
        return None
    size, row = max(drops, key=lambda pair: pair[0])
    if size < _SMALL:
        return "Scoring against another ablation's truth changes no median average precision by more than 0.01."
    own_value, other_value = number(own[row.label, row.ablation]), number(row.average_precision)
    return (
        f"The verdict depends on whose truth is asked: {row.label} with {row.ablation} ablation has a median average "
        f"precision of {own_value} against the {row.ablation} truth and of {other_value} against the "
        f"{row.truth_ablation} truth."
    )
