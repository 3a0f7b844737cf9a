"""Older formats of a store's files, and their conversion to the newest format."""

from __future__ import annotations

from typing import Any, Literal

from ..json_model import File, Values
from .record import Cell, Device, Provenance, Record, RecordedCircuit, RecordedCost, Recovery, TrueSize


class Record1(File):
    """The record of a cell as version 0.1.0 wrote it: the cost holds the method's own parameters as well."""

    format: Literal[1] = 1
    key: str
    identity: Cell
    status: Literal["done", "failed"]
    reason: str | None
    kind: str | None
    n_edges: int | None
    recovery: dict[str, Recovery]
    circuits: tuple[RecordedCircuit, ...]
    circuit_at_true_size: TrueSize | None
    diagnostics: Values
    cost: Values
    provenance: Values


def renewed(old: Record1) -> Record:
    """A record of format 1 in the newest format. Raises ValueError (pydantic's) when it is not consistent."""
    measured: dict[str, Any] = {name: old.cost[name] for name in RecordedCost.model_fields if name in old.cost}
    parameters = {name: value for name, value in old.cost.items() if name not in RecordedCost.model_fields}
    same = {name: getattr(old, name) for name in Record1.model_fields if name not in ("format", "cost", "provenance")}
    return Record(**same, cost=RecordedCost(**measured, parameters=parameters), provenance=_provenance(old.provenance))


def _provenance(old: Values) -> Provenance:
    """The fields that the newest format has. A device without a name is left out."""
    known: dict[str, Any] = {name: value for name, value in old.items() if name in Provenance.model_fields}
    device = known.pop("device", None)
    if isinstance(device, dict) and set(device) == set(Device.model_fields):
        known["device"] = Device(**device)
    return Provenance(**known)
