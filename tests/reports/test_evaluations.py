"""Methods by ablations: every number of an evaluation reaches its place, and what is missing says in what way."""

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from synthetic import evaluate_all, identity, make_store, record_of, setting, write_evaluation

from circuitmeter.reports import summary
from circuitmeter.reports.chapters.behaviour import NOT_MEASURED, BehaviourChapter
from circuitmeter.reports.chapters.faithfulness import FaithfulnessChapter, areas, dependence, evaluations, size_told
from circuitmeter.reports.draw.evaluation import evaluation, rows_of_map
from circuitmeter.reports.draw.faithfulness import BEYOND, axis_of, faithfulness, spaced
from circuitmeter.reports.draw.style import looks
from circuitmeter.reports.page.table import short
from circuitmeter.reports.read.evaluations import area_table, evaluation_table, faithfulness_table, usual
from circuitmeter.reports.read.ranking import on_fewer_tasks
from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.read.tables import failure_table
from circuitmeter.reports.write import write_report
from circuitmeter.suite.store.store import Store


@pytest.fixture(scope="module")
def evaluated_store(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("evaluated") / "s", programs=3, methods=("acdc", "eap", "exact"))
    evaluate_all(store)
    return store


def cells_of(tmp_path, *identities):
    """An empty store, and the records of cells that count as finished."""
    store = Store(tmp_path / "s", create=True)
    return store, [record_of(cell, status="done", kind=None, reason=None, n_edges=5) for cell in identities]


def table_of(store, records):
    return evaluation_table(records, store.evaluations())


def test_every_number_is_in_its_row(tmp_path):
    store, records = cells_of(tmp_path, identity("tracr/a", "eap", "patch"))
    write_evaluation(store, records[0].key, {"patch": [1.0, 0.5, 0.75], "zero": [-0.5, None, 2.0]})
    table = table_of(store, records)
    found = table.set_index(["evaluation_ablation", "size"])
    assert found.loc[("patch", "0.5"), "faithfulness"] == 0.75 and found.loc[("patch", "0.5"), "value"] == 1.75
    assert found.loc[("zero", "true"), "faithfulness"] == -0.5 and np.isnan(found.loc[("zero", "0.1"), "faithfulness"])
    assert set(table["set"]) == {"complement"} and set(table["evaluation_objective"]) == {"l2"}
    assert list(table["ablation"]) == ["patch"] * 6 and list(table["evaluation_ablation"][:3]) == ["patch"] * 3


