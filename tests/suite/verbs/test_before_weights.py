"""What a verb refuses is refused before the model's weights are read, whichever verb takes it."""

from __future__ import annotations

import json

import pytest
import torch

from circuitmeter.suite import cli
from circuitmeter.suite.model.load import by_name
from circuitmeter.tasks import mini

CIRCUIT = {
    "cfg": {"n_layers": 2, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 96},
    "nodes": {"input": True, "m0": True, "logits": True},
    "edges": {"input->m0": {"score": 1.0, "in_graph": True}, "m0->logits": {"score": 1.0, "in_graph": True}},
}
DISCOVER = ["discover", "--task", "ioi", "--model", "mini", "--method", "eap", "--out", "c.json"]
EVALUATE = ["evaluate", "circuit.json", "--task", "ioi", "--model", "mini"]
SENSITIVITY = ["sensitivity", "circuit.json", "--task", "ioi", "--model", "mini"]
STABILITY = ["stability", "--task", "ioi", "--model", "mini", "--out", "s", "--method"]
TRAIN = ["train-dictionary", "--task", "ioi", "--model", "mini", "--out", "d", "--site"]

REFUSED = {
    "a task that is none": ([*DISCOVER, "--task", "oi"], "no task 'oi'"),
    "a task whose words the tokenizer lacks": ([*DISCOVER, "--task", "acronyms"], "0 are single tokens of this model"),
    "a split that the task lacks": (
        ["discover", "--data", "prompts.jsonl", *DISCOVER[3:], "--split", "test"],
        "no split of prompts.jsonl 'test'",
    ),
    "a format without names for the graph": ([*DISCOVER, "--format", "acdc"], "--format acdc has no equal"),
    "more edges than there are": ([*DISCOVER, "--top", "111"], "--top 111: the graph has 110 edges"),
    "features without a dictionary": ([*DISCOVER, "--top-features", "3"], "--top-features goes with --dictionary"),
    "a method without a meaning": (
        [*DISCOVER, "--method", "edge-pruning", "--objective", "logit-difference"],
        "edge-pruning searches for a circuit that is like the whole model",
    ),
    "an objective without a meaning": ([*DISCOVER, "--objective", "kl"], "eap takes the gradient at the clean run"),
    "a circuit of another graph": ([*EVALUATE[:1], "other.json", *EVALUATE[2:]], "other.json"),
    "a curve without scores": ([*EVALUATE[:1], "list.json", *EVALUATE[2:], "--curve"], "holds no score of every edge"),
    "a truth of another graph": ([*EVALUATE, "--truth", "tracr/hist"], "tracr/hist"),
    "a setting without a meaning": ([*EVALUATE, "--direction", "denoising", "--ablation", "mean"], "denoising starts"),
    "a card of another graph": ([*SENSITIVITY[:1], "other.json", *SENSITIVITY[2:]], "other.json"),
    "a card without a setting": (
        [*SENSITIVITY, "--direction", "denoising", "--ablation", "mean", "--out", "card"],
        "denoising starts",
    ),
    "a weight of no level": ([*SENSITIVITY, "--weight", "ablation", "tea", "2", "--out", "card"], "tea"),
    "stability of more edges than there are": ([*STABILITY, "eap", "--top", "111"], "the graph has 110 edges"),
    "stability of a method without a meaning": ([*STABILITY, "eap", "--objective", "kl"], "eap takes the gradient"),
    "a site that the model lacks": ([*TRAIN, "mlp_out.7"], "7"),
    "prompts of ids that the model lacks": (
        ["discover", "--data", "ids.jsonl", *DISCOVER[3:]],
        "outside the model's vocabulary",
    ),
}


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """A folder with a few circuit files, and a machine on which no language model's weights can be read."""

    def read(*arguments):
        pytest.fail("weights were read")

    monkeypatch.setattr(by_name, "_read_huggingface", read)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circuit.json").write_text(json.dumps(CIRCUIT))
    other = {**CIRCUIT, "cfg": {**CIRCUIT["cfg"], "n_heads": 5}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "list.json").write_text(json.dumps(["input->m0", "m0->logits"]))
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"clean": [1, 2], "answer": 3, "wrong": 4}))
    (tmp_path / "ids.jsonl").write_text(json.dumps({"clean": [1, 100_000], "answer": 3, "wrong": 4}))


@pytest.mark.parametrize("refused", REFUSED)
def test_what_is_refused_is_refused_before_weights_are_read(refused, no_weights, capfd):
    arguments, reason = REFUSED[refused]
    status = cli.main(arguments)
    error = capfd.readouterr().err
    assert status == 2 and reason in error.splitlines()[-1], error


def test_an_outline_has_the_graph_and_no_weights(no_weights):
    outline = by_name.load_outline("mini", inputs="sum")
    assert outline.graph.n_edges == 110 and outline.graph.inputs == "sum"
    source = by_name._without_weights(mini.folder("mini"))
    assert source.lm_head.weight is source.transformer.wte.weight, (
        "what is tied is tied, and adapters of it are refused"
    )
    assert all(weight.device == torch.device("meta") for weight in outline.parameters())
