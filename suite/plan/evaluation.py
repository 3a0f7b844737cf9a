"""How the circuits of a cell are to be evaluated: a result of its own, with a key of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..intervention.setting import Setting
from ..selection import Selection
from ..store.record import OWN_SIZES, ControlsAsked, EvaluationIdentity, StabilityAsked

VERSION = 2  # raised when a number that older evaluations hold would come out otherwise
STRUCTURE_VERSION = 4  # the same, of evaluations with stability or controls
SIZES = ("true", *OWN_SIZES)


@dataclass(frozen=True)
class Evaluation:
    """How the circuits of a cell are evaluated.

    Args:
        settings: cells of the ablation grid, as ``Setting`` prints them.
        sizes: shares of the graph's edges, ``true`` (as many edges as the truth under the cell's own ablation has),
            ``native`` (the circuits that the method itself returned), ``confident`` and ``null`` (the edges that
            chance does not explain, of a method with scores of each prompt: ``selection.BY_PROMPT``).
        selection: how a circuit of a size is made from scores: a name of ``selection.SELECTIONS``.
        absolute: whether edges are ranked by absolute score.
        split, data: which of the task's prompts are run, and 16 hex digits of their content.
        batch_size: prompts at a time, ``None`` for a number made from the model's size. In the identity where a mean is
            over the batch: such a number is another one with other batches, and its row says of how many prompts.
        prompts: the first how many of the split, ``None`` for all. Not in the identity: ``data`` says it.
        by_template: whether the faithfulness on each template's prompts is told as well. In the identity where it is.
        stability: what is resampled to see whether circuits stay, or ``None``. In the identity where it is asked for.
        controls: nulls, adversaries and exact patching, or ``None``. In the identity where they are asked for.
        undefined: setting -> why it has no meaning for the task and model. Not in the identity: it follows from it.
    """

    settings: tuple[str, ...]
    sizes: tuple[float | str, ...]
    selection: Selection
    absolute: bool
    split: str
    data: str
    batch_size: int | None = None
    prompts: int | None = None
    by_template: bool = False
    stability: StabilityAsked | None = None
    controls: ControlsAsked | None = None
    undefined: Mapping[str, str] = field(default_factory=dict, compare=False)

    def identity(self, cell_key: str) -> EvaluationIdentity:
        """Everything that changes a number of the evaluation of the cell with this key."""
        told: dict[str, Any] = {}  # what is the usual is left out, so that older keys stay
        if any(_over_batch(text) for text in self.settings):
            told["batch_size"] = self.batch_size
        if self.by_template:
            told["by_template"] = True
        if self.stability is not None:
            told["stability"] = self.stability
        if self.controls is not None:
            told["controls"] = self.controls
        return EvaluationIdentity(
            evaluation_version=STRUCTURE_VERSION if self.stability or self.controls else VERSION,
            cell=cell_key,
            data=self.data,
            settings=self.settings,
            sizes=self.sizes,
            selection=self.selection,
            absolute=self.absolute,
            **told,
        )


def _over_batch(setting: str) -> bool:
    return Setting.parse(setting).cut.ablation.over_batch
