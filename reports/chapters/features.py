"""Features as nodes: circuits of certified features, and what trained dictionaries find of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd

from ...ground_truth.dictionaries.recipe import DICTIONARY_WIDTHS
from ..draw.dictionary_recovery import dictionary_recovery
from ..page.table import MISSING, Table, TableCell, count_cell, number, number_cell, percent, text_cell, with_interval
from ..read.dictionaries import (
    FEATURE_BASES,
    certified_features,
    faithfulness_by_dictionary,
    recovery_by_dictionary,
)
from ..read.labels import BASELINES, ORACLE, method_of, ordered_ablations, ordered_labels
from ..read.results import Results
from .chapter import Chapter, Plot, chapter


@chapter
class FeaturesChapter(Chapter):
    """Which methods find circuits of features, and how much an imperfect dictionary lets them find."""

    name, title, order = "features", "Features as nodes", 35

    def tables(self, results: Results) -> Sequence[Table]:
        certified, trained = certified_features(results.recovery), recovery_by_dictionary(results.recovery)
        kept = faithfulness_by_dictionary(results.evaluated)
        found = [certified_table(certified)] if len(certified) else []
        found += [dictionary_table(trained)] if len(trained) else []
        return found + ([kept_table(kept)] if len(kept) else [])

    def figures(self, results: Results) -> Sequence[Plot]:
        trained = recovery_by_dictionary(results.recovery)
        method = best_method(trained)
        if method is None:
            return ()
        caption = (
            "The area under the ROC curve over edges, of a circuit that is known, by how good the dictionary is: one "
            "dot a dictionary (three seeds of each width), filled for the method and hollow for what is reached when "
            "the answer is given. True edges of features that the dictionary has not found have score zero and rank "
            "last, so that an area can be below one half."
        )
        draw = partial(dictionary_recovery, trained, method, ORACLE)
        return (Plot("dictionary-recovery", "Recovery by the dictionary's quality", caption, draw),)

    def words(self, results: Results) -> Sequence[str]:
        if not (len(self.tables(results))):
            return ()
        return (
            "A dictionary's features stand in the place of the component that they decompose, and an error node at "
            "each site writes the rest. Where the dictionary is a compiled program's own directions the true circuit "
            "of features is certified; for a trained one it is carried over to the features that match a direction "
            "at a cosine of 0.9 or more, and the edges of all others are missed whatever a method does.",
        )

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        trained, kept = recovery_by_dictionary(results.recovery), faithfulness_by_dictionary(results.evaluated)
        tables = {"dictionary-recovery": trained, "feature-circuits": kept}
        return {name: table for name, table in tables.items() if len(table)}


def best_method(trained: pd.DataFrame) -> str | None:
    """The label of highest mean area over dictionaries, baselines aside."""
    rivals = trained[~trained["label"].map(method_of).isin(BASELINES)]
    means = rivals.groupby("label", observed=True)["auroc"].mean().dropna()
    return None if means.empty else str(means.idxmax())


def certified_table(table: pd.DataFrame) -> Table:
    """The median area of each method and ablation, in each basis."""
    rows = []
    for label in ordered_labels(table["label"]):
        for ablation in ordered_ablations(table["ablation"]):
            here = table[(table["label"] == label) & (table["ablation"] == ablation)]
            if len(here):
                cells = [_median(here[here["basis"] == basis], "auroc") for basis in FEATURE_BASES.values()]
                programs = count_cell(here["program"].nunique())
                rows.append((text_cell(label), text_cell(ablation), *cells, programs))
    return Table(
        "features",
        "Circuits of certified features",
        "Median area under the ROC curve over edges between features, over programs, [smallest, largest]: in the basis "
        "in which the program is written, and in a random one.",
        ("Method", "Ablation", *(name.capitalize() for name in FEATURE_BASES.values()), "Tasks"),
        (False, False, *[True] * (len(FEATURE_BASES) + 1)),
        tuple(rows),
        table,
    )


def dictionary_table(table: pd.DataFrame) -> Table:
    """Quality and recovery of the dictionaries of each program and width: means over seeds."""
    method = best_method(table)
    rows = []
    for subject in sorted(table["subject"].unique()):
        for width in DICTIONARY_WIDTHS:
            for ablation in ordered_ablations(table["ablation"]):
                of_width = table[(table["subject"] == subject) & (table["width"] == width)]
                of_width = of_width[of_width["ablation"] == ablation]
                own, best = of_width[of_width["label"] == method], of_width[of_width["label"] == ORACLE]
                if of_width.empty:
                    continue
                quality = of_width.drop_duplicates("dictionary")
                rows.append(
                    (
                        text_cell(subject),
                        text_cell(width),
                        text_cell(ablation),
                        count_cell(quality["features"].iloc[0]),
                        *(_mean(quality, name, 3) for name in ("unexplained", "l0")),
                        *(_share(quality, name) for name in ("dead", "found")),
                        *(_mean(own, name) for name in ("auroc", "precision", "recall")),
                        _mean(best, "auroc"),
                    )
                )
    headings = ("Program", "Width", "Ablation", "Features", "Unexplained", "L0", "Dead", "Found")
    return Table(
        "dictionaries",
        "Trained dictionaries of programs",
        "Means over three seeds. Unexplained: variance that is not reconstructed; L0: features active at once; dead: "
        "never active; found: true directions with a feature of their own. Area, precision and recall (at the true "
        f"size): of {method or 'the method'}. Ceiling: the area when the answer is given.",
        (*headings, "AUC", "Precision", "Recall", "Ceiling"),
        (False, False, False, *[True] * 9),
        tuple(rows),
        table,
    )


def kept_table(table: pd.DataFrame) -> Table:
    """What feature circuits of a language model keep at each size, beside what the error nodes keep alone."""
    sizes = list(dict.fromkeys(table["size"]))
    rows = []
    for (subject, ablation), of_both in table.groupby(["subject", "ablation"], observed=True, sort=True):
        for width in DICTIONARY_WIDTHS:
            of_width = of_both[of_both["width"] == width]
            for label in ordered_labels(of_width["label"]):
                here = of_width[of_width["label"] == label]
                each = here.drop_duplicates("dictionary")
                rows.append(
                    (
                        *(text_cell(text) for text in (subject, width, ablation, label)),
                        *(_median(here[here["size"] == size], "faithfulness") for size in sizes),
                        _mean(each, "features_keep"),
                        _mean(each, "errors_keep"),
                        _mean(each, "unexplained", 3),
                    )
                )
    return Table(
        "feature-circuits",
        "Feature circuits of a language model",
        "Faithfulness of circuits by their share of the edges (medians over three seeds of the dictionary, [smallest, "
        "largest]), found and judged under the ablation. Features alone: what is kept with every error node cut; "
        "errors alone: with every feature cut.",
        (
            *("Task", "Width", "Ablation", "Method"),
            *(percent(float(size)) for size in sizes),
            *("Features alone", "Errors alone", "Unexplained"),
        ),
        (False, False, False, False, *[True] * (len(sizes) + 3)),
        tuple(rows),
        table,
    )


def _median(rows: pd.DataFrame, name: str) -> TableCell:
    values = rows[name].astype(float).dropna()
    if values.empty:
        return number_cell(MISSING, None)
    ends = (values.min(), values.max()) if len(values) > 1 else (None, None)
    return number_cell(with_interval(values.median(), *ends), float(values.median()))


def _mean(rows: pd.DataFrame, name: str, digits: int = 2) -> TableCell:
    value = rows[name].astype(float).mean()
    return number_cell(number(value, digits), value)


def _share(rows: pd.DataFrame, name: str) -> TableCell:
    value = rows[name].astype(float).mean()
    return number_cell(percent(value), value)
