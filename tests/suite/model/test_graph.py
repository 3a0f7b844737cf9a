"""Which edges exist, what they are called, and how many there are."""

import re
from pathlib import Path

import pytest

from circuitmeter import ground_truth, reports, suite, tasks
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.model.graph import Edge, Graph

COUNTS = {
    "GPT-2 small": (Graph(12, 12), 32_491),
    "GPT-2 small, token and position apart": (Graph(12, 12, "split"), 32_936),
    "GPT-2 medium": (Graph(24, 16), 231_877),
    "GPT-2 XL": (Graph(48, 25), 2_235_025),
    "Pythia-160M, parallel blocks": (Graph(12, 12, parallel=True), 32_347),
    "attn-only-4l": (Graph(4, 8, mlps=False), 1_281),
    "InterpBench's IOI model": (Graph(6, 4), 1_108),
    "Tracr reverse": (Graph(4, 1, "split"), 94),
    "Tracr reverse, one input node": (Graph(4, 1, "sum"), 77),
    "Tracr xproportion": (Graph(2, 1, "split"), 32),
    "Tracr xproportion, one input node": (Graph(2, 1, "sum"), 23),
}


@pytest.mark.parametrize("name", COUNTS)
def test_edge_counts_of_the_literature(name):
    graph, count = COUNTS[name]
    assert graph.n_edges == count
    assert count > 100_000 or len(graph.edges) == count  # naming two million edges takes a while


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 3), (5, 4)])
def test_edge_counts_follow_the_formula(layers, heads):
    for inputs, e in (("token", 1), ("split", 2)):
        expected = sum(3 * heads * (e + (heads + 1) * i) + e + (heads + 1) * i + heads for i in range(layers))
        assert Graph(layers, heads, inputs).n_edges == expected + e + (heads + 1) * layers


def test_an_edge_prints_as_it_parses_and_is_found():
    graph = Graph(3, 2)
    for edge in graph.edges:
        assert Edge.parse(str(edge)) == edge
        w, r = graph.index(str(edge))
        assert (graph.writers[w], graph.readers[r]) == edge
    assert graph.named(graph.matrix(["a0.h1->a2.h1<q>", "m2->logits"])) == ["a0.h1->a2.h1<q>", "m2->logits"]


@pytest.mark.parametrize(
    "edge", ["a1.h0->a0.h0<q>", "a0.h0->a0.h0<k>", "a0.h9->logits", "logits->m0", "nonsense", "m0->a1.h0"]
)
def test_an_edge_that_does_not_exist_is_refused(edge):
    with pytest.raises(DataError):
        Graph(3, 2).index(edge)


def test_a_sequential_mlp_reads_its_own_layer_and_a_parallel_one_does_not():
    assert Graph(2, 2).exists[Graph(2, 2).writers.index("a1.h0"), Graph(2, 2).mlp_reader(1)]
    parallel = Graph(2, 2, parallel=True)
    assert not parallel.exists[parallel.writers.index("a1.h0"), parallel.mlp_reader(1)]


def test_graphs_that_are_not_comparable_have_different_hashes():
    graphs = [
        Graph(2, 2, inputs, mlps=m, parallel=p) for inputs in ("token", "sum", "split") for m in (0, 1) for p in (0, 1)
    ]
    assert len({graph.hash for graph in graphs}) == len(graphs)
    assert Graph(2, 2).hash == Graph(2, 2).hash


@pytest.mark.parametrize("mlps", [True, False])
@pytest.mark.parametrize("inputs", ["token", "split"])
def test_groups_and_nodes_cover_every_writer_and_reader_once_and_by_name(inputs, mlps):
    graph = Graph(2, 3, inputs, mlps=mlps)
    for things, names in (("writers", graph.writers), ("readers", graph.readers)):
        slices = [getattr(group, things) for group in graph.groups]
        assert [i for part in slices for i in range(part.start, part.stop)] == list(range(len(names)))
    for node in graph.nodes:
        assert graph.writers[node.writers] == ((node.name,) if node.kind != "logits" else ())
        assert {graph.node_of_reader(graph.readers[r]) for r in node.readers} == (
            {node.name} if node.readers else set()
        )
    assert [graph.writers[w] if w >= 0 else "logits" for w in graph.owners] == [
        graph.node_of_reader(reader) for reader in graph.readers
    ]


def test_a_group_knows_its_parts_and_what_they_see():
    graph = Graph(2, 3)
    heads, mlp = graph.group["head", 1], graph.group["mlp", 1]
    assert graph.readers[heads.part("k")] == ("a1.h0<k>", "a1.h1<k>", "a1.h2<k>")
    assert graph.readers[mlp.part("")] == ("m1",)
    assert graph.writers[heads.sees] == ("input", "a0.h0", "a0.h1", "a0.h2", "m0")
    assert graph.writers[mlp.sees][-1] == "a1.h2"
    assert [group.kind for group in graph.groups] == ["input", "head", "mlp", "head", "mlp", "logits"]


def test_only_the_model_s_own_room_counts_with_the_layout():
    roots = [Path(package.__file__).parent for package in (suite, tasks, ground_truth, reports)]
    counting = re.compile(r"graph\.(heads|mlp|qkv|mlp_reader|visible|readers_a_layer|writers_a_layer)\b")
    found = [
        f"{file}:{number}"
        for root in roots
        for file in root.rglob("*.py")
        if Path(suite.__file__).parent / "model" not in file.parents
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if counting.search(line)
    ]
    assert not found
