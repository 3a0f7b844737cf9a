"""CutCandidates by what they change are candidates by masks: the same losses, whatever was taken, split or run anew.

Losses are compared in float64 to 1e-9: inputs are summed in another order, and nothing else differs.
"""

import numpy as np
import pytest
import torch
from feature_models import feature_model
from oracles import ARCHITECTURES, INPUTS, small_data, small_model

from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention import cut_candidates as module
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.cut_candidates import ByDescendants, ByMasks, HeldCircuit, candidates_of
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.passes import count_passes


def evaluator(model, ablation="patch", data=None, **given):
    return Evaluator(model, data or small_data(n=3), Ablation.parse(ablation), OBJECTIVES.get("kl"), **given)


def several_lengths() -> Data:
    """Prompts of two lengths, hence two batches, read at one position or at three."""
    whole = small_data(n=4)
    lengths = torch.tensor([5, 4, 5, 4])
    read = torch.zeros_like(whole.read)
    read[:, 3] = True
    read[0, :3] = True
    return Data(whole.clean, whole.counterfactual, read, lengths=lengths, answers=whole.answers, wrong=whole.wrong)


def drawn(rng, circuit, group, n):
    """CutCandidates that cut more and more edges into a group's readers, a third of them each."""
    found, kept = [], circuit.kept
    for _ in range(n):
        kept = kept.copy()
        kept[:, group.readers] &= rng.random(kept[:, group.readers].shape) < 0.7
        found.append(kept)
    return found


def walk(searched, n_circuits=3, seed=0):
    """From the logits down: candidates of each circuit, of which one is taken; on the way circuits are split."""
    rng, graph = np.random.default_rng(seed), searched.model.graph
    fast, plain = ByDescendants(searched, n_circuits), ByMasks(searched)
    circuits = [HeldCircuit(graph.existing.copy())]
    for group in [group for group in reversed(graph.groups) if group.reads]:
        fast.enter(group)
        for _ in range(2):
            live = [circuit for circuit in circuits if not fast.without_effect(circuit, group).all()]
            asked = [(circuit, drawn(rng, circuit, group, 1 + int(rng.integers(3)))) for circuit in live]
            for part in ([asked] if rng.random() < 0.5 else [[each] for each in asked]) if asked else []:
                part = part[: fast._n_slots]
                found, expected = fast.losses(group, part), plain.losses(group, part)
                for got, wanted in zip(found, expected, strict=True):
                    assert 1 <= len(got) <= len(wanted)
                    np.testing.assert_allclose(got, wanted[: len(got)], rtol=0, atol=1e-9)
                for (circuit, candidates), got in zip(part, found, strict=True):
                    chosen = int(rng.integers(len(got)))
                    if len(circuits) < n_circuits:
                        circuits.append(fast.split(circuit))
                        fast.take(circuits[-1], candidates[len(got) - 1], len(got) - 1)
                    fast.take(circuit, candidates[chosen], chosen)
    assert len(circuits) == n_circuits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_are_those_by_masks_in_every_architecture(architecture):
    walk(evaluator(small_model(**ARCHITECTURES[architecture])))


@pytest.mark.parametrize("ablation", ["mean", "mean-positional", "zero", "resample", "noise"])
def test_losses_are_those_by_masks_under_every_ablation(ablation):
    walk(evaluator(small_model(n_layers=2), ablation))


@pytest.mark.parametrize("inputs", INPUTS)
def test_losses_are_those_by_masks_with_every_input_and_in_batches_of_several_lengths(inputs):
    walk(evaluator(small_model(inputs), data=several_lengths()))


def test_losses_are_those_by_masks_where_all_positions_are_read():
    whole = small_data(n=3)
    walk(evaluator(small_model(), data=Data(whole.clean, whole.counterfactual, torch.ones_like(whole.read))))


@pytest.mark.parametrize("budget", ["_CIRCUITS", "_CANDIDATES", "_TOGETHER"])
def test_losses_are_those_by_masks_where_little_fits(budget, monkeypatch):
    monkeypatch.setattr(module, budget, 1)
    walk(evaluator(small_model()))


def test_without_effect_names_cuts_that_change_nothing():
    searched = evaluator(small_model())
    graph, fast, plain = searched.model.graph, ByDescendants(searched, 1), ByMasks(searched)
    kept = graph.existing.copy()
    kept[graph.index("m2->logits")] = False  # the last MLP is a dead end, and its edges are nobody's
    circuit, group = HeldCircuit(kept), graph.group["mlp", 2]
    assert fast.without_effect(circuit, group).all()
    assert not fast.without_effect(circuit, graph.group["head", 2]).any()
    none = kept.copy()
    none[:, group.readers] = False
    whole, without = plain.losses(group, [(circuit, [kept, none])])[0]
    assert whole == pytest.approx(without, abs=1e-12)
    same = Data(searched.data.clean, searched.data.clean, searched.data.read)
    assert ByDescendants(evaluator(small_model(), data=same), 1).without_effect(circuit, graph.groups[-1]).all()


def test_a_candidate_computes_what_it_changes_alone():
    searched = evaluator(small_model(n_layers=3))
    graph, fast, n = searched.model.graph, ByDescendants(searched, 1), searched.data.n
    kept = graph.existing.copy()
    head = graph.writers.index("a0.h0")
    kept[head] = False
    kept[head, -1] = True  # what the head writes is read by the logits alone
    circuit, group = HeldCircuit(kept), graph.group["head", 0]
    fast.enter(group)
    fast.losses(group, [(circuit, [kept])])  # its own run
    without = kept.copy()
    without[0, group.readers.start] = False
    with count_passes() as passes:
        fast.losses(group, [(circuit, [without] * 4)])
    config = searched.model.config
    a_head, an_mlp = 4 * config.d_head, 2 * config.d_mlp
    assert passes.forward == pytest.approx(4 * n * a_head / (3 * (2 * a_head + an_mlp)))


def test_what_descendants_do_not_know_goes_by_masks(monkeypatch):
    model = small_model(n_layers=2)
    assert isinstance(candidates_of(evaluator(model), 3), ByDescendants)
    cut_at = small_data(n=3).read
    others = [
        evaluator(feature_model(model, ["mlp_out.0"], nodes=(0, 3))),
        evaluator(model, "optimal"),
        evaluator(model, cut_at=cut_at),
        evaluator(model, denoising=True),
    ]
    assert all(isinstance(candidates_of(each, 3), ByMasks) for each in others)
    monkeypatch.setattr(module, "_CIRCUIT", 0)
    assert isinstance(candidates_of(evaluator(model), 3), ByMasks)
