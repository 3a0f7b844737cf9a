"""What a verb says before it starts something long, and whether it starts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import SpecError
from ..model.device import memory_of_device

if TYPE_CHECKING:
    import torch

    from ..intervention.setting import Setting
    from ..methods.cost import Cost
    from ..plan.speed import Forecast
    from ..plan.subject import Subject

LONG_SECONDS = 600.0
_WORTH_SAYING_SECONDS = 20.0
NEGLIGIBLE_SECONDS = 5.0  # far below what is worth saying: work that takes no longer needs no exact forecast


BUSY = 1.5
"""How many times as long as it computes something takes from which on both are said."""


def allow(
    what: str,
    seconds: float,
    yes: bool,
    *,
    busy: float = 1.0,
    detail: str = "",
    less: str = "fewer prompts",
    fits: Callable[[], tuple[str, float] | None] | None = None,
) -> None:
    """Says what a piece of work will take where it is worth saying.

    Args:
        what: the work, as the subject of a sentence.
        seconds: of computing; that the machine is busy makes no work forbidden that was allowed before.
        busy: how many times as long that takes now (``Forecast.busy``).
        detail: what is said behind the time.
        less: what would make it shorter, where no options are known that make it short enough.
        fits: gives options that make it short enough, and the seconds that it takes with them; None for none.

    Raises:
        SpecError: it takes more than ten minutes, and ``--yes`` was not given.
    """
    from ..plan.estimate import spoken
    from .output import note

    said = f"{what} takes about {spoken(seconds)} of computing on this machine{detail}"
    if busy >= BUSY:
        said += f" (now about {spoken(seconds * busy)} by the clock, as the machine is busy)"
    if seconds > LONG_SECONDS and not yes:
        found = fits() if fits else None
        shorter = f"{less} would make it shorter"
        if found is not None:
            shorter = f"with {found[0]} it takes about {spoken(found[1])}"
        raise SpecError(f"{said}; --yes starts it, and {shorter}.")
    if seconds > _WORTH_SAYING_SECONDS:
        note(f"{said}.")


def most_prompts(n: int, seconds_of: Callable[[int], float]) -> tuple[str, float] | None:
    """``--prompts N`` with the most prompts, fewer than ``n``, on which the work takes no more than ten minutes.

    Args:
        seconds_of: the estimate for a number of prompts, which does not fall as they grow more.

    Returns:
        The option and the estimate, the number in two digits; None where even one prompt takes longer.
    """
    fitting, above = 0, n
    while above - fitting > 1:
        middle = (fitting + above) // 2
        fitting, above = (middle, above) if seconds_of(middle) <= LONG_SECONDS else (fitting, middle)
    if not fitting:
        return None
    fitting -= fitting % 10 ** max(0, len(str(fitting)) - 2)
    return f"--prompts {fitting}", seconds_of(fitting)


class Watch:
    """Tells how long work took since it was made, in computing and by the clock on the wall.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        from ..plan.speed import computing_clock

        self._clock = computing_clock(device)
        self._start = self._clock(), time.perf_counter()

    def took(self, estimated: float) -> None:
        """Says it where the estimate, in seconds of computing, was said, so that the two can be compared."""
        from ..plan.estimate import spoken
        from .output import note

        if estimated <= _WORTH_SAYING_SECONDS:
            return
        computed, elapsed = self._clock() - self._start[0], time.perf_counter() - self._start[1]
        text = f"took {spoken(elapsed)}"
        text += f" by the clock, of which computing took {spoken(computed)}" if elapsed >= BUSY * computed else ""
        note(f"{text} (estimated {spoken(estimated)} of computing).")


def memory_words(forecast: Forecast) -> str:
    """The memory of a forecast."""
    return f" and {forecast.peak_bytes / 1e9:.1f} GB of memory"


def refuse_memory(what: str, forecast: Forecast, device: torch.device, less: str) -> None:
    """Refuses what would fill the memory, which ends in a kill or takes the machine down.

    Args:
        what: the work, as the subject of a sentence.
        device: where the model is.
        less: what would need less.

    Raises:
        SpecError: the forecast is above all the memory that the device, or this machine, has.
    """
    available = memory_of_device(device)
    if available is not None and forecast.peak_bytes > available:
        raise SpecError(
            f"{what} would hold about {forecast.peak_bytes / 1e9:.1f} GB, and there are {available / 1e9:.1f} GB of "
            f"memory; {less} would need less."
        )


def cost_of(chosen: Sequence[Setting], on: Subject, circuits: int, *, random: int = 0, pairings: int = 1) -> Cost:
    """What measuring circuits in settings costs: settings that differ in what is measured alone share their runs.

    Args:
        chosen: the settings; those without a meaning cost nothing.
        circuits: how many, each of its own size.
        random: random circuits for each.
        pairings: seeds with which a random ablation is run.
    """
    from ..methods.cost import Cost

    total, n = Cost(), on.data.n_runs
    for cut in {each.cut: None for each in chosen if each.undefined(on.data, on.model) is None}:
        seeds = pairings if cut.ablation.stochastic else 1
        # The clean run, the counterfactual one, what is carried instead; the circuits and the graph cut everywhere.
        total += Cost(forward=4 * n, cut=(circuits * (1 + random) + 1) * n) * seeds
    return total
