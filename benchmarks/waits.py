"""How often the CPU waits for a device: a plain pass, a cut pass, a step of mask training, and whole searches.

    python benchmarks/waits.py [--methods eap acdc ...]

Counted on the tests' second device, which is main memory under another name (``tests/second_device.py``): a wait is a
copy to the CPU, a blocking copy from it, or an operation whose outcome the CPU has to see. It says nothing about
seconds. A random model of two layers, 8 prompts of 6 tokens, patch ablation; trained masks and thresholds
in small (see ``measuring.SMALL``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from measuring import SMALL, heading, prompts

from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS, _masks
from circuitmeter.suite.model.transformer import Config, Transformer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from second_device import Waits, count_waits, second_device  # noqa: E402 - the path is set above

WITHOUT_SEARCH = ("random", "truth", "ensemble")
PATCH = Ablation.parse("patch")
STEPPED = {
    "edge-pruning": {"targets": [0.5], "rate_warmup": 1},
    "ibcircuit": {},
    "subnetwork-probing": {"regularisations": [0.1]},
    "ugs": {"regularisations": [1e-2], "samples": 3},
}


def model() -> Transformer:
    """Two layers of two heads, on the CPU."""
    torch.manual_seed(0)
    made = Transformer(Config(2, 2, 32, 16, 64, 50, 50, 16))
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return made.requires_grad_(False)


def of_passes() -> dict[str, Waits]:
    """Waits of one plain pass, and of one pass under a mask, prompts prepared."""
    data = prompts(8, 6, 50)
    with second_device() as far, torch.no_grad():
        there = model().to(far)
        evaluator = Evaluator(there, data, PATCH, OBJECTIVES.get("kl"))
        ready = evaluator.prepare(data.batch(torch.arange(data.n)))
        tokens = data.clean.to(far)
        kept = there.graph.exists & (torch.rand(there.graph.exists.shape) < 0.1)
        with count_waits() as plain:
            there(tokens, read=ready.runs.read)
        with count_waits() as cut:
            there.run_cut(kept[None], ready.alternative, inputs=ready.inputs, prefix=ready.prefix, read=ready.runs.read)
    return {"a plain pass": plain, "a cut pass": cut}


def of_search(name: str, parameters: Mapping[str, object]) -> Waits:
    """Waits of a whole search."""
    method = METHODS.get(name)
    objective = OBJECTIVES.get("kl" if method.objectives == "divergence" else "logit-difference")
    with second_device() as far:
        there, data, given = model().to(far), prompts(8, 6, 50), method.resolve(dict(parameters))
        with count_waits() as waits:
            method.discover(there, data, ablation=PATCH, objective=objective, **given)
    return waits


def of_step(name: str) -> float:
    """Waits of one step of mask training, where it records nothing: what three more steps add, by three."""
    record, _masks._record = _masks._record, lambda curve, step, terms: None
    try:
        few, more = (sum(of_search(name, STEPPED[name] | {"steps": steps}).values()) for steps in (2, 5))
    finally:
        _masks._record = record
    return (more - few) / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in METHODS if name not in WITHOUT_SEARCH]
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    given = parser.parse_args()
    heading(f"Waits for a device, {model().graph.n_edges} edges")
    print("| work | waits |\n|---|--:|")
    for what, waits in of_passes().items():
        print(f"| {what} | {sum(waits.values())} |", flush=True)
    for name in STEPPED:
        print(f"| a step of {name} | {of_step(name):g} |", flush=True)
    for name in given.methods:
        print(f"| {name}, a search | {sum(of_search(name, SMALL.get(name, {})).values()):,} |", flush=True)


if __name__ == "__main__":
    main()
