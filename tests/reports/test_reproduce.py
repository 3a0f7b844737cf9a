"""Papers again: manifests that can be read, areas out of published points, and a verdict for every value."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from synthetic import evaluate_all, make_store

from circuitmeter import tasks
from circuitmeter.reports.draw.panels import has_bands
from circuitmeter.reports.read.curves import curve_tables
from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.reproduction import audit
from circuitmeter.reports.reproduction import manifest as manifests
from circuitmeter.reports.reproduction.entries import FromTable, PaperPart, ReportedValue
from circuitmeter.reports.reproduction.figures import has_numbers
from circuitmeter.reports.reproduction.judge import (
    FOLDED,
    judge,
    measured_elsewhere,
    table_of_verdicts,
    verdict_counts,
    verdict_frame,
)
from circuitmeter.reports.reproduction.manifest import Manifest
from circuitmeter.reports.reproduction.measured import Tables
from circuitmeter.reports.reproduction.write import _drawings, _of_the_report, _plots, write_reproduction
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.store.record import Benchmark
from circuitmeter.suite.store.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    store = make_store(tmp_path_factory.mktemp("small") / "s", programs=2, methods=("eap", "exact"), failures=False)
    evaluate_all(store)
    return store


def asking_for_all(store):
    """A benchmark of every cell and evaluation of a store."""
    evaluations = {found.identity.cell: found.key for found in store.evaluations()}
    return Benchmark(cells=[record.key for record in store.records()], evaluations=evaluations)


def compared(value, **changes):
    """What a value is compared with, as every manifest has to say it."""
    read = value if isinstance(value, dict) else value.model_dump()
    same = {"values": read["name"], "quantity": "an area", "unit": "fraction", "on": "a program"}
    return same | {"ours": "the same" if read.get("measured") or read.get("points") else ""} | changes


def paper(*values, **changes):
    contents = {"name": "some2024", "title": "Some paper", "citation": "Some 2024", "about": "It is about circuits."}
    comparisons = [compared(value) for value in values]
    return Manifest.model_validate({**contents, "value": values, "comparison": comparisons, **changes})


@pytest.mark.parametrize("name", manifests.papers())
def test_every_manifest_is_whole(name):
    found = manifests.load(name)
    names = [value.name for value in found.values]
    assert len(names) == len(set(names)) and (names or found.figure or found.gallery)
    parts = {part.name for part in found.part}
    assert {value.part for value in found.values} - {None} <= parts
    for drawn in (*found.figure, *found.gallery):
        assert drawn.part is None or found.benchmarks(drawn.part), drawn
    for part in found.part:
        if isinstance(part.benchmark, dict) and part.model is None:
            Spec.of({"name": f"{name}-{part.name}", **part.benchmark})
    said = {found.compared(name) for name in names}
    assert set(found.comparison) == said, [each.values for each in set(found.comparison) - said]  # none says nothing
    for note in found.note:
        assert bool(note.because) != bool(note.not_run), note
        name_of = note.values.replace("*", "x")
        assert found.because(name_of) if note.because else found.not_run(name_of), note


def test_no_such_paper_says_which_there_are():
    with pytest.raises(SpecError, match="miller2024"):
        manifests.load("miler2024")


def test_the_acdc_papers_tables_come_out_of_its_points_alone():
    found = judge(manifests.load("conmy2023"), None)
    verdicts = {item.value.name: item for item in found}
    assert len(found) == 96 + 8
    for name, area in (("corrupted, edges: KL IOI, acdc", 0.869), ("corrupted, nodes: KL IOI, acdc", 0.880)):
        assert verdicts[name].verdict == "recomputed" and round(verdicts[name].ours, 3) == area
    assert round(verdicts["zero, edges: KL Docstring, subnetwork-probing"].ours, 3) == 0.428
    assert verdicts["corrupted, edges: Tracr-Proportion, acdc"].verdict == "differs"
    # Nothing was run: areas of the paper's own points are no reproduction.
    assert sum(item.verdict == "recomputed" for item in found) == 24
    assert "reproduced" not in verdict_counts(found) and "24 recomputed from published points" in verdict_counts(found)
    # Every value has a verdict, and every one that is not as reported says why.
    assert all(item.because for item in found if item.verdict != "recomputed") and all(item.explained for item in found)


def test_what_differs_from_the_acdc_papers_tables_differs_in_its_released_points():
    found = {item.value.name: item for item in judge(manifests.load("conmy2023"), None) if item.verdict == "differs"}
    ours = {name: round(item.ours, 3) for name, item in found.items()}
    assert ours["corrupted, edges: Tracr-Proportion, acdc"] == 0.600  # 0.679 is printed
    assert ours["corrupted, nodes: Tracr-Proportion, acdc"] == 0.727  # 0.75
    assert ours["zero, edges: KL Greater-Than, acdc"] == 0.276  # 0.701
    assert ours["zero, nodes: KL Greater-Than, acdc"] == 0.653  # 0.887
    hisp = [item for name, item in found.items() if name.endswith("hisp")]
    assert len(hisp) == 8 and len(found) == 12
    # As they are kept here the points count what circuits hold; as released, what they leave out: areas below one half.
    assert all(0 < item.value.reported - item.ours < 0.065 for item in hisp)


def test_the_page_of_what_is_compared_is_that_of_the_manifests():
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    assert text == audit.audit_page(), f"{audit.COMMAND} writes it again"
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line[:3] in ("| `", "| a")]
    assert sum(int(row[1]) for row in rows) == sum(len(manifests.load(name).values) for name in manifests.papers())


def test_every_test_that_a_manifest_names_is_there():
    named = 0
    for name in manifests.papers():
        text = manifests.papers_folder().joinpath(f"{name}.toml").read_text(encoding="utf-8")
        for path, test in re.findall(r"\b(tests/[\w/.]*\w)(?:::(\w+))?", text):
            assert test and f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), (name, path, test)
            named += 1
    assert named >= 7


def test_the_acdc_papers_figures_are_drawn_from_its_points_alone(tmp_path, page_only):
    write_reproduction(manifests.load("conmy2023"), tmp_path / "no-store", tmp_path / "out")
    drawn = {path.stem: path for path in (tmp_path / "out" / "paper-figures").glob("*.svg")}
    assert set(drawn) == {"beside", "published_edges", "published_nodes", "kl"}
    text = drawn["published_edges"].read_text()
    assert all(task in text for task in ("IOI, corrupted, KL", "Greater-Than, zero, KL", "Tracr-Reverse,"))


@pytest.mark.parametrize("name", manifests.papers())
def test_every_value_has_a_verdict_and_a_reason_without_any_run(name):
    for item in judge(manifests.load(name), None):
        assert item.verdict in ("recomputed", "differs", "not comparable", "not run"), item.value.name
        assert item.value.source and (item.verdict == "recomputed" or item.because), item.value.name


def test_of_an_empty_store_every_number_of_a_run_is_said_to_be_lacking(tmp_path):
    tables = Tables(read_results(Store(tmp_path / "empty", create=True).path))
    for paper_name in ("conmy2023", "miller2024", "bhaskar2024"):
        found = manifests.load(paper_name)
        here = {part.name for part in found.part if part.model is None}
        lacking = [item for item in judge(found, tables) if item.value.measured and item.value.part in here]
        lacking = [item for item in lacking if not item.compared.unlike]
        assert lacking and {item.verdict for item in lacking} == {"not run"}
        assert {item.because for item in lacking} == {"the store holds no such result"}
    # What has no number to be had keeps its reason.
    hisp = [item for item in judge(manifests.load("conmy2023"), tables) if item.value.name.endswith("IOI, hisp")]
    assert hisp and all("released" in item.because for item in hisp if item.verdict == "not run")


def test_captions_say_whose_truth_and_speak_of_bands_only_where_there_are_some(small_store):
    results = read_results(small_store.path)
    small_store.write_benchmark("some2024-tracr", asking_for_all(small_store))
    part = PaperPart(name="tracr", benchmark={})
    shown = [{"part": "tracr", "figures": ["roc"], "caption": "The paper's truth is another."}]
    caption = _of_the_report(paper(part=[part], gallery=shown), Tables(read_results(small_store.path)))[0].caption
    assert "judged by the truth of the ablation it was run with" in caption
    assert caption.endswith("The paper's truth is another.")
    means, _ = curve_tables(results.store, results.recovery)
    few = means[means["kind"] == "roc"]
    assert not has_bands(few.assign(low=few["mean"], high=few["mean"])) and not has_bands(few.assign(low=float("nan")))
    assert has_bands(few.assign(low=few["mean"] - 0.1, high=few["mean"]))
    assert ("bands" in caption) == has_bands(few)


def test_cpr_is_taken_of_a_published_curve():
    found = {item.value.name: item for item in judge(manifests.load("mueller2025"), None)}
    for method, area in (("eap", 1.2024), ("eap-ig", 1.8337)):
        own = found[f"CPR as its authors print it: {method}"]
        assert own.verdict == "recomputed" and round(own.ours, 4) == area
        # Another project's curve is no test of the paper's number, also where it comes near it.
        other = found[f"CPR of the published curve: {method}"]
        assert other.verdict == "not comparable" and other.ours == own.ours and "another project" in other.because


UNITS = {
    "fraction": "auroc pessimistic_auc f1 precision recall faithfulness pearson_absolute accuracy complement_accuracy "
    "weight_density edge_density",
    "edges": "true_size",
    "nats": "kl",
}
OBJECTIVES = {"logit-difference": "logits", "probability-difference": "probability"}


def unit_of(measured):
    """The unit of what is measured; a task's own objective says that of what it is with everything or nothing kept."""
    if measured.column in ("full", "nothing"):
        return OBJECTIVES[tasks.load(measured.where["task"]).objective]
    return next(unit for unit, columns in UNITS.items() if measured.column in columns.split())


