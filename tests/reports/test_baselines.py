"""How well GPT-2 is known to do the tasks: checked where its weights are, and not run where they are not."""

import shutil

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.reproduction import manifest as manifests
from circuitmeter.reports.reproduction.judge import judge
from circuitmeter.reports.reproduction.manifest import Manifest
from circuitmeter.reports.reproduction.measured import Tables
from circuitmeter.suite.cli import main
from circuitmeter.suite.model.load import hub
from circuitmeter.suite.model.load.by_name import load_tokenizer
from circuitmeter.suite.model.load.hub import Pin
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run import run
from circuitmeter.tasks import mini

TASK = "country-capital@paper+bos"


def test_published_baselines_are_in_the_manifest_and_not_run_without_weights():
    paper = manifests.load("gpt2-baselines")
    reported = {(value.part, value.row, value.series): value.reported for value in paper.values}
    assert reported["small", "ioi", "clean"] == 3.8065 and reported["small", "ioi", "counterfactual"] == 0.0319
    assert reported["small", "greater-than", "clean"] == 0.8143
    assert reported["small", "greater-than", "counterfactual"] == -0.4566
    assert reported["small", "sva", "clean"] == -reported["small", "sva", "counterfactual"] == 0.15728
    assert reported["xl", "ioi", "clean"] == 3.967 and len(reported) == 26
    found = judge(paper, None)
    unlike = {item.value.row for item in found if item.compared.unlike}
    assert unlike == {"sva", "hypernymy"}  # other verbs; prompts that were chosen by what is measured
    for item in found:
        assert item.verdict == "not run" and f"needs {'gpt2-xl' if item.value.part == 'xl' else 'gpt2'}: give it" in (
            item.because
        )
    for part in paper.part:
        (grid,) = part.benchmark["grid"]
        asked = {value.measured.where["task"] for value in paper.values if value.part == part.name}
        assert asked == set(grid["task"])


SAME = {"values": "*", "quantity": "a mean", "unit": "logits", "on": "GPT-2", "ours": "the same"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A GPT-2 folder as transformers saves it: the mini model under another name."""
    return shutil.copytree(mini.folder("mini"), tmp_path_factory.mktemp("saved") / "some-gpt2")


def by_hand(folder, quantity):
    """The mean logit difference of the source model on clean or on counterfactual prompts."""
    from transformers import GPT2LMHeadModel

    data = tasks.load(TASK).on(load_tokenizer(folder)).data("train")
    assert (data.lengths == data.clean.shape[1]).all()
    with torch.no_grad():
        prompts = data.clean if quantity == "full" else data.counterfactual
        logits = GPT2LMHeadModel.from_pretrained(folder).eval()(prompts).logits[:, -1]
    differences = []
    for own, right, wrong in zip(logits, data.answers, data.wrong, strict=True):
        differences.append(float(own[right[right >= 0]].mean() - own[wrong[wrong >= 0]].mean()))
    return sum(differences) / data.n


def test_a_baseline_is_measured_on_a_saved_model_and_judged(saved, tmp_path, monkeypatch):
    whole = manifests.load("gpt2-baselines")
    part = whole.part[0].model_dump()
    part["benchmark"]["grid"] = [{**part["benchmark"]["grid"][0], "task": [TASK]}]
    expected = {quantity: by_hand(saved, quantity) for quantity in ("full", "nothing")}
    taken = {"table": "evaluated", "where": {"task": TASK, "asked": 0.5}}
    right = [
        {"name": name, "reported": number, "tolerance": 1e-3, "part": "small", "measured": {**taken, "column": name}}
        for name, number in expected.items()
    ]
    wrong = {**right[0], "name": "wrong", "reported": expected["full"] + 0.1}
    paper = Manifest.model_validate(
        {**whole.model_dump(), "part": [part], "value": [*right, wrong], "comparison": [SAME], "note": []}
    )
    for model in (str(saved), "mini-seed1"):  # another model's numbers in the same store are not mixed in
        grid = {**part["benchmark"]["grid"][0], "model": [model]}
        run.run(Spec.of({"name": "b", **part["benchmark"], "grid": [grid]}), tmp_path / "s", executor="serial")
    tables = Tables(read_results(tmp_path / "s"))
    assert [item.verdict for item in judge(paper, tables, str(saved))] == ["other model"] * 3
    manifests.is_the_papers.cache_clear()
    monkeypatch.setitem(hub.PINS, "gpt2", Pin("0" * 40, hub._sha256(saved / hub.WEIGHTS_FILE)))
    found = judge(paper, tables, str(saved))
    assert [item.verdict for item in found] == ["reproduced", "reproduced", "differs"]
    assert expected["full"] > 1 > -1 > expected["nothing"]


def test_reproduce_without_weights_exits_with_success_and_says_not_run(tmp_path, capsys, page_only):
    assert main(["reproduce", "gpt2-baselines", "--store", str(tmp_path / "none"), "--out", str(tmp_path)]) == 0
    assert "26 not run" in capsys.readouterr().out
