"""Circuits of the mini model: scores that batches and padding do not change, and what exact patching says."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import spearmanr

from circuitmeter import tasks
from circuitmeter.suite import cli
from circuitmeter.suite.ablation import Ablation
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.harness.models import load_model, load_tokenizer
from circuitmeter.suite.harness.spec import Spec
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.objective import OBJECTIVES

PATCH = Ablation.parse("patch")


@pytest.fixture(scope="module")
def model():
    return load_model("mini", device="cpu")


def prompts(name: str, n: int) -> tuple[Data, str]:
    """``n`` training prompts of a task, of several lengths, and the task's objective."""
    task = tasks.load(name).on(load_tokenizer("mini"))
    return task.data("train").select(torch.arange(n)), task.objective


def scores(method, model, data, objective, **parameters):
    return (
        METHODS.get(method)
        .discover(model, data, ablation=PATCH, objective=OBJECTIVES.get(objective), seed=0, truth=None, **parameters)
        .scores.flat()
    )


def assert_same(found, expected):
    assert abs(found - expected).max() <= 1e-6 * abs(expected).max()


@pytest.fixture(scope="module")
def exact(model):
    """Task -> its exact scores on 24 prompts."""
    return {name: scores("exact", model, *prompts(name, 24)) for name in ("ioi", "greater-than")}


def always_padded(monkeypatch):
    bucketed = Data.batches
    monkeypatch.setattr(Data, "batches", lambda self, size, padded=False: bucketed(self, size, padded=True))


def test_padding_batches_and_order_change_no_score_of_eap(model, monkeypatch):
    data, objective = prompts("ioi", 24)
    assert len(data.lengths.unique()) > 3
    expected = scores("eap", model, data, objective)
    assert_same(scores("eap", model, data, objective, batch_size=5), expected)
    assert_same(scores("eap", model, data.select(torch.arange(data.n).flip(0)), objective), expected)
    always_padded(monkeypatch)
    assert_same(scores("eap", model, data, objective), expected)


def test_padding_and_batches_change_no_exact_score(model, exact, monkeypatch):
    always_padded(monkeypatch)
    assert_same(scores("exact", model, *prompts("ioi", 24), batch_size=7), exact["ioi"])


@pytest.mark.parametrize("name", ["ioi", "greater-than"])
def test_gradients_rank_edges_as_exact_patching_does(name, model, exact):
    data, objective = prompts(name, 24)
    found = {method: abs(scores(method, model, data, objective)) for method in ("eap", "eap-ig")}
    agreement = {method: spearmanr(values, abs(exact[name]))[0] for method, values in found.items()}
    assert agreement["eap"] > 0.6 and agreement["eap-ig"] > 0.8, agreement


def test_heads_of_the_last_layer_matter_to_ioi_and_not_to_greater_than(model, exact):
    """What exact patching says of the edges out of a layer-1 head, beside the largest effect of any edge."""
    late = [i for i, edge in enumerate(model.graph.edges) if edge.writer.startswith("a1.")]
    share = {name: abs(values[late]).max() / abs(values).max() for name, values in exact.items()}
    assert share["greater-than"] < 0.01 and share["ioi"] > 0.05, share


def test_discover_and_evaluate_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--task", "greater-than@random-year+bos", "--model", "mini-seed1"]
    assert cli.main(["discover", *arguments, "--method", "eap", "--top", "40", "--out", "c.json"]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", "c.json", *arguments, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["objective"] == "probability-difference" and row["full"] > 0.3 and row["cut"] < row["full"]


def test_a_task_as_text_needs_a_model_with_a_tokenizer(tmp_path, capsys):
    arguments = ["--method", "eap", "--out", str(tmp_path / "c.json")]
    assert cli.main(["discover", "--task", "ioi", "--model", "tracr/reverse", *arguments]) == 2
    assert "the task ioi is text, and tracr/reverse has no tokenizer" in capsys.readouterr().err
    assert cli.main(["discover", "--task", "ioi", *arguments]) == 2
    assert "give --model" in capsys.readouterr().err


def test_a_benchmark_runs_tasks_as_text_on_models():
    grid = {
        "task": ["ioi@flip+bos", "greater-than*"],
        "model": ["mini", "mini-seed1"],
        "method": "eap",
        "ablation": "patch",
    }
    cells = Spec.of({"name": "x", "grid": grid}).cells()
    assert [(cell.task, cell.model) for cell in cells] == [
        (task, model) for task in ("ioi@flip+bos", "greater-than") for model in ("mini", "mini-seed1")
    ]
    assert cells[0].undefined is None and cells[0].data == cells[1].data and cells[0].weights != cells[1].weights
    assert [cell.objective for cell in cells[1:3]] == ["logit-difference", "probability-difference"]


def test_circuits_are_scored_against_published_ones_on_their_own_graph():
    from circuitmeter.ground_truth import manual
    from circuitmeter.suite.verbs.evaluate import certified, recovery
    from circuitmeter.suite.verbs.problem import reference

    published = manual.load("ioi/eap-ig")
    same = SimpleNamespace(circuit=Circuit(published.graph, published.core), scores=None)
    assert recovery(same, published)["f1"] == 1.0
    gpt2 = SimpleNamespace(model=SimpleNamespace(graph=published.graph))
    setting = SimpleNamespace(cut=SimpleNamespace(ablation=PATCH))
    assert certified("ioi/acdc", gpt2, [setting])["ioi/acdc"].certified is False
    with pytest.raises(DataError, match="Their edges cannot be compared"):
        reference("ioi/acdc", load_model("mini", device="cpu"), PATCH)