@pytest.mark.parametrize("name", manifests.papers())
def test_every_measured_value_is_of_what_its_part_runs_and_in_its_unit(name):
    found = manifests.load(name)
    for value in found.values:
        said = found.compared(value.name)
        if value.measured is None:
            assert not said.ours or value.points, value.name
            continue
        assert unit_of(value.measured) == said.unit, value.name
        (part,) = (part for part in found.part if part.name == value.part)
        grids = part.benchmark["grid"]
        where, methods = value.measured.where, {}
        if "panel" in where:  # a manual circuit, of every variant of its task
            where = where | {"task": next(t for t in grids[0]["task"] if where["panel"].startswith(t.split("@")[0]))}
        for grid in grids:
            for method in grid["method"]:
                called = method if isinstance(method, str) else method["name"]
                called += ", KL" * (grid.get("objective") == ["kl"] and len(grids) > 1)
                steps = method.get("steps", "") if isinstance(method, dict) else ""
                for task in grid["task"]:
                    methods.setdefault((task, called), set()).add(steps)
        (of_task,) = ({m: s for (t, m), s in methods.items() if t == where["task"]},)
        assert of_task, f"{value.name}: {where['task']} is run by no grid"
        if asked := where.get("variant"):
            wanted = where["steps"] if isinstance(where["steps"], list) else [where["steps"]]
            assert of_task[asked] & set(wanted), value.name
        if asked := where.get("asked"):
            assert asked in part.benchmark["evaluation"]["size"], value.name
        if value.measured.table == "evaluated" and "faithfulness" == value.measured.column:
            # The mean of several rows would be of several things: a cell is named by task, variant, steps and size.
            assert {"task", "variant", "steps", "asked"} <= set(where), value.name


