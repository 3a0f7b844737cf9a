"""ACDC against a plain pass: an edge tried, and what further thresholds add; compiled models, and GPT-2's shape.

    python benchmarks/acdc.py [--edges 40] [--prompts 8] [--positions 16] [--repeats 3]

On GPT-2's shape the sweep visits edges drawn evenly, in ACDC's order, and all others stay: nodes that a whole sweep
would have left out are computed, so that an edge costs more here than in a whole sweep.
"""

from __future__ import annotations

import argparse

import torch
from measuring import forward, gpt2, in_turn, prompts, table

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods.acdc import sweep_thresholds, visiting_order
from circuitmeter.suite.model.convert import from_huggingface

PATCH = Ablation.parse("patch")
SEVEN = tuple((10 ** torch.linspace(-4, 0, 7, dtype=torch.float64)).tolist())


def compiled(name: str, repeats: int) -> None:
    model, data = ground_truth.load(name).model(), tasks.load(name).data()
    acdc, objective = METHODS.get("acdc"), OBJECTIVES.get("answer-difference")

    def plain() -> None:
        with torch.no_grad():
            for batch in data.batches(data.n):
                model(batch.clean, read=batch.read)

    def found(**given) -> None:
        acdc.discover(model, data, ablation=PATCH, objective=objective, seed=0, **acdc.resolve(given))

    print(f"{name}, {model.graph.n_edges} edges, {data.n} prompts: a sweep, everything included")
    pieces = {"plain": plain, "21 thresholds": found, "1 threshold": lambda: found(thresholds=[1e-2])}
    table(in_turn(pieces, repeats), "plain", {})


def gpt2_shape(n_edges: int, n_prompts: int, positions: int, repeats: int) -> None:
    source = gpt2()
    model, data = from_huggingface(source), prompts(n_prompts, positions, 50257)
    graph, evaluator = model.graph, Evaluator(model, data, PATCH, OBJECTIVES.get("kl"))
    every = graph.exists.nonzero()
    drawn = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:n_edges]]
    chosen = set(map(tuple, drawn.tolist()))
    groups = [[cut for cut in cuts if cut in chosen] for cuts in visiting_order(graph, "reverse", 0)]
    list(evaluator.prepared())
    evaluated = {}

    def sweep(*thresholds: float) -> None:
        evaluated[len(thresholds)] = sweep_thresholds(evaluator, groups, thresholds, 256)[1]

    print(f"GPT-2's shape, {n_edges} of {graph.n_edges:,} edges drawn evenly: an edge, without the set-up")
    pieces = {
        "plain": lambda: forward(source, data),
        "1 threshold": lambda: sweep(SEVEN[3]),
        "7 thresholds": lambda: sweep(*SEVEN),
    }
    table(in_turn(pieces, repeats), "plain", {"1 threshold": n_edges, "7 thresholds": n_edges})
    print("circuits evaluated: " + ", ".join(f"{found} at {n} thresholds" for n, found in evaluated.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("edges", 40), ("prompts", 8), ("positions", 16), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    for name in ("tracr/hist", "tracr/reverse@fixed"):
        compiled(name, given.repeats)
    gpt2_shape(given.edges, given.prompts, given.positions, given.repeats)


if __name__ == "__main__":
    main()
