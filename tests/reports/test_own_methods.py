"""What a report says of the reader's own methods: the rank and the comparisons of ``validate``, in its words."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from synthetic import certificate, identity, make_store, write_done

from circuitmeter.reports.brief import MOST_ROWS, brief_sections
from circuitmeter.reports.chapters.own_methods import OwnMethodsChapter, own_comparisons
from circuitmeter.reports.chapters.recovery import RecoveryChapter, leaderboard
from circuitmeter.reports.chapters.tests import TestsChapter
from circuitmeter.reports.page.page import Section
from circuitmeter.reports.page.standing import (
    comparison_text,
    empty_text,
    place_text,
    uncounted_text,
    verdicts_on_own,
    words_of_test,
)
from circuitmeter.reports.read.labels import BASELINES, is_own
from circuitmeter.reports.read.ranking import reachable
from circuitmeter.reports.read.results import read_results, within
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.scoring.clustered import clustered_test, clusters_needed
from circuitmeter.suite.store.record import Record
from circuitmeter.suite.store.store import Store
from circuitmeter.suite.verbs import validate
from circuitmeter.suite.verbs.output import WIDEST

MINE = "mine.py:discover"
METHODS = ("truth", "exact", "eap", "random")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six programs, four built-in methods under l2, one on two programs only, and a user's method."""
    store = make_store(
        tmp_path_factory.mktemp("own") / "s", programs=6, methods=(*METHODS, MINE), seeds=2, failures=False
    )
    contents = certificate(Graph(n_layers=2, n_heads=1, inputs="split"), seed=0)
    cell = identity("tracr/program0", "ugs", "patch", truth=contents.hash)
    write_done(store, contents, cell, 3.0, 5)
    return store


@pytest.fixture(scope="module")
def results(store):
    return read_results(store.path)


def test_a_method_is_the_readers_own_where_it_is_not_built_in():
    assert is_own(MINE) and is_own("someones-method (l2)") and is_own("external:eap_adapter:Adapter")
    assert not any(map(is_own, (*METHODS, *BASELINES, "ACDC", "SP", "eap-ig (steps=5)")))


def test_the_report_says_of_a_method_what_validate_prints(results, capsys):
    standings = results.own_standings
    assert [(found.method, found.ablation, found.objective) for found in standings] == [
        (MINE, "patch", "l2"),
        (MINE, "zero", "l2"),
    ]
    validate._print(MINE, results.store.path, standings, [])
    printed = capsys.readouterr().out
    said = " ".join(printed.split())
    ranks, compared = OwnMethodsChapter().tables(results)
    for found, row in zip(standings, ranks.rows, strict=True):
        assert [cell.text for cell in row[:4]] == [MINE, found.ablation, "l2", place_text(found)]
        assert f"{MINE} under {found.ablation}, l2: rank {found.rank} of {len(METHODS)}" in said
    told_here = [row[-1].text for row in compared.rows]
    assert told_here == [words_of_test(each.test, each.p) for found in standings for each in found.comparisons]
    assert all(f": {text}" in said for text in told_here) and "better" in told_here
    for sentence in OwnMethodsChapter().summary(results):
        assert sentence in said  # the terminal's closing words are the summary's
    (chance,) = standings[0].comparisons  # eap-ig is not in this store
    assert chance.other == "random" and comparison_text(chance) in said
    assert max(map(len, printed.splitlines()[:-1])) <= WIDEST  # the last line has a path


def test_who_is_not_counted_is_told(results, capsys):
    patch, zero = results.own_standings
    assert uncounted_text(patch) == "truth (is given the answer); ugs (fewer programs)"
    assert uncounted_text(zero) == "truth (is given the answer)"
    assert patch.of == zero.of == len(METHODS)  # with the user's, without the truth


def test_its_rank_is_one_more_than_the_number_of_better_methods(results):
    for found in results.own_standings:
        areas = results.aggregate[results.aggregate["ablation"] == found.ablation].set_index("label")
        rivals = areas.drop(index=["truth", "ugs"], errors="ignore")
        area = {name: (row["auroc"], row["mean_auroc"]) for name, row in rivals.iterrows()}
        assert found.rank == 1 + sum(other > area[MINE] for other in area.values())


def test_the_summary_begins_with_it_and_so_does_the_brief(results):
    parts = [OwnMethodsChapter(), RecoveryChapter(), TestsChapter()]
    sections = [
        Section("summary", "Summary", tuple(text for part in parts for text in part.summary(results))),
        *(Section(part.name, part.title, (), (), tuple(part.tables(results))) for part in parts),
    ]
    short = {section.name: section for section in brief_sections(sections, results, parts)}
    patch, zero, *_ = short["summary"].text
    assert patch.startswith(f"Under patch ablation {MINE} ranks ") and "than random, p = 0.031" in patch
    assert zero.startswith(f"Under zero ablation {MINE} ranks ")
    (table,) = short["results"].tables
    assert table.name == "leaderboard"
    (methods,) = short["methods"].text
    assert "sign" in methods and MINE in methods


def test_rows_of_an_own_method_stay_where_a_table_is_shortened(results):
    table = leaderboard(results.aggregate)
    worst = table.rows[-1][0].text
    assert worst not in {row[0].text for row in table.shortened(2).rows}
    short = table.shortened(3, {worst})
    assert [row[0].text for row in short.rows].count(worst) == 2 and len(short.rows) == 3
    assert "all of your own methods" in short.caption and len(table.rows) <= MOST_ROWS
    assert "own methods" not in table.shortened(3).caption


