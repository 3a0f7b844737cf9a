"""The shipped dictionary of SmolLM2: its features are nodes, carry the behaviour, and their circuits beat baselines."""

from __future__ import annotations

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.ground_truth.dictionaries.recipe import OF_SMOLLM2
from circuitmeter.ground_truth.dictionaries.shipped import names, shipped
from circuitmeter.ground_truth.dictionaries.train import values_at_sites
from circuitmeter.suite.circuit import Circuit, top_n
from circuitmeter.suite.errors import ModelAbsent
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.faithfulness import measure_circuits
from circuitmeter.suite.intervention.feature_shares import feature_shares, parts_of
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.features.scores import dictionary_scores
from circuitmeter.suite.model.load import gguf_file
from circuitmeter.suite.model.load.by_name import load_model, on_model
from circuitmeter.suite.scoring.feature_examples import top_examples

pytestmark = pytest.mark.slow
(NAME,) = names(OF_SMOLLM2)


@pytest.fixture(scope="module")
def model():
    try:
        gguf_file.find("smollm2")
    except ModelAbsent as error:
        pytest.skip(str(error))
    return load_model(NAME, device="cpu")


def prompts(split, n):
    return on_model(tasks.load("ioi"), NAME).data(split).select(torch.arange(n))


def test_it_reconstructs_prompts_that_it_was_not_trained_on(model):
    ((site, values),) = values_at_sites(model, prompts("test", 12)).items()
    about = shipped()[NAME].sites[str(site)]
    found = dictionary_scores(model.dictionaries[str(site)], values)
    assert found.l0 == pytest.approx(about.recipe.k, abs=0.5)
    assert about.unexplained < 0.03 and found.unexplained < 0.05


@torch.no_grad()
def test_with_features_as_nodes_the_logits_are_the_models_own(model):
    plain = load_model("smollm2", device="cpu")
    for batch in prompts("test", 2).batches(2):
        expected = plain(batch.clean, batch.read)
        assert (model(batch.clean, batch.read) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_features_carry_the_behaviour_and_the_error_node_does_not(model):
    given = {"ablation": Ablation.parse("zero"), "objective": OBJECTIVES.get("logit-difference")}
    found = feature_shares(model, prompts("test", 4), **given)
    assert found.features > 0.7 and abs(found.errors) < 0.2


def test_under_patch_a_circuit_keeps_more_than_a_random_one_and_than_its_error_nodes(model):
    """Under zero such circuits are not clearly better than random ones (docs/features.md)."""
    on = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("logit-difference")}
    method = METHODS.get("eap-ig")
    scores = method.discover(model, prompts("train", 6), **on, **method.resolve({}), seed=0).scores
    found = top_n(scores, int(0.2 * model.graph.n_edges))
    edges = torch.zeros_like(found.edges)
    edges[model.graph.exists] = (
        torch.randperm(model.graph.n_edges, generator=torch.Generator().manual_seed(0)) < found.n_edges
    )
    circuits = [found, *parts_of(found), Circuit(model.graph, edges)]
    values = measure_circuits(model, prompts("test", 6), circuits, Cut(on["ablation"]), on["objective"])
    whole, of_features, of_errors, random = values.faithfulness().tolist()
    assert whole > 0.5 and of_features > 0.4 and abs(of_errors) < 0.15 and abs(random) < 0.15


def test_features_have_prompts_that_they_are_most_active_on(model):
    (at,) = model.graph.sites
    found = top_examples(model, prompts("train", 12), [f"{at.stem}.f{f}" for f in at.features[:40]], 2)
    assert sum(len(each) == 2 for each in found.values()) > 20
    assert all(each[0].activation >= each[-1].activation > 0 for each in found.values() if each)
