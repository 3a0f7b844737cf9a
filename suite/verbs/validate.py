"""``circuitmeter validate``: a method of yours beside the built-in ones."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, MethodError, SpecError, Undefined
from ..users_line import raised
from .arguments import add_json, add_workers, add_yes

if TYPE_CHECKING:
    from ..plan.cell import Cell
    from ..plan.spec import Spec
    from ..store.record import Record

NAME = "validate"
HELP = "Run a method of yours over a benchmark and rank it beside the built-in methods."
EPILOG = (
    "The function is `def discover(model, data, *, ablation, objective, seed, **parameters)` and returns edge scores: "
    "a mapping from edge name to float, an EdgeScores or a Discovery."
)
METRICS = ("auroc", "average_precision", "precision", "recall")
COLUMNS = (
    *("  method", "AUC", "95 % interval", "programs", "AP", "precision", "recall", "exact"),
    *("paired difference", "p (Holm)"),
)
UPPER_BOUND = "truth"  # shown, and not ranked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", metavar="FILE.py:FUNCTION", help="your discovery function")
    parser.add_argument(
        "--against", metavar="BENCHMARK", default="quick", help="a built-in benchmark or a TOML file (default: quick)"
    )
    parser.add_argument("--store", metavar="DIR", type=Path, help="where results are kept (default: results/BENCHMARK)")
    add_workers(parser)
    add_yes(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..model.device import resolve
    from ..plan import names
    from ..plan.plan import plan
    from ..plan.spec import Spec
    from ..run import executors
    from ..run import run as harness
    from ..run.progress import Progress
    from ..store.store import Store
    from .arguments import store_of
    from .costs import allow
    from .output import print_json, stdout_kept_clean

    if not names.is_file(options.method):
        raise SpecError(
            f"{options.method!r} names no function of yours; write FILE.py:FUNCTION, as in my_method.py:discover."
        )
    spec = Spec.load(options.against)
    mine = spec.with_methods([options.method])
    mine = mine.model_copy(update={"name": f"{spec.name}-with-{Path(options.method.rpartition(':')[0]).stem}"})
    device = resolve(options.device)
    store = store_of(options, spec)
    workers = {"workers": options.workers, "device": options.device, "executor": options.executor}
    if (store / "store.json").exists():
        Store(store)  # refuses a newer one before anything runs
    with stdout_kept_clean():
        rehearse(mine.cells(), str(device))
        seconds = plan(spec, store).seconds  # of the built-in methods: what yours takes, nobody has declared
        crew = executors.crew(device, options.workers)
        if seconds is not None:
            allow(f"{spec.name}, without your method,", seconds / len(crew), options.yes, less="a smaller benchmark")
        summaries = []
        for part in (spec, mine):
            with Progress() as progress:
                summaries.append(harness.run(part, store, on_event=progress, **workers))
        rankings = compare(spec, mine, store)
    failed = [{"cell": str(cell), "reason": reason} for summary in summaries for cell, reason in summary.failed]
    if options.json:
        print_json(
            {
                "method": options.method,
                "benchmark": spec.name,
                "store": str(store),
                "rankings": rankings,
                "failed": failed,
            }
        )
    else:
        _print(options.method, store, rankings, failed)
    return 1 if failed else 0


def rehearse(cells: Iterable[Cell], device: str) -> None:
    """Runs the method on the smallest model, once an ablation, and keeps nothing.

    A method that cannot work is found out before anything is computed for the benchmark.

    Raises:
        MethodError: it raises, or returns something that is not edge scores of the model.
    """
    from ..plan.subject import subject_of
    from ..run.search import discover

    by_ablation: dict[str, list[Cell]] = {}
    for cell in cells:
        if not cell.undefined:
            by_ablation.setdefault(cell.ablation, []).append(cell)
    for candidates in by_ablation.values():
        cell = min(candidates, key=lambda cell: subject_of(cell, device).model.graph.n_edges)
        try:
            discover((cell,), subject_of(cell, device), device)
        except Undefined:
            continue
        except CircuitMeterError as error:
            raise MethodError(f"on {cell.task} under {cell.ablation}, {error}") from error
        except Exception as error:  # whatever a user's function raises is the answer to give
            raise MethodError(f"on {cell.task} under {cell.ablation}, {cell.method} raised {raised(error)}.") from error


def compare(spec: Spec, mine: Spec, store: Path) -> list[dict[str, Any]]:
    """Per ablation and objective: the method's rank, every method's recovery over programs, paired tests against each.

    Methods that use no objective are in every comparison.
    """
    from ..store.store import Store

    own = mine.cells()
    wanted = {cell.key for cell in (*spec.cells(), *own)}
    records = [record for record in Store(store).records() if record.key in wanted]
    rankings = []
    for ablation, objective in dict.fromkeys((cell.ablation, cell.objective) for cell in own):
        alike = {(ablation, objective), (ablation, None)}
        chosen = [r for r in records if (r.identity.ablation, r.identity.objective) in alike]
        rankings.append({"ablation": ablation, "objective": objective, **_ranking(chosen, own[0].method)})
    return rankings


def _ranking(records: list[Record], method: str) -> dict[str, Any]:
    """The method among all that these records are of: one ablation, one objective."""
    from ...reports.read.tables import aggregate_table, pairwise_table, recovery_table

    recovery = recovery_table(records)
    rows = aggregate_table(recovery, METRICS).to_dict("records")
    label = next((row["label"] for row in rows if row["method"] == method), None)
    # A median over fewer programs is over easier ones, perhaps: such methods are shown, and not ranked.
    most = max((row["n_programs"] for row in rows), default=0)
    ranked = [row for row in rows if row["method"] != UPPER_BOUND and row["n_programs"] == most]
    return {
        "label": label,
        "rank": _rank(label, ranked),
        "of": len(ranked),
        "scores": {row["label"]: _scores(row) for row in rows},
        "comparison": _against_each(label, pairwise_table(recovery).to_dict("records")),
    }


def _rank(label: str | None, rows: list[Mapping[str, Any]]) -> int | None:
    """1 + the number of methods with a larger area (ties: by the mean over programs)."""
    area = {row["label"]: (row["auroc"], row["mean_auroc"]) for row in rows}
    return 1 + sum(other > area[label] for other in area.values()) if label in area else None


def _scores(row: Mapping[str, Any]) -> dict[str, Any]:
    from ..store.record import plain

    names = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    return {name: plain(row[name]) for name in [*names, "n_programs", "exact_cells", "exact_of", "seconds", "passes"]}


def _against_each(label: str | None, tests: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tests in which the method takes part, from its side; p corrected (Holm) for just these."""
    from ..scoring.agreement import holm
    from ..store.record import plain

    ours = [test for test in tests if label in (test["first"], test["second"])]
    found = []
    for test, p in zip(ours, holm([test["p_value"] for test in ours]), strict=True):
        first = test["first"] == label
        found.append(
            {
                "other": test["second"] if first else test["first"],
                "median_difference": plain(test["median_difference"] * (1 if first else -1)),
                "a12": plain(test["a12"] if first else 1 - test["a12"]),
                "p_holm": plain(float(p)),
                "programs": plain(test["n"]),
            }
        )
    return found


