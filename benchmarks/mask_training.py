"""A step of mask training (Edge Pruning's gates on edges and nodes) against plain forward-backwards, GPT-2's shape.

    python benchmarks/mask_training.py [--layers 12] [--prompts 4] [--positions 16] [--repeats 5]

One buffer and the plain way (``ConcatenatedStream``) in the same process, which must give the same gradients.
"""

from __future__ import annotations

import argparse

import torch
from measuring import forward_backward, gpt2, heading, in_turn, prompts, table

from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods._masks import hard_concrete
from circuitmeter.suite.methods._seeds import Seeds
from circuitmeter.suite.methods.edge_pruning import masks_of
from circuitmeter.suite.model.convert import from_huggingface
from circuitmeter.suite.model.gradient_stream import BufferedStream
from circuitmeter.suite.model.stream import ConcatenatedStream


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("layers", 12), ("prompts", 4), ("positions", 16), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    source = gpt2(given.layers, words=1000)
    model, data = from_huggingface(source), prompts(given.prompts, given.positions, 1000)
    objective = OBJECTIVES.get("kl")
    (ready,) = Evaluator(model, data, Ablation.parse("patch"), objective).prepared()
    chance = Seeds([0], model)
    sizes = (model.graph.n_edges, len(model.graph.writers))
    gates = [chance.starting_at(0.0, size).requires_grad_() for size in sizes]
    noise = [chance.uniform(size) for size in sizes]

    def step(stream: type) -> torch.Tensor:
        sampled = [hard_concrete(gate, u) for gate, u in zip(gates, noise, strict=True)]
        with torch.enable_grad():
            outputs = model.run_cut(
                masks_of(model.graph, *sampled),
                ready.alternative,
                inputs=ready.inputs,
                prefix=ready.prefix,
                read=ready.runs.read,
                gradient_stream=stream,
            )
            return torch.autograd.grad(objective.loss(outputs, ready.targets).sum(), gates)[0]

    rows = in_turn(
        {
            "forward-backward": lambda: forward_backward(source, data),
            "step, one buffer": lambda: step(BufferedStream),
            "step, plain way": lambda: step(ConcatenatedStream),
        },
        given.repeats,
    )
    heading(f"GPT-2's shape, {given.prompts} prompts of {given.positions} tokens: a step of Edge Pruning")
    table(rows, "forward-backward")
    fast, plain = step(BufferedStream), step(ConcatenatedStream)
    print(f"gradients differ by {float((fast - plain).abs().max() / plain.abs().max()):.1e} of the largest, at most")


if __name__ == "__main__":
    main()
