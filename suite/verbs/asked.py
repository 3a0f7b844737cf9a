"""Tasks as a model meets them: how many of a task's words its tokenizer knows, whether it does the task, prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CircuitMeterError, DataError, SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from ...tasks import TextTask
    from ...tasks.tokenizer import Tokenizer
    from ..model.transformer import Transformer


def task_rows(model_name: str, pattern: str | None, adapter: Path | None = None) -> list[dict[str, Any]]:
    """A row for each task as text: words that can be used, accuracy and logit difference, or why it cannot be asked.

    Args:
        pattern: which tasks; without it those that are written here, each in its first variant.
        adapter: the folder of a LoRA adapter for the model.
    """
    from ... import tasks
    from ...tasks import TextTask, greater_than
    from ..model.load.by_name import load_model
    from .output import note

    tokenizer = _tokenizer(model_name)
    first = [name for name in tasks.TEXT_FAMILIES if "/" not in name] + [f"{greater_than.FAMILY.name}@digit"]
    wanted = [name for name in tasks.names() if fnmatchcase(name, pattern)] if pattern else sorted(first)
    loaded = [task for task in map(tasks.load, wanted) if isinstance(task, TextTask)]
    if not loaded:
        raise SpecError(f"no task as text matches {pattern!r}; `circuitmeter list tasks` names them.")
    model, rows = load_model(model_name, adapter=adapter), []
    for number, task in enumerate(loaded, 1):
        note(f"{number}/{len(loaded)} {task.name}")
        rows.append(_row(task, tokenizer, model))
    return rows


def _row(task: TextTask, tokenizer: Tokenizer, model: Transformer) -> dict[str, Any]:
    from ..scoring.behaviour import behaviour

    row: dict[str, Any] = {"name": task.name, "usable": "", "accuracy": None, "logit_difference": None}
    row |= {"prompts": 0, "does_it": "no"}
    try:
        words = task.vocabulary(tokenizer) if hasattr(task, "vocabulary") else {}
        row["usable"] = ", ".join(f"{known} of {of} {what}" for what, (known, of) in words.items())
        found = behaviour(model, task.on(tokenizer).data("validation"))
    except CircuitMeterError as error:
        return row | {"usable": f"cannot be asked: {' '.join(str(error).split())}"}
    if found is None:
        return row | {"does_it": "-"}
    measured = {"accuracy": found.accuracy, "logit_difference": found.logit_difference, "prompts": found.prompts}
    return row | measured | {"does_it": "yes" if found.does_it else "no"}


def prompt_lines(
    name: str, model_name: str, n: int, split: str = "validation", adapter: Path | None = None
) -> Iterator[str]:
    """The first prompts of a task as text, with their counterfactuals and what the model answers."""
    import torch

    from ... import tasks
    from ...reports.page.table import number
    from ..model.device import send
    from ..model.load.by_name import load_model, load_outline, on_model
    from ..plan.subject import check_fits, limit_prompts
    from ..scoring.behaviour import behaviour
    from .subjects import called

    task = on_model(tasks.load(name), model_name)
    tokenizer, data = _tokenizer(model_name), task.data(split)
    check_fits(data, load_outline(model_name, adapter=adapter), task.name, model_name)
    model = load_model(model_name, adapter=adapter)
    found = behaviour(model, data)
    if found is not None:
        name = called(model_name, adapter)
        yield f"{name} on {task.name}: {found}{'' if found.does_it else '; it hardly does the task'}"
    shown = limit_prompts(data, n)
    text = tokenizer.source.decode
    for row in range(shown.n):
        length = int(shown.lengths[row])
        clean = send(shown.clean[row : row + 1, :length], model.device)
        with torch.no_grad():
            logits = model(clean, send(shown.read[row : row + 1, :length], model.device))[-1]
        best = logits.softmax(-1).topk(3)
        answers = ", ".join(
            f"{text([i])!r} {number(p)}" for p, i in zip(best.values.tolist(), best.indices, strict=True)
        )
        yield f"\n{row + 1}. {text(clean[0])!r}"
        if shown.counterfactual is not None:
            yield f"   counterfactual: {text(shown.counterfactual[row, :length])!r}"
        if shown.unpaired is not None and shown.unpaired_lengths is not None:
            yield f"   counterfactual: {text(shown.unpaired[row, : int(shown.unpaired_lengths[row])])!r}"
        if shown.answers is not None and shown.wrong is not None:
            yield f"   right: {_words(text, shown.answers[row])}; wrong: {_words(text, shown.wrong[row])}"
        yield f"   the model says: {answers}"


def _words(text: Any, answers: Tensor, most: int = 6) -> str:
    from ...tasks.task import tokens_of

    known = tokens_of(answers)
    shown = (repr(text(each if isinstance(each, list) else [each])) for each in known[:most])
    return ", ".join(shown) + (", ..." if len(known) > most else "")


def _tokenizer(model_name: str) -> Tokenizer:
    from ..model.load.by_name import load_tokenizer

    tokenizer = load_tokenizer(model_name)
    if tokenizer is None:
        raise DataError(f"{model_name} has no tokenizer, and tasks as text need one; give a language model.")
    return tokenizer


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The usable words last, because they are long."""
    return [name for name in rows[0] if name != "usable"] + ["usable"]
