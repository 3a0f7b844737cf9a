"""Edges and nodes as papers count them: their own numbers out of certified circuits."""

import json
from importlib.resources import files

import numpy as np
import pytest

from circuitmeter import ground_truth
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring.conventions import CONVENTIONS, counted

POINTS = {
    curve["task"]: curve["points"][1]
    for name in ("roc.json", "roc_others.json")
    for curve in json.loads(
        files("circuitmeter.reports.reproduction").joinpath("papers", "conmy2023", name).read_text()
    )["curves"]
    if curve["task"].startswith("tracr-")
}
"""Task -> threshold, false and true positive rate of edges, of nodes: of ACDC's first circuit that has edges."""

# Zero ablation's circuit on inputs without the token that begins them, as ACDC's loader makes them, and what its run
# with corrupted activations finds there.
UNBEGUN = [
    *(f"{writer}->a1.h0<{part}>" for writer in ("tok_embed", "pos_embed") for part in "qk"),
    *("tok_embed->m0", "m0->a1.h0<v>", "a1.h0->logits"),
]
FOUND_UNBEGUN = ["tok_embed->m0", "tok_embed->a1.h0<k>", "m0->a1.h0<v>", "a1.h0->logits"]


def certified(task, ablation):
    certificate = ground_truth.load(task).certificate
    return certificate.graph.build(), certificate.ablations[ablation].core


def measured(convention, graph, found, core, optional=()):
    scores = np.where(graph.existing, graph.array(found), np.nan)
    return counted(convention, graph, scores, graph.array(core), graph.array(optional)).measures()


def test_acdcs_counts_of_reverse_are_those_of_its_released_points():
    graph, zero = certified("tracr/reverse@permutations3", "zero")
    patch = certified("tracr/reverse@permutations3", "patch")[1]
    edges, nodes = (measured(f"acdc-{level}", graph, patch, zero) for level in ("edges", "nodes"))
    assert (len(zero), edges["true_size"], nodes["true_size"]) == (11, 15, 16)
    assert (edges["pessimistic_auc"], nodes["pessimistic_auc"]) == (3 / 15, 5 / 16)
    _, *rates = POINTS["tracr-reverse"]
    assert rates == [0.0, 3 / 15, 0.0, 5 / 16]
    # The released code shuffles the position embedding, too; the released points are of runs that did not.
    shuffled = measured("acdc-edges", graph, [*patch, "pos_embed->m1", "pos_embed->a3.h0<k>"], zero)
    assert shuffled["pessimistic_auc"] == pytest.approx(6 / 15)


def test_acdcs_counts_of_proportion_are_of_inputs_without_their_first_token():
    graph, zero = certified("tracr/xproportion@fixed", "zero")
    patch = certified("tracr/xproportion@fixed", "patch")[1]
    theirs = [measured(f"acdc-{level}", graph, FOUND_UNBEGUN, UNBEGUN) for level in ("edges", "nodes")]
    assert [each["true_size"] for each in theirs] == [10, 11]
    assert [each["pessimistic_auc"] for each in theirs] == pytest.approx(
        [POINTS["tracr-proportion"][i] for i in (2, 4)], abs=1e-6
    )
    ours = measured("acdc-edges", graph, patch, zero)
    assert (ours["true_size"], ours["pessimistic_auc"]) == (8, 4 / 8)  # and not 6 / 10


def test_auto_circuits_counts_have_one_input():
    sizes = {}
    for task, ablation in (("reverse@fixed", "patch"), ("reverse@permutations3", "zero")):
        graph, core = certified(f"tracr/{task}", ablation)
        sizes[task, ablation] = measured("auto-circuit", graph, core, core)
    for ablation in ("patch", "zero"):
        graph, core = certified("tracr/xproportion@fixed", ablation)
        sizes["xproportion", ablation] = measured("auto-circuit", graph, core, core)
    assert [each["true_size"] for each in sizes.values()] == [2, 10, 3, 5]  # as the paper has them
    assert all(each["auroc"] == 1 for each in sizes.values())
    # 77 edges of reverse and 23 of xproportion, as its graphs have them.
    assert {each["units"] for each in sizes.values()} == {77, 23}


def test_interpbenchs_counts_have_heads_and_one_input_and_no_edge_from_it_to_the_logits():
    for task, true, units in (("reverse@fixed", 2, 44), ("xproportion@fixed", 3, 14), ("hist@fixed", 3, 5)):
        graph, core = certified(f"tracr/{task}", "patch")
        found = measured("interpbench", graph, core, core)
        assert (found["true_size"], found["units"]) == (true, units), task
    graph = Graph(1, 1, inputs="split", mlps=False)
    every = [str(edge) for edge in graph.edges]
    # tok_embed and pos_embed to q, k and v are one edge, the head's to the logits the other.
    assert measured("interpbench", graph, every, every)["units"] == 2


def test_a_unit_has_the_largest_score_of_its_edges_and_is_true_with_one_of_them():
    graph = Graph(1, 1, inputs="token", mlps=False)
    q, k, v = (graph.index(f"input->a0.h0<{part}>") for part in "qkv")
    scores, none = np.where(graph.existing, 0.0, np.nan), np.zeros(graph.existing.shape, dtype=bool)
    scores[q], scores[k], scores[graph.index("a0.h0->logits")] = -4.0, 2.0, 1.0
    core, optional = none.copy(), none.copy()
    core[k] = True
    labels, values = counted("interpbench", graph, scores, core, optional)
    assert dict(zip(values.tolist(), labels.tolist(), strict=True)) == {4.0: True, 1.0: False}
    optional[q] = True  # left out: neither found nor wrongly added
    assert counted("interpbench", graph, scores, core, optional).values.tolist() == [2.0, 1.0]
    core[k], optional[v] = False, True
    assert len(counted("interpbench", graph, scores, core, optional).values) == 1


def test_every_convention_counts_every_edge_that_it_has():
    graph = Graph(2, 2, inputs="split")
    for name, units in CONVENTIONS.items():
        members = list(units(graph))
        edges = {(w, r) for _, w, r in members}
        dropped = {(w, len(graph.readers) - 1) for w in (0, 1)} if name == "interpbench" else set()
        assert edges | dropped == {tuple(each) for each in np.argwhere(graph.existing).tolist()}, name
        assert len(set(members)) == len(members), name
