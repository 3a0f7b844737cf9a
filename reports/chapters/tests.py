"""Which methods differ from which, beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..page.table import Table, count, listed, number, number_cell, number_of_any_size, p_value, text_cell
from ..read.labels import ordered_ablations
from ..read.ranking import Reachable, reachable
from ..read.results import Results
from .chapter import Chapter, chapter

_ALPHA = 0.05
MOST_TESTS = 30
"""Rows of paired tests under an ablation: of 25 methods there are 300 pairs, and nobody reads them all."""


@chapter
class TestsChapter(Chapter):
    """Paired tests over programs, of those pairs that differ."""

    name, title, order = "tests", "Tests", 70

    def tables(self, results: Results) -> Sequence[Table]:
        return (comparisons(results.pairwise),)

    def words(self, results: Results) -> Sequence[str]:
        table = results.pairwise
        if table.empty:
            return ()
        differ = set(table.loc[table["p_holm"] < _ALPHA, "ablation"])
        none = [name for name in ordered_ablations(table["ablation"]) if name not in differ]
        if not none:
            return ()
        reached = {name: reachable(table[table["ablation"] == name]) for name in none}
        could = [name for name in none if reached[name].enough]
        texts = [
            _none_could([name for name in none if reached[name] == found], found)
            for found in dict.fromkeys(reached[name] for name in none if name not in could)
        ]
        for name in could:
            texts.append(
                f"Under {name} ablation no two methods differ at p < {_ALPHA} in a paired test over programs "
                f"(Wilcoxon, Holm-corrected): {count(reached[name].pairs)} pairs, all in comparisons.csv. The smallest "
                f"p that so many programs can reach is {number_of_any_size(reached[name].smallest)} before correction."
            )
        if len(could) < len(none) and results.own_standings:
            texts.append("The tests of your method are against few rivals, and stand in the chapter on it.")
        return texts

    def data(self, results: Results) -> Mapping[str, pd.DataFrame]:
        return {"comparisons": results.pairwise}


def _none_could(ablations: list[str], found: Reachable) -> str:
    under = f"Under {listed(ablations)} ablation"
    if not found.pairs:
        return f"{under} no two methods have different areas on any program."
    differ = "program that differs" if found.different == 1 else "programs that differ"
    asked = number_of_any_size(_ALPHA / found.pairs)
    return (
        f"{under} paired tests of all methods (Wilcoxon, Holm-corrected) can tell nothing: the smallest p that "
        f"{found.different} {differ} can reach is {number_of_any_size(found.smallest)}, and the correction for "
        f"{count(found.pairs)} pairs asks for one below {asked}. All are in comparisons.csv."
    )


def comparisons(table: pd.DataFrame) -> Table:
    """The pairs of methods that differ: under each ablation the surest, up to ``MOST_TESTS``."""
    differ = table[table["p_holm"] < _ALPHA].sort_values(["p_holm", "p_value"], kind="stable")
    surest = differ.groupby("ablation", sort=False).head(MOST_TESTS)
    place = {ablation: i for i, ablation in enumerate(ordered_ablations(table["ablation"]))}
    kept = surest.sort_values("ablation", kind="stable", key=lambda column: column.map(place))
    rows = []
    for found in kept.to_dict("records"):
        difference = number(found["median_difference"], 3, sign=True)
        rows.append(
            (
                *(text_cell(found[name]) for name in ("ablation", "first", "second")),
                number_cell(f"{found['n_different']} of {found['n']}", found["n_different"]),
                number_cell(difference, found["median_difference"]),
                number_cell(number(found["a12"]), found["a12"]),
                *(number_cell(p_value(found[name]), found[name]) for name in ("p_holm", "p_value")),
            )
        )
    return Table(
        "comparisons",
        "Methods that differ",
        "Wilcoxon signed-rank test of the areas, program by program; p (Holm) is corrected for all pairs under an "
        f"ablation, and below {_ALPHA}. A12 above one half: the first is better. The other {len(table) - len(kept):,} "
        "pairs are in comparisons.csv.",
        ("Ablation", "First", "Second", "Programs that differ", "Median difference", "A12", "p (Holm)", "p"),
        (False, False, False, *[True] * 5),
        tuple(rows),
    )
