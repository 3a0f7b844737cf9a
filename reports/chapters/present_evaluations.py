"""Tables of evaluations as people read them: faithfulness, areas over circuit size, sensitivity."""

from __future__ import annotations

import pandas as pd

from ..read.labels import ordered_ablations
from .present import DASH, Cell, Table, amount, number_cell, share, text_cell, with_interval


def evaluations(table: pd.DataFrame) -> Table:
    """How faithful circuits found under one ablation are under each, at every size."""
    over = ordered_ablations(table["evaluation_ablation"])
    rows, places = [], ["label", "ablation", "size"]
    for (label, ablation, size), group in table.groupby(places, sort=False):
        found = {row["evaluation_ablation"]: row for row in group.to_dict("records")}
        part = group["share"].iloc[0]
        cells = [text_cell(label), text_cell(ablation)]
        cells.append(Cell(size if pd.isna(part) else f"{100 * part:g} %", 0.0 if pd.isna(part) else part))
        tasks = group.loc[group["n_programs"] > 0, "n_programs"]
        for name in over:
            row = found.get(name)
            value = float("nan") if row is None else row["faithfulness"]
            ends = () if row is None else (row["faithfulness_low"], row["faithfulness_high"])
            text = "not run" if row is None else _state(row["state"]) or with_interval(value, *ends)
            cells.append(number_cell(text, value, name == ablation and not pd.isna(value)))
        rows.append((*cells, _counted(tasks)))
    return Table(
        "faithfulness",
        "Faithfulness under every evaluation ablation",
        "Median over tasks [95 % bootstrap interval] of (circuit - everything cut) / (model - everything cut): 1 is "
        "the model, 0 nothing. Size: as many edges as the truth of the discovery ablation has, or a share of them all. "
        "Bold: found and evaluated under the same ablation. Tasks: how many have a number, from the ablation with the "
        "fewest to the one with the most.",
        ("Method", "Discovered under", "Size", *[f"evaluated: {name}" for name in over], "Tasks"),
        (False, False, True, *[True] * len(over), True),
        tuple(rows),
    )


def _counted(tasks: pd.Series) -> Cell:
    """How many tasks medians are of: ``3``, or ``2 to 3`` where they differ."""
    if tasks.empty:
        return Cell("0", 0.0)
    low, high = int(tasks.min()), int(tasks.max())
    return Cell(str(high) if low == high else f"{low} to {high}", float(high))


def _state(state: str) -> str | None:
    return {"undefined": "no meaning", "no number": "no number"}.get(state)


def areas(table: pd.DataFrame) -> Table:
    """Areas under faithfulness over circuit size."""
    measured = {"cpr": "CPR", "cmd": "CMD", "cpr_log": "CPR, log size", "cmd_log": "CMD, log size"}
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found[name]) for name in ("label", "ablation", "evaluation_ablation")]
        for name in measured:
            ends = [found[f"{name}{end}"] for end in ("", "_low", "_high")]
            cells.append(number_cell(with_interval(*ends), found[name]))
        rows.append((*cells, number_cell(amount(found["n_programs"]), found["n_programs"])))
    sizes = " / ".join(dict.fromkeys(table["sizes"]))
    return Table(
        "areas",
        "Areas over circuit size",
        "CPR: area under faithfulness, more is better. CMD: area between faithfulness and 1, less is better. By the "
        f"trapezoid rule over the shares of the edges {sizes}, linearly (as MIB) and over log size; median over "
        "tasks [95 % bootstrap interval].",
        ("Method", "Discovered under", "Evaluated under", *measured.values(), "Tasks"),
        (False, False, False, *[True] * (len(measured) + 1)),
        tuple(rows),
    )


def sensitivity(table: pd.DataFrame, threshold: float) -> Table:
    """How much each method's verdict depends on the evaluation."""
    rows = []
    for found in table.to_dict("records"):
        cells = [text_cell(found["label"]), text_cell(found["ablation"])]
        for name in ("worst", "best", "range"):
            text = with_interval(*(found[f"{name}{end}"] for end in ("", "_low", "_high")))
            setting = f" ({found[f'{name}_setting']})" if name != "range" else ""
            cells.append(number_cell(text + setting, found[name]))
        cells += [number_cell(share(found[name]), found[name]) for name in ("hold", "surely", "surely_not")]
        main = "" if pd.isna(found["share"]) else f"{found['factor']} {share(found['share'])} "
        main += f"[{share(found['share_low'])}, {share(found['share_high'])}]" if main else DASH
        cells += [number_cell(main, found["share"])]
        cells += [number_cell(str(found[name]), found[name]) for name in ("n_settings", "n_programs")]
        rows.append(tuple(cells))
    return Table(
        "sensitivity",
        "How much the verdict depends on the evaluation",
        "Median faithfulness over programs [95 % bootstrap interval] in the setting that speaks most against the "
        f"circuits and in the one that speaks most for them; in what share of the settings it is {threshold:g} or "
        "more, surely is (the whole interval), surely is not. Main choice: the one that explains most of the variance "
        "between settings (Shapley share), where they differ by more than noise.",
        (
            "Method",
            "Discovered under",
            "Worst",
            "Best",
            "Range",
            f"At least {threshold:g}",
            "Surely",
            "Surely not",
            "Main choice",
            "Settings",
            "Programs",
        ),
        (False, False, *[True] * 9),
        tuple(rows),
    )
