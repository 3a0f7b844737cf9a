"""What a report says of the reader's own methods: the rank and the comparisons of ``validate``, in its words."""

from __future__ import annotations

import json
import shutil
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from synthetic import certificate, identity, make_store, write_done

from circuitmeter.reports.brief import MOST_ROWS, brief_sections
from circuitmeter.reports.chapters.files import write_tables
from circuitmeter.reports.chapters.own_methods import OwnMethodsChapter, own_comparisons
from circuitmeter.reports.chapters.recovery import RecoveryChapter, leaderboard
from circuitmeter.reports.chapters.tests import TestsChapter
from circuitmeter.reports.draw.panels import LEADING
from circuitmeter.reports.page.markup import latex
from circuitmeter.reports.page.page import Picture, Section, page
from circuitmeter.reports.page.standing import (
    EXPLAINED,
    comparison_text,
    empty_text,
    place_text,
    uncounted_text,
    verdicts_on_own,
    words_of_test,
)
from circuitmeter.reports.page.table import MISSING
from circuitmeter.reports.read.labels import BASELINES, is_own, method_of
from circuitmeter.reports.read.ranking import bold, reachable
from circuitmeter.reports.read.results import read_results, within
from circuitmeter.reports.read.standing import RivalComparison, _against
from circuitmeter.reports.read.tables import aggregate_table
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
    told_here = [row[compared.headings.index("Told")].text for row in compared.rows]
    assert told_here == [words_of_test(each) for found in standings for each in found.comparisons]
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
    short = table.shortened(3, {worst: worst})
    assert [row[0].text for row in short.rows].count(worst) == 2 and len(short.rows) == 4
    assert {row[1].text for row in short.rows if row[0].text != worst} == {"patch", "zero"}  # the best of each stay
    assert "those of your own methods" in short.caption and len(table.rows) <= MOST_ROWS
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


def with_flat_cells(tmp_path, *, programs, flat):
    """The folder of a store in which the user's method gives all edges one score on some tasks."""
    store = make_store(
        tmp_path / "s",
        programs=programs,
        methods=("eap", "random", MINE),
        ablations=("patch",),
        seeds=2,
        failures=False,
    )
    other = Store(tmp_path / "t", create=True)
    for record in store.records():
        other.write_truth(record.identity.truth, store.truth(record.identity.truth))
        scores = store.scores(record.key)
        if record.identity.method == MINE and record.identity.task in flat:
            scores = 0 * scores + flat[record.identity.task]
        other.write(Record(**record.as_json()), {"scores": scores})
    return other.path


def test_scores_of_rounding_are_told_as_those_that_are_zero(tmp_path):
    store = make_store(
        tmp_path / "s", programs=3, methods=("eap", "random", MINE), ablations=("patch",), seeds=2, failures=False
    )
    other = Store(tmp_path / "t", create=True)
    for record in store.records():
        other.write_truth(record.identity.truth, store.truth(record.identity.truth))
        small = record.identity.method == MINE and record.identity.task == "tracr/program1"
        other.write(Record(**record.as_json()), {"scores": store.scores(record.key) * (1e-9 if small else 1)})
    (found,) = read_results(other.path).own_standings
    assert (found.cells, found.empty, found.rounding) == (3, 1, 1)
    text = empty_text([found])
    assert (
        "0, or below a millionth of what its largest scores usually are" in text
        and "on 1 of 3 cells (patch/l2)" in text
    )
    (before,) = read_results(store.path).own_standings
    assert before.empty == before.rounding == 0 and found.rank == before.rank
    chance, at_first = found.comparisons[0].test, before.comparisons[0].test
    assert chance.n_different == at_first.n_different - 1  # what is rounding is a tie with chance


def test_scores_that_are_all_zero_are_told(tmp_path):
    folder = with_flat_cells(tmp_path, programs=2, flat={"tracr/program1": 0.0})
    assert OwnMethodsChapter().words(read_results(tmp_path / "s")) == []
    results = read_results(folder)
    (text,) = OwnMethodsChapter().words(results)
    assert text.startswith(
        f"{MINE}: every score is 0 on 1 of 2 cells (patch/l2). The gradient of l2 is zero on every edge"
    )
    first, second = OwnMethodsChapter().summary(results)
    assert first == text and second.startswith(f"Under patch ablation {MINE} ranks ")  # before the rank
    linear = [replace(found, objective="answer-difference") for found in results.own_standings]
    assert empty_text(linear) == "every score is 0 on 1 of 2 cells (patch/answer-difference)."
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
    assert words_of_test(alone("eap", areas)) == says


def alone(other, areas):
    """A comparison that nothing stands before."""
    test = clustered_test({str(i): [area] for i, area in enumerate(areas)})
    return RivalComparison(other, test, test.p_value)


BOTH_WAYS = [0.2, -0.2, 0.3, -0.3, 0.1, -0.1]


