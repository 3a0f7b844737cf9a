"""Reads what ``circuitmeter validate --json`` said of the README's method and says what is not as it must be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

METHOD = "my_method.py:discover"
SETTINGS = {(ablation, objective) for ablation in ("patch", "zero") for objective in ("answer-difference", "l2", "kl")}


def problems(found: dict[str, Any]) -> list[str]:
    """One line for everything that is wrong; empty when the method is ranked wherever it ran."""
    wrong = [f"failed: {failure['cell']}: {failure['reason']}" for failure in found["failed"]]
    rankings = {(each["ablation"], each["objective"]): each for each in found["rankings"]}
    if set(rankings) != SETTINGS:
        wrong.append(f"settings {sorted(rankings)} and not {sorted(SETTINGS)}")
    for (ablation, objective), each in rankings.items():
        where, programs = f"under {ablation}, {objective}:", 1 if objective == "kl" else 6
        scores = each["scores"].get(METHOD)
        if not each["rank"] or scores is None:
            wrong.append(f"{where} {each['not_ranked']}")
            continue
        if scores["n_programs"] != programs or (scores["auroc_low"] is None) != (programs == 1):
            wrong.append(f"{where} {scores['n_programs']} programs and an interval from {scores['auroc_low']}")
        rivals = [test["other"].partition(" ")[0] for test in each["comparison"]]
        if rivals != (["random", "eap-ig"] if programs == 6 else ["random"])[: len(rivals)] or not rivals:
            wrong.append(f"{where} compared with {rivals}")
        # Five methods have no meaning under l2: their gradient is zero where it is taken.
        enough = 15 if objective == "answer-difference" else 10
        if programs == 6 and not (each["of"] >= enough and each["comparison"][0]["mean_difference"] > 0.1):
            wrong.append(f"{where} rank {each['rank']} of {each['of']}, {each['comparison'][0]}")
    print(f"{len(rankings)} settings, {len(wrong)} problems")
    return wrong


if __name__ == "__main__":
    found = problems(json.loads(Path(sys.argv[1]).read_text()))
    print("\n".join(found), file=sys.stderr)
    raise SystemExit(1 if found else 0)
