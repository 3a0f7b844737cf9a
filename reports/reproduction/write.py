"""Writes what came of reproducing a paper: verdicts, figures with reported beside reproduced, and one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...suite.errors import StoreError
from ..chapters import present
from ..page import markup
from ..read.results import Results, read, within
from .judge import Judged, counted, judge, verdict_frame, verdict_table
from .manifest import Manifest
from .measured import Tables

if TYPE_CHECKING:
    from ..chapters.gallery import Drawn


def results_of(store: Path) -> Results | None:
    """The store's results, or None where there is no store."""
    return read(store) if (store / "store.json").is_file() else None


def write_reproduction(manifest: Manifest, store: Path, out: Path, model: str | None = None) -> list[Judged]:
    """Writes ``reproduction.html``, ``verdicts`` (CSV, JSON, Markdown, LaTeX) and figures (PDF, SVG, PNG) into ``out``.

    Args:
        store: what the manifest's parts were run into; the parts that need no run are judged without one.
        model: the language model used instead of the paper's; every figure says so.

    Raises:
        StoreError: the store cannot be read, or ``out`` cannot be written.
    """
    results = results_of(store)
    tables = None if results is None else Tables(results)
    judged = judge(manifest, tables, model)
    table, drawn = verdict_table(manifest, judged), _figures(manifest, judged, tables, model)
    drawn |= cards(manifest, store)
    try:
        out.mkdir(parents=True, exist_ok=True)
        verdict_frame(judged).to_csv(out / "verdicts.csv", index=False, lineterminator="\n")
        (out / "verdicts.json").write_text(_json(manifest, judged, model), encoding="utf-8")
        (out / "verdicts.md").write_text(markup.markdown(table), encoding="utf-8")
        (out / "verdicts.tex").write_text(markup.latex(table), encoding="utf-8")
        _write_page(manifest, judged, table, drawn, out, manifest.instead(None, model))
    except OSError as error:
        raise StoreError(
            f"cannot write to {out}: {error.strerror or error}; name another folder with --out."
        ) from error
    return judged


def _json(manifest: Manifest, judged: Sequence[Judged], model: str | None) -> str:
    rows = json.loads(verdict_frame(judged).to_json(orient="records"))
    return json.dumps({"paper": manifest.name, "model": model, "values": rows}, indent=1) + "\n"


def _write_page(
    manifest: Manifest, judged: list[Judged], table: present.Table, drawn: dict[str, Drawn], out: Path, note: str
) -> None:
    """The figures, and the page with all of them."""
    from ..page.page import Section, page
    from ..write import write_figures

    pictures = write_figures(out / "figures", drawn)
    summary = [manifest.about]
    summary += [f"Of {len(judged)} values: {counted(judged)}."] if judged else []
    summary += [f"What was measured of a language model is {note}."] if note else []
    open_questions = [item.value.name for item in judged if not item.explained]
    if open_questions:
        summary.append(f"Differing without a known reason: {', '.join(open_questions)}.")
    sections = [Section("summary", "Summary", tuple(summary))]
    if drawn:
        sections.append(Section("figures", "Figures", (), tuple(pictures.values())))
    sections += [Section("verdicts", "Verdicts", (), (), (table,))] if judged else []
    facts = [manifest.citation, *([counted(judged)] if judged else [])]
    html = page(f"{manifest.title}, reproduced", facts, sections)
    (out / "reproduction.html").write_text(html, encoding="utf-8")


def _figures(manifest: Manifest, judged: list[Judged], tables: Tables | None, model: str | None) -> dict[str, Drawn]:
    """The paper's figures: reported beside reproduced, its own points, and what its manifest asks for."""
    from ..chapters.gallery import Drawn
    from .beside import beside
    from .figures import draw
    from .published import published_roc

    drawn = {}
    if judged:
        caption = (
            "What the paper reports (open) and what came out here (filled); open alone: not run, the table says why."
        )
        figure = beside(verdict_frame(judged), manifest.measure, manifest.instead(None, model))
        drawn["beside"] = Drawn(figure, "Reported and reproduced", caption)
    if curves := [curve for curve in manifest.curves() if "points" in curve]:
        caption = "The points that were released with the paper; steps bound the area that it prints."
        for level in ("edge", "node"):
            title = f"Published ROC points, {level}s"
            drawn[f"published_{level}s"] = Drawn(published_roc(curves, level), title, caption)
    of_part = {}
    for drawing in manifest.figure:
        part = drawing.part
        if tables and part not in of_part:
            # Of the part's cells alone: names tell apart what differs among those.
            of_part[part] = Tables(within(tables.results, *manifest.benchmarks(part))) if part else tables
        figure = draw(manifest, drawing, of_part.get(part), manifest.instead(part, model) if part else "")
        drawn[drawing.name] = Drawn(figure, drawing.title, drawing.caption)
    return drawn | (_of_the_report(manifest, tables) if tables else {})


def _of_the_report(manifest: Manifest, tables: Tables) -> dict[str, Drawn]:
    """The figures of the report that the manifest asks for, each of one part's cells alone."""
    from ..chapters.gallery import gallery

    found = {}
    for shown in manifest.gallery:
        drawn, _ = gallery(within(tables.results, *manifest.benchmarks(shown.part)))
        for name in shown.figures:
            if name in drawn:
                caption = " ".join(filter(None, (drawn[name].caption, shown.caption)))
                found[name] = drawn[name]._replace(caption=caption)
    return found


def cards(manifest: Manifest, store: Path) -> dict[str, Drawn]:
    """The manifest's sensitivity cards, of what was measured and kept in the store."""
    from ..card.figure import card as drawn
    from ..card.tables import share_table, value_table
    from ..card.tables import verdict_table as shares_of_settings
    from ..card.words import varying
    from ..chapters.gallery import Drawn

    found = {}
    for wanted in manifest.card:
        if (path := card_path(store, wanted.name)).is_file():
            card = json.loads(path.read_text(encoding="utf-8"))
            figure = drawn(value_table(card), share_table(card), shares_of_settings(card), varying(card))
            found[wanted.name] = Drawn(figure, wanted.title, f"{wanted.caption} {card['paragraph']}")
    return found


def card_path(store: Path, name: str) -> Path:
    """Where what was measured for a sensitivity card is kept."""
    return store / "cards" / f"{name}.json"
