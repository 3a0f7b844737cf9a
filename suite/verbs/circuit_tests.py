"""What ``evaluate --tests`` adds: hypothesis tests of the circuit, its completeness and its minimality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import Undefined

if TYPE_CHECKING:
    from ..interchange import CircuitFile
    from ..intervention.setting import Setting
    from ..plan.subject import Subject

_COLUMNS = ("test", "verdict", "statistic", "n", "p", "corrected", "power", "if, or why undefined")


def circuit_tests(
    file: CircuitFile, on: Subject, chosen: Sequence[Setting], *, seed: int, batch_size: int | None
) -> list[dict[str, Any]]:
    """One entry for each way to run the circuit and objective among ``chosen``, in order.

    Args:
        batch_size: prompts at a time; ``None`` chooses it.

    Returns ``setting`` (as it prints), ``hypotheses`` (one row per test), ``completeness`` and ``minimality``, each
    None with the reason in ``undefined`` where it has no meaning. Settings that differ in how prompts are summed up,
    or in what is cut, share an entry.
    """
    from dataclasses import replace

    from ..intervention.objective import OBJECTIVES
    from ..json_model import plain
    from ..scoring.completeness import completeness
    from ..scoring.hypotheses import hypotheses
    from ..scoring.minimality import minimality

    entries = []
    for cut, name in dict.fromkeys((replace(each.cut, set="complement"), each.objective) for each in chosen):
        arguments = (on.model, on.data, file.circuit, cut, OBJECTIVES.get(name))
        entry = {"setting": f"{cut} | {name}", "hypotheses": None, "completeness": None, "minimality": None}
        entry["undefined"] = cut.undefined(on.data, on.model) or OBJECTIVES.get(name).undefined(
            on.data, on.model.config
        )
        if entry["undefined"] is None:
            runs: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
            entry["hypotheses"] = plain([test.row() for test in hypotheses(*arguments, **runs)])
            entry["completeness"] = plain(asdict(completeness(*arguments, **runs)))
            try:
                found = minimality(*arguments, **runs)
                entry["minimality"] = plain(
                    {
                        "removed": list(found.removed),
                        "share": found.share,
                        "change": found.change,
                        "largest": found.largest,
                    }
                )
            except Undefined as error:
                entry["undefined"] = str(error).rstrip(".")
        entries.append(entry)
    return entries


def print_circuit_tests(entries: Sequence[dict[str, Any]]) -> None:
    """The entries for people."""
    from ...reports.page.table import number_of_any_size, percent
    from .output import print_table, printable

    for entry in entries:
        print(f"\ntests of the circuit under {entry['setting']}")
        if entry["hypotheses"] is None:
            print(f"undefined: {entry['undefined']}")
            continue
        print_table(_COLUMNS, [_row(test) for test in entry["hypotheses"]])
        found, left = entry["minimality"], entry["completeness"]
        told = "; what is left answers the same whatever the prompt" if left["constant"] else ""
        value = "undefined" if left["completeness"] is None else number_of_any_size(left["completeness"])
        print(printable(f"completeness {value}: 1 when nothing is left without the circuit{told}"))
        if found is not None:
            print(f"{len(found['removed'])} of its edges can go ({percent(found['share'])}){_some(found['removed'])}")


def _row(test: dict[str, Any]) -> tuple:
    if test["undefined"]:
        return (test["name"], "undefined", *[None] * 5, test["undefined"])
    numbers = (test["statistic"], test["n"], test["p_value"], test["corrected"], test["power"])
    return (test["name"], test["verdict"], *numbers, test["alternative"])


def _some(names: list[str], most: int = 5) -> str:
    """The first few names, in brackets' place."""
    return ": " + ", ".join(names[:most]) + (", ..." if len(names) > most else "") if names else ""
