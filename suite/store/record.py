"""What the record of a cell looks like: made here for failures, checked here for all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..plan.cell import Cell
from ..store.keys import key_of

FORMAT = 1
FAILURES = ("undefined", "error", "nan", "memory", "timeout", "killed")

_SCHEMA: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "key": str,
    "identity": dict,
    "status": str,
    "reason": (str, type(None)),
    "kind": (str, type(None)),
    "n_edges": (int, type(None)),
    "recovery": dict,
    "circuits": list,
    "circuit_at_true_size": (dict, type(None)),
    "diagnostics": dict,
    "cost": dict,
    "provenance": dict,
}


def failure(cell: Cell, kind: str, reason: str, *, cost: Mapping, provenance: Mapping) -> dict[str, Any]:
    """The record of a cell that gave no scores: a failure is a result too.

    Args:
        kind: one of ``FAILURES``; ``undefined`` is a combination that has no meaning, the others went wrong.
        reason: one line.
        cost, provenance: what is known of them.
    """
    return {
        "format": FORMAT,
        "key": cell.key,
        "identity": cell.identity(),
        "status": "failed",
        "reason": " ".join(reason.split()),
        "kind": kind,
        "n_edges": None,
        "recovery": {},
        "circuits": [],
        "circuit_at_true_size": None,
        "diagnostics": {},
        "cost": dict(cost),
        "provenance": dict(provenance),
    }


def fault(record: Any, key: str) -> str | None:
    """What is wrong with a record that claims to be the one of ``key``, or ``None``."""
    if not isinstance(record, dict):
        return "the record is no JSON object"
    for name, types in _SCHEMA.items():
        if name not in record:
            return f"the record lacks {name!r}"
        if not isinstance(record[name], types):
            return f"the record's {name!r} is a {type(record[name]).__name__}"
    if record["format"] > FORMAT:
        return f"the record has format {record['format']}, which a newer version wrote"
    if record["key"] != key or key_of(record["identity"]) != key:
        return "the record's identity belongs to another key"
    if record["status"] == "done":
        return (
            None if record["kind"] is None and record["n_edges"] is not None else "the record is half done, half failed"
        )
    if record["status"] != "failed" or record["kind"] not in FAILURES:
        return f"the record's status is {record['status']!r}, of kind {record['kind']!r}"
    return None


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numbers of numpy and torch as Python's, tuples as lists, no-number as null."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # a tensor or an array, of any rank
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
