"""Other people's code as a method: the adapter of the documentation, and adapters that are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from torch.testing import assert_close

from circuitmeter.suite import cli
from circuitmeter.suite.errors import Undefined
from circuitmeter.suite.interchange.external import load_external
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.content import content_hash
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.subject import subject

PAGE = Path(__file__).parents[3] / "docs" / "conformance.md"
OTHERS = """
class Returns:
    def edge_scores(self, model, prompts, *, ablation, objective):
        return [1, 2]

class NoMethod:
    pass

class Format(Returns):
    format = "onnx"

class Ablations(Returns):
    ablations = {"zero", "nothing"}

class Raises(Returns):
    def edge_scores(self, model, prompts, *, ablation, objective):
        return prompts[0].clean.nothing

class Shape(Returns):
    def edge_scores(self, model, prompts, *, ablation, objective):
        return prompts[0].loss(prompts[0].clean)

class Taken(Returns):
    def __init__(self, seed=0):
        pass

class Batches(Returns):
    batch_size = 0

class Packages(Returns):
    packages = "torch"

class OnlyGpt2(Returns):
    format = "huggingface"

class Spoils:
    def __init__(self, by=1.0):
        self.by = by

    def edge_scores(self, model, prompts, *, ablation, objective):
        for weight in model.state_dict.values():
            weight.zero_()
        return {node: self.by for node in model.nodes}
"""
GPT2 = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel

class Outputs:
    format, batch_size = "huggingface", 10

    def edge_scores(self, model, prompts, *, ablation, objective):
        gpt2 = GPT2LMHeadModel(GPT2Config(**model.config)).eval()
        gpt2.load_state_dict(model.state_dict)
        assert model.config["vocab_size"] == 3 and model.config["outputs"] == 1
        right = [len(batch.clean) for batch in prompts] == [10, 10, 10, 10, 10, 6]
        for batch in prompts:
            logits = gpt2(batch.clean).logits
            other = logits + torch.tensor([0.0, 5.0, 7.0])
            right &= batch.loss(logits).item() < 1e-9 and torch.equal(batch.loss(logits), batch.loss(other))
            right &= batch.loss(logits + 1).item() > 0.1
        return {"tok_embed->logits": float(right)}
"""
JUDGED = ("auroc", "average_precision", "precision", "recall", "exact_cells")
BENCHMARK = """
[grid]
task = "tracr/xproportion"
method = ["eap", "random"]
ablation = ["patch", "mean"]
objective = "answer-difference"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (text,) = re.findall(r"^# file: eap_adapter.py\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "eap_adapter.py").write_text(text)
    (tmp_path / "others_of_a_test.py").write_text(OTHERS)
    (tmp_path / "broken_of_a_test.py").write_text("import nowhere_at_all")
    (tmp_path / "small.toml").write_text(BENCHMARK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def discovered(method, task, ablation, objective):
    on = subject(task, None)
    asked = {"ablation": names.ablation(ablation), "objective": names.objective(objective)}
    return method.discover(on.model, on.data, **asked).scores.values


@pytest.mark.parametrize("ablation", ["patch", "zero"])
@pytest.mark.parametrize("task", ["tracr/xproportion", "tracr/reverse", "tracr/sort"])
def test_the_documented_adapter_gives_the_scores_of_the_equal_method_edge_by_edge(folder, task, ablation):
    adapter = load_external(f"{folder}/external:eap_adapter:AttributionPatching")
    found = discovered(adapter, task, ablation, "answer-difference") / subject(task, None).data.n
    assert_close(
        found, discovered(METHODS.get("eap"), task, ablation, "answer-difference"), rtol=1e-4, atol=1e-5, equal_nan=True
    )
    assert bool(found.nan_to_num().any())


def test_it_is_ranked_as_the_equal_method_and_undefined_where_it_says_so(folder, capfd):
    common = ["--against", "small.toml", "--store", "s", "--executor", "serial", "--yes", "--json"]
    assert cli.main(["validate", "--external", "eap_adapter:AttributionPatching", *common]) == 0
    found = json.loads(capfd.readouterr().out)
    ranking = {each["ablation"]: each for each in found["rankings"]}
    scores, mine = ranking["patch"]["scores"], ranking["patch"]["label"]
    assert mine == "external:eap_adapter:AttributionPatching" and ranking["patch"]["rank"] == 1
    mine, equal, other = ({key: scores[label][key] for key in JUDGED} for label in (mine, "eap", "random"))
    assert mine == equal != other
    assert ranking["mean"]["rank"] is None and not found["failed"]


def test_a_model_without_the_format_is_undefined_with_the_reason(folder):
    with pytest.raises(Undefined, match="looks ahead cannot be written as a Hugging Face GPT-2"):
        discovered(load_external(f"{folder}/external:others_of_a_test:OnlyGpt2"), "tracr/xproportion", "patch", "l2")


def test_a_gpt2_s_outputs_beyond_the_model_s_do_not_count_and_batches_are_as_small_as_asked(folder):
    (folder / "gpt2_of_a_test.py").write_text(GPT2)
    found = discovered(load_external(f"{folder}/external:gpt2_of_a_test:Outputs"), "gates/or", "patch", "l2")
    assert bool((found.nan_to_num()[0] != 0).any())  # what it found was as it should be


def test_what_an_adapter_does_to_the_weights_it_does_to_copies_and_nodes_may_be_scored(folder):
    before = content_hash(subject("tracr/xproportion", None).model)
    method = load_external(f"{folder}/external:others_of_a_test:Spoils")
    assert method.parameters == {"by": 1.0}
    assert bool((discovered(method, "tracr/xproportion", "zero", "l2").nan_to_num() == 1).any())
    assert content_hash(subject("tracr/xproportion", None).model) == before


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("nowhere_at_all:X", "no module nowhere_at_all"),
        ("others_of_a_test:Return", "Did you mean 'Returns'?"),
        ("others_of_a_test:NoMethod", "has no method edge_scores"),
        ("others_of_a_test:Format", "no format 'onnx'"),
        ("others_of_a_test:Ablations", "ablations = nothing"),
        ("others_of_a_test:Batches", "batch_size = 0; give a number of prompts"),
        ("others_of_a_test:Packages", "packages = 'torch'; give a tuple"),
        ("others_of_a_test:Taken", "parameter 'seed' has a name that is taken"),
        ("broken_of_a_test:X", "(broken_of_a_test.py, line 1: import nowhere_at_all)"),
        ("plain", "write MODULE:ADAPTER"),
        ("others_of_a_test:Returns", "it returned list"),
        ("others_of_a_test:Shape", "loss was given logits of shape"),
        ("others_of_a_test:Raises", "line 17: return prompts[0].clean.nothing"),
    ],
)
def test_what_is_wrong_is_one_line(folder, capfd, named, says):
    assert cli.main(["validate", "--external", named, "--against", "small.toml", "--yes"]) == 2
    *begun, error = capfd.readouterr().err.splitlines()
    assert says in error and all(line.startswith("trying ") for line in begun)


def test_a_method_and_an_adapter_are_not_both_given(folder, capfd):
    for given in ((), ("mine.py:discover", "--external", "eap_adapter:AttributionPatching")):
        assert cli.main(["validate", *given]) == 2
        assert "give one to validate" in capfd.readouterr().err
