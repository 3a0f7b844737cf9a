"""How much the verdict on a method's circuits depends on how they are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from ...suite.scoring.sensitivity.card_model import SettingValue
from ..card.figure import draw_card
from ..card.tables import share_table, value_table, verdict_table
from ..card.words import faithfulness_text, variance_share
from ..page.table import (
    MISSING,
    Table,
    count_cell,
    number,
    number_cell,
    percent,
    percent_with_interval,
    size_of_circuit,
    text_cell,
    with_interval,
)
from ..read.labels import BASELINES, method_of
from ..read.results import Results
from ..read.sensitivity import THRESHOLD, Sensitivity
from .chapter import Chapter, Plot, chapter


@chapter
class SensitivityChapter(Chapter):
    """The sensitivity card of the store, and each method's verdicts."""

    name, title, order = "sensitivity", "Sensitivity", 50

    def tables(self, results: Results) -> Sequence[Table]:
        return (verdicts(results.sensitivity.table, THRESHOLD),) if results.sensitivity.card else ()

    def figures(self, results: Results) -> Sequence[Plot]:
        found = results.sensitivity.card
        if found is None:
            return ()
        caption = (
            f"Circuits of {results.sensitivity.subject}, in every setting in which they were evaluated: median "
            "faithfulness over programs with its 95 % bootstrap interval, ranks, and below them what each setting is. "
            "Where the circuit itself is cut, 1 less the faithfulness is shown, so that 1 speaks for the circuit in "
            "every setting. "
            "Shares of the variance have bars only where settings differ by more than noise."
        )
        draw = partial(draw_card, value_table(found), share_table(found), verdict_table(found), found.settings.varying)
        return (Plot("sensitivity", "Sensitivity card", caption, draw),)

    def words(self, results: Results) -> Sequence[str]:
        return in_words(results.sensitivity)


def verdicts(table: pd.DataFrame, threshold: float) -> Table:
    """How much each method's verdict depends on the evaluation."""
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found["label"]), text_cell(found["ablation"])]
        for name in ("worst", "best", "range"):
            text = with_interval(*(found[f"{name}{end}"] for end in ("", "_low", "_high")))
            setting = f" ({found[f'{name}_setting']})" if name != "range" else ""
            cells.append(number_cell(text + setting, found[name]))
        cells += [number_cell(percent(found[name]), found[name]) for name in ("hold", "surely", "surely_not")]
        main = MISSING
        if not pd.isna(found["share"]):
            shares = percent_with_interval(*(found[f"share{end}"] for end in ("", "_low", "_high")))
            main = f"{found['factor']} {shares}"
        cells += [number_cell(main, found["share"])]
        cells += [count_cell(found[name]) for name in ("n_settings", "n_programs")]
        rows.append(tuple(cells))
    return Table(
        "sensitivity",
        "How much the verdict depends on the evaluation",
        "Median faithfulness over programs [95 % bootstrap interval] in the setting that speaks most against the "
        f"circuits and in the one that speaks most for them; in what share of the settings it is "
        f"{number(threshold, 1)} or more, surely is (the whole interval), surely is not. Main choice: the one that "
        "explains most of the variance "
        "between settings (Shapley share), where they differ by more than noise.",
        (
            "Method",
            "Discovered under",
            "Worst",
            "Best",
            "Range",
            f"At least {number(threshold, 1)}",
            "Surely",
            "Surely not",
            "Main choice",
            "Settings",
            "Programs",
        ),
        (False, False, *[True] * 9),
        tuple(rows),
        table,
    )


def in_words(found: Sensitivity) -> tuple[str, ...]:
    """What the numbers mean, for somebody who reads nothing else; empty where nothing was evaluated twice."""
    table = found.table[~found.table["label"].map(method_of).isin(BASELINES)]
    if table.empty or found.card is None or found.most_moved is None:
        return ()
    which = size_of_circuit(found.size)
    contested = table[(table["surely"] > 0) & (table["surely_not"] > 0)]
    agreed = table[(table["surely"] > 1 - 1e-9) | (table["surely_not"] > 1 - 1e-9)]
    first = (
        f"Would this circuit be called faithful? Say that it is from {number(THRESHOLD, 1)} on (1: the full model, 0: "
        f"everything cut; the median over programs, circuits of {which}). Of {len(table)} pairs of method and "
        f"discovery ablation, the settings of the evaluation contradict each other beyond their 95 % intervals in "
        f"{len(contested)}: surely faithful in one, surely not in another. All settings surely agree in {len(agreed)}."
    )
    circuits = found.card.circuits
    parts = [f"{circuit.counted.reached} ({circuit.name})" for circuit in circuits]
    n, leader = len(circuits[0].values), max(circuits, key=lambda circuit: circuit.spread.mean)
    worst, best = found.most_moved
    second = (
        f"Drawn below: {found.subject}. Settings, of {n}, in which the circuits are faithful: "
        f"{', '.join(parts)}. The widest range among them is that from {_said(worst)} to "
        f"{_said(best)}."
    )
    sources = [part for part in leader.exact.factors if part.measured]
    if len(sources) > 1 and leader.exact.beyond_noise:
        main = max(sources, key=lambda part: part.shapley)
        second += (
            f" Of the variance between the settings of {leader.name} {variance_share(main, 'shapley')} is due to the "
            f"choice of {main.factor}."
        )
    return first, second


def _said(entry: SettingValue) -> str:
    return f"{faithfulness_text(entry)} ({entry.setting})"
