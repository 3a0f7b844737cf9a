"""Edges cut at single positions: the engine against a loop over readers and positions, and the graph of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import ARCHITECTURES, INPUTS, plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.circuit import Circuit, EdgeScores, grown
from circuitmeter.suite.errors import DataError, ModelError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.position_graph import PositionGraph
from circuitmeter.suite.model.position_transformer import PositionTransformer
from circuitmeter.suite.model.stated_graph import StatedGraph

EXACT = dict(rtol=1e-10, atol=1e-10)
everything = pytest.mark.parametrize("architecture", ARCHITECTURES)
N = 5  # the prompts' positions


def both(inputs="token", **changes):
    model = small_model(inputs, **changes)
    return model, PositionTransformer.of(model, N)


def prepared(model):
    data = small_data()
    with torch.no_grad():
        clean, other = (model.run(model.input_nodes(tokens))[1] for tokens in (data.clean, data.counterfactual))
        return data, clean.inputs, model.alternative(other, N), model.difference(clean, other)


def random_masks(shape, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).double()


# ---- the engine -----------------------------------------------------------------------------------------------------


@everything
@pytest.mark.parametrize("inputs", INPUTS)
@torch.no_grad()
def test_equal_to_a_loop_over_readers_whose_input_is_added_up_position_by_position(architecture, inputs):
    model, twin = both(inputs, **ARCHITECTURES[architecture])
    data, start, alternative, _ = prepared(model)
    masks = random_masks((2, *twin.graph.exists.shape))
    masks[1] *= torch.rand(masks[1].shape, generator=torch.Generator().manual_seed(5))  # shares between 0 and 1
    found = twin.run_cut(masks, alternative, inputs=start)
    cut = written(model, data.counterfactual[3])
    for mask, logits in zip(masks, found, strict=True):
        expected = plain_cut(model, data.clean[3], cut, twin.graph.by_position(mask))
        assert_close(logits[3], expected, **EXACT)


@everything
@torch.no_grad()
def test_masks_that_agree_at_all_positions_are_those_without_positions(architecture):
    model, twin = both(**ARCHITECTURES[architecture])
    data, start, alternative, prefix = prepared(model)
    masks = random_masks((4, *model.graph.exists.shape))
    late = model.graph.qkv(model.graph.n_layers - 1).start
    masks[2:, :, :late] = 1  # cut in the last layer only
    lifted = twin.graph.at_every_position(masks)
    offset = torch.rand(4, len(model.graph.readers), model.config.d_model, dtype=torch.float64)
    at = torch.zeros(data.clean.shape, dtype=torch.bool)
    at[:, 2:4] = True
    for more in ({}, {"prefix": prefix}, {"cut_at": at}, {"offset": offset, "prefix": prefix}):
        theirs = dict(more)
        if "offset" in more:
            theirs["offset"] = offset[:, torch.from_numpy(twin.graph.whole_reader)]
        for part in (slice(0, 2), slice(2, 4)):
            cut = {**more, **({"offset": more["offset"][part]} if "offset" in more else {})}
            own = {**theirs, **({"offset": theirs["offset"][part]} if "offset" in more else {})}
            expected = model.run_cut(masks[part], alternative, inputs=start, **cut)
            assert_close(twin.run_cut(lifted[part], alternative, inputs=start, **own), expected, **EXACT)


def test_gradients_of_masks_are_those_of_central_differences_and_add_up_over_positions():
    model, twin = both(**ARCHITECTURES["gpt2"])
    _, start, alternative, _ = prepared(model)
    whole = random_masks((1, *model.graph.exists.shape)).requires_grad_()
    (expected,) = torch.autograd.grad(model.run_cut(whole, alternative, inputs=start).square().sum(), whole)
    masks = twin.graph.at_every_position(whole.detach()).requires_grad_()
    (found,) = torch.autograd.grad(twin.run_cut(masks, alternative, inputs=start).square().sum(), masks)
    assert_close(twin.graph.by_position(found).sum(-1), expected, **EXACT)
    w, r = twin.graph.index("a0.h1->a2.h0<k>@3")
    with torch.no_grad():
        up, down = masks.detach().clone(), masks.detach().clone()
        up[0, w, r] += 1e-5
        down[0, w, r] -= 1e-5
        slope = [twin.run_cut(m, alternative, inputs=start).square().sum() for m in (up, down)]
    assert_close(found[0, w, r], (slope[0] - slope[1]) / 2e-5, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_an_offset_at_one_position_moves_the_readers_input_there_alone():
    model, twin = both(**ARCHITECTURES["gpt2"])
    _, start, alternative, _ = prepared(model)
    masks = torch.ones(1, *twin.graph.exists.shape, dtype=torch.float64)
    offset = torch.zeros(1, len(twin.graph.readers), model.config.d_model, dtype=torch.float64)
    offset[0, twin.graph.readers.index("logits@2"), 0] = 0.5  # in one direction: a norm takes out what all have
    moved = twin.run_cut(masks, alternative, inputs=start, offset=offset) - twin.run_cut(
        masks, alternative, inputs=start
    )
    assert (moved[0].abs().amax((0, 2)) > 1e-3).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("ablation", ["patch", "zero", "mean", "resample", "noise"])
def test_an_evaluator_scores_circuits_with_positions_under_every_ablation(ablation):
    model, twin = both()
    data, edges = small_data(), random_masks(model.graph.exists.shape).bool()
    on = [Evaluator(each, data, Ablation.parse(ablation), OBJECTIVES.get("l2"), seed=3) for each in (model, twin)]
    expected, found = on[0].loss(edges[None]), on[1].loss(twin.graph.at_every_position(edges[None]))
    assert_close(found, expected, **EXACT)


def test_prompts_of_another_length_and_models_without_positions_are_refused():
    model, twin = both()
    with pytest.raises(DataError, match="a prompt has 4 tokens, and the graph is of 5 positions"):
        twin.input_nodes(torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(DataError, match="9 positions were asked for; the model takes 8"):
        PositionTransformer.of(model, 9)
    with pytest.raises(ModelError, match="in one process"):
        PositionTransformer.of(twin, N)
    with pytest.raises(DataError, match="give 1 at least"):
        PositionGraph.of(model.graph, 0, True)


# ---- the graph ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", INPUTS)
def test_every_edge_stands_at_every_position_and_keeps_its_name(inputs):
    model, twin = both(inputs)
    graph = twin.graph
    expected = {f"{edge}@{p}" for edge in map(str, model.graph.edges) for p in range(N)}
    assert set(map(str, graph.edges)) == expected and graph.n_edges == N * model.graph.n_edges
    assert graph.whole == model.graph == twin.whole.graph
    assert graph.node_of_reader("a1.h0<k>@3") == "a1.h0" and graph.node_of_reader("logits@0") == "logits"
    for r, name in enumerate(graph.readers):
        assert name == f"{model.graph.readers[graph.whole_reader[r]]}@{graph.position[r]}"
    for node in graph.nodes:  # groups, parts and nodes agree with the names
        assert [graph.node_of_reader(graph.readers[r]) for r in node.readers] == [node.name] * len(node.readers)
    values = torch.arange(graph.exists.numel()).reshape(graph.exists.shape)
    assert torch.equal(graph.from_positions(graph.by_position(values)), values)


def test_a_graph_with_positions_has_a_hash_of_its_own_and_is_stated_in_json():
    model, twin = both("split")
    graphs = [model.graph, twin.graph, replace(twin.graph, n_positions=6), replace(twin.graph, causal=False)]
    assert len({graph.hash for graph in graphs}) == 4
    for graph in graphs:
        assert StatedGraph(**StatedGraph.of(graph).as_json()).build() == graph
    assert "at 5 positions" in str(twin.graph)


def on_paths_by_walking(graph, edges):
    """Edges on a path from an input to the logits, by walking from (node, position) to (node, position)."""
    steps = []  # (edge, from, to)
    for w, r in np.argwhere(edges).tolist():
        p, node = int(graph.position[r]), graph.node_of_reader(graph.readers[r])
        part = graph.readers[r].partition("<")[2][:1]
        crosses = part in ("k", "v") and part
        seen_by = range(p if graph.causal else 0, graph.n_positions) if crosses else [p]
        steps.append(((w, r), (graph.writers[w], p), {(node, q) for q in seen_by}))
    fed = {(name, p) for name in graph.input_nodes for p in range(graph.n_positions)}
    feeds = {("logits", p) for p in range(graph.n_positions)}
    for _ in range(len(graph.writers) + 1):
        fed |= {place for _, start, ends in steps if start in fed for place in ends}
        feeds |= {start for _, start, ends in steps if ends & feeds}
    return {edge for edge, start, ends in steps if start in fed and ends & feeds}


@pytest.mark.parametrize("causal", [True, False])
def test_dead_ends_are_found_position_by_position(causal):
    graph = PositionGraph.of(small_model("split", n_layers=2).graph, 3, causal)
    for seed in range(20):
        share = 0.03 + 0.02 * seed
        kept = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(seed)) < share
        circuit = Circuit(graph, kept & graph.exists)
        pruned = circuit.pruned().edges.numpy()
        assert set(map(tuple, np.argwhere(pruned).tolist())) == on_paths_by_walking(graph, circuit.edges.numpy())


def test_a_path_crosses_positions_in_attention_alone_and_never_backwards():
    graph = PositionGraph.of(small_model(n_layers=2).graph, 3, True)
    forward = Circuit.of(graph, ["input->a0.h0<v>@0", "a0.h0->m0@2", "m0->logits@2"])
    backward = Circuit.of(graph, ["input->a0.h0<v>@2", "a0.h0->m0@0", "m0->logits@0"])
    beside = Circuit.of(graph, ["input->m0@0", "m0->logits@1"])
    assert [circuit.pruned().n_edges for circuit in (forward, backward, beside)] == [3, 0, 0]


def test_a_circuit_grows_from_the_logits_through_the_positions_that_are_read():
    graph = PositionGraph.of(small_model(n_layers=1).graph, 3, True)
    scores = EdgeScores.from_mapping(
        graph, {"a0.h0->logits@1": 5, "input->a0.h0<v>@0": 4, "input->a0.h0<v>@2": 9, "input->a0.h1<v>@0": 8}
    )
    first, both_edges = grown(scores, [1, 2])
    assert first.names == ["a0.h0->logits@1"]
    assert set(both_edges.names) == {"a0.h0->logits@1", "input->a0.h0<v>@0"}  # position 2 is later; a0.h1 leads nowhere


@pytest.mark.parametrize(("causal", "seen"), [(True, (0, 1)), (False, (0, 1, 2))])
def test_what_a_head_writes_comes_from_its_query_and_all_that_this_query_sees(causal, seen):
    graph = PositionGraph.of(small_model(n_layers=1).graph, 3, causal)
    behind = graph.readers_behind(graph.writers.index("a0.h0"), graph.readers.index("m0@1"))
    expected = {"a0.h0<q>@1"} | {f"a0.h0<{part}>@{p}" for part in "kv" for p in seen}
    assert {graph.readers[r] for r in behind} == expected
    of_mlp = graph.readers_behind(graph.writers.index("m0"), graph.readers.index("logits@2"))
    assert [graph.readers[r] for r in of_mlp] == ["m0@2"]
