"""Nulls, adversaries, exact patching: on models whose circuits are known, and against plain programs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import Undefined
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.faithfulness import measure_circuits
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.intervention.setting import Cut
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.content import content_hash
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.scoring.structure.complement import (
    blocks_of,
    complement_cuts,
    interval_over_prompts,
    subset_of,
    worst_subset,
)
from circuitmeter.suite.scoring.structure.exact_patching import beside_exact, explained, rank_agreement
from circuitmeter.suite.scoring.structure.null_controls import null_data, null_model

PATCH, OBJECTIVE = Ablation.parse("patch"), OBJECTIVES.get("answer-difference")


@pytest.fixture
def prompts():
    generator = torch.Generator().manual_seed(0)
    clean, other = torch.randint(1, 9, (2, 6, 7), generator=generator)
    clean[:, 0] = other[:, 0] = 0
    lengths = torch.tensor([7, 7, 6, 5, 7, 4])
    read = torch.arange(7) == lengths[:, None] - 1
    answers = torch.arange(6)[:, None]
    return Data(clean, other, read, lengths, answers=answers, wrong=answers + 10)


def test_reset_weights_are_the_same_numbers_elsewhere():
    on = subject("tracr/hist", None)
    before = content_hash(on.model)
    model = null_model("reset-weights", on.model, seed=1)
    assert null_data("reset-weights", on.data) is on.data and content_hash(on.model) == before != model.weights_hash
    for (name, ours), theirs in zip(on.model.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(ours.flatten().sort().values, theirs.flatten().sort().values), name
    again = null_model("reset-weights", on.model, seed=1)
    assert again.weights_hash == model.weights_hash


def test_permuted_labels_are_those_of_another_prompt(prompts):
    model = subject("tracr/hist", None).model
    data = null_data("permuted-labels", prompts)
    assert null_model("permuted-labels", model) is model and torch.equal(data.clean, prompts.clean)
    assert sorted(data.answers.flatten().tolist()) == list(range(6)) and (data.answers != prompts.answers).all()
    assert torch.equal(data.wrong, data.answers + 10)  # right and wrong stay together


def test_nonsense_has_the_same_words_in_another_order(prompts):
    data = null_data("nonsense", prompts)
    moved = 0
    for row, length in enumerate(prompts.lengths.tolist()):
        pairs = {
            name: list(zip(each.clean[row].tolist(), each.counterfactual[row].tolist(), strict=True))
            for name, each in (("before", prompts), ("after", data))
        }
        assert sorted(pairs["before"][:length]) == sorted(pairs["after"][:length])  # moved together
        for kept in (0, length - 1, *range(length, 7)):
            assert pairs["before"][kept] == pairs["after"][kept]
        moved += pairs["before"] != pairs["after"]
    assert moved >= 5


@pytest.mark.parametrize("kind", ["permuted-labels", "nonsense"])
def test_a_program_has_no_labels(kind):
    on = subject("tracr/hist", None)
    with pytest.raises(Undefined, match="no answers"):
        null_data(kind, on.data)


def test_the_worst_subset_of_effects_that_add_up_is_those_that_hurt():
    effects = np.random.default_rng(0).normal(size=12)
    rest = torch.zeros(3, 4, dtype=torch.bool) | True
    blocks = blocks_of(rest)

    def faithfulness(cut):
        return 1 - cut.flatten(1).numpy() @ effects

    chosen, lowest, evaluated = worst_subset(faithfulness, blocks, torch.rand(4, 12) < 0.5, 1e-9)
    assert chosen.flatten().tolist() == (effects > 0).tolist()
    assert lowest == pytest.approx(1 - effects[effects > 0].sum())
    assert 5 + 12 + 1 <= evaluated <= 5 + 3 * 13


@pytest.mark.parametrize("seed", range(5))
def test_where_effects_interact_no_single_change_is_worse_and_few_subsets_are(seed):
    generator = np.random.default_rng(seed)
    alone, pairs = generator.normal(size=8), generator.normal(size=(8, 8))
    blocks = blocks_of(torch.ones(2, 4, dtype=torch.bool))

    def faithfulness(cut):
        x = cut.flatten(1).numpy().astype(float)
        return 1 - x @ alone - np.einsum("ci,ij,cj->c", x, pairs, x) / 4

    drawn = torch.rand(32, 8, generator=torch.Generator().manual_seed(seed)) < 0.5
    chosen, lowest, _ = worst_subset(faithfulness, blocks, drawn, 1e-9)
    assert lowest == pytest.approx(faithfulness(chosen[None])[0])
    flips = chosen.flatten() ^ torch.eye(8, dtype=torch.bool)
    assert (faithfulness(flips.view(8, 2, 4)) >= lowest - 1e-9).all()
    every = torch.tensor(list(itertools.product((False, True), repeat=8)))
    values = faithfulness(subset_of(blocks, every))
    assert (values < lowest - 1e-9).mean() < 0.05


@pytest.mark.parametrize("beside", np.linspace(0, 1e-6, 9))
def test_rounding_changes_no_worst_subset(beside):
    """Half of the blocks do nothing; what is around 1e-8 is another at every call, as on another processor."""
    effects = np.r_[0.25 + beside, -0.5, 0.75, 0.25, np.zeros(8)]
    blocks = blocks_of(torch.ones(3, 4, dtype=torch.bool))
    drawn = torch.rand(4, 12, generator=torch.Generator().manual_seed(0)) < 0.5

    def found(seed):
        noise = np.random.default_rng(seed)
        return worst_subset(
            lambda cut: 1 - cut.flatten(1).numpy() @ effects + noise.normal(0, 1e-8, len(cut)), blocks, drawn, 1e-6
        )

    (chosen, lowest, evaluated), others = found(0), [found(seed) for seed in range(1, 6)]
    assert lowest == pytest.approx(-0.25, abs=1e-5) and all(evaluated == other[2] for other in others)
    assert all(torch.equal(chosen, other[0]) for other in others)


def test_many_edges_are_blocks_by_the_node_that_they_leave():
    rest = torch.zeros(30, 40, dtype=torch.bool)
    rest[:20] = True
    blocks = blocks_of(rest)
    assert len(blocks) == 20 and torch.equal(blocks.any(0), rest) and (blocks.flatten(1).sum(1) == 40).all()


def test_heads_that_cancel_are_found_by_the_worst_subset_alone():
    """The circuit is without two heads that add up to nothing: faithful with both cut, not with one."""
    on = subject("gates/cancelling", None)
    truth = on.reference(PATCH)
    circuit = Circuit(on.model.graph, truth.core)
    found = complement_cuts(on.model, on.data, on.data, circuit, PATCH, OBJECTIVES.get("l2"), subsets=16)
    assert found.undefined is None and found.whole == pytest.approx(1, abs=1e-4)
    assert found.worst < 0.9 and found.low <= found.worst <= found.high
    assert found.worst == pytest.approx(found.searched) and 0 < found.edges < found.of
    whole = Circuit(on.model.graph, on.model.graph.exists)
    assert "no complement" in complement_cuts(on.model, on.data, on.data, whole, PATCH, OBJECTIVE).undefined


def test_the_whole_complement_is_undefined_where_faithfulness_is():
    """The circuit and its complement change nothing that is measured: one number is left, and no share of it."""
    on = subject("tracr/hist", None, prompts=8)
    same = replace(on.data, counterfactual=on.data.clean)
    circuit = Circuit(on.model.graph, on.reference(PATCH).core)
    found = complement_cuts(on.model, same, same, circuit, PATCH, OBJECTIVES.get("kl"), subsets=2)
    assert "equal up to rounding" in found.undefined


def test_random_halves_are_of_held_out_prompts():
    on = subject("tracr/hist", None)
    searched, held_out = on.data.select(torch.arange(8)), on.data.select(torch.arange(40, 56))
    circuit = Circuit(on.model.graph, on.reference(PATCH).core & False)
    args = (circuit, Ablation.parse("zero"), OBJECTIVES.get("l2"))
    found, alone = (complement_cuts(on.model, each, held_out, *args, subsets=8) for each in (searched, held_out))
    assert (found.random, found.random_low) == (alone.random, alone.random_low) and found.searched != alone.searched


def test_random_halves_have_the_faithfulness_of_the_circuits_that_are_left():
    """Under zero what dead ends write matters: evaluations leave them out."""
    on, zero, l2 = subject("trained/shift1", None, prompts=6), Ablation.parse("zero"), OBJECTIVES.get("l2")
    graph = on.model.graph
    found = complement_cuts(on.model, on.data, on.data, Circuit(graph, graph.exists & False), zero, l2, subsets=8)
    blocks = blocks_of(graph.exists)
    drawn = torch.rand(8, len(blocks), generator=torch.Generator().manual_seed(0)) < 0.5
    left = [Circuit(graph, graph.exists & ~edges) for edges in subset_of(blocks, drawn)]
    pruned, unpruned = (
        measure_circuits(on.model, on.data, left, Cut(zero, pruning=pruning), l2).faithfulness().mean().item()
        for pruning in ("pruned", "unpruned")
    )
    assert found.random == pytest.approx(pruned, abs=1e-6) and abs(pruned - unpruned) > 1e-4


def test_intervals_of_faithfulness_cover_it_at_the_stated_rate():
    generator = np.random.default_rng(0)
    covered = 0
    for repetition in range(200):
        full = torch.from_numpy(generator.normal(2, 1, size=40))
        own = 0.6 * full + torch.from_numpy(generator.normal(0, 0.5, size=40))
        low, high = interval_over_prompts([(own, 0 * full, full)], seed=repetition)
        covered += low <= 0.6 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_scores_that_are_the_effects_explain_them_all():
    on = subject("tracr/hist", None, prompts=20)
    exact = METHODS.get("exact").discover(on.model, on.data, ablation=PATCH, objective=OBJECTIVE).scores
    found = beside_exact(on.model, on.data, exact, PATCH, OBJECTIVE)
    assert (found.rank, found.explained) == (pytest.approx(1), pytest.approx(1, abs=1e-6))
    assert found.edges == on.model.graph.n_edges
    other = METHODS.get("eap").discover(on.model, on.data, ablation=PATCH, objective=OBJECTIVE).scores
    found = beside_exact(on.model, on.data, other, PATCH, OBJECTIVE, edges=9)
    assert found.edges == 9 and found.rank_low <= found.rank <= found.rank_high
    assert found.explained_low <= found.explained <= found.explained_high <= 1


def test_both_numbers_are_those_of_plain_programs():
    generator = np.random.default_rng(1)
    scores, effects = generator.normal(size=(2, 30))
    assert rank_agreement(scores, effects) == pytest.approx(spearmanr(abs(scores), abs(effects)).statistic)
    assert explained(2 * effects, effects) == pytest.approx(0) and explained(0 * effects, effects) == 0
    assert np.isnan(rank_agreement(np.ones(5), np.arange(5.0))) and np.isnan(explained(np.ones(5), np.zeros(5)))
