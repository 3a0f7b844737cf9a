"""Reported beside reproduced: a verdict for each value of a paper."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from ...suite.model.load import hub
from ...suite.scoring.published import ACDC_SMALLEST_THRESHOLD, cmd, cpr, pessimistic_auc
from ..page.table import Table, TableCell, number, number_cell, text_cell
from ..read.published import PublishedCurve
from .entries import Comparison, Points, ReportedValue
from .manifest import Manifest
from .measured import Tables

Verdict = Literal["reproduced", "recomputed", "differs", "not comparable", "other model", "not run"]
_ROUNDING = 1e-9
COMPARED = {"quantity": "quantity", "unit": "unit", "on": "on", "ours": "ours_is", "but": "but"}
"""What a comparison says -> the column that has it."""


@dataclass(frozen=True)
class Judged:
    """A reported value, ours, and what to make of the two.

    Args:
        value: what is reported.
        ours: the reproduced number; None when it was not measured.
        how: where ours comes from.
        verdict: ``reproduced``: measured here and within the tolerance; ``recomputed``: within it, but from the points
            that the paper published, so that nothing was run again; ``differs``; ``not comparable``: ours is another
            quantity, and so no test of the paper's, however near; ``other model``: measured on another model than the
            paper's, with the same consequence; ``not run``.
        because: why it differs, is not comparable, or was not run.
        compared: what the paper's number is, and what ours is.
    """

    value: ReportedValue
    ours: float | None
    how: str
    verdict: Verdict
    because: str
    compared: Comparison

    @property
    def explained(self) -> bool:
        """Whether nothing is left to be looked into: only a number that differs without a reason is."""
        return self.verdict != "differs" or bool(self.because)


def judge(manifest: Manifest, tables: Tables | None, model: str | None = None) -> list[Judged]:
    """A verdict for every value of a manifest.

    Args:
        tables: of the store that the manifest's parts were run into; None where nothing was.
        model: the language model that they were run on instead of the paper's.
    """
    curves = manifest.curves()
    models = {part.name: part.model for part in manifest.part}
    found = []
    for value in manifest.values:
        wanted = models.get(value.part) if value.part else None
        ours, how = _ours(value, curves, tables, model if wanted else None)
        elsewhere = ours is not None and wanted and not value.points and not _is(model, wanted)
        how = f"measured on {model}" if elsewhere else how
        compared = manifest.compared(value.name)
        verdict: Verdict
        if compared.unlike:
            verdict, because = "not comparable", compared.unlike
        elif elsewhere:
            verdict, because = "other model", f"the paper's is {wanted}"
        elif ours is None:
            # A note says why a number differs, or why it cannot be measured; not that it was not asked for here.
            lacking = model is None if wanted else value.measured is not None
            because = (None if lacking else manifest.because(value.name)) or _missing(value, wanted, model)
            verdict = "not run"
        elif abs(ours - value.reported) <= value.tolerance + _ROUNDING:
            verdict, because = ("recomputed" if value.points else "reproduced"), ""
        else:
            verdict, because = "differs", manifest.because(value.name) or ""
        found.append(Judged(value, ours, how, verdict, because, compared))
    return found


def _is(model: str | None, wanted: str) -> bool:
    """Whether a model is the paper's: it has its name, or is a folder with the weights that the name is pinned to."""
    return model == wanted or (model is not None and Path(model).is_dir() and hub.is_pinned(Path(model), wanted))


def _missing(value: ReportedValue, wanted: str | None, model: str | None) -> str:
    if value.points:
        return "the paper's files hold no such curve"
    if wanted and model is None:
        return f"it needs {wanted}: give it with --model (its name or its folder), or another model, such as mini"
    if wanted and model != wanted:
        return f"it is of {wanted}; nothing like it was measured on {model}, with its other tasks and sizes"
    return "the store holds no such result"


