"""Random circuits are connected, of exactly the size asked for, and seeded."""

import pytest
import torch

from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring.null import inflated_circuits, random_circuits, size_of

GRAPHS = [Graph(3, 2, "split"), Graph(2, 2, "token", parallel=True), Graph(3, 1, "sum", mlps=False), Graph(1, 1)]


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_every_size_that_there_is(graph):
    for size in range(1, graph.n_edges + 1):
        for circuit in random_circuits(graph, size, 2):
            assert circuit.n_edges == size
            assert circuit.pruned().n_edges == size, "an edge lies on no path of kept edges from an input to the logits"


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
@pytest.mark.parametrize("component", ["node", "head-qkv"])
def test_sizes_in_nodes_and_in_what_heads_read(component, graph):
    whole = size_of(Circuit(graph, graph.exists), component)
    assert whole == (len(graph.writers) if component == "node" else 3 * graph.n_layers * graph.n_heads)
    for size in range(1, whole + 1):
        for circuit in random_circuits(graph, size, 2, component=component):
            assert size_of(circuit, component) == size
            assert circuit.pruned().n_edges == circuit.n_edges


def test_seeded_and_independent_of_how_many():
    graph = Graph(4, 4)
    few, many, other = (
        random_circuits(graph, 30, 3),
        random_circuits(graph, 30, 8),
        random_circuits(graph, 30, 3, seed=1),
    )
    assert [c.names for c in few] == [c.names for c in many[:3]]
    assert [c.names for c in few] != [c.names for c in other]
    assert len({tuple(c.names) for c in many}) == 8


def test_they_reach_all_over_the_graph():
    graph = Graph(4, 4)
    touched = {name.partition("->")[0] for circuit in random_circuits(graph, 20, 100) for name in circuit.names}
    assert touched == set(graph.writers)


def test_sizes_that_do_not_exist():
    for size in (0, Graph(1, 1).n_edges + 1):
        with pytest.raises(DataError, match="this graph has 1 to"):
            random_circuits(Graph(1, 1), size, 1)


def test_inflated_circuits_hold_the_circuit_and_a_connected_walk_more():
    graph = Graph(2, 2)
    circuit = Circuit.of(graph, ["input->m0", "m0->logits"])
    for inflated in inflated_circuits(circuit, 50, seed=1):
        assert inflated.n_edges > circuit.n_edges and bool((circuit.edges <= inflated.edges).all())
        assert inflated.pruned().n_edges == inflated.n_edges
    assert torch.equal(inflated_circuits(circuit, 3)[2].edges, inflated_circuits(circuit, 9)[2].edges)
    nearly = Circuit(graph, graph.exists & ~graph.matrix(["a0.h1->a1.h0<k>"]))  # most walks bring nothing new
    assert all(inflated.n_edges == graph.n_edges for inflated in inflated_circuits(nearly, 5))
    with pytest.raises(DataError, match="whole graph"):
        inflated_circuits(Circuit(graph, graph.exists), 1)
