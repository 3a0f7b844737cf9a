"""A method of a user's among the built-in ones: its rank in each setting, and its distance from a few named rivals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from ..plan.job import Job
    from ..plan.spec import Spec
    from ..scoring.clustered import ClusteredTest

RANKING_METRICS = ("auroc", "average_precision", "precision", "recall")
UPPER_BOUND = "truth"  # shown, and not ranked
RIVALS = ("random", "eap-ig")
"""With whom a method is compared unless told otherwise: chance, and one gradient method, named before any result is
known. In this order: the second test counts only where the first did."""
_ALPHA = 0.05


def rankings(spec: Spec, mine: Spec, store: Path, rivals: Sequence[str] = RIVALS) -> list[dict[str, Any]]:
    """Per ablation and objective: the method's rank, every method's recovery over programs, a test against each rival.

    Only the tasks on which the method was asked in a setting count there. Methods that use no objective are compared
    in every setting, and do not decide over how many programs a method must have run to be ranked.
    """
    from ..plan.expand import expand
    from ..store.store import Store

    own = expand(mine)
    wanted = {cell.key for cell in (*expand(spec).cells, *own.cells)}
    records = [record for record in Store(store).records() if record.key in wanted]
    settings: dict[tuple[str, str | None], list[Job]] = defaultdict(list)
    for job in own.jobs:
        settings[job.cell.ablation, job.cell.objective].append(job)
    found = []
    for (ablation, objective), jobs in settings.items():
        tasks = {job.cell.task for job in jobs}
        chosen = [
            record
            for record in records
            if record.identity.ablation == ablation
            and record.identity.task in tasks
            and (objective is None or record.identity.objective in (objective, None))
        ]
        found.append({"ablation": ablation, "objective": objective, **_ranking(chosen, jobs, rivals)})
    return found


def _ranking(records: list[Any], jobs: Sequence[Job], rivals: Sequence[str]) -> dict[str, Any]:
    """The method among all that these records are of: one ablation, one objective."""
    from ...reports.read.labels import program_of
    from ...reports.read.tables import aggregate_table, recovery_table

    method = jobs[0].cell.method
    recovery = recovery_table(records)
    rows = aggregate_table(recovery, RANKING_METRICS).to_dict("records")
    label = next((row["label"] for row in rows if row["method"] == method), None)
    searching = set(recovery.loc[recovery["objective"].notna() | (recovery["method"] == method), "label"])
    # A median over fewer programs is over easier ones, perhaps: such methods are shown, and not ranked.
    asked = len({program_of(job.cell.task) for job in jobs if not job.undefined})
    most = max([asked, *(row["n_programs"] for row in rows if row["label"] in searching)])
    ranked = [row for row in rows if row["method"] != UPPER_BOUND and row["n_programs"] >= most]
    rank = _rank(label, ranked)
    return {
        "label": label,
        "rank": rank,
        "of": len(ranked),
        "programs": most,
        "not_ranked": None if rank else _why_not(label, rows, most, jobs),
        "scores": {row["label"]: _scores(row) for row in rows},
        "comparison": [] if label is None else _against(recovery, label, rivals),
    }


def _rank(label: str | None, rows: list[Mapping[str, Any]]) -> int | None:
    """1 + the number of methods with a larger area (ties: by the mean over programs); None for one not among them."""
    area = {row["label"]: (row["auroc"], row["mean_auroc"]) for row in rows}
    return 1 + sum(other > area[label] for other in area.values()) if label in area else None


def _why_not(label: str | None, rows: list[Mapping[str, Any]], most: int, jobs: Sequence[Job]) -> str:
    if label is None:
        undefined = {job.undefined for job in jobs}
        return f"undefined: {undefined.pop()}" if undefined - {None} and len(undefined) == 1 else "no scores"
    ran = next(row["n_programs"] for row in rows if row["label"] == label)
    return f"ran on {ran} of {most} programs, so it is shown and not ranked"


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    from ..json_model import plain

    names = [f"{metric}{end}" for metric in RANKING_METRICS for end in ("", "_low", "_high")]
    return {name: plain(row[name]) for name in [*names, "n_programs", "exact_cells", "exact_of", "seconds", "passes"]}


def _against(recovery: pd.DataFrame, label: str, rivals: Sequence[str]) -> list[dict[str, Any]]:
    """A test against each rival that ran here, in their order."""
    from ..json_model import plain
    from ..scoring.clustered import clustered_test, in_sequence

    own = recovery[recovery["own"].astype(bool)]
    there = dict.fromkeys(_label_of(own, rival) for rival in rivals)
    present = [each for each in there if each is not None and each != label]
    tests = [clustered_test(paired_differences(own, label, other)) for other in present]
    corrected = in_sequence([test.p_value for test in tests])
    return [
        {"other": other, **{name: plain(value) for name, value in test._asdict().items()}, "p_in_sequence": plain(p)}
        | {"told": test_in_words(test, p)}
        for other, test, p in zip(present, tests, corrected, strict=True)
    ]


def _label_of(own: pd.DataFrame, method: str) -> str | None:
    """The label of a method; of several variants the one with most programs, then the first by name."""
    of_method = own[own["method"] == method]
    if of_method.empty:
        return None
    programs = of_method.groupby("label")["program"].nunique().sort_index()
    return str(programs.idxmax())


def paired_differences(own: pd.DataFrame, label: str, other: str, metric: str = "auroc") -> dict[str, list[float]]:
    """Program -> the differences of all pairs of runs on one task: of one seed, where both methods have seeds."""
    found: dict[str, list[float]] = defaultdict(list)
    theirs = own[own["label"] == other]
    for run in own[own["label"] == label].to_dict("records"):
        same = theirs[theirs["task"] == run["task"]]
        if not _missing(run["seed"]) and run["seed"] in set(same["seed"]):
            same = same[same["seed"] == run["seed"]]
        found[run["program"]] += [run[metric] - value for value in same[metric]]
    return dict(found)


def _missing(seed: Any) -> bool:
    return seed is None or seed != seed


def test_in_words(test: ClusteredTest, p: float) -> str:
    """What the test says, in words: which is better, or that it cannot be told, and why not."""
    if p < _ALPHA:
        return "better" if test.mean_difference > 0 else "worse"
    if test.n_different and test.smallest_p >= _ALPHA:
        return f"cannot be told: with {test.n_different} programs that differ no p is below {test.smallest_p:.2g}"
    if test.p_value < _ALPHA:
        return "cannot be told: the test before this one found no difference"
    return "no difference found" if test.n_clusters else "cannot be told: no program in common"
