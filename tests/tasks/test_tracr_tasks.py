"""The tasks of compiled programs: their rows, their splits, their hashes."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.errors import CircuitMeterError, SpecError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES

COMPILED = [name for name in tasks.tracr.names() if name.startswith("tracr/")]
PARTS = ("clean", "counterfactual", "read", "lengths", "reference")


@pytest.mark.parametrize("name", [name for name in COMPILED if "@" not in name or "reverse" in name])
def test_rows_are_inputs_of_the_domain_paired_with_other_inputs(name):
    task, truth = tasks.load(name), ground_truth.load(name)
    inputs = {
        tuple(row): tuple(read)
        for row, read in zip(truth.domain.tokens.tolist(), truth.domain.read.tolist(), strict=False)
    }
    for split in ("train", "test"):
        data = task.data(split)
        rows, others = data.clean.tolist(), data.counterfactual.tolist()
        assert all(clean != other for clean, other in zip(rows, others, strict=False))
        assert all(inputs[tuple(clean)] == tuple(read) for clean, read in zip(rows, data.read.tolist(), strict=False))
        assert all(tuple(other) in inputs for other in others)
        assert torch.equal(data.reference, torch.from_numpy(truth.domain.tokens))
        assert not data.read[:, 0].any()  # BOS
    assert task.data("test").clean.tolist() == truth.domain.tokens.tolist()
    claims = truth.certificate.ablations
    n_witnesses = sum(len(claim.witnesses) for ablation, claim in claims.items() if ablation != "noise")
    assert min(256, len(inputs)) <= task.data().n <= min(256, len(inputs)) + n_witnesses
    assert task.objective == "answer-difference"


@pytest.mark.parametrize("name", ["tracr/reverse", "tracr/hist", "tracr/majority_a", "tracr/xproportion@fixed"])
@pytest.mark.parametrize("ablation", ["patch", "zero", "mean", "mean-positional"])
def test_every_necessary_edge_has_an_effect_on_some_row(name, ablation):
    task, truth = tasks.load(name), ground_truth.load(name)
    necessary = truth.certificate.ablations[ablation].necessary
    model = truth.model(dtype=torch.float64)
    masks = torch.ones(len(necessary), *model.graph.exists.shape)
    for mask, edge in zip(masks, necessary, strict=False):
        mask[model.graph.index(edge)] = 0
    evaluator = Evaluator(model, task.data(), Ablation.parse(ablation), OBJECTIVES.get("l2"))
    moved = (evaluator.outputs(masks) - evaluator.outputs(torch.ones_like(masks[:1]))).abs().flatten(1).amax(1)
    assert float(moved.min()) > truth.certificate.tolerance


def test_large_domains_are_sampled_evenly_over_outputs():
    task, truth = tasks.load("tracr/sort"), ground_truth.load("tracr/sort")
    number = {
        tuple(row): c for row, c in zip(truth.domain.tokens.tolist(), truth.domain.classes.tolist(), strict=False)
    }
    seen = {number[tuple(row)] for row in task.data().clean.tolist()}
    assert len(truth.domain) > 256 and len(seen) == truth.domain.n_outputs


def test_hash_is_the_same_in_another_process_and_differs_between_tasks():
    code = "from circuitmeter import tasks; print(tasks.load('tracr/reverse').hash)"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert other.stdout.strip() == tasks.load("tracr/reverse").hash
    # Programs on one domain whose certificates have the same witnesses share their prompts, and so the hash.
    made = [tasks.load(name) for name in COMPILED]
    contents = {
        str([getattr(task.data(split), part).tolist() for split in task.splits for part in PARTS]) for task in made
    }
    assert len(contents) == len({task.hash for task in made}) > len(COMPILED) / 2


def test_dataset_has_the_rows_of_the_data():
    task = tasks.load("tracr/majority_a")
    dataset, data = task.dataset("train"), task.data("train")
    assert dataset.column_names == ["clean", "counterfactual", "read"]
    assert dataset["clean"][:] == data.clean.tolist() and dataset["counterfactual"][:] == data.counterfactual.tolist()
    assert dataset["read"][:] == data.read.tolist()


def test_a_variant_runs_on_the_same_model():
    assert tasks.load("tracr/reverse@fixed").model == "tracr/reverse"
    assert tasks.load("tracr/reverse@fixed").truth == "tracr/reverse@fixed"


def test_a_directory_is_a_task(tmp_path):
    source = ground_truth.load("tracr/hist").directory
    shutil.copytree(source, tmp_path / "mine")
    mine = tasks.load(tmp_path / "mine")
    assert mine.hash == tasks.load("tracr/hist").hash
    assert mine.model == mine.truth == str(tmp_path / "mine")
    fixed = tasks.load(f"{tmp_path / 'mine'}@fixed")
    assert fixed.hash == tasks.load("tracr/hist@fixed").hash and fixed.model == str(tmp_path / "mine")


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(SpecError, match="tracr/reverse"):
        tasks.load("tracr/revers")
    with pytest.raises(SpecError, match="train"):
        tasks.load("tracr/hist").data("trian")


def test_a_registered_task_is_found_and_a_name_is_taken_once(monkeypatch):
    name = "mine/registered"
    monkeypatch.setattr(tasks.TASKS, "_items", dict(tasks.TASKS._items))  # known to this test alone
    tasks.TASKS.add(name, lambda: tasks.load("tracr/hist"))
    assert name in tasks.names() and tasks.load(name).name == "tracr/hist"
    with pytest.raises(CircuitMeterError, match="two tasks"):
        tasks.TASKS.add(name, lambda: tasks.load("tracr/sort"))
