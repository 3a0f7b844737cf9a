"""The edges of ACDC (ArthurConmy/Automatic-Circuit-Discovery, `TLACDCCorrespondence.py`, `acdc_graphics.py`).

An edge there is (child hook, child index, parent hook, parent index), where an index such as [None, None, 3] picks a
head. Besides the edges between nodes that ours are (ADDITION), it counts one inside every reader of a head
(DIRECT_COMPUTATION: ``hook_q_input`` to ``hook_q``; old versions also ``hook_mlp_in`` to ``hook_mlp_out``); without it
the reader carries what a cut edge carries, whatever enters it. Its input node is token plus position, or two nodes. It
saves edges as a pickle; JSON of the same list is read here, and so are its drawings (.gv), the one text file that it
writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ..circuit import Circuit
from ..errors import DataError
from ..model.graph import Edge
from ..reading import shown, text_lines
from .circuit_file import EdgeList, Shape, names_an_mlp

_TOOL = "ACDC"
_WRITERS = {"attn.hook_result": "a{}.h{}", "hook_mlp_out": "m{}"}
_READERS = {
    "hook_q_input": "a{}.h{}<q>",
    "hook_k_input": "a{}.h{}<k>",
    "hook_v_input": "a{}.h{}<v>",
    "hook_mlp_in": "m{}",
    "hook_resid_mid": "m{}",  # its older name
}
_INSIDE = {"attn.hook_q": "a{}.h{}<q>", "attn.hook_k": "a{}.h{}<k>", "attn.hook_v": "a{}.h{}<v>"}
_INPUTS = {"blocks.0.hook_resid_pre": "input", "hook_embed": "tok_embed", "hook_pos_embed": "pos_embed"}
_JOINED = re.compile(r"(\S+?)\s*(\[[^\]]*\])\s*(\S+?)\s*(\[[^\]]*\])")
# One way to match each text, so that time grows with its length: a name takes all that it can, "_" before "[" too.
_DRAWN_NODE = re.compile(r'"?<?([a-z_][a-zA-Z0-9_.]*)(?:\[[^\]"]*\])?>?"?\s*')
_LONGEST = 500  # characters of an edge or a line of a drawing that are looked at
_DRAWN_INPUTS = {"embed": "input", "token_embeds": "tok_embed", "pos_embeds": "pos_embed"}


class _End(NamedTuple):
    """One end of an edge. kind: writer, reader, or inside a reader. layer: of the logits' hook, None elsewhere."""

    kind: str
    name: str
    layer: int | None = None


def is_edge(item: Any) -> bool:
    """Whether an item of a JSON list looks like an edge of this tool."""
    if isinstance(item, str):
        return "hook_" in item and bool(_flat(item))
    flat = _flat(item)
    return len(flat) >= 4 and all(isinstance(flat[i], str) and "hook_" in flat[i] for i in (0, 2))


def is_drawing(text: str) -> bool:
    """Whether a text is a graph in the language of Graphviz."""
    return bool(re.match(r"(strict\s+)?(di)?graph\b", text.lstrip()))


def from_items(items: Sequence[Any], source: str = "this file") -> EdgeList:
    """Reads (child, index, parent, index) items, bare or with an effect after them, or joined to one text.

    Raises:
        DataError: an item that is no edge, or an edge at one position only.
    """
    edges: list[tuple[str, str]] = []
    whole, layers = set(), set()
    for item in items:
        child, parent = (_end(*end, item, source) for end in _ends(item, source))
        layers |= {child.layer} - {None}
        if child.kind == "reader" and parent.kind == "writer":
            edges.append((parent.name, child.name))
        elif child.name.partition("<")[0] == parent.name.partition("<")[0]:
            # The reader's own edge; and the one out of it, to the head's result, which is always present.
            whole |= {parent.name} if parent.kind == "reader" else set()
        else:
            raise DataError(f"{source}: {shown(item)} leads from {parent.name} to {child.name}, which is no edge.")
    # Where such edges are listed, a reader without its own carries nothing of what enters it. Those inside MLPs are
    # listed by old versions only.
    listed = {_is_head(reader) for reader in whole}
    edges = [(by, to) for by, to in edges if to in whole or to == "logits" or _is_head(to) not in listed]
    last = next(iter(layers), None)
    return _list(edges, None if last is None else last + 1, source)


