"""What a sensitivity card holds, as values that are read by attribute. ``card.json`` is a ``SensitivityCard``.

Scripts rely on the names of its fields. A number that is not known is NaN here and null in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema, model_validator

from ...errors import unknown
from ...intervention.levels import FACTORS
from ...json_model import File, Kept, plain

_FORMAT = 1


def _or_nan(value: Any) -> Any:
    return float("nan") if value is None else value


Real = Annotated[float, BeforeValidator(_or_nan), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]})]
NAN = float("nan")
ROUNDING = 1e-6
"""Values that are below 0 or above 1 by no more than this are rounding errors and count as neither."""


def _is_factor(name: str) -> str:
    if name not in FACTORS:
        raise ValueError(unknown("factor", name, FACTORS))
    return name


Factor = Annotated[str, AfterValidator(_is_factor)]


class Spread(Kept):
    """How one circuit's faithfulness is spread over settings, with levels of a choice weighing the same, as the
    decomposition of the variance needs it. The mean and the shares are by weight; ``SettingCounts`` has plain ones.

    negative: the share in which the circuit is worse than cutting everything, so that the verdict's sign flips.
    above_one: the share in which the circuit exceeds the full model.
    """

    worst: Real
    best: Real
    range: Real
    quartiles: tuple[Real, Real]
    iqr: Real
    mean: Real
    negative: Real
    above_one: Real


class Flips(Kept):
    """Whether the claim "the faithfulness is ``threshold`` at least" holds, over settings. Shares are by weight, as in
    ``Spread``; ``SettingCounts`` has the numbers of settings.

    entropy: the entropy of the share in which it holds, in bits: 0 when all settings agree, 1 when half of them say
    yes. surely, surely_not: the shares of settings whose interval lies above the threshold, and below it.
    """

    threshold: Real
    hold: Real
    entropy: Real
    surely: Real
    surely_not: Real


class FactorShare(Kept):
    """One choice's share of the variance over settings: first-order, total and Shapley, each with its 95 % interval.

    The shares are given when there is a variance to be shared.
    """

    factor: Factor
    levels: int
    first: Real = NAN
    first_low: Real = NAN
    first_high: Real = NAN
    total: Real = NAN
    total_low: Real = NAN
    total_high: Real = NAN
    shapley: Real = NAN
    shapley_low: Real = NAN
    shapley_high: Real = NAN

    @property
    def measured(self) -> bool:
        """Whether there is a variance to be shared."""
        return "shapley" in self.model_fields_set

    def interval(self, kind: str) -> tuple[float, float, float]:
        """(share, low, high) of ``first``, ``total`` or ``shapley``."""
        return getattr(self, kind), getattr(self, f"{kind}_low"), getattr(self, f"{kind}_high")


class Interaction(Kept):
    """The share of what several choices do together."""

    factors: tuple[Factor, ...]
    share: Real


class VarianceDecomposition(Kept):
    """The variance of faithfulness over settings, and the choices that it is due to.

    naive: the variance without the correction for noise. noise: the variance that the correction subtracts. complete:
    whether the settings are a complete factorial, in which case the shares are an exact functional ANOVA. interactions:
    None for settings that are not.
    """

    n_settings: int
    complete: bool
    levels: dict[Factor, tuple[str, ...]]
    naive: Real
    noise: Real
    variance: Real
    variance_low: Real
    variance_high: Real
    beyond_noise: bool
    factors: tuple[FactorShare, ...]
    interactions: tuple[Interaction, ...] | None


class SourceShares(Kept):
    """The sources of a single score's variance (``variance.VarianceSources``), and the sensitivity index."""

    method: Real
    template: Real
    prompt: Real
    residual: Real
    fsi: Real
    fsi_low: Real
    fsi_high: Real


