"""How fast edge attribution is, against plain passes of the Hugging Face model in the same process.

    python benchmarks/attribution_speed.py [--size small] [--prompts 8] [--positions 16] [--repeats 5]

Random weights, float32. The unit is T_ref: two plain forward passes and one backward pass with respect to the
embeddings, of the source model. Prints CPU seconds (all threads) and wall seconds, medians of the repeats, and the
memory that each piece of work added at its peak. Results so far: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from circuitmeter.suite.circuit import top_n
from circuitmeter.suite.data import Data
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.convert import from_huggingface

SIZES = {"small": (12, 12, 768), "medium": (24, 16, 1024), "large": (36, 20, 1280), "xl": (48, 25, 1600)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--positions", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()

    torch.manual_seed(0)
    layers, heads, width = SIZES[given.size]
    source = GPT2LMHeadModel(GPT2Config(n_layer=layers, n_head=heads, n_embd=width)).eval()
    source.requires_grad_(False)
    model = from_huggingface(source)
    tokens = torch.randint(0, 50257, (2, given.prompts, given.positions))
    read = torch.zeros(given.prompts, given.positions, dtype=torch.bool)
    read[:, -1] = True
    answers = torch.randint(0, 50257, (2, given.prompts, 1))
    data = Data(tokens[0], tokens[1], read, answers=answers[0], wrong=answers[1])
    objective, patch = OBJECTIVES.get("logit-difference"), Ablation.parse("patch")
    evaluator = Evaluator(model, data, patch, objective)
    scores = METHODS.get("eap").discover(model, data, ablation=patch, objective=objective).scores
    circuits = {share: top_n(scores, int(share * model.graph.n_edges)).edges[None] for share in (0.01, 0.5)}

    def reference() -> None:
        with torch.no_grad():
            source(tokens[1])
        embedded = source.transformer.wte(tokens[0]).requires_grad_()
        logits = source(inputs_embeds=embedded).logits[:, -1]
        torch.autograd.grad(logits.gather(1, answers[0]).sum() - logits.gather(1, answers[1]).sum(), embedded)

    @torch.no_grad()
    def plain() -> None:
        source(tokens[0])

    def attribute(name: str) -> Callable[[], object]:
        method = METHODS.get(name)
        parameters = method.resolve({})
        return lambda: method.discover(model, data, ablation=patch, objective=objective, **parameters)

    work: dict[str, tuple[Callable[[], object], float, str]] = {
        "T_ref": (reference, 1, "T_ref"),
        "plain forward": (plain, 1, "plain"),
        "eap": (attribute("eap"), 1, "T_ref"),
        "eap-ig, 5 steps": (attribute("eap-ig"), 1, "T_ref"),
        "one circuit, EAP's top 1 %": (lambda: evaluator.loss(circuits[0.01]), 1, "plain"),
        "one circuit, EAP's top 50 %": (lambda: evaluator.loss(circuits[0.5]), 1, "plain"),
        "20 circuits of 1 % at once, each": (lambda: evaluator.loss(circuits[0.01].repeat(20, 1, 1)), 20, "plain"),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    memory: dict[str, float] = {}
    for name, (run, _, _) in work.items():  # one warm-up each, in which the peak can only grow
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        memory[name] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    for _ in range(given.repeats):  # in turn, so that a slow moment of the machine hits all of them
        for name, (run, count, _) in work.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            seconds[name].append(((time.process_time() - cpu) / count, (time.perf_counter() - wall) / count))
    units = {"T_ref": "T_ref", "plain": "plain forward"}
    print(
        f"{given.size}: {model.graph.n_edges:,} edges, {given.prompts} x {given.positions} tokens, "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{'work':34} {'CPU s':>8} {'wall s':>8} {'ratio (CPU)':>16} {'peak grew by':>13}")
    for name, (_, _, unit) in work.items():
        cpu, wall = (statistics.median(parts) for parts in zip(*seconds[name], strict=True))
        ratios = [mine[0] / its[0] for mine, its in zip(seconds[name], seconds[units[unit]], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} {unit}"
        print(f"{name:34} {cpu:8.3f} {wall:8.3f} {ratio:>16} {memory[name]:10.0f} MB")


if __name__ == "__main__":
    main()
