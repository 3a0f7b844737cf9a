"""Methods that train masks: what they recover, what their parts equal, and the released code's errors they pin."""

import itertools

import pytest
import torch
from oracles import ARCHITECTURES, plain_cut, small_data, small_model
from torch.testing import assert_close

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import MethodError, SpecError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS, discogp, edge_pruning, subnetwork_probing, ugs
from circuitmeter.suite.methods._masks import TrainingBatches, bisect_threshold, soft_gate, to_matrix
from circuitmeter.suite.methods._seeds import Seeds
from circuitmeter.suite.methods._weights import cut_output_bias, ungrouped, with_weights
from circuitmeter.suite.model.passes import count_passes
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.scoring.recovery import circuit_recovery, recovery

PATCH = Ablation.parse("patch")
TRAINED = ("edge-pruning", "ibcircuit", "subnetwork-probing", "ugs", "discogp")
# A few steps of each: enough to move every mask.
SHORT = {
    "edge-pruning": {"steps": 12, "warmup": 8, "rate_warmup": 2, "targets": [0.3, 0.7], "initial": 2.0},
    "ibcircuit": {"steps": 10, "strengths": [0.1, 1.0], "gated": "heads-mlps"},
    "subnetwork-probing": {"steps": 10, "regularisations": [0.01, 1.0]},
    "ugs": {"steps": 8, "regularisations": [0.01, 0.001], "samples": 3},
    "discogp": {"weight_epochs": 2, "edge_epochs": 4, "weight_temperature": 1.0},
}


def discover(name, model, data, *, ablation=PATCH, objective="kl", seed=0, preset=None, **parameters):
    chosen = METHODS.get(name)
    given = {**({} if preset else SHORT[name]), **parameters}
    return chosen.discover(
        model, data, ablation=ablation, objective=OBJECTIVES.get(objective), seed=seed, **chosen.resolve(given, preset)
    )


def on_truth(name, program, ablation, objective, preset):
    """(discovery, truth) of a method on a compiled program."""
    truth = ground_truth.load(program)
    value = Ablation.parse(ablation)
    found = discover(
        name, truth.model(), tasks.load(program).data(), ablation=value, objective=objective, preset=preset
    )
    return found, truth.reference(value)


# ---- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.slow  # test_literature.py finds this truth with fewer steps
def test_edge_pruning_recovers_the_zero_truth_of_xproportion_with_the_paper_s_own_settings():
    found, truth = on_truth("edge-pruning", "tracr/xproportion@fixed", "zero", "l2", "tracr-xproportion")
    score = circuit_recovery(found.circuits[0].circuit, truth)
    assert score["precision"] == score["recall"] == 1 and found.circuits[0].circuit.n_edges == 5


@pytest.mark.parametrize("ablation", ["zero", "patch"])
@pytest.mark.parametrize("name", ["subnetwork-probing", "ugs"])
def test_probing_and_sampling_recover_xproportion_under_both_ablations(name, ablation):
    found, truth = on_truth(name, "tracr/xproportion@fixed", ablation, "l2", "quick")
    assert recovery(found.scores, truth)["average_precision"] == 1
    for native in found.circuits:
        score = circuit_recovery(native.circuit, truth)
        assert score["precision"] == score["recall"] == 1


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("ablation", ["zero", "resample", "mean", "mean-positional", "noise", "optimal"])
def test_every_ablation_with_a_meaning_gives_scores_in_the_unit_interval(name, ablation):
    model, data, value = small_model(n_layers=1), small_data(), Ablation.parse(ablation)
    if ablation == "optimal" and name != "ugs":
        assert "does not define the optimal ablation" in METHODS.get(name).undefined(
            value, OBJECTIVES.get("kl"), data, model.config
        )
        return
    found = discover(name, model, data, ablation=value, objective="l2")
    assert ((found.scores.flat() >= 0) & (found.scores.flat() <= 1)).all()
    assert found.circuits and all(native.label for native in found.circuits)


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(name):
    model, data = small_model(n_layers=1), small_data()
    first, again, other = (discover(name, model, data, seed=seed).scores.values.nan_to_num() for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("name", "sweep"),
    [
        ("edge-pruning", "targets"),
        ("ibcircuit", "strengths"),
        ("subnetwork-probing", "regularisations"),
        ("ugs", "regularisations"),
    ],
)
def test_masks_trained_together_come_out_as_each_alone(name, sweep):
    model, data = small_model(n_layers=2), small_data()
    values = SHORT[name][sweep]
    together = discover(name, model, data)
    alone = [discover(name, model, data, **{sweep: [value]}) for value in values]
    average = sum(found.scores.values.nan_to_num() for found in alone) / len(alone)
    assert_close(together.scores.values.nan_to_num(), average, rtol=1e-9, atol=1e-12)
    for i, found in enumerate(alone):
        n = len(found.circuits)
        for mine, its in zip(together.circuits[n * i : n * i + n], found.circuits, strict=True):
            assert torch.equal(mine.circuit.edges, its.circuit.edges)
        assert [row[i] for row in together.diagnostics["curve"]["loss"]] == pytest.approx(
            [row[0] for row in found.diagnostics["curve"]["loss"]], rel=1e-5
        )


