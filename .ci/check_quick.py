"""Reads the store that ``circuitmeter run quick`` wrote and says what is not as it must be; .ci/run runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from circuitmeter import Store


def problems(path: Path) -> list[str]:
    """One line for everything that is wrong with the store at ``path``; empty when it holds what it should."""
    store = Store(path)
    records = list(store.records())
    wrong = [f"damaged: {entry}" for entry in store.damaged]
    wrong += [
        f"failed: {record['identity']} {record['reason']}"
        for record in records
        if record["kind"] not in (None, "undefined")
    ]
    done = [record for record in records if record["status"] == "done"]
    for name in ("truth", "exact", "acdc", "eap", "eap-ig", "random", "magnitude"):
        if not any(record["identity"]["method"] == name for record in done):
            wrong.append(f"no finished cell of the method {name}")
    for record in done:
        identity = record["identity"]
        own = record["recovery"].get(identity["ablation"], {})
        if identity["method"] == "truth" and own.get("auroc") != 1.0:
            wrong.append(
                f"the truth does not score AUC 1 on {identity['task']} under {identity['ablation']}: {own.get('auc')}"
            )
    if not (path / "report.html").is_file():
        wrong.append("no report.html")
    print(f"{len(done)} cells done, {len(wrong)} problems")
    return wrong


if __name__ == "__main__":
    found = problems(Path(sys.argv[1]))
    print("\n".join(found), file=sys.stderr)
    raise SystemExit(1 if found else 0)
