"""How much two circuits of one graph have in common: their edges, and the order in which their scores put all edges."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import stats

from ..circuit import Circuit, EdgeScores, top_n

_FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(frozen=True)
class Overlap:
    """What a second circuit has in common with a first one.

    Args:
        first, second, common: numbers of edges of each, and of both.
        iou: common edges as a share of all that either has; None when neither has an edge.
        precision: common edges as a share of the second's; None when the second has no edges.
        recall: common edges as a share of the first's; None when the first has no edges.
    """

    first: int
    second: int
    common: int
    iou: float | None
    precision: float | None
    recall: float | None


def overlap(first: Circuit, second: Circuit) -> Overlap:
    """The edges that two circuits of one graph share."""
    common = int((first.edges & second.edges).sum())
    n, m = first.n_edges, second.n_edges
    return Overlap(n, m, common, _share(common, n + m - common), _share(common, m), _share(common, n))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class OverlapAtSize(Overlap):
    """The overlap of the circuits that two sets of scores make at one size, which is a ``fraction`` of all edges."""

    fraction: float


def by_size(first: EdgeScores, second: EdgeScores) -> list[OverlapAtSize]:
    """The overlap of the top edges (by absolute score) of two sets of scores, at each of FRACTIONS."""
    n_edges = first.graph.n_edges
    sizes = {round(fraction * n_edges): fraction for fraction in _FRACTIONS if round(fraction * n_edges) >= 1}
    return [
        OverlapAtSize(**vars(overlap(top_n(first, n), top_n(second, n))), fraction=fraction)
        for n, fraction in sizes.items()
    ]


def rank_correlation(first: EdgeScores, second: EdgeScores) -> dict[str, float | None]:
    """Spearman's rho and Kendall's tau-b of the absolute scores of all edges; None when one side's are all equal."""
    a, b = abs(first.flat()), abs(second.flat())
    if (a == a[0]).all() or (b == b[0]).all():
        return {"spearman": None, "kendall": None}
    return {"spearman": float(stats.spearmanr(a, b).statistic), "kendall": float(stats.kendalltau(a, b).statistic)}
