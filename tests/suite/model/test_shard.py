"""Weights sharded over two processes: masks train as in one, and scores are the same."""

import datetime

import pytest
import torch
import torch.distributed as dist
from discovering import discover
from oracles import ARCHITECTURES, small_data, small_model
from safetensors.torch import load_file, save_file

from circuitmeter.suite.errors import ModelError
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.model.load.processes import shard
from circuitmeter.suite.model.passes import count_passes
from circuitmeter.suite.process import start

# Five prompts in batches of three: processes get two and one, then one and one; then one batch of one, for one of them.
TRAINING = {"objective": "kl", "preset": "quick", "steps": 5, "warmup": 2, "batch_size": 3, "targets": [0.5, 0.9]}
KINDS = ("gemma-2",)  # grouped queries, rotations, and norms on both sides


def results(model):
    """All that is compared: trained masks and their curve, attribution, losses of circuits, passes."""
    data = small_data(n=5)
    with count_passes() as spent:
        trained = discover("edge-pruning", model, data, **TRAINING)
        masks = discover("ugs", model, data, ablation="optimal", objective="kl", preset="quick", steps=3, batch_size=1)
    eap = discover("eap", model, data).scores.values
    kept = torch.rand(3, *model.graph.exists.shape, generator=torch.Generator().manual_seed(4)) < 0.7
    evaluator = Evaluator(model, data, Ablation.parse("patch"), OBJECTIVES.get("logit-difference"))
    return {
        "edge-pruning": trained.scores.values.nan_to_num(),
        "curve": torch.tensor(trained.diagnostics["curve"]["divergence"], dtype=torch.float64),
        "ugs": masks.scores.values.nan_to_num(),
        "eap": eap.nan_to_num(),
        "losses": evaluator.per_example(kept.double()),
        "passes": torch.tensor([spent.forward, spent.backward]),
    }


def work(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, datetime.timedelta(seconds=60), world_size=2, rank=rank)
    found: dict[str, torch.Tensor] = {}
    for kind in KINDS:
        model = shard(small_model(**ARCHITECTURES[kind]))
        for name, value in results(model).items():
            found[f"{kind}/{name}"] = value.contiguous()
        # Behind all passes, so that nothing has stayed whole.
        stored = sum(weight.to_local().numel() for weight in model.blocks.parameters())
        found[f"{kind}/stored"] = torch.tensor(stored)
    save_file(found, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()


def test_two_processes_find_what_one_does(tmp_path):
    # The server of worker processes forks these, too: it has imported torch, which takes a new interpreter seconds.
    processes = [start(work, rank, str(tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    found = [load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1)]
    for kind in KINDS:
        model = small_model(**ARCHITECTURES[kind])
        whole = sum(weight.numel() for weight in model.blocks.parameters())
        stored = [int(one[f"{kind}/stored"]) for one in found]
        assert sum(stored) == whole and max(stored) < 0.6 * whole
        for name, expected in results(model).items():
            for one in found:
                assert torch.allclose(one[f"{kind}/{name}"], expected, rtol=1e-6, atol=1e-9), f"{kind}: {name}"
            assert torch.equal(*(one[f"{kind}/{name}"] for one in found)), f"{kind}: {name}"


def test_without_a_process_group_it_says_what_to_do():
    with pytest.raises(ModelError, match="run with torchrun"):
        shard(small_model())
