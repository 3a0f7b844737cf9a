"""Circuit files: ours and those of EAP-IG and MIB; what is refused; moving between input nodes."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from oracles import small_data, small_model

from circuitmeter.suite.circuit import Circuit, EdgeScores, top_n
from circuitmeter.suite.errors import DataError, SpecError
from circuitmeter.suite.interchange import Origin, exactly_on, load, read, save
from circuitmeter.suite.interchange.eap_ig import to_json
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.graph import Graph

REPORTED = Path(os.environ.get("CIRCUITMETER_REPORTED", "../shared/data/reported"))


def random_circuit(graph, n=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = EdgeScores(graph, torch.randn(graph.exists.shape, dtype=torch.float64, generator=generator))
    return top_n(scores, n), scores


@pytest.mark.parametrize(
    "graph", [Graph(2, 2), Graph(3, 1, "split"), Graph(2, 2, parallel=True), Graph(2, 3, mlps=False)]
)
def test_round_trip(graph, tmp_path):
    circuit, scores = random_circuit(graph, 5)
    save(tmp_path / "c.json", circuit, scores, d_model=8, origin=Origin(method="eap"))
    back = load(tmp_path / "c.json")
    assert back.circuit.graph == graph and torch.equal(back.circuit.edges, circuit.edges)
    assert (back.scores.flat() == scores.flat()).all()
    assert back.origin.method == "eap" and back.circuit.graph.hash == graph.hash
    # Other tools write no key of ours: the graph follows from what they do write.
    content = json.loads((tmp_path / "c.json").read_text())
    del content["circuitmeter"]
    (tmp_path / "d.json").write_text(json.dumps(content))
    assert load(tmp_path / "d.json").circuit.graph == graph


def test_a_file_of_eap_ig_on_gpt2_has_its_edges():
    """What EAP-IG writes, in its order and with no key of ours."""
    circuit, scores = random_circuit(Graph(12, 12), 200)
    content = to_json(circuit, scores, 768, Origin())
    del content["circuitmeter"]
    found = read_content(content)
    assert found.circuit.graph.n_edges == 32_491 and found.circuit.n_edges == 200
    assert found.circuit.graph.inputs == "token" and found.scores is not None


def read_content(content):
    from circuitmeter.suite.interchange.files import parsed

    return parsed(json.loads(json.dumps(content))).alone()


def test_nodes_of_the_file_are_those_that_kept_edges_touch():
    graph = Graph(2, 2)
    circuit = Circuit.of(graph, ["a0.h1->a1.h0<k>"])
    nodes = to_json(circuit, None, 8, Origin())["nodes"]
    assert [name for name, node in nodes.items() if node["in_graph"]] == ["a0.h1", "a1.h0", "logits"]


def test_circuits_of_neurons_are_refused():
    content = to_json(Circuit.of(Graph(1, 1), ["m0->logits"]), None, 3, Origin())
    content["nodes"]["m0"]["neurons"] = [True, True, True]
    assert read_content(content).circuit.n_edges == 1
    content["nodes"]["m0"]["neurons"] = [True, False, True]
    with pytest.raises(DataError, match="neurons of m0"):
        read_content(content)


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("c.pt", b"", "pickle.*to_json"),
        ("c.json", pickle.dumps({"cfg": {}}), "pickle.*to_json"),
        ("c.json", b"PK\x03\x04 what torch.save writes", "pickle.*to_json"),
        ("c.json", b"\xff\xfe", "UTF-16"),
        ("c.json", b"{", "not JSON"),
        ("c.json", b"{}", "EAP-IG / MIB"),
        ("c.json", b"[]", "no edges"),
        ("c.json", b"[1]", "not an edge"),
        ("c.json", b'["m0 to m1"]', "not an edge"),
        ("c.json", b'{"edges": ["m0->m1"], "circuitmeter": {"graph": {"layers": 2}}}', "n_layers is missing"),
        (
            "c.json",
            b'{"cfg": {"n_layers": 1, "n_heads": 1}, "edges": {"m7->logits": {"in_graph": true}}}',
            "m7->logits",
        ),
    ],
)
def test_what_is_not_a_circuit_is_refused(name, content, hint, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=hint):
        load(tmp_path / name)


def test_a_list_of_our_edge_names_reads(tmp_path):
    (tmp_path / "c.json").write_text('["input->m0", "m0->logits"]')
    assert load(tmp_path / "c.json", Graph(2, 2)).circuit.names == ["input->m0", "m0->logits"]
    with pytest.raises(DataError, match="does not say of which graph"):
        load(tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"tok_embed->m0": 0.5, "pos_embed->m0": 0, "m0->logits": true}')
    found = read(tmp_path / "c.json")
    assert found.inputs == "split"
    assert found.on(Graph(2, 2, "split")).circuit.names == ["tok_embed->m0", "m0->logits"]


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(SpecError, match="auto-circuit"):
        save(tmp_path / "c.json", *random_circuit(Graph(2, 2)), d_model=8, origin=Origin(), format="auto")


@pytest.mark.skipif(not (REPORTED / "mib-example-ioi-eap-ig.json").exists(), reason="the published files are not here")
def test_a_published_mib_circuit_reads():
    found = load(REPORTED / "mib-example-ioi-eap-ig.json")
    assert found.circuit.graph.n_edges == 32_491 and found.circuit.n_edges > 0
    assert found.scores is not None


def with_inputs(circuit, token, position):
    """The circuit with other edges out of its input nodes: bool [R] each."""
    edges = circuit.edges.clone()
    edges[0] = token
    edges[len(circuit.graph.input_nodes) - 1] = position
    return Circuit(circuit.graph, edges)


MOVES = [  # from, to, what makes it exact: (token's edges, position's edges) of a random row r
    ("token", "split", lambda r: (r, r)),
    ("sum", "split", lambda r: (r, r)),
    ("split", "sum", lambda r: (r, r)),
    ("split", "token", lambda r: (r, torch.ones_like(r))),
    ("token", "sum", lambda r: (torch.ones_like(r), torch.ones_like(r))),
    ("sum", "token", lambda r: (torch.ones_like(r), torch.ones_like(r))),
]


@pytest.mark.parametrize(("old", "new", "rows"), MOVES, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_a_circuit_moved_to_other_inputs_computes_the_same(old, new, rows, ablation):
    models = {inputs: small_model(inputs, n_layers=2) for inputs in (old, new)}
    circuit, _ = random_circuit(models[old].graph, 40)
    random = torch.rand(len(circuit.graph.readers), generator=torch.Generator().manual_seed(3)) < 0.5
    circuit = with_inputs(circuit, *rows(random))
    moved = exactly_on(circuit, models[new].graph)
    outputs = [
        Evaluator(
            models[c.graph.inputs], small_data(), Ablation.parse(ablation), OBJECTIVES.get("logit-difference")
        ).outputs(c.edges[None].double())
        for c in (circuit, moved)
    ]
    assert torch.allclose(*outputs, atol=1e-10)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("split", "sum", "keeps the other"),
        ("split", "token", "cuts the position embedding, which is on no edge"),
        ("token", "sum", "the token embedding alone"),
        ("sum", "token", "the position embedding with the token"),
    ],
)
def test_a_circuit_that_another_graph_cannot_say_is_refused(old, new, reason):
    graph = Graph(2, 2, old)
    edges = Circuit.of(graph, [f"{graph.input_nodes[0]}->m0", "m0->logits"])
    with pytest.raises(DataError, match=f"inputs={old} and no equal .*inputs={new}.*{reason}"):
        exactly_on(edges, Graph(2, 2, new))


def test_graphs_that_differ_in_more_are_refused():
    circuit, _ = random_circuit(Graph(2, 2))
    with pytest.raises(DataError, match="another graph"):
        exactly_on(circuit, Graph(3, 2))
