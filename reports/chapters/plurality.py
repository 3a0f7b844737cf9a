"""Which of several minimal circuits methods find, and whether a second one is found where the first is avoided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from ..draw.plurality import draw_plurality
from ..page.table import Table, count_cell, number_cell, percent, percent_with_interval, text_cell
from ..read.plurality import OUTCOMES, SECOND_OUTCOMES
from ..read.results import Results
from .chapter import Chapter, Plot, chapter


@chapter
class PluralityChapter(Chapter):
    """Where all minimal circuits of a truth are listed: one of them, a superset, a chimera, or none."""

    name, title, order = "plurality", "Several circuits", 25

    def tables(self, results: Results) -> Sequence[Table]:
        shares = with_a_choice(results.plurality_shares)
        first, second = shares[~shares["avoids"].astype(bool)], shares[shares["avoids"].astype(bool)]
        return tuple(table(part) for part, table in ((first, among_minimal), (second, second_circuits)) if len(part))

    def figures(self, results: Results) -> Sequence[Plot]:
        shares = with_a_choice(results.plurality_shares)
        if shares.empty:
            return ()
        caption = (
            "Runs by what they found, all ablations together. The circuit judged is the edges ranked first, as many as "
            "the smallest minimal circuit has (the smallest other one, where one is avoided). A chimera has no minimal "
            "circuit whole and is made of parts of two or more. Where there is no second circuit, the avoided one "
            "again is the right answer."
        )
        return (Plot("plurality", "Which of the minimal circuits", caption, partial(draw_plurality, shares)),)

    def words(self, results: Results) -> Sequence[str]:
        shares = with_a_choice(results.plurality_shares)
        return ("Some models have several minimal circuits. All of them are known here.",) if len(shares) else ()

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        return {"plurality-cells": results.plurality} if len(with_a_choice(results.plurality_shares)) else {}


def with_a_choice(shares: pd.DataFrame) -> pd.DataFrame:
    """Shares of runs where there is a choice: several minimal circuits, or one that was to be avoided."""
    return shares[shares["several"].astype(bool) | shares["avoids"].astype(bool)]


def among_minimal(shares: pd.DataFrame) -> Table:
    """What methods find where there are several minimal circuits."""
    return _table(
        "among_minimal",
        "Where there are several minimal circuits",
        "Share of runs in which the edges ranked first, as many as the smallest minimal circuit has, are one of them, "
        "contain one, are a chimera of several, or none of these. In brackets: 95 % bootstrap interval over programs.",
        shares,
        {"minimal": "One of them", "superset": "A superset", "chimera": "A chimera", "miss": "A miss"},
        OUTCOMES,
    )


def second_circuits(shares: pd.DataFrame) -> Table:
    """What methods find that are told to avoid a minimal circuit."""
    return _table(
        "second_circuits",
        "A second circuit, the first avoided",
        "Share of runs in which the edges ranked first, as many as the smallest other minimal circuit has, contain "
        "another minimal circuit than the avoided one, both, the avoided one only, or are a chimera or a miss. "
        "There is: whether the truth has another. In brackets: 95 % bootstrap interval over programs.",
        shares,
        {"another": "Another", "both": "Both", "the same": "The same", "chimera": "A chimera", "miss": "A miss"},
        SECOND_OUTCOMES,
        there_is=True,
    )


def _table(
    name: str,
    title: str,
    caption: str,
    shares: pd.DataFrame,
    headings: Mapping[str, str],
    outcomes: Sequence[str],
    there_is: bool = False,
) -> Table:
    rows = []
    for found in shares.to_dict("records"):
        cells = [text_cell(found["label"]), text_cell(found["ablation"])]
        cells += [text_cell("yes" if found["several"] else "no")] * there_is
        ends = [found[f"right{end}"] for end in ("", "_low", "_high")]
        cells.append(number_cell(percent_with_interval(*ends), ends[0]))
        cells += [number_cell(percent(found[outcome]), found[outcome]) for outcome in outcomes[1:]]
        cells += [count_cell(found[count]) for count in ("n_programs", "n_cells")]
        rows.append(tuple(cells))
    words = ("Method", "Ablation", *["There is"] * there_is)
    return Table(
        name,
        title,
        caption,
        (*words, *(headings[outcome] for outcome in outcomes), "Programs", "Runs"),
        (*[False] * len(words), *[True] * (len(outcomes) + 2)),
        tuple(rows),
        shares,
        by=1,
    )
