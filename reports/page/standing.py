"""What is said of a user's method, in the words that the terminal and the report share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...suite.scoring.clustered import ClusteredTest, clusters_needed
from ..read.labels import ORACLE, is_own, ordered_objectives
from ..read.standing import RivalComparison, Standing
from .table import MISSING, count, is_missing, listed, number_of_any_size, with_interval

_ALPHA = 0.05
_NEEDED = clusters_needed(_ALPHA)

EXPLAINED = (
    "Tests pair runs on one task (of one seed, where both have seeds) and flip the signs of whole programs. The rivals "
    f"were named beforehand and are tested in that order; a later p is never below an earlier one, and below {_ALPHA} "
    f"counts. No p is below {_ALPHA} unless {_NEEDED} programs differ. Where an interval leaves out 0 and p does not "
    "count, p decides: intervals over so few programs are too narrow. Where an interval holds 0 and p counts, p "
    "decides, too: how runs of one program differ widens the interval, and p is of the programs' means alone. Against "
    "random, runs that score all edges alike are ties."
)


def words_of_test(found: RivalComparison) -> str:
    """What a test says: which is better, that it cannot be told, or that it was not tested; and why."""
    test, p = found.test, found.p
    if p < _ALPHA:
        return "better" if test.mean_difference > 0 else "worse"
    if not test.n_clusters:
        return "cannot be told: no program in common"
    if test.n_different and test.smallest_p >= _ALPHA:
        differ = "program differs" if test.n_different == 1 else "programs differ"
        return f"cannot be told: {test.n_different} {differ}, and p < {_ALPHA} takes {_NEEDED}"
    if is_held_back(found):
        return f"not tested, because the test against {_stopped(found)}"
    return "no difference found"


def is_held_back(found: RivalComparison) -> bool:
    """Whether a test does not count although its own p would: one before it did not."""
    return found.held_back_by is not None and found.test.p_value < _ALPHA and not found.p < _ALPHA


def p_text(found: RivalComparison) -> str:
    """The corrected p; no number where there was no test to have one."""
    return MISSING if is_held_back(found) else number_of_any_size(found.p)


def _stopped(found: RivalComparison) -> str:
    """Which earlier test did not count, and what it said: ``random found no difference``."""
    first = found.held_back_by
    assert first is not None
    if not first.test.n_clusters:
        return f"{first.other} had no program in common"
    told = words_of_test(first)
    return f"{first.other} {'could not tell' if told.startswith('cannot') else 'found no difference'}"


def difference_text(test: ClusteredTest) -> str:
    """The mean difference with its interval."""
    return with_interval(test.mean_difference, test.low, test.high, 3, sign=True)


def comparison_text(found: RivalComparison) -> str:
    """A comparison as a line: the difference, over what, p, and what that says."""
    test, what = found.test, words_of_test(found)
    if not test.n_clusters:
        return f"against {found.other}: {what}"
    over = f"{_programs(test.n_clusters)}, {count(test.n_pairs)} pair{'s' * (test.n_pairs != 1)}"
    p = "" if is_held_back(found) else f", p = {p_text(found)}"
    return f"against {found.other}: mean difference {difference_text(test)} ({over}){p}: {what}"


def setting_text(found: Standing) -> str:
    """``patch, l2``; the ablation alone for a method that uses no objective."""
    return f"{found.ablation}, {found.objective}" if found.objective else found.ablation


def place_text(found: Standing) -> str:
    """``rank 4 of 15``, or why it has no rank."""
    if found.rank is not None:
        return f"rank {found.rank} of {found.of}"
    row = found.row
    if row is None:
        return f"undefined: {found.undefined.removesuffix('.')}" if found.undefined else "no scores"
    return f"ran on {row['n_programs']} of {found.programs} programs, so it is shown and not ranked"


def uncounted_text(found: Standing) -> str:
    """Which methods are shown and not counted in the rank, and why; empty where all are counted.

    Other methods of the user's never count, and are not named.
    """
    fewer = [label for label in found.uncounted if label != ORACLE and not is_own(label)]
    given = f"{ORACLE} (is given the answer)" if ORACLE in found.uncounted else ""
    ran = f"{listed(fewer)} (fewer programs)" if fewer else ""
    return "; ".join(filter(None, (given, ran)))


def area_text(found: Standing) -> str:
    """The median area with its interval, and over how many programs; empty without scores."""
    row = found.row
    if row is None or is_missing(row["auroc"]):
        return ""
    area = with_interval(row["auroc"], row["auroc_low"], row["auroc_high"])
    return f"AUC {area} over {_programs(int(row['n_programs']))}"


def verdicts_on_own(standings: Sequence[Standing]) -> list[str]:
    """A sentence for each label and ablation: its rank, area and comparisons with each objective; before them one on
    scores that are all 0, where a label has any."""
    texts = []
    for name in dict.fromkeys(map(_name, standings)):
        of_label = [found for found in standings if _name(found) == name]
        texts += [f"{name}: {text}" for text in [empty_text(of_label)] if text]
        for ablation in dict.fromkeys(found.ablation for found in of_label):
            here = [found for found in of_label if found.ablation == ablation]
            here.sort(key=lambda found: -found.programs)
            ranked = [f"{found.rank} of {found.of}{_details(found)}" for found in here if found.rank is not None]
            unranked = [f"{_with(found)}{place_text(found)}" for found in here if found.rank is None]
            said = [f"ranks {listed(ranked)}"] if ranked else []
            said += [f"has no rank ({'; '.join(unranked)})"] if unranked else []
            texts.append(f"Under {ablation} ablation {name} {' and '.join(said)}.")
    return texts


def empty_text(standings: Sequence[Standing]) -> str:
    """On how many cells every score is 0 or rounding, in which settings, and why; nothing where there is none."""
    empty = sum(found.empty for found in standings)
    if not empty:
        return ""
    where = listed([setting_text(found).replace(", ", "/") for found in standings if found.empty])
    cells = sum(found.cells for found in standings)
    rounding = sum(found.rounding for found in standings)
    small = ", or below a millionth of what its largest scores usually are and so no more than rounding,"
    what = f"0{small if rounding else ''}"
    text = f"every score is {what} on {count(empty)} of {count(cells)} cell{'s' * (cells != 1)} ({where})."
    flat = _flat_at_clean({found.objective for found in standings if found.empty and found.objective})
    if not flat:
        return text
    return (
        f"{text} The gradient of {listed(flat)} is zero on every edge at the clean run, but for rounding: a method "
        "that takes it there finds nothing, and one that takes it elsewhere, as eap-ig does, may."
    )


def _flat_at_clean(objectives: Collection[str]) -> list[str]:
    """Those of the objectives that are distances from the clean run's outputs."""
    from ...suite.intervention.objective import OBJECTIVES  # imports torch, which reports do without otherwise

    return [name for name in ordered_objectives(objectives) if name in OBJECTIVES and OBJECTIVES.get(name).divergence]


def _name(found: Standing) -> str:
    return found.label or found.method


def _with(found: Standing) -> str:
    return f"{found.objective}: " if found.objective else ""


def _details(found: Standing) -> str:
    """What stands in brackets behind a rank."""
    compared = map(_briefly, found.comparisons) if found.programs > 1 else ["too few to tell"]
    parts = [area_text(found), *compared]
    return f" ({_with(found)}{'; '.join(filter(None, parts))})"


def _briefly(found: RivalComparison) -> str:
    p = f", p = {p_text(found)}" if found.test.n_clusters else ""
    what = words_of_test(found)
    if is_held_back(found):
        return what.replace("not tested", f"not tested against {found.other}", 1)
    if what in ("better", "worse"):
        return f"{what} than {found.other}{p}"
    if what.startswith("cannot"):
        return f"cannot be told from {found.other}{p}"
    return f"no difference from {found.other} found{p}"


def _programs(n: int) -> str:
    return f"{n} program{'s' * (n != 1)}"
