"""The benchmark gpt2-1 in a reduced form, from the specification to the report: two small models, few prompts."""

from __future__ import annotations

import pytest

from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.write import write_report
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan.spec import MethodChoice, Spec
from circuitmeter.suite.run import run

TASKS = ("ioi", "greater-than")


@pytest.fixture(scope="module")
def whole():
    return Spec.load("gpt2-1")


@pytest.fixture(scope="module")
def results(whole, tmp_path_factory):
    """Its first grid with three methods on two tasks, 12 prompts each, judged on 12 others; and the page."""
    changes = {"task": TASKS, "model": ("mini",), "ablation": ("patch",), "prompts": 12}
    methods = tuple(MethodChoice(name=name) for name in ("exact", "eap-ig", "random"))
    grid = whole.grid[0].model_copy(update=changes | {"method": methods})
    judged = whole.evaluation.model_copy(update={"ablation": ("patch",), "prompts": 12, "size": (0.1, 0.3, 0.6)})
    store = tmp_path_factory.mktemp("reduced") / "store"
    summary = run.run(whole.model_copy(update={"grid": (grid,), "evaluation": judged}), store, executor="serial")
    assert summary.done == 6 and not summary.failed
    return read_results(store), write_report(store, store).read_text(encoding="utf-8")


def test_it_has_all_methods_six_tasks_and_every_kind_of_model(whole):
    methods = {choice.name for grid in whole.grid for choice in grid.method}
    later = {"ensemble", "eap-hvp", "gate-aware", "ibcircuit", "peap"}  # in ``new-methods-1``
    assert methods == set(METHODS) - {"truth", *later}  # no truth is known here
    *six, eight = whole.grid
    assert {len(grid.task) for grid in six} == {6} and {len(grid.ablation) for grid in whole.grid} == {5}
    assert all({"gpt2", "mini"} <= set(grid.model) for grid in six)
    assert (eight.model, eight.task) == (("mini-8",), ("docstring", "induction"))


@pytest.mark.parametrize("task", TASKS)
def test_circuits_of_exact_patching_and_eap_ig_beat_random_ones(results, task):
    table = results[0].evaluated
    table = table[table["task"] == task]
    kept = table.pivot_table(index="size", columns="method", values="faithfulness", aggfunc="mean").sort_index()
    kept.index = kept.index.astype(float)
    assert list(kept.index) == [0.1, 0.3, 0.6] and not kept.isna().any(axis=None)
    for method in ("exact", "eap-ig"):
        assert kept[method].diff().min() > -0.01 and kept[method][0.3] > kept["random"][0.3] + 0.2, kept
        assert kept[method][0.6] > kept["random"][0.6] + 0.3 and kept[method][0.6] < 1.2, kept


def test_the_report_shows_faithfulness_by_size(results):
    read_back, page = results
    assert len(read_back.records) == 6 and set(read_back.evaluated["split"]) == {"validation"}
    assert 'id="faithfulness"' in page and "eap-ig" in page and "mini" in page
