"""Circuits' faithfulness in one setting: the value, that of every resample, and each prompt's part in the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.stats import mstats

from ...intervention.faithfulness import FAITHFULNESS_ROUNDING, CircuitValues
from ...intervention.setting import Aggregation, Setting

_UNREACHED = 0.001


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of circuits and of the full model less that of the reference, on every prompt and in every run.

    Args:
        gained: float [C, N, S]: C circuits, N prompts, S runs (pairing seeds of a random ablation; else 1).
        whole: float [N, S], the full model's.
        aggregation: how the scores of a circuit become one number.
        knocked_out: whether the circuit itself was cut. Then 1 - faithfulness is reported, so that 1 speaks for the
            circuit in every setting.
    """

    gained: np.ndarray
    whole: np.ndarray
    aggregation: Aggregation
    knocked_out: bool = False

    @classmethod
    def of(cls, runs: Sequence[CircuitValues], setting: Setting) -> Scores:
        """The scores of ``setting`` from the measurements with each pairing seed."""
        gained, whole = [], []
        for run in runs:
            nothing = run.reference(setting.reference)
            gained.append((run.circuits - nothing).numpy())
            whole.append((run.full - nothing).numpy())
        return cls(
            np.stack(gained, -1), np.stack(whole, -1), setting.aggregation, knocked_out=setting.cut.set == "circuit"
        )

    def first(self, n: int) -> Scores:
        """The scores of the first ``n`` circuits only."""
        return replace(self, gained=self.gained[:n])

    @property
    def n_runs(self) -> int:
        return self.whole.shape[1]

    def ratios(self) -> tuple[np.ndarray, np.ndarray]:
        """(each circuit's ratio [C, N, S], 0 where it is undefined; whether it is defined [N, S])."""
        known = np.abs(self.whole) > FAITHFULNESS_ROUNDING * np.abs(self.whole).max(initial=0.0)
        return self.gained / np.where(known, self.whole, np.inf), known

    def values(self, counts: np.ndarray | None = None) -> np.ndarray:
        """Faithfulness of each circuit in each resample: [B, C].

        Args:
            counts: [B, N, S], how often each prompt's run is in a resample; one resample of all when omitted.
        Returns NaN when the full model differs from the reference on no prompt.
        """
        counts = np.ones((1, *self.whole.shape)) if counts is None else counts
        flat = counts.reshape(len(counts), self.whole.size).astype(np.float64)
        found = self._aggregated(flat)
        return 1 - found if self.knocked_out else found

    def _aggregated(self, counts: np.ndarray) -> np.ndarray:
        n_circuits = len(self.gained)
        if self.aggregation == "ratio-of-means":
            total = counts @ self.whole.reshape(-1)
            gained = counts @ self.gained.reshape(n_circuits, -1).T
            return gained / np.where(total == 0, np.nan, total)[:, None]
        ratios, known = self.ratios()
        ratios, counts = ratios.reshape(n_circuits, -1), counts * known.reshape(-1)
        if self.aggregation == "mean-of-ratios":
            n = counts.sum(1, keepdims=True)
            return counts @ ratios.T / np.where(n == 0, np.nan, n)
        return np.stack([weighted_medians(row, counts) for row in ratios], axis=1)

    def influence(self) -> np.ndarray:
        """Each prompt's part in the error of each circuit's value, [N, C]: the value's error is their mean.

        For the median of ratios the direction is the sign of a prompt's deviation, and the size such that the standard
        error is that of Maritz and Jarrett (1978), which needs no guess of the density at the median.
        """
        value = self._aggregated(np.ones((1, self.whole.size)))[0]
        if self.aggregation == "ratio-of-means":
            mean = self.whole.mean()
            found = (self.gained - value[:, None, None] * self.whole) / (np.nan if mean == 0 else mean)
        else:
            ratios, known = self.ratios()
            deviation = np.where(known, ratios - value[:, None, None], 0.0)
            if self.aggregation == "mean-of-ratios":
                found = deviation / max(known.mean(), 1 / known.size)
            else:
                found = self._median_influence(deviation, ratios, known)
        found = found.mean(-1).T
        return -found if self.knocked_out else found

    def _median_influence(self, deviation: np.ndarray, ratios: np.ndarray, known: np.ndarray) -> np.ndarray:
        signs = np.sign(np.where(np.abs(deviation) > FAITHFULNESS_ROUNDING, deviation, 0.0))
        found = np.zeros_like(signs)
        n = len(self.whole)
        for c, row in enumerate(signs):
            size = np.sqrt((row.mean(-1) ** 2).sum()) / n
            if size > 0 and known.sum() > 2:
                with np.errstate(invalid="ignore"):  # rounding makes the variance of nearly equal ratios negative
                    error = mstats.mjci(_near_the_median(ratios[c][known]), prob=[0.5])[0]
                found[c] = row * float(np.nan_to_num(error)) / size
        return found


def _near_the_median(values: np.ndarray) -> np.ndarray:
    """The values [N], those beyond the order statistics that a resample's median reaches in 99.8 % moved to these.

    The estimate of Maritz and Jarrett weighs all order statistics, the outermost by next to nothing. But the ratio of a
    prompt on which the full model hardly differs from the reference has no bound, and its square would be the estimate.
    """
    n, ordered = len(values), np.sort(values)
    middle = int(n * 0.5 + 0.5)
    low, high = stats.beta.ppf([_UNREACHED, 1 - _UNREACHED], middle, n - middle + 1)
    return np.clip(values, ordered[int(n * low)], ordered[min(int(n * high), n - 1)])


def weighted_medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of ``values`` [N] repeated as often as each row of ``counts`` [B, N] says: [B]; NaN of nothing."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[:, order], axis=1)
    n = reached[:, -1:]
    below = np.minimum((reached < (n + 1) // 2).sum(1), len(values) - 1)
    above = np.minimum((reached < n // 2 + 1).sum(1), len(values) - 1)
    return np.where(n[:, 0] > 0, (values[order][below] + values[order][above]) / 2, np.nan)
