"""Which of several minimal circuits a circuit is."""

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.suite.circuit import Circuit, EdgeScores
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring.plurality import plurality, plurality_of_scores

TRUTH = ground_truth.load("gates/redundant").reference("patch")  # any two of three copies of a bit, and the way out
GRAPH, MINIMAL = TRUTH.graph, TRUTH.minimal
OUT = "m0->logits"


def copy(head):
    return [f"tok_embed->a0.h{head}<v>", f"a0.h{head}->m0"]


def judged(*names):
    return plurality(Circuit.of(GRAPH, names), MINIMAL)


def test_each_minimal_circuit_is_recognised_by_its_place():
    assert len(MINIMAL) == 3
    for i, circuit in enumerate(MINIMAL):
        found = plurality(circuit, MINIMAL)
        assert (found.verdict, found.contains, found.minimal_circuits) == ("minimal", (i,), 3)


def test_a_superset_says_what_it_contains():
    one = judged(OUT, *copy(0), *copy(1), "tok_embed->logits")
    assert one.verdict == "superset" and len(one.contains) == 1
    every = judged(OUT, *copy(0), *copy(1), *copy(2))
    assert every.verdict == "superset" and every.contains == (0, 1, 2)


def test_a_chimera_of_two_is_recognised_as_one():
    """Half of one head's wire and half of another's beside a whole third: each edge is right in some circuit, and no
    circuit is there."""
    found = judged(OUT, *copy(0), copy(1)[0], copy(2)[1])
    assert (found.verdict, found.contains) == ("chimera", ())
    assert judged(copy(0)[0], copy(1)[0], copy(2)[0]).verdict == "chimera"


def test_parts_of_one_and_strangers_are_a_miss():
    assert judged().verdict == "miss"
    assert judged(OUT).verdict == "miss"  # what all share is no part of two
    assert judged(OUT, *copy(0), copy(1)[0]).verdict == "miss"  # a part of one
    assert judged(OUT, *copy(0), copy(1)[0], copy(2)[1], "tok_embed->logits").verdict == "miss"
    assert judged("tok_embed->logits").verdict == "miss"


def test_where_there_is_one_circuit_there_is_no_chimera():
    only = MINIMAL[:1]
    assert plurality(MINIMAL[0], only).verdict == "minimal"
    assert plurality(MINIMAL[1], only).verdict == "miss"
    assert plurality(Circuit(GRAPH, GRAPH.exists), only).verdict == "superset"


def test_scores_are_judged_by_their_best_edges():
    """As many as the smallest circuit has; of score zero none."""
    first = MINIMAL[0]
    values = torch.zeros(GRAPH.exists.shape)
    values[first.edges] = torch.tensor([5.0, -4, 3, 2, 1])
    values[GRAPH.index("tok_embed->logits")] = 0.5
    assert plurality_of_scores(EdgeScores(GRAPH, values), MINIMAL).verdict == "minimal"
    values[GRAPH.index("tok_embed->logits")] = -6
    found = plurality_of_scores(EdgeScores(GRAPH, values), MINIMAL)
    assert found.verdict == "miss" and found.n_edges == 5
    empty = plurality_of_scores(EdgeScores(GRAPH, torch.zeros(GRAPH.exists.shape)), MINIMAL)
    assert (empty.verdict, empty.n_edges) == ("miss", 0)


def test_rounding_decides_no_verdict():
    values = torch.zeros(GRAPH.exists.shape, dtype=torch.float64)
    places = MINIMAL[0].edges.nonzero()[:3]
    values[places[:, 0], places[:, 1]] = torch.tensor([3.0, 2, 1], dtype=torch.float64)
    noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact, noisy = (plurality_of_scores(EdgeScores(GRAPH, each), MINIMAL) for each in (values, values + 1e-9 * noise))
    assert exact == noisy and exact.n_edges == 3


def test_what_was_to_be_avoided_is_told_and_does_not_set_the_size():
    names = [MINIMAL[0].names, [*MINIMAL[1].names, "tok_embed->logits"]]
    small, large = (Circuit.of(GRAPH, each) for each in names)
    values = torch.zeros(GRAPH.exists.shape)
    values[large.edges] = 1.0
    scores = EdgeScores(GRAPH, values)
    found = plurality_of_scores(scores, (small, large), avoided=small)
    assert (found.verdict, found.contains, found.avoided) == ("minimal", (1,), 0)
    assert plurality_of_scores(scores, (small, large)).n_edges == 5
    assert plurality_of_scores(scores, (large,), avoided=large).avoided == 0  # there is no other
    assert plurality_of_scores(scores, (large,), avoided=small).avoided is None


def test_circuits_of_other_graphs_and_no_circuits_are_refused():
    with pytest.raises(ValueError, match="of the graph"):
        plurality(Circuit.of(Graph(2, 1), []), MINIMAL)
    with pytest.raises(ValueError, match="at least one"):
        plurality(MINIMAL[0], ())
