"""What the models do on the prompts that circuits are measured on, without anything cut."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ...suite.scoring.behaviour import DOES
from ...suite.store.record import BehaviourRecord
from ..page.table import Table, count_cell, number, number_cell, text_cell
from ..read.results import Results
from .chapter import Chapter, chapter

NOT_MEASURED = (
    "Whether the models do these tasks was not measured in this store; `circuitmeter run` measures it, also where all "
    "cells are there."
)


@chapter
class BehaviourChapter(Chapter):
    """Accuracy and logit difference of each model on each task that has right and wrong answers."""

    name, title, order = "behaviour", "What the models do", 35
    of_circuits = False

    def tables(self, results: Results) -> Sequence[Table]:
        return (behaviours(results.behaviours),)

    def words(self, results: Results) -> Sequence[str]:
        text = "A circuit explains what a model does; where a model does not do a task, its circuit says little."
        if results.behaviours:
            return (text,)
        # Tasks without a certified circuit are language tasks; those of compiled models have no wrong answers.
        asked = any(record.done and record.identity.truth is None for record in results.records)
        return (NOT_MEASURED,) if asked else ()


def behaviours(found: Sequence[BehaviourRecord]) -> Table:
    """What each model does on each task."""
    rows, data = [], []
    for record in found:
        done = record.behaviour
        rows.append(
            (
                text_cell(record.task),
                text_cell(record.model),
                number_cell(number(done.accuracy), done.accuracy),
                number_cell(number(done.logit_difference), done.logit_difference),
                count_cell(done.prompts),
                text_cell("yes" if done.does_it else "hardly"),
            )
        )
        data.append({"task": record.task, "model": record.model, "data": record.identity.data, **done.as_json()})
    return Table(
        "behaviour",
        "What the whole models do",
        "Accuracy: the share of prompts on which the best right answer beats the best wrong one. Logit difference: the "
        "mean of right minus wrong (log-probabilities, where answers have several tokens). A task counts as done from "
        f"an accuracy of {number(DOES)}.",
        ("Task", "Model", "Accuracy", "Logit difference", "Prompts", "Does it"),
        (False, False, True, True, True, False),
        tuple(rows),
        pd.DataFrame(data),
    )
