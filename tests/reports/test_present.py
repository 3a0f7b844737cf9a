"""Markdown and LaTeX tables: bold for the best within its interval, special characters made harmless."""

from types import SimpleNamespace

import pandas as pd
from made_up import ENVIRONMENT
from synthetic import identity, record_of

from circuitmeter.reports.chapters.failures import failures, without_a_result
from circuitmeter.reports.chapters.mismatch import MismatchChapter
from circuitmeter.reports.chapters.provenance import benchmark_progress, environments, provenance_entries
from circuitmeter.reports.chapters.recovery import leaderboard
from circuitmeter.reports.chapters.tests import comparisons
from circuitmeter.reports.page import markup
from circuitmeter.reports.page.table import Table, TableCell
from circuitmeter.reports.read import tables
from circuitmeter.reports.read.ranking import best_of, bold
from circuitmeter.suite.store.record import Benchmark


def aggregate(**areas):
    rows = [
        {
            "label": label,
            "method": label,
            "ablation": "patch",
            "auroc": a,
            "auroc_low": low,
            "auroc_high": 1.0,
            "auroc_n": 6,
            "mean_auroc": a,
            "n_programs": 6,
        }
        for label, (a, low) in areas.items()
    ]
    return pd.DataFrame(rows)


def test_best_are_all_within_the_best_ones_interval():
    found = best_of(aggregate(one=(0.9, 0.8), two=(0.85, 0.5), three=(0.7, 0.6), truth=(1.0, 1.0)))
    assert found == {("patch", "one"), ("patch", "two")}


def test_a_median_over_fewer_programs_does_not_compete():
    table = aggregate(one=(0.9, 0.8), two=(1.0, 1.0))
    table.loc[table["label"] == "two", "n_programs"] = 3
    assert best_of(table) == {("patch", "one")}


def test_without_an_interval_only_the_best_is_best_and_nothing_is_bold():
    table = aggregate(one=(0.9, float("nan")), two=(0.89, float("nan")))
    assert best_of(table) == {("patch", "one")} and bold(table) == set()


def test_bold_sets_something_apart():
    assert bold(aggregate(one=(0.9, 0.8), two=(0.85, 0.5))) == set()  # all are level
    assert bold(aggregate(one=(0.9, 0.8), two=(0.85, 0.5), three=(0.7, 0.6))) == {("patch", "one"), ("patch", "two")}


def test_leaderboard_shows_undefined_numbers_as_dashes():
    record = record_of(
        identity("a", "eap", "patch"),
        status="done",
        kind=None,
        reason=None,
        n_edges=3,
        recovery={"patch": {"auroc": 0.5}},
    )
    table = leaderboard(tables.aggregate_table(tables.recovery_table([record])))
    row = dict(zip(table.headings, table.rows[0], strict=True))
    assert row["AUC"].text == "0.50" and row["Exact"].text == "–" and row["Seconds"].sort is None
    assert not row["AUC"].best  # no interval says that it is better than anything


def test_latex_is_booktabs_with_escapes():
    table = Table(
        "t",
        "A & B",
        "50 %",
        ("a_b", "n"),
        (False, True),
        ((TableCell("x_1 <y> \\z", "x"), TableCell("0.5", 0.5, True)),),
    )
    text = markup.latex(table)
    assert r"\toprule" in text and r"\begin{tabular}{lr}" in text and r"A \& B. 50 \%" in text
    assert r"x\_1 \textless{}y\textgreater{} \textbackslash{}z & \textbf{0.5} \\" in text


def test_markdown_escapes_pipes_and_tags():
    table = Table("t", "T", "c", ("a", "b"), (False, True), ((TableCell("x|<script>"), TableCell("1", 1.0, True)),))
    assert "| x\\|&lt;script> | **1** |" in markup.markdown(table)


def test_failures_of_a_method_for_one_reason_share_a_row():
    cells = [identity(task, "eap", ablation) for task in "ab" for ablation in ("zero", "patch")]
    records = [record_of(cell, kind="undefined", reason="no gradient") for cell in cells]
    (row,) = failures(tables.failure_table(records)).rows
    assert [cell.text for cell in row] == ["undefined", "eap", "patch, zero", "4", "no gradient", "a, b"]


def test_times_are_a_span_and_other_values_are_counted():
    times = [f"2026-11-29T10:{i:02}:00" for i in (7, 3, 1, 9, 5, 2, 4)]
    entries = [("finished", time, 1) for time in times] + [("commit", f"{i}", 1) for i in range(7)]
    table = provenance_entries(pd.DataFrame(entries, columns=["name", "value", "cells"]))
    assert [row[1].text for row in table.rows] == ["7 different values", f"{times[2]} to {times[3]}"]


