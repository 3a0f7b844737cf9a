"""Scores of features as nodes: equal to finite differences of their ablation, whatever the batch."""

import pytest
import torch
from feature_models import dictionary
from oracles import small_data, small_model

from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.feature_nodes import choose_features, feature_scores
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.features.transformer import FeatureTransformer

SITES = ("resid_pre.1", "z.0", "mlp_out.1", "transcoder.2")
OBJECTIVE = OBJECTIVES.get("logit-difference")


def books():
    return {Site.parse(site): dictionary(12, seed=i) for i, site in enumerate(SITES)}


@pytest.mark.parametrize("ablation", ["patch", "zero", "mean"])
def test_a_score_is_the_slope_of_the_loss_towards_the_features_ablation(ablation):
    model, data, ablation = small_model(), small_data(), Ablation.parse(ablation)
    scores = feature_scores(model, data, books(), ablation=ablation, objective=OBJECTIVE)
    whole = FeatureTransformer.of(model, {site: (book, range(book.n_features)) for site, book in books().items()})
    evaluator, step = Evaluator(whole, data, ablation, OBJECTIVE), 1e-5
    for node in whole.graph.nodes:
        if "feature" not in node.kind or int(node.name.split(".f")[1]) % 3:
            continue
        masks = torch.ones(2, *whole.graph.exists.shape, dtype=torch.float64)
        masks[0, node.writers] += step
        masks[1, node.writers] -= step
        more, less = evaluator.loss(masks)
        at = whole.graph.at[node.name.partition(".")[0]]
        found = float(scores[at.site][int(node.name.split(".f")[1])])
        assert found == pytest.approx(float(less - more) / (2 * step), abs=1e-7)


def test_scores_do_not_depend_on_the_batch():
    model, data = small_model(), small_data()
    given = dict(ablation=Ablation.parse("patch"), objective=OBJECTIVE, steps=3)
    whole = feature_scores(model, data, books(), **given)
    single = feature_scores(model, data, books(), batch_size=1, **given)
    for site in whole:
        torch.testing.assert_close(whole[site], single[site], rtol=1e-9, atol=1e-12)


def test_the_best_features_of_all_sites_are_nodes_and_one_of_each_at_least():
    one, two = Site.parse("mlp_out.0"), Site.parse("mlp_out.1")
    scores = {one: torch.tensor([0.1, -5.0, 2.0, 2.0]), two: torch.tensor([0.0, 0.01, 0.0, 0.0])}
    assert choose_features(scores, 3) == {one: [1, 2], two: [1]}
    with pytest.raises(SpecError, match="at least one per site"):
        choose_features(scores, 1)