EAP_IG_TASKS = {
    *("ioi@third-name+bos", "greater-than@paper+bos", "gender-bias@bos", "sva@bos"),
    *("country-capital@paper+bos", "hypernymy@paper+bos"),
}


@pytest.mark.parametrize(
    ("name", "tasks_of_gpt2"),
    [
        ("hanna2024", EAP_IG_TASKS),
        ("zhang2025", EAP_IG_TASKS),
        ("mueller2025", {"ioi@flip+bos"}),
        ("miller2024", {"ioi@bos"}),
        ("bhaskar2024", {"ioi@fresh", "greater-than", "gendered-pronoun"}),
    ],
)
def test_prompts_begin_as_the_papers_code_begins_them(name, tasks_of_gpt2):
    for part in manifests.load(name).part:
        if part.model:
            assert {task for grid in part.benchmark["grid"] for task in grid["task"]} <= tasks_of_gpt2
            others = {task for grid in (part.elsewhere or {}).get("grid", ()) for task in grid["task"]}
            assert not {task for task in others if "bos" in task or "paper" in task}  # a mini model knows no such token
    for part in manifests.load(name).part:
        Spec.of({"name": "x", **{key: part.benchmark[key] for key in ("grid",)}})  # there are such tasks


def test_a_manifest_says_of_every_value_what_makes_it_comparable(monkeypatch):
    value = {"name": "v", "reported": 0.5, "measured": {"table": "recovery", "column": "auroc"}}
    assert paper(value).compared("v").ours
    wrong = [
        ([], "the value 'v' is not said to be comparable"),
        ([compared({"name": "w"})], "the value 'v' is not said to be comparable"),
        ([compared(value, ours="")], "measured, but not said"),
        ([compared(value, unit="metres")], "unit"),
        ([compared(value, quantity="")], "quantity"),
    ]
    for comparison, message in wrong:
        with pytest.raises(ValidationError, match=re.escape(message)):
            paper(value, comparison=comparison)
    with pytest.raises(ValidationError, match="said, but not measured"):
        paper({"name": "v", "reported": 0.5}, comparison=[compared(value)])


