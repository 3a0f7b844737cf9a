"""``submit mib``: what is written is what the leaderboard's own loader asks for, and every mistake is one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from circuitmeter.suite.cli import main
from circuitmeter.suite.errors import DataError
from circuitmeter.suite.interchange import mib, read
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.reading import StoreReader


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A store with two methods on one task of a model of GPT-2 small's graph, and the folder of that model."""
    folder = tmp_path_factory.mktemp("submit")
    sizes = {"n_layer": 12, "n_head": 12, "n_embd": 24, "n_positions": 8, "vocab_size": 10}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder / "small")
    rows = [{"clean": [1, i, 2], "counterfactual": [1, 3, 2], "answer": i, "wrong": 3} for i in (4, 5)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    grid = {"task": [str(folder / "prompts.jsonl")], "model": str(folder / "small"), "prompts": 2}
    grid |= {"method": ["eap", "random"], "ablation": "patch", "objective": "logit-difference", "seed": [0, 1]}
    run(Spec.of({"name": "own", "grid": grid}), folder / "store", workers=1, executor="serial")
    return folder


def submit(there, out, *more):
    names = ("--tasks", "prompts.jsonl=ioi", "--models", f"{there / 'small'}=gpt2")
    return main(["submit", "mib", str(there / "store"), "--out", str(out), *names, *more])


@pytest.fixture(scope="module")
def submission(there):
    """What is written of both methods."""
    assert submit(there, there / "out") == 0
    return there / "out"


def test_every_edge_has_the_score_that_the_store_has(there, submission):
    folders = sorted(path.name for path in submission.iterdir())
    assert folders == ["eap_patch_edge_abs-True", "random_patch_edge_abs-True"]
    content = json.loads((submission / folders[0] / "ioi_gpt2" / "importances.json").read_text())
    # The parts that MIB's load_graph_from_json reads, and EAP-IG's names of GPT-2 small's 32,491 edges.
    assert content["cfg"] == {"n_layers": 12, "n_heads": 12, "parallel_attn_mlp": False, "d_model": 24}
    assert len(content["edges"]) == 32_491 and len(content["nodes"]) == 158
    assert all(isinstance(node["in_graph"], bool) for node in content["nodes"].values())
    assert all({"score", "in_graph"} <= edge.keys() for edge in content["edges"].values())
    reader = StoreReader(there / "store")
    (key,) = [record.key for record in reader.records() if record.identity.method == "eap"]
    found = read(submission / folders[0] / "ioi_gpt2" / "importances.json").alone()
    graph = found.circuit.graph
    assert found.scores.flat().tolist() == reader.scores(key)[graph.exists.numpy()].tolist()
    assert found.circuit.n_edges == graph.n_edges


def test_methods_and_the_ranking_are_chosen(there, tmp_path, capsys):
    assert submit(there, tmp_path / "out", "--method", "random", "--signed", "--json") == 0
    printed = capsys.readouterr()
    assert "2 tasks and 2 models at least" in printed.err
    written = json.loads(printed.out)
    assert written == {str(tmp_path / "out" / "random_patch_edge_abs-False"): ["ioi_gpt2"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--method", "eapig"], "no method in this store 'eapig'"),
        (["--tasks", "prompts.jsonl=ioy"], "Did you mean 'ioi'?"),
        (["--models", "small=gpt3"], "Did you mean 'gpt2'?"),
        (["--tasks", "prompts.jsonl"], "write OURS=THEIRS"),
        (["--tasks", "other.jsonl=ioi"], "it has prompts.jsonl on small"),
        (["--models", "{small}=llama3"], "has 12 layers of 12 heads, and MIB's llama3 has 32 of 32"),
    ],
)
def test_a_mistake_is_one_line(there, tmp_path, capsys, arguments, says):
    arguments = [text.replace("{small}", str(there / "small")) for text in arguments]
    assert submit(there, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_folder_that_is_there_is_not_written_to(there, tmp_path, capsys):
    assert submit(there, tmp_path) == 2
    assert "is there already" in capsys.readouterr().err


def test_what_the_leaderboard_would_refuse_is_found(submission, tmp_path):
    folder = Path(shutil.copytree(submission / "eap_patch_edge_abs-True", tmp_path / "out"))
    assert mib.check_submission(folder) == ["ioi_gpt2"]
    (folder / "ioi_gpt2").rename(folder / "ioi-gpt2")
    with pytest.raises(DataError, match="ioi-gpt2 is no folder of MIB's; name it TASK_MODEL"):
        mib.check_submission(folder)
    (folder / "ioi-gpt2").rename(folder / "ioi_llama3")
    with pytest.raises(DataError, match="12 layers of 12 heads"):
        mib.check_submission(folder)
    (folder / "ioi_llama3" / "importances.json").unlink()
    with pytest.raises(DataError, match=r"ioi_llama3 has no importances.json"):
        mib.check_submission(folder)
    (folder / "ioi_llama3").rmdir()
    with pytest.raises(DataError, match="is empty"):
        mib.check_submission(folder)
