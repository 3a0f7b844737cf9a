"""Which levels decide whether a circuit is faithful, in words, and how many settings the rule tells right."""

import itertools

import pytest

from circuitmeter.reports.card.rule import rule_in_words
from circuitmeter.reports.card.words import in_short, left_out, main_choices
from circuitmeter.suite.scoring.sensitivity.card_model import (
    CircuitVerdict,
    FactorShare,
    Flips,
    SettingValue,
    Spread,
    VarianceDecomposition,
    Verdicts,
)
from circuitmeter.suite.scoring.sensitivity.rule import verdict_rule

SPREAD = Spread(worst=0, best=1, range=1, quartiles=(0, 1), iqr=1, mean=0.5, negative=0, above_one=0)
FLIPS = Flips(threshold=0.8, hold=0.5, entropy=1, surely=0.5, surely_not=0.5)
COMMON = {"naive": 1, "noise": 0, "variance": 1, "variance_low": 1, "variance_high": 1, "interactions": None}
ABLATIONS, OBJECTIVES = ("patch", "mean", "zero"), ("kl", "l2", "probability")


def verdict(faithful, rows=None, choices=("ablation", "objective"), **decomposition) -> CircuitVerdict:
    """A circuit that is faithful in the settings (tuples of levels) for which ``faithful`` says so."""
    values = []
    for row in rows or itertools.product(ABLATIONS, OBJECTIVES):
        value = 1.0 if faithful(*row) else 0.2
        levels = dict(zip(choices, row, strict=True))
        values.append(SettingValue(setting="/".join(row), levels=levels, value=value, low=value, high=value))
    levels = {name: tuple(dict.fromkeys(entry.levels[name] for entry in values)) for name in choices}
    common = COMMON | {"n_settings": len(values), "levels": levels} | decomposition
    variance = VarianceDecomposition(**{"complete": True, "beyond_noise": True, "factors": ()} | common)
    return CircuitVerdict(
        name="c", values=tuple(values), spread=SPREAD, flips=FLIPS, variance=variance, variance_of_complete_part=None,
        rule=verdict_rule(values, 0.8),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("faithful", "words"),
    [
        (lambda a, o: a == "patch", "Faithful in all 3 settings with ablation patch, and in none of the other 6"),
        (
            lambda a, o: a == "patch" and o != "kl",
            "Faithful in all 2 settings with ablation patch and objective l2 or probability, and in none of the other "
            "7",
        ),
        (
            lambda a, o: a == "patch" or o == "kl",
            "Unfaithful in all 4 settings with ablation mean or zero and objective l2 or probability, and faithful in "
            "all 5 others",
        ),
        (
            lambda a, o: (a == "patch") == (o == "kl"),
            "Faithful in all 5 settings with ablation patch and objective kl, or with ablation mean or zero and "
            "objective l2 or probability, and in none of the other 4",
        ),
    ],
)
def test_the_levels_are_named_in_as_few_terms_as_tell_them(faithful, words):
    assert rule_in_words(verdict(faithful)) == words


def test_a_rule_that_is_not_always_right_says_how_often():
    rows = [(*row, seed) for row in itertools.product(ABLATIONS, OBJECTIVES) for seed in ("own", "sum", "token")]
    exceptions = {("patch", "kl", "own"), ("zero", "l2", "sum")}

    def faithful(*row):
        return (row[0] == "patch") != (row in exceptions)

    words = rule_in_words(verdict(faithful, rows, ("ablation", "objective", "embedding")))
    assert words == (
        "Faithful in 8 of the 9 settings with ablation patch, and in 1 of the other 18; this tells 25 of the 27 "
        "settings right"
    )


def test_no_rule_is_better_than_the_same_answer_everywhere():
    rows = list(itertools.product("ab", "ab", "ab"))
    parity = verdict(lambda *row: row.count("a") % 2 == 0, rows, ("ablation", "objective", "embedding"))
    assert rule_in_words(parity).startswith("No levels of one or two choices tell")


INCOMPLETE = [("patch", "noising"), ("patch", "denoising"), ("mean", "noising"), ("zero", "noising")]


def test_a_level_that_exists_under_one_ablation_alone_is_told_and_what_the_decomposition_lacks():
    rows = [(*row, objective) for row in INCOMPLETE for objective in OBJECTIVES]
    found = verdict(lambda a, d, o: d == "denoising", rows, ("ablation", "direction", "objective"))
    assert rule_in_words(found) == (
        "Faithful in all 3 settings with direction denoising, and in none of the other 9; direction denoising has a "
        "meaning under ablation patch alone"
    )
    part = found.variance.levels | {"direction": ("noising",), "objective": ("kl", "l2")}
    complete = found.variance.model_copy(update={"levels": part, "n_settings": 6})
    found = found.model_copy(update={"variance_of_complete_part": complete})
    assert left_out(found) == "the 3 with direction denoising and 3 more with objective probability"


def share(factor: str, shapley: float, low: float, high: float) -> FactorShare:
    return FactorShare(factor=factor, levels=2, shapley=shapley, shapley_low=low, shapley_high=high)


def test_a_lead_within_the_intervals_is_no_lead():
    close = share("objective", 0.43, 0.34, 0.48), share("ablation", 0.38, 0.34, 0.45), share("set", 0.1, 0.0, 0.2)
    assert [part.factor for part in main_choices(close, "shapley")] == ["objective", "ablation"]
    far = share("ablation", 0.2, 0.15, 0.25), share("objective", 0.6, 0.5, 0.7)
    assert [part.factor for part in main_choices(far, "shapley")] == ["objective"]
    for parts, words in (
        (close, "by the choice of objective about as much as by that of ablation"),
        (far, "mostly by the choice of objective"),
    ):
        card = Verdicts(
            settings={"n": 9, "levels": {"ablation": ABLATIONS, "objective": OBJECTIVES}},
            circuits=(verdict(lambda a, o: a == "patch", factors=parts),),
        )
        (line,) = in_short(card)
        assert line == (
            f"faithful (0.80 or more) in 3 of the 9 settings; from 0.20 to 1.00, {words}. Faithful in all 3 settings "
            "with ablation patch, and in none of the other 6."
        )
