"""What a verb says before it starts something long, and whether it starts it."""

from __future__ import annotations

from collections.abc import Sequence
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


def allow(what: str, seconds: float, yes: bool, *, detail: str = "", less: str = "fewer prompts") -> None:
    """Says what a piece of work will take where it is worth saying.

    Args:
        what: the work, as the subject of a sentence.
        detail: what is said behind the time.
        less: what would make it shorter.

    Raises:
        SpecError: it takes more than ten minutes, and ``--yes`` was not given.
    """
    from ..plan.estimate import spoken
    from .output import note

    said = f"{what} takes about {spoken(seconds)} on this machine{detail}"
    if seconds > LONG_SECONDS and not yes:
        raise SpecError(f"{said}; --yes starts it, and {less} would make it shorter.")
    if seconds > _WORTH_SAYING_SECONDS:
        note(f"{said}.")


def took(estimated: float, seconds: float) -> None:
    """Says how long it took where the estimate was said, so that the two can be compared."""
    from ..plan.estimate import spoken
    from .output import note

    if estimated > _WORTH_SAYING_SECONDS:
        note(f"took {spoken(seconds)} (estimated {spoken(estimated)}).")


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
