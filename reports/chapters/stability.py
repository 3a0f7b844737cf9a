"""Whether circuits stay when prompts are drawn anew, and whether those that stay are the true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from ..draw.stability import draw_stability
from ..page.table import (
    Table,
    count_cell,
    number,
    number_cell,
    percent_with_interval,
    size_of_circuit,
    text_cell,
    with_interval,
)
from ..read.labels import ordered_ablations
from ..read.results import Results
from ..read.selected import RULE_MEANINGS, SELECTED_NUMBERS
from .chapter import Chapter, Plot, chapter


@chapter
class StabilityChapter(Chapter):
    """Circuits over resampled prompts or templates: how alike they are, which edges stay, and what that says."""

    name, title, order = "stability", "Stability", 55

    def tables(self, results: Results) -> Sequence[Table]:
        summary = results.stability_summary
        found = [stability_by_size(summary), prediction(results.stability_prediction)] if len(summary) else []
        return [*found, beyond_chance_table(results.selected)] if len(results.selected) else found

    def figures(self, results: Results) -> Sequence[Plot]:
        plots = []
        for over, summary in results.stability_summary.groupby("over", sort=False):
            cells = results.stability[results.stability["over"] == over]
            caption = (
                f"Two circuits of resampled {over}: the Jaccard index (edges that both have, as a share of those that "
                "either has) by size, median over programs with a 95 % bootstrap interval over programs where there is "
                "room; dashed, two random circuits. Last panel: a dot a cell of a certified circuit, how stable its "
                "circuit of the true size is and how well it recovers the certified one."
            )
            name = "stability" if over == "prompts" else f"stability-{over}"
            plots.append(Plot(name, f"Stability over {over}", caption, partial(draw_stability, summary, cells)))
        return plots

    def words(self, results: Results) -> Sequence[str]:
        if not len(results.stability):
            return ()
        text = (
            "Two samples of prompts give two circuits. Scores of each prompt are resampled, and the circuits of the "
            "resamples compared."
        )
        return (text, *(verdict(found) for found in _by_ablation(results.stability_prediction)), *_reasons(results))

    def summary(self, results: Results) -> Sequence[str]:
        return [verdict(found) for found in _by_ablation(results.stability_prediction)][:1]

    def statistics(self, results: Results) -> Sequence[str]:
        if not len(results.stability_summary):
            return ()
        return (
            "Stability is the mean Jaccard index of the circuits of two bootstrap resamples of the prompts, computed "
            "from the scores of each prompt; its interval in a cell is by the infinitesimal jackknife after bootstrap, "
            "and that of a median over programs by bootstrap over programs.",
        )

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        return {"stability-cells": results.stability}


def stability_by_size(summary: pd.DataFrame) -> Table:
    """How alike circuits are, and how many edges always stay, by method and size."""
    rows = []
    for found in summary.to_dict("records"):
        numbers = [
            number_cell(with_interval(*(found[f"{name}{end}"] for end in ("", "_low", "_high"))), found[name])
            for name in ("jaccard", "rank")
        ]
        size = found["size"]
        rows.append(
            (
                *(text_cell(found[name]) for name in ("label", "ablation", "over", "truth")),
                number_cell(size_of_circuit(size), 0.0 if size == "true" else float(size)),
                *numbers,
                number_cell(number(found["chance"]), found["chance"]),
                *(count_cell(found[name]) for name in ("always", "sometimes", "n_programs")),
            )
        )
    headings = ("Method", "Ablation", "Over", "Model", "Size", "Jaccard", "Rank", "Chance")
    return Table(
        "stability",
        "Stability by size",
        "Medians over programs with 95 % bootstrap intervals over programs. Jaccard: of the circuits of two resamples; "
        "chance: of two random ones. Rank: Spearman's correlation of a resample's scores with those of all prompts, "
        "among the circuit's edges. Then the median number of edges that are in 95 % of circuits or more, and in 5 to "
        "95 %.",
        (*headings, "In 95 %", "In some", "Programs"),
        (False, False, False, False, *[True] * 7),
        tuple(rows),
        summary,
        by=0,
    )


def prediction(table: pd.DataFrame) -> Table:
    """Whether stability predicts recovery: a row a question."""
    rows = []
    for found in table.to_dict("records"):
        text = with_interval(*(found[name] for name in ("value", "low", "high")))
        rows.append(
            (
                *(text_cell(found[name]) for name in ("ablation", "over", "words")),
                number_cell(text, found["value"]),
                *(count_cell(found[name]) for name in ("n_programs", "n_cells")),
            )
        )
    return Table(
        "stability-and-recovery",
        "Does stability predict recovery?",
        "On models with a certified circuit, at the true size. 95 % bootstrap intervals, programs drawn with all their "
        "methods. Correlations are Spearman's, and means over programs or methods that have four values at least.",
        ("Ablation", "Over", "What", "Value", "Programs", "Cells"),
        (False, False, False, True, True, True),
        tuple(rows),
        table,
    )


def beyond_chance_table(table: pd.DataFrame) -> Table:
    """Circuits of the edges that chance does not explain: how large, how true, how faithful."""
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found["label"]), text_cell(found["ablation"]), text_cell(RULE_MEANINGS[found["rule"]])]
        for name in SELECTED_NUMBERS:
            tell = percent_with_interval if name == "share" else with_interval
            cells.append(number_cell(tell(*(found[f"{name}{end}"] for end in ("", "_low", "_high"))), found[name]))
        rows.append((*cells, count_cell(found["n_programs"])))
    return Table(
        "beyond-chance",
        "Edges that chance does not explain",
        "Circuits whose size nobody chose, from the scores of each prompt. Medians over programs with 95 % bootstrap "
        "intervals over programs: the share of all edges that is kept, precision and recall against the certified "
        "circuit, and faithfulness under the ablation that they were found with. An edge whose effect is small and "
        "sure is kept, and is not in the certified circuit.",
        ("Method", "Ablation", "Kept", "Edges", "Precision", "Recall", "Faithfulness", "Programs"),
        (False, False, False, *[True] * 5),
        tuple(rows),
        table,
        by=0,
    )


def _by_ablation(table: pd.DataFrame) -> list[pd.DataFrame]:
    places = ordered_ablations(table["ablation"])
    groups = {key: group for key, group in table.groupby(["ablation", "over"], sort=False)}
    return [groups[key] for key in sorted(groups, key=lambda key: (key[1] != "prompts", places.index(key[0])))]


def verdict(found: pd.DataFrame) -> str:
    """Whether stability predicts recovery under one ablation, in a sentence or two."""
    rows = {row["question"]: row for row in found.to_dict("records")}
    methods, programs, always = (rows[name] for name in ("methods", "programs", "always"))
    ablation, over = found[["ablation", "over"]].iloc[0]

    def told(row: dict) -> str:
        return with_interval(row["value"], row["low"], row["high"])

    return (
        f"Does stability over {over} predict recovery under {ablation}? Among methods on one program the rank "
        f"correlation of the Jaccard index with recovery (F1) is {told(methods)}: {_says(methods)}. Among "
        f"programs of one method it is {told(programs)}: {_says(programs)}. Of the edges that are in 95 % of circuits, "
        f"the share of true ones differs from the circuit's own by {told(always)}."
    )


def _says(row: dict) -> str:
    if pd.isna(row["value"]):
        return "it cannot be computed"
    if pd.isna(row["low"]) or row["low"] <= 0 <= row["high"]:
        return "whether the more stable is the truer cannot be told"
    return "the more stable is the truer" if row["value"] > 0 else "the more stable is the less true"


def _reasons(results: Results) -> Sequence[str]:
    """Which methods have no stability, and why."""
    table = results.stability
    known = set(table.loc[table["undefined"].isna(), "label"])
    without = table[~table["label"].isin(known)].drop_duplicates("label")
    return [
        f"{label} has no stability: {why}." for label, why in without[["label", "undefined"]].itertuples(index=False)
    ]
