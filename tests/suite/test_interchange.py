"""Circuit files: ours, and those of EAP-IG and MIB."""

import json
import os
from pathlib import Path

import pytest
import torch

from circuitmeter.suite.circuit import EdgeScores, top_n
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.interchange import load, save, to_json
from circuitmeter.suite.model.graph import Graph

REPORTED = Path(os.environ.get("CIRCUITMETER_REPORTED", "../shared/data/reported"))


@pytest.mark.parametrize(
    "graph", [Graph(2, 2), Graph(3, 1, "split"), Graph(2, 2, parallel=True), Graph(2, 3, mlps=False)]
)
def test_round_trip(graph, tmp_path):
    scores = EdgeScores(graph, torch.randn(graph.exists.shape, dtype=torch.float64))
    circuit = top_n(scores, 5)
    save(tmp_path / "c.json", circuit, scores, d_model=8, meta={"method": "eap"})
    back = load(tmp_path / "c.json")
    assert back.circuit.graph == graph and torch.equal(back.circuit.edges, circuit.edges)
    assert (back.scores.flat() == scores.flat()).all()
    assert back.meta["method"] == "eap" and back.meta["graph"]["hash"] == graph.hash
    # Other tools write no key of ours: the graph follows from what they do write.
    content = json.loads((tmp_path / "c.json").read_text())
    del content["circuitmeter"]
    (tmp_path / "d.json").write_text(json.dumps(content))
    assert load(tmp_path / "d.json").circuit.graph == graph


def test_nodes_of_the_file_are_those_that_kept_edges_touch():
    graph = Graph(2, 2)
    circuit = top_n(EdgeScores.from_mapping(graph, {"a0.h1->a1.h0<k>": 1}), 1)
    nodes = to_json(circuit, None, 8, {})["nodes"]
    assert [name for name, node in nodes.items() if node["in_graph"]] == ["a0.h1", "a1.h0", "logits"]


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("c.pt", "", "pickle"),
        ("c.json", "{", "not JSON"),
        ("c.json", "[]", "EAP-IG / MIB"),
        ("c.json", '{"cfg": {"n_layers": 1, "n_heads": 1}, "edges": {"m7->logits": {"in_graph": true}}}', "m7->logits"),
    ],
)
def test_what_is_not_a_circuit_is_refused(name, content, hint, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=hint):
        load(tmp_path / name)


@pytest.mark.skipif(not (REPORTED / "mib-example-ioi-eap-ig.json").exists(), reason="the published files are not here")
def test_a_published_mib_circuit_reads():
    found = load(REPORTED / "mib-example-ioi-eap-ig.json")
    assert found.circuit.graph.n_edges == 32_491 and found.circuit.n_edges > 0
    assert found.scores is not None
