"""``sensitivity`` on a compiled model, where the truth is known, and on a GPT-2 folder."""

from __future__ import annotations

import json

import pytest
import torch

from circuitmeter import ground_truth
from circuitmeter.suite import cli
from circuitmeter.suite.circuit import Circuit
from circuitmeter.suite.interchange import Origin, save

FEW = ("--prompts", 16, "--random", 8, "--pairings", 1)
SMALL = ("--component", "edge", "--direction", "noising", "--aggregation", "ratio-of-means")


@pytest.fixture
def command(capfd):
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def run(*arguments) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def truths(tmp_path_factory):
    """The certified circuits of reverse under patch and under zero, as circuit files."""
    folder = tmp_path_factory.mktemp("truths")
    for ablation in ("patch", "zero"):
        arguments = ["discover", "--task", "tracr/reverse", "--method", "truth", "--ablation", ablation]
        assert cli.main([*arguments, "--out", str(folder / f"{ablation}.json")]) == 0
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A small random GPT-2, as its users save it, and prompts of six templates."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, n_positions=8, vocab_size=30, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config)
    model.transformer.wte.weight.data *= 30  # outputs that differ by more than noise
    model.save_pretrained(folder / "model")
    generator = torch.Generator().manual_seed(0)
    lines = []
    for i in range(24):
        clean, counterfactual = torch.randint(0, 30, (2, 5), generator=generator).tolist()
        counterfactual[-1] = (clean[-1] + 7) % 30
        lines.append(
            {"clean": clean, "counterfactual": counterfactual, "answer": clean[-1], "wrong": counterfactual[-1]}
        )
        lines[-1]["template"] = f"template {i % 6}"
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def read(path) -> dict:
    return json.loads(path.read_text())


def test_the_truth_of_one_ablation_is_faithful_under_it_and_the_card_says_where_it_is_not(truths, tmp_path, command):
    out = tmp_path / "card"
    status, text, err = command(
        "sensitivity", truths / "patch.json", "--task", "tracr/reverse", *FEW, *SMALL, "--ablation", "patch", "zero",
        "--objective", "answer-difference", "kl", "--out", out,
    )  # fmt: skip
    assert status == 0, err
    assert {path.name for path in out.iterdir()} == {*("card.json", "settings.csv", "card.pdf", "card.svg", "card.png")}
    card = read(out / "card.json")
    (circuit,) = card["circuits"]
    by_ablation = {"patch": [], "zero": []}
    for entry in circuit["values"]:
        by_ablation[entry["levels"]["ablation"]].append(entry)
    assert all(entry["value"] == pytest.approx(1, abs=1e-4) for entry in by_ablation["patch"])
    assert all(entry["high"] < 0.9 for entry in by_ablation["zero"])
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in circuit["values"])
    shares = {part["factor"]: part["total"] for part in circuit["variance_of_complete_part"]["factors"]}
    assert shares["ablation"] > 0.5 and max(shares, key=shares.get) == "ablation"
    assert circuit["flips"]["hold"] == pytest.approx(0.5) and circuit["flips"]["entropy"] == pytest.approx(1)
    assert circuit["spread"]["worst"] == pytest.approx(min(entry["value"] for entry in by_ablation["zero"]))
    assert [part["n"] for part in card["undefined"]] == [2] and "undefined" in text
    assert card["paragraph"] in " ".join(text.split()) and "choice of ablation explains" in " ".join(text.split())
    assert text.startswith("faithful (0.80 or more) in 5 of the 10 settings; from ")
    assert circuit["counts"]["reached"] == 5 and circuit["rule"]["faithful"] == [["patch"]]
    assert "Faithful in all 5 settings with ablation patch, and in none of the other 5." in " ".join(text.split())
    assert "The circuit for tracr/reverse in tracr/reverse that truth found under patch on the" in " ".join(
        text.split()
    )
    assert "the 10 worst of 10 settings, from worst to best" in text and max(map(len, text.splitlines())) < 200
    assert len((out / "settings.csv").read_text().splitlines()) == 11


def test_the_truth_under_zero_is_faithful_under_all_and_ranks_above(truths, command, tmp_path):
    run = (
        "sensitivity", truths / "patch.json", truths / "zero.json", "--task", "tracr/reverse", *FEW, *SMALL,
        "--ablation", "patch", "zero", "resample", "--objective", "kl", "--out", tmp_path / "both", "--json",
    )  # fmt: skip
    status, text, err = command(*run)
    assert status == 0, err
    card = json.loads(text)
    assert json.loads(command(*run)[1]) == card  # the same again
    assert card == read(tmp_path / "both" / "card.json")
    patch, zero = card["circuits"]
    assert zero["spread"]["worst"] == pytest.approx(1, abs=1e-4)
    assert "The settings do not differ by more than the noise" in card["paragraph"]
    compared = card["comparison"]
    assert compared["pairs"][0]["second_better"] == pytest.approx(1 / 3) and compared["reversals_raw_rate"] == 0
    assert compared["best"]["zero"] > compared["best"]["patch"]
    assert patch["edges"] < zero["edges"] and patch["random"]["n"] == 8


