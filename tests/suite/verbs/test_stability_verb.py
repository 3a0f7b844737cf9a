"""``stability`` from the command line: a card of a small program, and the mistakes that one line answers."""

from __future__ import annotations

import argparse
import json

import pytest

from circuitmeter.reports.card.stability import stability_paragraph
from circuitmeter.suite import cli
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan import speed
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.scoring.structure.stability_card import MethodStability, PromptByPrompt, StabilityCard
from circuitmeter.suite.verbs import costs
from circuitmeter.suite.verbs.stability import LEGEND, OVER, allow_searches

TASK = ("stability", "--task", "tracr/hist")


@pytest.fixture
def command(capfd, tmp_path):
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def run(*arguments) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in (*TASK, *arguments, "--out", tmp_path / "card")])
        return status, *capfd.readouterr()

    return run


def test_the_card_holds_every_change_and_its_files(command, tmp_path):
    over = ("--over", "prompts,templates,seeds,order,parameters", "--resamples", 50, "--runs", 2, "--json")
    status, out, err = command("--method", "eap", "eap-ig", "--set", "eap-ig:steps=2", *over)
    assert status == 0, err
    card = json.loads(out)
    assert json.loads((tmp_path / "card" / "card.json").read_text()) == card
    for file_format in ("pdf", "svg", "png"):
        assert (tmp_path / "card" / f"card.{file_format}").stat().st_size > 1000
    eap, integrated = card["methods"]
    assert integrated["parameters"]["steps"] == 2 and card["over"][0] == "prompts"
    for entry in (eap, integrated):
        assert set(entry["over"]) == set(card["over"])
        prompts = entry["over"]["prompts"]
        (at,) = [point for point in prompts["points"] if point["size"] == card["size"]]
        assert 0 < at["low"] <= at["jaccard"] <= at["high"] <= 1
        assert 0 < sum(prompts["inclusion"].values()) <= card["size"] + 1e-9  # edges of score zero are in no circuit
        assert at["always"] == sum(share >= 0.95 for share in prompts["inclusion"].values())
        (same,) = [point for point in entry["over"]["order"]["points"] if point["size"] == card["size"]]
        assert same["jaccard"] == 1  # a mean over prompts does not depend on their order
        assert "draws nothing by chance" in entry["over"]["seeds"]["undefined"]
        assert "one template" in entry["over"]["templates"]["undefined"]
        assert 0 <= entry["precision"] <= 1 and entry["prompt_by_prompt"]["prompts"] > 1
        assert entry["prompt_by_prompt"]["split"] == "test"
    (pair,) = card["comparisons"]
    assert pair["low"] <= pair["difference"] <= pair["high"]
    for name in ("eap", "eap-ig", "tracr/hist", "50 bootstrap resamples", "test prompts, the median is"):
        assert name in card["paragraph"]


def test_the_terminal_says_what_its_columns_are(command):
    status, out, err = command("--method", "eap", "--resamples", 20)
    assert status == 0, err
    heading, words = out.splitlines()[1], " ".join(out.split())
    for column in ("Jaccard", "low", "high", "2.5 %", "rank", "in 95 %", "in 5 to 95 %", "true edges"):
        assert column in heading and column in LEGEND
    assert LEGEND in words


EMPTY = {
    **{name: "" for name in ("version", "task", "model", "model_hash", "data_hash", "ablation", "objective")},
    **{name: 1 for name in ("prompts", "n_edges", "resamples", "runs", "seed", "size")},
    **{name: () for name in ("over", "methods", "comparisons")},
}


def test_faithfulness_by_prompt_says_which_prompts():
    share = {"0.05": 0.0, "0.5": 0.4, "0.95": 1.0}
    for split, where in (("test", "1,000 test prompts"), ("train", "1,000 prompts of the search")):
        found = PromptByPrompt(faithfulness=0.5, quantiles=share, below_half=0.6, prompts=1000, split=split)
        entry = MethodStability(method="eap", parameters={}, over={}, prompt_by_prompt=found)
        card = StabilityCard(**{**EMPTY, "methods": (entry,)})
        assert where in stability_paragraph(card)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--method", "acdc"), "acdc has no scores of each prompt, so that prompts cannot be resampled"),
        (("--method", "eap", "--resamples", "0"), "0 is too few"),
        (("--method", "eap", "--runs", "0"), "0 is too few"),
        (("--method", "eap", "--top", "0"), "0 is too few"),
        (("--method", "eap", "--over", "prompt"), "no --over 'prompt'. Did you mean 'prompts'?"),
        (("--method", "eap", "--top", "99"), "--top 99: the graph has 13 edges."),
        (("--method", "eap", "--set", "relp:steps=2"), "write METHOD:KEY=VALUE, METHOD one of eap"),
        (("--method", "eapig"), "no method 'eapig'. Did you mean 'eap-ig'?"),
    ],
)
def test_a_mistake_is_one_line(arguments, sentence, command, tmp_path):
    status, out, err = command(*arguments)
    assert (status, out) == (2, "") and sentence in err and err.count("\n") == 1
    assert not (tmp_path / "card").exists()


def test_prompts_are_as_many_as_were_asked_for(command):
    status, out, _ = command("--method", "eap", "--prompts", 5, "--resamples", 10, "--json")
    assert status == 0 and json.loads(out)["prompts"] == 5
    status, out, err = command("--method", "eap", "--split", "validation")
    assert status == 2 and "no split of tracr/hist 'validation'" in err


def test_what_takes_long_is_started_with_yes_alone(command, monkeypatch, tmp_path):
    given = ("--method", "eap", "eap-ig", "--over", "prompts,order,seeds", "--runs", 2, "--resamples", 10)
    monkeypatch.setattr(costs, "LONG_SECONDS", 0.0)
    status, out, err = command(*given)
    assert (status, out) == (2, "") and "stability of eap, eap-ig on" in err and "--yes starts it" in err
    assert not (tmp_path / "card").exists()
    assert command(*given, "--yes")[0] == 0


def test_every_search_is_estimated(monkeypatch):
    counted = []
    monkeypatch.setattr(speed.Speed, "seconds", lambda self, cost: counted.append(cost) or 0.0)
    on = subject("tracr/hist", None)
    methods = {name: METHODS.get(name) for name in ("eap", "ugs")}
    options = argparse.Namespace(runs=3, yes=False)
    parameters = {name: method.resolve({}) for name, method in methods.items()}
    allow_searches(on, methods, parameters, Ablation.parse("patch"), OVER, options)
    presets = sum(1 + len(method.presets) for method in methods.values())
    assert len(counted) == 2 + 3 * 2 + 3 + presets  # once each, orders of both, seeds of one, parameters


def test_one_prompt_is_refused_in_one_line(tmp_path, capfd):
    prompts, card = tmp_path / "prompts.jsonl", tmp_path / "card"
    prompts.write_text(json.dumps({"clean": [1, 2, 3], "counterfactual": [3, 2, 3], "answer": 3, "wrong": 4}))
    status = cli.main(["stability", "--data", str(prompts), "--model", "mini", "--method", "eap", "--out", str(card)])
    out, err = capfd.readouterr()
    assert (status, out) == (2, "") and "has one prompt here; stability needs two at least" in err
    assert err.count("\n") == 1 and not card.exists()
