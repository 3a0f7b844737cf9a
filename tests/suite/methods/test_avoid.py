"""A circuit to avoid: one penalty for every method that trains masks, equal to a plain program's."""

import json
import math
from argparse import ArgumentParser

import pytest
import torch
from oracles import small_data, small_model

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.errors import CircuitMeterError, DataError, SpecError
from circuitmeter.suite.interchange import Origin, save
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS, edge_pruning
from circuitmeter.suite.methods._masks import BETA, GAMMA, ZETA, TrainingBatches, avoiding, hard_concrete
from circuitmeter.suite.methods._seeds import Seeds
from circuitmeter.suite.methods._weights import is_masked
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring.plurality import plurality_of_scores
from circuitmeter.suite.verbs import discover as verb

PATCH, KL = Ablation.parse("patch"), OBJECTIVES.get("kl")
# Few steps of each; the circuit of one seed and one strength.
SHORT = {
    "edge-pruning": {"steps": 4, "warmup": 2, "rate_warmup": 1, "targets": [0.5], "initial": 2.0},
    "subnetwork-probing": {"steps": 4, "regularisations": [0.1]},
    "ugs": {"steps": 4, "regularisations": [0.01], "samples": 2, "rate": 0.1},
    "discogp": {"weight_epochs": 0, "edge_epochs": 4},
    "ibcircuit": {"steps": 4, "strengths": [0.1], "gates": "shared", "gated": "heads-mlps", "initial": 2.0},
}
ABLE = [name for name in METHODS if "avoid" in METHODS.get(name).parameters]
GRAPH = Graph(1, 2)
NAMES = ["input->a0.h1<v>", "a0.h1->logits", "m0->logits"]


def found(name, **changes):
    method = METHODS.get(name)
    given = method.resolve(SHORT[name] | changes)
    return method.discover(small_model(n_layers=1), small_data(), ablation=PATCH, objective=KL, seed=3, **given)


def open_chance(log_alpha):
    """P(gate > 0) of a hard concrete gate, by the formula of Louizos et al."""
    return 1 / (1 + math.exp(-(log_alpha - BETA * math.log(-GAMMA / ZETA))))


def test_every_method_that_trains_masks_can():
    assert set(ABLE) == set(SHORT)


def test_the_penalty_is_the_mean_over_the_circuit_s_edges_and_zero_where_nothing_is_shared():
    likely = torch.zeros(2, GRAPH.n_edges, dtype=torch.float64)
    names = [str(edge) for edge in GRAPH.edges]
    for value, name in zip((0.2, 0.5, 0.9), NAMES, strict=True):
        likely[0, names.index(name)] = value
    others = torch.tensor([name not in NAMES for name in names])
    likely[1, others] = 1.0  # all but the circuit: nothing is shared
    base = torch.tensor([1.0, 2.0], dtype=torch.float64)
    loss = avoiding(lambda step: (base, {"kept": base}), GRAPH, NAMES, 3.0, lambda: likely)
    total, terms = loss(0)
    assert total.tolist() == pytest.approx([1 + 3 * (0.2 + 0.5 + 0.9) / 3, 2.0]) and total[1] == 2.0
    assert terms["overlap"].tolist() == pytest.approx([1.6 / 3, 0.0]) and terms["kept"] is base


def test_no_circuit_is_no_penalty_and_a_strange_edge_is_refused():
    def loss(step):
        raise AssertionError

    assert avoiding(loss, GRAPH, (), 3.0, lambda: torch.zeros(1)) is loss
    with pytest.raises(DataError, match="no edge 'a0.h1->a0.h0<q>'"):
        avoiding(loss, GRAPH, ["a0.h1->a0.h0<q>"], 1.0, lambda: torch.zeros(1))


@pytest.mark.parametrize("name", ABLE)
def test_a_weight_of_zero_changes_nothing_and_another_does(name):
    plain, none = found(name), found(name, avoid=NAMES, avoid_weight=0.0)
    assert torch.equal(plain.scores.values.nan_to_num(), none.scores.values.nan_to_num())
    away, towards = (found(name, avoid=NAMES, avoid_weight=weight) for weight in (1000.0, -1000.0))
    shared = GRAPH.matrix(NAMES)
    assert (away.scores.values[shared] < towards.scores.values[shared]).all()


