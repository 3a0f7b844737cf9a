"""Features as nodes: equal to a plain loop over nodes, to the model where all is kept, and to finite differences."""

import math

import numpy as np
import pytest
import torch
from discovering import AT_THE_CLEAN_RUN, FEW_STEPS, discover
from feature_models import dictionary, feature_model
from oracles import small_data, small_model

from circuitmeter.suite.errors import ModelError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.features.site import Site
from circuitmeter.suite.model.features.transformer import FeatureTransformer

SITES = {
    "mlp": ["mlp_out.1"],
    "transcoder": ["transcoder.0"],
    "attention": ["attn_out.1"],
    "before the projection": ["z.0"],
    "residual": ["resid_pre.1"],
    "last residual": ["resid_post.2"],
    "several": ["resid_pre.0", "attn_out.0", "mlp_out.0", "transcoder.1", "resid_post.1", "z.2"],
}


def plain_encode(book, x):
    """All activations [K] on one row x [D_in], one feature at a time."""
    x = x - book.b_dec if book.centred else x
    found = []
    for f in range(book.n_features):
        before = sum(x[i] * book.W_enc[i, f] for i in range(len(x)))
        if book.activation == "gated":
            gate, r_mag = book.gate[0][f], book.gate[1][f]
            found.append(max(float(before * math.exp(r_mag) + book.b_enc[f]), 0.0) if before + gate > 0 else 0.0)
            continue
        before = float(before + book.b_enc[f])
        if book.activation == "identity":
            found.append(before)
        elif book.activation == "jumprelu":
            found.append(before if before > max(float(book.threshold[f]), 0.0) else 0.0)
        else:
            found.append(max(before, 0.0))
    if book.activation == "topk":
        kept = sorted(range(len(found)), key=lambda f: -found[f])[: book.k]
        found = [value if f in kept else 0.0 for f, value in enumerate(found)]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk", "gated", "identity"])
@pytest.mark.parametrize("centred", [False, True])
def test_a_feature_activates_as_its_formula_says(activation, centred):
    book = dictionary(6, activation, centred=centred)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([plain_encode(book, row) for row in x])
    torch.testing.assert_close(book.encode(x), expected)
    chosen = torch.tensor([1, 4, 7])
    torch.testing.assert_close(book.encode(x, chosen), expected[:, chosen])
    apart = torch.stack([x, x + 1, x - 1])[:, :, None]  # an input a feature, [k, 4, 1, 6]
    each = torch.stack([book.encode(x + move)[:, [f]] for move, f in zip((0, 1, -1), (1, 4, 7), strict=True)])
    torch.testing.assert_close(book.encode_each(apart, chosen), each)


def plain_layer(model, layer, kind, x):
    """What the attention of a layer (before and behind its projection) or its MLP makes of one input [P, D]."""
    block = model.blocks[layer]
    norm = block.norm_mlp if kind == "mlp" else block.norm_attention
    y = x - x.mean(-1, keepdim=True)
    y = y / (y.pow(2).mean(-1, keepdim=True) + model.config.norm_eps).sqrt() * norm.weight + norm.bias
    if kind == "mlp":
        hidden = y @ block.W_in + block.b_in
        hidden = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
        return y, hidden @ block.W_out + block.b_out
    E, H = model.config.d_head, model.config.n_heads
    parts = (y @ block.W_QKV + block.b_QKV).split(E, -1)
    z = []
    for head in range(H):
        weights = parts[head] @ parts[H + head].T / math.sqrt(E)
        weights = weights.masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -math.inf)
        z.append(weights.softmax(-1) @ parts[2 * H + head])
    return torch.cat(z, -1), torch.cat(z, -1) @ block.W_O + block.b_O


