"""``circuitmeter validate``: a method of yours beside the built-in ones, or a circuit beside its certified truth."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, MethodError, SpecError, Undefined, unknown
from .arguments import add_json, add_several, add_workers, add_yes
from .ranking import RIVALS, ranking_json, rankings

if TYPE_CHECKING:
    from ...reports.read.standing import Standing
    from ..plan.job import Job
    from ..plan.spec import Spec

NAME = "validate"
AGAINST = "quick"
HELP = "Rank a method of yours beside the built-in ones over a benchmark, or score a circuit against a certified truth."
EPILOG = (
    "The function is `def discover(model, data, *, ablation, objective, seed, **parameters)` and returns edge scores: "
    "a mapping from edge name to float, an EdgeScores or a Discovery. Of a circuit file, precision and recall are "
    "against the truth of its task under each certified ablation, and the percentile is of F1 among random connected "
    "circuits of as many edges (ties count half)."
)
_COLUMNS = ("  method", "AUC [95 %]", "programs", "AP", "precision", "recall", "exact")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "method", nargs="?", metavar="FILE.py:FUNCTION|CIRCUIT.json", help="your discovery function, or a circuit file"
    )
    parser.add_argument(
        "--external",
        metavar="MODULE:ADAPTER",
        help="in place of a function: a class that runs other people's code on our models, or a shipped one: "
        "eap-ig, auto-circuit, gim-explain, transformer-lens (docs/conformance.md)",
    )
    add_several(parser, "--set", "KEY=VALUE", "a parameter of your method, typed as its own default is")
    parser.add_argument("--preset", metavar="NAME", help="a named set of your method's parameters, before --set")
    parser.add_argument(
        "--name", metavar="NAME", help="what your method is called in store and report (default: as it is given)"
    )
    parser.add_argument(
        "--truth", metavar="TRUTH", help="of a circuit file: a certified truth (default: that of the file's task)"
    )
    parser.add_argument(
        "--against", metavar="BENCHMARK", default=AGAINST, help="a built-in benchmark or a TOML file (default: quick)"
    )
    parser.add_argument(
        "--rivals",
        metavar="METHOD",
        nargs="+",
        default=list(RIVALS),
        help=f"methods of the benchmark to test yours against, in this order (default: {' '.join(RIVALS)})",
    )
    parser.add_argument("--store", metavar="DIR", type=Path, help="where results are kept (default: results/BENCHMARK)")
    add_workers(parser)
    add_yes(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    from ..plan import names
    from .circuit_truth import validate_circuit

    if (options.method is None) == (options.external is None):
        raise SpecError("give one to validate: FILE.py:FUNCTION, a circuit file, or --external MODULE:ADAPTER.")
    if options.external is not None:
        options.method = f"{names.EXTERNAL}{options.external}"
    if names.is_users(options.method):
        if options.truth is not None:
            raise SpecError("--truth is of circuit files; a method is scored against the truths of --against.")
        return _run_method(options)
    if options.method.endswith(".py") or not (Path(options.method).suffix or Path(options.method).exists()):
        raise SpecError(
            f"{options.method!r} names no function of yours; write FILE.py:FUNCTION, as in my_method.py:discover, or "
            f"give a circuit file."
        )
    given = {name: getattr(options, name) for name in ("set", "preset", "name", "store")}
    given |= {"against": options.against != AGAINST, "rivals": options.rivals != list(RIVALS)}
    refused = [f"--{name}" for name, value in given.items() if value]
    if refused:
        raise SpecError(f"{', '.join(refused)} is of methods, and {options.method} is a circuit file; give --truth.")
    return validate_circuit(options.method, options.truth, as_json=options.json)


def _run_method(options: argparse.Namespace) -> int:
    from ...reports.page.standing import verdicts_on_own
    from ..model.device import resolve
    from ..plan.expand import expand
    from ..plan.plan import plan
    from ..plan.spec import Spec
    from ..run import executors
    from ..run import run as harness
    from ..run.progress import Progress
    from ..store.store import Store
    from .arguments import store_of
    from .costs import allow
    from .output import keeping, note, of_cells, print_json, stdout_kept_clean

    spec = Spec.load(options.against)
    _check_rivals(options.rivals, spec)
    mine = spec.with_methods([_entry(options)])
    called = options.name or _called(options.external or options.method)
    mine = mine.model_copy(update={"name": f"{spec.name}-with-{called}"})
    device = resolve(options.device)
    store = store_of(options, spec)
    workers = {name: getattr(options, name) for name in ("workers", "device", "executor", "address")}
    if (store / "store.json").exists():
        Store(store)  # refuses a newer one before anything runs
    name = options.name or options.method
    with stdout_kept_clean():
        jobs = expand(mine).jobs
        note(f"trying {name} on the smallest and the largest model of {spec.name} under each ablation first ...")
        rehearse(jobs, str(device))
        seconds = plan(spec, store).seconds  # of the built-in methods: what yours takes, nobody has declared
        crew = executors.crew(options.executor, options.device, options.workers)
        if seconds is not None:
            allow(f"{spec.name}, without your method,", seconds / len(crew), options.yes, less="a smaller benchmark")
        summaries = []
        for word, part in (("built-in", spec), ("yours", mine)):
            with keeping(lambda: of_cells(store)), Progress(part=word) as progress:
                summaries.append(harness.run(part, store, on_event=progress, **workers))
        standings = rankings(spec, mine, store, options.rivals)
    failed = [
        {"cell": summary.plan.labels[job.key], "reason": reason}
        for summary in summaries
        for job, reason in summary.failed
    ]
    if options.json:
        print_json(
            {
                "method": options.method,
                "name": name,
                "benchmark": spec.name,
                "store": str(store),
                "rankings": [ranking_json(found) for found in standings],
                "verdict": verdicts_on_own(standings),
                "failed": failed,
            }
        )
    else:
        _print(name, store, standings, failed, options.rivals)
    return 1 if failed else 0


def _called(method: str) -> str:
    """What a method without a name is called: its module; the name of an adapter that ships.

    >>> [_called(method) for method in ("there/mine.py:discover", "eap_adapter:Adapter", "eap-ig")]
    ['mine', 'eap_adapter', 'eap-ig']
    """
    name = Path(method).name
    return (name.rpartition(":")[0] or name).removesuffix(".py")


def _entry(options: argparse.Namespace) -> dict[str, Any]:
    """The method as a benchmark's grid has it. Raises SpecError for a parameter that such an entry cannot hold."""
    from ..plan import names
    from ..plan.spec import MethodChoice
    from .settings import parse_settings

    chosen = parse_settings(names.method(options.method), options.set or [])
    for key in chosen.keys() & MethodChoice.model_fields.keys():
        raise SpecError(f"--set {key}: a benchmark's method has a {key!r} of its own; rename your parameter.")
    return {"name": options.method, "preset": options.preset, "called": options.name, **chosen}