@pytest.mark.parametrize("name", TRAINED)
def test_seeds_trained_together_come_out_as_each_alone(name):
    model, data, seeds = small_model(n_layers=2), small_data(), (4, 0, 7)
    method, given = METHODS.get(name), {"ablation": PATCH, "objective": OBJECTIVES.get("l2")}
    # Adam blows up what rounding leaves of a gradient that is zero, up to its epsilon over the gradient's size.
    parameters = method.resolve(SHORT[name] | ({"weight_decay": 0.0, "rate": 0.05} if name == "edge-pruning" else {}))
    together = method.discover_each(model, data, seeds=seeds, **given, **parameters)
    for seed, found in zip(seeds, together, strict=True):
        alone = method.discover(model, data, seed=seed, **given, **parameters)
        assert_close(found.scores.values.nan_to_num(), alone.scores.values.nan_to_num(), rtol=1e-7, atol=1e-7)
        assert [native.label for native in found.circuits] == [native.label for native in alone.circuits]
        for mine, its in zip(found.circuits, alone.circuits, strict=True):
            assert torch.equal(mine.circuit.edges, its.circuit.edges)
        assert found.diagnostics.keys() == alone.diagnostics.keys()
    assert len({found.scores.values.nan_to_num().sum().item() for found in together}) == len(seeds)


@pytest.mark.parametrize("name", TRAINED)
def test_seeds_together_spend_what_they_spend_alone(name):
    model, data, method = small_model(n_layers=1), small_data(), METHODS.get(name)
    given = {"ablation": PATCH, "objective": OBJECTIVES.get("kl"), **method.resolve(SHORT[name])}
    spent = []
    for seeds in ((0,), (0, 1, 2)):
        with count_passes() as passes:
            method.discover_each(model, data, seeds=seeds, **given)
        spent.append(passes)
    assert spent[1].backward == 3 * spent[0].backward
    assert 2.5 * spent[0].forward < spent[1].forward <= 3 * spent[0].forward  # the clean runs are shared


def test_an_ablation_that_draws_by_the_seed_is_drawn_for_each():
    method, model, data = METHODS.get("subnetwork-probing"), small_model(n_layers=1), small_data()
    resample = Ablation.parse("resample")
    assert method.runs_together(PATCH) and not method.runs_together(resample)
    assert not METHODS.get("random").runs_together(PATCH)
    given = {"ablation": resample, "objective": OBJECTIVES.get("kl"), **method.resolve(SHORT["subnetwork-probing"])}
    first, second = method.discover_each(model, data, seeds=(0, 1), **given)
    alone = method.discover(model, data, seed=1, **given)
    assert (second.scores.flat() == alone.scores.flat()).all() and (first.scores.flat() != alone.scores.flat()).any()


def test_achieved_sparsity_stands_beside_the_target():
    settings = {"steps": 250, "warmup": 120, "rate": 0.2, "nodes": "none", "multiplier_rate": 0.1}
    found = discover("edge-pruning", small_model(n_layers=2), small_data(), **settings)
    for mask, native in zip(found.diagnostics["masks"], found.circuits, strict=True):
        assert mask["sparsity"] == pytest.approx(mask["soft_sparsity"], abs=0.05)
        assert (
            mask["edges"] == native.circuit.n_edges
            and mask["sparsity"] == 1 - mask["edges"] / found.scores.graph.n_edges
        )
        assert mask["edges_without_dead_ends"] == native.circuit.pruned().n_edges
    first, second = found.diagnostics["masks"]
    assert (first["target_sparsity"], second["target_sparsity"]) == (0.3, 0.7)
    assert first["sparsity"] < second["sparsity"]


def test_the_reference_code_of_edge_pruning_decays_its_multipliers():
    """Edge Pruning's release applies AdamW's decay to the multipliers as well."""
    method = METHODS.get("edge-pruning")
    assert (
        method.resolve({})["multiplier_weight_decay"] == 0
        and method.resolve({}, "reference-code")["multiplier_weight_decay"] == 0.01
    )
    model, data = small_model(n_layers=1), small_data()
    losses = [
        discover("edge-pruning", model, data, steps=60, multiplier_weight_decay=decay).diagnostics["curve"]["loss"][-1]
        for decay in (0.0, 0.01)
    ]
    assert losses[0] != losses[1]


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["edge-pruning", "ugs", "discogp"])
@pytest.mark.parametrize("objective", ["logit-difference", "answer-difference"])
def test_an_objective_without_a_floor_is_refused(name, objective):
    with pytest.raises(Undefined, match="use kl or l2"):
        discover(name, small_model(), small_data(), objective=objective)


def test_subnetwork_probing_takes_any_objective():
    found = discover("subnetwork-probing", small_model(n_layers=1), small_data(), objective="logit-difference")
    assert found.scores.values.nan_to_num().abs().max() > 0