def plain_cut(model, tokens, alternative, kept):
    """Logits [P, d_out] of one prompt with edges cut, node by node; ``alternative`` [P, D] by name."""
    graph = model.graph
    position = model.pos_embed[: len(tokens)]
    wrote, constant = {"input": model.embed[tokens]}, position.clone()
    visible = ["input"]

    def read(reader, names, base):
        total = base.clone()
        for name in names:
            share = kept[graph.writers.index(name), graph.readers.index(reader)]
            total += alternative[name] + share * (wrote[name] - alternative[name])
        return total

    def site(stem, names, base):
        """The nodes at a site: what they write, and the constant that comes with them."""
        at = graph.at[stem]
        book, layer = model.dictionaries[str(at.site)], at.site.layer
        place = at.site.place

        def values(x):
            if at.kind == "residual":
                return x, x
            before, behind = plain_layer(model, layer, "mlp" if at.kind == "mlp" else "attention", x)
            return {"transcoder": (before, behind), "z": (before, before)}.get(place, (behind, behind))

        project = model.blocks[layer].W_O if place == "z" else torch.eye(model.config.d_model).double()
        for f in at.features:
            encoded = values(read(f"{stem}.f{f}", names, base))[0]
            active = torch.stack([plain_encode(book, row)[f] for row in encoded])
            wrote[f"{stem}.f{f}"] = active[:, None] * book.W_dec[f] @ project
        encoded, whole = values(read(f"{stem}.error", names, base))
        rest = whole - book.b_dec
        for f in at.features:
            active = torch.stack([plain_encode(book, row)[f] for row in encoded])
            rest = rest - active[:, None] * book.W_dec[f]
        wrote[f"{stem}.error"] = rest @ project
        return book.b_dec @ project + (model.blocks[layer].b_O if place == "z" else 0)

    for layer in range(model.config.n_layers + 1):
        if f"r{layer}" in graph.at:
            constant = site(f"r{layer}", visible, constant).expand_as(position)
            visible = [name for name in wrote if name.startswith(f"r{layer}.")]
        if layer == model.config.n_layers:
            break
        entering, entering_constant = list(visible), constant
        if f"a{layer}" in graph.at:
            constant = constant + site(f"a{layer}", entering, constant)
        else:
            for head in range(model.config.n_heads):
                E = model.config.d_head
                x = [read(f"a{layer}.h{head}<{part}>", entering, constant) for part in "qkv"]
                block = model.blocks[layer]

                def normed(x, block=block):
                    y = x - x.mean(-1, keepdim=True)
                    y = y / (y.pow(2).mean(-1, keepdim=True) + model.config.norm_eps).sqrt()
                    return y * block.norm_attention.weight + block.norm_attention.bias

                columns = [head + part * model.config.n_heads for part in range(3)]
                q, k, v = (
                    normed(x) @ block.W_QKV[:, c * E : (c + 1) * E] + block.b_QKV[c * E : (c + 1) * E]
                    for x, c in zip(x, columns, strict=True)
                )
                weights = (q @ k.T / math.sqrt(E)).masked_fill(torch.ones(len(q), len(q)).triu(1).bool(), -math.inf)
                wrote[f"a{layer}.h{head}"] = weights.softmax(-1) @ v @ block.W_O[head * E : (head + 1) * E]
            constant = constant + model.blocks[layer].b_O
        visible = entering + [name for name in wrote if name.startswith(f"a{layer}.")]
        names, base = (entering, entering_constant) if graph.parallel else (visible, constant)
        if f"m{layer}" in graph.at:
            constant = constant + site(f"m{layer}", names, base)
        else:
            wrote[f"m{layer}"] = plain_layer(model, layer, "mlp", read(f"m{layer}", names, base))[1]
        visible = visible + [name for name in wrote if name == f"m{layer}" or name.startswith(f"m{layer}.")]
    x = read("logits", visible, constant)
    y = x - x.mean(-1, keepdim=True)
    y = y / (y.pow(2).mean(-1, keepdim=True) + model.config.norm_eps).sqrt()
    return (y * model.norm_final.weight + model.norm_final.bias) @ model.unembed


def by_name(model, run):
    return dict(zip(model.graph.writers, model.outputs(run)[:, 0], strict=True))


@pytest.mark.parametrize("sites", SITES.values(), ids=SITES)
@pytest.mark.parametrize("parallel", [False, True])
def test_the_output_is_the_models_own_with_every_edge_kept_and_the_alternatives_with_none(sites, parallel):
    plain = small_model(parallel=parallel)
    model = feature_model(plain, sites)
    data = small_data()
    inputs, other = plain.input_nodes(data.clean), plain.input_nodes(data.counterfactual)
    logits, run = model.run(inputs)
    expected, far = plain.run(inputs)[0], plain.run(other)[0]
    torch.testing.assert_close(logits, expected)
    alternative = model.alternative(model.run(other)[1], data.clean.shape[1])
    masks = torch.stack([torch.ones(model.graph.exists.shape), torch.zeros(model.graph.exists.shape)])
    kept, cut = model.run_cut(masks, alternative, inputs=inputs)
    torch.testing.assert_close(kept, expected)
    torch.testing.assert_close(cut, far)


