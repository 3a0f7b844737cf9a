"""Other people's code judged as a method: an adapter gets a model of ours in a tool's format and scores its edges.

``circuitmeter validate --external MODULE:ADAPTER`` runs it beside built-in methods; ``docs/conformance.md`` has one.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from ..circuit import EdgeScores
from ..data import Batch, Data
from ..errors import MethodError, ModelError, Undefined, unknown
from ..intervention.ablation import Ablation
from ..intervention.objective import Objective
from ..intervention.plain_runs import Runs
from ..methods.registry import SEARCHABLE, Method
from ..methods.source_code import SourceCode
from ..model.device import send
from ..model.transformer import Transformer
from ..users_file import with_neighbours
from ..users_line import raised
from . import adapters
from .export import WRITERS

_ROWS = 256  # prompts of a batch, unless the adapter says how many
_GIVEN = ("model", "data", "ablation", "objective", "seed")


@dataclass(frozen=True)
class ExportedModel:
    """A model of ours in another tool's format, in memory.

    Args:
        config: keyword arguments of ``HookedTransformerConfig``, or a ``config.json`` of GPT-2.
        state_dict: its weights, copies, under that tool's names.
        edges: the name of every edge that can be scored: ``a0.h1->a2.h3<q>``.
        nodes: the name of every node that writes, for tools that score nodes.
    """

    config: Mapping[str, Any]
    state_dict: Mapping[str, Tensor]
    edges: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """B prompts of one length, so that nothing is padded.

    Args:
        clean: long [B, P].
        counterfactual: long [B, P], or None for tasks without counterfactual prompts.
        read: bool [B, P], the positions at which the output is read.
        loss: from the logits [B, P, outputs] of a run on these prompts to the objective's loss, summed over prompts;
            differentiable, lower is better.
        averaged: long [R, P], the prompts that ``mean`` averages over, of every batch the same: a certified task's
            whole domain. None where they are the clean prompts of all batches.
    """

    clean: Tensor
    counterfactual: Tensor | None
    read: Tensor
    loss: Callable[[Tensor], Tensor]
    averaged: Tensor | None = None


class Adapter(Protocol):
    """What ``--external MODULE:ADAPTER`` names: a class, made once a search, with its parameters as keyword arguments.

    Attributes:
        format: ``transformer-lens``, which every certified model has, or ``huggingface`` (GPT-2); the first where left
            out. A model that cannot be written so is undefined for the adapter, with the reason.
        ablations: the ablations that the code has (``patch``, ``zero``, ...); any where left out.
        batch_size: prompts of a batch at most; 256 where left out.
        packages: the installed packages that the scores come from. Results of another version are other results.
    """

    format: ClassVar[str]
    ablations: ClassVar[frozenset[str]]
    batch_size: ClassVar[int]
    packages: ClassVar[tuple[str, ...]]

    def edge_scores(
        self, model: ExportedModel, prompts: tuple[PromptBatch, ...], *, ablation: str, objective: str
    ) -> Mapping[str, float]:
        """Scores by edge name, or by node name; bigger absolute value = more, and what is not named scores 0.

        Args:
            ablation: what a cut edge carries, as ``circuitmeter list ablations`` has it.
            objective: the name of what ``loss`` computes, as ``circuitmeter list objectives`` has it.
        """
        ...


def load_external(where: str) -> Method:
    """The method ``FOLDER/external:MODULE:ADAPTER`` around an adapter; the module is imported here, and is looked for
    in the folder first. ``external:NAME`` is one that ships with this package.

    Raises:
        MethodError: no such module or class, a class without the method or with an unknown format or ablation, or a
            module that cannot be imported, with the reason and its line.
    """
    folder, named = Path(where).parent, Path(where).name.partition(":")[2]
    shipped = adapters.TOOLS.get(named)
    module_name, _, name = (f"{adapters.__name__}.{shipped}" if shipped else named).rpartition(":")
    if not module_name or not name:
        hint = "For code of your own write MODULE:ADAPTER, as in my_adapter:Adapter."
        raise MethodError(unknown("adapter", named, adapters.TOOLS, hint))
    module = _imported(module_name, str(folder.resolve()))
    adapter = getattr(module, name, None)
    if not inspect.isclass(adapter):
        classes = [
            key for key, each in vars(module).items() if inspect.isclass(each) and each.__module__ == module_name
        ]
        raise MethodError(f"{module_name}: {unknown('class', name, classes)}")
    if not callable(getattr(adapter, "edge_scores", None)):
        raise MethodError(
            f"{named} has no method edge_scores; give it "
            f"`def edge_scores(self, model, prompts, *, ablation, objective)`, which returns scores by edge name."
        )
    written, ablations = getattr(adapter, "format", "transformer-lens"), getattr(adapter, "ablations", SEARCHABLE)
    if written not in WRITERS:
        raise MethodError(f"{named}: {unknown('format', str(written), WRITERS)}")
    if isinstance(ablations, str) or (other := sorted(set(map(str, ablations)) - SEARCHABLE)):
        given = repr(ablations) if isinstance(ablations, str) else ", ".join(other)
        raise MethodError(f"{named}: ablations = {given}; give a set of {', '.join(sorted(SEARCHABLE))}.")
    if not module.__file__:
        raise MethodError(f"{module_name} is no module with a file; name the file in which {name} is written.")
    batch_size = getattr(adapter, "batch_size", _ROWS)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise MethodError(f"{named}: batch_size = {batch_size!r}; give a number of prompts, 1 or more.")
    packages = getattr(adapter, "packages", ())
    if isinstance(packages, str) or not all(isinstance(each, str) for each in packages):
        raise MethodError(f"{named}: packages = {packages!r}; give a tuple of the names of packages.")
    function = _method_of(adapter, written, named, batch_size)
    version = _version(_code(Path(module.__file__), module_name).hash, packages)
    return Method(
        where, function, "other people's code", ablations=frozenset(ablations), cost="not stated", code=version
    )


def _imported(name: str, folder: str) -> Any:
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise MethodError(
                f"no module {name}; give one that is installed, or a file of this folder without its .py."
            ) from None
        raise MethodError(f"{name} cannot be imported: {raised(error)}.") from error
    except Exception as error:  # whatever somebody's module raises is the answer to give
        raise MethodError(f"{name} cannot be imported: {raised(error)}.") from error
    finally:
        sys.path.remove(folder)


def _code(file: Path, module: str) -> SourceCode:
    """That of an adapter's module; of a user's with the files beside it that it imports."""
    if module.startswith(f"{adapters.__name__}."):
        return SourceCode(file)
    of_module = file.resolve().parent if file.stem == "__init__" else file.resolve()
    return SourceCode(*with_neighbours(file, of_module.parents[module.count(".")]))


def _version(source: str, packages: Iterable[str]) -> str:
    """16 hex digits of an adapter's code and of the versions of the packages that it runs."""
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} is not installed")
    return hashlib.sha256("\n".join((source, *versions)).encode()).hexdigest()[:16] if versions else source


