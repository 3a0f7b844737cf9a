"""What a cell costs around its search: loading, checks, scoring against every truth, the record, the store.

    python benchmarks/cell.py [--benchmark quick] [--only method=eap] [--repeats 3]

The cells of a benchmark run in this process, each time into an empty store; the first turn, in which tasks and models
are loaded, is the row `first`. What is around a cell is the CPU time of everything but the search itself, by cells. The
unit is a plain pass of the benchmark's models over their data.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from measuring import heading

from circuitmeter.suite.plan.family import families
from circuitmeter.suite.plan.plan import expansion, select
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.plan.subject import subject_of
from circuitmeter.suite.run import discovery
from circuitmeter.suite.run.cost import Spent, measure_cost
from circuitmeter.suite.run.environment import deterministic
from circuitmeter.suite.run.family_work import complete
from circuitmeter.suite.store.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="quick")
    parser.add_argument("--only", nargs="*", default=["method=eap"], help="KEY=VALUE filters")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    jobs = [job for job in select(expansion(Spec.load(given.benchmark), given.only).jobs, given.only)]
    work = families([job for job in jobs if not job.undefined])
    n_cells = sum(map(len, work))
    searches: list[float] = []

    @contextmanager
    def timed(device: str, spent: Spent) -> Iterator[None]:
        with measure_cost(device, spent):
            start = time.process_time()
            yield
            searches.append(time.process_time() - start)

    discovery.measure_cost = timed
    around: list[float] = []
    plain: list[float] = []
    heading(f"{given.benchmark}, {' '.join(given.only)}: {n_cells} cells")
    with deterministic():
        for _ in range(given.repeats + 1):
            with tempfile.TemporaryDirectory() as folder:
                store = Store(Path(folder), create=True)
                searches.clear()
                start = time.process_time()
                for family in work:
                    for _outcome in complete(family, store, "cpu"):
                        pass
                around.append((time.process_time() - start - sum(searches)) / n_cells)
            start = time.process_time()
            for family in work:
                on = subject_of(family[0], "cpu")
                with torch.no_grad():
                    for batch in on.data.batches(on.data.n):
                        on.model(batch.clean, read=batch.read)
            plain.append((time.process_time() - start) / len(work))
    first, *rest = around
    unit = statistics.median(plain[1:])
    print("| around a cell | CPU ms | of a plain pass |\n|---|--:|--:|")
    for name, seconds in (("first", first), ("later", statistics.median(rest))):
        print(f"| {name} | {1000 * seconds:.1f} | {seconds / unit:.1f} |")
    print(f"\nA search takes {1000 * sum(searches) / n_cells:.1f} ms, a plain pass {1000 * unit:.1f} ms.")


if __name__ == "__main__":
    main()