@pytest.mark.parametrize("sites", SITES.values(), ids=SITES)
@pytest.mark.parametrize("parallel", [False, True])
def test_a_cut_pass_equals_a_loop_over_nodes(sites, parallel):
    plain = small_model(parallel=parallel)
    model = feature_model(plain, sites, activation="jumprelu" if parallel else "relu", centred=parallel)
    tokens, other = torch.tensor([[1, 5, 2, 7]]), torch.tensor([[3, 5, 0, 7]])
    masks = torch.rand(3, *model.graph.exists.shape, generator=torch.Generator().manual_seed(5)).double()
    masks[1] = masks[1].round()
    far = model.run(model.input_nodes(other))[1]
    found = model.run_cut(masks, model.alternative(far, 4), inputs=model.input_nodes(tokens))
    for i, mask in enumerate(masks):
        torch.testing.assert_close(found[i, 0], plain_cut(model, tokens[0], by_name(model, far), mask))


@pytest.mark.parametrize("activation", ["jumprelu", "topk", "gated", "identity"])
def test_every_activation_runs_in_a_cut_pass(activation):
    model = feature_model(small_model(), ["mlp_out.0", "resid_pre.2"], activation=activation)
    tokens, other = torch.tensor([[1, 5, 2, 7]]), torch.tensor([[3, 5, 0, 7]])
    mask = torch.rand(1, *model.graph.exists.shape, generator=torch.Generator().manual_seed(6)).round().double()
    far = model.run(model.input_nodes(other))[1]
    found = model.run_cut(mask, model.alternative(far, 4), inputs=model.input_nodes(tokens))
    torch.testing.assert_close(found[0, 0], plain_cut(model, tokens[0], by_name(model, far), mask[0]))


def test_edges_run_between_features_and_around_a_site_of_the_residual_stream():
    graph = feature_model(small_model(), ["mlp_out.0", "resid_pre.1"], nodes=(0, 3)).graph
    names = {str(edge) for edge in graph.edges}
    assert {"input->m0.f0", "m0.f0->r1.f3", "m0.error->r1.error", "r1.f0->a1.h0<q>", "r1.error->logits"} <= names
    assert not {"input->a1.h0<q>", "m0.f0->logits", "r1.f0->r1.f3", "m0.f0->m0.f3", "input->m0"} & names
    assert graph.hash != feature_model(small_model(), ["mlp_out.0", "resid_pre.1"], nodes=(0, 4)).graph.hash


@pytest.mark.parametrize("ablation", ["patch", "zero", "mean", "resample", "noise"])
@pytest.mark.parametrize("method", ["exact", "acdc", "eap", "eap-ig", "eap-path", "relp"])
def test_methods_search_feature_graphs_under_every_ablation(method, ablation):
    model = feature_model(small_model(n_layers=2), ["mlp_out.0", "resid_pre.1"], nodes=(0, 3))
    found = METHODS.get(method).discover(
        model, small_data(), ablation=Ablation.parse(ablation), objective=OBJECTIVES.get("logit-difference"), seed=0
    )
    assert bool(found.scores.values[model.graph.exists].isfinite().all())
    assert bool(found.scores.values[model.graph.exists].any())


@pytest.mark.parametrize("sites", [["mlp_out.0", "resid_pre.1"], ["z.0", "z.1", "mlp_out.1"]])
@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("truth", "ensemble")])
def test_every_method_searches_a_feature_graph_or_says_why_it_has_no_meaning_there(name, sites):
    model = feature_model(small_model(n_layers=2), sites, nodes=(0, 3))
    objective = "logit-difference" if name in AT_THE_CLEAN_RUN else "kl"
    try:
        found = discover(name, model, small_data(), objective=objective, **FEW_STEPS.get(name, {}))
    except Undefined as error:
        assert str(error).startswith(f"{name} has no rule for nodes of the kind ")
    else:
        assert bool(found.scores.values[model.graph.exists].isfinite().all())