def test_what_is_not_comparable_is_no_verdict_however_near(small_store, tmp_path, page_only):
    results = read_results(small_store.path)
    row = results.recovery[(results.recovery["label"] == "exact") & results.recovery["own"]].iloc[0]
    where = {"task": row["task"], "method": "exact", "ablation": row["ablation"], "own": True}
    value = ReportedValue(
        name="v", reported=row["auroc"], measured=FromTable(table="recovery", where=where, column="auroc")
    )
    made = paper(value, comparison=[compared(value, unlike="it is another area")])
    (found,) = judge(made, Tables(results))
    assert (found.verdict, found.because, found.ours) == ("not comparable", "it is another area", row["auroc"])
    assert found.explained and verdict_counts([found]) == "1 not comparable"
    # A reason is of what was done: where nothing was measured, there is nothing that could not be compared.
    (none,) = judge(made, None)
    assert (none.verdict, none.because) == ("not run", "the store holds no such result")
    write_reproduction(made, small_store.path, tmp_path / "out")
    (written,) = json.loads((tmp_path / "out" / "verdicts.json").read_text())["values"]
    assert written["difference"] is None and written["ours"] == row["auroc"]
    assert (written["quantity"], written["unit"], written["on"]) == ("an area", "fraction", "a program")
    page = (tmp_path / "out" / "reproduction.html").read_text()
    assert "an area (fraction); a program. Ours: the same." in page and "it is another area" in page


def test_a_value_within_its_tolerance_is_reproduced_and_no_further(small_store):
    results = read_results(small_store.path)
    row = results.recovery[(results.recovery["label"] == "exact") & results.recovery["own"]].iloc[0]
    where = {"task": row["task"], "method": "exact", "ablation": row["ablation"], "own": True}
    cells = FromTable(table="recovery", where=where, column="auroc")

    def verdict(reported, because=None):
        value = ReportedValue(name="v", reported=reported, tolerance=0.01, measured=cells)
        note = [{"values": "v", "because": because}] if because else []
        return judge(paper(value, note=note), Tables(results))[0]

    assert verdict(row["auroc"] - 0.009).verdict == "reproduced"
    far = verdict(row["auroc"] - 0.011)
    assert far.verdict == "differs" and not far.explained and far.ours == row["auroc"]
    assert verdict(row["auroc"] - 0.011, "another domain").explained


