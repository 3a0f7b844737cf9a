"""Every method on a GPU: that it finds what it finds on the CPU, and what it takes on GPT-2's shape.

    python benchmarks/gpu.py [--device cuda] [--shape small] [--methods eap eap-ig ...]
    python benchmarks/gpu.py --device cpu --shape tiny            # the script itself, where there is no GPU

Two tables, as Markdown. The first compares the edge scores of each method on the device and on the CPU, on a model of
two layers: the largest difference, in shares of the largest score. The second runs each method once on the shape asked
for, random weights, edges of attention and MLPs, 8 prompts of 16 tokens: seconds, the memory that it added at its peak,
and how often the CPU waited for the device. Trained masks and thresholds run in small, and their seconds at the
defaults are scaled by the cost that the method declares. Methods that cut every edge by itself are in the first table,
and in the second on shapes of at most 5,000 edges alone. Results so far: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measuring import SMALL, gpt2, prompts
from scipy.stats import spearmanr
from torch import Tensor

from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.objective import OBJECTIVES, Objective
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods.registry import Method
from circuitmeter.suite.model.convert import from_huggingface
from circuitmeter.suite.model.device import resolve, wait_for
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.model.transformer import Transformer

SHAPES = {"tiny": (2, 2, 16, 50), "small": (12, 12, 768, 50257), "medium": (24, 16, 1024, 50257)}
WITHOUT_SEARCH = ("random", "truth", "ensemble")
SINGLE_CUTS = ("eap-hvp", "exact", "gate-aware")  # one run an edge, or more
MOST_CUTS = 5_000  # edges up to which these are run


@dataclass(frozen=True)
class Run:
    """What one search took; ``memory`` in bytes and ``waits`` where the device is a GPU."""

    seconds: float
    memory: int | None
    waits: int | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--positions", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=[name for name in METHODS if name not in WITHOUT_SEARCH])
    given = parser.parse_args()
    device = resolve(given.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"{card}, torch {torch.__version__}, products in float32 ({torch.get_float32_matmul_precision()})\n")
    agreement(given.methods, device)
    costs(given, device)


def agreement(methods: list[str], device: torch.device) -> None:
    """Prints each method's scores on the device beside the CPU's, on the tiny shape."""
    print("| method | largest difference of a score, in shares of the largest | rank correlation |\n|---|--:|--:|")
    layers, heads, width, words = SHAPES["tiny"]
    source, data = gpt2(layers, heads, width, words), prompts(4, 6, words)
    for name in methods:
        method = METHODS.get(name)
        found = []
        for where in (torch.device("cpu"), device):
            model = from_huggingface(source).to(where)
            found.append(search(method, model, data, SMALL.get(name, {}))().cpu())
        cpu, far = found
        difference = float((cpu - far).abs().max() / cpu.abs().max().clamp_min(1e-30))
        order = f"{spearmanr(cpu, far).statistic:.4f}" if len(cpu.unique()) > 1 else "all scores equal"
        print(f"| {name} | {difference:.1e} | {order} |", flush=True)


def costs(given: argparse.Namespace, device: torch.device) -> None:
    """Prints what each method takes on the shape asked for."""
    layers, heads, width, words = SHAPES[given.shape]
    model = from_huggingface(gpt2(layers, heads, width, words)).to(device)
    data = prompts(given.prompts, given.positions, words)
    print(f"\n{given.shape}: {model.graph.n_edges:,} edges, {data.n} prompts of {given.positions} tokens\n")
    print("| method | seconds | at the defaults, by declared cost | added at the peak | waits |\n|---|--:|--:|--:|--:|")
    for name in given.methods:
        method = METHODS.get(name)
        if name in SINGLE_CUTS and model.graph.n_edges > MOST_CUTS:
            print(f"| {name} | not run: {model.graph.n_edges:,} edges cut one by one | | | |", flush=True)
            continue
        small = SMALL.get(name, {})
        run = measured(search(method, model, data, small), device)
        print(
            f"| {name} | {run.seconds:.2f} | {run.seconds * times_dearer(method, model.graph, data.n, small):.0f} "
            f"| {'' if run.memory is None else f'{run.memory / 1e6:.0f} MB'} "
            f"| {'' if run.waits is None else run.waits} |",
            flush=True,
        )


def search(method: Method, model: Transformer, data: Data, parameters: dict) -> Callable[[], Tensor]:
    """The search under patch, by an objective that the method can follow: a function that returns the edges' scores."""
    objective: Objective = OBJECTIVES.get("kl" if method.objectives == "divergence" else "logit-difference")
    given = method.resolve(parameters)

    def run() -> Tensor:
        found = method.discover(model, data, ablation=Ablation.parse("patch"), objective=objective, **given)
        return found.scores.values[model.graph.exists]

    return run


def measured(work: Callable[[], object], device: torch.device) -> Run:
    """The work, once to warm up where there is a GPU, then with the clock, then with the waits counted."""
    if device.type != "cuda":
        start = time.perf_counter()
        work()
        return Run(time.perf_counter() - start, None, None)
    work()
    wait_for(device)
    torch.cuda.reset_peak_memory_stats(device)
    held, start = torch.cuda.memory_allocated(device), time.perf_counter()
    work()
    wait_for(device)
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated(device) - held
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Run(seconds, memory, sum("synchroniz" in str(each.message) for each in seen))


def times_dearer(method: Method, graph: Graph, n_prompts: int, small: dict) -> float:
    """How many times the passes of the small setting the method's defaults take, as it declares them."""
    default, ran = (method.cost_of(graph, n_prompts, method.resolve(each)) for each in ({}, small))
    return default.passes / ran.passes if default and ran and ran.passes else 1.0


if __name__ == "__main__":
    main()
