"""Ablations as values, and the activations that they put on cut edges."""

import subprocess
import sys

import pytest
import torch
from oracles import small_data, small_model
from torch.testing import assert_close

from circuitmeter.suite.data import Data
from circuitmeter.suite.errors import SpecError, Undefined
from circuitmeter.suite.intervention.ablation import Ablation, Alternatives, ablation_names
from circuitmeter.suite.intervention.ablations.resample import derangement
from circuitmeter.suite.intervention.plain_runs import Runs

EXACT = dict(rtol=1e-12, atol=1e-12)


def alternatives(text, data=None, model=None, batch_size=2, seed=0):
    """(each batch, what its cut edges carry) of an ablation."""
    model, data = model or small_model("split"), data or small_data()
    source = Alternatives(model, data, Ablation.parse(text), seed=seed, batch_size=batch_size)
    return [(batch, source.of(Runs(model, batch))) for batch in data.batches(batch_size)]


@pytest.mark.parametrize("name", [*ablation_names(), "mean[over=batch,position=yes,prompts=both]"])
def test_prints_as_it_parses(name):
    ablation = Ablation.parse(name)
    assert (
        str(ablation) == name
        and Ablation.parse(str(ablation)) == ablation
        and hash(ablation) == hash(Ablation.parse(name))
    )


def test_options_that_make_a_named_ablation_print_its_name():
    assert str(Ablation.parse("mean[position=yes]")) == "mean-positional"
    assert str(Ablation.parse("mean-positional[prompts=counterfactual]")) == "mean-positional-counterfactual"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("pach", "'patch'"), ("mean[over=world]", "over=dataset"), ("zero[over=batch]", "none"), ("", "Known")],
)
def test_unknown_ablations_are_refused_with_what_is_allowed(text, hint):
    with pytest.raises(SpecError, match=hint):
        Ablation.parse(text)


def whole(data, tokens):
    model = small_model("split")
    with torch.no_grad():
        return model.run(model.input_nodes(tokens))[1]


def test_patch_is_the_counterfactual_run():
    data = small_data()
    expected = whole(data, data.counterfactual)
    for batch, cut in alternatives("patch"):
        assert_close(cut["head", 1], expected["head", 1][:, batch.rows], **EXACT)
        assert_close(cut["mlp", 2][0], expected["mlp", 2][0][batch.rows], **EXACT)


def test_zero_is_zero():
    for _, cut in alternatives("zero"):
        assert not any(part.any() for part in (cut.inputs, *cut.values()))


def test_resample_is_another_prompt_and_depends_on_the_seed_alone():
    data = small_data(n=8)
    clean = whole(data, data.clean)["mlp", 2][0]
    partners = {}
    for size in (3, 8):
        found = torch.cat([cut["mlp", 2][0] for _, cut in alternatives("resample", data, batch_size=size)])
        partners[size] = [int((clean - row).abs().flatten(1).sum(1).argmin()) for row in found]
        assert_close(clean[partners[size]], found, **EXACT)
    assert partners[3] == partners[8]
    assert all(partner != row for row, partner in enumerate(partners[8])) and sorted(partners[8]) == list(range(8))
    assert derangement(data.lengths, 0).tolist() != derangement(data.lengths, 1).tolist()


@pytest.mark.parametrize(
    ("text", "prompts"), [("mean", "clean"), ("mean-counterfactual", "counterfactual"), ("mean[prompts=both]", "both")]
)
@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_a_data_set_mean_is_the_mean_of_everything_whatever_the_batches(text, prompts, batch_size):
    data = small_data()
    tokens = {
        "clean": data.clean,
        "counterfactual": data.counterfactual,
        "both": torch.cat([data.clean, data.counterfactual]),
    }
    expected = whole(data, tokens[prompts])
    positional = (
        text.replace("mean-", "mean-positional-")
        if "-" in text
        else "mean[position=yes," + text[5:]
        if "[" in text
        else "mean-positional"
    )
    for pooled, kept_apart in zip(
        alternatives(text, batch_size=batch_size), alternatives(positional, batch_size=batch_size), strict=True
    ):
        for part, whole_part in [(pooled[1]["head", 1], expected["head", 1]), (pooled[1].inputs, expected.inputs)]:
            mean = whole_part.mean((1, 2), keepdim=True)
            assert_close(part, mean.expand(-1, -1, part.shape[2], -1), **EXACT)
        assert_close(kept_apart[1]["head", 1], expected["head", 1].mean(1, keepdim=True), **EXACT)