@pytest.mark.parametrize("name", ABLE)
def test_the_first_loss_is_larger_by_the_weight_times_the_overlap_by_hand(name):
    """Before the first step every method's gates are where they start, and the overlap can be written down."""
    curves = [found(name, **changes).diagnostics for changes in ({}, {"avoid": NAMES, "avoid_weight": 2.5})]
    plain, avoided = (each.get("curve") or each["edge_curve"] for each in curves)
    share = (0.9 - GAMMA) / (ZETA - GAMMA)
    noise = Seeds([3], small_model(n_layers=1))
    names, writers = [str(edge) for edge in GRAPH.edges], GRAPH.writers
    if name == "ibcircuit":  # an edge has the less open of its ends; the input and the logits are open
        gates = dict(zip(writers[1:], noise.starting_at(2.0, 3)[0].sigmoid().tolist(), strict=True))
        by_hand = [gates["a0.h1"], gates["a0.h1"], gates["m0"]]
        check_first(plain, avoided, sum(by_hand) / 3)
        return
    first = {
        "subnetwork-probing": lambda: [math.log(share / (1 - share))] * GRAPH.n_edges,
        "ugs": lambda: [1.0] * GRAPH.n_edges,
        "discogp": lambda: behind_weights(noise).starting_at(1.0, GRAPH.n_edges)[0].tolist(),
        "edge-pruning": lambda: noise.starting_at(2.0, GRAPH.n_edges)[0].tolist(),
    }[name]()
    chance = open_chance if name in ("subnetwork-probing", "edge-pruning") else lambda logit: 1 / (1 + math.exp(-logit))
    each = [chance(value) for value in first]
    nodes = [1.0] * len(GRAPH.writers)
    if name == "edge-pruning":
        nodes = [open_chance(value) for value in noise.starting_at(2.0, len(GRAPH.writers))[0].tolist()]
    by_hand = [each[names.index(edge)] * nodes[writers.index(edge.partition("->")[0])] for edge in NAMES]
    check_first(plain, avoided, sum(by_hand) / len(by_hand))


def behind_weights(noise):
    """DiscoGP draws where the gates of weights start first, also where they are not trained."""
    for name, weight in small_model(n_layers=1).named_parameters():
        if is_masked(name):
            noise.starting_at(1.0, *weight.shape)
    return noise


def check_first(plain, avoided, overlap):
    assert avoided["overlap"][0] == pytest.approx([overlap], rel=1e-5) and "overlap" not in plain
    assert avoided["loss"][0][0] - plain["loss"][0][0] == pytest.approx(2.5 * overlap, rel=1e-4)


def test_training_equals_a_plain_program_s():
    """Subnetwork Probing written down as a loop with torch's AdamW and the penalty edge by edge."""
    model, data, steps = small_model(n_layers=1), small_data(), 6
    chosen = METHODS.get("subnetwork-probing")
    given = chosen.resolve({"steps": steps, "regularisations": [0.1], "avoid": NAMES, "avoid_weight": 2.0})
    mine = chosen.discover(model, data, ablation=PATCH, objective=KL, seed=3, **given)
    share = (0.9 - GAMMA) / (ZETA - GAMMA)
    gates = torch.full((1, GRAPH.n_edges), math.log(share / (1 - share)), dtype=model.dtype, requires_grad=True)
    chance, prompts = Seeds([3], model), TrainingBatches(model, data, PATCH, KL, seeds=[3], batch_size=32)
    optimiser = torch.optim.AdamW([gates], lr=0.1, weight_decay=0.0)
    names = [str(edge) for edge in GRAPH.edges]
    for _ in range(steps):
        ready, u = prompts.draw(), chance.uniform(GRAPH.n_edges).clamp(1e-4, 1 - 1e-4)
        masks = torch.zeros(1, *GRAPH.exists.shape, dtype=model.dtype)
        for i, edge in enumerate(GRAPH.edges):
            masks[(0, *GRAPH.index(edge))] = hard_concrete(gates[0, i], u[0, i])
        opened = [(gates[0, i] - BETA * math.log(-GAMMA / ZETA)).sigmoid() for i in range(GRAPH.n_edges)]
        penalty = 2.0 * sum(opened[names.index(edge)] for edge in NAMES) / len(NAMES)
        loss = prompts.loss(ready, masks)[0] + 0.1 * sum(opened) / len(opened) + penalty
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert mine.scores.flat() == pytest.approx(gates.detach()[0].sigmoid().tolist(), rel=1e-6)


