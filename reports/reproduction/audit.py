"""The page of the documentation that says what every paper's values are and what ours is beside them.

``python -m circuitmeter.reports.reproduction.audit docs/papers.md`` writes it; a test compares the two.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .entries import Comparison
from .manifest import Manifest, load, papers

COMMAND = "python -m circuitmeter.reports.reproduction.audit docs/papers.md"
HEAD = f"""# What papers report, and what ours is beside it

Every value that `circuitmeter reproduce` judges, as its manifest says it: what the paper's number is, in which unit,
on which model, task and prompts; what ours is; and why the two are comparable or are not. A value that is not
comparable is never judged: its verdict is **not comparable**, whatever ours is. Values without a number of ours are
not run. On another model than the paper's, ours is of the task and the circuit size that `verdicts.csv` names.
`{COMMAND}` writes this page from `reports/reproduction/papers/`.
"""
_COLUMNS = ("Values", "How many", "What the paper's number is", "Unit", "On", "Ours", "Comparable")


def audit_page() -> str:
    """The page, as Markdown: a table a paper, with a row of the values that are compared in the same way."""
    manifests = [load(name) for name in papers()]
    without = [manifest.name for manifest in manifests if not manifest.values]
    parts = [HEAD, *(_section(manifest) for manifest in manifests if manifest.values)]
    parts.append(f"Manifests with figures and no value to be judged: {', '.join(f'`{name}`' for name in without)}.\n")
    return "\n".join(parts)


def _section(manifest: Manifest) -> str:
    names: dict[Comparison, list[str]] = {each: [] for each in manifest.comparison}
    for value in manifest.values:
        names[manifest.compared(value.name)].append(value.name)
    lines = [f"## {manifest.name}", "", f"{manifest.title} ({manifest.citation}).", "", _row(_COLUMNS)]
    lines.append(_row(("---",) * len(_COLUMNS)))
    for said, of in names.items():
        which = f"`{said.values}`" if said.values != "*" else "all others" if len(names) > 1 else "all"
        ours = said.ours or "nothing: not run"
        lines.append(_row((which, str(len(of)), said.quantity, said.unit, said.on, ours, _comparable(said))))
    return "\n".join([*lines, ""])


def _comparable(said: Comparison) -> str:
    if said.unlike:
        return f"**no**: {said.unlike}"
    return "" if not said.ours else f"yes, but {said.but}" if said.but else "yes"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(audit_page(), encoding="utf-8")