def test_a_batch_mean_depends_on_the_batch():
    data = small_data()
    by_two, by_three = (alternatives("mean[over=batch]", data, batch_size=size) for size in (2, 3))
    assert (by_two[0][1]["mlp", 0][0] - by_three[0][1]["mlp", 0][0]).abs().max() > 1e-3
    first = whole(data, data.clean[:2])["mlp", 0][0].mean((0, 1))
    assert_close(by_two[0][1]["mlp", 0][0][0, 0], first, **EXACT)


def test_padding_never_counts_in_a_mean():
    model, data = small_model("split"), small_data()
    lengths = torch.tensor([3, 5, 4, 5, 3, 4])
    read = torch.zeros_like(data.read)
    read[torch.arange(6), lengths - 1] = True
    ragged = Data(data.clean, data.counterfactual, read, lengths)
    rows = [whole(data, data.clean[i : i + 1, :length])["mlp", 1][0][0] for i, length in enumerate(lengths.tolist())]
    for _, cut in alternatives("mean", ragged, model):
        assert_close(cut["mlp", 1][0][0, 0], torch.cat(rows).mean(0), **EXACT)
    for _, cut in alternatives("mean-positional", ragged, model):
        for p in range(cut["mlp", 1][0].shape[1]):
            assert_close(cut["mlp", 1][0][0, p], torch.stack([row[p] for row in rows if len(row) > p]).mean(0), **EXACT)


def test_padding_of_a_padded_batch_never_counts_either():
    model, data = small_model("split"), small_data(n=2)
    lengths = torch.tensor([3, 5])
    read = torch.zeros_like(data.read)
    read[torch.arange(2), lengths - 1] = True
    ragged = Data(data.clean, data.counterfactual, read, lengths)
    (padded,) = ragged.batches(2, padded=True)
    source = Alternatives(model, ragged, Ablation.parse("mean[over=batch]"), seed=0, batch_size=2)
    rows = [whole(data, data.clean[i : i + 1, :length])["mlp", 1][0][0] for i, length in enumerate(lengths.tolist())]
    assert_close(source.of(Runs(model, padded))["mlp", 1][0][0, 0], torch.cat(rows).mean(0), **EXACT)


def test_reference_prompts_are_what_a_data_set_mean_is_over():
    data = small_data()
    reference = small_data(n=20, seed=9).clean
    with_reference = Data(data.clean, data.counterfactual, data.read, reference=reference)
    for _, cut in alternatives("mean-positional", with_reference):
        assert_close(cut["mlp", 0][0], whole(data, reference)["mlp", 0][0].mean(0, keepdim=True), **EXACT)


def test_what_has_no_meaning_is_refused_with_the_reason():
    data = small_data()
    alone = Data(data.clean, None, data.read)
    for text in ("patch", "mean-counterfactual", "mean[prompts=both]"):
        with pytest.raises(Undefined, match="needs counterfactual prompts"):
            alternatives(text, alone)
    with pytest.raises(Undefined, match="two prompts at least"):
        alternatives("resample", data.select(torch.tensor([0])))


HALF = """
from dataclasses import dataclass
from circuitmeter.suite.intervention.ablation import Ablation

@dataclass(frozen=True)
class Half(Ablation):
    value, order, named = "half", 35, {"half": {}}

    def words(self):
        return "half of its own output"

    def of(self, model, data, *, seed, batch_size):
        return lambda runs: runs.clean[1].map(lambda part: part / 2)
"""


def test_an_ablation_is_one_file(tmp_path):
    """In a process of its own: kinds are found once."""
    script = """
import sys
from circuitmeter.suite.intervention import ablations
ablations.__path__.append(sys.argv[1])
from circuitmeter.suite.cli import main
from circuitmeter.suite.methods import METHODS
assert "half" in METHODS.get("eap").ablations
where = ["--task", "tracr/detect_ab", "--ablation", "half"]
assert main(["discover", *where, "--method", "exact", "--top", "5", "--out", "circuit.json"]) == 0
assert main(["list", "ablations"]) == 0
"""
    (tmp_path / "half.py").write_text(HALF)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    listed = [line for line in done.stdout.splitlines() if line.split()[:1] in (["zero"], ["half"], ["mean"])]
    assert [line.split()[0] for line in listed] == ["zero", "half", "mean"] and "half of its own" in listed[1]
    assert (tmp_path / "circuit.json").stat().st_size > 100