def _check_rivals(rivals: Sequence[str], spec: Spec) -> None:
    """Raises SpecError for a rival that the benchmark does not run."""
    known = {choice.name for grid in spec.grid for choice in grid.method}
    for rival in rivals:
        if rival not in known and rivals != list(RIVALS):
            raise SpecError(unknown("rival", rival, known, f"--rivals takes methods of the benchmark {spec.name}."))


def rehearse(jobs: Iterable[Job], device: str) -> None:
    """Runs the method on the smallest and on the largest model for which it has a meaning, once per ablation, and keeps
    nothing.

    A method that cannot work is found out before anything is computed for the benchmark.

    Raises:
        MethodError: it raises, or returns something that is not edge scores of the model.
    """
    from ..plan.subject import subject_of

    by_ablation: dict[str, list[Job]] = {}
    for job in jobs:
        if not job.undefined:
            by_ablation.setdefault(job.cell.ablation, []).append(job)
    for candidates in by_ablation.values():
        by_size = sorted(candidates, key=lambda job: subject_of(job, device).model.graph.n_edges)
        smallest = next((job for job in by_size if _has_meaning(job, device)), None)
        for job in reversed(by_size):
            if smallest is None or job is smallest or _has_meaning(job, device):
                break


def _has_meaning(job: Job, device: str) -> bool:
    """Runs one job's method; false where it is undefined. Raises MethodError where it fails."""
    from ..plan.subject import subject_of
    from ..run.search import discover_family

    try:
        discover_family((job,), subject_of(job, device), device)
    except Undefined:
        return False
    except CircuitMeterError as error:
        bug = getattr(error, "trace", None)
        said = f"{job.cell.method} raised {error}." if bug else error
        raise MethodError(f"on {job.cell.task} under {job.cell.ablation}, {said}") from error
    return True


