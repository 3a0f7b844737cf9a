"""What is measured of the structure of the circuits that a cell's method finds: whether they stay, and controls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from ..errors import CircuitMeterError, Undefined
from ..plan import names
from ..plan.job import Job
from ..plan.subject import limit_prompts
from ..scoring.structure.controls_found import ComplementFound, ControlsFound, ExactFound, Null, NullFound
from ..scoring.structure.stability_card import CircuitChange
from ..store.record import StabilityAsked
from .environment import seed_everything, undisturbed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..circuit import Circuit, EdgeScores
    from ..data import Data
    from ..intervention.faithfulness import CircuitValues
    from ..intervention.objective import Objective
    from ..model.transformer import Transformer
    from ..plan.evaluation import Evaluation
    from ..plan.subject import Subject


def stability_of(job: Job, on: Subject, asked: StabilityAsked, sizes: Sequence[int]) -> dict[str, CircuitChange]:
    """By what is resampled, how alike the circuits are that resamples of the cell's prompts give.

    Args:
        job: whose cell is finished. Its method runs again, in this process, so as to keep prompts apart.
        sizes: of the circuits, edges, above 0; inclusion and recovery are told of the first.
    """
    from ..scoring.structure.circuit_change import circuit_change, over_resamples

    kept = list(dict.fromkeys(sizes))
    if not kept:
        return {over: CircuitChange(undefined="there is no circuit of a size to compare") for over in asked.over}
    try:
        by_prompt = _by_prompt(job, on).numpy()
    except CircuitMeterError as error:
        return {over: CircuitChange(undefined=str(error)) for over in asked.over}
    templates = None if on.data.templates is None else on.data.templates.numpy()
    truth, found = on.reference(names.ablation(job.cell.ablation)), {}
    for over in asked.over:
        try:
            change, _ = over_resamples(by_prompt, templates, sorted(kept), over=over, resamples=asked.resamples)
        except CircuitMeterError as error:
            found[over] = CircuitChange(undefined=str(error))
            continue
        found[over] = circuit_change(change, on.model.graph, kept[0], truth)
    return found


def scores_of_prompts(job: Job, on: Subject) -> np.ndarray | None:
    """The scores of each prompt, float64 [N, E]; ``None`` of one prompt, or for a method without them."""
    try:
        return _by_prompt(job, on).numpy() if on.data.n > 1 else None
    except Undefined:
        return None


def _by_prompt(job: Job, on: Subject) -> Tensor:
    """The scores of each prompt [N, E]. Raises Undefined for a method without them."""
    method = names.method(job.sources.method)
    with _again(job):
        return method.scores_by_prompt(on.model, on.data, **_asked(job))


@contextmanager
def _again(job: Job, shift: int = 0) -> Iterator[None]:
    """What the cell's method is run in once more, in this process. Raises Undefined for one that may not be.

    ``shift``: 0 for what the cell's own run draws, another number for other draws.
    """
    if not names.is_built_in(job.sources.method):
        raise Undefined(
            f"{job.cell.method} does not come with this package and runs in a process of its own; it is not run again "
            f"for its structure"
        )
    with undisturbed():
        seed_everything(f"{int(job.cell.key, 16) + shift:x}")
        yield


def _asked(job: Job, shift: int = 0) -> dict[str, Any]:
    """What the cell's method is given beside model and prompts; ``shift``: as of ``_again``, added to the seed."""
    cell = job.cell
    objective = None if cell.objective is None else names.objective(cell.objective)
    return {
        "ablation": names.ablation(cell.ablation),
        "objective": objective,
        "seed": (cell.seed or 0) + shift,
        **job.parameters,
    }


def controls_of(job: Job, on: Subject, evaluation: Evaluation, scores: np.ndarray, circuit: Circuit) -> ControlsFound:
    """Nulls, adversaries and exact patching of a circuit, under the cell's ablation and objective.

    Args:
        job: whose cell is finished; its method runs again on each null.
        evaluation: with its ``controls``; its prompts are the held-out ones.
        scores: the cell's, [W, R], NaN where no edge exists.
        circuit: one that is evaluated, selected from the scores as the evaluation selects.
    """
    import torch

    from ..circuit import EdgeScores

    own = EdgeScores(on.model.graph, torch.from_numpy(scores).nan_to_num())
    held_out = limit_prompts(on.task.data(evaluation.split), evaluation.prompts)
    asked, objective = evaluation.controls, names.objective(job.cell.objective or on.task.objective)
    assert asked is not None  # only evaluations that have them come here
    # Under an ablation over batches their size changes numbers, and the evaluation's key does not tell it.
    batch_size = None if names.ablation(job.cell.ablation).over_batch else evaluation.batch_size
    found = _Controls(job, on, held_out, own, objective, circuit, evaluation, batch_size)
    return ControlsFound(
        size=circuit.n_edges,
        nulls={kind: found.on_null(cast(Null, kind)) for kind in asked.nulls},
        complement=found.complement(asked.subsets) if asked.subsets else None,
        exact=found.exact(asked.edges) if asked.edges else None,
    )


