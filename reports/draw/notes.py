"""What must not be overlooked in a figure, such as another model than the paper's."""

from __future__ import annotations

from matplotlib.figure import Figure


def annotate(figure: Figure, note: str) -> None:
    """Writes a note at the top of a figure, where nobody overlooks it."""
    if note:
        figure.suptitle(note, fontsize=7.5, color="#B00020", x=0.99, ha="right")
