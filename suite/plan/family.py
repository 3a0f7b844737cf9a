"""A family: what a worker is given at a time, one job or several whose cells differ in the seed only.

Methods that train masks train those of several seeds together. Each cell is a record of its own, with its share of the
cost and the scores that it has alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..store.keys import key_of
from . import names
from .job import Job

SeedFamily = tuple[Job, ...]


def families(jobs: Iterable[Job]) -> tuple[SeedFamily, ...]:
    """The jobs in families, in the order of each family's first one."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(_family_key(job), []).append(job)
    return tuple(tuple(family) for family in found.values())


def shard_of_jobs(jobs: Iterable[Job], shard: tuple[int, int]) -> tuple[Job, ...]:
    """The I-th of N shares of the jobs, I from 1: chosen by key, so that N machines need not know of each other, and
    families stay together."""
    number, of = shard
    return tuple(job for job in jobs if int(_family_key(job), 16) % of == number - 1)


def _family_key(job: Job) -> str:
    """The cell's key, without its seed where the seeds run together, and then with what changes their cost."""
    if not names.method(job.sources.method).runs_together(names.ablation(job.cell.ablation)):
        return job.key
    return key_of(job.cell.as_json() | {"seed": None, "cost_only": job.cost_only})