def _print(
    method: str,
    store: Path,
    standings: Sequence[Standing],
    failed: Sequence[dict[str, str]],
    rivals: Sequence[str] = RIVALS,
) -> None:
    """For people: a table for each setting, in one line where others have several programs; what it comes to; how it
    was tested."""
    from ...reports.page.standing import EXPLAINED, comparison_text, verdicts_on_own
    from .output import note, print_table, print_wrapped

    several = any(found.programs > 1 for found in standings)
    for found in standings:
        alone = several and found.programs == 1
        print_wrapped(_headline(method, found, alone=alone), others="    ")
        if alone:
            continue
        if len(found.rows):
            print_table(_COLUMNS, [_row(row, found) for row in found.rows.to_dict("records")])
        for test in found.comparisons:
            print_wrapped(comparison_text(test), first="  ", others="    ")
        print()
    if several and standings[-1].programs == 1:
        print()
    for sentence in verdicts_on_own(standings):
        print_wrapped(sentence)
    if any(found.comparisons for found in standings):
        print()
        print_wrapped(EXPLAINED)
    named = "" if list(rivals) == list(RIVALS) else f" --rivals {' '.join(rivals)}"
    print(f"Results: {store}; `circuitmeter report {store}{named}` draws them.")
    for failure in failed:
        note(f"failed: {failure['cell']}: {failure['reason']}")


def _headline(method: str, found: Standing, *, alone: bool) -> str:
    """The rank in one setting, by what, over what, and who is not counted; and the area, where no table follows."""
    from ...reports.page.standing import area_text, place_text, setting_text, uncounted_text

    place = place_text(found)
    if found.rank is not None:
        over = f"median over {found.programs} programs" if found.programs > 1 else "one program"
        over = area_text(found) if alone else over
        without = uncounted_text(found)
        place += f" by area under the ROC curve ({over}{f'; not counted: {without}' if without else ''})"
    return f"{method} under {setting_text(found)}: {place}"


def _row(row: Mapping[str, Any], found: Standing) -> list[Any]:
    """One method of a ranking, as ``_COLUMNS`` says."""
    from ...reports.page.table import number, over_fewer, with_interval
    from ...reports.read.standing import RANKING_METRICS

    few = row["n_programs"] < found.programs
    metrics = []
    for metric in RANKING_METRICS[1:]:
        text = number(row[metric])
        fewer = over_fewer(text, row[f"{metric}_n"], row["n_programs"])
        metrics.append(float(row[metric]) if fewer == text else fewer)
    return [
        f"> {row['label']}" if row["label"] == found.label else f"  {row['label']}",
        with_interval(*(row[f"auroc{end}"] for end in ("", "_low", "_high"))),
        f"{row['n_programs']} of {found.programs}" if few else f"{row['n_programs']}",
        *metrics,
        f"{row['exact_cells']}/{row['exact_of']}",
    ]