def test_evaluations_of_cells_that_are_not_reported_are_left_out(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"), identity("b", "eap", "patch"))
    for record in records:
        write_evaluation(store, record.key, {"patch": [1.0, 1.0, 1.0]})
    assert set(table_of(store, records[1:])["task"]) == {"b"}


def test_the_newer_version_of_an_evaluation_counts(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"))
    for version, value in ((2, 0.25), (1, 0.75)):
        write_evaluation(store, records[0].key, {"patch": [value]}, sizes=("true",), version=version)
    table = table_of(store, records)
    assert list(table["faithfulness"]) == [0.25]


def test_the_median_is_over_programs_and_not_over_runs(tmp_path):
    cells = [identity("a", "eap", "patch", seed=seed) for seed in range(5)]
    store, records = cells_of(tmp_path, *cells, identity("b", "eap", "patch"), identity("c", "eap", "patch"))
    for record, value in zip(records, [0.0] * 5 + [0.6, 1.0], strict=True):
        write_evaluation(store, record.key, {"patch": [value]}, sizes=("true",))
    row = faithfulness_table(usual(table_of(store, records))).iloc[0]
    assert (row["faithfulness"], row["n_programs"], row["state"]) == (0.6, 3, "defined")
    assert row["faithfulness_low"] <= 0.6 <= row["faithfulness_high"]


def test_no_meaning_no_number_and_not_run_are_three_things(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"), identity("a", "eap", "zero"))
    reason = {setting("mean"): "the mean has no meaning here"}
    write_evaluation(store, records[0].key, {"patch": [None]}, sizes=("true",), undefined=reason)
    write_evaluation(store, records[1].key, {"zero": [0.3]}, sizes=("true",))
    table = faithfulness_table(usual(table_of(store, records)))
    states = table.set_index(["ablation", "evaluation_ablation"])["state"].to_dict()
    assert states == {("patch", "patch"): "no number", ("patch", "mean"): "undefined", ("zero", "zero"): "defined"}
    texts = [[cell.text for cell in row[3:]] for row in evaluations(table).rows]
    assert texts == [["no number", "no meaning", "not run", "0"], ["not run", "not run", "0.30", "1"]]
    figure = evaluation(table)
    hatches = {patch.get_hatch() for patch in figure.axes[0].patches} - {None}
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert len(hatches) == 2 and legend == {"no meaning", "no number"}
    assert [text.get_text() for text in figure.axes[0].texts] == [".30"]


def test_only_the_usual_setting_is_in_the_heat_map(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"))
    write_evaluation(store, records[0].key, {"patch": [0.8]}, sizes=("true",))
    contents = store.evaluation(store.path.joinpath("evaluations").glob("*.json").__next__().stem)
    other = contents.rows[0].model_copy(update={"setting": setting("patch", "denoising"), "faithfulness": (0.1,)})
    cell = contents.identity.model_copy(update={"settings": (other.setting,)})
    store.write_evaluation(contents.but(key=cell.key, identity=cell, rows=[other]))
    table = table_of(store, records)
    assert set(table["direction"]) == {"noising", "denoising"}
    assert list(usual(table)["faithfulness"]) == [0.8]
    # Where only another level was evaluated, that one is shown.
    assert list(usual(table[table["direction"] == "denoising"])["faithfulness"]) == [0.1]


def test_squares_hold_medians_and_those_of_one_ablation_are_framed(evaluated_store):
    table = faithfulness_table(usual(table_of(evaluated_store, list(evaluated_store.records()))))
    figure = evaluation(table)
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in panels] == ["acdc", "eap", "exact"]
    numbers = [text.get_text() for text in panels[0].texts]
    rows = table[(table["label"] == "acdc") & (table["size"] == "true")]
    assert sorted(numbers) == sorted(short(value) for value in rows["faithfulness"]) and len(numbers) == 6
    frames = {(round(p.get_x() + 0.47), round(p.get_y() + 0.47)) for p in panels[0].patches if p.get_hatch() is None}
    assert frames == {(0, 0), (2, 1)}  # patch evaluated by patch, zero by zero; mean was not searched with


def test_of_many_methods_the_best_have_a_map():
    values = {f"m{i:02}": {"patch": i / 30, "zero": 0.5} for i in range(30)}
    figure = evaluation(grid(values))
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible() and ax.get_title(loc="left")]
    assert titles == [f"m{i:02}" for i in range(18, 30)] and "12 best of 30" in figure.get_supxlabel()


def test_methods_with_one_ablation_have_no_map_and_titles_have_one_size():
    alone = {f"alone{i}": {"patch": 0.5} for i in range(3)}
    long = "exact (a parameter with a very long name = 123456789, another one = 2)"
    table = grid({"a": {"patch": 1.0, "zero": 0.5}, long: {"patch": 0.5, "zero": 0.2}} | alone)
    figure = evaluation(table)
    names = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    titles = [text for text in figure.findobj(Text) if text.get_text() in names]
    assert len(titles) == 2 and titles[0].get_text() == "a" and len({title.get_fontsize() for title in titles}) == 1
    shortened = titles[1].get_text()
    assert titles[0].get_fontsize() >= 6 and shortened.startswith("exact (") and "…" in shortened
    assert shortened.endswith("2)") and len(shortened) < len(long)
    assert rows_of_map(grid(alone), "true").empty and len(evaluation(grid(alone)).axes) == 0


def test_the_map_is_of_the_true_size_or_the_middle_one_and_of_several_evaluations():
    table = grid({"a": {"patch": 1.0, "zero": 0.5}})
    sized = [table.assign(size=size, share=float(size)) for size in ("0.03", "0.1", "0.4")]
    assert size_told(pd.concat(sized)) == "0.1" and size_told(pd.concat([*sized, table])) == "true"
    one = pd.concat([table.assign(ablation=name) for name in ("patch", "zero")])
    assert not rows_of_map(one, "true").empty
    assert rows_of_map(one[one["evaluation_ablation"] == "patch"], "true").empty


def test_numbers_in_squares_are_short():
    values = (0.0, 1.0, 0.5, -0.25, 1.25, 12.3, -8.0, 0.999, -0.001)
    assert [short(value) for value in values] == [
        "0",
        "1.00",
        ".50",
        "\N{MINUS SIGN}.25",
        "1.25",
        "12",
        "\N{MINUS SIGN}8.00",
        "1.00",
        "0",
    ]


def test_curves_are_of_circuits_found_and_evaluated_alike(evaluated_store):
    table = faithfulness_table(usual(table_of(evaluated_store, list(evaluated_store.records()))))
    figure = faithfulness(table)
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in panels] == ["patch ablation", "zero ablation"]
    own = table[(table["label"] == "eap") & (table["ablation"] == "zero") & (table["evaluation_ablation"] == "zero")]
    drawn = [line.get_xydata().tolist() for line in panels[1].lines]
    assert own.loc[own["share"].notna(), ["share", "faithfulness"]].to_numpy().tolist() in drawn


def test_labels_of_sizes_keep_their_distance():
    assert spaced([0.1, 0.5]) == [0.1, 0.5]
    chosen = spaced([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    assert chosen[-1] == 1.0 and len(chosen) <= 5 and all(b / a > 3 for a, b in zip(chosen, chosen[1:], strict=False))


def test_areas_are_over_all_sizes_or_none(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"), identity("b", "eap", "patch"))
    write_evaluation(store, records[0].key, {"patch": [0.0, 1.0]}, sizes=(0.5, 1.0))
    write_evaluation(store, records[1].key, {"patch": [None, 1.0]}, sizes=(0.5, 1.0))
    row = area_table(usual(table_of(store, records))).iloc[0]
    assert (row["cpr"], row["cmd"], row["n_programs"], row["sizes"]) == (0.25, 0.25, 1, "0.5 1")
    assert row["cpr_log"] == pytest.approx(0.5) and row["cmd_log"] == pytest.approx(0.5)
    assert "0.5 1" in areas(area_table(usual(table_of(store, records)))).caption


def test_tables_say_how_many_tasks_their_medians_are_of():
    table = grid({"a": {"patch": 1.0, "zero": 0.2}, "b": {"patch": 0.5}}).assign(share=float("nan"))
    table.loc[table["evaluation_ablation"] == "zero", "n_programs"] = 2
    shown = evaluations(table)
    assert shown.headings[-1] == "Tasks" and [row[-1].text for row in shown.rows] == ["2 to 3", "3"]
    assert all(len(row) == len(shown.headings) == len(shown.numeric) for row in shown.rows)
    assert "tasks" in shown.caption and "programs" not in shown.caption


def grid(values):
    """A table of medians: {label: {evaluation ablation: value}}, found under patch, with the true size."""
    rows = [
        {"label": label, "ablation": "patch", "evaluation_ablation": name, "size": "true", "faithfulness": value}
        | {"faithfulness_low": value, "faithfulness_high": value, "n_programs": 3, "state": "defined"}
        for label, found in values.items()
        for name, value in found.items()
    ]
    return pd.DataFrame(rows)


def test_the_summary_says_what_the_evaluation_ablation_does():
    text = dependence(
        grid({"a": {"patch": 1.0, "zero": 0.2}, "b": {"patch": 0.8, "zero": 0.9}, "c": dict(patch=0.7, zero=0.1)})
    )
    assert (
        "what a finds under patch ablation keeps 1.00 [1.00, 1.00]" in text
        and "and 0.20 [0.20, 0.20] with zero" in text
    )
    assert "moves the median by 0.60 (median) and 0.80 at most" in text
    assert "Kendall's tau of 0.33" in text and "found under patch no method is the best under all" in text


def test_the_summary_says_when_nothing_depends_on_it():
    assert "changes no median faithfulness" in dependence(grid({"a": {"patch": 1.0, "zero": 0.98}}))
    assert dependence(grid({"a": {"patch": 1.0}})) is None
    assert dependence(faithfulness_table(usual(evaluation_table([], [])))) is None


def test_baselines_make_no_verdict():
    assert dependence(grid({"random": {"patch": 1.0, "zero": 0.0}})) is None


def test_an_evaluation_that_failed_and_a_damaged_cell_are_failures(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"))
    write_evaluation(store, records[0].key, {}, status="failed", kind="memory", reason="out of memory")
    table = failure_table(records, store.evaluations(), {"k" * 16: "its checksum differs"})
    assert table[["task", "kind", "reason"]].values.tolist() == [
        ["a", "evaluation: memory", "out of memory"],
        ["", "damaged", "its checksum differs"],
    ]


def test_the_report_has_figures_tables_and_the_sentence(evaluated_store, tmp_path, page_only):
    text = write_report(evaluated_store.path, tmp_path).read_text()
    assert '<section id="faithfulness">' in text and "Faithfulness depends on how a circuit is evaluated" in text
    assert '<section id="sensitivity">' in text and "Would this circuit be called faithful?" in text
    assert (tmp_path / "figures" / "evaluation.svg").exists() and (tmp_path / "figures" / "faithfulness.svg").exists()
    csv = pd.read_csv(tmp_path / "tables" / "evaluations.csv")
    assert len(csv) == 3 * 3 * 2 * 3 * 3 and set(csv["size"]) == {"true", "0.1", "0.5"}


def test_a_value_beyond_the_axis_is_a_triangle_at_its_edge(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"))
    write_evaluation(store, records[0].key, {"patch": [0.5, -3.0, 0.25]}, sizes=(0.05, 0.1, 0.5))
    table = faithfulness_table(usual(table_of(store, records)))
    (ax,) = [ax for ax in faithfulness(table).axes if ax.lines]
    (arrow,) = [line for line in ax.lines if line.get_marker() == "v"]
    assert list(arrow.get_xdata()) == [0.1] and list(arrow.get_ydata()) == [ax.get_ylim()[0]] == [-0.5]
    drawn = FaithfulnessChapter().figures(SimpleNamespace(faithfulness=table, areas=table))
    (plot,) = [each for each in drawn if each.name == "faithfulness"]
    assert BEYOND in plot.caption


def test_a_value_below_zero_is_inside_the_axis(tmp_path):
    store, records = cells_of(tmp_path, identity("a", "eap", "patch"))
    write_evaluation(store, records[0].key, {"patch": [0.5, -0.33, 0.25]}, sizes=(0.05, 0.1, 0.5))
    (ax,) = [ax for ax in faithfulness(faithfulness_table(usual(table_of(store, records)))).axes if ax.lines]
    assert ax.get_ylim()[0] < -0.35 and not [line for line in ax.lines if line.get_marker() in ("v", "^")]


def without_truth(tmp_path, *tasks, prompts=20):
    """A store of one method on language tasks, whose circuits were evaluated at two sizes."""
    store, records = cells_of(tmp_path, *(identity(task, "eap", "patch") for task in tasks))
    for record in records:
        store.write(record, {"scores": np.zeros((1, 5))})
        faithful = {"patch": [0.75, -0.5], "zero": [0.1, 0.2]}
        write_evaluation(store, record.key, faithful, sizes=(0.05, 0.1), prompts=prompts)
    return store.path, records


def summary_of(page):
    """The paragraphs of a page's summary."""
    return re.findall(r"<p>(.*?)</p>", re.search(r'<section id="summary">.*?</section>', page, re.DOTALL)[0])


def test_a_run_without_any_truth_says_what_was_measured_and_then_that_no_truth_is_known(tmp_path, page_only):
    path, records = without_truth(tmp_path, "mine.jsonl")
    lines = summary.summary_table(path).splitlines()
    assert lines[0].startswith("Faithfulness on 20 prompts of mine.jsonl, by the size of circuits")
    heads, row = ([part.strip() for part in line.split("  ") if part.strip()] for line in lines[2:4])
    assert heads == ["method", "ablation", "5 %", "10 %"] and row == ["eap", "patch", "0.75", "\u22120.50"]
    assert "no interval over tasks; `circuitmeter sensitivity" in lines[-2]
    assert lines[-1].startswith("No task of this benchmark has a known circuit (1 cells), so")
    kept, depends, no_truth = summary_of(write_report(path, brief=True).read_text(encoding="utf-8"))
    assert kept.startswith(
        "Under patch ablation circuits with 5 % / 10 % of the edges keep of the model&#39;s behaviour, on 20 prompts "
        "of mine.jsonl: eap 0.75 / \u22120.50 (1:"
    )
    assert "(circuits with 10 % of the edges)" in depends and "median" not in depends.partition("(median)")[0]
    assert no_truth == "None of these tasks has a known circuit, so no method is scored against one."
    assert summary_of((path / "brief.html").read_text(encoding="utf-8"))[-1].startswith(("None of these", "The report"))
    assert BehaviourChapter().words(SimpleNamespace(records=records, behaviours=())) == (NOT_MEASURED,)


def test_of_several_tasks_it_is_the_median(tmp_path):
    path, _ = without_truth(tmp_path, "ioi", "sva", prompts=None)
    lines = summary.summary_table(path).splitlines()
    assert lines[0].startswith("Median faithfulness over 2 tasks, by") and lines[2].split()[-1] == "tasks"
    results = read_results(path)
    kept, depends = FaithfulnessChapter().summary(results)
    assert "behaviour, in the median over 2 tasks: eap 0.75" in kept and "(median over 2 tasks, circuits" in depends
    assert "one task" not in " ".join(table.caption for table in FaithfulnessChapter().tables(results))


def test_a_method_on_fewer_tasks_is_not_compared_with_the_others_unsaid(tmp_path):
    """A median over one task may be over the easiest one."""
    asked = [identity(task, method, "patch") for method, tasks in FEWER.items() for task in tasks]
    store, records = cells_of(tmp_path, *asked)
    for record in records:
        high = record.identity.method == "eap-gp"
        faithful = {"patch": [0.9, 0.95] if high else [0.5, 0.6], "zero": [0.1, 0.2]}
        write_evaluation(store, record.key, faithful, sizes=(0.05, 0.1))
        store.write(record, {"scores": np.zeros((1, 5))})
    results = read_results(store.path)
    kept, *_ = FaithfulnessChapter().summary(results)
    assert "median over 3 tasks: eap 0.50 / 0.60 (1:" in kept
    assert kept.endswith(" Not listed, because they ran on fewer tasks: eap-gp and eap-ig.")
    table = results.faithfulness
    assert on_fewer_tasks(table) == {"eap-gp": 1, "eap-ig": 2}
    drawn = {plot.name: plot for plot in FaithfulnessChapter().figures(results)}
    assert all(
        plot.caption.startswith("Median over tasks (3; fewer where a name says so): ") for plot in drawn.values()
    )
    titles = [ax.get_title(loc="left") for ax in evaluation(table, "0.1").axes if ax.get_title(loc="left")]
    assert titles == ["eap", "eap-gp (1 task)", "eap-ig (2 tasks)"]
    figure = faithfulness(table)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == titles
    hollow = [line.get_markerfacecolor() == "white" for line in legend.get_lines()]
    assert hollow == [False, True, True]
    (ax,) = [ax for ax in figure.axes if ax.get_title(loc="left") == "patch ablation"]
    curves = {line.get_marker(): line for line in ax.lines}
    assert [curves[look.marker].get_markerfacecolor() == "white" for look in looks(FEWER).values()] == hollow
    assert ax.get_ylabel() == "Median faithfulness"


FEWER = {"eap": ("ioi", "sva", "acronyms"), "eap-gp": ("ioi@seed1",), "eap-ig": ("ioi", "ioi@seed1", "sva")}


def test_of_one_task_nothing_drawn_is_called_a_median(tmp_path):
    path, _ = without_truth(tmp_path, "ioi")
    results = read_results(path)
    assert on_fewer_tasks(results.faithfulness) == {}
    texts = [axis_of(results.faithfulness), *(plot.caption for plot in FaithfulnessChapter().figures(results))]
    drawn = [faithfulness(results.faithfulness), evaluation(results.faithfulness, "0.1")]
    texts += [text.get_text() for figure in drawn for text in figure.findobj(Text)]
    assert "Faithfulness" in texts and not [text for text in texts if "edian" in text]


def test_an_older_store_does_not_say_how_many_prompts(tmp_path):
    path, _ = without_truth(tmp_path, "ioi", prompts=None)
    assert "Faithfulness on the prompts of ioi, by" in summary.summary_table(path)


def test_where_methods_are_judged_by_a_truth_the_summary_does_not_list_what_they_keep(evaluated_store):
    texts = FaithfulnessChapter().summary(read_results(evaluated_store.path))
    assert len(texts) == 1 and texts[0].startswith("Faithfulness depends")


def test_compiled_models_are_not_asked_whether_they_do_the_task(tmp_path):
    _, records = cells_of(tmp_path, identity("tracr/hist", "eap", "patch", truth="1" * 16))
    assert BehaviourChapter().words(SimpleNamespace(records=records, behaviours=())) == ()
