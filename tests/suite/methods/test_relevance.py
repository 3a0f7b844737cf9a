"""RelP and GIM: where they equal EAP, where they conserve relevance, and what released code leaves out."""

import pytest
import torch
from discovering import scores
from oracles import linear_model, small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.data import Data
from circuitmeter.suite.methods import METHODS

EXACT = dict(rtol=1e-9, atol=1e-11)
RELU = dict(norm="none", activation="relu")


def swapped(data):
    return Data(data.counterfactual, data.clean, data.read, answers=data.answers, wrong=data.wrong)


@pytest.mark.parametrize("at", ["clean", "alternative"])
def test_relp_without_norms_and_with_relu_is_eap(at):
    model, data = small_model(**RELU), small_data()
    eap = scores("eap", model, data) if at == "clean" else -scores("eap", model, swapped(data))
    assert_close(scores("relp", model, data, at=at), eap, **EXACT)
    assert (scores("relp", small_model(), data) - scores("eap", small_model(), data)).abs().max() > 1e-3


@pytest.mark.parametrize("changes", [{}, {"gated": True, "activation": "silu", "norm": "rms"}, {"parallel": True}])
def test_relp_conserves_relevance_across_every_cut(changes):
    """With attention held as well and no bias anywhere the replaced model is homogeneous of degree one."""
    model, data = small_model("sum", **changes), small_data()
    for name, weight in model.named_parameters():
        if name.split(".")[-1] in ("b_QKV", "b_O", "b_in", "b_out", "bias"):
            weight.data.zero_()
    found = scores("relp", model, data, ablation="zero", preset="attention")
    loss = _loss(model, data)
    later = torch.tensor([model.graph.reader_layer(r) for r in range(len(model.graph.readers))])
    for layer in range(model.graph.n_layers + 1):
        across = found[: model.graph.visible(layer)][:, later >= layer].sum()
        assert_close(across, -loss, **EXACT)


def _loss(model, data):
    with torch.no_grad():
        logits = model(data.clean)[:, -1]
    rows = torch.arange(data.n)
    return (logits[rows, data.wrong[:, 0]] - logits[rows, data.answers[:, 0]]).mean()


def test_each_rule_of_relp_counts_and_can_be_left_out():
    model, data = small_model(gated=True, activation="silu"), small_data()
    none = dict(norm_rule=False, identity_rule=False, half_rule=False)
    assert_close(scores("relp", model, data, **none), scores("eap", model, data), **EXACT)
    for rule in none:
        assert (scores("relp", model, data, **{**none, rule: True}) - scores("eap", model, data)).abs().max() > 1e-3


def test_the_released_relp_never_applies_its_identity_rule():
    """The switch that its README documents is read when a model is built, and is set after that."""
    model, data = small_model(), small_data()
    released = scores("relp", model, data, preset="reference-code")
    frozen = -scores("relp", model, swapped(data), identity_rule=False)
    assert_close(released, frozen, **EXACT)
    assert (released - scores("relp", model, data, preset="demo")).abs().max() > 1e-2
    assert METHODS.get("relp").resolve({}, "demo")["identity_rule"]


def test_with_attention_held_queries_and_keys_get_nothing():
    model, data = small_model(), small_data()
    found = scores("relp", model, data, attention_rule=True)
    queries_and_keys = [r for r, name in enumerate(model.graph.readers) if name.endswith(("<q>", "<k>"))]
    assert found[:, queries_and_keys].abs().max() == 0 and found.abs().max() > 1e-2


def test_gim_without_its_changes_is_eap():
    model, data = small_model(), small_data()
    plain = scores("gim", model, data, temperature=1.0, divide=False, freeze_norm=False)
    assert_close(plain, scores("eap", model, data), **EXACT)
    for change in ({"temperature": 2.0}, {"divide": True}, {"freeze_norm": True}):
        given = {"temperature": 1.0, "divide": False, "freeze_norm": False, **change}
        assert (scores("gim", model, data, **given) - plain).abs().max() > 1e-3


def test_gim_halves_what_goes_through_each_value():
    model, data = linear_model(n_layers=1), small_data()
    exact, found = scores("exact", model, data), scores("gim", model, data)
    graph = model.graph
    heads = slice(graph.heads(0).start, graph.heads(0).stop)
    values = [r for r, name in enumerate(graph.readers) if name.endswith("<v>")]
    assert_close(found[:, values], exact[:, values] / 2, **EXACT)
    assert_close(found[heads, -1], exact[heads, -1], **EXACT)  # the logits are behind no head
    assert exact[:, values].abs().max() > 1e-3
