"""ACDC against a plain pass: an edge tried, and what further thresholds add; compiled models, `mini`, GPT-2's shape.

    python benchmarks/acdc.py [--edges 40] [--prompts 8] [--positions 16] [--repeats 3] [--parts compiled mini gpt2]

On GPT-2's shape the sweep visits edges drawn evenly, in ACDC's order, and all others stay: nodes that a whole sweep
would have left out are computed, so that an edge costs more here than in a whole sweep. The row `5 %` tries the same
edges where of the edges above each group a twentieth is kept and all nodes are live.
"""

from __future__ import annotations

import argparse

import torch
from measuring import forward, gpt2, heading, in_turn, prompts, table

from circuitmeter import ground_truth, tasks
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.cut_candidates import ByDescendants, HeldCircuit
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods._sweeps import sweep_thresholds
from circuitmeter.suite.methods.acdc import visiting_order
from circuitmeter.suite.model.convert import from_huggingface
from circuitmeter.suite.model.load.by_name import load_model, on_model

PATCH = Ablation.parse("patch")
AT_ONCE = 8
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

    heading(f"{name}, {model.graph.n_edges} edges, {data.n} prompts: a sweep, everything included")
    pieces = {"plain": plain, "21 thresholds": found, "1 threshold": lambda: found(thresholds=[1e-2])}
    table(in_turn(pieces, repeats), "plain")


def trained(n_prompts: int, repeats: int) -> None:
    model = load_model("mini", device="cpu")
    data = on_model(tasks.load("ioi"), "mini").data().select(torch.arange(n_prompts))
    acdc, objective = METHODS.get("acdc"), OBJECTIVES.get("kl")

    def plain() -> None:
        with torch.no_grad():
            for batch in data.batches(data.n):
                model(batch.clean, read=batch.read)

    def found(*thresholds: float) -> None:
        given = acdc.resolve({"thresholds": list(thresholds)})
        acdc.discover(model, data, ablation=PATCH, objective=objective, seed=0, **given)

    heading(f"mini on ioi, {model.graph.n_edges} edges, {data.n} prompts: an edge, everything included")
    pieces = {"plain": plain, "1 threshold": lambda: found(SEVEN[3]), "7 thresholds": lambda: found(*SEVEN)}
    table(in_turn(pieces, repeats), "plain", dict.fromkeys(("1 threshold", "7 thresholds"), model.graph.n_edges))


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

    candidates = ByDescendants(evaluator, 1)
    random = torch.rand(graph.exists.shape, generator=torch.Generator().manual_seed(1)).numpy() < 0.05

    def decided() -> None:
        for group, cuts in zip([group for group in reversed(graph.groups) if group.reads], groups, strict=True):
            kept = graph.existing.copy()
            kept[:, group.readers.stop :] &= random[:, group.readers.stop :]
            kept[:, -1] = graph.existing[:, -1]  # all nodes are live, as in the circuits of small thresholds
            circuit, asked = HeldCircuit(kept), []
            candidates.enter(group)
            for writer, reader in cuts:
                without = kept.copy()
                without[writer, reader] = False
                asked.append(without)
            for start in range(0, len(asked), AT_ONCE):
                candidates.losses(group, [(circuit, asked[start : start + AT_ONCE])])
            candidates.drop(circuit)

    heading(f"GPT-2's shape, {n_edges} of {graph.n_edges:,} edges drawn evenly: an edge, without the set-up")
    pieces = {
        "plain": lambda: forward(source, data),
        "1 threshold": lambda: sweep(SEVEN[3]),
        "7 thresholds": lambda: sweep(*SEVEN),
        "5 %": decided,
    }
    table(in_turn(pieces, repeats), "plain", dict.fromkeys(("1 threshold", "7 thresholds", "5 %"), n_edges))
    print("circuits evaluated: " + ", ".join(f"{found} at {n} thresholds" for n, found in evaluated.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("edges", 40), ("prompts", 8), ("positions", 16), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--parts", nargs="+", default=["compiled", "mini", "gpt2"])
    given = parser.parse_args()
    for name in ("tracr/hist", "tracr/xproportion", "tracr/reverse@fixed") if "compiled" in given.parts else ():
        compiled(name, given.repeats)
    if "mini" in given.parts:
        trained(given.prompts, given.repeats)
    if "gpt2" in given.parts:
        gpt2_shape(given.edges, given.prompts, given.positions, given.repeats)


if __name__ == "__main__":
    main()