def test_settings_in_which_nothing_is_cut_are_told(command, tmp_path):
    task = ("--task", "tracr/reverse")
    graph = ground_truth.load("tracr/reverse").graph
    edges = torch.zeros_like(graph.exists)
    edges[torch.arange(len(edges)), graph.exists.int().argmax(1)] = True  # the first edge out of each node
    save(tmp_path / "c.json", Circuit(graph, edges), None, d_model=18, origin=Origin())
    status, text, err = command(
        "sensitivity", tmp_path / "c.json", *task, *FEW, *SMALL[2:], "--component", "edge", "node", "--ablation",
        "patch", "--objective", "kl", "--json",
    )  # fmt: skip
    assert status == 0, err
    card = json.loads(text)
    (circuit,) = card["circuits"]
    untested = [entry for entry in circuit["values"] if entry["nothing_cut"]]
    assert circuit["nothing_cut"] == len(untested) == len(circuit["values"]) / 2
    assert all(entry["levels"]["component"] == "node" and entry["value"] == 1 for entry in untested)
    words = "settings nothing is cut, because the circuit has an edge of every node; there faithfulness is 1 by"
    assert words in card["paragraph"]


def test_a_gpt2_folder_with_templates_and_every_default_factor(gpt2, command):
    arguments = ("--data", gpt2 / "prompts.jsonl", "--model", gpt2 / "model")
    found = command("discover", *arguments, "--method", "eap", "--fraction", 0.3, "--out", gpt2 / "c.json")
    assert found[0] == 0, found[2]
    run = ("sensitivity", gpt2 / "c.json", *arguments, "--random", 5, "--pairings", 2, "--json")
    status, text, err = command(*run, "--prompts", 23)
    assert status == 0, err
    card = json.loads(text)
    assert (
        card["templates"] == 6 and card["prompts"] == 23 and card["resampled"] == "templates, and prompts within each"
    )
    levels = card["settings"]["levels"]
    assert (
        len(levels["ablation"]) == 5 and levels["objective"][0] == "logit-difference" and len(levels["objective"]) == 3
    )
    assert (gpt2 / "c-card" / "card.pdf").is_file()  # beside the circuit, unless told otherwise
    assert card["settings"]["n"] + sum(part["n"] for part in card["undefined"]) == 5 * 2 * 2 * 3 * 2 * 3
    for factor, weights in card["settings"]["weights"].items():
        assert sum(weights.values()) == pytest.approx(1), factor
    assert list(card["settings"]["weights"]["ablation"].values()) == pytest.approx([0.2] * 5)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--ablation", "zeros"), "no ablation 'zeros'. Did you mean 'zero'?"),
        (("--component", "edges"), "no component 'edges'"),
        (("--weight", "ablations", "patch", 2), "no factor 'ablations'. Did you mean 'ablation'?"),
        (("--weight", "ablation", "noise", 2), "no level of ablation 'noise'"),
        (("--weight", "ablation", "patch", "much"), "'much' is not a number"),
        (("--weight", "ablation", "patch", -1), "0 or more"),
        (("--prompts", 0), "0 is too few"),
        (("--ablation", "zero", "--direction", "denoising"), "denoising starts from a corrupted run"),
    ],
)
def test_a_wrong_request_is_one_line(extra, message, truths, command, tmp_path):
    status, out, err = command(
        "sensitivity", truths / "patch.json", "--task", "tracr/reverse", "--out", tmp_path, *FEW, *extra
    )
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert message in err


def test_the_same_file_twice_is_refused_and_namesakes_are_told_apart(truths, command, tmp_path):
    file = truths / "patch.json"
    status, _, err = command("sensitivity", file, file, "--task", "tracr/reverse")
    assert status == 2 and "given twice" in err
    other = tmp_path / "patch.json"
    other.write_bytes((truths / "zero.json").read_bytes())
    status, text, err = command(
        "sensitivity", file, other, "--task", "tracr/reverse", *FEW, *SMALL, "--ablation", "patch", "zero",
        "--objective", "kl", "--random", 0, "--json",
    )  # fmt: skip
    assert status == 0, err
    card = json.loads(text)
    names = [f"{path.parent.name}/patch" for path in (file, other)]
    assert [circuit["name"] for circuit in card["circuits"]] == names
    assert all(circuit["random"] is None for circuit in card["circuits"])


def test_a_refused_card_says_what_fits_and_leaves_no_folder(truths, command, tmp_path, monkeypatch):
    from circuitmeter.suite.plan import speed

    monkeypatch.setattr(speed.Speed, "seconds", lambda self, cost: 0.1 * cost.cut)
    run = (
        "sensitivity",
        truths / "patch.json",
        "--task",
        "tracr/reverse",
        "--ablation",
        "patch",
        "zero",
        "--prompts",
        16,
    )
    status, _, err = command(*run, "--out", tmp_path / "new" / "card")
    assert status == 2 and not list(tmp_path.iterdir())
    assert "settings on 16 prompts takes about" in err and "--yes starts it, and with --random 20" in err
    assert "it takes about" in err.split("--random 20")[1]
