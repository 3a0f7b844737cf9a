"""EAP, EAP-IG, one circuit and the set-up of a data set, against plain passes of the Hugging Face model.

    python benchmarks/attribution.py [--shape gpt2 llama] [--prompts 8] [--positions 16] [--repeats 5]

Random weights, float32, patch ablation. ``plain`` is a forward pass with logits where they are read, ``T_ref`` two of
them and a backward pass with respect to the embeddings, ``own passes`` what EAP-IG has to run: two forward passes and
five forward and backward. A circuit alone finds its data prepared; with the set-up, it does not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from measuring import forward, forward_backward, gpt2, heading, in_turn, llama, prompts, table

from circuitmeter.suite.circuit import top_n
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.convert import from_huggingface

SHAPES = {"gpt2": gpt2, "llama": llama}
SHARES = (0.01, 0.1, 0.5)
AT_ONCE = 20


def measure(shape: str, n_prompts: int, positions: int, repeats: int) -> None:
    source = SHAPES[shape]()
    model, data = from_huggingface(source), prompts(n_prompts, positions, source.config.vocab_size)
    objective, patch = OBJECTIVES.get("logit-difference"), Ablation.parse("patch")
    scores = METHODS.get("eap").discover(model, data, ablation=patch, objective=objective).scores
    masks = {share: top_n(scores, int(share * model.graph.n_edges)).edges[None] for share in SHARES}
    evaluator = Evaluator(model, data, patch, objective)

    def attribute(name: str) -> Callable[[], object]:
        method = METHODS.get(name)
        return lambda: method.discover(model, data, ablation=patch, objective=objective, **method.resolve({}))

    def passes(n_gradients: int) -> None:
        forward(source, data, data.counterfactual)
        if n_gradients > 1:
            forward(source, data)
        for _ in range(n_gradients):
            forward_backward(source, data)

    circuits = {f"circuit of {share:.0%}": lambda share=share: evaluator.loss(masks[share]) for share in SHARES}
    together = f"{AT_ONCE} circuits of 1%, each"
    pieces = {
        "plain": lambda: forward(source, data),
        "T_ref": lambda: passes(1),
        "EAP": attribute("eap"),
        "own passes": lambda: passes(5),
        "EAP-IG, 5 steps": attribute("eap-ig"),
        **circuits,
        together: lambda: evaluator.loss(masks[0.01].repeat(AT_ONCE, 1, 1)),
        "set-up and circuit of 1%": lambda: Evaluator(model, data, patch, objective).loss(masks[0.01]),
    }
    units = {"EAP": "T_ref", "EAP-IG, 5 steps": "own passes"} | dict.fromkeys(circuits, "plain")
    units |= {"T_ref": "plain", "own passes": "plain", together: "plain", "set-up and circuit of 1%": "plain"}
    heading(f"{shape}: {model.graph.n_edges:,} edges, {n_prompts} prompts of {positions} tokens")
    table(in_turn(pieces, repeats), units, {together: AT_ONCE})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--positions", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    for shape in given.shape:
        measure(shape, given.prompts, given.positions, given.repeats)


if __name__ == "__main__":
    main()
