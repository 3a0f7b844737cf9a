"""The edge names of auto-circuit (UFO-101/auto-circuit, `types.py`, `transformer_lens_utils.py`): ``A0.1->MLP 2``.

Its factorised graph has one input node, token plus position (``Resid Start``). Where it does not part queries, keys and
values, an edge into a head (``A0.1->A2.3``) is our three edges at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..circuit import Circuit
from ..errors import DataError
from ..reading import shown
from .circuit_file import EdgeList

_TOOL = "auto-circuit"
_NODE = re.compile(r"(Resid Start|Resid End)|MLP ([0-9]{1,6})|A([0-9]{1,6})\.([0-9]{1,6})(?:\.([QKV]))?")


def is_name(text: str) -> bool:
    """Whether a text is an edge, as this tool names them."""
    writer, arrow, reader = text.partition("->")
    return bool(arrow) and any(node.startswith("Resid ") or _NODE.fullmatch(node) for node in (writer, reader))


def from_names(names: Iterable[str] | Mapping[str, Any], source: str = "this file") -> EdgeList:
    """Reads edges: those named, or, of a mapping, those whose value is neither false nor zero.

    Raises:
        DataError: a name that is no edge of the factorised graph.
    """
    kept: list[str] = []
    scores: dict[str, float] = {}
    for name in names:
        value = names[name] if isinstance(names, Mapping) else True
        ours = _ours(name, source)
        kept += ours if value else []
        if len(ours) == 1 and not isinstance(value, bool):
            scores[ours[0]] = float(value)
    return EdgeList(_TOOL, "sum", tuple(dict.fromkeys(kept)), scores, source=source)


def to_names(circuit: Circuit) -> list[str]:
    """The names of a circuit's edges. Its graph must have inputs=sum (see ``exactly_on``)."""
    return [f"{_theirs(writer)}->{_theirs(reader)}" for writer, _, reader in (n.partition("->") for n in circuit.names)]


def _ours(name: str, source: str) -> Sequence[str]:
    writer, _, reader = name.partition("->")
    start, end = _NODE.fullmatch(writer), _NODE.fullmatch(reader)
    if start is None or end is None or writer == "Resid End" or reader == "Resid Start" or start[5]:
        why = "; residual streams between layers are nodes of its unfactorised graph only" if "Resid" in name else ""
        raise DataError(
            f"{source}: {shown(name)} is no edge of auto-circuit's factorised graph{why}. Export the edges of a model "
            f"made patchable with factorized=True."
        )
    source_node, target = _node(start), _node(end)
    if end[3] and not end[5]:
        return [f"{source_node}->{target}<{part}>" for part in "qkv"]
    return [f"{source_node}->{target}"]


def _node(match: re.Match) -> str:
    residual, mlp, layer, head, part = match.groups()
    if residual:
        return "input" if residual == "Resid Start" else "logits"
    if mlp:
        return f"m{int(mlp)}"
    return f"a{int(layer)}.h{int(head)}" + (f"<{part.lower()}>" if part else "")


def _theirs(node: str) -> str:
    if node in ("input", "logits"):
        return "Resid Start" if node == "input" else "Resid End"
    if node.startswith("m"):
        return f"MLP {node[1:]}"
    head_name, _, part = node[1:].removesuffix(">").partition("<")
    layer, _, head = head_name.partition(".h")
    return f"A{layer}.{head}" + (f".{part.upper()}" if part else "")
