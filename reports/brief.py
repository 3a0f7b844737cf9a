"""The short report, to be attached to an e-mail: at most two A4 pages, made from the same chapters as the page.

It has the summary, three figures, one table, and a paragraph on methods that can stand in a paper.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import TypeVar

from ..suite.store.record import Benchmark, Record
from .chapters.chapter import Chapter
from .page.page import Section
from .page.table import count, listed
from .read.labels import is_own, ordered_ablations, ordered_objectives, value_text
from .read.results import Results
from .read.tables import cell_columns

MOST_PARAGRAPHS, MOST_FIGURES, MOST_ROWS = 5, 3, 14
"""What of the summary, the figures and the table's rows two pages hold; what is said of the reader's own methods, and
their rows beside their rivals', comes on top; where that is more than one method's, two figures make room for it."""
_MOST_NAMES, _MOST_VALUES = 16, 6
"""Names of one family, and values of one parameter, that are listed; more are counted."""

_Part = TypeVar("_Part")


def brief_sections(full: Sequence[Section], results: Results, parts: Sequence[Chapter]) -> list[Section]:
    """The short report's sections.

    Args:
        full: the sections of the page, the summary among them.
        parts: the chapters, for the statistics that they use.
    """
    texts = {section.name: section.text for section in full}["summary"]
    said = {part.name: part.summary(results) for part in parts}
    leading = [text for part in parts if part.leads for text in said[part.name]]
    others = [said[part.name] for part in parts if not part.leads]
    rest = max(1, MOST_PARAGRAPHS - len(leading))
    kept = [*leading, *first_of_each(others, rest)] if any(said.values()) else list(texts)
    # Paragraphs that belong to no chapter, such as why nothing could be scored, are kept, too.
    words = [text for text in texts if text in kept or not any(text in of_part for of_part in said.values())]
    left = len(texts) - len(words)
    words += [f"The report's summary has {left} more paragraph{'s' * (left != 1)}."] * (left > 0)
    most_figures = MOST_FIGURES if len(leading) < MOST_PARAGRAPHS else 1
    pictures = first_of_each([section.pictures for section in full], most_figures)
    own, rivals = _own_and_rivals(results)
    leads = {part.name for part in parts if part.leads}
    full_tables = [section.tables for section in full if section.name not in leads]
    tables = [table.shortened(MOST_ROWS, own | rivals) for table in first_of_each(full_tables, 1)]
    shown = {
        section.name
        for section in full
        if {*words} & {*said.get(section.name, ())}
        or {picture.name for picture in pictures} & {picture.name for picture in section.pictures}
        or (tables and tables[0].name in {table.name for table in section.tables})
    }
    note = ("Figures and tables that are not here are in the report itself.",) if pictures or tables else ()
    return [
        Section("summary", "Summary", tuple(words)),
        Section("results", "Results", note, tuple(pictures), tuple(tables)),
        Section(
            "methods",
            "Methods",
            methods_paragraph(
                results,
                [part for part in parts if part.name in shown],
                {*own, *(cell.text for table in tables for row in table.rows for cell in row)},
            ),
        ),
    ]


def _own_and_rivals(results: Results) -> tuple[dict[str, str], dict[str, str]]:
    """Label -> method: of the reader's own methods, and of those that they are tested against with their objectives."""
    columns = cell_columns(results.records)
    own = [column for column in columns if is_own(column.method)]
    objectives = {column.objective for column in own} | {None}
    if None in {column.objective for column in own}:
        objectives |= {column.objective for column in columns}
    rivals = [column for column in columns if column.method in results.rivals and column.objective in objectives]
    return {column.label: column.method for column in own}, {
        column.label: column.method for column in rivals if own and not is_own(column.method)
    }


def first_of_each(groups: Sequence[Sequence[_Part]], most: int) -> list[_Part]:
    """The first of every group, then the second ones, until there are ``most``; in the groups' order.

    >>> first_of_each(["abc", "", "d", "ef"], 4)
    ['a', 'b', 'd', 'e']
    """
    places = [(rank, place) for place, group in enumerate(groups) for rank in range(len(group))]
    chosen = sorted((place, rank) for rank, place in sorted(places)[:most])
    return [groups[place][rank] for place, rank in chosen]


def methods_paragraph(
    results: Results, parts: Sequence[Chapter], labels: Collection[str] | None = None
) -> tuple[str, ...]:
    """A paragraph on what was measured, with what, and how it was summed up; nothing when no cell has a result.

    Args:
        parts: the chapters whose results are shown, and whose statistics are therefore told.
        labels: of the methods whose parameters are told; of others there is the name. None: of all.
    """
    done = [record for record in results.records if record.done]
    if not done:
        return ()
    statistics = [text for part in parts for text in part.statistics(results)]
    sentences = [
        _asked(results, done),
        _subjects(done),
        _truths(done),
        _methods(results, done, labels),
        _settings(done),
        _seeds(done),
    ]
    return (" ".join(text for text in [*sentences, *statistics] if text),)


def _asked(results: Results, done: Sequence[Record]) -> str:
    benchmarks = results.store.benchmarks()
    names = [f"{name}{_which(found)}" for name, found in benchmarks.items()]
    versions = sorted({record.provenance.versions.get("circuitmeter") or "" for record in done} - {""})
    program = f"CircuitMeter {listed(versions)}" if versions else "CircuitMeter"
    if not names:
        return f"Results are of {program}, {count(len(done))} cells."
    word = "benchmark" if len(names) == 1 else "benchmarks"
    return f"Results are of the {word} {listed(names)}, run with {program}: {count(len(done))} cells with a result."


