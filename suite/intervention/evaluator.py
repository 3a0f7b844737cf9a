"""How a model does with edges cut: many masks in one call, on one data set, under one ablation and objective."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

import torch
from torch import Tensor

from ..data import Batch, Data
from ..model.device import send
from ..model.transformer import Transformer
from .ablation import Ablation, Alternatives
from .objective import Objective
from .optimal_constants import distance, offsets, optimal_constants
from .plain_runs import Runs
from .prepared_batch import PreparedBatch

# Numbers held at once, fixed so that results do not depend on the machine's free memory. On a CPU, what many masks need
# at once is less: a working set beyond the caches is mapped and unmapped at every operation, which takes longer.
_BATCH_BUDGET = 64_000_000
_MASKS_BUDGET = {"cpu": 4_000_000}
_CACHE_BUDGET = 256_000_000


_less: ContextVar[tuple[float, int]] = ContextVar("less", default=(math.inf, 1))  # prompts; part of the masks


@contextmanager
def less_at_once(prompts: int, part: int) -> Iterator[None]:
    """While it lasts, at most so many prompts are run at once, and one ``part``-th of the masks, where nobody asked
    for a number of them."""
    token = _less.set((prompts, part))
    try:
        yield
    finally:
        _less.reset(token)


def default_batch_size(model: Transformer, n_positions: int) -> int:
    """Prompts a batch such that all writers' outputs take about 256 MB in float32."""
    fit = max(1, _BATCH_BUDGET // (len(model.graph.writers) * n_positions * model.config.d_model))
    return int(min(fit, _less.get()[0]))


def masks_within_budget(model: Transformer, n: int, streams: int) -> int:
    """How many masks to run at once, on ``n`` positions of all prompts, when each holds so many residual streams."""
    budget = _MASKS_BUDGET.get(model.device.type, _BATCH_BUDGET) // _less.get()[1]
    return max(1, budget // (n * model.config.d_model * streams))


class Evaluator:
    """Scores circuits.

    Args:
        model, data: what is cut, on which prompts.
        ablation: what cut edges carry.
        objective: what outputs are scored by.
        seed: of what ``resample`` and ``noise`` draw.
        batch_size: prompts at a time; chosen from the model's size when omitted.
        denoising: start from the corrupted run, in which the kept edges carry the clean run's activations and all
            others what the corrupted run itself computes; not from the clean one, in which cut edges carry the
            corrupted run's. Has a meaning where the ablation is a run: ``patch`` and ``resample``.
        cut_at: bool [N, P], the positions at which edges are cut; all when omitted.

    Raises:
        Undefined: when the ablation has no meaning on this data.
    """

    def __init__(
        self,
        model: Transformer,
        data: Data,
        ablation: Ablation,
        objective: Objective,
        *,
        seed: int = 0,
        batch_size: int | None = None,
        denoising: bool = False,
        cut_at: Tensor | None = None,
    ) -> None:
        self.model, self.data, self.objective = model, data, objective
        self.denoising, self.cut_at = denoising, cut_at
        self.batch_size = batch_size or default_batch_size(model, data.clean.shape[1])
        self.alternatives = Alternatives(model, data, ablation, seed=seed, batch_size=self.batch_size)
        writers = len(model.graph.writers)
        self._constants: dict[bytes, Tensor] | None = {} if ablation.learned else None
        self._small = 3 * writers * model.config.d_model * data.n_runs * data.longest <= _CACHE_BUDGET
        self._cache: list[PreparedBatch] | None = None

    @property
    def learned(self) -> bool:
        """Whether cut edges carry constants that are learned for each circuit."""
        return self._constants is not None

    @torch.no_grad()
    def prepared(self) -> Iterator[PreparedBatch]:
        """The batches, with what cut edges carry in each; kept for the next call where that is small."""
        if self._small:
            self._cache = self._cache or list(self._prepare())
        yield from self._cache or self._prepare()

    def _prepare(self) -> Iterator[PreparedBatch]:
        for batch in self.data.batches(self.batch_size):
            yield self.prepare(batch)

    @torch.no_grad()
    def prepare(self, batch: Batch) -> PreparedBatch:
        """A batch of rows of one length, with what cut edges carry in it."""
        runs = Runs(self.model, batch)
        base, cut = runs.clean[1], self.alternatives.of(runs)
        if self.denoising:
            base, cut = cut, base
        return PreparedBatch(
            batch,
            runs,
            base.inputs,
            replace(self.model.alternative(cut, batch.clean.shape[1]), a_run=self.alternatives.ablation.a_run),
            lambda: self.model.difference(base, cut),
            self.objective.targets(runs),
        )

    def constants(self, masks: Tensor) -> Tensor:
        """What cut edges carry under the optimal ablation [C, W, D], learned for each mask [C, W, R] and remembered."""
        known = {} if self._constants is None else self._constants
        keys = [mask.cpu().numpy().tobytes() for mask in masks]
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            objective = distance(self.objective, self.model)
            found = optimal_constants(self.model, list(self.prepared()), objective, masks[new])
            known.update(zip((keys[i] for i in new), found, strict=True))
        return torch.stack([known[key] for key in keys])

    def _offset(self, masks: Tensor) -> Tensor | None:
        if self._constants is None:
            return None
        exists = send(self.model.graph.exists, self.model.device)
        return offsets(send(masks.to(self.model.dtype), self.model.device), self.constants(masks), exists)

    @torch.no_grad()
    def outputs(self, masks: Tensor) -> Tensor:
        """Outputs at the read positions under each mask [C, W, R]: [C, n_read, d_out], batch after batch."""
        return torch.cat([self._outputs(ready, masks) for ready in self.prepared()], dim=1)

    @torch.no_grad()
    def outputs_and_losses(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        """``outputs`` and ``per_example`` of masks [C, W, R], from one run."""
        losses, outputs = torch.empty(len(masks), self.data.n, dtype=torch.float64), []
        for ready in self.prepared():
            outputs.append(self._outputs(ready, masks))
            losses[:, ready.batch.rows] = self.objective.loss(outputs[-1], ready.targets).double().cpu()
        return torch.cat(outputs, dim=1), losses

    @torch.no_grad()
    def per_example(self, masks: Tensor) -> Tensor:
        """Loss of every example under each mask [C, W, R]: float64 [C, N]."""
        return self.by_each(masks, [self.objective])[0]

    @torch.no_grad()
    def by_each(self, masks: Tensor, objectives: Sequence[Objective]) -> Tensor:
        """Loss of every example under each mask [C, W, R] by several objectives, from one run: float64 [O, C, N].

        Optimal constants remain those of the evaluator's own objective.
        """
        losses = torch.empty(len(objectives), len(masks), self.data.n, dtype=torch.float64)
        for ready in self.prepared():
            targets = [ready.targets if each is self.objective else each.targets(ready.runs) for each in objectives]
            for part, found in self._chunks(ready, masks):
                for i, (objective, target) in enumerate(zip(objectives, targets, strict=True)):
                    losses[i, part, ready.batch.rows] = objective.loss(found, target).double().cpu()
        return losses

    def loss(self, masks: Tensor) -> Tensor:
        """Mean loss under each mask [C, W, R]: float64 [C]; lower is better."""
        return self.per_example(masks).mean(1)

    def _outputs(self, ready: PreparedBatch, masks: Tensor) -> Tensor:
        return torch.cat([found for _, found in self._chunks(ready, masks)])

    def _prefix(self, ready: PreparedBatch, masks: Tensor) -> Tensor | None:
        """What a pass begins with behind the first layer, where no mask cuts an edge in that one."""
        if self.model.reads_apart:
            return None
        cut = masks.cpu() != 1
        cut = (cut.any(-1) if cut.ndim == 4 else cut) & self.model.graph.exists
        return ready.prefix if self.model.first_cut_layer(cut) else None

    def _chunks(self, ready: PreparedBatch, masks: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(which masks, their outputs [c, n_read, d_out]), as many masks at a time as fit the budget."""
        graph = self.model.graph
        streams = graph.widest + 1 + len(graph.writers)
        step = masks_within_budget(self.model, ready.batch.clean.numel(), streams)
        cut_at = None
        if self.cut_at is not None:
            length = int(self.data.lengths[ready.batch.rows].max())
            cut_at = send(ready.batch.where_in_runs(self.cut_at[ready.batch.rows, :length]), self.model.device)
        for start in range(0, len(masks), step):
            part = slice(start, min(start + step, len(masks)))
            chosen = 1 - masks[part].to(self.model.dtype) if self.denoising else masks[part]
            yield (
                part,
                self.model.run_cut(
                    chosen,
                    ready.alternative,
                    inputs=ready.inputs,
                    prefix=self._prefix(ready, chosen),
                    read=ready.runs.read,
                    offset=self._offset(masks[part]),
                    cut_at=cut_at,
                ),
            )
