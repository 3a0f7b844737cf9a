"""Circuits to look at: what a method's best edges have in common with the true circuit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ..page.viewer import ViewerData, circuits_of
from ..read.results import Results
from .chapter import Chapter, chapter


@chapter
class CircuitsChapter(Chapter):
    """The viewer, with every method's circuit on every task and ablation that the page has room for."""

    name, title, order = "circuits", "Circuits", 60

    def words(self, results: Results) -> Sequence[str]:
        found = _shown(results)
        if not found.shown:
            return ()
        text: tuple[str, ...] = (
            "What a method's best edges have in common with the true circuit of its ablation. The slider says how many "
            "edges; it starts at the true size. Point at an edge or a node, or reach it with the Tab key, to see names "
            "and scores; choose a node to see what is upstream and downstream of it. Layers from bottom to top; q, k "
            "and v enter a head at its left, middle and right.",
        )
        if found.shown < found.of:
            text += (f"The first {found.shown} of {found.of} pairs of task and ablation: more would slow the page.",)
        return text

    def viewer(self, results: Results) -> str:
        found = _shown(results)
        return found.json if found.shown else ""


@lru_cache(maxsize=1)
def _shown(results: Results) -> ViewerData:
    return circuits_of(results.store, results.recovery)
