"""The edge names of auto-circuit and ACDC: round trips, what they mean, and what cannot be said."""

import json

import pytest
import torch

from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.interchange import Origin, load, read, save
from circuitmeter.suite.interchange.acdc import from_drawing, from_items, to_items
from circuitmeter.suite.interchange.auto_circuit import from_names, to_names
from circuitmeter.suite.model.graph import Graph

GRAPH = Graph(2, 2, "sum")
# The names as the two tools print them, beside ours.
NAMES = {
    "Resid Start->A0.1.Q": "input->a0.h1<q>",
    "A0.1->A1.0.K": "a0.h1->a1.h0<k>",
    "A0.0->MLP 0": "a0.h0->m0",
    "MLP 0->A1.1.V": "m0->a1.h1<v>",
    "MLP 1->Resid End": "m1->logits",
}
HOOKS = {
    ("blocks.0.hook_q_input", (None, None, 1), "blocks.0.hook_resid_pre", (None,)): "input->a0.h1<q>",
    ("blocks.1.hook_k_input", (None, None, 0), "blocks.0.attn.hook_result", (None, None, 1)): "a0.h1->a1.h0<k>",
    ("blocks.0.hook_mlp_in", (None,), "blocks.0.attn.hook_result", (None, None, 0)): "a0.h0->m0",
    ("blocks.1.hook_v_input", (None, None, 1), "blocks.0.hook_mlp_out", (None,)): "m0->a1.h1<v>",
    ("blocks.1.hook_resid_post", (None,), "blocks.1.hook_mlp_out", (None,)): "m1->logits",
}
DRAWING = """digraph {
\tgraph [bgcolor=transparent, overlap=false];
\tnode [label="\\N"];
\t"<embed_[:]>"\t[color=black, fillcolor="#b3e2cd"];
\t"<embed_[:]>" -> "<a0.1_q_[:, :, 1]>"\t[color="#b3e2cd", penwidth=0.6];
\t<a0.1> -> <a1.0_k> [color="#fdcdac",
\t\tpenwidth=1.2];
\t"<a0.0>" -> "<m0>";
\t"<m0>" -> "<a1.1_v>";
\t"<m1>" -> "<resid_post>";
}
"""


def circuits():
    generator = torch.Generator().manual_seed(0)
    for graph in (GRAPH, Graph(3, 1, "sum", parallel=True), Graph(2, 3, "sum", mlps=False), Graph(12, 12, "sum")):
        yield Circuit(graph, torch.rand(graph.exists.shape, generator=generator) < 0.3)


@pytest.mark.parametrize("format", ["auto-circuit", "acdc"])
def test_every_circuit_round_trips(format, tmp_path):
    for circuit in circuits():
        save(tmp_path / "c.json", circuit, None, d_model=8, origin=Origin(method="eap"), format=format)
        ours = load(tmp_path / "c.json")
        assert ours.circuit.graph == circuit.graph and torch.equal(ours.circuit.edges, circuit.edges)
        assert ours.origin.method == "eap"
        # As the other tool would write it: the list alone.
        edges = json.loads((tmp_path / "c.json").read_text())["edges"]
        (tmp_path / "d.json").write_text(json.dumps(edges))
        theirs = read(tmp_path / "d.json")
        assert theirs.tool.lower() == format and theirs.inputs == "sum"
        assert torch.equal(theirs.on(circuit.graph).circuit.edges, circuit.edges)


def test_acdc_also_parts_token_and_position(tmp_path):
    circuit = Circuit.of(Graph(1, 1, "split"), ["tok_embed->a0.h0<v>", "pos_embed->a0.h0<q>", "a0.h0->logits"])
    save(tmp_path / "c.json", circuit, None, d_model=8, origin=Origin(), format="acdc")
    assert load(tmp_path / "c.json").circuit.names == circuit.names
    with pytest.raises(DataError, match="keeps the other"):  # auto-circuit has one input node
        save(tmp_path / "c.json", circuit, None, d_model=8, origin=Origin(), format="auto-circuit")


def test_names_are_those_that_auto_circuit_prints():
    assert from_names(list(NAMES)).on(GRAPH).circuit.names == Circuit.of(GRAPH, NAMES.values()).names
    assert sorted(to_names(Circuit.of(GRAPH, NAMES.values()))) == sorted(NAMES)


def test_joined_queries_keys_and_values_are_three_edges():
    names = from_names(["A0.1->A1.0"]).on(GRAPH).circuit.names
    assert names == [f"a0.h1->a1.h0<{part}>" for part in "qkv"]


