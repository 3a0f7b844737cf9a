"""Seconds and peak memory of attribution on GPT-2's four shapes, up to XL's 2,235,025 edges.

    python benchmarks/large_shapes.py [--sizes small medium large xl] [--prompts 4] [--positions 16] [--threads 1]

Random weights in the real configurations, built here and not read: no time and no memory of a checkpoint is in the
numbers. Each size and each work runs in a process of its own, so that a peak is its own; the peak is of the whole
process, weights and libraries included. Results so far: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

SIZES = {"small": (12, 12, 768), "medium": (24, 16, 1024), "large": (36, 20, 1280), "xl": (48, 25, 1600)}
WORK = ("plain forward", "eap", "eap-ig, 5 steps", "one circuit, 1 %")
_MB = 1024  # ru_maxrss is in KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--positions", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--work", choices=WORK, help="measure this alone, in this process, and print JSON")
    given = parser.parse_args()
    if given.work:
        print(json.dumps(measure(given.sizes[0], given.work, given)))
        return
    print(f"{given.prompts} x {given.positions} tokens, {given.dtype}, {given.threads} threads")
    print(
        f"{'shape':8} {'edges':>10} {'weights':>9} {'work':18} {'CPU s':>8} {'wall s':>8} "
        f"{'us an edge':>10} {'peak':>9}"
    )
    shared = ["--prompts", given.prompts, "--positions", given.positions, "--threads", given.threads]
    for size in given.sizes:
        for work in WORK:
            command = [sys.executable, __file__, "--sizes", size, "--work", work, "--dtype", given.dtype, *shared]
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            print(
                f"{size:8} {found['edges']:10,} {found['weights_mb']:6.0f} MB {work:18} {found['cpu']:8.2f} "
                f"{found['wall']:8.2f} {1e6 * found['cpu'] / found['edges']:10.1f} {found['peak_mb']:6.0f} MB",
                flush=True,
            )


def measure(size: str, work: str, given: argparse.Namespace) -> dict[str, float]:
    """One run of one piece of work, after the model is built."""
    import torch
    from measuring import prompts, random_model

    from circuitmeter.suite.circuit import EdgeScores, top_n
    from circuitmeter.suite.intervention.ablation import Ablation
    from circuitmeter.suite.intervention.evaluator import Evaluator
    from circuitmeter.suite.intervention.objective import OBJECTIVES
    from circuitmeter.suite.methods import METHODS

    torch.set_num_threads(given.threads)
    model = random_model(*SIZES[size], dtype=getattr(torch, given.dtype))
    data = prompts(given.prompts, given.positions, model.config.d_vocab)
    objective, patch = OBJECTIVES.get("logit-difference"), Ablation.parse("patch")

    def attribute(name: str) -> None:
        method = METHODS.get(name)
        method.discover(model, data, ablation=patch, objective=objective, **method.resolve({}))

    runs = {
        "plain forward": lambda: model(data.clean, data.read),
        "eap": lambda: attribute("eap"),
        "eap-ig, 5 steps": lambda: attribute("eap-ig"),
    }
    if work not in runs:
        scores = EdgeScores(model.graph, torch.rand(model.graph.exists.shape, dtype=torch.float64))
        masks = top_n(scores, model.graph.n_edges // 100).edges[None]
        runs[work] = lambda: Evaluator(model, data, patch, objective).loss(masks)
    cpu, wall = time.process_time(), time.perf_counter()
    runs[work]()
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "edges": model.graph.n_edges,
        "weights_mb": sum(weight.nbytes for weight in model.parameters()) / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB,
    }


if __name__ == "__main__":
    main()
