"""Reported beside reproduced: a verdict for each value of a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ...suite.scoring.published import ACDC_SMALLEST_THRESHOLD, cmd, cpr, pessimistic_auc
from ...tasks import mini
from ..page.table import Table, TableCell, number, number_cell, text_cell
from ..read.labels import program_of
from ..read.published import PublishedCurve
from ..read.results import within
from .entries import Comparison, FromTable, PaperPart, Points, ReportedValue
from .manifest import Manifest, is_the_papers
from .measured import Tables

Verdict = Literal["reproduced", "recomputed", "differs", "not comparable", "other model", "not run"]
_ROUNDING = 1e-9
_ORDER = ("differs", "reproduced", "recomputed", "other model", "not comparable", "not run")
"""Verdicts as the table has them: first what has to be looked at, last what nothing came of."""

FOLDED = (("How", "Why"), ("What is compared", "Source"))
"""Columns of the table that the page has below the value: seen, and folded up."""

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
        elsewhere: the model that ours was measured on, where it is another than the paper's.
    """

    value: ReportedValue
    ours: float | None
    how: str
    verdict: Verdict
    because: str
    compared: Comparison
    elsewhere: str | None = None

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
    parts = {part.name: part for part in manifest.part}
    found = []
    for value in manifest.values:
        part = parts.get(value.part) if value.part else None
        wanted = part.model if part else None
        # The other model, where one is taken instead of the paper's.
        other = model if wanted and model and not value.points and not is_the_papers(model, wanted) else None
        taken = part.counterpart(value.measured) if part and other and value.measured else value.measured
        ours, how = _ours(value, taken, curves, tables, model if wanted else None)
        compared = manifest.compared(value.name)
        elsewhere = other if ours is not None else None
        if elsewhere and taken:
            compared, how = _compared_elsewhere(compared, elsewhere, taken), f"measured on {elsewhere}"
        verdict: Verdict
        if ours is None:
            verdict, because = "not run", _why_not_run(manifest, value, part, model, other)
        elif compared.unlike:
            verdict, because = "not comparable", compared.unlike
            because += f"; and ours is of {elsewhere}, the paper's of {wanted}" if elsewhere else ""
        elif elsewhere:
            said = (f"ours is of {elsewhere}, the paper's of {wanted}", _size_elsewhere(taken))
            verdict, because = "other model", "; ours are ".join(filter(None, said))
        elif abs(ours - value.reported) <= value.tolerance + _ROUNDING:
            verdict, because = ("recomputed" if value.points else "reproduced"), ""
        else:
            verdict, because = "differs", manifest.because(value.name) or ""
        found.append(Judged(value, ours, how, verdict, because, compared, elsewhere))
    return found


def _compared_elsewhere(compared: Comparison, model: str, taken: FromTable) -> Comparison:
    """What ours is where it was measured on another model than the paper's."""
    task = taken.where.get("task")
    places = (f"on {model}", str(task) if task else "", _size_elsewhere(taken))
    same = compared.ours if compared.unlike else "the same quantity"
    return compared.model_copy(update={"ours": ", ".join((same, *filter(None, places))), "but": ""})


def _size_elsewhere(taken: FromTable | None) -> str:
    """Which circuits stand beside the paper's on another model, where they are of a size."""
    share = taken.where.get("asked") if taken else None
    return f"circuits of {100 * share:g} % of its edges" if isinstance(share, float) else ""


def _why_not_run(
    manifest: Manifest, value: ReportedValue, part: PaperPart | None, model: str | None, other: str | None
) -> str:
    """Why there is no number of ours: first what cannot be had at all, then what was not run."""
    wanted, note = part.model if part else None, manifest.not_run(value.name)
    if value.points:
        return note or "the paper's files hold no such curve"
    if value.measured is None:
        return note or (f"it is of {wanted}, and nothing here measures it" if wanted else "nothing here measures it")
    if wanted and model is None:
        return f"it needs {wanted}: give it with --model (its name or its folder), or another model, such as mini"
    if part and other:
        task = value.measured.where.get("task")
        program = program_of(task) if isinstance(task, str) else ""
        if program and other in mini.names() and program not in mini.learnt(other):
            return f"{other} does not do {program}"
        if note:
            return note
        if part.counterpart(value.measured) is None:
            there = ", ".join(map(program_of, part.tasks_elsewhere()))
            return f"it is of {program or 'a size'} on {wanted}; on another model, {there} are run, in other sizes"
        return f"the store holds no such result of {other}"
    return "the store holds no such result"


def _ours(
    value: ReportedValue,
    measured: FromTable | None,
    curves: Sequence[PublishedCurve],
    tables: Tables | None,
    model: str | None,
) -> tuple[float | None, str]:
    if value.points:
        return published_area(value.points, curves), "from published points"
    if tables is None or measured is None:
        return None, ""
    return tables.number(measured, model), "measured here"


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

    Of what is not comparable, or of another model, there is no difference.
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
    if item.ours is None or item.verdict in ("not comparable", "other model"):
        return None
    return item.ours - item.value.reported


def table_of_verdicts(manifest: Manifest, judged: Sequence[Judged]) -> Table:
    """The verdicts as a table to be read: what differs first, above all for no known reason; last what was not run."""
    rows = []
    for item in sorted(judged, key=lambda item: (item.explained, _ORDER.index(item.verdict))):
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
    headings = ("Value", "Reported", "Ours", "Difference", "Tolerance", "Verdict", *FOLDED[0], *FOLDED[1])
    return Table(
        "verdicts",
        "Reported and reproduced",
        f"{manifest.title} ({manifest.citation}). Bold: measured here, within the tolerance of what is reported; "
        "recomputed: within it, but from the points that the paper published; not comparable: two quantities; other "
        "model: ours is of another model than the paper's, and no test of it.",
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


def measured_elsewhere(manifest: Manifest, judged: Sequence[Judged], tables: Tables | None, model: str | None) -> str:
    """What was measured on another model than the paper's, in numbers; nothing where nothing was.

    How many cells, how many of the values have a number of ours beside them, and from where to where both go.
    """
    if tables is None or not manifest.instead(None, model):
        return ""
    wanted = [part.name for part in manifest.part if part.model and not is_the_papers(model, part.model)]
    names = [name for part in wanted for name in manifest.benchmarks(part)]
    cells = sum(record.done for record in within(tables.results, *names).records)
    if not cells:
        return ""
    beside: dict[str, list[Judged]] = {}
    for item in judged:
        if item.elsewhere:
            beside.setdefault(re.split("[:;,]", item.compared.quantity)[0], []).append(item)
    said = [f"Measured on {model}: {cells} cell{'s' * (cells > 1)}"]
    if not beside:
        return f"{said[0]}; no value of the paper is of what was measured there: the figures show it."
    n = sum(map(len, beside.values()))
    said[0] += f"; {n} of the {len(judged)} values have a number of it beside them, which is no test of the paper's"
    for quantity, items in beside.items():
        ours, reported = ([number(end(each), 3) for end in (min, max)] for each in _both(items))
        many = f"{len(items)} value{'s' * (len(items) > 1)}"
        said.append(f"{quantity}, {many}: {' to '.join(ours)} (reported: {' to '.join(reported)})")
    return ". ".join(f"{each[:1].upper()}{each[1:]}" for each in said) + "."


def _both(items: Sequence[Judged]) -> tuple[list[float], list[float]]:
    return [item.ours for item in items if item.ours is not None], [item.value.reported for item in items]
