"""A user's method among the others: its rank in each setting, and its distance from a few rivals named beforehand.

``validate`` and the report both take it from here, so that they say the same of one store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...suite.rounding import ZERO_FRACTION, floor
from ...suite.scoring.clustered import ClusteredTest, clustered_test, in_sequence
from ...suite.store.record import Record
from .labels import CHANCE, ORACLE, RIVALS, is_own, ordered_ablations, ordered_objectives
from .tables import aggregate_table, cell_columns, recovery_table

RANKING_METRICS = ("auroc", "average_precision", "precision", "recall")


class RivalComparison(NamedTuple):
    """A method against one rival.

    Args:
        p: corrected for the tests before it (``in_sequence``).
        held_back_by: the earlier test whose p this one has, because its own is smaller.
    """

    other: str
    test: ClusteredTest
    p: float
    held_back_by: RivalComparison | None = None


@dataclass(frozen=True)
class Standing:
    """Where a method stands in one setting.

    Args:
        method: its name.
        label: its name among these results; None where it has no scores.
        objective: None for a method that uses none.
        rank: 1 + the number of methods with a larger area (ties: by the mean over programs); None where it is not
            ranked.
        of: how many methods are ranked: this one and those that are not the user's.
        programs: over how many programs a method must have run to be ranked.
        rows: every method that ran here, as ``aggregate_table`` has it, best first.
        uncounted: the labels that are shown and not ranked, the given truth first.
        comparisons: against each rival that ran here, in their order.
        cells: how many cells of the method are scored here.
        empty: in how many of them every score is 0 or no larger than rounding, measured by the method's other cells.
        rounding: in how many of these not every score is exactly 0.
        undefined: why the method has no meaning here, where that is known.
    """

    method: str
    label: str | None
    ablation: str
    objective: str | None
    rank: int | None
    of: int
    programs: int
    rows: pd.DataFrame
    uncounted: tuple[str, ...]
    comparisons: tuple[RivalComparison, ...]
    cells: int
    empty: int
    rounding: int
    undefined: str | None

    @property
    def row(self) -> pd.Series | None:
        """The method's own row; None where it has no scores."""
        found = self.rows[self.rows["label"] == self.label]
        return found.iloc[0] if len(found) else None


def own_standings(
    records: Sequence[Record], scores: Callable[[str], np.ndarray], rivals: Sequence[str] = RIVALS
) -> list[Standing]:
    """Where each method of the user's stands in each setting in which it ran, by method, ablation and objective.

    Args:
        records: of the whole store.
        scores: the scores of a cell by its key, as ``Store.scores`` gives them.
        rivals: methods to test it against, in this order.
    """
    settings: dict[tuple[str, str, str | None], list[Record]] = defaultdict(list)
    for record in records:
        if is_own(record.identity.method):
            settings[record.identity.method, record.identity.ablation, record.identity.objective].append(record)
    ablations = ordered_ablations(ablation for _, ablation, _ in settings)
    objectives = [None, *ordered_objectives(objective for *_, objective in settings if objective is not None)]
    usual = {method: usual_size(records, scores, method) for method, *_ in settings}
    found = []
    for method, ablation, objective in sorted(
        settings, key=lambda key: (key[0], ablations.index(key[1]), objectives.index(key[2]))
    ):
        own = settings[method, ablation, objective]
        meaningless = {record.reason for record in own if record.kind == "undefined"}
        meant = [record for record in own if record.kind != "undefined"]
        found += standings_in(
            records,
            scores,
            method,
            ablation,
            objective,
            tasks={record.identity.task for record in own},
            asked=len({column.program for column in cell_columns(meant)}),
            usual=usual[method],
            rivals=rivals,
            undefined=meaningless.pop() if len(meaningless) == 1 and not meant else None,
        )
    return found