def _which(asked: Benchmark) -> str:
    """What tells a benchmark from another of its name, in brackets; nothing in stores of earlier versions."""
    known = [f"hash {asked.hash}" if asked.hash else "", asked.standing]
    return f" ({', '.join(filter(None, known))})" if any(known) else ""


def _subjects(done: Sequence[Record]) -> str:
    models, tasks = ({getattr(record.identity, name) for record in done} for name in ("model", "task"))
    text = f"Models ({len(models)}): {_families(models)}."
    return text if tasks == models else f"{text} Tasks ({len(tasks)}): {_families(tasks)}."


def _families(names: Iterable[str]) -> str:
    """``tracr/hist and tracr/sort`` as ``tracr (hist, sort)``; large families are counted."""
    found = defaultdict(list)
    for name in sorted(names):
        family, slash, own = name.partition("/")
        found[family].append(own if slash else "")
    texts = []
    for family, members in found.items():
        inside = ", ".join(filter(None, members)) if len(members) <= _MOST_NAMES else f"{len(members)} of them"
        texts.append(f"{family} ({inside})" if inside else family)
    return "; ".join(texts)


def _truths(done: Sequence[Record]) -> str:
    known = {record.identity.truth for record in done if record.identity.truth and record.own_recovery is not None}
    if not known:
        return "No true circuit is known for them."
    under = listed(ordered_ablations({record.identity.ablation for record in done if record.own_recovery is not None}))
    names = sorted(name[:8] for name in known)
    which = f": {', '.join(names)}" if len(names) <= _MOST_NAMES else ""
    word = "certificate" if len(names) == 1 else "certificates"
    circuits = f"certified circuits ({len(names)} {word}{which})"
    return f"Truths are {circuits}; a circuit is judged by the one of the ablation that it was found under ({under})."


def _methods(results: Results, done: Sequence[Record], labels: Collection[str] | None) -> str:
    columns = cell_columns(results.records)
    told = {column.method for column in columns if labels is None or column.label in labels}
    parameters: Mapping[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for record in done:
        of_method = parameters[record.identity.method]
        for name, value in record.identity.parameters.items():
            empty = isinstance(value, list | tuple) and not value
            of_method[name].add(_when_empty(record.identity.method, name) if empty else value_text(value))
    texts = []
    for method, found in sorted(parameters.items()):
        if method not in told:
            continue
        values = ", ".join(f"{name}={_values(each)}" for name, each in sorted(found.items()))
        texts.append(f"{method} ({values})" if values else method)
    others = sorted(parameters.keys() - told)
    text = f"Methods, with their parameters: {'; '.join(texts)}." if texts else ""
    if not others:
        return text
    which = "Other methods" if texts else "Methods"
    return f"{text} {which}, whose parameters are in the report: {listed(others)}.".lstrip()


def _when_empty(method: str, parameter: str) -> str:
    """What an empty list means as the method's own docstring says it; ``an empty list`` where it does not.

    A docstring says it as "when empty, the grid that the paper has" or as "; each position by itself when empty".
    """
    lines = re.search(rf"^( *){parameter}: (.*(?:\n\1 .*)*)", _docstrings(method), re.MULTILINE)
    text = " ".join(lines[2].split()) if lines else ""
    found = re.search(r"when (?:it is )?empty, ([^.;]+)|([^.;:]+) when empty\b", text)
    return (found[1] or found[2]).strip() if found else "an empty list"


def _docstrings(method: str) -> str:
    """The docstrings of a shipped method's functions, from its source: importing it would import torch."""
    source = files("circuitmeter.suite") / "methods" / f"{method.replace('-', '_')}.py"
    if not source.is_file():
        return ""
    functions = [node for node in ast.walk(ast.parse(source.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
    return "\n".join(ast.get_docstring(function) or "" for function in functions)


def _values(values: set[str]) -> str:
    return " or ".join(sorted(values)) if len(values) <= _MOST_VALUES else f"{len(values)} values"


def _settings(done: Sequence[Record]) -> str:
    ablations = ordered_ablations({record.identity.ablation for record in done})
    objectives = ordered_objectives(filter(None, (record.identity.objective for record in done)))
    text = f"Ablation{'s' * (len(ablations) != 1)}: {listed(ablations)}."
    return f"{text} Objective{'s' * (len(objectives) != 1)}: {listed(objectives)}." if objectives else text


def _seeds(done: Sequence[Record]) -> str:
    of_method = defaultdict(set)
    for record in done:
        if record.identity.seed is not None:
            of_method[record.identity.method].add(record.identity.seed)
    together = defaultdict(list)
    for method, seeds in sorted(of_method.items()):
        shown = [str(seed) for seed in sorted(seeds)]
        together[listed(shown) if len(shown) <= _MOST_VALUES else f"{len(shown)} seeds"].append(method)
    texts = [f"{seeds} ({', '.join(methods)})" for seeds, methods in together.items()]
    return f"Seeds: {'; '.join(texts)}; the other methods draw nothing." if texts else ""