def test_a_number_of_another_model_is_no_verdict(small_store):
    results = read_results(small_store.path)
    task, model = (getattr(results.records[0].identity, name) for name in ("task", "model"))
    value = {"name": "v", "reported": 0.5, "part": "language"}
    where = {"task": task, "method": "eap", "evaluation_ablation": "patch", "asked": 0.1}
    value["measured"] = FromTable(table="evaluated", where=where, column="faithfulness")
    part = [PaperPart(name="language", model="gpt2", benchmark={})]
    (found,) = judge(paper(value, part=part), Tables(results), model)
    assert found.verdict == "other model" and found.ours is not None and "gpt2" in found.because
    assert judge(paper(value, part=part), Tables(results), "gpt2")[0].verdict == "not run"  # nothing there is of gpt2
    own = [PaperPart(name="language", model=model, benchmark={})]
    assert judge(paper(value, part=own), Tables(results), model)[0].verdict in ("reproduced", "differs")
    (missing,) = judge(paper(value, part=part), None)
    assert missing.verdict == "not run" and "--model" in missing.because


def of_another_model(store, **changes):
    """A paper whose part runs another task and other sizes on another model, and the model of a store."""
    results = read_results(store.path)
    task, model = (getattr(results.records[0].identity, name) for name in ("task", "model"))
    where = {"task": f"{task}@paper+bos", "method": "eap", "evaluation_ablation": "patch", "asked": 0.03}
    measured = {"table": "evaluated", "where": where, "column": "faithfulness"}
    part = {"name": "language", "model": "gpt2", "benchmark": {}, "sizes": [[0.03, 0.1]]}
    part["elsewhere"] = {"grid": [{"task": [task]}]}
    values = {
        "one": measured,
        "too small": {**measured, "where": where | {"asked": 0.01}},
        "undone": {**measured, "where": where | {"task": "hypernymy@bos"}},
        "unlike": measured,
        "unlike, undone": {**measured, "where": where | {"task": "hypernymy@bos"}},
    }
    values = [{"name": n, "reported": 0.5, "part": "language", "group": n, "measured": m} for n, m in values.items()]
    unlike = [compared(values[3], values="unlike*", unlike="it is of something else")]
    comparison = unlike + [compared(value) for value in values[:3]]
    store.write_benchmark("some2024-language", asking_for_all(store))
    made = paper(*values, comparison=comparison, part=[part], **changes)
    return made, model, Tables(read_results(store.path)), task


def test_what_was_measured_on_another_model_stands_beside_what_it_is_the_counterpart_of(small_store):
    made, model, tables, task = of_another_model(small_store)
    found = {item.value.name: item for item in judge(made, tables, model)}
    where = {"task": task, "method": "eap", "evaluation_ablation": "patch", "asked": 0.1}
    ours = tables.number(FromTable(table="evaluated", where=where, column="faithfulness"), model)
    assert ours is not None and (found["one"].verdict, found["one"].ours) == ("other model", ours)
    assert found["one"].because == f"ours is of {model}, the paper's of gpt2; ours are circuits of 10 % of its edges"
    assert found["one"].compared.ours == f"the same quantity, on {model}, {task}, circuits of 10 % of its edges"
    assert found["unlike"].verdict == "not comparable" and found["unlike"].ours == ours
    assert found["unlike"].because.startswith("it is of something else; and ours is of")
    for name in ("too small", "undone", "unlike, undone"):  # nothing was measured, so nothing could not be compared
        assert found[name].verdict == "not run" and found[name].ours is None and "gpt2" in found[name].because
    assert verdict_frame(list(found.values()))["difference"].isna().all()
    said = measured_elsewhere(made, list(found.values()), tables, model)
    cells = sum(record.done for record in tables.results.records)
    assert said.startswith(f"Measured on {model}: {cells} cells; 2 of the 5 values have a number of it beside them")
    assert f"An area, 2 values: {ours:.3f} to {ours:.3f} (reported: 0.500 to 0.500)" in said
    # Nothing is said of a store without such cells, or of the paper's own model.
    assert not measured_elsewhere(made, [], None, model) and not measured_elsewhere(made, [], tables, "gpt2")
    assert "no value of the paper is of what was measured there" in measured_elsewhere(made, [], tables, model)