def _print(method: str, store: Path, rankings: list[dict[str, Any]], failed: list[dict[str, str]]) -> None:
    from .output import note, print_table

    for found in rankings:
        place = f"rank {found['rank']} of {found['of']}" if found["rank"] else "no scores"
        setting = f"{found['ablation']}, {found['objective']}" if found["objective"] else found["ablation"]
        print(f"{method} under {setting}: {place} by area under the ROC curve (median over programs)")
        print("  (paired difference: median over programs of your AUC minus the method's; fewer programs: not ranked)")
        print_table(COLUMNS, [_row(label, found) for label in found["scores"]])
        print()
    print(f"Results: {store}; `circuitmeter report {store}` draws them.")
    for failure in failed:
        note(f"failed: {failure['cell']}: {failure['reason']}")


def _row(label: str, found: Mapping[str, Any]) -> list[Any]:
    """One method of a ranking, as ``COLUMNS`` says."""
    scores = found["scores"][label]
    test = next((test for test in found["comparison"] if test["other"] == label), {})
    defined = scores["auroc"] is not None
    return [
        f"> {label}" if label == found["label"] else f"  {label}",
        scores["auroc"],
        f"[{scores['auroc_low']:.3f}, {scores['auroc_high']:.3f}]" if defined else "-",
        scores["n_programs"],
        *(scores[metric] for metric in METRICS[1:]),
        f"{scores['exact_cells']}/{scores['exact_of']}",
        None if test.get("median_difference") is None else test["median_difference"] + 0.0,  # -0.0 prints as 0
        test.get("p_holm"),
    ]
