"""The leaderboard as JSON: the rank and the numbers of each method under each ablation."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from .read.ranking import best_of, rivals
from .read.results import Results

_METRICS = ("auroc", "average_precision", "precision", "recall")


def leaderboard_json(results: Results) -> str:
    """One JSON object: the benchmarks, the numbers of cells, and every method's place under each ablation.

    The same stores give the same text, whichever is named first. The method that is given the answer, and methods that
    were run on fewer programs than others, have no rank.
    """
    benchmarks = results.store.benchmarks()
    done = sum(record.done for record in results.records)
    contents = {
        "format": 1,
        "benchmarks": {name: len(found.cells) for name, found in benchmarks.items()},
        "cells": len(results.records),
        "done": done,
        "ablations": {
            ablation: _ranked(group) for ablation, group in results.aggregate.groupby("ablation", sort=False)
        },
        "faithfulness": _faithfulness(results.faithfulness),
    }
    return json.dumps(contents, indent=1, allow_nan=False) + "\n"


def _ranked(group: pd.DataFrame) -> list[dict[str, Any]]:
    ranked = rivals(group)
    level = {label for _, label in best_of(group)} if len(ranked) else set()
    rows = []
    for found in group.to_dict("records"):
        better = (ranked["auroc"] > found["auroc"] + 1e-9) | (
            (ranked["auroc"] - found["auroc"]).abs().le(1e-9) & (ranked["mean_auroc"] > found["mean_auroc"] + 1e-9)
        )
        rank = 1 + int(better.sum()) if found["label"] in set(ranked["label"]) else None
        row: dict[str, Any] = {"method": found["label"], "rank": rank, "level_with_the_best": found["label"] in level}
        for metric in _METRICS:
            row[metric] = {
                end or "median": _plain(found[f"{metric}{end and '_' + end}"]) for end in ("", "low", "high")
            } | {"n_programs": int(found[f"{metric}_n"])}
        counts = {name: int(found[name]) for name in ("n_programs", "n_cells", "exact_cells", "exact_of")}
        rows.append(row | counts | {name: _plain(found[name]) for name in ("seconds", "passes")})
    return rows


def _faithfulness(table: pd.DataFrame) -> list[dict[str, Any]]:
    names = ["label", "ablation", "evaluation_ablation", "size", "state", "n_programs"]
    measured = ["faithfulness", "faithfulness_low", "faithfulness_high"]
    return [
        {**{name: row[name] for name in names}, **{name: _plain(row[name]) for name in measured}}
        for row in table.to_dict("records")
    ]


def _plain(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