def from_drawing(text: str, source: str = "this file") -> EdgeList:
    """Reads a drawing (.gv).

    A head that is drawn without its queries, keys and values reads by all three, and a note says so.

    Raises:
        DataError: it draws no edge.
    """
    edges: list[tuple[str, str]] = []
    joined: dict[str, None] = {}
    for writer, reader in _drawn(text):
        if re.sub(r"_[qkv]$", "", writer) == re.sub(r"_[qkv]$", "", reader):
            continue  # inside a head
        by = _DRAWN_INPUTS.get(writer) or re.sub(r"^a([0-9]+)\.([0-9]+)$", r"a\1.h\2", writer)
        head = re.fullmatch(r"a([0-9]+)\.([0-9]+)(?:_([qkv]))?", reader)
        if head is None:
            edges.append((by, reader.replace("resid_post", "logits")))
            continue
        if not head.group(3):
            joined[reader] = None
        edges += [(by, f"a{head.group(1)}.h{head.group(2)}<{part}>") for part in head.group(3) or "qkv"]
    if not edges:
        raise DataError(f"{source} draws no edges as ACDC does, such as <a0.1> -> <a1.2_q>.")
    note = (
        f"{source} draws {len(joined)} heads without queries, keys and values, the first {next(iter(joined), '')}: an "
        f"edge into one is read as three. Draw the graph with remove_qkv=False to tell them apart."
    )
    return _list(edges, None, source, notes=(note,) if joined else ())


def _drawn(text: str) -> Iterator[tuple[str, str]]:
    """(writer, reader) of the lines of a drawing that are edges, by ACDC's names without their indices."""
    for line in text_lines(text):
        left, arrow, right = line[:_LONGEST].partition("->")
        if not arrow:
            continue
        writer, reader = _DRAWN_NODE.fullmatch(left.lstrip()), _DRAWN_NODE.match(right.lstrip())
        if writer and reader and right.lstrip()[reader.end() :][:1] in ("", "[", ";"):
            yield writer.group(1).removesuffix("_"), reader.group(1).removesuffix("_")


def to_items(circuit: Circuit) -> list[list[Any]]:
    """The list that ``save_edges`` pickles, for JSON: [[child, index, parent, index], effect], the effect unknown.

    The own edge of a head's reader is there where any edge into it is. The circuit's graph must have inputs=sum or
    split.
    """
    n_layers, edges = circuit.graph.n_layers, [Edge.parse(name) for name in circuit.names]
    between = [[*_reader_hook(edge.reader, n_layers), *_writer_hook(edge.writer)] for edge in edges]
    heads = dict.fromkeys(edge.reader for edge in edges if _is_head(edge.reader))
    inside = [[*_reader_hook(reader, n_layers, inside=True), *_reader_hook(reader, n_layers)] for reader in heads]
    return [[edge, None] for edge in between + inside]


def _is_head(reader: str) -> bool:
    return reader.startswith("a")


def _list(edges: Iterable[tuple[str, str]], n_layers: int | None, source: str, notes: tuple[str, ...] = ()) -> EdgeList:
    writers = {writer for writer, _ in edges}
    split = bool(writers & {"tok_embed", "pos_embed"})
    if split and "input" in writers:
        raise DataError(f"{source} has token and position apart and together; ACDC's graph has one or the other.")
    names = tuple(dict.fromkeys(f"{writer}->{reader}" for writer, reader in edges))
    shape = Shape(n_layers=n_layers, mlps=True if any(map(names_an_mlp, names)) else None)
    return EdgeList(_TOOL, "split" if split else "sum", names, shape=shape, notes=notes, source=source)


