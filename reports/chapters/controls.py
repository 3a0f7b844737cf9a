"""What a circuit is compared with, and what is tried against it: nulls, parts of the complement, exact patching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from ...suite.scoring.structure.controls_found import BLOCKS, ROUNDS
from ..draw.controls import draw_controls
from ..page.table import MISSING, Table, TableCell, listed, number_cell, text_cell, with_interval
from ..read.controls import CONTROLS, FAITHFULNESS, NULL_NAMES
from ..read.labels import BASELINES, method_of, ordered_ablations
from ..read.results import Results
from .chapter import Chapter, Plot, chapter

ADVERSARIES = (FAITHFULNESS, "random", "worst", "lost", "rank", "explained")


@chapter
class ControlsChapter(Chapter):
    """Nulls and adversaries: each a number with an interval."""

    name, title, order = "controls", "Nulls and adversaries", 57

    def tables(self, results: Results) -> Sequence[Table]:
        summary = results.control_summary
        return (_adversaries(summary), _nulls(summary)) if len(summary) else ()

    def figures(self, results: Results) -> Sequence[Plot]:
        summary, plots = results.control_summary, []
        for ablation in ordered_ablations(summary["ablation"]):
            caption = (
                "Medians over programs with 95 % bootstrap intervals. Left: the faithfulness of the method's circuit, "
                "and of what it finds where there is nothing to find, judged there. Middle: of the circuit with "
                "all of the complement cut, random halves of it, and the worst subset that a search found, judged on "
                "other prompts. Right: scores against exact patching of edges drawn by chance."
            )
            of_one = summary[summary["ablation"] == ablation]
            title = f"Nulls and adversaries under {ablation} ablation"
            plots.append(Plot(f"controls-{ablation}", title, caption, partial(draw_controls, of_one)))
        return plots

    def words(self, results: Results) -> Sequence[str]:
        if not len(results.control_summary):
            return ()
        return (
            "Is a circuit more than what the method gives any model, and does it stand when only parts of the rest are "
            "cut? Nulls: the weights in a random order; each prompt with another's answers; its tokens in a random "
            "order. The worst subset of the complement is looked for from the worst of random halves and the whole, by "
            f"changing every edge alone (of more than {BLOCKS} edges, all that leave one node together) and then all "
            f"that help together, at most {ROUNDS} times.",
            *control_verdicts(results.control_summary),
        )

    def summary(self, results: Results) -> Sequence[str]:
        return control_verdicts(results.control_summary)[:1]

    def statistics(self, results: Results) -> Sequence[str]:
        if not len(results.control_summary):
            return ()
        return (
            "Controls are of circuits of the true size where it was evaluated, else of the first size, under the "
            "ablation and objective that they were found with; in a cell, intervals of faithfulness are by bootstrap "
            "over held-out prompts and those of the comparison with exact patching by bootstrap over edges; over "
            "cells, medians over programs by bootstrap over programs.",
        )

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        return {"controls-cells": results.controls}


def _wide(summary: pd.DataFrame, names: Sequence[str]) -> tuple[tuple[TableCell, ...], ...]:
    """A row a label and ablation, a cell a control."""
    rows = []
    for (label, ablation), group in summary.groupby(["label", "ablation"], sort=False):
        found = {row["control"]: row for row in group.to_dict("records")}
        if not set(names) & set(found):
            continue
        cells = [text_cell(label), text_cell(ablation)]
        for name in names:
            row = found.get(name)
            text = MISSING if row is None else with_interval(row["value"], row["low"], row["high"])
            cells.append(number_cell(text, None if row is None else row["value"]))
        rows.append(tuple(cells))
    return tuple(rows)


def _adversaries(summary: pd.DataFrame) -> Table:
    headings = [CONTROLS[name] for name in ADVERSARIES]
    return Table(
        "adversaries",
        "Parts of the complement, and exact patching",
        "Medians over programs with 95 % bootstrap intervals over programs. The first three are the circuit's "
        "faithfulness with so much of the complement cut; the fourth is what the worst subset takes more than all of "
        "it does in a cell, whose median is not the difference of the medians. The last two are scores against what "
        "cutting single edges changes: Spearman's correlation of absolute values, and 1 - sum (score - effect)^2 / sum "
        "effect^2, which says something only of scores that estimate effects.",
        ("Method", "Ablation", *(text[0].upper() + text[1:] for text in headings)),
        (False, False, *[True] * len(headings)),
        _wide(summary, ADVERSARIES),
        summary[summary["control"].isin(ADVERSARIES)],
        by=1,
    )


def _nulls(summary: pd.DataFrame) -> Table:
    names = [f"{what} {kind}" for kind in NULL_NAMES for what in ("null", "beyond", "shared", "AUC")]
    names = [name for name in names if name in set(summary["control"])]
    headings = [CONTROLS[name] for name in names]
    return Table(
        "nulls",
        "Nulls",
        "Medians over programs with 95 % bootstrap intervals over programs. Faithfulness: of the circuit found on the "
        "null, judged there. Beyond it: how much higher that of the method's circuit on the task is. Jaccard index: of "
        "the two circuits, less that of two random ones. AUC: of the null's scores against the certified circuit; one "
        "half is chance, and what is above says how much of the truth the graph alone gives away.",
        ("Method", "Ablation", *(text[0].upper() + text[1:] for text in headings)),
        (False, False, *[True] * len(headings)),
        _wide(summary, names),
        summary[summary["control"].isin(names)],
        by=1,
    )


def control_verdicts(summary: pd.DataFrame) -> list[str]:
    """For each ablation, which methods find more than on each null, and how far the worst subset brings circuits."""
    texts = []
    rivals = summary[~summary["label"].map(method_of).isin(BASELINES)]
    for ablation in ordered_ablations(rivals["ablation"]):
        here, parts = rivals[rivals["ablation"] == ablation], []
        for kind, words in NULL_NAMES.items():
            beyond = here[here["control"] == f"beyond {kind}"]
            sure = beyond.loc[beyond["low"] > 0, "label"].tolist()
            if len(beyond):
                told = listed(sure) if 0 < len(sure) < len(beyond) else "every method" if sure else "no method"
                parts.append(f"with {words}, {told}")
        text = f"Under {ablation}, circuits are more faithful than what is found on a null, beyond its interval: "
        lost, end = here.loc[here["control"] == "lost", "value"], ""
        if len(lost):
            end = (
                f" The worst subset of the complement takes {with_interval(lost.median(), lost.min(), lost.max())} "
                "more of the faithfulness than all of it does (a method's median over programs of what it takes in a "
                "cell; of these the median, smallest and largest)."
            )
        if parts or end:
            texts.append((f"{text}{'; '.join(parts)}." if parts else f"Under {ablation}:") + end)
    return texts
