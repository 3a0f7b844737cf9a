"""Cells one after another in this process: for a debugger, and where processes cannot be started.

The numbers are those of ``local``. A cell that takes the process down takes the run down, and time limits do not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import getpid

from ..cell import Cell
from ..environment import deterministic
from ..events import Finished, Started
from ..job import complete
from ..store import Store


def execute(
    cells: Sequence[Cell], *, store: Store, devices: Sequence[str], timeout_seconds: float | None
) -> Iterator[Started | Finished]:
    """Measures cells on the first of the devices. Raises StoreError when the store cannot be written to."""
    with deterministic():
        for cell in cells:
            yield Started(cell, getpid())
            yield Finished(cell, complete(cell, store, devices[0]))
