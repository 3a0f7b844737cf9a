"""What is measured of every circuit that a benchmark finds: sizes crossed with settings, one record per cell.

A discovered circuit does not depend on how it is evaluated, so evaluations are results of their own: they are kept
beside the cells, under a key of their own, and adding a setting to a benchmark never repeats a search.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar, cast

from ..errors import one_line
from ..intervention.setting import Setting
from ..json_model import plain
from ..plan import names
from ..plan.job import Job
from ..plan.subject import limit_prompts
from ..store.record import EvaluatedCircuit, EvaluationRecord, Failure, RecordedCost, SettingRow, with_size
from .environment import provenance
from .memory import with_less
from .structure import controls_of, scores_of_prompts, stability_of

if TYPE_CHECKING:
    import numpy as np

    from ..circuit import Circuit
    from ..data import Data
    from ..plan.evaluation import Evaluation
    from ..plan.subject import Subject

Measured = TypeVar("Measured")


def evaluate(
    job: Job, on: Subject, tensors: Mapping[str, np.ndarray], labels: Sequence[Mapping], device: str
) -> EvaluationRecord:
    """Measures the circuits of a job whose cell is finished.

    Args:
        job: with its ``evaluation``.
        on: what the cell was measured on.
        tensors: the cell's scores and circuits, as the store holds them.
        labels: what tells the method's own circuits apart.
        device: as torch names it.

    Returns:
        The record: ``circuits`` (size asked for, edges, label), and one of ``rows`` a setting: the full model's value,
        the reference's, each circuit's and its faithfulness; or the reason for which the setting has no meaning. And
        the stability of the circuits, and controls, where they are asked for.
    """
    start = time.perf_counter()
    evaluation = _evaluation(job)
    data = limit_prompts(on.task.data(evaluation.split), evaluation.prompts)
    described, circuits = _circuits(evaluation, job, on, tensors, labels)
    settings = [Setting.parse(text) for text in evaluation.settings]
    rows: list[SettingRow] = []
    # Settings that differ only in how prompts are summed up share their runs.
    for _, group in groupby(settings, key=lambda setting: (setting.cut, setting.objective)):
        alike = list(group)

        def measure_all(_: int, alike: list[Setting] = alike) -> list[SettingRow]:
            return _rows(alike, on, data, circuits, job.cell.seed or 0, evaluation)

        fixed = evaluation.batch_size or any(setting.cut.ablation.over_batch for setting in alike)
        rows += measure_all(0) if fixed else with_less(measure_all, on, f"evaluating {job}")
    sized, stability, controls = with_size(described), {}, None
    if (asked := evaluation.stability) is not None:
        sizes = [circuit.n_edges for circuit in sized]
        stability = _with_less(job, on, lambda: stability_of(job, on, asked, sizes))
    if evaluation.controls is not None and sized:
        circuit = circuits[described.index(sized[0])]
        controls = _with_less(job, on, lambda: controls_of(job, on, evaluation, tensors["scores"], circuit))
    identity = evaluation.identity(job.key)
    record = EvaluationRecord(
        key=identity.key,
        identity=identity,
        status="done",
        kind=None,
        reason=None,
        split=evaluation.split,
        prompts=data.n,
        circuits=tuple(described),
        rows=tuple(rows),
        cost=RecordedCost(total_seconds=time.perf_counter() - start),
        provenance=provenance(device),
    )
    structure = {"stability": stability or None, "controls": controls}
    return record.but(**{name: found for name, found in structure.items() if found is not None})


def _with_less(job: Job, on: Subject, measure: Callable[[], Measured]) -> Measured:
    """What is measured beside the rows, under the cell's ablation; less at a time where memory runs out."""
    evaluation = _evaluation(job)
    if evaluation.batch_size or names.ablation(job.cell.ablation).over_batch:  # the number would change the result
        return measure()
    return with_less(lambda _: measure(), on, f"evaluating {job}")


def failed_evaluation(job: Job, kind: str, reason: str) -> EvaluationRecord:
    """The record of an evaluation that went wrong; ``kind`` and ``reason`` as of a cell's."""
    evaluation = _evaluation(job)
    identity = evaluation.identity(job.key)
    return EvaluationRecord(
        key=identity.key,
        identity=identity,
        status="failed",
        kind=cast(Failure, kind),  # the model checks it
        reason=one_line(reason),
        split=evaluation.split,
    )