class SettingValue(Kept):
    """A circuit's faithfulness in one setting, with 95 % intervals and its place among random circuits.

    nothing_cut: whether the circuit is the whole model in this setting.
    """

    setting: str
    levels: dict[Factor, str]
    value: Real
    low: Real
    high: Real
    simultaneous_low: Real = NAN
    simultaneous_high: Real = NAN
    percentile: Real = NAN
    percentile_low: Real = NAN
    percentile_high: Real = NAN
    random_5: Real = NAN
    random_50: Real = NAN
    random_95: Real = NAN
    nothing_cut: bool = False

    @property
    def interval(self) -> tuple[float, float, float]:
        """(value, low, high)."""
        return self.value, self.low, self.high

    @property
    def percentile_interval(self) -> tuple[float, float, float]:
        """(percentile among random circuits, low, high), 0 to 1; NaN without."""
        return self.percentile, self.percentile_low, self.percentile_high


class SettingCounts(Kept):
    """In how many of the settings something holds, each counted once, whatever it weighs.

    reached, surely, surely_not: settings whose value, lower end of the interval, and not even whose upper end, reaches
    the threshold. below_zero, above_one: settings whose value lies beyond by more than rounding. mean: of the values.
    """

    settings: int
    reached: int
    surely: int
    surely_not: int
    below_zero: int
    above_one: int
    mean: Real

    @classmethod
    def of(cls, values: Iterable[tuple[float, float, float]], threshold: float) -> SettingCounts:
        """The counts of settings with these values and 95 % intervals (value, low, high); NaN ends are no interval."""
        values = list(values)
        return cls(
            settings=len(values),
            reached=sum(value >= threshold for value, _, _ in values),
            surely=sum(low >= threshold for _, low, _ in values),
            surely_not=sum(high < threshold for _, _, high in values),
            below_zero=sum(value < -ROUNDING for value, _, _ in values),
            above_one=sum(value > 1 + ROUNDING for value, _, _ in values),
            mean=sum(value for value, _, _ in values) / len(values) if values else NAN,
        )


class VerdictRule(Kept):
    """The levels of at most two choices that tell best in which settings the threshold is reached (``rule.py``).

    faithful: the combinations of levels of ``factors`` under which the rule says that it is reached; under every other
    that it is not. inside, reached_inside: how many settings have such a combination, and how many of these reach the
    threshold; outside, reached_outside: the same of the others. predicted: of how many settings the rule is right.
    """

    factors: tuple[Factor, ...]
    faithful: tuple[tuple[str, ...], ...]
    inside: int
    reached_inside: int
    outside: int
    reached_outside: int
    predicted: int


class AgainstRandom(Kept):
    """The same analysis of the percentiles among ``n`` random circuits, which give each setting a scale of its own."""

    n: int
    spread: Spread
    above: Flips
    variance: VarianceDecomposition
    counts: SettingCounts | None = None


class Search(Kept):
    """How a circuit was found, as far as its file says: the method, what it cut and optimised, and on which prompts."""

    method: str
    ablation: str | None = None
    objective: str | None = None
    task: str | None = None
    split: str | None = None


class CircuitVerdict(Kept):
    """The verdict on one circuit. Only cards of circuit files, not those of stores, have the fields after ``rule``.

    counts: None in cards of older versions; ``counted`` has them in any case. rule: None where all settings agree.
    """

    name: str
    values: tuple[SettingValue, ...]
    spread: Spread
    flips: Flips
    variance: VarianceDecomposition
    variance_of_complete_part: VarianceDecomposition | None
    counts: SettingCounts | None = None
    rule: VerdictRule | None = None
    random: AgainstRandom | None = None
    nothing_cut: int = 0
    sources: SourceShares | None = None
    file: str | None = None
    edges: int | None = None
    search: Search | None = None

    @property
    def counted(self) -> SettingCounts:
        """In how many settings the threshold is reached, and so on."""
        return self.counts or SettingCounts.of((entry.interval for entry in self.values), self.flips.threshold)

    @property
    def counted_above_random(self) -> SettingCounts | None:
        """The same of the percentiles among random circuits, in the settings where there are any."""
        if self.random is None:
            return None
        percentiles = (entry.percentile_interval for entry in self.values if entry.percentile == entry.percentile)
        return self.random.counts or SettingCounts.of(percentiles, self.random.above.threshold)

    @property
    def exact(self) -> VarianceDecomposition:
        """The decomposition that is an exact functional ANOVA."""
        return self.variance_of_complete_part or self.variance