def test_what_a_model_does_not_do_is_said_before_anything_else(small_store):
    made, _, tables, task = of_another_model(small_store, note=[{"values": "*", "not_run": "it needs GPT-2's heads"}])
    found = {item.value.name: item.because for item in judge(made, tables, "mini")}
    assert found["undone"] == found["unlike, undone"] == "mini does not do hypernymy"
    made, _, tables, _ = of_another_model(small_store)
    found = {item.value.name: item.because for item in judge(made, tables, "some/model")}
    assert found["one"] == "the store holds no such result of some/model"
    assert found["undone"].startswith(f"it is of hypernymy on gpt2; on another model, {task} are run")


def test_figures_with_ours_beside_the_papers_come_first_and_say_where_there_is_none(small_store, tmp_path, page_only):
    drawing = {"name": "alone", "draw": "lines", "title": "t", "caption": "c", "part": "language", "panel": "task"}
    drawing |= {"x": "asked", "y": "faithfulness", "labels": ["Share of the edges", "Faithfulness"]}
    figures = [drawing | {"name": "empty", "title": "Nothing here"}, drawing | {"table": "evaluated"}]
    made, model, _, _ = of_another_model(small_store, figure=figures)
    result = write_reproduction(made, small_store.path, tmp_path / "out", model)
    page = (tmp_path / "out" / "reproduction.html").read_text()
    assert result.elsewhere in page.replace("&#39;", "'")
    drawn = {path.stem: path.read_text() for path in (tmp_path / "out" / "paper-figures").glob("*.svg")}
    assert f"run on {model}, not on gpt2" in drawn["beside"] and f"not measured on {model}" in drawn["beside"]
    assert f"run on {model}" in drawn["alone"] and f"not measured on {model}" not in drawn["alone"]
    judged = judge(made, Tables(read_results(small_store.path)), model)
    tables = Tables(read_results(small_store.path))
    plots = _plots(made, judged, tables, model, _drawings(made, tables))
    assert [plot.name for plot in plots] == ["beside", "alone"] and "empty" not in drawn
    assert result.undrawn.startswith("Not drawn, because nothing") and result.undrawn.endswith(": Nothing here.")
    assert result.undrawn in page.replace("&#39;", "'") and "--model" not in result.undrawn
    # Of a store with nothing, the figure of reported values alone is not stamped with a model that has no number in it.
    write_reproduction(made, tmp_path / "none", tmp_path / "bare", model)
    bare = (tmp_path / "bare" / "paper-figures" / "beside.svg").read_text()
    assert f"not measured on {model}" in bare and "run on" not in bare
    assert [plot.name for plot in _plots(made, judge(made, None, model), None, model, ())] == ["beside"]


def test_every_counterpart_that_is_run_on_another_model_is_used():
    counted = 0
    for name in manifests.papers():
        found = manifests.load(name)
        for part in found.part:
            tasks_there = part.tasks_elsewhere()
            programs = [task.partition("@")[0] for task in tasks_there]
            assert len(programs) == len(set(programs)), (name, part.name)  # else it is not known which is meant
            for value in found.values:
                if value.part != part.name or value.measured is None or not part.elsewhere:
                    continue
                there = part.counterpart(value.measured)
                task = value.measured.where.get("task")
                if task is None:
                    continue  # of what only the paper's model has, as a note says
                assert (there is not None) == (task.partition("@")[0] in programs), value.name
                if there is None:
                    continue
                counted += 1
                assert there.where["task"] in tasks_there
                if "asked" in there.where:
                    assert there.where["asked"] in part.elsewhere["evaluation"]["size"], value.name
                if "variant" in there.where:
                    assert variants(part.elsewhere, there.where["task"], there.where["variant"]) & steps_of(there.where)
    assert counted > 80