@pytest.mark.parametrize(
    ("before", "says"),
    [
        (BOTH_WAYS, "the test against random found no difference"),
        ([0.1, 0.2], "the test against random could not tell"),
        ([], "the test against random had no program in common"),
    ],
)
def test_a_test_that_an_earlier_one_holds_back_is_none(results, before, says):
    areas = pd.DataFrame(
        [
            {"label": label, "method": label, "task": f"t{i}", "program": f"t{i}", "seed": None, "auroc": area}
            for label, values in (
                (MINE, np.full(6, 0.5)),
                ("random", 0.5 - np.array(before) if before else [np.nan] * 6),
                ("eap-ig", np.linspace(0.9, 1.0, 6)),
            )
            for i, area in enumerate(values)
        ]
    ).assign(key="none")
    first, second = _against(areas, MINE, ["random", "eap-ig"], set())
    assert first.held_back_by is None and second.held_back_by is first and second.test.p_value < 0.05
    assert words_of_test(second) == f"not tested, because {says}"
    line = comparison_text(second)
    assert line.startswith("against eap-ig: mean difference ") and line.endswith(
        f"(6 programs, 6 pairs): not tested, because {says}"
    )
    (sentence,) = verdicts_on_own([replace(results.own_standings[0], comparisons=(first, second))])
    assert f"not tested against eap-ig, because {says}" in sentence
    (free,) = _against(areas, MINE, ["eap-ig"], set())
    assert words_of_test(free) == "worse" and free.held_back_by is None


def test_against_chance_a_cell_that_ranks_nothing_is_a_tie(tmp_path):
    store = with_flat_cells(
        tmp_path, programs=6, flat={"tracr/program0": 0.0, "tracr/program1": 0.0, "tracr/program2": 3.0}
    )
    (found,) = read_results(store, rivals=["random", "eap"]).own_standings
    chance, eap = found.comparisons
    assert (chance.test.n_clusters, chance.test.n_different, chance.test.n_pairs) == (6, 3, 12)
    assert words_of_test(chance) == "cannot be told: 3 programs differ, and p < 0.05 takes 6"
    scored, same = read_results(tmp_path / "s", rivals=["random", "eap"]).own_standings[0].comparisons
    assert scored.test.n_different == 6
    assert eap.test == same.test  # of another rival than chance the area is no accident
    assert found.empty == 2


def test_both_ways_in_which_interval_and_p_disagree_are_explained():
    assert "Where an interval leaves out 0 and p does not count, p decides" in EXPLAINED
    assert "Where an interval holds 0 and p counts, p decides, too" in EXPLAINED
    spread = clustered_test({str(i): [-0.05, 0.06, 0.02] for i in range(6)})
    assert spread.low < 0 < spread.high and spread.p_value < 0.05  # it happens


def test_own_methods_do_not_count_in_each_others_rank(tmp_path, store):
    (tmp_path / "s").mkdir()
    shutil.copytree(store.path, tmp_path / "s", dirs_exist_ok=True)
    before = {(each.label, each.ablation): each for each in read_results(tmp_path / "s").own_standings}
    both = Store(tmp_path / "s")
    contents = certificate(Graph(n_layers=2, n_heads=1, inputs="split"), seed=0)
    for i, (name, parameters) in enumerate([("better.py:discover", {}), (MINE, {"power": 2}), (MINE, {"power": 3})]):
        for p in range(6):
            cell = identity(f"tracr/program{p}", name, "patch", parameters=parameters, truth=contents.hash)
            write_done(both, contents, cell, 30.0, i)
    found = read_results(tmp_path / "s").own_standings
    assert len(found) == 5
    for each in found:
        if each.label == MINE:
            old = before[MINE, each.ablation]
            assert (each.rank, each.of) == (old.rank, old.of)
    better = next(each for each in found if each.label == "better.py:discover")
    assert (better.rank, better.of) == (1, len(METHODS))
    assert MINE in better.uncounted and MINE not in uncounted_text(better)
    ranks, _ = OwnMethodsChapter().tables(read_results(tmp_path / "s"))
    assert "do not count in each other's rank" in ranks.caption


def test_tables_on_own_methods_have_their_numbers_as_csv(results, tmp_path):
    write_tables(tmp_path, OwnMethodsChapter().tables(results))
    ranks, compared = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("own_methods", "own_comparisons"))
    rows = zip(results.own_standings, ranks.to_dict("records"), compared.to_dict("records"), strict=True)
    for found, rank, comparison in rows:
        assert (rank["label"], rank["rank"], rank["of"]) == (MINE, found.rank, found.of)
        assert rank["auroc_low"] == found.row["auroc_low"] and rank["cells_of_zeros"] == 0
        (each,) = found.comparisons
        assert (comparison["other"], comparison["told"]) == ("random", words_of_test(each))
        assert comparison["mean_difference"] == each.test.mean_difference


def test_what_stands_between_backticks_is_set_as_code(results):
    _, compared = OwnMethodsChapter().tables(results)
    html = page("a", (), [Section("s", "S", ("see `a<b`",), (), (compared,))])
    assert "<code>circuitmeter validate</code>" in html and "<code>a&lt;b</code>" in html
    assert "`" not in html[html.index("<main>") : html.index("</main>")]
    assert r"\texttt{circuitmeter validate}" in latex(compared) and "`" not in latex(compared)


