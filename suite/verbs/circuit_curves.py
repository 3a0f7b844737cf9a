"""What ``evaluate --curve`` adds: faithfulness at each size of the circuits that its scores make, CPR and CMD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..interchange import CircuitFile
    from ..intervention.setting import Setting
    from ..plan.subject import Subject
    from ..selection import Selection

_COLUMNS = ("fraction", "edges", "without dead ends", "faithfulness", "low", "high")


def circuit_curves(
    file: CircuitFile,
    on: Subject,
    chosen: Sequence[Setting],
    *,
    selection: Selection,
    signed: bool,
    seed: int,
    batch_size: int | None,
) -> list[dict[str, Any]]:
    """One entry for each of ``chosen``, in order; none of a file without scores.

    Args:
        batch_size: prompts at a time; ``None`` chooses it.

    Returns ``setting`` (as it prints), ``points`` (one per size), ``areas`` (CPR and CMD over size and over log size:
    value, low, high), both None with the reason in ``undefined`` where the setting has no meaning.
    """
    from ..intervention.faithfulness import measure_circuits
    from ..intervention.objective import OBJECTIVES
    from ..json_model import plain
    from ..scoring.faithfulness_curve import circuits_by_size, faithfulness_curve

    if file.scores is None:
        return []
    sized = circuits_by_size(file.scores, selection=selection, absolute=not signed)
    entries = []
    for setting in chosen:
        entry: dict[str, Any] = {"setting": str(setting), "points": None, "areas": None}
        entry["undefined"] = setting.undefined(on.data, on.model)
        if entry["undefined"] is None:
            circuits, objective = [each.circuit for each in sized], OBJECTIVES.get(setting.objective)
            measured = measure_circuits(
                on.model, on.data, circuits, setting.cut, objective, seed=seed, batch_size=batch_size
            )
            curve = faithfulness_curve(
                sized,
                measured,
                aggregation=setting.aggregation,
                reference=setting.reference,
                templates=None if on.data.templates is None else on.data.templates.numpy(),
                seed=seed,
            )
            columns = (curve.fractions, curve.edges, curve.pruned, curve.faithfulness, curve.low, curve.high)
            entry["points"] = [dict(zip(_COLUMNS, plain(point), strict=True)) for point in zip(*columns, strict=True)]
            entry["areas"] = plain(curve.areas)
        entries.append(entry)
    return entries


def print_circuit_curves(entries: Sequence[dict[str, Any]]) -> None:
    """The entries for people."""
    from .output import print_table

    for entry in entries:
        print(f"\nfaithfulness by size under {entry['setting']}")
        if entry["points"] is None:
            print(f"undefined: {entry['undefined']}")
            continue
        print_table(_COLUMNS, [list(point.values()) for point in entry["points"]])
        print_table(("area", "value", "low", "high"), [(name, *area) for name, area in entry["areas"].items()])