def test_noising_and_denoising_search_feature_graphs_by_cuts_and_by_gradients():
    model, data = feature_model(small_model(n_layers=2), ["mlp_out.0", "resid_pre.1"], nodes=(0, 3)), small_data()
    given = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("logit-difference")}
    by_cuts, by_gradients = (
        METHODS.get("gate-aware").discover(model, data, **given, by=by) for by in ("exact", "gradient")
    )
    exact = METHODS.get("exact").discover(model, data, **given).scores.flat()
    larger = np.abs(by_cuts.scores.flat()) >= np.abs(exact) - 1e-12
    assert larger.all() and not np.allclose(by_cuts.scores.flat(), exact)
    assert np.corrcoef(by_cuts.scores.flat(), by_gradients.scores.flat())[0, 1] > 0.5


def test_what_does_not_fit_is_one_line():
    model = small_model()
    book = dictionary(model.config.d_model)
    for site, width, features, said in [
        ("mlp_out.7", 12, [0], "layers 0 to 2"),
        ("mlp_out.1", 5, [0], "12"),
        ("mlp_out.1", 12, [99], "0 to 8"),
        ("mlp_out.1", 12, [], "one at least"),
    ]:
        with pytest.raises(ModelError, match=said):
            FeatureTransformer.of(model, {Site.parse(site): (dictionary(width), features)})
    with pytest.raises(ModelError, match="no MLPs"):
        FeatureTransformer.of(small_model(d_mlp=0), {Site.parse("mlp_out.1"): (book, [0])})
    with pytest.raises(ModelError, match="one place"):
        nodes = {Site.parse("mlp_out.1"): (book, [0]), Site.parse("transcoder.1"): (book, [0])}
        FeatureTransformer.of(model, nodes)
    with pytest.raises(ModelError, match="Known: attn_out"):
        Site.parse("mlp.1")


def test_an_evaluator_takes_a_feature_graph_like_any_other():
    model = feature_model(small_model(), ["mlp_out.1"])
    data = small_data()
    evaluator = Evaluator(model, data, Ablation.parse("patch"), OBJECTIVES.get("logit-difference"))
    plain = Evaluator(small_model(), data, Ablation.parse("patch"), OBJECTIVES.get("logit-difference"))
    whole = evaluator.loss(model.graph.exists[None])
    torch.testing.assert_close(whole, plain.loss(plain.model.graph.exists[None]))


@pytest.mark.parametrize("sites", SITES.values(), ids=SITES)
def test_eap_is_the_slope_of_the_loss_along_every_edge(sites):
    """The gradient at an edge's mask, by central differences of a cut pass."""
    model, data = feature_model(small_model(n_layers=3), sites, nodes=(0, 5)), small_data(n=3)
    ablation, objective = Ablation.parse("patch"), OBJECTIVES.get("logit-difference")
    scores = METHODS.get("eap").discover(model, data, ablation=ablation, objective=objective, seed=0).scores
    evaluator, step = Evaluator(model, data, ablation, objective), 1e-5
    edges = model.graph.exists.nonzero()
    for w, r in edges[torch.randperm(len(edges), generator=torch.Generator().manual_seed(0))[:40]].tolist():
        masks = torch.ones(2, *model.graph.exists.shape, dtype=torch.float64)
        masks[0, w, r] += step
        masks[1, w, r] -= step
        more, less = evaluator.loss(masks)
        assert float(scores.values[w, r]) == pytest.approx(float(less - more) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("site", ["resid_pre.1", "z.0", "mlp_out.1", "transcoder.2", "attn_out.1"])
def test_what_a_site_holds_is_what_features_and_error_add_up_to(site):
    model, site = feature_model(small_model(), [site]), Site.parse(site)
    inputs = model.input_nodes(small_data().clean)
    read, whole = model.values_at(site, inputs)
    book, at = model.dictionaries[str(site)], model.graph.sites[0]
    run = model.run(inputs)[1]
    torch.testing.assert_close(
        torch.stack([part for key, part in run.items() if key[0].endswith("feature")])[0, ..., 0],
        book.encode(read)[..., list(at.features)].movedim(-1, 0),
    )
    if site.place != "z":
        active = book.encode(read, torch.tensor(at.features))
        (error,) = (part for key, part in run.items() if key[0].endswith("error"))
        torch.testing.assert_close(error[0], whole - book.b_dec - active @ book.W_dec[list(at.features)])


def test_a_change_of_a_dictionary_is_seen():
    model = feature_model(small_model(), ["mlp_out.1"])
    before = model.content_hash()
    assert model.weights_hash == before == feature_model(small_model(), ["mlp_out.1"]).weights_hash
    model.dictionaries["mlp_out.1"].W_dec[0, 0] += 1
    assert model.content_hash() != before
