"""A method of a user's among the built-in ones of a benchmark, as ``validate`` prints it and as JSON has it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...reports.read.labels import RIVALS

if TYPE_CHECKING:
    from ...reports.read.standing import RivalComparison, Standing
    from ..plan.job import Job
    from ..plan.spec import Spec


def rankings(spec: Spec, mine: Spec, store: Path, rivals: Sequence[str] = RIVALS) -> list[Standing]:
    """Where the method stands under each ablation and objective, among the cells of the benchmark.

    Only the tasks on which the method was asked in a setting count there.
    """
    from ...reports.read.labels import program_of
    from ...reports.read.standing import standings_in, usual_size
    from ..plan.expand import expand
    from ..store.store import Store

    own, kept = expand(mine), Store(store)
    wanted = {cell.key for cell in (*expand(spec).cells, *own.cells)}
    records = [record for record in kept.records() if record.key in wanted]
    settings: dict[tuple[str, str | None], list[Job]] = defaultdict(list)
    for job in own.jobs:
        settings[job.cell.ablation, job.cell.objective].append(job)
    usual = {name: usual_size(records, kept.scores, name) for name in {job.cell.method for job in own.jobs}}
    found = []
    for (ablation, objective), jobs in settings.items():
        reasons = {job.undefined for job in jobs}
        found += standings_in(
            records,
            kept.scores,
            jobs[0].cell.method,
            ablation,
            objective,
            tasks={job.cell.task for job in jobs},
            asked=len({(program_of(job.cell.task), job.cell.model) for job in jobs if not job.undefined}),
            usual=usual[jobs[0].cell.method],
            rivals=rivals,
            undefined=reasons.pop() if len(reasons) == 1 else None,
        )
    return found


def ranking_json(found: Standing) -> dict[str, Any]:
    """A standing as JSON has it."""
    from ...reports.page.standing import place_text

    return {
        "ablation": found.ablation,
        "objective": found.objective,
        "label": found.label,
        "rank": found.rank,
        "of": found.of,
        "programs": found.programs,
        "not_ranked": None if found.rank is not None else place_text(found),
        "not_counted": list(found.uncounted),
        "cells": found.cells,
        "cells_of_zeros": found.empty,
        "cells_of_rounding": found.rounding,
        "scores": {row["label"]: _scores(row) for row in found.rows.to_dict("records")},
        "comparison": [_comparison(each) for each in found.comparisons],
    }


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    from ...reports.read.standing import RANKING_METRICS
    from ..json_model import plain

    names = [f"{metric}{end}" for metric in RANKING_METRICS for end in ("", "_low", "_high", "_n")]
    return {name: plain(row[name]) for name in [*names, "n_programs", "exact_cells", "exact_of", "seconds", "passes"]}


def _comparison(found: RivalComparison) -> dict[str, Any]:
    from ...reports.page.standing import words_of_test
    from ..json_model import plain

    test = {name: plain(value) for name, value in found.test._asdict().items()}
    return {"other": found.other, **test, "p_in_sequence": plain(found.p), "told": words_of_test(found)}
