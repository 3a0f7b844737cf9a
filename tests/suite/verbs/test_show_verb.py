"""``circuitmeter show``: the drawing says what is true of the circuit, in the terminal and in the page."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.ground_truth.explain import explain
from circuitmeter.reports.page.table import number_of_any_size
from circuitmeter.suite.circuit import Circuit, EdgeScores, ranking, top_n
from circuitmeter.suite.errors import CircuitMeterError
from circuitmeter.suite.interchange import Origin, save
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.verbs import show


def run(*arguments):
    parser = ArgumentParser()
    show.add_arguments(parser)
    return show.run(parser.parse_args([str(argument) for argument in arguments]))


def test_what_edges_carry_and_why_others_are_inert():
    edges = {str(e.edge): e for e in explain(ground_truth.load("tracr/reverse@fixed"), "patch")}
    assert edges["a3.h0->logits"].carries == ("reverse",) and edges["a3.h0->logits"].status == "true"
    assert edges["m2->a3.h0<q>"].carries == ("opposite",)
    # At one fixed length the opposite position is the same on every input.
    assert edges["m2->a3.h0<q>"].status == "inert" and "constant" in edges["m2->a3.h0<q>"].why
    assert edges["tok_embed->a3.h0<v>"].carries == ("tokens",)
    varying = {str(e.edge): e for e in explain(ground_truth.load("tracr/reverse"), "patch")}
    assert varying["m2->a3.h0<q>"].status == "true"


def test_a_rotated_model_is_explained_in_the_names_of_the_compiled_one():
    assert explain(ground_truth.load("tracr-rotated/hist"), "zero") == explain(ground_truth.load("tracr/hist"), "zero")


def test_a_circuit_file_with_a_model_is_refused_before_the_model_is_loaded(tmp_path):
    graph = Graph(1, 1)
    scores = EdgeScores(graph, torch.ones(graph.exists.shape))
    save(tmp_path / "c.json", top_n(scores, 2), scores, d_model=8, origin=Origin())
    with pytest.raises(CircuitMeterError, match="c.json is a circuit file, .*; leave out --model"):
        run(tmp_path / "c.json", "--model", "no model at all")


def test_optional_edges_say_why():
    redundant = {str(e.edge): e for e in explain(ground_truth.load("gates/redundant"), "patch")}
    assert "some of the 3 minimal circuits" in redundant["a0.h0->m0"].why
    cancelling = {str(e.edge): e for e in explain(ground_truth.load("gates/cancelling"), "patch")}
    assert "alone" in cancelling["a0.h1->logits"].why and cancelling["a0.h1->logits"].status == "optional"
    with pytest.raises(CircuitMeterError, match="not certified under optimal"):
        explain(ground_truth.load("gates/redundant"), "optimal")


def test_the_terminal_shows_every_structural_edge_once(capsys):
    assert run("tracr/reverse", "--ablation", "mean-positional-counterfactual") == 0
    printed = capsys.readouterr().out
    claim = ground_truth.load("tracr/reverse").certificate
    assert printed.count(" from ") == claim.n_structural
    core = len(claim.ablations["mean-positional"].core)
    assert f"{core} true edges of 94" in printed and f"({core})" in printed


def test_a_method_is_compared_with_the_truth(capsys, tmp_path):
    page = tmp_path / "page.html"
    assert run("gates/saturation", "--truth", "--method", "eap", "truth", "--out", page) == 0
    printed = capsys.readouterr().out
    # EAP sees no gradient on the way through the flat step: of five true edges it can tell three.
    assert "eap on gates/saturation" in printed and "truth on gates/saturation" in printed
    assert "under patch: 5 found, 0 missed, 0 wrongly added" in printed
    text = page.read_text(encoding="utf-8")
    assert 'id="viewer"' in text and text.count("<script>") == 1 and not re.search(r'(src|href)="http', text)


def test_optional_edges_that_a_method_keeps_and_whether_it_has_a_minimal_circuit():
    truth = ground_truth.load("gates/backup")
    one, other = truth.certificate.ablations["zero"].circuits
    for kept, words in (
        (["m0->logits"], "1 found, 0 missed, 0 wrongly added; of 8 optional edges 0 kept; not a minimal circuit"),
        (one, "; of 8 optional edges 4 kept; a minimal circuit"),
        ([*one, *other], "; of 8 optional edges 8 kept; more than a minimal circuit"),
    ):
        view = show.circuit_view(Circuit.of(truth.graph, sorted(set(kept))), truth, "zero", "mine")
        assert view.caption.endswith(words)
    saturation = ground_truth.load("gates/saturation")
    assert "optional" not in show.circuit_view(Circuit.of(saturation.graph, []), saturation, "patch", "mine").caption


def test_many_inert_edges_of_one_reason_are_counted_unless_all_are_asked_for(capsys):
    assert run("trained/hist") == 0
    short = capsys.readouterr().out
    assert short.count(" from ") == 4 and "42 edges  varies" in short and "15 edges  constant" in short
    assert "a1.h0" not in short and "(57)" in short
    assert run("trained/hist", "--all") == 0
    assert capsys.readouterr().out.count(" from ") == 61


def test_a_circuit_file_alone_and_against_its_truth(tmp_path, capsys):
    truth = ground_truth.load("tracr/hist")
    claim = truth.certificate.ablations["patch"]
    chosen = [*claim.core[1:], "pos_embed->logits"]
    file, page = tmp_path / "mine.json", tmp_path / "mine.html"
    origin = Origin(task="tracr/hist", model="tracr/hist", method="by hand", ablation="patch")
    save(file, Circuit.of(truth.graph, chosen), None, d_model=18, origin=origin)
    assert run(file) == 0
    assert "4 of 13 edges" in capsys.readouterr().out
    assert run(file, "--truth", "--out", page) == 0
    printed = capsys.readouterr().out
    assert "3 found, 1 missed, 1 wrongly added" in printed
    text = page.read_text(encoding="utf-8")
    counts = {mark: text.count(f"<td>{mark}</td>") for mark in ("true, and found", "true, and missed")}
    assert counts == {"true, and found": 3, "true, and missed": 1} and text.count("<td>found, and not true</td>") == 1
    views = json.loads(re.search(r'id="circuit-data">(.*?)</script>', text).group(1))["views"]
    assert len(views) == 2 and views[1]["size"] == 4 and len(views[1]["core"]) == 4


def test_a_circuit_of_a_large_graph_shows_scores_and_dead_ends_and_leaves_out_empty_nodes(tmp_path, capsys):
    graph = Graph(n_layers=12, n_heads=9)
    order = torch.arange(graph.n_edges, dtype=torch.float64)
    values = torch.zeros(graph.exists.shape, dtype=torch.float64)
    values[graph.exists] = torch.where(order % 2 == 0, 1.0, -1.0) * (1 + order % 97)
    scores = EdgeScores(graph, values)
    kept = ["input->a0.h3<q>", "a0.h3->m4", "m4->logits", "m7->logits", "input->a9.h1<k>"]
    file, page = tmp_path / "large.json", tmp_path / "large.html"
    save(file, Circuit.of(graph, kept), scores, d_model=64, origin=Origin(method="eap", task="ioi"))
    assert run(file, "--out", page) == 0
    printed = capsys.readouterr().out
    nodes = [line.split()[0] for line in printed.splitlines() if re.match(r"  \S", line)]
    assert nodes == ["a0.h3", "m4", "a9.h1", "logits"]  # what reads nothing is left out
    score = float(scores.values[graph.index("m4->logits")])
    assert re.search(rf"from m4 +{number_of_any_size(score)}", printed)
    assert re.search(r"a9\.h1 +on no path", printed) and not re.search(r"m4 +on no path", printed)
    data = json.loads(re.search(r'id="circuit-data">(.*?)</script>', page.read_text()).group(1))
    (view,) = data["views"]
    (method,) = view["methods"]
    assert view["core"] is None and view["size"] == 5 and len(method["edges"]) == len(method["scores"]) == 4000
    width = len(graph.readers)
    names = {f"{graph.writers[i // width]}->{graph.readers[i % width]}" for i in method["edges"][:5]}
    assert names == set(kept) and min(method["scores"]) < 0


@pytest.fixture
def large(tmp_path):
    """A circuit of 300 edges of a large graph, and its file."""
    graph = Graph(n_layers=12, n_heads=9)
    values = torch.randn(graph.exists.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scores = EdgeScores(graph, values)
    circuit, origin = top_n(scores, 300), Origin(method="eap", task="ioi", model="my", ablation="mean", objective="kl")
    save(tmp_path / "large.json", circuit, scores, d_model=64, origin=origin)
    return circuit, scores, tmp_path / "large.json"


def test_a_large_circuit_is_told_in_short_the_strongest_first(large, capsys):
    circuit, scores, file = large
    assert run(file) == 0
    printed = capsys.readouterr().out
    facts, strongest, nodes, _ = printed.partition("\n")[2].split("\n\n")
    dead = 300 - circuit.pruned().n_edges
    assert facts.startswith("found by eap on ioi in my under mean, objective kl\n300 of ")
    assert f"of 122 nodes; {dead} edges are dead ends, " in facts and 0 < dead < 300
    best = [str(circuit.graph.edges[place]) for place in ranking(scores)[:30]]
    assert [line.split()[0] for line in strongest.splitlines()[2:]] == best
    flows = {}
    for name in circuit.names:
        writer, reader = circuit.graph.index(name)
        for node in (circuit.graph.writers[writer], circuit.graph.node_of_reader(circuit.graph.readers[reader])):
            flows[node] = flows.get(node, 0.0) + abs(float(scores.values[writer, reader]))
    rows = [line.split() for line in nodes.splitlines()[2:]]
    assert [row[0] for row in rows] == sorted(flows, key=lambda node: -flows[node])[:20]
    assert all(abs(float(row[3]) + float(row[4]) - flows[row[0]]) < 0.06 for row in rows)
    assert run(file, "--all") == 0
    assert capsys.readouterr().out.count(" from ") == 300


def test_a_large_circuit_without_scores_has_the_nodes_with_the_most_edges(large, capsys):
    circuit, _, file = large
    save(file, circuit, None, d_model=64, origin=Origin())
    assert run(file) == 0
    printed = capsys.readouterr().out
    assert "strongest" not in printed and "score" not in printed and "\n300 of " in printed
    counts = [sum(map(int, line.split()[1:3])) for line in printed.split("\n\n")[1].splitlines()[2:]]
    assert len(counts) == 20 and counts == sorted(counts, reverse=True)


def test_the_page_of_a_large_circuit_begins_with_some_edges_and_has_no_empty_column(large, tmp_path, capsys):
    _, scores, file = large
    assert run(file, "--out", tmp_path / "large.html") == 0
    assert capsys.readouterr().out.endswith(f"\nwrote {tmp_path / 'large.html'}\n")
    text = (tmp_path / "large.html").read_text(encoding="utf-8")
    (view,) = json.loads(re.search(r'id="circuit-data">(.*?)</script>', text).group(1))["views"]
    assert (view["start"], view["size"]) == (100, 300)
    table = text[text.index('id="edges-0-table"') :]
    assert re.findall(r'<button type="button">(.*?)<', table) == ["Edge", "Score"]
    sizes = [abs(float(score)) for score in re.findall(r'data-sort="(.*?)"', table)]
    assert len(sizes) == 300 and sizes == sorted(sizes, reverse=True)
    assert "edges-0.csv" not in text and "300 rows, for the screen only." in text


def test_names_with_markup_are_shown_and_not_run():
    from circuitmeter.reports.page.circuit_page import circuit_page
    from circuitmeter.reports.page.circuit_view import Arrow, CircuitView, as_text
    from circuitmeter.suite.model.graph import Edge

    arrow = Arrow(Edge("tok_embed", "logits"), "true", ("<script>alert(1)</script>",), "a & b")
    view = CircuitView("<b>title</b>", "", Graph(1, 1, "split"), [arrow], {"tok_embed": ["<i>x</i>"]})
    text = circuit_page("<b>page</b>", [], [view])
    assert text.count("<script>") == 1 and "<b>" not in text and "<i>" not in text  # the page's own
    plain = as_text(view, unicode=False)
    assert plain.isascii() and "* " in plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tracr/revers",), "tracr/reverse"),
        (("nothing.json",), "cannot read"),
        (("nothing.json", "--method", "eap"), "goes with a task"),
        (("tracr/hist", "--method", "epa"), "Did you mean 'eap'"),
        (("tracr/hist", "--out", "/nowhere/page.html"), "cannot write"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message):
    with pytest.raises(CircuitMeterError, match=message):
        run(*arguments)


@pytest.mark.parametrize(
    "name", ["tracr-rotated-features/fraction_a", "tracr-rotated-dictionaries/pointer_twice-wide-0"]
)
def test_features_are_named_by_what_they_stand_for(name, capsys):
    truth = ground_truth.load(name)
    assert run(name) == 0
    out = capsys.readouterr().out
    labels = [label for written in truth.description.writers.values() for label in written]
    assert labels and all(label in out for label in labels)


def test_nodes_without_a_path_are_found_position_by_position():
    from circuitmeter.reports.page.circuit_view import Arrow, CircuitView
    from circuitmeter.suite.model.graph import Edge
    from circuitmeter.suite.model.position_graph import PositionGraph

    def without_path(graph, *edges):
        return CircuitView("c", "", graph, [Arrow(Edge.parse(edge), "kept") for edge in edges]).without_path

    by_position = PositionGraph(2, 1, n_positions=3)
    assert without_path(by_position, "input->m0@1", "m0->logits@1") == set()
    assert without_path(by_position, "input->m0@1", "m0->logits@2") == {"input", "m0", "logits"}
    whole = Graph(2, 1)
    assert without_path(whole, "input->m0", "m0->logits", "m0->m1") == {"m1"}
    assert without_path(whole, "input->m0", "m0->logits", "a0.h0->m1", "m1->logits") == {"a0.h0", "m1"}
