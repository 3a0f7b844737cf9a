"""The parts of a report's page, in order: what each says, and which figures and tables stand in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..page.page import Picture, Section
from ..read.labels import ordered_ablations
from ..read.results import Results
from ..read.stores import Stores
from . import present
from .dependence import dependence
from .diagnostics import missed_by
from .sensitivity_words import in_words
from .verdict import sentences

if TYPE_CHECKING:
    from ..page.viewer import Circuits


def title(store: Stores) -> str:
    names = ", ".join(store.benchmarks()) or ", ".join(sorted(part.path.resolve().name for part in store.stores))
    return f"CircuitMeter: {names}"


def facts(results: Results) -> list[str]:
    """What the store holds, in a few numbers."""
    done = sum(record.done for record in results.records)
    found = [f"{len(results.store.stores)} stores"] * (len(results.store.stores) > 1)
    found += [f"{len(results.records)} cells", f"{done} done"]
    kinds = results.failures.loc[results.failures["kind"] != "damaged", "kind"].value_counts()
    undefined = int(kinds.get("undefined", 0))
    found += [f"{undefined} undefined"] if undefined else []
    found += [f"{int(kinds.sum()) - undefined} failed"] if kinds.sum() > undefined else []
    asked = {key for benchmark in results.store.benchmarks().values() for key in benchmark.cells}
    missing = len(asked - {record.key for record in results.records})
    found += [f"{missing} not run yet"] if missing else []
    for benchmark in results.store.benchmarks().values():
        found += [f"{model.combinations} not run on {model.model}" for model in benchmark.not_run]
    found += [f"{results.superseded} outdated, left out"] if results.superseded else []
    found += [f"{len(results.store.damaged)} damaged"] if results.store.damaged else []
    for column, word in (("task", "task"), ("label", "method"), ("ablation", "ablation")):
        n = results.recovery[column].nunique()
        found += [f"{n} {word}{'s' * (n != 1)}"] if n else []
    return found


def sections(
    results: Results, pictures: dict[str, Picture], shown: dict[str, present.Table], circuits: Circuits
) -> list[Section]:
    """The page's parts, in order; those that would be empty are left out."""
    scored = not results.recovery.empty
    summary = sentences(results.aggregate, results.pairwise, results.mismatch) if scored else [_nothing_scored(results)]
    summary += [text] if (text := dependence(results.faithfulness)) else []
    without = sum(not record.done for record in results.records)
    if without:
        summary.append(f"{without} of {len(results.records)} cells have no result; the reasons are listed below.")
    found = [Section("summary", "Summary", tuple(summary))]
    if scored:
        found.append(Section("recovery", "Recovery", (), (pictures["auc_by_method"],), (shown["leaderboard"],)))
        found.append(
            Section("curves", "Curves", (), (pictures["roc"], pictures["precision_recall"], pictures["true_size"]))
        )
        found.append(Section("cost", "Cost", (), (pictures["cost"],)))
        if len(ordered_ablations(results.mismatch["truth_ablation"])) > 1:
            text = (
                "An edge that one ablation needs another may not: which circuit is true depends on how edges are cut."
            )
            found.append(Section("mismatch", "Truth mismatch", (text,), (pictures["mismatch"],), (shown["mismatch"],)))
    if len(results.structures):
        text = (
            "Which structures does a method miss? Gates are small models wired by hand, each of which has one "
            "structure that some methods cannot see; compiled models in a random basis and trained ones stand beside "
            "them, several programs as one column.",
            "A method can have an area of 1, or be exact, in the tables above and miss a structure here: recovery "
            "leaves edges that are in some minimal circuits only (optional ones) out of the score, while the question "
            "here is whether the edges ranked first suffice, and those must include enough of the optional ones.",
            *missed_by(results.structures),
        )
        found.append(Section("structures", "Structures", text, (pictures["structures"],), (shown["structures"],)))
    if len(results.faithfulness):
        text = (
            "A circuit is faithful when the model without the rest still does what it did; what is put in place of the "
            "rest is the analyst's choice."
        )
        names = [name for name in ("evaluation", "faithfulness") if name in pictures]
        listed = [shown[name] for name in ("faithfulness", "areas") if shown[name].rows]
        drawn = tuple(pictures[name] for name in names)
        found.append(Section("faithfulness", "Faithfulness", (text,), drawn, tuple(listed)))
    if "sensitivity" in pictures:
        text = in_words(results.sensitivity)
        found.append(Section("sensitivity", "Sensitivity", text, (pictures["sensitivity"],), (shown["sensitivity"],)))
    if circuits.shown:
        text = (
            "What a method's best edges have in common with the true circuit of its ablation. The slider says how many "
            "edges; it starts at the true size. Point at an edge or a node, or reach it with the Tab key, to see names "
            "and scores. Layers from bottom to top; q, k and v enter a head at its left, middle and right.",
        )
        if circuits.shown < circuits.of:
            text += (
                f"The first {circuits.shown} of {circuits.of} pairs of task and ablation: more would slow the page.",
            )
        found.append(Section("circuits", "Circuits", text))
    if scored:
        found.append(Section("programs", "Programs", (), (), (shown["programs"], shown["runs"])))
        if shown["comparisons"].rows:
            found.append(Section("tests", "Tests", (), (), (shown["comparisons"],)))
    absent = _not_run(results)
    if len(results.failures) or absent:
        listed = (shown["failures"],) if len(results.failures) else ()
        found.append(Section("failures", "No result", absent, (), listed))
    if results.store.damaged:
        damaged = (f"{key}: {reason}" for key, reason in sorted(results.store.damaged.items()))
        text = (
            "These cells are not what was written and are left out of everything above; the next run replaces them.",
            *damaged,
        )
        found.append(Section("damaged", "Damaged cells", text))
    if results.records:
        listed = [shown[name] for name in ("benchmarks", "provenance") if shown[name].rows]
        found.append(Section("provenance", "Provenance", (), (), tuple(listed)))
    return found


def _not_run(results: Results) -> tuple[str, ...]:
    """A sentence for each model that a benchmark was not run on because it was not on the machine."""
    benchmarks = results.store.benchmarks().items()
    return tuple(
        f"{name} was not run on {model.model} ({model.combinations} cells): {model.reason}"
        for name, benchmark in benchmarks
        for model in benchmark.not_run
    )


def _nothing_scored(results: Results) -> str:
    if not results.records:
        return "This store holds no cells yet: run a benchmark into it and report again."
    if all(not record.done for record in results.records):
        return "No cell of this store has a result: all of them failed or are undefined."
    return "No cell of this store could be scored: none of its tasks has a known circuit."
