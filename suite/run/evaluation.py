"""What is measured of every circuit that a benchmark finds: sizes crossed with settings, one record a cell.

A discovered circuit does not depend on how it is evaluated, so evaluations are results of their own: they are kept
beside the cells, under a key of their own, and adding a setting to a benchmark never repeats a search.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from ..intervention.setting import Setting
from ..plan.cell import Cell
from ..plan.subject import first
from ..store.record import Cost, EvaluatedCircuit, EvaluationIdentity, EvaluationRecord, SettingRow, plain
from .environment import provenance

if TYPE_CHECKING:
    import numpy as np

    from ..circuit import Circuit
    from ..data import Data
    from ..plan.subject import Subject

VERSION = 2  # raised when a number that older evaluations hold would come out otherwise
SIZES = ("true", "native")
SELECTIONS = ("top-n", "greedy", "pnr", "ilp")


@dataclass(frozen=True)
class Evaluation:
    """How the circuits of a cell are evaluated.

    Args:
        settings: cells of the ablation grid, as ``Setting`` prints them.
        sizes: shares of the graph's edges, ``true`` (as many edges as the truth under the cell's own ablation has),
            ``native`` (the circuits that the method itself returned).
        selection: how a circuit of a size is made from scores: one of ``SELECTIONS`` (selection.py).
        absolute: whether edges are ranked by absolute score.
        split, data: which of the task's prompts are run, and 16 hex digits of their content.
        batch_size: prompts at a time, ``None`` for a number made from the model's size. In the identity where a mean is
            over the batch: such a number is another one with other batches, and its row says of how many prompts.
        prompts: the first how many of the split, ``None`` for all. Not in the identity: ``data`` says it.
        by_template: whether the faithfulness on each template's prompts is told as well. In the identity where it is.
        undefined: setting -> why it has no meaning for the task and model. Not in the identity: it follows from it.
    """

    settings: tuple[str, ...]
    sizes: tuple[float | str, ...]
    selection: str
    absolute: bool
    split: str
    data: str
    batch_size: int | None = None
    prompts: int | None = None
    by_template: bool = False
    undefined: Mapping[str, str] = field(default_factory=dict, compare=False)

    def identity(self, cell: Cell) -> EvaluationIdentity:
        """Everything that changes a number of the evaluation of ``cell``."""
        return EvaluationIdentity(
            evaluation_version=VERSION,
            cell=cell.key,
            data=self.data,
            settings=self.settings,
            sizes=self.sizes,
            selection=self.selection,
            absolute=self.absolute,
            **({"batch_size": self.batch_size} if any(_over_batch(text) for text in self.settings) else {}),
            **({"by_template": True} if self.by_template else {}),
        )

    def key(self, cell: Cell) -> str:
        return self.identity(cell).key


def _over_batch(setting: str) -> bool:
    return Setting.parse(setting).cut.ablation.over == "batch"


def evaluate(
    cell: Cell, on: Subject, tensors: Mapping[str, np.ndarray], labels: Sequence[Mapping], device: str
) -> EvaluationRecord:
    """Measures the circuits of a finished cell.

    Args:
        cell: with its ``evaluation``.
        on: what the cell was measured on.
        tensors: the cell's scores and circuits, as the store holds them.
        labels: what tells the method's own circuits apart.
        device: as torch names it.

    Returns:
        The record: ``circuits`` (size asked for, edges, label), and one of ``rows`` a setting: the full model's value,
        the reference's, each circuit's and its faithfulness; or the reason for which the setting has no meaning.
    """
    start = time.perf_counter()
    evaluation = cell.evaluation
    data = first(on.task.data(evaluation.split), evaluation.prompts)
    described, circuits = _circuits(cell, on, tensors, labels)
    settings = [Setting.parse(text) for text in evaluation.settings]
    rows: list[SettingRow] = []
    # Settings that differ only in how prompts are summed up share their runs.
    for _, group in groupby(settings, key=lambda setting: (setting.cut, setting.objective)):
        rows += _rows(list(group), on, data, circuits, cell.seed or 0, evaluation)
    return EvaluationRecord(
        key=evaluation.key(cell),
        identity=evaluation.identity(cell),
        status="done",
        kind=None,
        reason=None,
        split=evaluation.split,
        circuits=described,
        rows=rows,
        cost=Cost(total_seconds=time.perf_counter() - start),
        provenance=provenance(device),
    )


def failure(cell: Cell, kind: str, reason: str) -> EvaluationRecord:
    """The record of an evaluation that went wrong; ``kind`` and ``reason`` as of a cell's."""
    evaluation = cell.evaluation
    return EvaluationRecord(
        key=evaluation.key(cell),
        identity=evaluation.identity(cell),
        status="failed",
        kind=kind,
        reason=reason,
        split=evaluation.split,
    )


def _rows(
    settings: list[Setting], on: Subject, data: Data, circuits: list[Circuit], seed: int, evaluation: Evaluation
) -> list[SettingRow]:
    """The rows of settings that share a cut and an objective."""
    from ..intervention.evaluator import default_batch_size
    from ..intervention.faithfulness import measure
    from ..intervention.objective import OBJECTIVES

    reasons = {setting: setting.undefined(data, on.model) for setting in settings}
    if not circuits or all(reasons.values()):
        why = {setting: reason or "there is no circuit to measure" for setting, reason in reasons.items()}
        return [SettingRow(setting=str(setting), undefined=why[setting]) for setting in settings]
    objective = OBJECTIVES.get(settings[0].objective)
    batch_size = evaluation.batch_size or default_batch_size(on.model, data.clean.shape[1])
    found = measure(on.model, data, circuits, settings[0].cut, objective, seed=seed, batch_size=batch_size)
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
        if setting.cut.ablation.over == "batch":
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
    cell: Cell, on: Subject, tensors: Mapping[str, np.ndarray], labels: Sequence[Mapping]
) -> tuple[list[EvaluatedCircuit], list[Circuit]]:
    """The circuits that are evaluated, and what is said of each."""
    import torch

    from ..circuit import Circuit, EdgeScores
    from ..plan import names
    from ..selection import SELECTIONS as SELECTION_RULES

    graph, evaluation = on.model.graph, cell.evaluation
    scores = EdgeScores(graph, torch.from_numpy(tensors["scores"]).nan_to_num())
    truth = on.reference(names.ablation(cell.ablation))
    select = SELECTION_RULES[evaluation.selection]
    described, circuits = [], []
    for size in evaluation.sizes:
        if size == "native":
            for i, label in enumerate(labels):
                circuits.append(Circuit(graph, torch.from_numpy(tensors[f"circuit.{i}"]).bool()))
                described.append(EvaluatedCircuit(size=size, n_edges=circuits[-1].n_edges, label=plain(label)))
            continue
        if size == "true" and truth is None:
            continue
        n = int(truth.core.sum()) if size == "true" else int(size * graph.n_edges)
        circuits.append(select(scores, n, evaluation.absolute))
        described.append(EvaluatedCircuit(size=size, n_edges=circuits[-1].n_edges, label={}))
    return described, circuits