def variants(benchmark, task, asked):
    """The steps with which a benchmark runs a method, called as a table calls it, on a task."""
    found = set()
    for grid in benchmark["grid"]:
        for method in grid["method"] if task in grid["task"] else ():
            called = method if isinstance(method, str) else method["name"]
            called += ", KL" * (grid.get("objective") == ["kl"] and len(benchmark["grid"]) > 1)
            if called == asked:
                found.add(method.get("steps", "") if isinstance(method, dict) else "")
    return found


def steps_of(where):
    return set(where["steps"]) if isinstance(where["steps"], list) else {where["steps"]}


@pytest.mark.parametrize("name", manifests.papers())
def test_reasons_are_words_and_no_names_of_tests(name):
    found = manifests.load(name)
    read = [found.about, *(note.because + note.not_run for note in found.note)]
    read += [text for each in found.comparison for text in (each.on, each.ours, each.but, each.unlike)]
    assert not [text for text in read if "test_" in text or "tests/" in text]


def test_numbers_are_taken_of_the_truth_and_parameters_asked_for(small_store):
    results = read_results(small_store.path)
    task = results.records[0].identity.task
    where = {"task": task, "method": "eap", "ablation": "patch", "truth_ablation": "zero"}
    asked = FromTable(table="recovery", where=where, column="true_size")
    (found,) = judge(paper(ReportedValue(name="v", reported=6.0, measured=asked)), Tables(results))
    assert found.verdict == "reproduced"  # zero's truth has six edges and patch's three
    none = asked.model_copy(update={"where": {**where, "steps": 3}})
    assert judge(paper(ReportedValue(name="v", reported=6.0, measured=none)), Tables(results))[0].verdict == "not run"


def test_a_methods_own_circuit_is_not_its_ranking(tmp_path):
    store = make_store(tmp_path / "s", programs=1, methods=("acdc",), ablations=("patch",), failures=False)
    results = read_results(store.path)
    where = {"task": "tracr/program0", "method": "acdc", "ablation": "patch"}
    cells = FromTable(table="circuits", where=where, column="precision", statistic="max")
    (found,) = judge(paper(ReportedValue(name="v", reported=1.0, measured=cells)), Tables(results))
    precisions = [circuit.recovery["patch"].precision for circuit in results.records[0].circuits]
    assert found.ours == max(precisions) and len(set(precisions)) == 2


def test_files_say_the_same_and_come_out_the_same(small_store, tmp_path, page_only):
    where = {"task": "tracr/program0", "method": "eap", "ablation": "patch", "own": True}
    cells = FromTable(table="recovery", where=where, column="auroc")
    same, source = {"group": "g", "series": "eap", "reported": 0.5}, "Table 3, the second of its five rows"
    values = [ReportedValue(name="a", row="r", tolerance=1, measured=cells, source=source, **same)]
    values.append(ReportedValue(name="<script>alert(1)</script>", row="s", **same))
    drawing = {"name": "drawn", "draw": "lines", "title": "t", "caption": "c", "table": "evaluated", "part": "language"}
    drawing |= {"panel": "task", "x": "asked", "y": "faithfulness", "labels": ["Share of the edges", "Faithfulness"]}
    made = paper(*values, part=[PaperPart(name="language", model="gpt2", benchmark={})], figure=[drawing])
    small_store.write_benchmark("some2024-language", asking_for_all(small_store))
    judged = write_reproduction(made, small_store.path, tmp_path / "first", "mini").judged
    write_reproduction(made, small_store.path, tmp_path / "second", "mini")
    assert verdict_counts(judged) == "1 reproduced, 1 not run"
    for path in (tmp_path / "first").rglob("*.*"):
        assert (tmp_path / "second" / path.relative_to(tmp_path / "first")).read_bytes() == path.read_bytes()
    written = json.loads((tmp_path / "first" / "verdicts.json").read_text())
    assert [row["verdict"] for row in written["values"]] == ["reproduced", "not run"] and written["model"] == "mini"
    page = (tmp_path / "first" / "reproduction.html").read_text()
    assert page.count("<script>") == 1 and "run on mini, not on gpt2" in page
    assert f"<p>Source: {source}</p>" in page  # long texts stand below the value, folded up
    # The other model is named in every figure that holds numbers of it, and in no other.
    for name, named in (("beside", False), ("drawn", True)):
        drawn = (tmp_path / "first" / "paper-figures" / f"{name}.svg").read_bytes()
        assert (b"run on mini, not on gpt2" in drawn) == named, name


