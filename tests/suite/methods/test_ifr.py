"""Information flow routes: shares of the residual stream that add up, and a guard where nothing is near."""

import pytest
import torch
from discovering import discover, scores
from feature_models import feature_model
from oracles import ARCHITECTURES, INPUTS, plain_cut, small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.methods.ifr import contributions

EXACT = dict(rtol=1e-9, atol=1e-11)


def run_of(model, data):
    with torch.no_grad():
        return model.run(model.input_nodes(data.clean))[1]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("inputs", INPUTS)
def test_the_shares_of_all_parts_add_up_to_one(architecture, inputs):
    model, data = small_model(inputs, **ARCHITECTURES[architecture]), small_data()
    readers = []
    for group, shares in contributions(model, run_of(model, data), constants=True):
        assert (shares >= 0).all()
        assert_close(shares.sum(0), torch.ones(data.clean.shape).double(), **EXACT)
        readers += range(len(model.graph.readers))[group.readers]
    assert readers == list(range(len(model.graph.readers)))


@pytest.mark.parametrize("architecture", ["gpt2", "parallel blocks", "attention only"])
@torch.no_grad()
def test_scores_are_the_formula_on_what_each_writer_wrote(architecture):
    model, data = small_model(**ARCHITECTURES[architecture]), small_data(n=2)
    graph, expected = model.graph, torch.zeros(model.graph.exists.shape, dtype=torch.float64)
    for i in range(2):
        wrote = {}
        plain_cut(
            model, data.clean[i], {n: torch.zeros(5, 12) for n in graph.writers}, graph.exists.double(), None, wrote
        )
        for w, r in graph.exists.nonzero().tolist():
            layer = graph.reader_layer(r)
            biases = model.blocks[: layer + (graph.readers[r] == f"m{layer}" and not graph.parallel)]
            fixed = model.pos_embed[:5] + sum((block.b_O for block in biases), torch.zeros(12))
            parts = [wrote[graph.writers[v]] for v in range(len(graph.writers)) if graph.exists[v, r]] + [fixed]
            read = sum(parts)
            near = [(read.abs().sum(-1) - (read - part).abs().sum(-1)).clamp_min(0) for part in parts]
            expected[w, r] += (near[w] / sum(near)).mean() / 2
    assert_close(scores("ifr", model, data), expected, **EXACT)


@pytest.mark.parametrize("sites", [["resid_pre.1"], ["resid_pre.0", "attn_out.0", "resid_post.1"]])
@torch.no_grad()
def test_behind_a_site_of_the_residual_stream_scores_are_those_of_the_writers_that_are_seen(sites):
    """Writers before the site are hidden: shares begin at its first feature, and not at the first writer."""
    model, data = feature_model(small_model(n_layers=2), sites), small_data(n=3)
    graph, record = model.graph, {}
    wrote = model.outputs(model.run(model.input_nodes(data.clean), record=record)[1])
    expected = torch.zeros(graph.exists.shape, dtype=torch.float64)
    for group in (group for group in graph.groups if group.reads):
        seen = graph.exists[:, group.readers.start]
        read = record[group.key][0]  # [B, P, D], what the run itself gave to the group
        parts = torch.cat([wrote[seen], (read - wrote[seen].sum(0))[None]])
        near = (read.abs().sum(-1) - (read - parts).abs().sum(-1)).clamp_min(0)
        shares = (near / near.sum(0)).nan_to_num()  # a stream in which nothing is near has no shares
        expected[seen, group.readers] = shares[:-1].mean((1, 2))[:, None]
    assert expected[-1, -1] > 0 and not graph.exists[0, -1]
    assert_close(scores("ifr", model, data), expected, **EXACT)


def test_parts_of_one_sign_on_units_of_their_own_share_by_size():
    model, data = small_model(n_layers=1, d_mlp=0, positions="none"), small_data()
    model.blocks[0].b_O.data.zero_()
    run = run_of(model, data)
    run["input", 0] = run.inputs.abs() * (torch.arange(12) < 6)
    run["head", 0] = run["head", 0] * 0
    *_, (_, shares) = contributions(model, run, constants=True)
    assert_close(shares[0], torch.ones(6, 5).double(), **EXACT)
    assert (shares[1:] == 0).all()
    model.blocks[0].b_O.data = torch.where(torch.arange(12) < 6, 0.0, 2.0).double()
    *_, (_, shares) = contributions(model, run, constants=True)
    size = run.inputs[0].sum(-1)
    assert_close(shares[0], size / (size + 12), **EXACT)


def test_where_nothing_is_near_shares_are_zero_and_not_a_division_of_zero_by_zero():
    """In the released code a stream that the position embedding dominates gives 0/0: it is none of the parts there."""
    model, data = small_model(), small_data()
    model.pos_embed.data *= 1e3
    found = discover("ifr", model, data, preset="reference-code").scores.values
    shares = dict(enumerate(s for _, s in contributions(model, run_of(model, data), constants=False)))
    assert any((s.sum(0) == 0).any() for s in shares.values())
    assert found[model.graph.exists].isfinite().all()
    ours = scores("ifr", model, data)
    assert ours[0].max() < 0.1  # nearly all of the stream is the position embedding's, and is said to be


def test_neither_ablation_nor_objective_enters():
    model, data = small_model(), small_data()
    assert torch.equal(scores("ifr", model, data), scores("ifr", model, data, ablation="zero", objective="kl"))
    readers = {name: r for r, name in enumerate(model.graph.readers)}
    found = scores("ifr", model, data)
    assert torch.equal(found[:, readers["a1.h0<q>"]], found[:, readers["a1.h1<v>"]])
