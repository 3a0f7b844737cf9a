"""``discover`` and ``evaluate`` on a Hugging Face GPT-2 folder with token ids, and on compiled tasks."""

from __future__ import annotations

import json

import pytest
import torch

from circuitmeter import tasks
from circuitmeter.suite import cli
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.interchange import load
from circuitmeter.suite.model.load import by_name

METHOD = """
def discover(model, data, *, ablation, objective, seed, scale=1.0):
    return {str(edge): scale * (i + 1) for i, edge in enumerate(model.graph.edges)}
"""


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A small random GPT-2, as its users save it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=8, vocab_size=30, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    lines = []
    for _ in range(6):
        clean, counterfactual = torch.randint(0, 30, (2, 5), generator=generator).tolist()
        lines.append({"clean": clean, "counterfactual": counterfactual, "answer": 3, "wrong": [4, 5]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def command(capfd):
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def run(*arguments) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


def read(path) -> dict:
    return json.loads(path.read_text())


def in_graph(circuit: dict) -> set[str]:
    return {name for name, edge in circuit["edges"].items() if edge["in_graph"]}


@pytest.mark.parametrize("method", ["eap", "eap-ig", "exact", "magnitude", "random", "acdc"])
def test_discover_then_evaluate_on_gpt2(method, gpt2, prompts, tmp_path, command):
    out = tmp_path / "circuit.json"
    status, _, err = command(
        "discover", "--data", prompts, "--model", gpt2, "--method", method, "--top", 20, "--out", out
    )
    assert status == 0, err
    circuit = read(out)
    assert circuit["cfg"] == {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 16}
    assert len(in_graph(circuit)) == 20
    largest = sorted(circuit["edges"], key=lambda name: -abs(circuit["edges"][name]["score"]))[:20]
    smallest_kept = abs(circuit["edges"][largest[-1]]["score"])
    assert all(abs(circuit["edges"][name]["score"]) >= smallest_kept for name in in_graph(circuit))
    assert circuit["circuitmeter"]["method"] == method
    status, text, err = command(
        "evaluate", out, "--data", prompts, "--model", gpt2, "--ablation", "patch", "zero", "--objective", "kl",
        "--ablation", "mean", "--objective", "logit-difference", "--json",
    )  # fmt: skip
    assert status == 0, err
    rows = json.loads(text)["rows"]
    assert [(row["ablation"], row["objective"]) for row in rows] == [
        (ablation, objective) for ablation in ("patch", "zero", "mean") for objective in ("kl", "logit-difference")
    ]
    for row in rows:
        assert row["edges"] == 20
        assert row["faithfulness"] == pytest.approx((row["circuit"] - row["nothing"]) / (row["full"] - row["nothing"]))
        if row["objective"] == "kl":
            assert row["full"] == pytest.approx(0, abs=1e-6)


def test_the_numbers_are_the_models_own(gpt2, prompts, tmp_path, command):
    """Full and, under patch, fully cut are what transformers computes on the clean and counterfactual prompts."""
    from transformers import GPT2LMHeadModel

    out = tmp_path / "circuit.json"
    assert command("discover", "--data", prompts, "--model", gpt2, "--method", "random", "--out", out)[0] == 0
    _, text, _ = command("evaluate", out, "--data", prompts, "--model", gpt2, "--json")
    (row,) = json.loads(text)["rows"]
    assert (row["ablation"], row["objective"]) == ("patch", "logit-difference")
    model = GPT2LMHeadModel.from_pretrained(gpt2)
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    for key, name in (("clean", "full"), ("counterfactual", "nothing")):
        with torch.no_grad():
            logits = model(torch.tensor([line[key] for line in lines])).logits[:, -1]
        difference = logits[:, 3] - logits[:, [4, 5]].mean(1)
        assert row[name] == pytest.approx(float(difference.mean()), abs=1e-5)


def test_the_whole_graph_is_the_model(gpt2, prompts, tmp_path, command):
    out = tmp_path / "all.json"
    arguments = ("--data", prompts, "--model", gpt2)
    assert command("discover", *arguments, "--method", "random", "--fraction", 1, "--out", out)[0] == 0
    _, text, _ = command("evaluate", out, *arguments, "--ablation", "patch", "zero", "mean", "--json")
    assert [row["faithfulness"] for row in json.loads(text)["rows"]] == pytest.approx([1, 1, 1])


def test_sizes(gpt2, prompts, tmp_path, command):
    file, out = tmp_path / "mine.py", tmp_path / "c.json"
    file.write_text(METHOD)
    arguments = ("discover", "--data", prompts, "--model", gpt2, "--method", f"{file}:discover", "--out", out)
    sizes = {}
    for option in ((), ("--top", 7), ("--fraction", 0.5), ("--threshold", 20), ("--set", "scale=2", "--threshold", 20)):
        assert command(*arguments, *option)[0] == 0
        sizes[option] = len(in_graph(read(out)))
    n_edges = len(read(out)["edges"])
    assert list(sizes.values()) == [round(0.05 * n_edges), 7, round(0.5 * n_edges), n_edges - 19, n_edges - 9]
    assert read(out)["circuitmeter"]["parameters"] == {"scale": 2.0}


@pytest.mark.parametrize("inputs", ["token", "sum", "split"])
def test_input_nodes_follow_the_circuit(inputs, gpt2, prompts, tmp_path, command):
    out = tmp_path / "c.json"
    arguments = ("--data", prompts, "--model", gpt2)
    assert command("discover", *arguments, "--method", "eap", "--inputs", inputs, "--out", out)[0] == 0
    assert read(out)["circuitmeter"]["graph"]["inputs"] == inputs
    status, _, err = command("evaluate", out, *arguments)
    assert status == 0, err


def test_a_compiled_task_and_its_truth(tmp_path, command):
    out = tmp_path / "c.json"
    task = ("--task", "tracr/reverse@fixed")
    assert command("discover", *task, "--method", "truth", "--ablation", "zero", "--out", out)[0] == 0
    assert len(in_graph(read(out))) == 9  # without a size: as many edges as the certified circuit has
    status, text, err = command("evaluate", out, *task, "--truth", "tracr/reverse@fixed", "--json")
    assert status == 0, err
    found = json.loads(text)
    (row,) = found["rows"]
    assert (row["ablation"], row["edges"]) == ("zero", 9)
    assert row["faithfulness"] == pytest.approx(1, abs=1e-5)
    assert found["recovery"]["zero"]["precision"] == found["recovery"]["zero"]["recall"] == 1
    status, text, _ = command("evaluate", out, *task, "--truth", "tracr/reverse@fixed")
    assert status == 0
    assert "faithfulness" in text and "recovery of the truth under zero" in text


def test_a_task_that_a_mini_model_was_not_trained_on_is_told(tmp_path, command):
    out = ("--method", "magnitude", "--top", 5, "--out", tmp_path / "c.json")
    status, _, err = command("discover", "--task", "induction", "--model", "mini", *out)
    assert status == 0 and "mini was not trained on induction (it does: ioi, greater-than, " in err
    for task, model in (("sva", "mini"), ("induction", "mini-8")):
        status, _, err = command("discover", "--task", task, "--model", model, *out)
        assert status == 0 and "was not trained" not in err


def test_a_program_s_tokens_mean_nothing_to_a_language_model(tmp_path, command):
    out = ("--method", "magnitude", "--top", 5, "--out", tmp_path / "c.json")
    for arguments in (
        ("discover", "--task", "tracr/reverse", "--model", "mini", *out),
        ("discover", "--task", "tracr/reverse", "--model", "tracr/hist", *out),
        ("show", "tracr/reverse", "--model", "mini"),
    ):
        status, text, err = command(*arguments)
        assert (status, text, err.count("\n")) == (2, "", 1), arguments
        assert "the task tracr/reverse is token ids of its own model" in err and "leave out --model" in err
    task = tasks.load("tracr/reverse@fixed")
    assert by_name.on_model(task, "tracr/reverse") is by_name.on_model(task, "tracr/reverse@fixed") is task
    (tmp_path / "mine").mkdir()
    assert by_name.on_model(task, tmp_path / "mine") is task  # without a tokenizer
    (tmp_path / "mine" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="token ids"):
        by_name.on_model(task, tmp_path / "mine")


def test_an_undefined_combination_beside_defined_ones(gpt2, tmp_path, command):
    data, out = tmp_path / "d.jsonl", tmp_path / "c.json"
    data.write_text('{"clean": [1, 2, 3]}\n{"clean": [3, 2, 1]}\n')
    arguments = ("--data", data, "--model", gpt2)
    found = command("discover", *arguments, "--method", "exact", "--ablation", "zero", "--out", out)
    assert found[0] == 0, found[2]
    status, text, _ = command("evaluate", out, *arguments, "--ablation", "zero", "patch", "--json")
    assert status == 0
    defined, undefined = json.loads(text)["rows"]
    assert defined["undefined"] is None and defined["full"] is not None
    assert "counterfactual" in undefined["undefined"] and undefined["full"] is None
    status, text, err = command("evaluate", out, *arguments, "--ablation", "patch", "--json")
    assert (status, text, err.count("\n")) == (2, "", 1)


def broken(tmp_path, gpt2, prompts) -> dict[str, tuple[list, str]]:
    """Requests that are wrong, and what the one line must say."""
    good = {"clean": [1, 2], "counterfactual": [2, 1], "answer": 1, "wrong": 2}

    def data(name: str, *lines: dict) -> list:
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return ["--data", path]

    def user_method(name: str, text: str) -> list:
        path = tmp_path / name
        path.write_text(text)
        return ["--method", f"{path}:discover"]

    signature = "def discover(model, data, *, ablation, objective, seed):\n    "
    empty_folder, pickled = tmp_path / "empty", tmp_path / "pickled"
    for folder in (empty_folder, pickled):
        folder.mkdir()
        (folder / "config.json").write_text((gpt2 / "config.json").read_text())
    (pickled / "pytorch_model.bin").write_bytes(b"")
    here, eap, on = ["--data", prompts], ["--method", "eap"], ["--model", gpt2]
    return {
        "unknown method": ([*here, *on, "--method", "eapig"], "no method 'eapig'. Did you mean 'eap-ig'?"),
        "unknown ablation": ([*here, *on, *eap, "--ablation", "zeros"], "no ablation 'zeros'. Did you mean 'zero'?"),
        "unknown objective": ([*here, *on, *eap, "--objective", "k1"], "no objective 'k1'"),
        "unknown task": (["--task", "tracr/revers", *eap], "Did you mean 'tracr/reverse'?"),
        "unknown truth": ([*here, "--model", "tracr/revers", *eap], "Did you mean 'tracr/reverse'?"),
        "unknown parameter": ([*here, *on, "--method", "eap-ig", "--set", "step=3"], "Did you mean 'steps'?"),
        "a parameter of another type": ([*here, *on, "--method", "eap-ig", "--set", "steps=x"], "steps is a whole"),
        "a setting without a value": ([*here, *on, *eap, "--set", "steps"], "write KEY=VALUE"),
        "no model": ([*here, *eap], "--data does not say which model it runs on; give --model"),
        "different lengths": ([*data("l.jsonl", {**good, "counterfactual": [1]}), *on, *eap], "whose positions pair"),
        "an empty file": ([*data("e.jsonl"), *on, *eap], "e.jsonl is empty"),
        "text without a tokenizer": ([*data("t.jsonl", {"clean": "a b"}), *on, *eap], "this model has no tokenizer"),
        "an undefined ablation": ([*data("c.jsonl", {"clean": [1, 2]}), *on, *eap], "patch needs counterfactual"),
        "a divergence for eap": ([*here, *on, *eap, "--objective", "kl"], "eap-ig"),
        "truth where none is": ([*here, *on, "--method", "truth"], "truth needs a certified circuit"),
        "no weights": ([*here, "--model", empty_folder, *eap], "holds no weights: model.safetensors is missing"),
        "pickled weights": ([*here, "--model", pickled, *eap], "pytorch_model.bin, a pickle that can run code"),
        "no such folder": ([*here, "--model", tmp_path / "nowhere", *eap], "no folder"),
        "more edges than there are": ([*here, *on, *eap, "--top", 100_000], "--top 100000: the graph has"),
        "a fraction of 0": ([*here, *on, *eap, "--fraction", 0], "is not a fraction"),
        "two sizes": ([*here, *on, *eap, "--fraction", 1, "--top", 3], "not allowed with"),
        "a method that does not import": ([*here, *on, *user_method("i.py", "import nowhere\n")], "nowhere"),
        "a method that is not there": ([*here, *on, *user_method("n.py", "x = 1\n")], "discover"),
        "an unknown edge": ([*here, *on, *user_method("u.py", signature + "return {'a9.h9->m0': 1}\n")], "a9.h9->m0"),
        "NaN": ([*here, *on, *user_method("nan.py", signature + "return {'m0->logits': float('nan')}\n")], "NaN"),
    }  # fmt: skip


@pytest.mark.parametrize("case", range(25))
def test_each_mistake_is_one_line(case, gpt2, prompts, tmp_path, command):
    name, (arguments, message) = list(broken(tmp_path, gpt2, prompts).items())[case]
    out = tmp_path / "out.json"
    status, text, err = command("discover", *arguments, "--out", out)
    lines = [line for line in err.splitlines() if line.startswith("circuitmeter: ")]
    assert status == 2, name
    assert text == "" and len(lines) == 1, name
    assert "Traceback" not in err
    assert message in lines[0], name
    assert not out.exists()


def test_all_mistakes_are_tried(gpt2, prompts, tmp_path):
    assert len(broken(tmp_path, gpt2, prompts)) == 25


def test_a_circuit_of_another_model(gpt2, prompts, tmp_path, command):
    out = tmp_path / "c.json"
    assert command("discover", "--data", prompts, "--model", gpt2, "--method", "random", "--out", out)[0] == 0
    status, text, err = command("evaluate", out, "--task", "tracr/reverse@fixed")
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert "the circuit is of another graph" in err


@pytest.mark.parametrize(
    ("truth", "message"),
    [("tracr/revers", "Did you mean 'tracr/reverse'?"), ("tracr/reverse", "Their edges cannot be compared")],
)
def test_a_truth_that_cannot_be_compared(truth, message, gpt2, prompts, tmp_path, command):
    out = tmp_path / "c.json"
    arguments = ("--data", prompts, "--model", gpt2)
    assert command("discover", *arguments, "--method", "random", "--out", out)[0] == 0
    status, text, err = command("evaluate", out, *arguments, "--truth", truth)
    assert (status, text, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_circuit_file_that_is_none(gpt2, prompts, tmp_path, command):
    for content in ("", "[]", "{}", '{"cfg": {}, "edges": {}}'):
        out = tmp_path / "c.json"
        out.write_text(content)
        status, text, err = command("evaluate", out, "--data", prompts, "--model", gpt2)
        assert (status, text, err.count("\n")) == (2, "", 1), content


def test_what_takes_long_is_said_and_waits_for_yes(command, tmp_path, monkeypatch):
    from circuitmeter.suite.model import transformer
    from circuitmeter.suite.plan import speed

    def hashed(model):
        read.append(model)
        return "0" * 16

    read = []
    monkeypatch.setattr(speed.Speed, "seconds", lambda self, cost: 30.0 * 86400)
    monkeypatch.setattr(transformer, "content_hash", hashed)
    asked = ["discover", "--task", "ioi", "--model", "mini", "--method", "eap", "--prompts", "4"]
    asked += ["--out", str(tmp_path / "c.json")]
    status, out, error = command(*asked)
    assert status == 2 and not out and not (tmp_path / "c.json").exists()
    assert "eap on 4 prompts and 110 edges takes about 30 days" in error and "GB of memory; --yes starts it" in error
    assert not read, "all weights are read for a hash of a search that is not started"
    assert command(*asked, "--yes")[0] == 0


def test_what_would_fill_the_memory_is_refused_even_with_yes(command, tmp_path, monkeypatch):
    from circuitmeter.suite.verbs import costs

    monkeypatch.setattr(costs, "memory_of_device", lambda device: 1_000_000_000)
    asked = ["discover", "--task", "ioi", "--model", "mini", "--objective", "kl", "--yes", "--out", tmp_path / "c.json"]
    status, out, error = command(*asked, "--method", "edge-pruning", "--set", "batch_size=128")
    assert status == 2 and not out and not (tmp_path / "c.json").exists()
    assert "there are 1.0 GB of memory; fewer targets or a smaller batch_size or fewer prompts" in error
    assert command(*asked, "--method", "eap-ig", "--prompts", "2")[0] == 0


def test_a_search_is_kept_in_parts_where_nobody_gave_a_batch_size(command, tmp_path, monkeypatch):
    from circuitmeter.suite.plan import parts
    from circuitmeter.suite.run.kept_sums import KeptSums

    asked = ["discover", "--task", "ioi", "--model", "mini", "--method", "eap-ig", "--prompts", "6", "--top", "30"]
    assert command(*asked, "--out", str(tmp_path / "whole.json"))[0] == 0
    finished, save = [], KeptSums.save

    def killed(self, part, batches, total):
        save(self, part, batches, total)
        finished.append(batches)
        if len(finished) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(parts, "OPERATIONS", 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(KeptSums, "save", killed)
        status, _, error = command(*asked, "--out", str(tmp_path / "a.json"))
    assert status == 130 and finished == [1, 2] and "the batches that are finished are in" in error
    with monkeypatch.context() as patched:  # parts of another size are others, and not taken
        patched.setattr(parts, "OPERATIONS", 1e12)
        patched.setattr(KeptSums, "save", killed)
        assert "going on" not in command(*asked, "--out", str(tmp_path / "a.json"))[2]
    with monkeypatch.context() as patched:
        patched.setattr(KeptSums, "save", killed)
        finished.clear()
        assert command(*asked, "--out", str(tmp_path / "a.json"))[0] == 130
    status, _, error = command(*asked, "--out", str(tmp_path / "a.json"))
    assert status == 0 and "2 batches of prompts are finished" in error
    one, other = (load(tmp_path / name) for name in ("whole.json", "a.json"))
    assert torch.allclose(one.scores.values, other.scores.values, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert one.origin == other.origin and one.origin.parameters["batch_size"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eap-ig", "--prompts", "6"], "had finished no part (6 prompts; --set batch_size=N makes it smaller) that"),
        (["eap-ig", "--prompts", "6", "--set", "batch_size=1"], "had finished no part (one prompt) that"),
        (["acdc", "--prompts", "2"], "had finished no part that"),
    ],
)
def test_an_interrupted_search_says_how_large_a_part_is(arguments, said, command, tmp_path, monkeypatch):
    from circuitmeter.suite.run import watch

    def interrupted(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "watched", interrupted)
    asked = ["discover", "--task", "ioi", "--model", "mini", "--out", str(tmp_path / "a.json"), "--yes", "--method"]
    status, _, error = command(*asked, *arguments)
    assert status == 130 and said in error.splitlines()[-1]


def test_a_killed_search_goes_on(command, tmp_path, monkeypatch):
    from circuitmeter.suite.run.kept_sums import KeptSums

    asked = ["discover", "--task", "ioi", "--model", "mini", "--method", "eap-ig", "--set", "batch_size=1"]
    asked += ["--prompts", "6", "--out"]
    save = KeptSums.save

    def killed(self, part, batches, total):
        save(self, part, batches, total)
        if batches == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(KeptSums, "save", killed)
        assert command(*asked, str(tmp_path / "a.json"))[0] == 130
    assert (tmp_path / "a.json.partial").is_file()
    status, _, error = command(*asked, str(tmp_path / "a.json"))
    assert status == 0 and "3 batches of prompts are finished" in error
    assert not (tmp_path / "a.json.partial").exists()
    assert command(*asked, str(tmp_path / "b.json"))[0] == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("selection, words", [("greedy", "greedy 3"), ("pnr", "pnr 3"), ("ilp", "ilp 3")])
def test_a_circuit_of_a_size_is_made_by_the_rule_asked_for(selection, words, capfd, tmp_path):
    out = tmp_path / "circuit.json"
    asked = ["discover", "--task", "tracr/hist", "--method", "eap", "--top", "3", "--selection", selection]
    assert cli.main([*asked, "--out", str(out)]) == 0
    assert words in capfd.readouterr().out and out.is_file()


def test_a_circuit_beyond_chance_finds_its_own_size(capfd, tmp_path):
    asked = ["discover", "--task", "tracr/hist", "--out", str(tmp_path / "circuit.json")]
    for selection in ("confident", "null"):
        assert cli.main([*asked, "--method", "eap", "--selection", selection]) == 0
        assert "95 %" in capfd.readouterr().out
    assert cli.main([*asked, "--method", "eap", "--selection", "null", "--top", "3"]) == 2
    assert "finds its own size" in capfd.readouterr().err
    assert cli.main([*asked, "--method", "acdc", "--selection", "null"]) == 2
    assert "acdc has no scores of each prompt" in capfd.readouterr().err