def _ours(
    value: ReportedValue, curves: Sequence[PublishedCurve], tables: Tables | None, model: str | None
) -> tuple[float | None, str]:
    if value.points:
        return published_area(value.points, curves), "from published points"
    if tables is None or value.measured is None:
        return None, ""
    return tables.number(value.measured, model), "measured here"


def published_area(points: Points, curves: Iterable[PublishedCurve]) -> float | None:
    """The area under a published curve as its paper takes it, from its points; None where it was not released."""
    for curve in curves:
        if points.where.fits(curve):
            if points.kind == "cpr" or points.kind == "cmd":
                return (cpr if points.kind == "cpr" else cmd)(*zip(*curve.faithfulness, strict=True))
            # The ACDC paper leaves out its own runs at smaller thresholds; other methods' scores are no thresholds.
            smallest = ACDC_SMALLEST_THRESHOLD * (1 - 1e-6) if curve.method == "acdc" else float("-inf")
            kept = [point for point in curve.points if point.threshold is None or point.threshold >= smallest]
            rates = [point.rates(points.kind) for point in kept]
            return pessimistic_auc([fpr for fpr, _ in rates], [tpr for _, tpr in rates])
    return None


def verdict_frame(judged: Sequence[Judged]) -> pd.DataFrame:
    """One row per value: what was reported, ours, their difference, the verdict and why, and what both numbers are.

    Of what is not comparable there is no difference.
    """
    columns = ["name", "group", "row", "series", "reported", "ours", "difference", "tolerance", "verdict"]
    rows = [
        {
            **{name: getattr(item.value, name) for name in ("name", "group", "row", "series", "reported", "tolerance")},
            "ours": item.ours,
            "difference": _difference(item),
            "verdict": item.verdict,
            "how": item.how if item.ours is not None else "",
            "because": item.because,
            "source": item.value.source,
            **{column: getattr(item.compared, name) for name, column in COMPARED.items()},
        }
        for item in judged
    ]
    return pd.DataFrame(rows, columns=[*columns, "how", "because", "source", *COMPARED.values()]).astype(
        {"ours": float}
    )


def _difference(item: Judged) -> float | None:
    return None if item.ours is None or item.verdict == "not comparable" else item.ours - item.value.reported


def table_of_verdicts(manifest: Manifest, judged: Sequence[Judged]) -> Table:
    """The verdicts as a table to be read."""
    rows = []
    for item in judged:
        ours, reported, difference = item.ours, item.value.reported, _difference(item)
        rows.append(
            (
                text_cell(item.value.name),
                number_cell(number(reported, 3), reported),
                number_cell(number(ours, 3), ours),
                number_cell(number(difference, 3, sign=True), None if difference is None else abs(difference)),
                number_cell(number(item.value.tolerance, 4), item.value.tolerance),
                TableCell(item.verdict, item.verdict, shaded=item.verdict == "reproduced"),
                TableCell(item.how if ours is not None else "", item.how),
                TableCell(item.because, item.because),
                TableCell(item.compared.sentence, item.compared.sentence),
                TableCell(item.value.source, item.value.source),
            )
        )
    headings = (
        "Value",
        "Reported",
        "Ours",
        "Difference",
        "Tolerance",
        "Verdict",
        "How",
        "Why",
        "What is compared",
        "Source",
    )
    return Table(
        "verdicts",
        "Reported and reproduced",
        f"{manifest.title} ({manifest.citation}). Bold: measured here, within the tolerance of what is reported; "
        "recomputed: within it, but from the points that the paper published; not comparable: two quantities.",
        headings,
        (False, True, True, True, True, False, False, False, False, False),
        tuple(rows),
    )


def verdict_counts(judged: Sequence[Judged]) -> str:
    """``12 reproduced, 3 differ, 1 not run``: every verdict that there is, and how often."""
    words = {"reproduced": "reproduced", "recomputed": "recomputed from published points", "differs": "differ"}
    words |= {"not comparable": "not comparable", "other model": "on another model", "not run": "not run"}
    counts = {word: sum(item.verdict == verdict for item in judged) for verdict, word in words.items()}
    return ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "no values"
