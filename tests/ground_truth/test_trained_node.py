"""Node-strict models, as the published benchmark trains them: nodes are as intended, and single edges are not.

Strict interchange intervention training replaces all that a node writes. What its models' edges do one by one it leaves
open, so a truth that is inherited from the compiled program is not a truth about them.
"""

from __future__ import annotations

import numpy as np
import pytest
from test_trained import all_pairs, changes_by_edge, largest_change

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.trained.gap import OUTPUT_CHANGE, RATIO, inherited
from circuitmeter.ground_truth.trained.recipe import RECIPES
from circuitmeter.suite.circuit import Reference
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.scoring.recovery import recovery

NAMES = [name for name in ground_truth.names() if name.startswith("trained-node/")]


def parts(name):
    truth = ground_truth.load(name)
    return truth, truth.certificate.ablations["patch"], truth.certificate.training


def test_three_programs_are_shipped_and_say_that_they_are_for_comparison():
    shipped = [parts(name)[0].description for name in NAMES]
    assert len({about.program for about in shipped}) == 3 and set(NAMES) < set(tasks.names())
    assert all("node-strict, for comparison" in about.description for about in shipped)
    edge_strict = {ground_truth.load(name).description.program for name in tasks.names() if "trained/" in name}
    assert edge_strict | {about.program for about in shipped} == set(RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_the_inherited_truth_is_wrong(name):
    """By the plain program: edges that it leaves out change outputs by more than the tolerance, and the gap between
    those that it names and all others is no gap."""
    truth, claim, training = parts(name)
    found, intended = training.inherited, training.intended
    assert found.missed == sorted(set(claim.necessary) - set(intended)) and len(found.missed) >= 4
    assert found.not_needed == sorted(set(intended) - set(claim.necessary))
    pairs = np.array(list(claim.witnesses.values()))
    effect = changes_by_edge(truth, pairs)
    smallest, largest = min(effect[edge] for edge in intended), max(effect[edge] for edge in found.missed)
    assert all(effect[edge] > truth.certificate.tolerance == OUTPUT_CHANGE for edge in found.missed)
    assert largest == pytest.approx(found.largest_other_effect, abs=1e-8)
    assert smallest == pytest.approx(found.smallest_intended_effect, abs=1e-8)
    assert found.ratio == pytest.approx(smallest / largest, abs=1e-3) and found.ratio < RATIO / 4
    assert training.recipe["strict"] == "node"


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * ("detect_ab" not in n)) for n in NAMES])
def test_the_engine_says_it_again(name):
    truth, claim, training = parts(name)
    again, shipped = inherited(truth.model().double(), truth.domain, claim, training.intended), training.inherited
    assert (again.missed, again.not_needed) == (shipped.missed, shipped.not_needed)
    for name in ("smallest_intended_effect", "largest_other_effect", "ratio"):
        assert getattr(shipped, name) == pytest.approx(getattr(again, name), abs=1e-6)


def test_an_edge_that_is_left_out_is_missed():
    truth, claim, training = parts("trained/shift1")
    left_out = training.intended[0]
    found = inherited(truth.model().double(), truth.domain, claim, [*training.intended[1:], "m1->logits"])
    assert found.missed == [left_out] and found.not_needed == ["m1->logits"] and found.ratio < 1


@pytest.mark.parametrize("name", NAMES)
def test_its_nodes_are_as_intended(name):
    """On a sample of pairs: replacing all that a node outside of the circuit writes does little, inside it a lot.

    One edge that the inherited truth leaves out does more than all edges of any node that it leaves out.
    """
    truth, _, training = parts(name)
    circuit = {edge.partition("->")[0] for edge in training.intended}
    pairs = all_pairs(truth)
    pairs = pairs[np.random.default_rng(0).permutation(len(pairs))[:300]]
    effect = {
        node: largest_change(truth, pairs, {str(edge) for edge in truth.graph.edges if edge.writer == node})
        for node in truth.graph.writers
        if not node.endswith("embed")
    }
    outside = max(effect[node] for node in effect if node not in circuit)
    inside = min(effect[node] for node in effect if node in circuit)
    assert inside > 0.9 and outside < OUTPUT_CHANGE
    assert training.inherited.largest_other_effect > 2 * outside


@pytest.mark.parametrize("name", NAMES)
def test_the_edge_strict_models_of_the_same_program_have_the_intended_edges(name):
    truth, claim, training = parts(name.replace("trained-node/", "trained/"))
    node, node_claim, node_training = parts(name)
    assert sorted(claim.necessary) == training.intended and training.inherited is None
    assert truth.description.program == node.description.program and truth.graph == node.graph
    assert len(training.intended) == len(node_training.intended) < len(node_claim.necessary)


@pytest.mark.parametrize("name", NAMES)
def test_the_intended_edges_alone_do_not_suffice(name):
    """On a sample of pairs, by the plain program; those of the edge-strict model do."""
    pairs = all_pairs(parts(name)[0])
    pairs = pairs[np.random.default_rng(1).permutation(len(pairs))[:300]]
    for each, enough in ((name, False), (name.replace("trained-node/", "trained/"), True)):
        truth, _, training = parts(each)
        others = {str(edge) for edge in truth.graph.edges} - set(training.intended)
        change = largest_change(truth, pairs, others)
        assert change < OUTPUT_CHANGE / 4 if enough else change > 2 * OUTPUT_CHANGE


def test_two_edges_of_an_inert_node_cancel():
    truth, claim, _ = parts("trained-node/hist")
    edges, pairs = ["a1.h0->m1", "a1.h0->logits"], all_pairs(truth)
    worst = np.array([claim.witnesses[edge] for edge in edges])
    assert min(largest_change(truth, worst, {edge}) for edge in edges) > 0.8
    sample = pairs[np.random.default_rng(2).permutation(len(pairs))[:500]]
    assert largest_change(truth, np.concatenate([worst, sample]), set(edges)) < OUTPUT_CHANGE


def test_exact_patching_is_judged_wrong_by_the_inherited_truth():
    truth, _, training = parts("trained-node/hist")
    task, exact, certified = tasks.load(truth.name), METHODS.get("exact"), truth.reference("patch")
    settings = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get(task.objective), "seed": 0}
    scores = exact.discover(truth.model(), task.data(), **settings, **exact.resolve({})).scores
    intended = truth.graph.matrix(training.intended)
    inherited_truth = Reference(
        "inherited", truth.graph, core=intended, optional=certified.optional & False, structural=certified.structural
    )
    assert recovery(scores, certified)["auroc"] == 1
    assert recovery(scores, inherited_truth)["auroc"] == pytest.approx(0.925, abs=0.01)