def test_discogp_refuses_outputs_that_are_one_number():
    with pytest.raises(Undefined, match="one number"):
        discover("discogp", small_model(d_out=1), small_data(), objective="l2")


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("edge-pruning", {"rate": 0.0}),
        ("subnetwork-probing", {"rate": 0.0}),
        ("ugs", {"rate": 1e-300}),
        ("discogp", {"rate": 0.0}),
    ],
)
def test_masks_that_stay_where_they_started_are_an_error(name, frozen):
    with pytest.raises(MethodError, match="never left their initial value"):
        discover(name, small_model(n_layers=1), small_data(), **frozen)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("edge-pruning", {"nodes": "some"}),
        ("edge-pruning", {"targets": []}),
        ("subnetwork-probing", {"level": "layer"}),
        ("ugs", {"samples": 0}),
        ("ugs", {"dangling": "never"}),
        ("discogp", {"labels": "truth"}),
        ("discogp", {"gates": "soft"}),
        ("discogp", {"edge_schedule": [1.0, 2.0]}),
    ],
)
def test_wrong_parameters_are_refused(name, wrong):
    with pytest.raises(SpecError, match=name):
        discover(name, small_model(n_layers=1), small_data(), **wrong)


# ---- subnetwork probing: nodes ---------------------------------------------------------------------------------------


def test_a_node_gate_cuts_what_its_reader_reads_or_what_its_mlp_writes():
    graph = small_model(n_layers=2).graph
    names = subnetwork_probing.node_gates(graph)
    gates = torch.ones(1, len(names))
    gates[0, names.index("a1.h0<k>")], gates[0, names.index("m0")] = 0.0, 0.25
    mask = subnetwork_probing.node_masks(graph, gates)[0]
    expected = torch.ones(graph.exists.shape)
    expected[:, graph.readers.index("a1.h0<k>")] = 0
    expected[graph.writers.index("m0")] *= 0.25
    assert torch.equal(mask * graph.exists, expected * graph.exists)


def test_an_edge_is_as_likely_as_the_lesser_of_its_ends():
    graph = small_model(n_layers=2).graph
    names = subnetwork_probing.node_gates(graph)
    likely = torch.linspace(0.1, 0.9, len(names), dtype=torch.float64)[None]
    value = dict(zip(names, likely[0].tolist(), strict=True))
    edges = dict(zip(map(str, graph.edges), subnetwork_probing.node_edges(graph, likely)[0].tolist(), strict=True))
    assert edges["input->logits"] == 1 and edges["input->a1.h0<q>"] == value["a1.h0<q>"]
    head = max(value[f"a0.h1<{part}>"] for part in "qkv")
    assert edges["a0.h1->m1"] == min(head, value["m1"]) and edges["a0.h1->logits"] == head


def test_node_level_scores_every_edge():
    found = discover("subnetwork-probing", small_model(n_layers=2), small_data(), level="node")
    assert len(found.scores.flat()) == found.scores.graph.n_edges


@torch.no_grad()
def plain_gated(model, tokens, other, gates, to_zero):
    """Logits [P, d_out] of one prompt with node gates, by name, behind norm and weights: one head after another."""
    config, block_of = model.config, model.blocks
    taps = []
    model.run(model.input_nodes(other[None]), taps=taps)
    residual = model.input_nodes(tokens[None]).sum(0)[0] + model.constant(len(tokens))
    group = config.n_heads // config.kv_heads
    for layer, block in enumerate(block_of):
        weight, bias = block.W_QKV.unflatten(1, (-1, config.d_head)), block.b_QKV.unflatten(0, (-1, config.d_head))
        x, after = block.norm_attention(residual), residual + block.b_O
        for head in range(config.n_heads):
            columns = head, config.n_heads + head // group, config.n_heads + config.kv_heads + head // group
            parts = []
            for part, column in zip("qkv", columns, strict=True):
                gate = gates[f"a{layer}.h{head}<{part}>"]
                closed = 0 if to_zero else taps[layer][part][0, head]
                parts.append(gate * (x @ weight[:, column] + bias[column]) + (1 - gate) * closed)
            z = block.attend(*(part[None] for part in parts))[0]
            after = after + z @ block.W_O.unflatten(0, (-1, config.d_head))[head]
        gate, closed = gates.get(f"m{layer}"), 0 if to_zero or not config.d_mlp else taps[layer]["m"][0]
        if gate is not None:
            after = after + gate * block.mlp_of(residual if config.parallel else after) + (1 - gate) * closed
        residual = after
    return model.to_logits(residual[None])[0]