def standings_in(
    records: Sequence[Record],
    scores: Callable[[str], np.ndarray],
    method: str,
    ablation: str,
    objective: str | None,
    *,
    tasks: Collection[str],
    asked: int,
    usual: float,
    rivals: Sequence[str] = RIVALS,
    undefined: str | None = None,
) -> list[Standing]:
    """Where a method stands in one setting: once for each of its labels there (parameters, versions of its code).

    Methods that use no objective are compared in every setting, and do not decide over how many programs a method must
    have run to be ranked.

    Args:
        records: of methods to compare with, and the method's own; those of other settings and tasks are left out.
        scores: the scores of a cell by its key.
        tasks: those on which the method was asked in this setting.
        asked: on how many programs the method has a meaning here.
        usual: ``usual_size`` of the method over all its settings.
        rivals: methods to test it against, in this order.
        undefined: why it has no meaning here, where that is known.
    """
    chosen = [
        record
        for record in records
        if record.identity.ablation == ablation
        and record.identity.task in tasks
        and (objective is None or record.identity.objective in (objective, None))
    ]
    recovery = recovery_table(chosen)
    rows = aggregate_table(recovery, RANKING_METRICS)
    own = recovery[recovery["own"].astype(bool)]
    searching = set(recovery.loc[recovery["objective"].notna() | (recovery["method"] == method), "label"])
    found = []
    labels: list[str | None] = sorted(set(rows.loc[rows["method"] == method, "label"]))
    for label in labels or [None]:
        # Another method or version of the user's is no rival: beside how many of them one is tried is no merit.
        others = (rows["label"] == label) | ~rows["method"].map(is_own).astype(bool)
        # A median over fewer programs is over easier ones, perhaps: such methods are shown, and not ranked.
        most = max([asked, *rows.loc[others & rows["label"].isin(searching), "n_programs"]])
        counted = others & (rows["method"] != ORACLE) & (rows["n_programs"] >= most)
        ranked, uncounted = rows[counted], rows[~counted].sort_values("method", key=lambda name: name != ORACLE)
        values = {key: scores(key) for key in own.loc[own["label"] == label, "key"]}
        sizes = {key: _largest(each) for key, each in values.items()}
        nothing = {key for key, size in sizes.items() if size <= ZERO_FRACTION * usual}
        unranked = nothing | {key for key, each in values.items() if _all_equal(each)}
        found.append(
            Standing(
                method=method,
                label=label,
                ablation=ablation,
                objective=objective,
                rank=_rank(label, ranked),
                of=len(ranked),
                programs=int(most),
                rows=rows,
                uncounted=tuple(name for name in uncounted["label"] if name != label),
                comparisons=() if label is None else tuple(_against(own, label, rivals, unranked)),
                cells=len(values),
                empty=len(nothing),
                rounding=sum(sizes[key] > 0 for key in nothing),
                undefined=undefined,
            )
        )
    return found


def usual_size(records: Sequence[Record], scores: Callable[[str], np.ndarray], method: str) -> float:
    """The median, over a method's cells that have a score other than 0, of the largest absolute score; 0 without any.

    A cell whose largest score is a millionth of it holds rounding, such as a gradient that is zero but for that.
    """
    cells = (each.key for each in records if each.identity.method == method and each.status == "done")
    sizes = [size for size in map(_largest, map(scores, cells)) if size]
    return float(np.median(sizes)) if sizes else 0.0


def _largest(scores: np.ndarray) -> float:
    return float(np.max(np.abs(scores[np.isfinite(scores)]), initial=0.0))


def _rank(label: str | None, ranked: pd.DataFrame) -> int | None:
    area = {row["label"]: (row["auroc"], row["mean_auroc"]) for row in ranked.to_dict("records")}
    return 1 + sum(other > area[label] for other in area.values()) if label in area else None


def _all_equal(scores: np.ndarray) -> bool:
    """Whether absolute scores set no edge before another one."""
    sizes = np.abs(floor(scores[~np.isnan(scores)]))
    return not (sizes != sizes[:1]).any()


def _against(own: pd.DataFrame, label: str, rivals: Sequence[str], unranked: Collection[str]) -> list[RivalComparison]:
    """A test against each rival that ran here, in their order.

    Args:
        unranked: the keys of the method's cells that set no edge before another one.
    """
    there: dict[str | None, str] = {}
    for rival in rivals:
        there.setdefault(_label_of(own, rival), rival)
    present = [each for each in there if each is not None and each != label]
    tests = [
        clustered_test(paired_differences(own, label, other, tied=unranked if there[other] == CHANCE else ()))
        for other in present
    ]
    found: list[RivalComparison] = []
    for other, test, p in zip(present, tests, in_sequence([test.p_value for test in tests]), strict=True):
        # Not equal, or NaN where its own is a number: an earlier test, the first with this p, stands in the way.
        held_back = not (p == test.p_value or np.isnan(test.p_value))
        before = next((each for each in found if each.p == p or np.isnan(p)), None) if held_back else None
        found.append(RivalComparison(other, test, p, before))
    return found


def _label_of(own: pd.DataFrame, method: str) -> str | None:
    """The label of a method; of several variants the one with most programs, then the first by name."""
    of_method = own[own["method"] == method]
    if of_method.empty:
        return None
    programs = of_method.groupby("label")["program"].nunique().sort_index()
    return str(programs.idxmax())


def paired_differences(
    own: pd.DataFrame, label: str, other: str, metric: str = "auroc", *, tied: Collection[str] = ()
) -> dict[str, list[float]]:
    """Program -> the differences of all pairs of runs on one task: of one seed, where both methods have seeds.

    Args:
        tied: keys of cells of the first method whose differences are 0. Against chance these are its cells that rank
            no edge before another: their area of one half is what a random ranking has on average, and a difference
            would be that of the rankings that were drawn.
    """
    found: dict[str, list[float]] = defaultdict(list)
    theirs = own[own["label"] == other]
    for run in own[own["label"] == label].to_dict("records"):
        same = theirs[theirs["task"] == run["task"]]
        if not pd.isna(run["seed"]) and run["seed"] in set(same["seed"]):
            same = same[same["seed"] == run["seed"]]
        weight = float(run["key"] not in tied)  # times NaN it is NaN: what is undefined is no tie
        found[run["program"]] += [weight * (run[metric] - value) for value in same[metric]]
    return dict(found)
