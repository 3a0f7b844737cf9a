"""What was asked for, how far it is, and what the numbers were computed with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from ...suite.store.record import Benchmark, Environment
from ..page.table import Table, TableCell, count_cell, text_cell
from ..read.results import Results
from ..read.tables import entry_text, flat, provenance_table
from .chapter import Chapter, chapter

_MOST_VALUES = 6
"""Different values of one entry that are listed; more are counted."""


@chapter
class ProvenanceChapter(Chapter):
    """The benchmarks of the stores, and the versions, machines and settings of their cells."""

    name, title, order = "provenance", "Provenance", 90
    of_circuits = False

    def tables(self, results: Results) -> Sequence[Table]:
        statuses = {record.key: record.status for record in results.records}
        named = Counter(record.provenance.environment for record in results.records)
        kept = results.store.environments()
        made_in = {name: kept[name] for name in sorted(kept) if name in named}
        return (
            benchmark_progress(results.store.benchmarks(), statuses),
            provenance_entries(provenance_table(results.records)),
            *([environments(made_in, named)] if made_in else []),  # older stores do not hold environments
        )


def benchmark_progress(asked: Mapping[str, Benchmark], statuses: Mapping[str, str]) -> Table:
    """What the stores were filled for, and how far.

    Args:
        asked: ``Stores.benchmarks()``.
        statuses: cell key -> ``done`` or ``failed``, of the cells that there are.
    """
    rows, data = [], []
    for name, benchmark in asked.items():
        cells = benchmark.cells
        done = sum(statuses.get(key) == "done" for key in cells)
        missing = sum(key not in statuses for key in cells)
        counts = (len(cells), done, len(cells) - done - missing, missing)
        which, measures = benchmark.standing or benchmark.hash or "", str(benchmark.spec.get("description", ""))
        rows.append((text_cell(name), text_cell(which), *map(count_cell, counts), text_cell(measures)))
        data.append((name, which, *counts, measures))
    return Table(
        "benchmarks",
        "Benchmarks",
        "What was asked for: as a release fixed it, or with the hash of what it asks. Cells of one benchmark may be "
        "another's, too.",
        ("Benchmark", "Asks", "Cells", "Done", "Without a result", "Not run yet", "What it measures"),
        (False, False, True, True, True, True, False),
        tuple(rows),
        pd.DataFrame(data, columns=["benchmark", "asks", "cells", "done", "without_result", "not_run", "description"]),
    )


def provenance_entries(table: pd.DataFrame) -> Table:
    """Where the numbers come from; entries that differ in nearly every cell are only counted."""
    rows = []
    for name, group in table.groupby("name", sort=True):
        if len(group) > _MOST_VALUES:
            rows.append(
                (
                    text_cell(name),
                    TableCell(_span(name, sorted(group["value"].astype(str)))),
                    count_cell(group["cells"].sum()),
                )
            )
        else:
            rows += [(text_cell(name), text_cell(row.value), count_cell(row.cells)) for row in group.itertuples()]
    return Table(
        "provenance",
        "Versions and settings",
        "What the cells were computed with.",
        ("What", "Value", "Cells"),
        (False, False, True),
        tuple(rows),
        table,
    )


def _span(name: str, values: Sequence[str]) -> str:
    """Many values in a few words: the first and the last time, or how many there are."""
    return f"{values[0]} to {values[-1]}" if name == "finished" else f"{len(values)} different values"


_SHOWN = ("processor.name", "python.version", "torch.version", "torch.blas", "torch.kernels", "torch.threads")


def environments(made_in: Mapping[str, Environment], named: Mapping[str | None, int]) -> Table:
    """What cells were computed in; every entry, the versions of all packages among them, is in the data.

    Args:
        made_in: hash -> environment .
        named: hash -> how many cells name it.
    """
    entries = {name: dict(flat(environment)) for name, environment in made_in.items()}
    rows = [
        (text_cell(name), *(text_cell(str(entry.get(shown, ""))) for shown in _SHOWN), count_cell(named[name]))
        for name, entry in entries.items()
    ]
    data = [
        (name, which, entry_text(which, value)) for name, entry in entries.items() for which, value in entry.items()
    ]
    return Table(
        "environments",
        "Environments",
        "What the cells were computed in. The versions of all packages, and the rest, are in the table's CSV file.",
        ("Environment", "Processor", "Python", "torch", "BLAS", "Kernels", "Threads", "Cells"),
        (False, False, False, False, False, False, False, True),
        tuple(rows),
        pd.DataFrame(data, columns=["environment", "name", "value"]),
    )
