"""What the benchmarks measure with: pieces of work run in turn, so that a busy machine slows all of them alike."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from circuitmeter.suite.data import Data
from circuitmeter.suite.model.transformer import Config, Transformer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

# Parameters of trained masks and thresholds in small: what they cost is a product of these numbers whatever they are.
SMALL = {
    "acdc": {"thresholds": [0.01, 0.05]},
    "edge-pruning": {"steps": 20, "targets": [0.9, 0.95]},
    "ibcircuit": {"steps": 20},
    "subnetwork-probing": {"steps": 20, "regularisations": [0.1, 0.01]},
    "ugs": {"steps": 10, "samples": 3, "regularisations": [1e-3, 1e-2]},
    "discogp": {"weight_epochs": 5, "edge_epochs": 5},
}


def in_turn(pieces: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Medians over the repeats of CPU and wall seconds and page faults of each piece, and the memory in MB by which its
    first run raised the peak of the process (a lower bound: what an earlier piece had needed is not seen)."""
    found: dict[str, dict[str, list[float]]] = {name: {"cpu": [], "wall": [], "faults": []} for name in pieces}
    extra = {}
    for turn in range(repeats + 1):
        for name, work in pieces.items():
            before, cpu, wall = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
            work()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            after = resource.getrusage(resource.RUSAGE_SELF)
            if turn == 0:  # the first run warms up
                extra[name] = (after.ru_maxrss - before.ru_maxrss) / 1024
                continue
            for key, value in (("cpu", cpu), ("wall", wall), ("faults", after.ru_minflt - before.ru_minflt)):
                found[name][key].append(value)
    medians = {name: {key: statistics.median(values) for key, values in row.items()} for name, row in found.items()}
    return {name: {**row, "extra": extra[name]} for name, row in medians.items()}


def gpt2(layers: int = 12, heads: int = 12, width: int = 768, words: int = 50257) -> GPT2LMHeadModel:
    """A model of GPT-2's architecture with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel  # not where a process measures its peak without it

    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_head=heads, n_embd=width, vocab_size=words)
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


def random_model(layers: int, heads: int, width: int, dtype: torch.dtype = torch.float32) -> Transformer:
    """A model of ours of GPT-2's architecture with random weights, made without transformers and without a copy."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Transformer(Config(layers, heads, width, width // heads, 4 * width, 50257, 50257, 1024)).to(dtype)
    model = model.to_empty(device="cpu")
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float(name.endswith("weight")), std=0.02)
    return model


def prompts(n: int, positions: int, words: int) -> Data:
    """Random prompts with counterfactuals and answers, read at the last position."""
    tokens, answers = torch.randint(0, words, (2, n, positions)), torch.randint(0, words, (2, n, 1))
    read = torch.zeros(n, positions, dtype=torch.bool)
    read[:, -1] = True
    return Data(tokens[0], tokens[1], read, answers=answers[0], wrong=answers[1])


def forward(source: GPT2LMHeadModel, data: Data) -> None:
    """The source model's plain pass with logits at the read positions only."""
    with torch.no_grad():
        source.lm_head(source.transformer(data.clean).last_hidden_state[data.read])


def forward_backward(source: GPT2LMHeadModel, data: Data) -> None:
    """The same, with the gradient at the embeddings."""
    embedded = source.transformer.wte(data.clean).requires_grad_()
    logits = source.lm_head(source.transformer(inputs_embeds=embedded).last_hidden_state[data.read])
    torch.autograd.grad(logits.logsumexp(-1).sum(), embedded)


def table(rows: Mapping[str, Mapping[str, float]], unit: str, shares: Mapping[str, float]) -> None:
    """Prints each row's ratio to the unit, divided by how many units of work it is."""
    for name, row in rows.items():
        ratio = {key: row[key] / rows[unit][key] / shares.get(name, 1.0) for key in ("cpu", "wall")}
        print(
            f"{name}: {row['cpu']:.3f} s CPU, {row['wall']:.3f} s wall, {ratio['cpu']:.2f} {unit} (CPU), "
            f"{ratio['wall']:.2f} (wall), {row['faults']:.0f} page faults, peak +{row['extra']:.0f} MB",
            flush=True,
        )