def _evaluation(job: Job) -> Evaluation:
    """The job's evaluation; only jobs that have one come here."""
    assert job.evaluation is not None
    return job.evaluation


def _rows(
    settings: list[Setting], on: Subject, data: Data, circuits: list[Circuit], seed: int, evaluation: Evaluation
) -> list[SettingRow]:
    """The rows of settings that share a cut and an objective."""
    from ..intervention.evaluator import default_batch_size
    from ..intervention.faithfulness import measure_circuits
    from ..intervention.objective import OBJECTIVES

    reasons = {setting: setting.undefined(data, on.model) for setting in settings}
    if not circuits or all(reasons.values()):
        why = {setting: reason or "there is no circuit to measure" for setting, reason in reasons.items()}
        return [SettingRow(setting=str(setting), undefined=why[setting]) for setting in settings]
    objective = OBJECTIVES.get(settings[0].objective)
    batch_size = evaluation.batch_size or default_batch_size(on.model, data.clean.shape[1])
    found = measure_circuits(on.model, data, circuits, settings[0].cut, objective, seed=seed, batch_size=batch_size)
    rows = []
    for setting in settings:
        if reasons[setting]:
            rows.append(SettingRow(setting=str(setting), undefined=reasons[setting]))
            continue
        row = {
            "setting": str(setting),
            "undefined": found.undefined(setting.reference),
            "full": found.full.mean(),
            "nothing": found.reference(setting.reference).mean(),
            "values": found.circuits.mean(1),
            "faithfulness": found.faithfulness(setting.aggregation, setting.reference),
            "uncertain": found.uncertain(setting.reference),
        }
        if setting.cut.ablation.over_batch:
            row["batch_size"] = batch_size
        if evaluation.by_template and data.templates is not None:
            prompts = {int(number): (data.templates == number).nonzero()[:, 0] for number in data.templates.unique()}
            row["by_template"] = {
                str(number): found.faithfulness(setting.aggregation, setting.reference, which)
                for number, which in prompts.items()
            }
        rows.append(SettingRow(**plain(row)))
    return rows


def _circuits(
    evaluation: Evaluation, job: Job, on: Subject, tensors: Mapping[str, np.ndarray], labels: Sequence[Mapping]
) -> tuple[list[EvaluatedCircuit], list[Circuit]]:
    """The circuits that are evaluated, and what is said of each."""
    import torch

    from ..circuit import Circuit, EdgeScores
    from ..scoring.recovery import circuit_recovery
    from ..selection import BY_PROMPT, circuit_of
    from ..selection import SELECTIONS as SELECTION_RULES

    graph = on.model.graph
    scores = EdgeScores(graph, torch.from_numpy(tensors["scores"]).nan_to_num())
    truth = on.reference(names.ablation(job.cell.ablation))
    select = SELECTION_RULES[evaluation.selection]
    described, circuits = [], []
    for size in evaluation.sizes:
        if size == "native":
            for i, label in enumerate(labels):
                circuits.append(Circuit(graph, torch.from_numpy(tensors[f"circuit.{i}"]).bool()))
                described.append(EvaluatedCircuit(size=size, n_edges=circuits[-1].n_edges, label=plain(label)))
            continue
        if size in BY_PROMPT:
            if (by_prompt := scores_of_prompts(job, on)) is not None:
                circuits.append(circuit_of(graph, BY_PROMPT[str(size)](by_prompt, seed=job.cell.seed or 0)))
                recovered = {} if truth is None else {"recovery": plain(circuit_recovery(circuits[-1], truth))}
                described.append(EvaluatedCircuit(size=size, n_edges=circuits[-1].n_edges, label={}, **recovered))
            continue
        if size == "true":
            if truth is None:
                continue
            n = truth.size
        else:
            n = int(float(size) * graph.n_edges)
        circuits.append(select(scores, n, evaluation.absolute))
        described.append(EvaluatedCircuit(size=size, n_edges=circuits[-1].n_edges, label={}))
    return described, circuits
