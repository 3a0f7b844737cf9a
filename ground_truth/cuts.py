"""How much a model's outputs change when edges are cut."""

from __future__ import annotations

import torch
from torch import Tensor

from ..suite.data import Data
from ..suite.errors import ModelError
from ..suite.intervention.ablation import Ablation
from ..suite.intervention.evaluator import Evaluator
from ..suite.intervention.objective import OBJECTIVES
from ..suite.intervention.prepared_batch import PreparedBatch
from ..suite.model.transformer import Transformer

_ROWS, _MASKS = 128, 16  # rows and masks in a run, which fit into a processor's cache; they do not change results


class CutTest:
    """Raw outputs with edges cut against those of the whole model, over all rows of ``data``."""

    def __init__(self, model: Transformer, data: Data, ablation: Ablation) -> None:
        self.model, self.data, self.ablation = model, data, ablation
        self.graph = model.graph
        self._evaluator = Evaluator(model, data, ablation, OBJECTIVES.get("l2"), batch_size=_ROWS)
        self._row_of_read = data.read.nonzero()[:, 0]
        self._clean = self._evaluator.outputs(torch.ones(1, *self.graph.exists.shape, dtype=torch.bool))

    def effects(self, masks: Tensor) -> Tensor:
        """Largest change of any output of each row, under each mask [C, W, R], to 12 decimals (the rest is rounding,
        and differs from machine to machine): [C, N]."""
        # Masks that leave the first layers whole come together, so that the engine need not compute these layers again.
        cut = (~masks & self.graph.exists).any(1).float()
        order = cut.argmax(1).where(cut.any(1), len(self.graph.readers)).argsort(stable=True)
        moved = torch.cat(
            [(self._evaluator.outputs(masks[part]) - self._clean).abs().amax(-1) for part in order.split(_MASKS)]
        )[order.argsort()]
        index = self._row_of_read.expand_as(moved)
        return moved.new_zeros(len(masks), self.data.n).scatter_reduce(1, index, moved, "amax").round(decimals=12)

    def prepared(self, rows: Tensor) -> PreparedBatch:
        """Some rows [B], all of one length, as one batch, with what cut edges carry in it."""
        return self._evaluator.prepare(self.data.batch(rows))

    def error(self, masks: Tensor) -> Tensor:
        """Largest change of any output of any row, under each mask [C, W, R]: [C]."""
        return self.effects(masks).amax(1)

    def more_rows(self, rows: Tensor, effects: Tensor, tolerance: float) -> Tensor:
        """The rows at hand, and for each circuit the row on which it changes an output most: long [B].

        Args:
            rows: long [A], at hand. Circuits were found on them.
            effects: [C, N], of the circuits on all rows. Some are larger than ``tolerance``.

        Raises:
            ModelError: no row is new, so that a circuit that fits on the rows at hand fails on one of them.
        """
        more = torch.cat([rows, effects.argmax(1)]).unique()
        if len(more) == len(rows):
            raise ModelError(
                f"under {self.ablation} a circuit that was sufficient on rows by themselves changes an output of one "
                f"of them by {float(effects.max()):.6g}, and {tolerance:g} is tolerated: rounding decides."
            )
        return more

    def on(self, rows: Tensor) -> CutTest:
        """The same test on some of the rows; data-set means are still those of the whole data."""
        return CutTest(self.model, self.data.select(rows), self.ablation)


def single_cuts(structural: Tensor) -> Tensor:
    """For each structural edge [W, R], in index order, a mask that cuts it: bool [n, W, R].

    Edges that are not structural carry nothing and are cut as well, which lets the engine skip nodes without use.
    """
    where = structural.nonzero()
    masks = structural.repeat(len(where), 1, 1)
    masks[torch.arange(len(where)), where[:, 0], where[:, 1]] = False
    return masks
