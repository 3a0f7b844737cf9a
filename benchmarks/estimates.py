"""Estimates of what methods cost, beside what they then took: passes and seconds, one row per method, as Markdown.

Seconds are CPU seconds of one thread, of the estimate and of the search, so that other programs do not count. A search
that is estimated at less than ten seconds is run twice, and the second run counts: what libraries load at their first
use is in neither.

python benchmarks/estimates.py mini ioi --prompts 16
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from measuring import SMALL

from circuitmeter import tasks
from circuitmeter.suite.data import Data
from circuitmeter.suite.methods import METHODS, Method
from circuitmeter.suite.model.load.by_name import load_model, on_model
from circuitmeter.suite.model.passes import count_passes
from circuitmeter.suite.model.transformer import Transformer
from circuitmeter.suite.plan.names import ablation, objective
from circuitmeter.suite.plan.speed import Speed

LOADING_COUNTS = 10.0  # seconds from which what libraries load is little


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--methods", nargs="+", default=[name for name in METHODS if name not in ("random", "truth")])
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, task = load_model(options.model, device="cpu"), on_model(tasks.load(options.task), options.model)
    data = task.data()
    data = data.select(torch.arange(min(options.prompts, data.n)))
    speed, under = Speed(model, data), ablation("patch")
    print(
        "| model | method | passes declared | counted | estimated s | took s | ratio |\n|---|---|--:|--:|--:|--:|--:|"
    )
    for name in options.methods:
        method = METHODS.get(name)
        by = objective("kl" if method.objectives == "divergence" else task.objective)
        parameters = method.resolve(SMALL.get(name, {}))
        if method.undefined(under, None if method.objectives is None else by, data, model.config):
            continue
        cost = method.cost_of(model.graph, data.n, parameters)
        forecast = speed.forecast(cost)
        estimated = forecast.seconds
        for _ in range(1 + (estimated < LOADING_COUNTS)):
            counted, took = searched(method, model, data, ablation=under, objective=by, **parameters)
        row = f"{forecast.passes:,.0f} | {counted:,.0f} | {estimated:.2f} | {took:.2f} | {estimated / took:.2f}"
        print(f"| {options.model} | {name} | {row} |", flush=True)


def searched(method: Method, model: Transformer, data: Data, **given: Any) -> tuple[float, float]:
    """Forward and backward passes, and CPU seconds, of a search."""
    with count_passes() as passes:
        start = time.thread_time()
        method.discover(model, data, **given)
        took = time.thread_time() - start
    return passes.forward + passes.backward, took


if __name__ == "__main__":
    main()