def test_the_brief_lists_parameters_of_shown_methods_only_and_statistics_of_shown_results(tmp_path):
    store = make_store(tmp_path / "s", programs=2, methods=("eap", "random"), failures=False)
    contents = certificate(Graph(n_layers=2, n_heads=1, inputs="split"), seed=0)
    for i in range(MOST_ROWS):
        cell = identity("tracr/program0", "ugs", "patch", parameters={"strength": i}, truth=contents.hash)
        write_done(store, contents, cell, 5.0, i)
    for method in ("hisp", MINE):
        cell = identity("tracr/program0", method, "patch", parameters={"own_knob": 7}, truth=contents.hash)
        write_done(store, contents, cell, 0.0, 3)
    results = read_results(store.path)
    parts = [OwnMethodsChapter(), RecoveryChapter(), TestsChapter(), _Unshown()]
    sections = [Section("summary", "Summary"), *(_section(part, results) for part in parts)]
    (methods,) = brief_sections(sections, results, parts)[-1].text
    assert "ugs (strength=" in methods and f"{MINE} (own_knob=7)" in methods
    assert "hisp (own_knob" not in methods and "Other methods, whose parameters are in the report: " in methods
    assert "hisp" in methods and "a test of which nothing is shown" not in methods


class _Unshown(TestsChapter):
    name = "unshown"

    def statistics(self, results):
        return ("There is a test of which nothing is shown.",)


def _section(part, results):
    return Section(part.name, part.title, (), (), tuple(table for table in part.tables(results) if table.rows))


def test_rivals_are_those_that_were_named(tmp_path, capsys):
    store = make_store(tmp_path / "s", programs=2, methods=("eap", "random", MINE), failures=False)
    named = read_results(store.path, rivals=["eap"])
    assert {test.other for found in named.own_standings for test in found.comparisons} == {"eap"}
    assert {test.other for found in within(named).own_standings for test in found.comparisons} <= {"eap"}
    usual = read_results(store.path).own_standings
    assert {test.other for found in usual for test in found.comparisons} == {"random"}
    assert {row[3].text for row in own_comparisons(named.own_standings).rows} == {"eap"}
    validate._print(MINE, store.path, named.own_standings, [], ["eap"])
    assert f"`circuitmeter report {store.path} --rivals eap` draws them" in capsys.readouterr().out
    with pytest.raises(SpecError, match=r"no rival 'eapp'\. Did you mean 'eap'\?"):
        read_results(store.path, rivals=["eapp"])


def test_scores_that_are_all_zero_are_told(tmp_path):
    store = make_store(tmp_path / "s", programs=2, methods=("eap", MINE), ablations=("patch",), failures=False)
    assert OwnMethodsChapter().words(read_results(store.path)) == []
    other = Store(tmp_path / "t", create=True)
    for record in store.records():
        other.write_truth(record.identity.truth, store.truth(record.identity.truth))
        scores = store.scores(record.key)
        zero = record.identity.method == MINE and record.identity.task == "tracr/program1"
        other.write(Record(**record.as_json()), {"scores": 0 * scores if zero else scores})
    results = read_results(other.path)
    (text,) = OwnMethodsChapter().words(results)
    assert text == f"{MINE}: every score is 0 on 1 of 2 cells (patch/l2)."
    assert text in OwnMethodsChapter().summary(results) and text in verdicts_on_own(results.own_standings)
    assert json.loads(json.dumps(validate.ranking_json(results.own_standings[0])))["cells_of_zeros"] == 1
    assert empty_text(results.own_standings) and OwnMethodsChapter().tables(results)[0].rows[0][7].shaded


@pytest.mark.parametrize(
    ("areas", "says"),
    [
        ([0.2] * 6, "better"),
        ([-0.2] * 6, "worse"),
        ([0.3, 0.2, 0.4, 0.1, 0.0, 0.0], "cannot be told: 4 programs differ, and p < 0.05 takes 6"),
        ([0.3], "cannot be told: 1 program differs, and p < 0.05 takes 6"),
        ([0.2, -0.2, 0.3, -0.3, 0.1, -0.1, 0.2], "no difference found"),
        ([0.0, 0.0], "no difference found"),
        ([], "cannot be told: no program in common"),
    ],
)
def test_what_a_test_says(areas, says):
    test = clustered_test({str(i): [area] for i, area in enumerate(areas)})
    assert words_of_test(test, test.p_value) == says


def test_six_clusters_are_needed_and_no_fewer():
    assert clusters_needed(0.05) == 6 and clusters_needed(0.5) == 3
    assert clustered_test({str(i): [1.0] for i in range(6)}).p_value < 0.05
    assert clustered_test({str(i): [1.0] for i in range(5)}).p_value >= 0.05


def pairs(n, different):
    p = 2 / 2**different
    one = {"ablation": "patch", "n": different, "n_different": different, "p_value": p, "p_holm": 1.0, "smallest_p": p}
    return pd.DataFrame([{**one, "first": "a", "second": f"m{i}"} for i in range(n)])


class _Pairs:
    own_standings = ("one",)

    def __init__(self, pairwise):
        self.pairwise = pairwise


def test_where_no_correction_can_be_passed_the_tests_say_so_and_not_that_methods_do_not_differ():
    first, second = TestsChapter().words(_Pairs(pairs(351, 6)))
    assert "no two methods differ" not in first
    assert "6 programs that differ can reach is 0.031" in first
    assert "351 pairs asks for one below 0.00014" in first and "your method" in second
    (could,) = TestsChapter().words(_Pairs(pairs(3, 8)))
    assert "no two methods differ at p < 0.05" in could and "can reach is 0.0078" in could
    none = pairs(2, 0).assign(p_value=float("nan"), smallest_p=float("nan"))
    assert "no two methods have different areas" in TestsChapter().words(_Pairs(none))[0]
    assert not reachable(pairs(351, 6)).enough and reachable(pairs(1, 6)).enough