def _method_of(adapter: Any, written: str, named: str, batch_size: int) -> Callable[..., Any]:
    """A discovery function around an adapter, whose parameters are those with which its class is made."""
    own = [each for each in inspect.signature(adapter).parameters.values() if each.kind not in (2, 4)]
    if taken := [each.name for each in own if each.name in _GIVEN]:
        raise MethodError(f"{named}: its parameter {taken[0]!r} has a name that is taken; rename it.")

    def discover(
        model: Transformer, data: Data, *, ablation: Ablation, objective: Objective, seed: int, **parameters: Any
    ) -> EdgeScores | Mapping[str, float]:
        try:
            config, weights = WRITERS[written](model)
        except ModelError as error:
            raise Undefined(str(error)) from None
        exported = ExportedModel(
            config,
            {name: weight.detach().clone() for name, weight in weights.items()},
            tuple(map(str, model.graph.edges)),
            tuple(model.graph.writers),
        )
        averaged = None if data.reference is None else send(data.reference, model.device)
        columns = config["d_vocab_out"] if written == "transformer-lens" else config["vocab_size"]
        prompts = tuple(_prompts(model, batch, objective, averaged, columns) for batch in data.batches(batch_size))
        return adapter(**parameters).edge_scores(exported, prompts, ablation=str(ablation), objective=objective.name)

    signature = inspect.signature(discover)
    given = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    given += [each.replace(kind=each.KEYWORD_ONLY, annotation=each.empty) for each in own]
    vars(discover)["__signature__"] = signature.replace(parameters=given)
    return discover


def _prompts(
    model: Transformer, batch: Batch, objective: Objective, averaged: Tensor | None, columns: int
) -> PromptBatch:
    """A batch with its loss, which takes as many columns of logits as the exported model has."""
    targets, read = objective.targets(Runs(model, batch)), send(batch.read, model.device)

    def loss(logits: Tensor) -> Tensor:
        if tuple(logits.shape) != (*read.shape, columns):
            raise MethodError(
                f"loss was given logits of shape {tuple(logits.shape)}; this batch's are "
                f"({read.shape[0]}, {read.shape[1]}, {columns})."
            )
        return objective.loss(logits[read][:, : model.config.d_out], targets).sum()

    counterfactual = None if batch.counterfactual is None else send(batch.counterfactual, model.device)
    return PromptBatch(send(batch.clean, model.device), counterfactual, read, loss, averaged)
