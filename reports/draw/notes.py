"""What a figure says of itself: another model than the paper's, and panels in which nothing of ours is."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LACKING_ROOM = 0.16
"""Inches that the line below a panel takes which says that nothing of ours is in it."""


def annotate(figure: Figure, note: str) -> None:
    """Writes a note at the top of a figure."""
    if note:
        figure.suptitle(note, fontsize=7.5, color="#B00020", x=0.99, ha="right")


def say_lacking(axes: Sequence[Axes], ours: Sequence[bool], lacking: str) -> None:
    """Writes ``lacking`` below the panels without ours, or once at the top where no panel has any.

    Args:
        ours: of each panel, whether it has anything of ours.
    """
    if not lacking or not len(axes):
        return
    if not any(ours):
        axes[0].figure.suptitle(lacking, fontsize=7.5, color="#555555", x=0.99, ha="right")
        return
    for ax, has in zip(axes, ours, strict=True):
        if not has:
            ax.set_xlabel("\n".join(filter(None, (lacking, ax.get_xlabel()))))