def test_an_edge_whose_node_has_a_gate_is_as_likely_as_both():
    edges, nodes = torch.randn(2, GRAPH.n_edges).double(), torch.randn(2, len(GRAPH.writers)).double()
    likely = edge_pruning.edges_open(GRAPH, [edges, nodes])
    for i, edge in enumerate(GRAPH.edges):
        for mask in range(2):
            both = open_chance(float(edges[mask, i])) * open_chance(
                float(nodes[mask, GRAPH.writers.index(edge.writer)])
            )
            assert float(likely[mask, i]) == pytest.approx(both)
    assert edge_pruning.edges_open(GRAPH, [edges]).shape == (2, GRAPH.n_edges)


def test_gates_of_nodes_are_pressed_where_an_edge_to_avoid_depends_on_them():
    given = {"level": "node", "avoid": [NAMES[0]]}
    away, towards = (found("subnetwork-probing", **given, avoid_weight=weight) for weight in (1000.0, -1000.0))
    assert away.scores.values[GRAPH.index(NAMES[0])] < towards.scores.values[GRAPH.index(NAMES[0])]


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])
def test_the_backup_is_found_where_the_first_head_is_avoided(first):
    truth = ground_truth.load("gates/backup")
    minimal = truth.reference("zero").minimal
    method = METHODS.get("subnetwork-probing")
    given = method.resolve({"steps": 500, "regularisations": [0.1], "avoid": minimal[first].names})
    how = {"ablation": Ablation.parse("zero"), "objective": OBJECTIVES.get("l2"), "seed": 0}
    with_it = method.discover(truth.model(), tasks.load("gates/backup").data(), **how, **given)
    judged = plurality_of_scores(with_it.scores, minimal, avoided=minimal[first])
    assert (judged.verdict, judged.contains, judged.avoided) == ("minimal", (1 - first,), first)


# ---- the command -----------------------------------------------------------------------------------------------------


def asked(*arguments):
    parser = ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([*map(str, arguments)]))


def test_discover_avoids_the_circuit_of_a_file(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    on = ("--task", "gates/backup", "--ablation", "zero", "--objective", "l2", "--device", "cpu")
    few = ("--method", "subnetwork-probing", "--set", "steps=3", "regularisations=0.1")
    assert asked(*on, *few, "--top", 3, "--out", first) == 0
    assert asked(*on, *few, "--top", 3, "--avoid", first, "--out", second) == 0
    written = json.loads(second.read_text())["circuitmeter"]
    kept = {name for name, edge in json.loads(first.read_text())["edges"].items() if edge["in_graph"]}
    assert set(written["parameters"]["avoid"]) == kept and len(kept) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--method", "eap"), SpecError, "for methods that train masks .*subnetwork-probing.*; eap trains none"),
        (("--method", "ugs", "--set", "avoid=m0->logits"), SpecError, "given twice"),
        (("--method", "ugs"), DataError, "no edge, so there is nothing to avoid"),
    ],
)
def test_what_cannot_be_avoided_is_refused_in_one_line(arguments, error, message, tmp_path):
    truth, path = ground_truth.load("gates/backup"), tmp_path / "empty.json"
    save(path, Circuit.of(truth.graph, []), None, d_model=truth.config.d_model, origin=Origin())
    on = ("--task", "gates/backup", "--ablation", "zero", "--objective", "l2", "--out", tmp_path / "c.json")
    with pytest.raises(error, match=message) as refused:
        asked(*on, *arguments, "--avoid", path)
    assert isinstance(refused.value, CircuitMeterError) and "\n" not in str(refused.value)
