"""Which structures a method misses: what counts as found, and what the gates tell about methods."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from circuitmeter import ground_truth, tasks
from circuitmeter.ground_truth.gates.catalogue import GATES
from circuitmeter.reports.diagnostics import finds, structure_table, structures
from circuitmeter.suite.ablation import Ablation
from circuitmeter.suite.harness.run import run
from circuitmeter.suite.harness.spec import Spec
from circuitmeter.suite.harness.store import Store
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.objective import OBJECTIVES


def scored(graph, **scores):
    return np.array([scores.get(str(edge), 0.0) for edge in graph.edges])


def test_any_minimal_circuit_counts_and_a_tie_across_its_border_does_not():
    graph = ground_truth.load("gates/backup").graph
    claim = ground_truth.load("gates/backup").certificate["ablations"]["zero"]
    first, second = claim["circuits"]
    assert len(first) == 5 and set(first) & set(second) == {"m0->logits"}
    for circuit in (first, second):
        scores = scored(graph, **{edge: -1.0 - i for i, edge in enumerate(circuit)})
        assert finds(scores, graph, claim["circuits"])  # the sign does not matter
        tied = scores.copy()
        tied[np.abs(tied) == 1.0] = 0
        assert not finds(tied, graph, claim["circuits"])
    mixed = scored(graph, **{edge: 1.0 for edge in [*first[:3], *[e for e in second if e not in first][:2]]})
    assert not finds(mixed, graph, claim["circuits"])
    assert not finds(np.zeros(graph.n_edges), graph, claim["circuits"])


def test_the_gates_certificates_hold_their_minimal_circuits():
    for gate in GATES.values():
        for ablation, known in gate.known.items():
            claim = ground_truth.load(f"gates/{gate.name}").certificate["ablations"][ablation]
            assert len(claim["circuits"]) == known.n_circuits
            assert set.intersection(*map(set, claim["circuits"])) == known.core


def found(method, gate, objective):
    task, truth, chosen = tasks.load(f"gates/{gate}"), ground_truth.load(f"gates/{gate}"), METHODS.get(method)
    scores = chosen.discover(
        truth.model(),
        task.data(),
        ablation=Ablation.parse("patch"),
        objective=OBJECTIVES.get(objective),
        seed=0,
        truth=truth.reference("patch"),
        **chosen.resolve({}),
    ).scores.flat()
    return finds(scores, truth.graph, truth.certificate["ablations"]["patch"]["circuits"])


@pytest.mark.parametrize(
    ("gate", "objective", "by"),
    [
        ("adder", "answer-difference", {"eap": True, "eap-ig": True, "exact": True}),
        ("adder", "l2", {"exact": True}),
        ("saturation", "answer-difference", {"eap": False, "eap-ig": True, "exact": True}),
        ("redundant", "answer-difference", {"eap": False, "exact": False}),
        # Signed effects of the pair cancel over prompts; squared ones are as large as those of what matters.
        ("cancelling", "answer-difference", {"exact": True}),
        ("cancelling", "l2", {"exact": False}),
        ("distractors", "answer-difference", {"eap": True, "exact": True, "magnitude": False}),
        ("position", "answer-difference", {"eap": True, "magnitude": False}),
    ],
)
def test_what_methods_miss(gate, objective, by):
    assert {method: found(method, gate, objective) for method in by} == by


def test_the_table_is_made_from_a_store_alone(tmp_path):
    spec = tmp_path / "few.toml"
    spec.write_text(
        '[[grid]]\ntask = ["gates/adder", "gates/saturation", "tracr/hist"]\nmethod = ["eap", "truth"]\n'
        'ablation = ["patch"]\nobjective = ["answer-difference"]\n'
    )
    store = tmp_path / "store"
    run(Spec.load(spec), store, executor="serial")
    table = structure_table(Store(store), list(Store(store).records()))
    assert set(table["structure"]) == {"adder", "saturation"}
    shown = structures(table)
    assert shown.loc[("patch", "eap"), "adder"] == 1 and shown.loc[("patch", "eap"), "saturation"] == 0
    assert structures(pd.DataFrame()).empty