def test_verdicts_stand_beside_the_difference_and_short_tables_do_not_scroll(results):
    _, compared = OwnMethodsChapter().tables(results)
    assert compared.headings[3:6] == ("Against", "Mean difference", "Told")
    rows = compared.rows[:1]
    for n, scrolls in ((24, False), (25, True)):
        html = page("a", (), [Section("s", "S", (), (), (replace(compared, rows=rows * n),))])
        assert ('<div class="scroll short"' in html) is not scrolls


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


def test_the_brief_cuts_nothing_that_is_said_of_own_methods_and_keeps_their_rivals_as_rows(tmp_path):
    names = [f"mine{i}.py:discover" for i in range(4)]
    store = make_store(
        tmp_path / "s",
        programs=1,
        methods=("eap", "exact", "random", *names),
        ablations=("patch", "zero"),
        failures=False,
    )
    contents = certificate(Graph(n_layers=2, n_heads=1, inputs="split"), seed=0)
    for ablation in ("patch", "zero"):
        for i, name in enumerate([*names, "exact", "eap", "ugs"]):
            for objective in ("kl", "logit-difference"):
                cell = identity("tracr/program0", name, ablation, objective=objective, truth=contents.hash)
                write_done(store, contents, cell, 0.5 * i, i)
    results = read_results(store.path, rivals=["random", "eap"])
    parts = [OwnMethodsChapter(), RecoveryChapter(), TestsChapter()]
    sections = [
        Section("summary", "Summary", tuple(text for part in parts for text in part.summary(results))),
        *(_section(part, results) for part in parts),
    ]
    drawn = tuple(Picture(f"p{i}", "P", "", b"", b"") for i in range(3))
    sections[1] = replace(sections[1], pictures=drawn)
    short = {section.name: section for section in brief_sections(sections, results, parts)}
    assert short["results"].pictures == drawn[:1]  # what is said of own methods takes the room of others
    said = OwnMethodsChapter().summary(results)
    assert len(said) == 8 and short["summary"].text[:8] == tuple(said)
    assert short["summary"].text[8].startswith("Under patch ablation ")  # and one paragraph on the others
    (table,) = short["results"].tables
    rows = [(method_of(row[0].text), row[1].text) for row in table.rows]
    assert {(name, ablation) for name in [*names, "random", "eap"] for ablation in ("patch", "zero")} <= set(rows)
    others = [row for row in rows if row[0] in ("exact", "ugs")]
    assert {ablation for _, ablation in others} == {"patch", "zero"}
    assert len(rows) <= 3 * MOST_ROWS and "and of their rivals" in table.caption


def test_a_number_over_fewer_programs_says_so_and_is_never_bold(results, capsys):
    empty = results.recovery.assign(precision=results.recovery["precision"].where(results.recovery["method"] != "eap"))
    first = results.recovery["program"].isin(["tracr/program0", "tracr/program1"])
    few = empty.assign(precision=np.where((empty["method"] == "exact") & first, 1.0, empty["precision"]))
    few["precision"] = few["precision"].where((few["method"] != "exact") | first)
    aggregate = aggregate_table(few)
    of_method = {row["label"]: row for row in aggregate[aggregate["ablation"] == "patch"].to_dict("records")}
    assert [of_method[name]["precision_n"] for name in ("exact", "eap", "truth")] == [2, 0, 6]
    table = leaderboard(aggregate)
    place = table.headings.index("Precision")
    cells = {(row[0].text, row[1].text): row[place] for row in table.rows}
    assert cells["exact", "patch"].text == "1.00 [1.00, 1.00] (2 of 6)" and not cells["exact", "patch"].best
    assert cells["eap", "patch"].text == MISSING
    assert any(cell.best for cell in cells.values()) and not cells["truth", "patch"].text.endswith(")")
    assert ("patch", "exact") in bold(results.aggregate, "precision")  # with a number on every program it is
    found = results.own_standings[0]
    row = validate._row(of_method["exact"], found)
    assert row[4] == "1.00 (2 of 6)" and isinstance(row[5], float)
    of_own = replace(found, rows=aggregate[aggregate["ablation"] == "patch"])
    assert validate.ranking_json(of_own)["scores"]["exact"]["precision_n"] == 2


def test_captions_say_who_is_told_apart_and_in_what_order(tmp_path, results):
    plots = {plot.name: plot.caption for plot in RecoveryChapter().figures(results)}
    assert "mean over ablations of these medians" in plots["auc_by_method"] and "comes last" in plots["auc_by_method"]
    assert "told apart" not in plots["roc"]  # few methods
    many = copy(results)
    many.curves = pd.concat(
        [results.curves.assign(label=f"{name} (steps={i})") for i in range(8) for name in ("eap", MINE)]
    )
    assert f"Your own methods and the {LEADING} others with the highest" in RecoveryChapter().figures(many)[1].caption
    many.curves = pd.concat([results.curves.assign(label=f"eap (steps={i})") for i in range(16)])
    assert f"The {LEADING} methods with the highest" in RecoveryChapter().figures(many)[1].caption
