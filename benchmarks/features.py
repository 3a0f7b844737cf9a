"""Seconds and peak memory of features as nodes, with dictionaries of 16,384 features.

    python benchmarks/features.py [--model smollm2] [--features 16384] [--prompts 4] [--positions 16] [--threads 1]

GPT-2 small's shape with random weights, or a model by its name; random TopK dictionaries (k=32) at the output of MLPs,
in the middle layer, and behind a quarter and three quarters of the layers. Features are scored at one site and at
three, by gradients at the clean run; then EAP scores every edge of the graph of the 64 best ones.
Each piece of work runs in a process of its own, so that a peak is its own; the peak is of the whole process, weights
and libraries included. Results so far: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

WORK = {"plain forward": 0, "score features, one site": 1, "score features, three sites": 3, "eap on the best 64": 1}
_DEPTHS = (1 / 2, 1 / 4, 3 / 4)
_BEST = 64
_MB = 1024  # ru_maxrss is in KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="", metavar="NAME", help="as --model of the commands (default: GPT-2's shape)"
    )
    parser.add_argument("--features", type=int, default=16384)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--positions", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", choices=WORK, help="measure this alone, in this process, and print JSON")
    given = parser.parse_args()
    if given.work:
        print(json.dumps(measure(given.work, given)))
        return
    on = given.model or "GPT-2 small's shape"
    print(
        f"{on}, {given.features:,} features a site, {given.prompts} x {given.positions} tokens, {given.threads} threads"
    )
    print(f"{'work':28} {'edges':>8} {'CPU s':>8} {'wall s':>8} {'before':>9} {'peak':>9}")
    shared = [f"--{name}={getattr(given, name)}" for name in ("model", "features", "prompts", "positions", "threads")]
    for work in WORK:
        done = subprocess.run(
            [sys.executable, __file__, "--work", work, *shared], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        print(
            f"{work:28} {found['edges']:8,} {found['cpu']:8.2f} {found['wall']:8.2f} {found['before_mb']:6.0f} MB "
            f"{found['peak_mb']:6.0f} MB",
            flush=True,
        )


def measure(work: str, given: argparse.Namespace) -> dict[str, float]:
    """One piece of work, after model and dictionaries are made; ``before_mb`` is the peak until then."""
    import torch
    from measuring import prompts, random_model

    from circuitmeter.suite.intervention.ablation import Ablation
    from circuitmeter.suite.intervention.feature_nodes import choose_features, feature_scores
    from circuitmeter.suite.intervention.objective import OBJECTIVES
    from circuitmeter.suite.methods import METHODS
    from circuitmeter.suite.model.features.dictionary import FeatureDictionary
    from circuitmeter.suite.model.features.site import Site
    from circuitmeter.suite.model.features.transformer import FeatureTransformer
    from circuitmeter.suite.model.load.by_name import load_model

    torch.set_num_threads(given.threads)
    model = load_model(given.model, device="cpu") if given.model else random_model(12, 12, 768)
    width, n_layers = model.config.d_model, model.config.n_layers
    data = prompts(given.prompts, given.positions, model.config.d_vocab)
    on = {"ablation": Ablation.parse("patch"), "objective": OBJECTIVES.get("logit-difference")}

    def dictionary() -> FeatureDictionary:
        rows = torch.nn.functional.normalize(torch.randn(given.features, width), dim=1)
        return FeatureDictionary(rows.T, torch.zeros(given.features), rows, torch.zeros(width), "topk", k=32)

    layers = [int(depth * n_layers) for depth in _DEPTHS]
    books = {Site(layer, "mlp_out"): dictionary() for layer in layers[: WORK[work]]}
    edges = model.graph.n_edges
    if work.startswith("eap"):
        chosen = choose_features(feature_scores(model, data, books, **on), _BEST)
        model = FeatureTransformer.of(model, {site: (books[site], chosen[site]) for site in books})
        edges = model.graph.n_edges
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB
    cpu, wall = time.process_time(), time.perf_counter()
    if work.startswith("plain"):
        model(data.clean, data.read)
    elif work.startswith("score"):
        feature_scores(model, data, books, **on)
    else:
        method = METHODS.get("eap")
        method.discover(model, data, **on, **method.resolve({}))
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "edges": edges,
        "before_mb": before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB,
    }


if __name__ == "__main__":
    main()
