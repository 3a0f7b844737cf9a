"""``exact``, an edge, against a plain pass: compiled models, and some edges of every group on GPT-2's shape.

    python benchmarks/exact_patching.py [--edges 40] [--prompts 8] [--positions 16] [--repeats 5]

The plain way is one mask per edge through ``Evaluator.loss``.
"""

from __future__ import annotations

import argparse

import torch
from measuring import forward, gpt2, heading, in_turn, prompts, table

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.convert import from_huggingface
from circuitmeter.suite.model.single_cuts import SingleCuts

PATCH = Ablation.parse("patch")


def masks_without(graph, edges) -> torch.Tensor:
    masks = graph.exists.repeat(len(edges), 1, 1)
    masks[torch.arange(len(edges)), edges[:, 0], edges[:, 1]] = False
    return masks


def compiled(name: str, repeats: int) -> None:
    model, data = ground_truth.load(name).model(), tasks.load(name).data()
    objective, graph = OBJECTIVES.get("answer-difference"), model.graph
    exact = METHODS.get("exact")
    edges = graph.exists.T.nonzero().flip(0).flip(1)

    def plain() -> None:
        with torch.no_grad():
            for batch in data.batches(data.n):
                model(batch.clean, read=batch.read)

    def masked() -> None:
        Evaluator(model, data, PATCH, objective).loss(masks_without(graph, edges))

    def found() -> None:
        exact.discover(model, data, ablation=PATCH, objective=objective, **exact.resolve({}))

    heading(f"{name}, {graph.n_edges} edges, {data.n} prompts: an edge, everything included")
    rows = in_turn({"plain": plain, "exact": found, "masks": masked}, repeats)
    table(rows, "plain", {"exact": graph.n_edges, "masks": graph.n_edges})


def gpt2_shape(n_edges: int, n_prompts: int, positions: int, repeats: int) -> None:
    source = gpt2()
    model, data = from_huggingface(source), prompts(n_prompts, positions, 50257)
    objective, graph = OBJECTIVES.get("logit-difference"), model.graph
    evaluator = Evaluator(model, data, PATCH, objective)
    (ready,) = evaluator.prepared()
    cuts = SingleCuts(model, ready.inputs, ready.prefix, ready.runs.read)
    every = graph.exists.nonzero()
    chosen = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:n_edges]]
    chosen = chosen[chosen[:, 1].argsort(stable=True)]

    def single() -> None:
        for group in graph.groups:
            part = [(w, r) for w, r in chosen.tolist() if group.readers.start <= r < group.readers.stop]
            for start in range(0, len(part), 5):
                objective.loss(cuts.outputs(group, part[start : start + 5]), ready.targets)

    heading(f"GPT-2's shape, {n_edges} of {graph.n_edges:,} edges drawn evenly: an edge, without the set-up")
    pieces = {
        "plain": lambda: forward(source, data),
        "exact": single,
        "masks": lambda: evaluator.loss(masks_without(graph, chosen)),
    }
    table(in_turn(pieces, repeats), "plain", {"exact": n_edges, "masks": n_edges})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("edges", 40), ("prompts", 8), ("positions", 16), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    for name in ("tracr/hist", "tracr/reverse@fixed", "trained/reverse"):
        if name in ground_truth.names():
            compiled(name, given.repeats)
    gpt2_shape(given.edges, given.prompts, given.positions, given.repeats)


if __name__ == "__main__":
    main()
