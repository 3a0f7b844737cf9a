"""Scores of nodes: how they become scores of edges, and what a method that returns them is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuitmeter import EdgeScores, NodeScores
from circuitmeter.suite.circuit import Reference, threshold
from circuitmeter.suite.errors import MethodError, NotFinite
from circuitmeter.suite.methods.registry import _as_discovery
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.run.discovery import diagnosis
from circuitmeter.suite.scoring import ranking
from circuitmeter.suite.scoring.recovery import recovery
from circuitmeter.suite.users_line import raised, refused

GRAPH = Graph(2, 2)


@pytest.fixture
def nodes():
    generator = torch.Generator().manual_seed(0)
    return NodeScores(GRAPH, torch.randn(len(GRAPH.writers), dtype=torch.float64, generator=generator))


def test_an_edge_has_the_smaller_score_of_its_two_nodes(nodes):
    score = dict(zip(GRAPH.writers, nodes.values.tolist(), strict=True))
    spread = dict(zip(map(str, GRAPH.edges), nodes.edges().flat().tolist(), strict=True))
    for edge in GRAPH.edges:
        node = GRAPH.node_of_reader(edge.reader)
        both = [score[edge.writer]] + ([score[node]] if node != "logits" else [])
        assert spread[str(edge)] == min(both, key=abs)


def test_edges_of_a_threshold_are_those_between_its_nodes(nodes):
    kept = {name for name, value in zip(GRAPH.writers, nodes.values.abs().tolist(), strict=True) if value >= 0.5}
    found = threshold(nodes.edges(), 0.5)
    assert set(found.names) == {
        str(e) for e in GRAPH.edges if e.writer in kept and GRAPH.node_of_reader(e.reader) in {*kept, "logits"}
    }


def test_nodes_are_judged_by_their_own_scores(nodes):
    core = GRAPH.matrix(["a0.h1->a1.h0<k>", "a1.h0->m1", "m1->logits"])
    truth = Reference("made up", GRAPH, core, torch.zeros_like(core))
    true = np.array([bool(core[i].any()) for i in range(len(GRAPH.writers))])
    expected = ranking.auroc(true, nodes.values.abs().numpy())
    assert recovery(nodes.edges(), truth)["node_auroc"] == pytest.approx(expected) and 0 < expected < 1


def test_what_a_method_may_return(nodes):
    by_name = dict(zip(GRAPH.writers, nodes.values.tolist(), strict=True))
    for returned in (nodes, by_name):
        found = _as_discovery(returned, GRAPH)
        assert (found.scores.flat() == nodes.edges().flat()).all() and found.diagnostics == {"scores_of": "nodes"}
    assert _as_discovery({"a0.h0->m0": 1.0}, GRAPH).diagnostics == {}
    assert not _as_discovery({}, GRAPH).scores.flat().any()


def test_mistakes_are_named():
    with pytest.raises(
        MethodError, match=r"\(4,\); this graph's are \(7,\), one for each of graph.writers, input first"
    ):
        NodeScores(GRAPH, torch.zeros(4))
    with pytest.raises(NotFinite, match="1 of 7 node scores are NaN or infinite, the first is a0.h0's"):
        NodeScores(GRAPH, torch.tensor([0, float("nan"), 0, 0, 0, 0, 0]))
    with pytest.raises(MethodError, match="no node 'a0.h9'. Did you mean 'a0.h"):
        _as_discovery({"a0.h9": 1.0}, GRAPH)
    with pytest.raises(MethodError, match=r"scores\['m0'\] = 'x'"):
        _as_discovery({"m0": "x"}, GRAPH)
    shape = tuple(GRAPH.exists.shape)
    with pytest.raises(MethodError, match=r"rows are writers \(graph.writers\), columns are readers .* Transpose them"):
        EdgeScores(GRAPH, torch.zeros(shape).T)
    with pytest.raises(MethodError, match=r"columns are readers \(graph.readers\).$"):
        EdgeScores(GRAPH, torch.zeros(2, 2))


def test_the_user_s_line_is_named_however_deep_the_error(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef f(graph):\n    return graph.matrix([torch.zeros(2)])  # here\n"
    )
    names: dict = {}
    exec(compile((tmp_path / "mine.py").read_text(), str(tmp_path / "mine.py"), "exec"), names)
    try:
        names["f"](GRAPH)
    except Exception as error:
        said = raised(error)
    assert said.endswith("(mine.py, line 5: return graph.matrix([torch.zeros(2)]) # here)") and "\n" not in said
    assert raised(KeyError("a")) == "KeyError: 'a'"


def test_what_we_refuse_in_a_user_s_code_names_their_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from circuitmeter import EdgeScores\n\n\ndef f(graph, values):\n    return EdgeScores(graph, values)\n"
    )
    names: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    with pytest.raises(MethodError) as caught:
        names["f"](GRAPH, torch.zeros(2, 2))
    assert refused(caught.value).endswith("(mine.py, line 5: return EdgeScores(graph, values)).")
    assert diagnosis(caught.value) == ("error", refused(caught.value))
    with pytest.raises(MethodError) as ours:
        _as_discovery({"a0.h9": 1.0}, GRAPH)
    assert refused(MethodError("said.")) == "said." and "line" in refused(ours.value)  # this test's own line
