"""What the benchmarks measure with: pieces of work in turn, their ratios, and models and prompts to run them on."""

from __future__ import annotations

import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from circuitmeter.suite.data import Data
from circuitmeter.suite.model.transformer import Config, Transformer

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, LlamaForCausalLM

# Parameters of trained masks and thresholds in small: what they cost is a product of these numbers whatever they are.
SMALL = {
    "acdc": {"thresholds": [0.01, 0.05]},
    "edge-pruning": {"steps": 20, "targets": [0.9, 0.95]},
    "ibcircuit": {"steps": 20},
    "subnetwork-probing": {"steps": 20, "regularisations": [0.1, 0.01]},
    "ugs": {"steps": 10, "samples": 3, "regularisations": [1e-3, 1e-2]},
    "discogp": {"weight_epochs": 5, "edge_epochs": 5},
}


@dataclass
class Measured:
    """What a piece of work took in each turn.

    Args:
        cpu, wall: seconds; of all threads, and by the clock.
        faults: pages that were touched for the first time.
        extra: MB by which the peak of resident memory exceeded what was resident before.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    faults: list[float] = field(default_factory=list)
    extra: list[float] = field(default_factory=list)

    def ratio(self, unit: Measured, share: float = 1.0, clock: str = "cpu") -> float:
        """The median over the turns of how many times the unit of the same turn a share of this work takes."""
        pairs = zip(getattr(self, clock), getattr(unit, clock), strict=True)
        return statistics.median(mine / its for mine, its in pairs) / share


def in_turn(pieces: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Measured]:
    """Each piece once to warm up, and then all of them in turn, so that a slow moment of the machine hits all alike."""
    found = {name: Measured() for name in pieces}
    for turn in range(repeats + 1):
        for name, work in pieces.items():
            held = _resident(reset_peak=True)
            before, cpu, wall = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
            work()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            after = resource.getrusage(resource.RUSAGE_SELF)
            found[name].extra.append(_peak() - held)  # of the first turn, too: memory kept for the next ones is seen
            if turn:
                found[name].cpu.append(cpu)
                found[name].wall.append(wall)
                found[name].faults.append(after.ru_minflt - before.ru_minflt)
    return found


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _resident(reset_peak: bool = False) -> float:
    """Resident memory in MB; its peak may be set to what it is now (proc(5)). Linux alone says it: NaN elsewhere."""
    if reset_peak and _CLEAR.exists():
        _CLEAR.write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    if not _STATUS.exists():
        return math.nan
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def heading(what: str) -> None:
    """Prints what is measured next, when, and on what."""
    load = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"
    print(f"\n{what}. {date.today()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {load}\n")


def gpt2(layers: int = 12, heads: int = 12, width: int = 768, words: int = 50257) -> GPT2LMHeadModel:
    """A model of GPT-2's architecture with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel  # not where a process measures its peak without it

    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, n_head=heads, n_embd=width, vocab_size=words)
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


def llama() -> LlamaForCausalLM:
    """A model of SmolLM2-135M's shape with random weights: 30 layers, nine query and three key-value heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        hidden_size=576,
        intermediate_size=1536,
        vocab_size=49152,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


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


def forward(source: GPT2LMHeadModel | LlamaForCausalLM, data: Data, tokens: torch.Tensor | None = None) -> None:
    """The source model's plain pass with logits at the read positions only."""
    with torch.no_grad():
        found = source.base_model(data.clean if tokens is None else tokens, use_cache=False).last_hidden_state
        source.lm_head(found[data.read])


def forward_backward(source: GPT2LMHeadModel | LlamaForCausalLM, data: Data) -> None:
    """The same, with the gradient at the embeddings."""
    embedded = source.get_input_embeddings()(data.clean).requires_grad_()
    hidden = source.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    torch.autograd.grad(source.lm_head(hidden[data.read]).logsumexp(-1).sum(), embedded)


def table(
    rows: Mapping[str, Measured], unit: str | Mapping[str, str], shares: Mapping[str, float] | None = None
) -> None:
    """Prints the rows as a Markdown table, each with its ratio to its unit.

    Args:
        unit: the row that is 1, of all rows or by row.
        shares: how many units of work a row is, where that is not one: edges tried, circuits in a call.
    """
    print("| work | CPU s | wall s | ratio (CPU) | ratio (wall) | page faults | peak + MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, row in rows.items():
        of = unit if isinstance(unit, str) else unit.get(name, name)
        share = (shares or {}).get(name, 1.0)
        cpu, wall = (row.ratio(rows[of], share, clock) for clock in ("cpu", "wall"))
        words = "1" if of == name else f"{cpu:.2f} {of}"
        print(
            f"| {name} | {statistics.median(row.cpu):.3f} | {statistics.median(row.wall):.3f} | {words} | {wall:.2f} "
            f"| {statistics.median(row.faults):,.0f} | {max(row.extra):.0f} |",
            flush=True,
        )