@dataclass(frozen=True, eq=False)
class _Controls:
    """The controls of one cell's circuit."""

    job: Job
    on: Subject
    held_out: Data
    scores: EdgeScores
    objective: Objective
    circuit: Circuit
    evaluation: Evaluation
    batch_size: int | None

    @property
    def seed(self) -> int:
        return self.job.cell.seed or 0

    def _measured(self, model: Transformer, data: Data, circuit: Circuit) -> CircuitValues:
        from ..intervention.faithfulness import measure_circuits
        from ..intervention.setting import Cut

        cut = Cut(names.ablation(self.job.cell.ablation))
        return measure_circuits(model, data, [circuit], cut, self.objective, seed=self.seed, batch_size=self.batch_size)

    @cached_property
    def _own(self) -> CircuitValues:
        return self._measured(self.on.model, self.held_out, self.circuit)

    def on_null(self, kind: Null) -> NullFound:
        """What the method finds where there is nothing to find."""
        import numpy as np
        import torch

        from ..scoring.recovery import recovery
        from ..scoring.structure.complement import interval_over_prompts
        from ..scoring.structure.null_controls import null_data, null_model
        from ..scoring.structure.stability import beside_chance
        from ..selection import SELECTIONS

        try:
            data, judged_on = (null_data(kind, each, self.seed) for each in (self.on.data, self.held_out))
            model = null_model(kind, self.on.model, self.seed)
            with _again(self.job, 1):  # the cell's own draws would give `random` the same circuit on the null
                method = names.method(self.job.sources.method)
                scores = method.discover(model, data, **_asked(self.job, 1)).scores
            select = SELECTIONS[self.evaluation.selection]
            theirs = select(scores, self.circuit.n_edges, self.evaluation.absolute)
            measured, own = self._measured(model, judged_on, theirs), self._own
        except CircuitMeterError as error:
            return NullFound(undefined=str(error))
        truth = self.on.reference(names.ablation(self.job.cell.ablation))
        exists = self.on.model.graph.exists
        edges = torch.stack([self.circuit.edges[exists], theirs.edges[exists]]).numpy()
        jaccard, chance = beside_chance(edges, np.stack([self.scores.flat(), scores.flat()]))
        found = NullFound(
            jaccard=jaccard,
            chance=chance,
            auroc=None if truth is None else recovery(scores, truth)["auroc"],
        )
        if measured.undefined("cut-graph") or own.undefined("cut-graph"):
            return found
        parts = [(each.circuits[0], each.reference("cut-graph"), each.full) for each in (own, measured)]
        value = [float(torch.as_tensor(each.faithfulness())[0]) for each in (own, measured)]
        low, high = interval_over_prompts(parts[1:], self.seed)
        beyond_low, beyond_high = interval_over_prompts(parts, self.seed)
        ends = {"faithfulness": value[1], "low": low, "high": high, "beyond": value[0] - value[1]}
        return found.model_copy(update=ends | {"beyond_low": beyond_low, "beyond_high": beyond_high})

    def complement(self, subsets: int) -> ComplementFound:
        """The circuit with parts of its complement cut."""
        from ..scoring.structure.complement import complement_cuts

        given = (self.on.model, self.on.data, self.held_out, self.circuit, names.ablation(self.job.cell.ablation))
        try:
            return complement_cuts(*given, self.objective, subsets=subsets, seed=self.seed, batch_size=self.batch_size)
        except CircuitMeterError as error:
            return ComplementFound(undefined=str(error))

    def exact(self, edges: int) -> ExactFound:
        """The cell's scores beside the effects of edges cut alone."""
        from ..scoring.structure.exact_patching import beside_exact

        given = (self.on.model, self.on.data, self.scores, names.ablation(self.job.cell.ablation), self.objective)
        try:
            return beside_exact(*given, edges=edges, seed=self.seed, batch_size=self.batch_size)
        except CircuitMeterError as error:
            return ExactFound(undefined=str(error))