def _flat(item: Any) -> list[Any]:
    """child, index, parent, index and what follows, of an item whose first four may stand in a list of their own."""
    if isinstance(item, str):
        match = _JOINED.fullmatch(item.strip()) if len(item) <= _LONGEST else None
        return list(match.groups()) if match else []
    if not isinstance(item, list | tuple) or not item or len(item) > _LONGEST:
        return []
    return [*item[0], *item[1:]] if isinstance(item[0], list | tuple) else list(item)


def _ends(item: Any, source: str) -> tuple[tuple[str, Any], tuple[str, Any]]:
    flat = _flat(item)
    if len(flat) < 4 or not all(isinstance(flat[i], str) for i in (0, 2)):
        raise DataError(
            f"{source}: {shown(item)} is no edge of ACDC; write [child hook, index, parent hook, index], the index "
            f"as in [null, null, 3]."
        )
    return (flat[0], flat[1]), (flat[2], flat[3])


def _end(hook: str, index: Any, item: Any, source: str) -> _End:
    head = _head(index, item, source)
    if hook in _INPUTS:
        return _End("writer", _INPUTS[hook])
    match = re.fullmatch(r"blocks\.([0-9]{1,6})\.(.+)", hook)
    if match:
        layer, rest = int(match.group(1)), match.group(2)
        if rest == "hook_resid_post":
            return _End("reader", "logits", layer)
        for kind, names in (("writer", _WRITERS), ("reader", _READERS), ("inside", _INSIDE)):
            if rest in names and ("{}.h{}" in names[rest]) == (head is not None):
                return _End(kind, names[rest].format(layer, head))
    raise DataError(f"{source}: {shown(hook)} with index {shown(index)} is no node of ACDC's graph.")


def _head(index: Any, item: Any, source: str) -> int | None:
    """The head that an index picks: [None, None, 3] or its text ``[:, :, 3]``; None for [None]."""
    if isinstance(index, str):
        index = [part.strip() for part in index.strip("[]").split(",")]
    if not isinstance(index, list | tuple | None):
        raise DataError(
            f"{source}: the index {shown(index)} is not one that ACDC writes; write [null] or [null, null, HEAD]."
        )
    parts = [None if part in (None, ":", "COLON", "None", "null") else part for part in index or []]
    if any(part is not None for part in parts[:2]) or len(parts) > 3:
        raise DataError(f"{source}: {shown(item)} is an edge at one position; circuits here hold at all positions.")
    head = parts[2] if len(parts) == 3 else None
    if isinstance(head, str) and re.fullmatch(r"[0-9]{1,6}", head):
        head = int(head)
    if head is not None and (not isinstance(head, int) or isinstance(head, bool) or head < 0):
        raise DataError(f"{source}: {shown(head)} in {shown(item)} is no head; heads are 0, 1, 2, ...")
    return head


def _writer_hook(node: str) -> tuple[str, list[int | None]]:
    for hook, name in _INPUTS.items():
        if node == name:
            return hook, [None]
    if node.startswith("m"):
        return f"blocks.{node[1:]}.hook_mlp_out", [None]
    layer, _, head = node[1:].partition(".h")
    return f"blocks.{layer}.attn.hook_result", [None, None, int(head)]


def _reader_hook(reader: str, n_layers: int, inside: bool = False) -> tuple[str, list[int | None]]:
    if reader == "logits":
        return f"blocks.{n_layers - 1}.hook_resid_post", [None]
    if reader.startswith("m"):
        return f"blocks.{reader[1:]}.hook_mlp_in", [None]
    layer, _, head = reader[1 : reader.index("<")].partition(".h")
    part = reader[-2]
    hook = f"attn.hook_{part}" if inside else f"hook_{part}_input"
    return f"blocks.{layer}.{hook}", [None, None, int(head)]
