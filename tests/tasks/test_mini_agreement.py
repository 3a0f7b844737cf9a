"""What docs/mini-models.md says of methods against exact patching is what is measured, for some of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan.subject import subject

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def agreement():
    spec = importlib.util.spec_from_file_location("mini_agreement", ROOT / "benchmarks" / "mini_agreement.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.agreement


@pytest.mark.parametrize(("task", "column"), [("ioi", 1), ("greater-than", 4)])
def test_methods_agree_with_exact_patching_as_documented(task, column, agreement):
    lines = (ROOT / "docs" / "mini-models.md").read_text(encoding="utf-8").splitlines()
    table = {
        row[0].strip("`"): row for line in lines if len(row := [c.strip() for c in line.strip("| ").split("|")]) == 7
    }
    found = list(agreement("mini", task, 50, ["eap", "eap-ig", "relp"]))
    assert [row["method"] for row in found] == ["eap", "eap-ig", "relp"]
    for row in found:
        documented = [float(number) for number in table[row["method"]][column : column + 3]]
        assert documented == pytest.approx([row["spearman"], row["at 10 %"], row["at 30 %"]], abs=0.011), row["method"]


@pytest.mark.slow
def test_one_edge_decides_pearsons_correlation_on_sva_as_documented():
    """And two edges from the input stand in for each other, so that exact patching of one alone finds little."""
    on, patch, objective = subject("sva", "mini"), Ablation.parse("patch"), OBJECTIVES.get("probability-difference")
    given = {"ablation": patch, "objective": objective, "seed": 0, "truth": None}

    def search(name):
        method = METHODS.get(name)
        return method.discover(on.model, on.data, **given, **method.resolve({}, None)).scores.values

    graph = on.model.graph
    exact, eap, eap_ig = (search(name) for name in ("exact", "eap", "eap-ig"))
    one = graph.writers.index("m1"), graph.readers.index("logits")
    others = graph.exists.clone()
    others[one] = False

    def correlation(scores, edges):
        return np.corrcoef(scores[edges].abs(), exact[edges].abs())[0, 1]

    assert [correlation(each, graph.exists) for each in (eap, eap_ig)] == pytest.approx([0.85, 0.36], abs=0.01)
    assert [correlation(each, others) for each in (eap, eap_ig)] == pytest.approx([0.55, 0.88], abs=0.01)
    assert [float(each[one]) for each in (exact, eap_ig)] == pytest.approx([1.13, 0.26], abs=0.01)
    assert float(exact[others].abs().max()) == pytest.approx(0.16, abs=0.01)

    inputs, redundant = (graph.writers.index("input"), [graph.readers.index(f"a0.h{head}<v>") for head in (2, 3)])
    both = graph.exists.clone()
    both[inputs, redundant] = False
    cut, whole = Evaluator(on.model, on.data, patch, objective).per_example(torch.stack([both, graph.exists]))
    assert float((cut - whole).mean()) == pytest.approx(1.45, abs=0.01)
    sums = [float(each[inputs, redundant].sum()) for each in (exact, eap_ig, eap)]
    assert sums == pytest.approx([0.26, 1.22, 0.01], abs=0.01)
