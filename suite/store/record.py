"""The results that a store holds, each defined once: the record of a cell, that of an evaluation of its circuits, and
what the model does on its prompts.

Both are read by attribute. A number that is not defined (NaN) is None. ``RECORD_FORMAT`` increases when a field changes
its meaning or is removed. ``older.py`` reads the formats before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..errors import one_line
from ..json_model import File, Kept, Line, Number, Values, json_hash, plain
from ..scoring.behaviour import Behaviour
from ..scoring.structure.controls_found import ControlsFound
from ..scoring.structure.stability_card import CircuitChange
from .keys import key_of

__all__ = ["FAILURES", "RECORD_FORMAT", "Record", "EvaluationRecord", "failure"]

RECORD_FORMAT = 2
Failure = Literal["undefined", "error", "nan", "memory", "timeout", "killed"]
FAILURES: tuple[str, ...] = ("undefined", "error", "nan", "memory", "timeout", "killed")


ResultKey = Annotated[str, "16 hex digits: the hash of an identity"]


class Identity(Kept):
    """Everything that changes a number of a result, and nothing else."""

    @property
    def key(self) -> ResultKey:
        """The result's key."""
        return key_of(self.as_json())


class Cell(Identity):
    """One (task, model, method and its parameters, ablation, objective, seed).

    task, data: the task's name, and 16 hex digits of its content. model, weights, graph: the model's name, and the
    hashes of its weights and of its graph. truth: hash of the certificate that recovery is scored against, or None
    where no truth is known. method, version, parameters: the method's name, the hash of its code, and every parameter
    that changes a number, defaults too. ablation: what cut edges carry while the method searches. objective: what the
    method optimises; None for a method that looks at none. seed: None unless chance is involved: a stochastic method,
    or an ablation that draws. minimal: hash of the minimal circuits that are listed beside a certificate of the user's,
    by which circuits are judged, too; left out where none are, and where the truth ships with the package.

    Two cells are the same measurement exactly when their keys are equal.
    """

    key_version: int
    task: Line
    data: str
    model: Line
    weights: str
    graph: str
    truth: str | None
    method: Line
    version: str
    parameters: Values
    ablation: Line
    objective: Line | None
    seed: int | None
    minimal: str | None = None

    @model_serializer(mode="wrap")
    def _without_a_list(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out ``minimal`` where it is None: whether that was stated changes no key."""
        found = serialize(self)
        return {name: value for name, value in found.items() if name != "minimal" or value is not None}

    def __hash__(self) -> int:
        return int(self.key, 16)

    def __str__(self) -> str:
        parts = [self.method, self.task, self.ablation, self.objective]
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        return " · ".join([part for part in parts if part] + seed)


class Recovery(Kept):
    """How well scores recover one truth: the metrics of ``scoring.recovery.recovery``, which documents them.

    Metrics that are not named here may be added. They are numbers, too.
    """

    __pydantic_extra__: dict[str, Number] = Field(init=False)
    model_config = {"extra": "allow"}

    auroc: Number = None
    auroc_structural: Number = None
    auroc_signed: Number = None
    auroc_signed_structural: Number = None
    average_precision: Number = None
    average_precision_structural: Number = None
    average_precision_signed: Number = None
    average_precision_signed_structural: Number = None
    true_size: Number = None
    precision: Number = None
    recall: Number = None
    f1: Number = None
    exact: Number = None
    node_auroc: Number = None
    node_average_precision: Number = None
    pessimistic_auc: Number = None
    node_pessimistic_auc: Number = None
    mib_auroc: Number = None


class CircuitRecovery(Kept):
    """How well one circuit recovers one truth (``scoring.recovery.circuit_recovery``)."""

    __pydantic_extra__: dict[str, Number] = Field(init=False)
    model_config = {"extra": "allow"}

    precision: Number = None
    recall: Number = None
    f1: Number = None
    tpr: Number = None
    fpr: Number = None
    exact: Number = None


class RecordedPlurality(Kept):
    """What a circuit is among all minimal circuits of a truth (``scoring.plurality.Plurality``)."""

    verdict: Literal["minimal", "superset", "chimera", "miss"]
    minimal_circuits: int
    contains: tuple[int, ...]
    n_edges: int
    avoided: int | None = None


class RecordedCircuit(Kept):
    """A circuit that the method itself returned.

    label: tells the method's circuits apart (a threshold, a target). n_edges: the number of its edges. recovery: by the
    truth's ablation. plurality: which minimal circuit it is, by the ablation of each truth whose minimal circuits are
    listed.
    """

    label: Values
    n_edges: int
    recovery: dict[str, CircuitRecovery] = {}
    plurality: dict[str, RecordedPlurality] = {}


class TrueSize(Kept):
    """The circuit with as many edges as the truth: the largest change of an output, and the objective."""

    n_edges: int
    output_error: Number
    objective: Number


class RecordedCost(Kept):
    """What a cell or an evaluation cost.

    seconds: the time of the search. total_seconds: the time from loading to scoring. forward, backward: numbers of
    plain passes over one example. peak_memory_bytes: the peak during the search. shared_by: the number of cells that
    ran together, each of which has an equal share. parameters: the method's parameters that change its cost but no
    number, such as its batch size.
    """

    seconds: Number = None
    total_seconds: Number = None
    forward: Number = None
    backward: Number = None
    peak_memory_bytes: int | None = None
    shared_by: int | None = None
    parameters: Values = {}


class Device(Kept):
    """The device of the tensors: ``cpu`` or ``cuda``, and the name that its maker gives it."""

    type: str
    name: str


class Provenance(Kept):
    """What a result was made with, and when it was ``finished`` (UTC)."""

    versions: dict[str, str | None] = {}
    commit: str | None = None
    platform: str | None = None
    device: Device | None = None
    threads: int | None = None
    deterministic_algorithms: bool | None = None
    cublas_workspace_config: str | None = None
    environment: ResultKey | None = None
    finished: str | None = None


class Python(Kept):
    """The interpreter, such as ``CPython`` 3.12.1."""

    implementation: str
    version: str


class Processor(Kept):
    """The processor's name, and how many cores the machine has."""

    name: str
    cores: int | None


class TorchBuild(Kept):
    """torch's version and what it was built with; the instructions that its kernels use; its threads."""

    version: str
    commit: str | None
    cuda: str | None
    rocm: str | None
    blas: str | None
    onednn: bool
    kernels: str
    threads: int
    threads_between: int
    float32_matmul_precision: str


class Environment(Kept):
    """The environment of a process, which does not depend on the cell, and names neither user nor host nor place.

    variables: the environment variables that are set and choose kernels or threads. packages: the versions of all
    packages that the project needs.
    """

    python: Python
    platform: str
    processor: Processor
    torch: TorchBuild
    variables: dict[str, str]
    commit: str | None
    packages: dict[str, str]

    @property
    def hash(self) -> ResultKey:
        """The environment's name, by which records know it."""
        return json_hash(self.as_json())


class ResultFile(File):
    """The fields that records and evaluations share: the key, the outcome, the cost and the provenance."""

    key: ResultKey
    status: Literal["done", "failed"]
    kind: Failure | None
    reason: Line | None
    cost: RecordedCost = RecordedCost()
    provenance: Provenance = Provenance()

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.status == "done"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.done != (self.kind is None):
            raise ValueError("the record is half done, half failed")
        return self


class Record(ResultFile):
    """The record of a cell: its identity, how it ended, how well it recovers each truth (by the truth's ablation), what
    its best edges are among the minimal circuits of each truth that has them listed, the method's own circuits, and
    what the method says of its search.

    prompts: of how many prompts it was asked for; None for all, and in stores of older versions.
    """

    format: Literal[2] = 2
    identity: Cell
    prompts: int | None = None
    n_edges: int | None
    recovery: dict[str, Recovery] = {}
    plurality: dict[str, RecordedPlurality] = {}
    circuits: tuple[RecordedCircuit, ...] = ()
    circuit_at_true_size: TrueSize | None = None
    diagnostics: Values = {}

    @model_validator(mode="after")
    def _own(self) -> Self:
        if self.identity.key != self.key:
            raise ValueError("the record's identity belongs to another key")
        if self.done and self.n_edges is None:
            raise ValueError("the record is half done, half failed")
        return self

    @property
    def own_recovery(self) -> Recovery | None:
        """Recovery of the truth under the cell's own ablation; None when no truth is known."""
        return self.recovery.get(self.identity.ablation)


class StabilityAsked(Kept):
    """What is resampled to measure stability, ``prompts`` or ``templates``, and how often."""

    over: tuple[str, ...]
    resamples: int


class ControlsAsked(Kept):
    """The controls of a cell: the nulls that the method is run on, the number of random subsets of the complement from
    which the search for the worst one starts, and the number of edges that are patched exactly. 0 switches a control
    off.
    """

    nulls: tuple[str, ...]
    subsets: int
    edges: int


class EvaluationIdentity(Identity):
    """What an evaluation measures: the circuits of a cell, on some data, under some settings, at some sizes; and, if
    asked for, their stability and controls.
    """

    evaluation_version: int
    cell: ResultKey
    data: str
    settings: tuple[Line, ...]
    sizes: tuple[int | float | Line, ...]
    selection: Line
    absolute: bool
    batch_size: int | None = None
    by_template: bool = False
    stability: StabilityAsked | None = None
    controls: ControlsAsked | None = None


OWN_SIZES = ("native", "confident", "null")
"""Sizes that a circuit has of its own: the method's own circuits, and those of the rules ``selection.BY_PROMPT``."""


class EvaluatedCircuit(Kept):
    """A circuit that was evaluated: the requested size, the number of its edges, the label of a native circuit, and how
    well a circuit that a rule chose recovers the certified one.
    """

    size: int | float | str
    n_edges: int
    label: Values = {}
    recovery: CircuitRecovery | None = None


def with_size(circuits: Sequence[EvaluatedCircuit]) -> list[EvaluatedCircuit]:
    """Those of a number of edges that was asked for, above 0: the true size first, then in the order of asking.

    Of the first are controls, and what stability says of single edges.
    """
    sized = [circuit for circuit in circuits if circuit.size not in OWN_SIZES and circuit.n_edges > 0]
    return sorted(sized, key=lambda circuit: circuit.size != "true")


class SettingRow(Kept):
    """The measurements under one setting. ``values`` and ``faithfulness`` have an entry for each circuit.

    undefined: why the setting has no meaning, or None. full, nothing: the values of the whole model and of the
    reference. uncertain: whether these two cannot be told apart. by_template: the faithfulness on each template's
    prompts, by the template's number.
    """

    setting: str
    undefined: str | None = None
    full: Number = None
    nothing: Number = None
    values: tuple[Number, ...] | None = None
    faithfulness: tuple[Number, ...] | None = None
    uncertain: bool | None = None
    batch_size: int | None = None
    by_template: dict[str, tuple[Number, ...]] = {}


class EvaluationRecord(ResultFile):
    """The record of an evaluation of a cell's circuits.

    prompts: on how many prompts circuits were measured; None in stores of older versions, which do not say.
    stability: by what is resampled, what it does to the circuits of each size. controls: nulls, adversaries and exact
    patching, of the circuit of the first size (``with_size``).
    """

    format: Literal[1] = 1
    identity: EvaluationIdentity
    split: str
    prompts: int | None = None
    circuits: tuple[EvaluatedCircuit, ...] = ()
    rows: tuple[SettingRow, ...] = ()
    stability: dict[str, CircuitChange] = {}
    controls: ControlsFound | None = None

    @model_validator(mode="after")
    def _own(self) -> Self:
        if self.identity.key != self.key:
            raise ValueError("the evaluation's identity belongs to another key")
        n = len(self.circuits)
        if any(len(found) != n for row in self.rows for found in (row.values, row.faithfulness) if found is not None):
            raise ValueError("a row of the evaluation has not one number a circuit")
        return self


class BehaviourIdentity(Identity):
    """What a behaviour is measured on: the first ``prompts`` of some data (16 hex digits), with a model's weights."""

    behaviour_version: int
    data: str
    weights: str
    prompts: int


class BehaviourRecord(File):
    """What a model does on the prompts of a task: measured once a store, whatever the number of cells on them.

    task, model: what they are called in cells.
    """

    format: Literal[1] = 1
    key: ResultKey
    identity: BehaviourIdentity
    task: Line
    model: Line
    behaviour: Behaviour

    @model_validator(mode="after")
    def _own(self) -> Self:
        if self.identity.key != self.key:
            raise ValueError("the behaviour's identity belongs to another key")
        return self


class ModelNotRun(Kept):
    """A model that a benchmark was not run on: the number of cells left out, and why. It was not there, or cannot be
    asked a task, or does it worse than the benchmark's gate."""

    model: Line
    combinations: int
    reason: Line

    def __str__(self) -> str:
        return f"{self.combinations} cells on {self.model}: {self.reason}"


class Benchmark(File):
    """What a store was filled with: the benchmark as it was written, the keys of its cells, of their evaluations and of
    what their models do.

    hash: what the whole benchmark asks, or ``None`` where a part of its models was not there. standing: whether that is
    what a released benchmark of this name asks; empty where none is released. models: the cells by model, where the
    benchmark names its models.
    """

    format: Literal[1] = 1
    hash: ResultKey | None = None
    standing: Line = ""
    spec: Values = {}
    cells: tuple[ResultKey, ...]
    evaluations: dict[ResultKey, ResultKey] = {}
    behaviours: tuple[ResultKey, ...] = ()
    not_run: tuple[ModelNotRun, ...] = ()
    models: dict[Line, tuple[ResultKey, ...]] = {}

    def with_cells_of(self, other: Benchmark) -> Benchmark:
        """This benchmark with the cells that another store has of it added."""
        cells = tuple(sorted({*self.cells, *other.cells}))
        found = self.but(cells=cells, evaluations={**other.evaluations, **self.evaluations})
        behaviours = tuple(sorted({*self.behaviours, *other.behaviours}))
        found = found.but(behaviours=behaviours) if behaviours else found
        both = [(name, keys) for models in (self.models, other.models) for name, keys in models.items()]
        models = {name: tuple(sorted({key for its, keys in both if its == name for key in keys})) for name, _ in both}
        return found.but(models=models) if models else found


class StoreFile(File):
    """``store.json``: the store's format, and the version of the program that made it."""

    format: Literal[1] = 1
    version: str = "?"


def failure(
    identity: Cell, kind: str, reason: str, *, cost: RecordedCost | None = None, provenance: Provenance | None = None,
    diagnostics: Mapping | None = None,
) -> Record:  # fmt: skip
    """The record of a cell that gave no scores: a failure is a result too.

    Args:
        kind: one of ``FAILURES``; ``undefined`` is a combination that has no meaning, the others went wrong.
        reason: one line.
        cost, provenance, diagnostics: those of the attempt, as far as they are known.
    """
    return Record(
        key=identity.key,
        identity=identity,
        status="failed",
        kind=cast(Failure, kind),  # the model checks it
        reason=one_line(reason),
        n_edges=None,
        cost=cost or RecordedCost(),
        provenance=provenance or Provenance(),
        diagnostics=plain(diagnostics or {}),
    )
