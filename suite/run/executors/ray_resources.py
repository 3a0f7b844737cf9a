"""What a Ray task asks for: a core, memory, and a part of a GPU, one, or several, by what its cells need.

Apart from the executor, whose functions run in Ray's processes, too: those do without torch, which takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...model.load.devices import WEIGHTS_SHARE
from ...plan.family import SeedFamily
from ...plan.forecast import family_bytes, fits_one_device

_MEMORY_STEP = 2**29  # bytes; Ray keeps a process for tasks that ask for the same, so there are not to be many kinds
_GPU_STEP = 0.05


@dataclass(frozen=True)
class Gpus:
    """A cluster's GPUs. ``memory``: of the smallest, in bytes, 0 where no node tells; ``most``: on one node."""

    memory: int
    most: int

    def asked(self, need: int, *, one_does: bool) -> float:
        """How many GPUs a task asks Ray for: a part of one, in steps; one; or, for a large model, several of a node.

        Args:
            need: bytes.
            one_does: whether the model's weights fit one GPU. Its cells then do, with fewer prompts at a time.
        """
        if not self.memory:
            return 1.0
        if one_does:
            return min(1.0, round(math.ceil(need / self.memory / _GPU_STEP) * _GPU_STEP, 2))
        return float(max(1, min(math.ceil(need / (WEIGHTS_SHARE * self.memory)), self.most)))


def resources(family: SeedFamily, largest: int, gpus: Gpus | None) -> dict[str, float]:
    """What a family's task asks Ray for, from what its cells are estimated to need; ``gpus``: ``None`` for no GPU."""
    need = family_bytes(family)
    memory = memory_asked(need, largest)
    if gpus is None:
        return {"memory": memory, "num_gpus": 0}
    return {"memory": memory, "num_gpus": gpus.asked(need, one_does=fits_one_device(family[0], gpus.memory))}


def memory_asked(need: int, largest: int) -> int:
    """The memory that a task asks Ray for, in steps.

    Args:
        need: bytes.
        largest: memory of the cluster's largest node: a task that asks for more would wait for ever. 0: unknown.
    """
    return min(math.ceil(need / _MEMORY_STEP) * _MEMORY_STEP, largest)
