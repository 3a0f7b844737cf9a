"""Writes what came of reproducing a paper: verdicts, figures with reported beside reproduced, and one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ...suite.errors import StoreError
from ...suite.reading import checked, read_json
from ...suite.scoring.sensitivity.card_model import SensitivityCard
from ...suite.store.published import REPRODUCTION, publishing
from ...suite.store.reading import unsealed
from ..card.figure import draw_card
from ..card.tables import share_table, value_table
from ..card.tables import verdict_table as shares_of_settings
from ..chapters.chapter import Plot, chapters
from ..chapters.files import write_figures
from ..draw.beside import reported_beside_ours
from ..draw.published_roc import published_roc
from ..draw.render import OnDrawn
from ..page import markup
from ..page.page import Section, page
from ..page.table import Table
from ..read.published import Level
from ..read.results import Results, read_results, within
from .entries import Drawing
from .figures import drawer, drawn, has_numbers
from .judge import FOLDED, Judged, judge, measured_elsewhere, table_of_verdicts, verdict_counts, verdict_frame
from .manifest import Manifest
from .measured import Tables

FIGURES = "paper-figures"  # not those of the report, which may be in the same folder


class Reproduction(NamedTuple):
    """What came of reproducing a paper: every value's verdict, what was measured on another model, in numbers, and
    which figures have nothing to draw, each in a sentence that is empty where there is nothing to say."""

    judged: list[Judged]
    elsewhere: str
    undrawn: str


def results_of(store: Path) -> Results | None:
    """The store's results, or None where there is no store."""
    return read_results(store) if (store / "store.json").is_file() else None


def write_reproduction(
    manifest: Manifest, store: Path, out: Path, model: str | None = None, progress: OnDrawn | None = None
) -> Reproduction:
    """Writes ``reproduction.html``, ``verdicts`` (CSV, JSON, Markdown, LaTeX) and figures (PDF, SVG, PNG) into ``out``.

    Args:
        store: what the manifest's parts were run into; the parts that need no run are judged without one.
        model: the language model used instead of the paper's; every figure with numbers of it says so.
        progress: is told how many drawings are done, and of how many.

    Raises:
        StoreError: the store cannot be read, or ``out`` cannot be written.
    """
    results = results_of(store)
    tables = None if results is None else Tables(results)
    judged = judge(manifest, tables, model)
    elsewhere = measured_elsewhere(manifest, judged, tables, model)
    table = table_of_verdicts(manifest, judged)
    found, drawings = cards(manifest, store), _drawings(manifest, tables)
    undrawn = _undrawn(manifest, [drawing for drawing, table in drawings if not has_numbers(drawing, table)], model)
    plots = [*_plots(manifest, judged, tables, model, drawings), *found]
    with publishing(out, REPRODUCTION) as new:
        verdict_frame(judged).to_csv(new / "verdicts.csv", index=False, lineterminator="\n")
        (new / "verdicts.json").write_text(_json(manifest, judged, model), encoding="utf-8")
        (new / "verdicts.md").write_text(markup.markdown(table), encoding="utf-8")
        (new / "verdicts.tex").write_text(markup.latex(table), encoding="utf-8")
        _write_page(manifest, judged, (elsewhere, undrawn), table, plots, new, progress)
    return Reproduction(judged, elsewhere, undrawn)


def _json(manifest: Manifest, judged: Sequence[Judged], model: str | None) -> str:
    rows = json.loads(verdict_frame(judged).to_json(orient="records"))
    return json.dumps({"paper": manifest.name, "model": model, "values": rows}, indent=1) + "\n"


def _write_page(
    manifest: Manifest,
    judged: list[Judged],
    remarks: Sequence[str],
    table: Table,
    plots: list[Plot],
    out: Path,
    progress: OnDrawn | None,
) -> None:
    """The figures, and the page with all of them."""
    pictures = write_figures(out / FIGURES, plots, progress)
    summary = [manifest.about]
    summary += [f"Of {len(judged)} values: {verdict_counts(judged)}."] if judged else []
    summary += filter(None, remarks)
    open_questions = [item.value.name for item in judged if not item.explained]
    if open_questions:
        summary.append(f"Differing without a known reason: {', '.join(open_questions)}.")
    sections = [Section("summary", "Summary", tuple(summary))]
    if plots:
        sections.append(Section("figures", "Figures", (), tuple(pictures.values())))
    sections += [Section("verdicts", "Verdicts", (), (), (table.folded(*FOLDED),))] if judged else []
    facts = [manifest.citation, *([verdict_counts(judged)] if judged else [])]
    html = page(f"{manifest.title}, reproduced", facts, sections)
    (out / REPRODUCTION).write_text(html, encoding="utf-8")


def _drawings(manifest: Manifest, tables: Tables | None) -> list[tuple[Drawing, pd.DataFrame]]:
    """Each ``[[figure]]`` of the manifest with what it shows."""
    of_part: dict[str | None, Tables] = {}
    found = []
    for drawing in manifest.figure:
        part = drawing.part
        if tables and part not in of_part:
            # Of the part's cells alone: names tell apart what differs among those.
            of_part[part] = Tables(within(tables.results, *manifest.benchmarks(part))) if part else tables
        found.append((drawing, drawn(manifest, drawing, of_part.get(part))))
    return found


