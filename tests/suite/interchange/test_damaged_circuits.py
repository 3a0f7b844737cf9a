"""Circuit files with something wrong in them: one line that says what, before anything is built."""

from __future__ import annotations

import json
import time

import pytest

from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.interchange import Origin, load, read
from circuitmeter.suite.interchange.acdc import from_drawing
from circuitmeter.suite.interchange.eap_ig import to_json
from circuitmeter.suite.model.graph import Graph

GRAPH = Graph(2, 2)
KEPT = ["input->a0.h1<q>", "a0.h1->a1.h0<k>", "a0.h0->m0", "m0->logits"]


def content(**changes):
    """A file of EAP-IG, with some of its keys changed."""
    found = to_json(Circuit.of(GRAPH, KEPT), None, 8, Origin())
    del found["circuitmeter"]
    return found | changes


def changed(edge, **entry):
    found = content()
    found["edges"][edge] = found["edges"][edge] | entry
    return found


def neurons(key="neurons", **nodes):
    found = content()
    for name, value in nodes.items():
        found["nodes"][name] = {"in_graph": True, key: value}
    return found


CFG = {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8}
EDGE = "a0.h0->m0"
ACDC = ["blocks.1.hook_q_input", [None, None, 1], "blocks.0.hook_mlp_out", [None]]
REFUSED = {
    "flag as text": (changed(EDGE, in_graph="False"), "in_graph is 'False'; write true or false"),
    "flag as a list": (changed(EDGE, in_graph=[]), "write true or false"),
    "flag as a number": (changed(EDGE, in_graph=2), "write true or false"),
    "no flag": (content(edges={EDGE: {"score": 1.0}}), "in_graph is missing"),
    "an edge that is a number": (content(edges={EDGE: 1}), "should be a JSON object"),
    "score as text": (changed(EDGE, score="1.0"), "score is '1.0' and should be a valid number"),
    "score as a list": (changed(EDGE, score=[1.0]), "should be a valid number"),
    "score as a flag": (changed(EDGE, score=True), "should be a valid number"),
    "negative layers": (content(cfg=CFG | {"n_layers": -1}), "n_layers is -1 and should be greater than or equal to 1"),
    "layers as text": (content(cfg=CFG | {"n_layers": "2"}), "n_layers is '2' and should be a valid integer"),
    "no heads": (content(cfg=CFG | {"n_heads": 0}), "n_heads is 0"),
    "heads beyond int64": (content(cfg=CFG | {"n_heads": 10**30}), "larger than any|another graph|n_heads"),
    "cfg that is a list": (content(cfg=[]), "EAP-IG / MIB JSON"),
    "edges that are text": (content(edges="none"), "EAP-IG / MIB JSON"),
    "nodes that are a list": (content(nodes=["m0"]), "nodes is .* JSON object"),
    "a node that is text": (content(nodes={"m0": "yes"}), "write true or false"),
    "some neurons of a node": (neurons(m0=[True, False]), "keeps some neurons of m0"),
    "no neuron of a node with edges": (neurons(m0=[False, False]), "none of its neurons"),
    "neurons that are a number": (neurons(m0=3), "neurons"),
    "neurons at the top": (content(neurons={"m1": [False, True]}), "keeps some neurons of m1"),
    "neurons at the top, as a matrix": (content(neurons=[[True, True], [True, False]]), "keeps some neurons of 1"),
    "some neurons of a node, by EAP-IG's name": (neurons("neurons_in_graph", m0=[True, False]), "some neurons of m0"),
    "neurons by that name at the top": (content(neurons_in_graph={"m1": [False, True]}), "keeps some neurons of m1"),
    "neurons by that name, as a matrix": (content(neurons_in_graph=[[True], [True, False]]), "some neurons of 1"),
    "neurons by that name, as text": (content(neurons_in_graph="all"), "neurons_in_graph"),
    "neurons at the top, as text": (content(neurons="all"), "neurons"),
    "our key as a list": (content(circuitmeter=[1]), "key 'circuitmeter': it is .* JSON object"),
    "our key of a newer version": (content(circuitmeter={"format": 2}), "format is 2"),
    "our ablation as a list": (content(circuitmeter={"ablation": ["zero"]}), "ablation is .* valid string"),
    "our graph without layers": (content(circuitmeter={"graph": {"inputs": "token"}}), "graph.n_layers is missing"),
    "our graph with other inputs": (
        content(circuitmeter={"graph": {"n_layers": 2, "n_heads": 2, "inputs": "both"}}),
        "graph.inputs is 'both'",
    ),
    "a list of lists": ([[[[1]]]], "is not an edge|no edge"),
    "an edge twice in a list": ([*KEPT, KEPT[0]], "lists an edge twice"),
    "scores by name as text": ({EDGE: "high"}, "give its score, or true or false"),
    "scores by name as null": ({EDGE: None}, "give its score, or true or false"),
    "an index that is a number": ([[ACDC[0], 3, *ACDC[2:]]], "index 3"),
    "an index that is a flag": ([[ACDC[0], [None, None, True], *ACDC[2:]]], "no head"),
    "a head as text": ([[ACDC[0], [None, None, "x"], *ACDC[2:]]], "no head"),
    "a negative head": ([[ACDC[0], [None, None, -1], *ACDC[2:]]], "no head"),
    "null indices of heads": ([[ACDC[0], None, ACDC[2], None]], "no node of ACDC"),
    "hooks that are numbers": ([ACDC, [1, None, 2, None]], "no edge of ACDC"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_wrong_is_one_line(kind, tmp_path):
    damaged, reason = REFUSED[kind]
    (tmp_path / "c.json").write_text(json.dumps(damaged))
    with pytest.raises(DataError, match=reason) as error:
        read(tmp_path / "c.json").on(GRAPH)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_scores_that_are_not_finite_and_keys_twice(tmp_path):
    text = json.dumps(content())
    for damaged in (
        text.replace(f'"{EDGE}": {{', f'"{EDGE}": {{"score": NaN, '),
        text.replace(f'"{EDGE}": {{', f'"{EDGE}": {{"in_graph": false, '),
        text.replace('"cfg": {', '"cfg": {"n_layers": 3, '),
    ):
        assert damaged != text
        (tmp_path / "c.json").write_text(damaged)
        with pytest.raises(DataError, match="NaN is no number|is there twice"):
            read(tmp_path / "c.json")


def test_a_graph_of_any_size_is_compared_before_it_is_built(tmp_path):
    """Built, ten million layers would take all memory; the time is that of reading a small file."""
    (tmp_path / "c.json").write_text(json.dumps(content(cfg=CFG | {"n_layers": 10_000_000})))
    start = time.process_time()
    with pytest.raises(
        DataError, match=r"another graph \(10,000,000 layers x 2 heads.*than the model's \(2 layers x 2"
    ):
        load(tmp_path / "c.json", GRAPH)
    with pytest.raises(DataError, match="larger than any that can be built"):
        load(tmp_path / "c.json")
    named = content(cfg=CFG | {"n_layers": 3}, circuitmeter={"model": "smollm2"})
    (tmp_path / "c.json").write_text(json.dumps(named))
    with pytest.raises(DataError, match="than the model's .* found in smollm2: choose that model"):
        load(tmp_path / "c.json", GRAPH)
    ours = content(circuitmeter={"graph": {"n_layers": 10**9, "n_heads": 2, "inputs": "token"}})
    (tmp_path / "c.json").write_text(json.dumps(ours))
    with pytest.raises(DataError, match="another graph"):
        load(tmp_path / "c.json", GRAPH)
    assert time.process_time() - start < 5


def test_kept_edges_alone_tell_that_there_are_mlps(tmp_path):
    """No edge leads out of m0 here; one leads into it. And with attention alone, nothing says that there are none."""
    edges = {name: {"in_graph": True} for name in ("a0.h0->m0", "input->a1.h0<v>")}
    (tmp_path / "c.json").write_text(json.dumps(content(edges=edges, nodes={})))
    assert load(tmp_path / "c.json", GRAPH).circuit.names == ["input->a1.h0<v>", "a0.h0->m0"]
    (tmp_path / "c.json").write_text(json.dumps(content(edges={"input->a1.h0<v>": {"in_graph": True}}, nodes={})))
    for graph in (GRAPH, Graph(2, 2, mlps=False)):
        assert load(tmp_path / "c.json", graph).circuit.names == ["input->a1.h0<v>"]
    (tmp_path / "c.json").write_text('["a0.h0->m0"]')
    with pytest.raises(DataError, match="no edge|another graph"):
        load(tmp_path / "c.json", Graph(2, 2, mlps=False))


def test_what_other_tools_write_is_read(tmp_path):
    """Nodes as flags (EAP-IG's docstring), flags as 1 and 0, whole neurons, a byte order mark."""
    file = content(nodes={name: True for name in ("input", "m0")}, neurons={"m0": [True, True]})
    file["edges"][EDGE] = {"in_graph": 1, "score": 2}
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(file).encode())
    assert sorted(load(tmp_path / "c.json").circuit.names) == sorted(KEPT)


@pytest.mark.parametrize(
    "text",
    [
        "digraph {" + "a" * 400_000,
        "digraph {\n" + "\n" * 400_000,
        "digraph {\n" + '"<a0.1' * 50_000,
        "digraph {\n" + "a0.0_" * 50_000 + " -> m0",
        "digraph {\n" + "a -> " * 50_000,
        " " * 400_000 + "x",
    ],
    ids=range(6),
)
def test_a_drawing_is_read_in_time_that_grows_with_its_length(text, tmp_path):
    """Half a megabyte took minutes with a pattern that could match a name in many ways."""
    (tmp_path / "c.gv").write_text(text)
    start = time.process_time()
    with pytest.raises(DataError):
        read(tmp_path / "c.gv")
    assert time.process_time() - start < 5


def test_a_drawing_without_queries_keys_and_values_is_three_edges_each_and_says_so():
    found = from_drawing(
        'digraph {\n"<embed>" -> "<a0.1_q>";\n"<a0.1>" -> "<a1.0>";\n"<a1.0>" -> "<resid_post>";\n}', "d.gv"
    )
    assert set(found.edges) == {
        "input->a0.h1<q>", *(f"a0.h1->a1.h0<{part}>" for part in "qkv"), "a1.h0->logits",
    }  # fmt: skip
    (note,) = found.notes
    assert note.startswith("d.gv draws 1 heads without queries") and "a1.0" in note
