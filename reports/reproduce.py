"""Writes what came of reproducing a paper: verdicts, figures with reported beside reproduced, and one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..suite.errors import StoreError
from . import markup, present
from .manifest import Manifest
from .reproduction import Judged, counted, judge, verdict_frame, verdict_table
from .results import Results, read


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
    judged = judge(manifest, results, model)
    table, note = verdict_table(manifest, judged), _note(manifest, model)
    try:
        out.mkdir(parents=True, exist_ok=True)
        verdict_frame(judged).to_csv(out / "verdicts.csv", index=False, lineterminator="\n")
        (out / "verdicts.json").write_text(_json(manifest, judged, model), encoding="utf-8")
        (out / "verdicts.md").write_text(markup.markdown(table), encoding="utf-8")
        (out / "verdicts.tex").write_text(markup.latex(table), encoding="utf-8")
        _write_page(manifest, judged, table, results, out, note)
    except OSError as error:
        raise StoreError(
            f"cannot write to {out}: {error.strerror or error}; name another folder with --out."
        ) from error
    return judged


def _note(manifest: Manifest, model: str | None) -> str:
    wanted = sorted({part.model for part in manifest.part if part.model} - {model})
    return f"run on {model}, not on {', '.join(wanted)}" if model and wanted else ""


def _json(manifest: Manifest, judged: Sequence[Judged], model: str | None) -> str:
    rows = json.loads(verdict_frame(judged).to_json(orient="records"))
    return json.dumps({"paper": manifest.name, "model": model, "values": rows}, indent=1) + "\n"


def _write_page(
    manifest: Manifest, judged: list[Judged], table: present.Table, results: Results | None, out: Path, note: str
) -> None:
    """The figures, and the page with all of them."""
    from .page import Section, page
    from .write import write_figures

    drawn = _figures(manifest, judged, results, note)
    pictures = write_figures(out / "figures", drawn)
    summary = [manifest.about, f"Of {len(judged)} values: {counted(judged)}."]
    summary += [f"Everything measured here was {note}."] if note else []
    open_questions = [item.value.name for item in judged if not item.explained]
    if open_questions:
        summary.append(f"Differing without a known reason: {', '.join(open_questions)}.")
    sections = [Section("summary", "Summary", tuple(summary))]
    if drawn:
        sections.append(Section("figures", "Figures", (), tuple(pictures.values())))
    sections.append(Section("verdicts", "Verdicts", (), (), (table,)))
    html = page(f"{manifest.title}, reproduced", [manifest.citation, counted(judged)], sections)
    (out / "reproduction.html").write_text(html, encoding="utf-8")


def _figures(manifest: Manifest, judged: list[Judged], results: Results | None, note: str) -> dict:
    """The paper's figures: its own points, reported beside reproduced, and what was measured here."""
    from .curves import curve_tables
    from .figures.beside import annotate, beside
    from .figures.faithfulness import faithfulness
    from .figures.published import published_roc
    from .figures.roc import roc
    from .gallery import Drawn

    drawn = {}
    if judged:
        caption = (
            "What the paper reports (open) and what came out here (filled); open alone: not run, the table says why."
        )
        drawn["beside"] = Drawn(
            beside(verdict_frame(judged), manifest.measure, note), "Reported and reproduced", caption
        )
    if curves := manifest.curves():
        caption = "The points that were released with the paper; steps bound the area that it prints."
        for level in ("edge", "node"):
            title = f"Published ROC points, {level}s"
            drawn[f"published_{level}s"] = Drawn(published_roc(curves, level), title, caption)
    if results is not None and len(results.recovery):
        means, _ = curve_tables(results.store, results.recovery)
        caption = "Measured here, against the certified circuit of each method's own ablation; means over tasks."
        drawn["roc"] = Drawn(roc(means), "ROC curves, measured here", caption)
    if results is not None and len(results.areas):
        caption = "Measured here: circuits found and evaluated under the same ablation, medians over tasks."
        drawn["faithfulness"] = Drawn(faithfulness(results.faithfulness), "Faithfulness, measured here", caption)
    for name in ("roc", "faithfulness"):
        if name in drawn:
            annotate(drawn[name].figure, note)
    return drawn
