"""A note in a figure, such as that another model than the paper's was measured."""

from __future__ import annotations

from matplotlib.figure import Figure


def annotate(figure: Figure, note: str) -> None:
    """Writes a note at the top of a figure."""
    if note:
        figure.suptitle(note, fontsize=7.5, color="#B00020", x=0.99, ha="right")