@pytest.mark.parametrize("architecture", ["gpt-2", "llama", "qwen-3", "parallel", "attention-only"])
@pytest.mark.parametrize("ablation", ["patch", "zero"])
def test_gates_of_nodes_stand_behind_norm_and_weights_in_the_released_code(architecture, ablation):
    """A half-open gate mixes two queries; at its input it would mix two residual streams, which are normed then."""
    changes = {"gpt-2": {}, "parallel": {"parallel": True}, "attention-only": {"d_mlp": 0}}
    model, data = small_model(**{"n_layers": 2, **(ARCHITECTURES | changes)[architecture]}), small_data(n=3)
    names = subnetwork_probing.node_gates(model.graph)
    gates = torch.rand(2, len(names), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gates[1] = gates[1].round()
    prompts = TrainingBatches(model, data, Ablation.parse(ablation), OBJECTIVES.get("kl"), seeds=[0], batch_size=8)
    ready = prompts.draw()
    found = subnetwork_probing.run_gated(model, gates, ready, to_zero=ablation == "zero")
    for i, row in itertools.product(range(2), range(3)):
        named = dict(zip(names, gates[i].tolist(), strict=True))
        tokens, other = ready.batch.clean[row], ready.batch.counterfactual[row]
        expected = plain_gated(model, tokens, other, named, ablation == "zero")[-1]
        assert_close(found[i, row], expected, rtol=1e-9, atol=1e-9)
    at_inputs = prompts.outputs(ready, subnetwork_probing.node_masks(model.graph, gates))
    assert (found[0] - at_inputs[0]).abs().max() > 1e-3
    # Where every gate is open or closed, the two are one under patch. Under zero, a norm and a bias are still there.
    assert ((found[1] - at_inputs[1]).abs().max() < 1e-9) == (ablation == "patch")


@pytest.mark.parametrize("d_mlp", [20, 0])
def test_the_released_regulariser_is_a_mean_over_modules_of_the_mean_in_each(d_mlp):
    """An MLP's gate counts as much as all queries of a layer; a model without MLPs has gates of them nevertheless."""
    graph = small_model(n_layers=2, d_mlp=d_mlp).graph
    names = subnetwork_probing.node_gates(graph)
    values = torch.rand(len(names), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    named = dict(zip(names, values.tolist(), strict=True))
    modules = [[named[f"a{layer}.h{head}<{part}>"] for head in range(2)] for layer in range(2) for part in "qkv"]
    modules += [[named.get(f"m{layer}", 0.0)] for layer in range(2)]
    expected = sum(sum(module) / len(module) for module in modules) / len(modules)
    assert float(values @ subnetwork_probing.module_weights(graph)) == pytest.approx(expected, rel=1e-12)


def test_the_released_read_out_is_one_more_draw(monkeypatch):
    """A gate that is likely open is closed by a low draw, and the other way round; scores are of the likelihoods."""
    model, data = small_model(n_layers=1), small_data()
    names = subnetwork_probing.node_gates(model.graph)
    drawn = []

    def uniform(self, *shape):
        low = torch.full((1, *shape), 0.5 if len(drawn) < 3 else 1e-9, dtype=torch.float64)
        low[0, : len(names) // 2] = 0.5 if len(drawn) < 3 else 1 - 1e-9
        drawn.append(low)
        return low

    monkeypatch.setattr(Seeds, "uniform", uniform)
    given = {"steps": 3, "rate": 0.1, "regularisations": [0.1]}
    likely = discover("subnetwork-probing", model, data, preset="reference-code", read_out="likely", **given)
    assert len(drawn) == 3 and likely.circuits[0].circuit.n_edges == model.graph.n_edges
    drawn.clear()
    sampled = discover("subnetwork-probing", model, data, preset="reference-code", **given)
    assert len(drawn) == 4
    opened = torch.zeros(1, len(names), dtype=torch.float64)
    opened[0, : len(names) // 2] = 1
    expected = subnetwork_probing.node_edges(model.graph, opened)[0] > 0.5
    assert [str(edge) for edge, kept in zip(model.graph.edges, expected, strict=True) if kept] == list(
        sampled.circuits[0].circuit.names
    )
    assert torch.equal(sampled.scores.values.nan_to_num(), likely.scores.values.nan_to_num())


def test_the_released_gates_are_of_nodes_alone():
    model, data = small_model(n_layers=1), small_data()
    for wrong in ({"gates_at": "projections"}, {"size": "modules"}):
        with pytest.raises(SpecError, match="level=node"):
            discover("subnetwork-probing", model, data, **wrong)


# ---- uniform gradient sampling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"d_mlp": 0}, {"parallel": True}])
def test_loose_ends_are_found_in_each_sample_by_itself(changes):
    graph = small_model(**changes).graph
    generator = torch.Generator().manual_seed(0)
    for share in (0.1, 0.3, 0.6):
        kept = torch.rand(2, 10, *graph.exists.shape, generator=generator) < share
        found = ugs.connected(graph, kept)
        for i in range(2):
            for j in range(10):
                assert torch.equal(found[i, j], Circuit(graph, kept[i, j] & graph.exists).pruned().edges)


def test_the_reference_code_takes_an_mlp_for_fed_when_another_sample_feeds_it():
    """The UGS release sums an MLP's incoming edges over the batch of samples."""
    graph = small_model(n_layers=1).graph
    fed, loose = graph.matrix(["input->m0", "m0->logits"]), graph.matrix(["m0->logits"])
    kept = torch.stack([fed, loose])
    assert not ugs.connected(graph, kept)[1].any()
    assert graph.named(ugs.connected(graph, kept, shared_mlps=True)[1]) == ["m0->logits"]
    assert not ugs.connected(graph, kept[1:], shared_mlps=True).any()  # alone, nothing is wrong
    assert METHODS.get("ugs").resolve({}, "reference-code")["dangling"] == "batch"
    model, data = small_model(n_layers=1), small_data()
    settings = {"initial": -1.0, "steps": 20}

    def difference(ablation):
        found = [discover("ugs", model, data, ablation=ablation, dangling=d, **settings) for d in ("sample", "batch")]
        return abs(found[0].scores.flat() - found[1].scores.flat()).max()

    # A patched MLP that reads nothing writes what a cut edge carries anyway; a zeroed one writes its own constant.
    assert difference(Ablation.parse("zero")) > 1e-6 and difference(PATCH) == 0


def test_learning_rates_are_the_paper_s():
    rates = {
        (s, a): ugs.learning_rate(s, Ablation.parse(a))
        for s in (1e-4, 5e-4, 1e-3)
        for a in ("mean", "patch", "resample")
    }
    assert rates[1e-4, "mean"] == 0.15 and rates[5e-4, "mean"] == 0.1 and rates[1e-3, "mean"] == 0.05
    assert rates[1e-3, "patch"] == 0.01 and rates[1e-4, "resample"] == 0.075


def test_constants_learn_only_from_edges_that_are_certainly_cut():
    model = small_model(n_layers=1)
    graph, exists = model.graph, model.graph.exists.double()
    constants = torch.ones(1, len(graph.writers), 12, dtype=torch.float64, requires_grad=True)
    masks = (0.5 * exists).repeat(1, 2, 1, 1)
    w, r = graph.index("m0->logits")
    masks[0, 1, w, r] = 0.0
    offset = ugs.learning_offsets(masks, constants, exists)
    assert_close(offset[0, r], torch.full((12,), 0.5 * float(exists[:, r].sum()), dtype=torch.float64))
    offset.sum().backward()
    assert constants.grad[0, w].eq(1).all() and constants.grad.sum() == 12


def test_heads_are_charged_for_their_gates():
    graph = small_model(n_layers=1).graph
    theta = torch.zeros(graph.exists.shape, dtype=torch.float64)
    assert ugs.node_size(graph, theta) == 0
    theta[graph.index("input->a0.h1<q>")] = theta[graph.index("a0.h1->logits")] = 0.5
    assert float(ugs.node_size(graph, theta)) == pytest.approx(float(torch.tensor(2 * 1.0 / 2).tanh()) * 2 / 2)


# ---- DiscoGP ---------------------------------------------------------------------------------------------------------


def test_weights_and_biases_of_blocks_are_masked_and_nothing_else():
    names = [name for name, _ in small_model().named_parameters() if discogp.is_masked(name)]
    assert {name.split(".")[-1] for name in names} == {"W_QKV", "b_QKV", "W_O", "b_O", "W_in", "b_in", "W_out", "b_out"}


def test_a_run_under_weight_gates_is_the_run_of_the_masked_model():
    model, data = small_model(), small_data()
    generator = torch.Generator().manual_seed(0)
    gates = {
        name: (torch.rand(1, *weight.shape, generator=generator) < 0.7).double().requires_grad_()
        for name, weight in model.named_parameters()
        if discogp.is_masked(name)
    }
    ready = TrainingBatches(model, data, PATCH, OBJECTIVES.get("kl"), seeds=[0], batch_size=6).batches[0]
    outputs = discogp.run_masked(model, gates, ready)
    masked = discogp.with_weights(model, {name: gate[0].detach() for name, gate in gates.items()})
    assert_close(outputs[0].detach(), masked(ready.batch.clean, ready.batch.read), rtol=1e-12, atol=1e-12)
    assert not torch.equal(masked.blocks[0].W_in, model.blocks[0].W_in)  # the model itself is as it was
    outputs.sum().backward()
    assert all(gate.grad.abs().max() > 0 for gate in gates.values())


def test_lambda_rises_and_falls():
    stage = discogp.Stage(100, 2.0, (100.0, 0.01, 20, 20), 0.0, 1.0, 0.1, 0.0, 1.0, "prediction", "hard")
    assert [stage.strength(epoch) for epoch in (0, 10, 20, 40, 90)] == pytest.approx([2, 101, 200, 0.02, 0.02])


def test_a_constant_complement_scores_chance_and_no_more():
    model, data = small_model(), small_data(n=40)
    judge = discogp.Judge(model, data, Ablation.parse("zero"), False, False, seed=0, batch_size=16)
    nothing = judge.complete(model, torch.zeros_like(model.graph.exists))
    counts = judge.prediction.bincount()
    # Everything cut under zero leaves a constant. Plain accuracy would be the share of what it happens to predict.
    assert nothing["complement_accuracy"] in (pytest.approx(nothing["chance"]), 0.0)
    assert float(counts.max()) / 40 > 1.2 * nothing["chance"]
    whole = judge.complete(model, model.graph.exists)
    assert whole["complement_accuracy"] == 1
    assert judge.faithful(model, model.graph.exists) == {"accuracy": 1.0, "kl": pytest.approx(0, abs=1e-12)}


def test_losses_over_answers_see_no_other_token():
    """``labels="answers"``: the two outputs' cross-entropies, by hand, and their gradients there alone."""
    model, data = small_model(), small_data(n=5)
    ready = TrainingBatches(model, data, PATCH, OBJECTIVES.get("kl"), seeds=[0], batch_size=8).batches[0]
    stage = discogp.Stage(1, 1.0, (1.0, 1.0, 1, 1), 1.0, 1.0, 0.1, 0.0, 1.0, "answers", "hard")
    outputs = torch.randn(5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    pairs = torch.cat([ready.batch.answers, ready.batch.wrong], 1)
    two = outputs.gather(1, pairs)
    label = ready.targets.clean.gather(1, pairs).argmax(1)
    faithful = stage.faithfulness(outputs, ready, OBJECTIVES.get("kl"))
    assert_close(faithful, torch.nn.functional.cross_entropy(two, label, reduction="none"))
    incomplete = stage.incompleteness(outputs, ready)
    assert_close(incomplete, -two.log_softmax(1).mean(1))
    (faithful + incomplete).sum().backward()
    assert (outputs.grad.gather(1, pairs) != 0).any() and int((outputs.grad != 0).sum()) <= 10
    with pytest.raises(Undefined, match="needs two answers"):
        discover("discogp", model, Data(data.clean, data.counterfactual, data.read), labels="answers")


def test_the_output_bias_goes_with_its_heads_where_the_released_code_has_it_there():
    """A model whose edges into one reader are cut to zero, its head's share of the bias with them, by a plain loop."""
    model, data = small_model(), small_data(n=2)
    graph, generator = model.graph, torch.Generator().manual_seed(0)
    kept = (torch.rand(graph.exists.shape, generator=generator) < 0.6).double() * graph.exists
    zero = Evaluator(model, data, Ablation.parse("zero"), OBJECTIVES.get("kl")).prepare(data.batch(torch.arange(2)))
    ours = model.run_cut(
        kept[None], zero.alternative, inputs=zero.inputs, read=zero.runs.read, offset=cut_output_bias(model, kept[None])
    )
    alternative = {
        name: torch.zeros(5, 12, dtype=torch.float64)
        - (model.blocks[int(name[1])].b_O / graph.n_heads if name.startswith("a") else 0)
        for name in graph.writers
    }
    for row in range(2):
        # A cut head carries minus its share, for the stream holds the whole bias; a kept one carries what it wrote.
        assert_close(ours[0, row], plain_cut(model, data.clean[row], alternative, kept)[-1], rtol=1e-9, atol=1e-9)


GROUPS = {**ARCHITECTURES["qwen-3"], "n_layers": 2, "n_heads": 4, "n_kv_heads": 2}


def plain_with_copies(model, tokens, gates):
    """Logits [P, d_out] of one prompt, ``gates`` [layers, heads, D, E] on each head's own copy of its keys' weights."""
    config = model.config
    residual = model.input_nodes(tokens[None]).sum(0)[0] + model.constant(len(tokens))
    for block, of_layer in zip(model.blocks, gates, strict=True):
        weight, bias = block.W_QKV.unflatten(1, (-1, config.d_head)), block.b_QKV.unflatten(0, (-1, config.d_head))
        x, after = block.norm_attention(residual), residual + block.b_O
        for head in range(config.n_heads):
            group = head // (config.n_heads // config.kv_heads)
            key, value = config.n_heads + group, config.n_heads + config.kv_heads + group
            q, v = (x @ weight[:, column] + bias[column] for column in (head, value))
            k = x @ (weight[:, key] * of_layer[head]) + bias[key]
            z = block.attend(q[None], k[None], v[None])[0]
            after = after + z @ block.W_O.unflatten(0, (-1, config.d_head))[head]
        residual = after + block.mlp_of(after)
    return model.to_logits(residual[None])[0]


@torch.no_grad()
def test_the_released_code_gates_a_copy_of_shared_keys_for_each_head():
    model, data = small_model(**GROUPS), small_data(n=2)
    twin, heads, wide = ungrouped(model), model.config.n_heads, model.config.d_head
    generator = torch.Generator().manual_seed(0)
    gates = (torch.rand(2, heads, 12, wide, generator=generator) < 0.7).double()
    named = {
        f"blocks.{i}.W_QKV": torch.cat(
            [torch.ones(12, heads, wide), gate.transpose(0, 1), torch.ones(12, heads, wide)], 1
        )
        .flatten(1)
        .double()
        for i, gate in enumerate(gates)
    }
    for row in range(2):
        assert_close(twin(data.clean)[row], model(data.clean)[row], rtol=1e-9, atol=1e-9)
        expected = plain_with_copies(model, data.clean[row], gates)
        assert_close(with_weights(twin, named)(data.clean)[row], expected, rtol=1e-9, atol=1e-9)
    assert ungrouped(twin) is twin
    joint = small_model(**GROUPS, joint_qk_norms=True)
    assert_close(ungrouped(joint)(data.clean), joint(data.clean), rtol=1e-9, atol=1e-9)


def test_copies_are_gates_of_their_own_in_grouped_models_and_nothing_elsewhere():
    data = small_data()
    for changes, same in (({"n_layers": 1}, True), (GROUPS | {"n_layers": 1}, False)):
        model = small_model(**changes)
        given = {"weight_epochs": 1, "edge_epochs": 1, "weight_temperature": 1.0, "initial": 0.0}
        found = [discover("discogp", model, data, grouped=which, **given) for which in ("shared", "copies")]
        densities = [each.diagnostics["report"]["weights"]["weight_density"] for each in found]
        assert (densities[0] == densities[1]) is same and 0.2 < min(densities) and max(densities) < 0.8
        assert torch.equal(*(each.scores.values.nan_to_num() for each in found)) is same
        assert found[1].scores.graph == model.graph
    assert METHODS.get("discogp").resolve({}, "reference-code")["grouped"] == "copies"


def test_where_the_output_bias_travels_changes_nothing_but_zero():
    model, data = small_model(n_layers=1), small_data()
    given = dict(weight_epochs=0, edge_epochs=8, edge_sparsity=0.1)
    for ablation, same in (("patch", True), ("zero", False)):
        found = [
            discover("discogp", model, data, ablation=Ablation.parse(ablation), output_bias=where, **given).scores
            for where in ("constant", "heads")
        ]
        assert torch.equal(found[0].values.nan_to_num(), found[1].values.nan_to_num()) is same


def test_the_report_has_weights_edges_and_both():
    model, data = small_model(n_layers=1), small_data(n=20)
    found = discover("discogp", model, data, weight_epochs=20, edge_epochs=20, weight_sparsity=0.1, edge_sparsity=0.1)
    report = found.diagnostics["report"]
    assert set(report) == {"weights", "edges", "both"}
    assert report["weights"]["edge_density"] == 1 and report["edges"]["weight_density"] == 1
    assert report["both"]["weight_density"] == report["weights"]["weight_density"] < 1
    assert report["both"]["edge_density"] == found.circuits[0].circuit.n_edges / model.graph.n_edges


def test_the_second_stage_keeps_the_first_s_weight_masks_and_the_reference_code_loses_them():
    """The DiscoGP release restores all weights at the end of its first evaluation, and trains edges on those."""
    model, data = small_model(n_layers=1), small_data(n=20)
    settings = {"weight_epochs": 30, "edge_epochs": 6, "weight_sparsity": 3.0, "edge_sparsity": 0.1, "initial": 0.2}
    kept, lost = (discover("discogp", model, data, keep_weight_masks=keep, **settings) for keep in (True, False))
    assert kept.diagnostics["weight_curve"] == lost.diagnostics["weight_curve"]
    assert kept.diagnostics["report"]["weights"]["weight_density"] < 0.5
    curves = [found.diagnostics["edge_curve"]["faithfulness"] for found in (kept, lost)]
    assert curves[0][0] == curves[1][0]  # the first epoch is the same
    assert all(a != b for a, b in zip(curves[0][1:], curves[1][1:], strict=True))
    # On the whole model's weights the gates see another loss altogether.
    assert abs(kept.scores.flat() - lost.scores.flat()).max() > 1e-3
    assert METHODS.get("discogp").resolve({}, "reference-code")["keep_weight_masks"] is False


def test_the_reference_code_flips_edges_with_weights_so_that_any_weights_look_complete():
    """The DiscoGP release cuts every edge where it measures the complement of the weights."""
    model, data = small_model(n_layers=1), small_data(n=40)
    settings = {"weight_epochs": 1, "edge_epochs": 1, "rate": 1e-6, "initial": -1.0, "ablation": Ablation.parse("zero")}
    # Every gate is closed, so that the complement of the weights is the whole model: as incomplete as can be.
    right, wrong = (
        discover("discogp", model, data, keep_weight_masks=keep, **settings).diagnostics["report"]["weights"]
        for keep in (True, False)
    )
    assert right["weight_density"] == 0 and right["complement_accuracy"] == 1
    assert wrong["complement_accuracy"] <= wrong["chance"] + 1e-12


def test_no_epochs_of_weights_is_edges_alone():
    model, data = small_model(n_layers=1), small_data()
    report = discover("discogp", model, data, weight_epochs=0).diagnostics["report"]
    assert report["weights"]["weight_density"] == 1 and report["both"] == report["edges"]


def test_hard_gates_have_no_gradient_through_saturated_attention_and_relaxed_ones_have():
    """Why DiscoGP closes the attention edges of compiled models: what straight-through sees of their worth."""
    truth, zero, kl = ground_truth.load("tracr/hist"), Ablation.parse("zero"), OBJECTIVES.get("kl")
    model, prompts = (
        truth.model(),
        TrainingBatches(truth.model(), tasks.load("tracr/hist").data(), zero, kl, seeds=[0], batch_size=64),
    )
    graph, ready, chance = model.graph, prompts.batches[0], Seeds([0], model, masks=1)
    u = chance.uniform(400, graph.n_edges)[0]
    edge = [str(each) for each in graph.edges].index("tok_embed->a0.h0<q>")
    slopes = {}
    for name, gate in discogp.GATE_KINDS.items():
        logits = torch.full((400, graph.n_edges), 3.0, requires_grad=True)
        kept = gate(logits, u, 1.0)
        losses = prompts.loss(ready, to_matrix(graph, kept))
        losses.sum().backward()
        slopes[name] = float(logits.grad[:, edge].mean())
        if name == "hard":  # the slope of the expected loss itself, by the score function
            worth = float(((kept - logits.sigmoid())[:, edge] * (losses - losses.mean())).mean())
    assert worth < -1e-3  # more likely open, the loss is lower
    assert abs(slopes["hard"]) < 1e-6 and slopes["relaxed"] < -1e-4


@pytest.mark.parametrize("ablation", ["zero", "patch"])
def test_discogp_with_relaxed_gates_finds_the_edges_of_hist_and_with_hard_ones_does_not(ablation):
    areas = {}
    truth, value, method = ground_truth.load("tracr/hist"), Ablation.parse(ablation), METHODS.get("discogp")
    for gates in ("hard", "relaxed"):
        given = {"gates": gates, "weight_epochs": 0, "edge_epochs": 40, "rate": 0.2}
        found = method.discover(
            truth.model(),
            tasks.load("tracr/hist").data(),
            ablation=value,
            objective=OBJECTIVES.get("kl"),
            **method.resolve(given, "compiled"),
        )
        areas[gates] = recovery(found.scores, truth.reference(value))["auroc"]
    # How far below 1 depends on the order of sums, because training amplifies rounding: under patching, 0.944 with one
    # kernel of MKL and 0.958 with another.
    assert areas["relaxed"] == 1 > areas["hard"]


@pytest.mark.slow
def test_discogp_finds_the_circuit_and_few_weights_of_majority_a():
    found, truth = on_truth("discogp", "tracr/majority_a", "zero", "kl", "compiled")
    report, score = found.diagnostics["report"], circuit_recovery(found.circuits[0].circuit, truth)
    assert score["precision"] == score["recall"] == 1
    assert report["both"]["weight_density"] < 0.1 and report["both"]["accuracy"] == 1


@pytest.mark.slow
def test_discogp_on_the_mini_model_reports_weights_edges_and_both():
    on, method = subject("greater-than", "mini"), METHODS.get("discogp")
    report = method.discover(
        on.model,
        on.data,
        ablation=Ablation.parse("zero"),
        objective=OBJECTIVES.get("kl"),
        **method.resolve({}, "mini"),
    ).diagnostics["report"]
    assert report["weights"]["weight_density"] < 0.1 and report["edges"]["edge_density"] < 0.5
    assert report["edges"]["kl"] < 0.02  # the same years are likely; which of them is likeliest is a near tie
    for name in ("weights", "edges", "both"):
        assert report[name]["accuracy"] > 0.7 > 10 * report[name]["chance"]
        assert report[name]["complement_accuracy"] < report[name]["chance"] + 0.05
    assert report["both"]["weight_density"] == report["weights"]["weight_density"]


def test_labels_are_the_prediction_or_the_distribution():
    model, data = small_model(n_layers=1), small_data()
    first, second = (
        discover("discogp", model, data, labels=labels).scores.flat() for labels in ("prediction", "distribution")
    )
    assert abs(first - second).max() > 0


def test_masks_are_zero_where_no_edge_is():
    graph = small_model().graph
    assert not to_matrix(graph, torch.ones(3, graph.n_edges))[:, ~graph.exists].any()


# ---- Edge Pruning's released read-out --------------------------------------------------------------------------------


def test_edge_pruning_s_released_gates_are_the_released_code_s():
    """Numbers of its own ``deterministic_z_from_log_alpha`` (a918efd), tensor by tensor, 0.5 where no edge exists."""
    graph = small_model("split", n_layers=2, n_heads=3, d_head=4).graph
    edges = 3 * torch.sin(1.7 * torch.arange(graph.n_edges, dtype=torch.float64))[None]
    nodes = 2 * torch.cos(torch.arange(10, dtype=torch.float64))[None]
    soft, of_nodes = edge_pruning.released_gates(graph, edges, nodes, padding=0.5)
    assert int((soft == 0).sum()) == 40 and (of_nodes[0] == 0).nonzero().flatten().tolist() == [3, 9]
    assert (soft[0] == 0).nonzero().flatten().tolist()[:12] == [0, 2, 3, 6, 7, 10, 14, 17, 18, 21, 22, 24]
    assert_close(torch.stack([soft.sum(), of_nodes.sum()]).tolist(), [43.809339904348896, 4.989710793474693])
    kept = [int((each > bisect_threshold(each, 1 - float(each.mean()))).sum()) for each in (soft, soft_gate(edges))]
    assert kept == [43, 49]  # the released circuit is smaller: more gates are zero, so a higher threshold is needed


def test_edge_pruning_s_released_read_out_counts_gates_where_no_edge_exists():
    graph = small_model("split", n_layers=2, n_heads=3, d_head=4).graph
    edges = torch.linspace(-3, 3, graph.n_edges, dtype=torch.float64)[None]
    zeros = [int((edge_pruning.released_gates(graph, edges, padding=at)[0] == 0).sum()) for at in (10.0, 0.0)]
    assert zeros[0] < zeros[1]


def test_edge_pruning_s_reference_code_differs_in_its_read_out_alone():
    model, data = small_model(), small_data()
    given = dict(steps=30, warmup=10, rate_warmup=2, targets=[0.6], initial=1.0, weight_decay=0.0)
    ours, theirs = (discover("edge-pruning", model, data, final_gates=each, **given) for each in ("soft", "released"))
    assert ours.diagnostics["curve"] == theirs.diagnostics["curve"]
    assert (theirs.scores.flat() == 0).sum() > (ours.scores.flat() == 0).sum()
    assert METHODS.get("edge-pruning").resolve({}, "reference-code")["final_gates"] == "released"
    with pytest.raises(SpecError, match="final_gates='x'"):
        discover("edge-pruning", model, data, final_gates="x")
