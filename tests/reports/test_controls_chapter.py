"""Nulls and adversaries in a report: what was written comes out, with intervals, and in words."""

from __future__ import annotations

import pytest
from synthetic import make_store, write_evaluation

from circuitmeter.reports.chapters.controls import ControlsChapter, control_verdicts
from circuitmeter.reports.read.controls import CONTROLS
from circuitmeter.reports.read.results import read_results
from circuitmeter.suite.scoring.structure.controls_found import ComplementFound, ControlsFound, ExactFound, NullFound

METHODS = ("eap", "exact", "random")


def found_of(method: str, program: int) -> ControlsFound:
    sure = method == "exact"
    null = NullFound(
        faithfulness=0.2, low=0.1, high=0.3, beyond=0.5 if sure else program - 1.5, beyond_low=0.4, beyond_high=0.6,
        jaccard=0.4, chance=0.1, auroc=0.55,
    )  # fmt: skip
    rest = ComplementFound(
        whole=0.9, random=0.8, random_low=0.6, random_high=1.0, worst=0.25, low=0.1, high=0.4, searched=0.2, edges=3,
        of=9, evaluated=40,
    )  # fmt: skip
    exact = ExactFound(edges=10, rank=0.7, rank_low=0.5, rank_high=0.9, explained=-2.0)
    nulls = {"reset-weights": null, "nonsense": NullFound(undefined="the task has no answers")}
    return ControlsFound(size=5, nulls=nulls, complement=rest, exact=exact)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    path = tmp_path_factory.mktemp("controls") / "s"
    store = make_store(path, programs=4, methods=METHODS, ablations=("patch",), failures=False)
    for record in list(store.records()):
        controls = found_of(record.identity.method, int(record.identity.task[-1]))
        write_evaluation(store, record.key, {"patch": [0.5, 0.6, 0.7]}, controls=controls)
    return read_results(store.path)


def test_every_number_is_a_row_with_its_interval(results):
    table = results.controls
    worst = table[(table["control"] == "worst") & (table["label"] == "eap")]
    assert worst[["value", "low", "high"]].to_numpy().tolist() == [[0.25, 0.1, 0.4]] * 4
    shared = table[table["control"] == "shared reset-weights"]
    assert shared["value"].tolist() == pytest.approx([0.3] * 12)
    nonsense = table[table["control"] == "null nonsense"]
    assert nonsense["value"].isna().all() and set(nonsense["undefined"]) == {"the task has no answers"}
    assert set(table["control"]) <= set(CONTROLS) and set(table["words"]) <= set(CONTROLS.values())


def test_medians_have_intervals_over_programs(results):
    summary = results.control_summary.set_index(["label", "control"])
    assert summary.loc[("exact", "beyond reset-weights"), ["value", "low", "high"]].tolist() == [0.5, 0.5, 0.5]
    value, low, high, n = summary.loc[("eap", "beyond reset-weights"), ["value", "low", "high", "n_programs"]]
    assert (value, n) == (0, 4) and low < 0 < high
    assert ("exact", "null nonsense") not in summary.index


def test_the_words_name_who_is_beyond_a_null_and_what_the_worst_subset_takes(results):
    (text,) = control_verdicts(results.control_summary)
    assert "with weights reset, exact." in text and "random" not in text and "nonsense" not in text
    assert "takes 0.65 [0.65, 0.65] more" in text


def test_what_the_worst_subset_takes_is_summed_up_from_differences(tmp_path):
    """Whole and worst of three programs: the difference of medians is .5, the median difference .1."""
    store = make_store(tmp_path / "s", programs=3, methods=("eap",), ablations=("patch",), failures=False)
    ends = [(1.0, 0.9), (0.9, 0.1), (0.5, 0.4)]
    for record, (whole, worst) in zip(list(store.records()), ends, strict=True):
        found = ControlsFound(size=5, complement=ComplementFound(whole=whole, worst=worst))
        write_evaluation(store, record.key, {"patch": [0.5, 0.6, 0.7]}, controls=found)
    (text,) = control_verdicts(read_results(store.path).control_summary)
    assert "takes 0.10 [0.10, 0.10] more" in text


def test_the_chapter_has_tables_a_figure_and_words(results):
    part = ControlsChapter()
    adversaries, nulls = part.tables(results)
    assert [len(table.rows) for table in (adversaries, nulls)] == [3, 3]
    assert adversaries.rows[0][4].text == "0.25 [0.25, 0.25]" and adversaries.rows[0][7].text.startswith(
        "\N{MINUS SIGN}2"
    )
    (plot,) = part.figures(results)
    figure = plot.draw()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["nulls", "parts of the rest", "scores"]
    assert len(part.words(results)) == 2 and part.summary(results) and part.statistics(results)


def test_a_store_without_them_has_no_chapter(usual_results):
    part = ControlsChapter()
    assert not [*part.tables(usual_results), *part.figures(usual_results), *part.words(usual_results)]
