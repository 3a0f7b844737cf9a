"""Whether the reader's own methods work: their rank in each setting, and the comparison that ``validate`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd

from ..page.standing import (
    EXPLAINED,
    difference_text,
    empty_text,
    p_text,
    place_text,
    uncounted_text,
    verdicts_on_own,
    words_of_test,
)
from ..page.table import Table, count_cell, number_cell, text_cell, with_interval
from ..read.labels import is_own
from ..read.results import Results
from ..read.standing import Standing
from .chapter import Chapter, chapter

_ENDS = ("", "_low", "_high")


@chapter
class OwnMethodsChapter(Chapter):
    """Methods that do not come with this package, where a certified circuit is known."""

    name, title, order = "own_methods", "Your method", 5
    leads = True

    def tables(self, results: Results) -> Sequence[Table]:
        standings = results.own_standings
        return (own_ranks(standings), own_comparisons(standings)) if standings else ()

    def words(self, results: Results) -> Sequence[str]:
        of_method = groupby(results.own_standings, key=lambda found: found.label or found.method)
        empty = [(name, empty_text(list(found))) for name, found in of_method]
        return [f"{name}: {text}" for name, text in empty if text]

    def summary(self, results: Results) -> Sequence[str]:
        return verdicts_on_own(results.own_standings)

    def statistics(self, results: Results) -> Sequence[str]:
        if not any(found.comparisons for found in results.own_standings):
            return ()
        return (f"Own methods are tested against rivals. {EXPLAINED}",)


def own_ranks(standings: Sequence[Standing]) -> Table:
    """Where each own method stands under each ablation and objective."""
    rows, data = [], []
    for found in standings:
        row = found.row
        metrics, numbers = [], {}
        for metric in ("auroc", "average_precision"):
            value, low, high = ends = [None if row is None else row[f"{metric}{end}"] for end in _ENDS]
            metrics.append(number_cell(with_interval(value, low, high), value))
            numbers |= dict(zip((f"{metric}{end}" for end in _ENDS), ends, strict=True))
        programs = 0 if row is None else int(row["n_programs"])
        data.append(
            {
                **_setting(found),
                **{"rank": found.rank, "of": found.of, "ranked_from_programs": found.programs},
                **numbers,
                **{"n_programs": programs, "n_cells": found.cells, "cells_of_zeros": found.empty},
                "cells_of_rounding": found.rounding,
                "not_counted": "; ".join(label for label in found.uncounted if not is_own(label)),
            }
        )
        rows.append(
            (
                text_cell(found.label or found.method),
                text_cell(found.ablation),
                text_cell(found.objective),
                number_cell(place_text(found), found.rank),
                *metrics,
                count_cell(programs),
                number_cell(f"{found.empty} of {found.cells}", found.empty, shaded=found.empty > 0),
                text_cell(uncounted_text(found) or None),
            )
        )
    return Table(
        "own_methods",
        "Where it ranks",
        "By the median over programs of the area under the ROC curve, with 95 % bootstrap intervals, among the methods "
        "that ran on as many programs under the same ablation and objective, or without an objective. Methods of "
        "yours do not count in each other's rank. Shaded: on so many cells every score is 0, or "
        "less than a millionth of what the method's largest scores usually are, which is rounding.",
        ("Method", "Ablation", "Objective", "Rank", "AUC", "Avg. precision", "Programs", "All scores 0", "Not counted"),
        (False, False, False, True, True, True, True, True, False),
        tuple(rows),
        pd.DataFrame(data).astype({"rank": "Int64"}),
    )


def own_comparisons(standings: Sequence[Standing]) -> Table:
    """Each own method against the rivals that were named beforehand."""
    rows, data = [], []
    for found in standings:
        for each in found.comparisons:
            test = each.test
            told = words_of_test(each)
            data.append(
                {**_setting(found), "other": each.other, **test._asdict(), "p_in_sequence": each.p, "told": told}
            )
            rows.append(
                (
                    *map(text_cell, (found.label, found.ablation, found.objective, each.other)),
                    number_cell(difference_text(test), test.mean_difference),
                    text_cell(told),
                    number_cell(p_text(each), each.p),
                    number_cell(f"{test.n_different} of {test.n_clusters}", test.n_different),
                    count_cell(test.n_pairs),
                )
            )
    return Table(
        "own_comparisons",
        "Against rivals that were named beforehand",
        "Mean differences of the area, what `circuitmeter validate` says of them, and on how many programs the two "
        f"differ. {EXPLAINED}",
        ("Method", "Ablation", "Objective", "Against", "Mean difference", "Told", "p", "Differ", "Pairs"),
        (False, False, False, False, True, False, True, True, True),
        tuple(rows),
        pd.DataFrame(data),
    )


def _setting(found: Standing) -> dict[str, str | None]:
    return {"label": found.label or found.method, "ablation": found.ablation, "objective": found.objective}
