"""Work that runs out of memory is done again with half the prompts at a time, where their number changes no result."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from ..circuit import Circuit
from ..intervention.evaluator import default_batch_size, less_at_once
from ..intervention.faithfulness import CircuitValues, measure_by_each
from ..intervention.objective import Objective
from ..intervention.setting import Cut
from ..model.device import free_unused
from ..plan.subject import Subject

_NO_MEMORY = "can't allocate memory"  # torch raises a bare RuntimeError when the CPU's is used up
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out in this process, of the machine or of a device."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _NO_MEMORY in str(error)


def with_less(work: Callable[[int], Result], on: Subject, what: str, batch_size: int = 0) -> Result:
    """What ``work`` returns. Where memory runs out, it is called again with half the prompts at a time, down to one.

    Args:
        work: is given how many prompts it may run at a time; 0: as many as it likes.
        on: what it works on.
        what: the work, in a few words, for the line on stderr.
        batch_size: how many prompts were asked for; 0: none.

    Raises:
        Exception: whatever the work raises; that memory ran out, when it does so with one prompt at a time.
    """
    at_once, part = 0, 1
    while True:
        try:
            with less_at_once(at_once or sys.maxsize, part):
                return work(at_once)
        except Exception as error:
            before = at_once or min(batch_size or default_batch_size(on.model, on.data.clean.shape[1]), on.data.n)
            if before == 1 or not is_out_of_memory(error):
                raise
        # Behind the block, so that no traceback holds what is to be freed.
        at_once, part = before // 2, 2 * part
        gc.collect()
        free_unused(on.model.device)
        prompts = f"{at_once} prompts" if at_once > 1 else "one prompt"
        print(f"{what}: out of memory; done again with {prompts} at a time", file=sys.stderr, flush=True)


def measure_with_less(
    on: Subject,
    what: str,
    circuits: Sequence[Circuit],
    cut: Cut,
    objectives: Sequence[Objective],
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> list[CircuitValues]:
    """The circuits by each objective (``measure_by_each``); with fewer prompts at a time where memory runs out, if that
    changes no number.

    Args:
        on: the model and the prompts.
        what: the work, in a few words, for the line on stderr.
    """

    def measure() -> list[CircuitValues]:
        return measure_by_each(on.model, on.data, circuits, cut, objectives, seed=seed, batch_size=batch_size)

    return measure() if batch_size or cut.ablation.over_batch else with_less(lambda _: measure(), on, what)