def test_what_is_shaded_is_not_bold():
    table = Table("t", "T", "c", ("a",), (True,), ((TableCell("1", 1.0, shaded=True),),))
    assert "**" not in markup.markdown(table) and "textbf" not in markup.latex(table)


def pairs_with(p_holm):
    same = {"n": 9, "n_different": 9, "median_difference": -0.1, "a12": 0.9, "smallest_p": 0.004}
    rows = [
        {"ablation": ablation, "first": "a", "second": f"m{i}", "p_value": p / 2, "p_holm": p, **same}
        for ablation in ("zero", "patch")
        for i, p in reversed(list(enumerate(p_holm)))
    ]
    return pd.DataFrame(rows)


def test_paired_tests_that_show_nothing_are_no_rows():
    table = comparisons(pairs_with([0.001, 0.03, 0.06, 1.0, 1.0]))
    assert [row[0].text for row in table.rows] == ["patch"] * 2 + ["zero"] * 2
    assert [row[2].text for row in table.rows[:2]] == ["m0", "m1"] and "The other 6 pairs" in table.caption
    assert table.rows[0][4].text == "\N{MINUS SIGN}0.100" and comparisons(pairs_with([1.0])).rows == ()


def test_of_many_pairs_that_differ_the_surest_are_shown():
    table = comparisons(pairs_with([i / 1000 for i in range(40)]))
    assert [row[0].text for row in table.rows] == ["patch"] * 30 + ["zero"] * 30


def test_benchmarks_say_how_far_they_are():
    first, second, third = (digit * 16 for digit in "abc")
    asked = {"one": Benchmark(hash="d" * 16, cells=(first, second, third), spec={"description": "what"})}
    (row,) = benchmark_progress(asked, {first: "done", second: "failed"}).rows
    assert [cell.text for cell in row] == ["one", "d" * 16, "3", "1", "1", "1", "what"]


def test_environments_are_told_apart_and_every_entry_is_in_the_data():
    made_in = {
        "a" * 16: ENVIRONMENT,
        "b" * 16: ENVIRONMENT.model_copy(update={"torch": ENVIRONMENT.torch.model_copy(update={"kernels": "AVX512"})}),
    }
    table = environments(made_in, {"a" * 16: 3, "b" * 16: 1})
    assert [(row[0].text, row[5].text, row[-1].text) for row in table.rows] == [
        ("a" * 16, "AVX2", "3"),
        ("b" * 16, "AVX512", "1"),
    ]
    assert ("b" * 16, "packages.numpy", "2.4.6") in list(table.data.itertuples(index=False, name=None))


def test_an_unknown_commit_is_told_in_words():
    made = {"commit": None, "cublas_workspace_config": None}
    table = tables.provenance_table([record_of(identity("a", "eap", "patch"), provenance=made)])
    values = dict(zip(table["name"], table["value"], strict=True))
    assert values["commit"] == "not known (installed from a folder or a package)"
    shown = environments({"e": ENVIRONMENT}, {"e": 1}).data.set_index("name")["value"]
    assert shown["commit"] == values["commit"] and shown["torch.commit"] == "None" == values["cublas_workspace_config"]


def test_the_summary_compares_truths_of_ablations_that_were_searched_under():
    """Nothing was searched under noise: its truth is in the table, and the largest difference is not told."""
    heights = {("patch", "patch"): 1.0, ("patch", "zero"): 0.8, ("patch", "noise"): 0.1, ("zero", "zero"): 0.9}
    rows = [
        {"label": "eap", "ablation": under, "truth_ablation": truth, "own": under == truth, "average_precision": height}
        | {"average_precision_low": height, "average_precision_high": height, "n_programs": 3}
        for (under, truth), height in heights.items()
    ]
    (text,) = MismatchChapter().summary(SimpleNamespace(mismatch=pd.DataFrame(rows)))
    assert "of 1.00 against the patch truth and of 0.80 against the zero truth" in text


def test_cells_without_a_meaning_are_told_from_those_that_failed():
    def of(*kinds):
        cells = [record_of(identity(f"t{i}", "eap", "patch"), kind=kind) for i, kind in enumerate(kinds) if kind]
        done = record_of(identity("d", "eap", "patch"), status="done", kind=None, reason=None, n_edges=5)
        return without_a_result([*cells, done])

    assert of("undefined", "undefined", "memory").startswith(
        "Of 4 cells 2 have no meaning (undefined) and 1 failed; the"
    )
    assert of("undefined").startswith("Of 2 cells 1 has no meaning (undefined); ") and of() is None
    assert of("error").startswith("Of 2 cells 1 failed; ")
