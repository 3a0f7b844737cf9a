"""The tables of what a method is given: each name is there on a compiled model, and has the shape that its row says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from test_docs import DOCS

from circuitmeter import Ablation, Discovery, EdgeScores, Evaluator, NodeScores, load_model, load_task
from circuitmeter.suite.intervention.objective import OBJECTIVES

PAGE = (DOCS / "method-author.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## What a method is given\n")[2].partition("\n## ")[0]
CODE = re.compile(r"`([^`]+)`")
KINDS = {"bool": {torch.bool}, "long": {torch.int64}, "float": {torch.float32, torch.float64}}


class Row(NamedTuple):
    """A row of a table: the expression, what its shape is, what it means."""

    expression: str
    shape: str
    words: str


def rows() -> list[Row]:
    cells = (re.split(r" *\| *", line)[1:4] for line in SECTION.splitlines() if line.startswith("| `"))
    return [Row(CODE.fullmatch(name.strip())[1], shape.strip(), words.strip()) for name, shape, words in cells]


@pytest.fixture(scope="module", params=["tracr/hist", "gates/or"])
def given(request) -> tuple[dict[str, object], dict[str, int]]:
    """What a method has on a compiled model, and how long each axis is."""
    model, data = load_model(request.param), load_task(request.param).data()
    data = data.select(torch.arange(6))
    objective, ablation = OBJECTIVES.get("answer-difference"), Ablation.parse("patch")
    evaluator = Evaluator(model, data, ablation, objective, batch_size=4)
    batch, graph = next(iter(evaluator.prepared())), model.graph
    masks = torch.rand(3, *graph.exists.shape)
    tokens, read = batch.batch.clean, batch.runs.read
    inputs = model.input_nodes(tokens)
    outputs, run = model.run(inputs, read=read)
    scores, node_scores = torch.rand(graph.exists.shape), torch.rand(len(graph.writers))
    loss = objective.loss(outputs, batch.targets)
    names = {**locals(), "edge": graph.edges[0], "reader": graph.readers[0], "rows": torch.arange(2)}
    names |= {"EdgeScores": EdgeScores, "NodeScores": NodeScores, "Discovery": Discovery}
    axes = {"N": 6, "B": len(tokens), "P": tokens.shape[1], "I": len(graph.input_nodes), "W": len(graph.writers)}
    axes |= {"R": len(graph.readers), "D": model.config.d_model, "O": model.config.d_out, "C": 3}
    axes |= {"n": int(read.sum()), "sum of n": int(data.read.sum())}
    return names, axes


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.expression)
def test_what_a_row_names_is_there_and_has_its_shape(row, given):
    names, axes = given
    found = eval(row.expression, dict(names))
    if isinstance(found, EdgeScores | NodeScores):
        found = found.values
    if named := re.fullmatch(r"(\w) names", row.shape):
        assert len(found) == axes[named[1]] and all(isinstance(name, str) for name in found)
    elif stated := re.fullmatch(r"(?:(\w+) )?\[([^\]]+)\]", row.shape):
        if found is None:  # what the task does not have
            assert "`None`" in row.words or row.expression == "data.wrong"
            return
        assert list(found.shape) == [axes[axis] for axis in stated[2].split(", ")]
        assert stated[1] is None or found.dtype in KINDS[stated[1]]
    else:
        assert row.shape == "" and not isinstance(found, torch.Tensor)


def test_every_name_in_the_words_is_there(given):
    """The words beside the names have names, too: the fields of ``config``, ``objective.differentiable``."""
    names, _ = given
    for expression in re.findall(r"`((?:model|graph|data|objective|batch|ablation)\.[\w.]+)`", SECTION):
        eval(expression, dict(names))
    (fields,) = (row.words for row in rows() if row.expression == "model.config")
    assert all(hasattr(names["model"].config, field) for field in CODE.findall(fields))


def attributes(text: str) -> Iterator[str]:
    """What Python code asks of the things that a method is given."""
    yield from re.findall(r"\b(?:model|batch|objective|evaluator|data|ablation)\.[a-z_]+", text)


def test_all_that_the_examples_use_is_in_the_tables():
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    examples = [text for text in re.findall(r"```python\n(.*?)```", readme + PAGE, re.DOTALL) if "def discover" in text]
    assert len(examples) == 2
    listed = set(attributes(" ".join(f"{row.expression} {row.words}" for row in rows())))
    used = {name for text in examples for name in attributes(text)}
    assert {"batch.alternative", "batch.runs", "objective.loss"} <= used <= listed
