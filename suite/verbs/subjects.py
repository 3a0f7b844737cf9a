"""The task, the model, the prompts and the truth that a verb works on, from its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, SpecError, Undefined
from ..plan.subject import Subject, check_fits, limit_prompts, on_graph_of

if TYPE_CHECKING:
    from ...tasks.task import Task
    from ..circuit import Reference
    from ..interchange import Origin
    from ..interchange.circuit_file import EdgeList
    from ..intervention.ablation import Ablation
    from ..intervention.setting import Setting
    from ..model.graph import InputNodes
    from ..model.transformer import Transformer


def outlined(options: argparse.Namespace, *, inputs: InputNodes | None = None, prompts: int | None = None) -> Subject:
    """The prompts and the model before its weights are read, and checks that they fit each other.

    Whatever can be refused is to be refused on this;
    ``with_model_loaded`` then loads the model, which may take a minute.

    Args:
        options: parsed arguments with ``task``, ``data``, ``model``, ``adapter``, ``inputs``, ``device``, ``dtype``,
            ``memory`` and ``split``.
        inputs: the input nodes that a circuit file asks for, where ``--inputs`` does not say.
        prompts: the first how many; all where omitted.

    Returns:
        A subject whose model is an outline: configuration and graph (see ``load_outline``).
    """
    from ... import ground_truth, tasks
    from ...tasks import mini, own_prompts
    from ..model.device import resolve
    from ..model.load.by_name import is_ground_truth, load_outline, load_tokenizer, on_model
    from ..model.load.devices import memory_of, refuse_absent
    from .output import note

    task = tasks.load(options.task) if options.task else None
    name = options.model or (task.model if task else None)
    if name is None:
        raise SpecError(
            f"{'--data' if task is None else task.name} does not say which model it runs on; give --model NAME|DIR."
        )
    resolve(options.device)
    refuse_absent(memory_of(options.memory or ()))
    asked = on_model(task, name) if task else None
    split = split_asked_for(asked, options) if asked else ""
    chosen = options.inputs or (None if is_ground_truth(name) else inputs)
    model = load_outline(name, inputs=chosen, adapter=options.adapter)
    source = called(name, options.adapter)
    if asked:
        data = limit_prompts(asked.data(split), prompts)
        check_fits(data, model, asked.name, name)
        if name in mini.names() and asked.name.partition("@")[0] not in mini.learnt(name):
            note(f"{name} was not trained on {asked.name} (it does: {', '.join(mini.learnt(name))})")
        truth = ground_truth.load(asked.truth) if asked.truth and source == asked.model else None
        return Subject(asked, data, source, model, truth, split)
    sizes = {"d_vocab": model.config.d_vocab, "n_positions": model.config.n_positions}
    own = replace(own_prompts.load_task(options.data, tokenize=load_tokenizer(name), **sizes), name=str(options.data))
    split = split_asked_for(own, options)
    return Subject(own, limit_prompts(own.data(split), prompts), source, model, None, split)


def with_model_loaded(on: Subject, options: argparse.Namespace) -> Subject:
    """The subject of ``outlined`` with its model loaded: the same graph, features of dictionaries included."""
    from ..model.device import dtype, products_in_tf32, resolve
    from ..model.features.transformer import FeatureTransformer
    from ..model.load.by_name import load_model
    from ..model.load.devices import fit, memory_of
    from ..model.position_transformer import PositionTransformer

    device, memory = resolve(options.device), memory_of(options.memory or ())
    products_in_tf32(options.tf32)
    model = load_model(
        options.model or on.task.model or "",
        device="cpu" if memory else device,
        dtype=dtype(options.dtype),
        inputs=on.model.graph.inputs,
        adapter=options.adapter,
    )
    model = fit(model, memory, device) if memory else model
    if isinstance(on.model, FeatureTransformer):
        model = FeatureTransformer.of(model, on.model.nodes)
    elif isinstance(on.model, PositionTransformer) and not isinstance(model, PositionTransformer):
        model = PositionTransformer.of(model, on.model.graph.n_positions)
    return replace(on, model=model)


def at_positions(on: Subject) -> Subject:
    """The subject on the graph whose edges are told apart by position; nothing is certified of it, unless it has that
    graph already.

    Raises:
        DataError: prompts of several lengths, or answers of several tokens, which have runs of several lengths.
        ModelError: a model whose nodes are features.
    """
    from ..model.position_transformer import PositionTransformer

    if isinstance(on.model, PositionTransformer):
        return on
    lengths = on.data.lengths.unique().tolist()
    if len(lengths) > 1 or on.data.several_tokens:
        what = "answers of several tokens" if on.data.several_tokens else f"{lengths[0]} to {lengths[-1]} tokens"
        raise DataError(
            f"the prompts of {on.task.name} have {what}; edges are told apart by position where all prompts have one "
            f"length."
        )
    return replace(on, model=PositionTransformer.of(on.model, lengths[0]), truth=None)


def of_positions(on: Subject, files: Sequence[EdgeList]) -> Subject:
    """The subject on the graph of circuit files, which may tell edges apart by position.

    Raises:
        DataError: some files do and some do not, or what ``at_positions`` raises.
    """
    if all(file.n_positions is None for file in files):
        return on
    if len({file.n_positions for file in files}) > 1:
        named = " and ".join(file.source for file in files)
        raise DataError(f"{named} are circuits of other positions; measure them one by one.")
    return at_positions(on)


def refuse_undefined(chosen: Sequence[Setting], on: Subject) -> None:
    """Raises Undefined, with the first one's reason, where none of the settings has a meaning."""
    reasons = [setting.undefined(on.data, on.model) for setting in chosen]
    if reasons and all(reasons):
        raise Undefined(f"{reasons[0]}.")


def called(name: str | Path, adapter: str | Path | None) -> str:
    """What a model is called in messages and files."""
    return str(name) if adapter is None else f"{name} with {adapter}"


def split_asked_for(task: Task, options: argparse.Namespace) -> str:
    """The split asked for, else the verb's own, or train where the task has no other prompts."""
    asked = getattr(options, "split", None)
    default = getattr(options, "default_split", "train")
    return asked or (default if default in task.splits else "train")


def note_in_sample(origin: Origin, on: Subject, file: str | Path) -> None:
    """Says so where a circuit is measured on the very prompts that it was found on."""
    from .output import note

    if origin.data_hash == on.data.hash:
        note(
            f"{file} was found on these very prompts, so its faithfulness says nothing of others; give others with "
            f"--split or --data."
        )


def warn(on: Subject) -> None:
    """Says on stderr that the model hardly does the task, where it does not."""
    from ..scoring.behaviour import behaviour
    from .output import note

    found = behaviour(on.model, on.data)
    if found is not None and (warning := found.warning(on.task.name, on.model_source)):
        note(warning)


def reference(truth: str, model: Transformer, ablation: Ablation) -> Reference | None:
    """The certified circuit called ``truth`` under ``ablation``, or the published circuit of this name.

    Raises:
        DataError: it belongs to another graph.
    """
    from ... import ground_truth
    from ...ground_truth import manual

    found = manual.load(truth) if truth in manual.names() else ground_truth.load(truth).reference(ablation)
    return None if found is None else on_graph_of(model, found, truth)