class Settings(Kept):
    """The grid: how many settings have a value, their levels, and what a level weighs among those of its factor."""

    n: int
    levels: dict[Factor, tuple[str, ...]]
    complete: bool = False
    weights: dict[str, dict[str, Real]] = {}
    level_weights: dict[str, dict[str, Real]] = {}

    @property
    def varying(self) -> list[str]:
        """The factors with more than one level that has a value."""
        return [factor for factor, levels in self.levels.items() if len(levels) > 1]


class UndefinedSettings(Kept):
    """The settings that have no value for one reason, and the reason."""

    reason: str
    n: int
    settings: tuple[str, ...]


class PairOfCircuits(Kept):
    """Two circuits: their difference in every setting, and in how many pairs of settings its sign reverses.

    first_better, second_better: shares of the settings, by weight, in which the 95 % interval excludes zero.
    """

    first: str
    second: str
    difference: tuple[Real, ...]
    low: tuple[Real, ...]
    high: tuple[Real, ...]
    first_better: Real
    second_better: Real
    setting_pairs: int
    reversals_raw: int
    reversals_significant: int
    reversals_simultaneous: int

    @property
    def counted_better(self) -> tuple[int, int]:
        """In how many settings the first circuit is better, beyond its 95 % interval, and the second."""
        return sum(low > 0 for low in self.low), sum(high < 0 for high in self.high)


class CircuitComparison(Kept):
    """Whether the settings agree about which of several circuits is better (``comparison.comparison``).

    best: the share of the settings, by weight, in which each is best; circuits that tie divide it.
    best_in: the number of settings in which each is best, alone or tied with others.
    """

    pairs: tuple[PairOfCircuits, ...]
    setting_pairs: int
    reversals_raw_rate: Real
    reversals_significant_rate: Real
    reversals_simultaneous_rate: Real
    kendall_w: Real
    kendall_tau: dict[str, dict[str, dict[str, Real]]]
    ranks: dict[str, tuple[Real, ...]]
    best: dict[str, Real]
    best_in: dict[str, int] = {}

    @property
    def counted_best(self) -> dict[str, int]:
        """``best_in``, in cards of older versions from the ranks."""
        first = [min(of_setting) for of_setting in zip(*self.ranks.values(), strict=True)]
        return self.best_in or {
            name: sum(rank == best for rank, best in zip(ranks, first, strict=True))
            for name, ranks in self.ranks.items()
        }


class Verdicts(Kept):
    """What a card says of circuits in a grid of settings. ``comparison`` is None for a single circuit."""

    settings: Settings
    circuits: tuple[CircuitVerdict, ...]
    comparison: CircuitComparison | None = None

    @model_validator(mode="after")
    def _every_value_has_the_grids_levels(self) -> Self:
        for value in (value for circuit in self.circuits for value in circuit.values):
            if missing := set(self.settings.levels) - set(value.levels):
                raise ValueError(f"{value.setting!r} does not say its {', '.join(sorted(missing))}")
        return self


class GridVerdicts(Verdicts):
    """The verdicts on circuits that were measured on prompts. ``resampled``: what the intervals are over."""

    prompts: int
    templates: int
    resampled: str
    undefined: tuple[UndefinedSettings, ...]


class SensitivityCard(GridVerdicts, File):
    """The content of ``card.json``: what was measured, on what, what came out, and a paragraph for a paper."""

    format: int = _FORMAT
    version: str
    task: str
    model: str
    model_hash: str
    split: str
    data_hash: str
    n_edges: int
    seed: int
    random: int
    pairings: int
    task_description: str = ""
    paragraph: str = ""

    model_config = {"protected_namespaces": ()}

    def as_json(self) -> dict[str, Any]:
        """The card as JSON, in which unknown numbers are null."""
        return plain(super().as_json())
