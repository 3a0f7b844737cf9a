"""How costs grow: with edges, prompts, tokens of a prompt, circuits in one call, and workers.

    python benchmarks/scaling.py [--curves edges prompts tokens circuits workers] [--repeats 2]
    python benchmarks/scaling.py --draw            # the figure alone, from the points that are kept

Random weights of GPT-2 small's width and heads (12 layers, but for the curve of edges), 4 prompts of 16 tokens where
nothing else is said, float32, patch ablation: a plain pass with logits where they are read, EAP of all edges, and the
circuit of EAP's top 1 %, whose data are prepared (so many of it in one call, where circuits are counted). The curve of
workers is the CPU time of all processes for the EAP cells of ``known-circuits-1``, divided by the workers: what n idle
cores would take by the clock. Points are kept in ``scaling.csv``,
where a curve that is measured again replaces the old one, and drawn as ``scaling.svg``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import prompts, random_model
from torch import Tensor

from circuitmeter.reports.draw.lines import lines
from circuitmeter.reports.draw.style import render
from circuitmeter.suite.circuit import top_n
from circuitmeter.suite.intervention.ablation import Ablation
from circuitmeter.suite.intervention.evaluator import Evaluator
from circuitmeter.suite.intervention.objective import OBJECTIVES
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.model.transformer import Transformer

HERE = Path(__file__).parent
CURVES = {
    "edges": "edges of the graph",
    "prompts": "prompts",
    "tokens": "tokens of a prompt",
    "circuits": "circuits in a call",
    "workers": "workers",
}
LAYERS, PROMPTS, TOKENS, CIRCUITS, WORKERS = (
    (3, 6, 12, 24),
    (2, 4, 8, 16, 32),
    (8, 16, 32, 64, 128),
    (1, 2, 4, 8, 16),
    (1, 2, 4),
)
PLAIN, EAP, CIRCUIT, CELLS = "plain pass", "eap", "circuit of 1 %", "90 EAP cells, a worker"


def pieces(model: Transformer, n_prompts: int, positions: int, n_circuits: int = 1) -> dict[str, Callable[[], object]]:
    """What is measured at a point, by name."""
    data = prompts(n_prompts, positions, model.config.d_vocab)
    patch, objective, eap = Ablation.parse("patch"), OBJECTIVES.get("logit-difference"), METHODS.get("eap")
    evaluator = Evaluator(model, data, patch, objective)
    found: list[Tensor] = []

    def plain() -> None:
        with torch.no_grad():
            model(data.clean, data.read)

    def attribute() -> None:
        scores = eap.discover(model, data, ablation=patch, objective=objective).scores
        found[:] = [top_n(scores, model.graph.n_edges // 100).edges[None].repeat(n_circuits, 1, 1)]

    return {PLAIN: plain, EAP: attribute, CIRCUIT: lambda: evaluator.loss(found[0])}


def points(curve: str) -> Iterator[tuple[int, dict[str, Callable[[], object]]]]:
    """The points of a curve: where, and what is measured there."""
    if curve == "edges":
        for layers in LAYERS:
            model = random_model(layers, 12, 768)
            yield model.graph.n_edges, pieces(model, 4, 16)
        return
    model = random_model(12, 12, 768)
    for x in {"prompts": PROMPTS, "tokens": TOKENS, "circuits": CIRCUITS}[curve]:
        if curve == "prompts":
            yield x, pieces(model, x, 16)
        elif curve == "tokens":
            yield x, pieces(model, 4, x)
        else:
            yield x, pieces(model, 4, 16, x)


def measure(curve: str, repeats: int) -> pd.DataFrame:
    """The points of a curve: CPU seconds, the median of the repeats after a first run."""
    rows = []
    if curve == "workers":
        for n in WORKERS:
            command = [sys.executable, str(HERE / "workers.py"), "--one", "--workers", str(n), "--only", "method=eap"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append((curve, n, CELLS, json.loads(done.stdout.splitlines()[-1])["all"] / n))
    else:
        for x, work in points(curve):
            for name, run in work.items():
                if curve == "circuits" and name != CIRCUIT:
                    run()  # EAP chooses the circuit
                    continue
                seconds = []
                for turn in range(repeats + 1):
                    start = time.process_time()
                    run()
                    seconds += [time.process_time() - start] * bool(turn)
                rows.append((curve, x, name, statistics.median(seconds)))
                print(*rows[-1], flush=True)
    found = pd.DataFrame(rows, columns=["curve", "x", "work", "cpu_s"])
    return found.assign(date=str(date.today()))


def draw(table: pd.DataFrame) -> bytes:
    """The figure of all curves as an SVG."""
    panel = table["curve"].map(CURVES)
    shown = pd.DataFrame({"panel": panel, "series": table["work"], "x": table["x"], "y": table["cpu_s"]})
    figure = lines(shown.assign(low=np.nan, high=np.nan, origin="ours"), "", "CPU seconds", log=("x", "y"))
    return render(figure, "svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--draw", action="store_true")
    given = parser.parse_args()
    kept = HERE / "scaling.csv"
    table = pd.read_csv(kept) if kept.exists() else pd.DataFrame()
    for curve in () if given.draw else given.curves:
        others = table[table["curve"] != curve] if len(table) else table
        table = pd.concat([others, measure(curve, given.repeats)], ignore_index=True)
        table["order"] = table["curve"].map(list(CURVES).index)
        table = table.sort_values(["order", "work", "x"], kind="stable").drop(columns="order")
        table.to_csv(kept, index=False, float_format="%.4g", lineterminator="\n")
    (HERE / "scaling.svg").write_bytes(draw(table))


if __name__ == "__main__":
    main()
