"""A search in a process of its own: a user's method shares no memory with other cells, nor with the scoring of its own.

The process loads the subject, runs the method and answers with scores; this process checks and scores them.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, Undefined
from ..json_model import plain
from ..plan.family import SeedFamily
from ..plan.subject import subject_of
from ..process import call_apart, told
from .cost import Spent
from .discovery import Failed, diagnosis, discover_here, tensors_of
from .environment import deterministic

if TYPE_CHECKING:
    from ..circuit import Discovery
    from ..plan.subject import Subject

_LENGTH = struct.Struct("<Q")


def discover_apart(
    family: SeedFamily, on: Subject, device: str, spent: Spent, seconds: float | None
) -> tuple[Discovery, ...]:
    """What ``search.discover`` returns for a family, found in a process of its own.

    Args:
        spent: filled with what the search cost, also when it fails.
        seconds: how long the process may take; ``None``: as long as it needs.

    Raises:
        Ended: the process ended, or was ended, before it answered.
        Undefined: the method says that the combination has no meaning.
        Failed: whatever else the method raised, or a result that is not scores.
    """
    import torch
    from safetensors.numpy import load

    from ..circuit import Circuit, Discovery, EdgeScores, NativeCircuit

    answer = call_apart(_search, family, device, seconds=seconds)
    start = _LENGTH.size + _LENGTH.unpack_from(answer)[0]
    head, tensors = json.loads(answer[_LENGTH.size : start]), load(answer[start:])
    for name, value in head["spent"].items():
        setattr(spent, name, value)
    if head["kind"] == "undefined":
        raise Undefined(head["reason"])
    if head["kind"]:
        raise Failed(head["kind"], head["reason"], head["trace"])
    graph, found = on.model.graph, []
    for i, stated in enumerate(head["found"]):
        circuits = tuple(
            NativeCircuit(label, Circuit(graph, torch.from_numpy(tensors[f"{i}.circuit.{j}"]).bool()))
            for j, label in enumerate(stated["labels"])
        )
        scores = torch.from_numpy(tensors[f"{i}.scores"]).nan_to_num()
        found.append(Discovery(EdgeScores(graph, scores), circuits, stated["diagnostics"]))
    return tuple(found)


def _search(family: SeedFamily, device: str) -> bytes:
    """In the process: the search, and its answer or what went wrong as JSON and safetensors."""
    from safetensors.numpy import save

    spent = Spent()
    head: dict[str, Any] = {"kind": None, "reason": None, "trace": [], "found": []}
    tensors: dict[str, Any] = {}
    try:
        with deterministic():
            discoveries = discover_here(family, subject_of(family[0], device), device, spent)
        for i, discovery in enumerate(discoveries):
            tensors |= {f"{i}.{name}": array for name, array in tensors_of(discovery).items()}
            labels = [plain(native.label) for native in discovery.circuits]
            head["found"].append({"labels": labels, "diagnostics": plain(discovery.diagnostics)})
    except SystemExit:
        raise
    except BaseException as error:  # whatever else a user's function raises is the answer to give
        kind, reason = diagnosis(error)
        trace = [] if isinstance(error, CircuitMeterError) else told(error).trace
        tensors, head = {}, head | {"kind": kind, "reason": reason, "trace": trace, "found": []}
    stated = json.dumps(head | {"spent": asdict(spent)}).encode()
    return _LENGTH.pack(len(stated)) + stated + save(tensors)