def test_what_differs_comes_first_and_what_was_not_run_last(small_store):
    results = read_results(small_store.path)
    row = results.recovery[(results.recovery["label"] == "exact") & results.recovery["own"]].iloc[0]
    where = {"task": row["task"], "method": "exact", "ablation": row["ablation"], "own": True}
    measured = {"table": "recovery", "where": where, "column": "auroc"}
    said = {"undone": None, "same": row["auroc"], "far": row["auroc"] - 0.2, "known": row["auroc"] - 0.3}
    values = [{"name": name, "reported": 0.5 if at is None else at} for name, at in said.items()]
    values = [each | ({} if said[each["name"]] is None else {"measured": measured}) for each in values]
    made = paper(*values, note=[{"values": "known", "because": "another domain"}])
    table = table_of_verdicts(made, judge(made, Tables(results)))
    assert [cells[0].text for cells in table.rows] == ["far", "known", "same", "undone"]
    # The page has the columns of long texts below the value: the others fit a window.
    shown = table.folded(*FOLDED)
    assert shown.headings == ("Value", "Reported", "Ours", "Difference", "Tolerance", "Verdict")
    assert all(len(cells) == len(shown.headings) == len(shown.numeric) for cells in shown.rows)
    assert shown.rows[1][0].below == "measured here; another domain" and shown.rows[1][5].text == "differs"
    assert shown.rows[1][0].details == (("What is compared", "an area (fraction); a program. Ours: the same."),)


def test_a_panel_of_which_nothing_was_measured_says_that_the_store_is_empty():
    found = manifests.load("conmy2023")

    def labels(tables):
        (plot,) = [plot for plot in _plots(found, judge(found, tables), tables, None, ()) if plot.name == "beside"]
        return {ax.get_title(loc="left"): ax.get_xlabel() for ax in plot.draw().axes if ax.get_visible()}

    empty = labels(None)
    assert {title for title, label in empty.items() if label.startswith("not measured (store empty)")} == {
        "Tracr, ACDC"
    }
    assert all(label.endswith("as the paper\ntakes it") for label in empty.values())


@pytest.mark.parametrize("name", manifests.papers())
def test_the_figures_that_a_paper_is_said_to_have_are_those_that_are_drawn_or_lack_numbers(name):
    found = manifests.load(name)
    drawings = _drawings(found, None)
    titles = [plot.title for plot in _plots(found, judge(found, None), None, None, drawings)]
    titles += [drawing.title for drawing, table in drawings if not has_numbers(drawing, table)]  # of what is run
    later = {card.title for card in found.card} | {title for title in found.drawn if ", of the report on " in title}
    assert sorted(titles) == sorted(title for title in found.drawn if title not in later)
    said = f"{len(found.values)} value" if found.values else "no value"
    assert found.promised.startswith(f"judges {said}") and f"draws {len(found.drawn)} figure" in found.promised


def test_a_frame_of_nothing_is_empty():
    assert verdict_frame([]).empty and verdict_counts([]) == "no values"
