"""EAP-IG of neurons, the dimensions of what nodes write: by differences of plain runs, and their sums over a node."""

import pytest
import torch
from discovering import discover, scores
from oracles import ARCHITECTURES, plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.errors import SpecError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS

AT_CLEAN = {"steps": 1, "endpoint": "right", "preset": "neuron", "neurons": 10_000}


def neurons(model, data, **given):
    """Scores [W, D] as they are listed."""
    found = discover("eap-ig", model, data, **{**AT_CLEAN, **given}).diagnostics["neurons"]
    places = {name: i for i, name in enumerate(model.graph.writers)}
    values = torch.zeros(len(places), model.config.d_model, dtype=torch.float64)
    for name, value in found.items():
        node, _, dimension = name.rpartition(".n")
        values[places[node], int(dimension)] = value
    assert list(map(abs, found.values())) == sorted(map(abs, found.values()), reverse=True)
    return values


@pytest.mark.parametrize("architecture", ["gpt2", "parallel blocks", "attention only", "gemma-2"])
@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_the_neurons_of_a_node_sum_to_the_edges_that_leave_it(architecture, ablation):
    model, data = small_model("split", **{**ARCHITECTURES[architecture], "n_layers": 2}), small_data(n=3)
    given = {"ablation": ablation, "steps": 2}
    by_edge = scores("eap-ig", model, data, **given)
    found = neurons(model, data, **given)
    assert_close(found.sum(1), by_edge.sum(1), rtol=1e-8, atol=1e-10)
    assert found.abs().amax() > 2 * found.sum(1).abs().amin(), "they are not all one"


def test_a_neuron_s_score_is_the_slope_of_moving_it_alone():
    model, data, step = small_model(n_layers=1), small_data(n=2), 1e-5
    found, kept = neurons(model, data), model.graph.exists.double()
    for name, dimension in (("input", 3), ("a0.h1", 0), ("m0", 11)):
        total = 0.0
        for row in range(data.n):
            clean, other = written(model, data.clean[row]), written(model, data.counterfactual[row])
            for sign in (1, -1):
                moved = clean[name].clone()
                moved[:, dimension] += sign * step * (other[name] - clean[name])[:, dimension]
                logits = plain_cut(model, data.clean[row], clean, kept, {name: moved})[-1]
                total += sign * float(logits[data.wrong[row, 0]] - logits[data.answers[row, 0]])
        expected = total / (2 * step * data.n)
        assert float(found[model.graph.writers.index(name), dimension]) == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_a_node_has_the_size_of_its_largest_neuron_and_the_largest_are_listed():
    model, data = small_model(n_layers=1), small_data(n=2)
    largest = dict(zip(model.graph.writers, neurons(model, data).abs().amax(1).tolist(), strict=True))
    few = discover("eap-ig", model, data, **{**AT_CLEAN, "neurons": 7})
    assert len(few.diagnostics["neurons"]) == 7
    del largest["input"]  # input nodes are always in the circuit, as the logits are
    for edge, score in zip(model.graph.edges, few.scores.flat().tolist(), strict=True):
        ends = [largest.get(edge.writer), largest.get(model.graph.node_of_reader(edge.reader))]
        assert score == pytest.approx(min((end for end in ends if end is not None), default=max(largest.values())))


def test_what_has_no_meaning_is_refused():
    model, data = small_model(n_layers=1), small_data(n=2)
    with pytest.raises(SpecError, match="path=inputs"):
        discover("eap-ig", model, data, preset="neuron", path="masks")
    with pytest.raises(Undefined, match="no scores of each prompt"):
        given = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("logit-difference")}
        METHODS.get("eap-ig").scores_by_prompt(model, data, **given, level="neuron")
