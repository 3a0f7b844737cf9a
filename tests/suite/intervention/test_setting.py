"""The ablation grid: every way of running a circuit against a plain one, and the cells that have no meaning."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from oracles import plain_cut, small_data, small_model, written
from torch.testing import assert_close

from circuitmeter.suite.circuit import Circuit, on_inputs
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.intervention import evaluator
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.faithfulness import CircuitValues, measure_by_each, measure_circuits
from circuitmeter.suite.intervention.levels import FACTORS, LEVELS, USUAL_LEVELS
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut, Setting, grid
from circuitmeter.suite.model.graph import Graph

PATCH = Ablation.parse("patch")
LOGIT_DIFFERENCE = OBJECTIVES.get("logit-difference")


def random_circuit(graph: Graph, share: float = 0.5, seed: int = 0) -> Circuit:
    return Circuit(graph, torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(seed)) < share)


def with_positions(data: Data) -> Data:
    at = torch.zeros_like(data.read)
    at[torch.arange(data.n), torch.arange(data.n) % 3 + 1] = True
    parts = {name: getattr(data, name) for name in ("clean", "counterfactual", "read", "answers", "wrong")}
    return Data(**parts, positions={"subject": at, "end": data.read})


def plainly(model, data: Data, kept, cut: Cut) -> torch.Tensor:
    """Logit differences [N]: one prompt at a time; ``kept`` [W, R] says which edges are not cut."""
    found = []
    for row in range(data.n):
        clean, other = data.clean[row], data.counterfactual[row]
        run, alternative, share = clean, written(model, other), kept.double()
        if cut.direction == "denoising":
            run, alternative, share = other, written(model, clean), 1 - share
        if cut.positions != "all":
            at = torch.stack([data.positions[name][row] for name in cut.positions.split("+")]).any(0)
            share = torch.where(at[:, None], share[..., None, None], torch.ones(1).double())
        logits = plain_cut(model, run, alternative, share)[-1]
        found.append(logits[data.answers[row, 0]] - logits[data.wrong[row, 0]])
    return torch.stack(found)


@pytest.mark.parametrize("positions", ["all", "subject", "subject+end"])
@pytest.mark.parametrize("which", LEVELS["set"])
@pytest.mark.parametrize("direction", LEVELS["direction"])
def test_a_cut_is_what_a_loop_over_prompts_and_readers_gives(direction, which, positions):
    model, data = small_model(), with_positions(small_data())
    circuit = random_circuit(model.graph)
    cut = Cut(PATCH, direction=direction, set=which, positions=positions)
    assert cut.undefined(data, model) is None
    kept = circuit.edges if which == "complement" else model.graph.exists & ~circuit.edges
    found = measure_circuits(model, data, [circuit], cut, LOGIT_DIFFERENCE)
    assert_close(found.circuits[0], plainly(model, data, kept, cut))
    assert_close(found.empty, plainly(model, data, torch.zeros_like(kept), cut))
    assert_close(found.full, plainly(model, data, model.graph.exists, cut))
    assert not torch.allclose(found.circuits[0], found.full) and not torch.allclose(found.circuits[0], found.empty)


def test_cutting_everything_everywhere_is_the_counterfactual_run_in_both_directions():
    model, data = small_model(), small_data()
    for direction in LEVELS["direction"]:
        found = measure_circuits(
            model, data, [random_circuit(model.graph)], Cut(PATCH, direction=direction), LOGIT_DIFFERENCE
        )
        assert_close(found.empty, found.corrupted)


def test_denoising_is_noising_with_the_runs_and_the_circuit_turned_round():
    model, data = small_model(), small_data()
    turned = Data(data.counterfactual, data.clean, data.read, answers=data.answers, wrong=data.wrong)
    circuit = random_circuit(model.graph)
    rest = Circuit(model.graph, ~circuit.edges)
    restored = measure_circuits(model, data, [circuit], Cut(PATCH, direction="denoising"), LOGIT_DIFFERENCE).circuits
    assert_close(restored, measure_circuits(model, turned, [rest], Cut(PATCH), LOGIT_DIFFERENCE).circuits)


def test_a_node_is_cut_by_cutting_all_of_its_out_edges():
    model, data = small_model(), small_data()
    nodes = {"input", "a0.h1", "m0", "a2.h0", "m2"}
    names = [next(str(edge) for edge in model.graph.edges if edge.writer == node) for node in nodes]
    found = measure_circuits(
        model, data, [Circuit.of(model.graph, names)], Cut(PATCH, "node"), LOGIT_DIFFERENCE
    ).circuits[0]
    for row in range(data.n):  # the plain model, with the other nodes' outputs replaced
        other = written(model, data.counterfactual[row])
        replaced = {name: out for name, out in other.items() if name not in nodes}
        logits = plain_cut(model, data.clean[row], other, model.graph.exists.double(), fixed=replaced)[-1]
        assert_close(found[row], logits[data.answers[row, 0]] - logits[data.wrong[row, 0]])


def test_a_circuit_with_an_edge_of_every_node_cuts_nothing_when_nodes_are_cut():
    graph = small_model().graph
    edges = torch.zeros_like(graph.exists)
    edges[torch.arange(len(edges)), graph.exists.int().argmax(1)] = True  # the first edge out of each node
    cut = Cut(PATCH, component="node")
    assert cut.cuts_nothing(Circuit(graph, edges)) and not Cut(PATCH).cuts_nothing(Circuit(graph, edges))
    edges[0] = False
    assert not cut.cuts_nothing(Circuit(graph, edges))
    assert Cut(PATCH, component="node", embedding="kept", set="circuit").cuts_nothing(Circuit(graph, edges & False))


def test_queries_keys_and_values_are_cut_as_one_and_other_readers_never():
    graph = Graph(2, 2)
    circuit = Circuit.of(graph, ["input->a1.h0<q>", "a0.h1->a1.h1<v>", "input->m0"])
    unpruned, pruned = (Cut(PATCH, "head-qkv", pruning=rule).masks([circuit])[0] for rule in LEVELS["pruning"][::-1])
    for w, r in graph.exists.nonzero().tolist():
        writer, reader = graph.writers[w], graph.readers[r]
        expected = reader in ("a1.h0<q>", "a1.h1<v>") or not reader.startswith("a")
        assert bool(unpruned[w, r]) == expected
        # Heads of the first layer read nothing that is kept: what they write is a dead end where it can be cut.
        assert bool(pruned[w, r]) == (expected and not (writer.startswith("a0") and reader.startswith("a")))
    knocked_out = Cut(PATCH, "head-qkv", set="circuit").masks([circuit])[0]
    cut = {graph.readers[r] for _, r in (graph.exists & ~knocked_out).nonzero().tolist()}
    assert cut == {"a1.h0<q>", "a1.h1<v>"}


def test_kept_embeddings_are_never_cut_neither_with_the_circuit_nor_with_everything():
    for inputs in ("token", "split"):
        graph = Graph(2, 2, inputs)
        circuit = random_circuit(graph)
        for which in LEVELS["set"]:
            cut = Cut(PATCH, embedding="kept", set=which)
            assert cut.masks([circuit])[0, : len(graph.input_nodes)].equal(graph.exists[: len(graph.input_nodes)])
            plain = Cut(PATCH, set=which).masks([circuit])[0]
            assert cut.masks([circuit])[0, len(graph.input_nodes) :].equal(plain[len(graph.input_nodes) :])
        assert cut.empty(graph).sum() == graph.exists[: len(graph.input_nodes)].sum()


def test_a_circuit_carried_to_other_input_nodes_computes_the_same_where_the_graphs_can_say_so():
    model, data = small_model("token"), small_data()
    circuit = random_circuit(model.graph)
    own, apart = (
        measure_circuits(model, data, [circuit], Cut(PATCH, embedding=e), LOGIT_DIFFERENCE) for e in ("own", "split")
    )
    assert_close(own.circuits, apart.circuits)  # positions are the same in both runs, and all kept
    total = small_model("sum")
    circuit = random_circuit(total.graph)
    for ablation in ("patch", "zero"):
        together, apart = (
            measure_circuits(
                total, data, [circuit], Cut(Ablation.parse(ablation), embedding=e), LOGIT_DIFFERENCE
            ).circuits
            for e in ("own", "split")
        )
        assert_close(together, apart)
    # Under zero ablation a position that can be cut is, and one that is on no edge stays.
    cuts = [Cut(Ablation.parse("zero"), embedding=e) for e in ("sum", "token")]
    found = [measure_circuits(total, data, [circuit], cut, LOGIT_DIFFERENCE).circuits for cut in cuts]
    assert not torch.allclose(*found)


def test_two_input_nodes_become_one_and_keep_what_either_kept():
    graph = Graph(1, 1, "split")
    circuit = Circuit.of(graph, ["tok_embed->a0.h0<q>", "pos_embed->a0.h0<k>", "a0.h0->logits"])
    assert on_inputs(circuit, "sum").names == ["input->a0.h0<q>", "input->a0.h0<k>", "a0.h0->logits"]
    assert on_inputs(circuit, "token").names == ["input->a0.h0<q>", "a0.h0->logits"]
    assert on_inputs(circuit, "split") is circuit


def test_every_cell_of_the_grid_prints_as_it_parses_and_is_run_or_refused_with_a_reason():
    model, data = small_model(), with_positions(small_data())
    settings = grid(
        ablation=["patch", "mean[over=batch,position=yes,prompts=both]", "zero"],
        component=LEVELS["component"],
        embedding=LEVELS["embedding"],
        set=LEVELS["set"],
        direction=LEVELS["direction"],
        positions=["all", "subject+end"],
        objective=["logit-difference", "kl"],
        aggregation=LEVELS["aggregation"],
        reference=LEVELS["reference"],
    )
    assert len(set(settings)) == 3 * 3 * 5 * 2 * 2 * 2 * 2 * 3 * 3
    assert all(Setting.parse(str(setting)) == setting for setting in settings)
    assert {setting.level(factor) for setting in settings for factor in FACTORS} >= {"patch", "node", "subject+end"}
    reasons = {setting: setting.undefined(data, model) for setting in settings}
    assert set(filter(None, reasons.values())) == {
        "denoising starts from a corrupted run, and zero does not run the model; use patch or resample",
        "denoising starts from a corrupted run, and mean[over=batch,position=yes,prompts=both] does not run the model; "
        "use patch or resample",
        "kl of the full model is 0, so that a share of it needs a reference point",
    }
    circuit = random_circuit(model.graph)
    for cut in {setting.cut for setting in settings if reasons[setting] is None}:
        found = measure_circuits(model, data, [circuit], cut, OBJECTIVES.get("kl"))
        for aggregation, reference in itertools.product(LEVELS["aggregation"], ("corrupted-run", "cut-graph")):
            assert found.faithfulness(aggregation, reference).shape == (1,)


def test_what_has_no_meaning_is_refused_with_the_reason():
    model, data = small_model(), small_data()
    alone = Data(data.clean, None, data.read, answers=data.answers, wrong=data.wrong)
    rotary = small_model(positions="rotary", rotary_dims=4)
    refused = [
        (Setting.parse("patch | kl"), alone, model, "counterfactual"),
        (Setting.parse("zero | logit-difference | ratio-of-means | corrupted-run"), alone, model, "corrupted run"),
        (Setting.parse("zero/split | kl"), data, rotary, "position embedding"),
        (Setting.parse("patch/at end | kl"), data, model, "names no positions"),
        (Setting.parse("patch/at S2 | kl"), with_positions(data), model, "no position 'S2'"),
        (Setting.parse("optimal/at end | kl"), with_positions(data), model, "optimal"),
    ]
    for setting, prompts, on, reason in refused:
        assert reason in setting.undefined(prompts, on)
    for text in ("patch/nodes | kl", "patch/node/edge/node | kl", "patch", "patch | kl | mean", "patch | nothing"):
        with pytest.raises(SpecError):
            Setting.parse(text)


def test_three_ways_of_summing_up_and_three_reference_points():
    measured = CircuitValues(
        circuits=torch.tensor([[2.0, 3.0, 0.5, 9.0]]).double(),
        full=torch.tensor([4.0, 4.0, 1.0, 1.0]).double(),
        empty=torch.tensor([0.0, 2.0, 0.0, 1.0]).double(),
        corrupted=torch.tensor([-4.0, -4.0, -1.0, -1.0]).double(),
    )
    assert measured.faithfulness(reference="none").item() == pytest.approx(14.5 / 10)
    assert measured.faithfulness(reference="corrupted-run").item() == pytest.approx(24.5 / 20)
    assert measured.faithfulness(reference="cut-graph").item() == pytest.approx(11.5 / 7)
    rounded = CircuitValues(measured.circuits, measured.full, measured.empty + 1e-12, None)
    assert rounded.faithfulness("mean-of-ratios").item() == pytest.approx(0.5)  # and not 8 / -1e-12
    # Ratios: 1/2, 1/2, 1/2, and none where full model and reference agree.
    assert measured.faithfulness("median-of-ratios").item() == 0.5
    assert measured.faithfulness("mean-of-ratios", "none").item() == pytest.approx((0.5 + 0.75 + 0.5 + 9) / 4)
    drawn = measured.faithfulness(rows=torch.tensor([[0, 0, 1, 2], [3, 3, 3, 3]]))
    assert drawn.shape == (1, 2) and drawn[0, 0] == pytest.approx(5.5 / 11) and drawn[0, 1].isnan()


def test_a_denominator_that_cannot_be_told_from_zero_is_said_to_be_uncertain():
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(100, generator=generator, dtype=torch.float64)
    measured = CircuitValues(full[None], full, full - full.mean() + 0.01, full - 3)
    assert not measured.uncertain("corrupted-run")
    noisy = CircuitValues(full[None], full, full.roll(1), None)
    assert noisy.uncertain("cut-graph")


@pytest.mark.parametrize("ablation", ["patch", "optimal"])
def test_several_objectives_from_one_run_are_each_as_alone(ablation, monkeypatch):
    few_steps = partial(evaluator.optimal_constants, steps=5)
    monkeypatch.setattr(evaluator, "optimal_constants", few_steps)
    model, data = small_model(), small_data().select(torch.arange(2))
    circuits = [random_circuit(model.graph)]
    objectives = [OBJECTIVES.get(name) for name in ("kl", "l2", "logit-difference")]
    cut = Cut(Ablation.parse(ablation))
    for objective, found in zip(objectives, measure_by_each(model, data, circuits, cut, objectives), strict=True):
        alone = measure_circuits(model, data, circuits, cut, objective)
        for name in ("circuits", "full", "empty", "corrupted"):
            assert_close(getattr(found, name), getattr(alone, name), rtol=0, atol=0)


def test_the_usual_levels_are_those_of_a_setting_that_says_nothing_else():
    setting = Setting.parse("patch | kl")
    assert {factor: setting.level(factor) for factor in USUAL_LEVELS} == USUAL_LEVELS
    assert USUAL_LEVELS.keys() == set(FACTORS) - {"ablation", "objective"}
