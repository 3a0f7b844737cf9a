"""Names beside the points that they name, at places that are free, because nobody reads a legend of 25 entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

SIZE = 6.0
"""Letters, points."""

_LONG = 16
"""Letters from which a name is written in several lines, its settings below it."""

_PLACES = [(1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1), (1, -2), (-1, -2), (0, -2)]
_PLACES += [(1, 2), (-1, 2), (1, -3), (-1, -3), (0, -3), (1, -4), (-1, -4)]

_FAR = 5.0
"""What each row of distance from the point counts for, beyond the first: as much as covering so many square points."""


class Point(NamedTuple):
    """A point in fractions of the panel, what it is called, and the ends of its interval where it has one."""

    x: float
    y: float
    text: str
    color: str
    bold: bool = False
    ends: tuple[float, float] | None = None


def name_points(ax: Axes, points: Sequence[Point], size: tuple[float, float]) -> None:
    """Writes each name at the place beside its point where it covers least: no point and no other name, where such a
    place is free, and of intervals as little as can be.

    Args:
        size: width and height of the panel in points of print.
    """
    width, height = size
    taken = [(p.x * width - 4, p.y * height - 4, p.x * width + 4, p.y * height + 4) for p in points]
    taken += [(p.x * width - 1, p.ends[0] * height, p.x * width + 1, p.ends[1] * height) for p in points if p.ends]
    for point in points:
        if not point.text:
            continue
        text = point.text.replace(" (", "\n(", 1).replace(", ", ",\n") if len(point.text) > _LONG else point.text
        lines = text.splitlines()
        wide, tall = 0.56 * SIZE * max(map(len, lines)), 1.15 * SIZE * len(lines)
        x, y = point.x * width, point.y * height
        boxes = []
        for side, row in _PLACES:
            left = x + 5 if side > 0 else x - 5 - wide if side < 0 else x - wide / 2
            bottom = y - tall / 2 + row * (tall + 1.5)
            boxes.append((left, bottom, left + wide, bottom + tall))
        far = [_FAR * max(0, abs(row) - 1) for _, row in _PLACES]
        best = min(range(len(boxes)), key=lambda i: (_cost(boxes[i], taken, size) + far[i], i))
        box = boxes[best]
        taken.append(box)
        moved = abs(_PLACES[best][1]) > 1
        line = {"arrowstyle": "-", "lw": 0.4, "color": "#888888", "shrinkA": 0, "shrinkB": 2} if moved else None
        if line and len(lines) > 1:  # the line ends at letters: the first and the last row have not the same length
            below = _PLACES[best][1] < 0
            nearest = lines[0] if below else lines[-1]
            line["relpos"] = (0.28 * SIZE * len(nearest) / wide, 1.0 if below else 0.0)
        ax.annotate(
            text,
            (point.x, point.y),
            xycoords="axes fraction",
            xytext=((box[0] - x), (box[1] + box[3]) / 2 - y),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=SIZE,
            fontweight="bold" if point.bold else "normal",
            color=point.color,
            arrowprops=line,
            bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.6},
            zorder=7,
        )


def _cost(box: tuple[float, ...], taken: Sequence[tuple[float, ...]], size: tuple[float, float]) -> float:
    """The area, in square points, that a name there would cover or have outside the panel."""
    covered = sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        * max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        for other in taken
    )
    outside = max(0.0, -box[0]) + max(0.0, box[2] - size[0]) + max(0.0, -box[1]) + max(0.0, box[3] - size[1])
    return covered + 20 * outside
