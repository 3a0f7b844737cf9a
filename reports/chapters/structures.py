"""Which structures methods find and miss, model by model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import pandas as pd

from ..draw.structures import structures
from ..page.table import MISSING, Table, number_cell, percent, text_cell
from ..read.labels import BASELINES, method_of
from ..read.results import Results
from ..read.structures import NORMS
from .chapter import Chapter, Plot, chapter

MEANINGS = {
    "adder": "a sum of two inputs",
    "and": "restoring one input alone restores nothing",
    "or": "destroying one input alone destroys nothing",
    "xor": "an input's effect changes its sign with the other input, and is zero on average",
    "backup": "under zero and mean a second head steps in for the first, so that each is inert alone",
    "redundant": "three copies and a majority, each inert alone",
    "cancelling": "two heads that matter each alone and add up to nothing: the circuit is without them",
    "saturation": "a step that is flat at both of its values: no gradient there",
    "distractors": "loud heads that nothing reads",
    "position": "constant paths, made of positions alone: they matter to zero and mean only, and add the same to every "
    "answer",
    "random basis": "compiled models of which no dimension means anything by itself",
    "trained": "dense weights; each true edge matters many times more than any other",
    NORMS: "the same with layer norm, whose scale every edge moves",
}
"""What each gate (``ground_truth/gates/catalogue.py``) and each family is made to tell apart."""


@chapter
class StructuresChapter(Chapter):
    """Gates, each of which has one structure that some methods cannot see, and families of models beside them."""

    name, title, order = "structures", "Structures", 30

    def tables(self, results: Results) -> Sequence[Table]:
        return (structure_misses(results.structures),) if len(results.structures) else ()

    def figures(self, results: Results) -> Sequence[Plot]:
        if not len(results.structures):
            return ()
        caption = (
            "A structure is found when the edges ranked first, as many as its smallest minimal circuit has, are a "
            "minimal circuit of that ablation; a tie across that border counts as missed. Methods that find most stand "
            "at the top, structures that most methods find at the left. Empty: not run, or undefined."
        )
        draw = partial(structures, results.structures)
        return (Plot("structures", "Structures found and missed", caption, draw),)

    def words(self, results: Results) -> Sequence[str]:
        if not len(results.structures):
            return ()
        return (
            "Which structures does a method miss? Gates are small models wired by hand, each of which has one "
            "structure that some methods cannot see; compiled models in a random basis and trained ones stand beside "
            "them, several programs as one column.",
            "A method can have an area of 1, or be exact, in the tables above and miss a structure here: recovery "
            "leaves edges that are in some minimal circuits only (optional ones) out of the score, while the question "
            "here is whether the edges ranked first suffice, and those must include enough of the optional ones.",
            *missed_by(results.structures),
        )


def structure_misses(table: pd.DataFrame) -> Table:
    """Under which ablations each method misses each structure."""
    names = list(dict.fromkeys(table.sort_values("place", kind="stable")["structure"]))
    rows = []
    for label, of_label in table.groupby("label", sort=False):
        cells = [text_cell(label)]
        for name in names:
            of_both = of_label[of_label["structure"] == name]
            missed = [
                ablation if not found else f"{ablation} in {n - round(found * n)} of {n} runs"
                for ablation, found, n in of_both[["ablation", "found", "n_cells"]].itertuples(index=False)
                if found < 1
            ]
            text = "found" if not missed else f"misses {', '.join(missed)}"
            text = text if len(of_both) else MISSING
            cells.append(number_cell(text, of_both["found"].mean(), shaded=text == "found"))
        found = of_label["found"].mean()
        rows.append((*cells, number_cell(percent(found), found)))
    return Table(
        "structures",
        "Structures that a method misses",
        "Under which ablations the edges ranked first, as many as the smallest minimal circuit has, are no minimal "
        "circuit of the model. Shaded: found under every ablation. Last: the share of all runs in which the structure "
        "is found.",
        ("Method", *names, "Found"),
        (False, *[True] * (len(names) + 1)),
        tuple(rows),
        table.drop(columns="place"),
    )


def missed_by(table: pd.DataFrame) -> Iterator[str]:
    """One sentence per structure: which methods find it under every ablation in every run, and which under no ablation.

    Args:
        table: ``structures``.
    """
    rivals = table[~table["label"].map(method_of).isin(BASELINES)]
    for (_, structure), rows in rivals.groupby(["place", "structure"]):
        always = [label for label, found in rows.groupby("label", sort=False)["found"] if found.min() >= 1]
        never = [label for label, found in rows.groupby("label", sort=False)["found"] if found.max() <= 0]
        others = rows["label"].nunique() - len(always) - len(never)
        text = f"{structure}: {MEANINGS.get(structure, 'a gate')}. "
        text += f"Found under every ablation by {', '.join(always) or 'no method'}; under none by "
        text += f"{', '.join(never) or 'no method'}" + (f"; {others} in between." if others else ".")
        yield text
