"""Reads the store that ``circuitmeter run quick`` wrote and says what is not as it must be; .ci/run runs it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from circuitmeter import Store
from circuitmeter.suite.store.record import Record

METHODS = {"truth", "exact", "acdc", "eap", "eap-ig", "random", "magnitude"}
PROGRAMS = {f"tracr/{name}" for name in ("xproportion", "reverse", "hist", "sort", "pair_balance", "majority_a")}


def area(record: Record, truth: str | None = None) -> float:
    """Area under the ROC curve against the truth of the cell's own ablation, or of another one."""
    return record.recovery[truth or record.identity.ablation].auroc


def cells(done: Iterable[Record], **wanted: str) -> list[Record]:
    """The records whose identity has these values."""
    return [record for record in done if all(getattr(record.identity, name) == value for name, value in wanted.items())]


def problems(path: Path) -> list[str]:
    """One line for everything that is wrong with the store at ``path``; empty when it holds what it should."""
    store = Store(path)
    records = list(store.records())
    done = [record for record in records if record.done]
    wrong = [f"damaged: {key}: {reason}" for key, reason in store.damaged.items()]
    wrong += [f"failed: {r.identity}: {r.reason}" for r in records if r.kind not in (None, "undefined")]
    for method in METHODS:
        found = {(record.identity.task, record.identity.ablation) for record in cells(done, method=method)}
        missing = {(program, ablation) for program in PROGRAMS for ablation in ("patch", "zero")} - found
        wrong += [f"no finished cell of {method} on {program} under {ablation}" for program, ablation in missing]

    certain = cells(done, method="truth") + cells(done, method="exact", ablation="patch", objective="l2")
    for program in ("tracr/xproportion", "tracr/reverse"):
        zero = cells(done, method="acdc", ablation="zero", task=program, objective="l2")
        certain += zero
        if any(area(record, "patch") >= 1 for record in zero):
            wrong.append(f"acdc under zero is not worse against the patch truth of {program}")
    wrong += [f"an area of {area(r)} and not 1: {r.identity}" for r in certain if area(r) != 1]
    chance = mean(map(area, cells(done, method="random")))
    if not 0.4 < chance < 0.6:
        wrong.append(f"random scores have a mean area of {chance:.3f}, far from one half")
    if not (path / "report.html").is_file():
        wrong.append("no report.html")
    print(f"{len(done)} cells done, {len(wrong)} problems")
    return wrong


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    print("\n".join(found), file=sys.stderr)
    raise SystemExit(1 if found else 0)