def test_scores_by_name_are_read():
    every = {name: 0.5 for name in to_names(Circuit(GRAPH, GRAPH.exists))}
    every["MLP 1->Resid End"] = 0.0
    found = from_names(every).on(GRAPH)
    assert found.circuit.n_edges == GRAPH.n_edges - 1 and set(found.scores.flat()) == {0.0, 0.5}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Resid Mid 0->Resid Post 0", "unfactorised"),
        ("A0.1->A9.0.Q", "no edge 'a0.h1->a9.h0<q>'"),
        ("A0.1.Q->MLP 0", "no edge of auto-circuit"),
        ("A1.0->MLP 0", "must come before"),
    ],
)
def test_names_that_are_no_edges_are_refused(name, reason):
    with pytest.raises(DataError, match=reason):
        from_names([name]).on(GRAPH)


@pytest.mark.parametrize(
    "written",
    [
        lambda edge: [*edge],
        lambda edge: [[*edge], 0.25],
        lambda edge: [edge[0], text(edge[1]), edge[2], text(edge[3]), None],
        lambda edge: f"{edge[0]}{text(edge[1])}{edge[2]}{text(edge[3])}",
    ],
    ids=["list", "with effect", "index as text", "joined"],
)
def test_acdc_edges_read_however_they_are_written_down(written):
    items = json.loads(json.dumps([written(edge) for edge in HOOKS]))
    found = from_items(items)
    assert found.inputs == "sum" and found.shape.n_layers == 2
    assert found.on(GRAPH).circuit.names == Circuit.of(GRAPH, HOOKS.values()).names


def text(index) -> str:
    return "[" + ", ".join(":" if part is None else str(part) for part in index) + "]"


def test_a_drawing_of_acdc_reads(tmp_path):
    (tmp_path / "img_new_7.gv").write_text(DRAWING)
    found = load(tmp_path / "img_new_7.gv", GRAPH)
    assert found.circuit.names == Circuit.of(GRAPH, HOOKS.values()).names
    whole = from_drawing('digraph {\n"<a0.1>" -> "<a1.0>";\n}').on(GRAPH)
    assert whole.circuit.names == [f"a0.h1->a1.h0<{part}>" for part in "qkv"]
    assert "remove_qkv=False" in whole.notes[0]
    with pytest.raises(DataError, match="draws no edges"):
        from_drawing("digraph { }")


def test_a_reader_without_its_own_edge_is_cut():
    """ACDC may cut hook_q_input from hook_q; what enters the reader then changes nothing."""
    circuit = Circuit.of(GRAPH, ["input->a0.h1<q>", "input->a0.h1<v>", "a0.h1->m0", "m0->logits"])
    items = to_items(circuit)
    assert from_items(items).on(GRAPH).circuit.names == circuit.names
    own = ["blocks.0.attn.hook_q", [None, None, 1], "blocks.0.hook_q_input", [None, None, 1]]
    assert [own, None] in items
    items.remove([own, None])
    assert from_items(items).on(GRAPH).circuit.names == ["input->a0.h1<v>", "a0.h1->m0", "m0->logits"]
    # Old versions list the own edges of MLPs as well: then, and only then, a missing one says that it was cut.
    items.append([["blocks.1.hook_mlp_out", [None], "blocks.1.hook_resid_mid", [None]], None])
    assert from_items(items).on(GRAPH).circuit.names == ["input->a0.h1<v>", "m0->logits"]


def test_the_count_is_acdcs():
    """GPT-2 small: 32,491 edges between nodes and 3 x 12 x 12 inside heads make the 32,923 that the paper counts."""
    whole = Graph(12, 12, "sum")
    assert len(to_items(Circuit(whole, whole.exists))) == 32_923


@pytest.mark.parametrize(
    ("edge", "reason"),
    [
        (["blocks.1.hook_q_input", [None, 4, 1], "blocks.0.hook_mlp_out", [None]], "one position"),
        (["blocks.1.hook_q_input", [None], "blocks.0.hook_mlp_out", [None]], "no node"),
        (["blocks.1.hook_z", [None], "blocks.0.hook_mlp_out", [None]], "no node"),
        (["blocks.1.hook_q_input", [None, None, 1], "blocks.0.hook_mlp_in", [None]], "no edge"),
        (["blocks.1.attn.hook_q", [None, None, 1], "blocks.1.hook_q_input", [None, None, 0]], "no edge"),
        (["blocks.3.hook_resid_post", [None], "blocks.0.hook_mlp_out", [None]], "4 layers"),
        (["blocks.1.hook_mlp_in"], "no edge of ACDC"),
    ],
)
def test_hooks_that_are_no_edges_are_refused(edge, reason):
    with pytest.raises(DataError, match=reason):
        from_items([edge]).on(GRAPH)
