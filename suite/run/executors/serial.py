"""Families one after another in this process: for a debugger, and where processes cannot be started.

The numbers are those of ``local``. A built-in method that takes the process down takes the run down, and time limits
hold only for methods that have processes of their own.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from os import getpid

from ...plan.family import SeedFamily
from ...store.store import Store
from ..environment import deterministic
from ..events import Finished, Started
from ..family_work import complete


def execute(
    families: Sequence[SeedFamily],
    *,
    store: Store,
    devices: Sequence[str],
    timeout_seconds: float | None,
    address: str | None = None,
) -> Generator[Started | Finished, None, None]:
    """Measures families on the first of the devices. Raises StoreError when the store cannot be written to."""
    with deterministic():
        for family in families:
            yield from (Started(job, getpid()) for job in family)
            outcomes = complete(family, store, devices[0], timeout_seconds)
            yield from (Finished(job, outcome) for job, outcome in zip(family, outcomes, strict=True))