def _undrawn(manifest: Manifest, empty: Sequence[Drawing], model: str | None) -> str:
    """Which figures have nothing to draw, and what would give them something."""
    if not empty:
        return ""
    titles = "; ".join(drawing.title for drawing in empty)
    text = f"Not drawn, because nothing of it was measured here and the paper's numbers are not at hand: {titles}."
    parts = [part for each in empty for part in manifest.part if fnmatchcase(part.name, each.part or "*")]
    needs_model = model is None and any(part.model for part in parts)
    return f"{text} --model runs what is of a language model." if needs_model else text


def _plots(
    manifest: Manifest,
    judged: list[Judged],
    tables: Tables | None,
    model: str | None,
    drawings: Sequence[tuple[Drawing, pd.DataFrame]],
) -> list[Plot]:
    """The paper's figures: reported beside reproduced, its own points, and what its manifest asks for, where there is
    anything to draw.

    Those that have ours beside the paper's come first, then those of ours alone.
    """
    found: list[tuple[int, Plot]] = []
    if judged:
        caption = (
            "What the paper reports (open) and what came out here (filled); open alone: not run, or ours is another "
            "quantity; the table says why."
        )
        if any(item.elsewhere for item in judged):
            caption += f" Ours is of {model}, which says nothing of the paper's model; the table names tasks and sizes."
        frame = verdict_frame(judged)
        frame["ours"] = frame["ours"].mask(frame["verdict"] == "not comparable")
        note = manifest.instead(None, model) if any(item.elsewhere for item in judged) else ""
        others = dict.fromkeys(item.value.group for item in judged if item.elsewhere)
        usual = {item.value.group for item in judged if item.ours is not None and not item.elsewhere}
        if note and not usual <= set(others):  # other panels have numbers of the paper's own model, or of none
            note += f" ({'; '.join(map(manifest.spelled, others))})"
        beside = bool(frame["ours"].notna().any())
        frame = frame.assign(**{name: frame[name].map(manifest.spelled) for name in ("group", "row", "series")})
        draw = partial(reported_beside_ours, frame, manifest.measure, note, _lacking(manifest, None, tables, model))
        found.append((_place(True, beside), Plot("beside", "Reported and reproduced", caption, draw)))
    if curves := manifest.spelled_curves():
        caption = "The points that were released with the paper; steps bound the area that it prints."
        levels: tuple[Level, ...] = ("edge", "node")
        for level in levels:
            title, draw = f"Published ROC points, {level}s", partial(published_roc, curves, level)
            found.append((_place(True, False), Plot(f"published_{level}s", title, caption, draw)))
    for drawing, table in drawings:
        if not has_numbers(drawing, table):
            continue
        part = drawing.part
        note = manifest.instead(part, model) if part else ""
        lacking = _lacking(manifest, part, tables, model) if drawing.table else ""
        place = _place(*((table["origin"] == origin).any() for origin in ("reported", "ours")))
        own = drawer(drawing, table, note, lacking)
        found.append((place, Plot(drawing.name, drawing.title, drawing.caption, own)))
    found += [(_place(False, True), plot) for plot in (_of_the_report(manifest, tables) if tables else [])]
    return [plot for _, plot in sorted(found, key=lambda each: each[0])]


def _place(reported: bool, ours: bool) -> int:
    """Where a figure comes: ours beside the paper's, ours alone, the paper's alone, nothing."""
    return (3, 2, 1, 0)[2 * ours + reported]


def _lacking(manifest: Manifest, part: str | None, tables: Tables | None, model: str | None) -> str:
    """What is said of panels without ours: on which other model there is nothing, or that the store has nothing."""
    if manifest.instead(part, model):
        return f"not measured on {model}"
    if tables is None or not any(record.done for record in tables.results.records):
        return "not measured (store empty)"
    return "not measured"


def _of_the_report(manifest: Manifest, tables: Tables) -> list[Plot]:
    """The figures of the report that the manifest asks for, each of one part's cells alone."""
    found = []
    for shown in manifest.gallery:
        results = within(tables.results, *manifest.benchmarks(shown.part))
        plots = {plot.name: plot for chapter in chapters() for plot in chapter.figures(results)}
        for plot in (plots[name] for name in shown.figures if name in plots):
            found.append(plot._replace(caption=" ".join(filter(None, (plot.caption, shown.caption)))))
    return found


def cards(manifest: Manifest, store: Path) -> list[Plot]:
    """The manifest's sensitivity cards, of what was measured and kept in the store."""
    found = []
    for wanted in manifest.card:
        if (path := card_path(store, wanted.name)).is_file():
            card = checked(SensitivityCard, _unsealed(path), path, StoreError)
            tables = value_table(card), share_table(card), shares_of_settings(card)
            draw = partial(draw_card, *tables, card.settings.varying)
            found.append(Plot(wanted.name, wanted.title, f"{wanted.caption} {card.paragraph}", draw))
    return found


def _unsealed(path: Path) -> Any:
    contents = read_json(path, error=StoreError)
    return unsealed(contents, path) if isinstance(contents, dict) else contents


def card_path(store: Path, name: str) -> Path:
    """Where what was measured for a sensitivity card is kept."""
    return store / "cards" / f"{name}.json"
