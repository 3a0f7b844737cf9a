"""Logarithmic axes with plain numbers. A zero, which has no logarithm, is drawn apart, behind a break of the axis."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator


class LogScale:
    """Where numbers stand on a logarithmic axis.

    Args:
        values: all values that are drawn. Zeros are placed at ``zero``, left of the smallest; negative values have no
            place.
    """

    def __init__(self, values: pd.Series) -> None:
        positive = values[values > 0]
        self.low, self.high = (float(positive.min()), float(positive.max())) if len(positive) else (1.0, 1.0)
        decades = max(math.log10(self.high / self.low), 0.5)
        self.zero = self.low / 10 ** (0.22 * decades) if (values == 0).any() else None

    def place(self, values: pd.Series) -> pd.Series:
        """Numbers -> positions on the axis; NaN for negative ones."""
        placed = values.astype(float).where(values > 0)
        return placed if self.zero is None else placed.where(values != 0, self.zero)

    def apply(self, ax: Axes, name: str, most: int = 5) -> None:
        """Makes the axis ``x`` or ``y`` logarithmic, with its ticks, and the zero behind a break."""
        axis = ax.xaxis if name == "x" else ax.yaxis
        (ax.set_xscale if name == "x" else ax.set_yscale)("log")
        narrow = self.high / self.low < 200  # powers of ten alone could leave an axis without two numbers
        ticks = LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=most + 1).tick_values(self.low, self.high)
        ticks = [tick for tick in ticks if 0.99 * self.low <= tick <= 1.01 * self.high] or [self.low]
        ticks = ticks[:: math.ceil(len(ticks) / most)]
        if self.zero is not None:
            ticks = [self.zero, *(tick for tick in ticks if tick > self.zero * 2)]
            self._break(ax, name, self.zero)
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == self.zero else short_tick(value)))
        axis.set_minor_locator(NullLocator())

    def _break(self, ax: Axes, name: str, zero: float) -> None:
        """Two strokes on the axis between the zero and the smallest number."""
        middle = math.sqrt(zero * self.low)
        stroke = {"color": "#444444", "lw": 0.6, "clip_on": False, "zorder": 6}
        marker = {"marker": (2, 0, -20 if name == "x" else 70), "ms": 5, "ls": ""}
        transform = ax.get_xaxis_transform() if name == "x" else ax.get_yaxis_transform()
        for factor in (0.96, 1.04):
            at = (middle * factor, 0) if name == "x" else (0, middle * factor)
            ax.plot(*([part] for part in at), transform=transform, **marker, **stroke)


def short_tick(value: float) -> str:
    """1000 as 1k: short, and no formula in it."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return np.format_float_positional(value, trim="-", precision=6)
