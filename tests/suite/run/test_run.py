"""A run measures what is missing and nothing else; what goes wrong in one cell is a row and touches no other."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest

from circuitmeter.suite.errors import SpecError, StoreError
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.job import labels
from circuitmeter.suite.plan.plan import plan
from circuitmeter.suite.run.events import Finished, Outcome, Planned, SetAside, Started, Taken
from circuitmeter.suite.run.progress import Progress
from circuitmeter.suite.run.run import run, run_cell
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.record import Cell, failure
from circuitmeter.suite.store.store import Store


def test_a_finished_store_is_left_alone(spec, tmp_path, log, monkeypatch):
    first = run(spec(), tmp_path / "store", executor="serial")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "cells").rglob("*")}
    monkeypatch.setattr("multiprocessing.context.SpawnContext.Process", None)  # no worker is started for nothing
    second = run(spec(), tmp_path / "store", on_event=log)
    assert len(first.ran) == first.done == second.done == 20
    assert not second.ran and "nothing to do" in str(second) and not log.of(Started)
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "cells").rglob("*")}


def test_what_other_stores_have_finished_is_copied_and_not_run(spec, tmp_path, log):
    """A lab's index: each store has a part, one has a damaged cell and a failed one; only what nobody has is run."""
    asked = spec(method=["eap", "truth"], task="tracr/xproportion", evaluation={"size": [0.5], "ablation": ["patch"]})
    first = run(asked, tmp_path / "a", executor="serial", only=["ablation=patch"])
    run(asked, tmp_path / "b", executor="serial", only=["ablation=zero"])
    damaged, failed = list(first.ran)[:2]
    (tmp_path / "a" / "cells" / damaged.key / "scores.safetensors").write_bytes(b"damaged")
    other = Store(tmp_path / "c", create=True)
    other.write(failure(failed.cell, "error", "it broke there"), {})
    whole = run(asked, tmp_path / "whole", executor="serial")
    known = [tmp_path / "c", tmp_path / "a", tmp_path / "b"]
    again = run(asked, tmp_path / "new", executor="serial", known=known, on_event=log)
    assert set(again.ran) == {damaged} and again.done == whole.done and not again.failed
    (taken,) = log.of(Taken)
    assert [path.split("/")[-1] for path in taken.damaged] == [damaged.key]
    stores = [Store(tmp_path / name) for name in ("whole", "new")]
    assert check(tmp_path / "new").whole and stores[0].keys() == stores[1].keys()
    assert stores[0].evaluation_keys() == stores[1].evaluation_keys() != []
    for key in stores[0].keys():
        assert np.array_equal(stores[0].scores(key), stores[1].scores(key), equal_nan=True)


def test_a_record_holds_everything_that_is_promised(spec, tmp_path):
    run(spec(method="acdc", task="tracr/xproportion"), tmp_path / "store", executor="serial")
    store = Store(tmp_path / "store")
    record = next(record for record in store.records() if record.identity.ablation == "zero")
    assert (record.status, record.kind, record.reason) == ("done", None, None)
    assert list(record.recovery)[0] == "zero" and {"patch", "zero", "mean"} <= set(record.recovery)
    assert 0 <= record.recovery["patch"].auroc <= 1
    spent = {"seconds", "total_seconds", "forward", "backward", "peak_memory_bytes"}
    assert record.cost.model_fields_set == spent | {"parameters"}
    assert set(record.cost.parameters) == {"batch_size", "masks_at_once"}
    assert 0 < record.cost.seconds <= record.cost.total_seconds
    assert record.cost.forward > 0 and record.cost.peak_memory_bytes > 10**7
    made = record.provenance
    assert made.threads == 1 and made.deterministic_algorithms is True and made.device.type == "cpu"
    assert made.versions["torch"] and made.finished.endswith("+00:00")
    scores = store.scores(record.key)
    assert np.isfinite(scores).sum() == record.n_edges
    assert record.circuits, "acdc has a circuit a threshold"
    for i, native in enumerate(record.circuits):
        assert store.tensors(record.key)[f"circuit.{i}"].sum() == native.n_edges
        assert native.recovery["zero"].model_fields_set >= {"precision", "recall", "f1", "tpr", "fpr"}
    assert record.circuit_at_true_size.model_fields_set == {"n_edges", "output_error", "objective"}
    assert store.truth(record.identity.truth)
    assert set(store.benchmarks()["small"].cells) == set(store.keys())


def test_cells_on_features_have_a_result(spec, tmp_path):
    task = ["tracr-features/fraction_a", "tracr-rotated-features/fraction_a"]
    run(spec(method="truth", task=task, ablation=["patch"]), tmp_path / "store", executor="serial")
    records = list(Store(tmp_path / "store").records())
    assert [(record.status, record.reason) for record in records] == [("done", None)] * 2
    assert all(record.own_recovery.auroc == 1 for record in records)


def test_the_truth_is_found_by_the_truth(spec, tmp_path, rows):
    run(spec(method="truth"), tmp_path / "store", executor="serial")
    found = rows(tmp_path / "store", None)
    assert len(found) == 4
    for record in found:
        own = record.own_recovery
        assert own.auroc == own.precision == own.recall == own.exact == 1.0
        assert record.circuit_at_true_size.output_error < 1e-4
        assert record.circuit_at_true_size.n_edges == own.true_size


def test_undefined_cells_are_rows_that_cost_nothing(spec, tmp_path, rows, log):
    benchmark = spec(method=["eap", "exact"], objective="l2", task="tracr/xproportion")
    summary = run(benchmark, tmp_path / "store", executor="serial", on_event=log)
    undefined = rows(tmp_path / "store", "undefined")
    assert summary.undefined == len(undefined) == 2 and summary.exit_status == 0
    assert all("gradient" in row.reason and row.cost.total_seconds is None for row in undefined)
    assert {event.job.cell.method for event in log.of(Started)} == {"exact"}


def test_a_cell_that_is_no_longer_left_out_is_run(spec, tmp_path, rows):
    rule = {"except": [{"method": "exact", "because": "too slow"}]}
    grid = {"method": ["exact", "truth"], "task": "tracr/xproportion"}
    run(spec(**grid, **rule), tmp_path / "store", executor="serial")
    assert [row.reason for row in rows(tmp_path / "store", "undefined")] == ["left out of small: too slow"] * 2
    assert run(spec(**grid), tmp_path / "store", executor="serial").done == 4
    assert rows(tmp_path / "store", "undefined") == []


FAILURES = {
    "error": ("return 1 / 0", r"ZeroDivisionError: division by zero \(mine\.py, line \d+: return 1 / 0\)"),
    "nan": ("return {str(model.graph.edges[0]): float('nan')}", "NaN or infinite"),
    "memory": ("return torch.zeros(2 ** 50)", "memory"),
    "undefined": ("from circuitmeter.suite.errors import Undefined; raise Undefined('not for this task.')", "not for"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_a_row_and_the_others_are_run(spec, user_method, tmp_path, kind, rows):
    body, says = FAILURES[kind]
    bad = user_method(body)
    benchmark = spec(method=["truth", bad], task="tracr/xproportion", ablation=["zero", "patch"])
    summary = run(benchmark, tmp_path / "store", executor="serial")
    failed = rows(tmp_path / "store", kind)
    assert len(failed) == 2 and len(rows(tmp_path / "store", None)) == 2
    for row in failed:
        assert re.search(says, row.reason) and "\n" not in row.reason
        assert row.status == "failed" and row.provenance.versions["torch"]
    assert summary.exit_status == (0 if kind == "undefined" else 1)
    assert run(benchmark, tmp_path / "store", executor="serial").ran == {}


def test_an_unknown_edge_is_one_line(spec, user_method, tmp_path, rows):
    bad = user_method("return {'a9.h9->logits': 1.0}")
    run(spec(method=bad, task="tracr/xproportion", ablation="zero"), tmp_path / "store", executor="serial")
    (row,) = rows(tmp_path / "store", "error")
    assert "mine.py:discover: scores['a9.h9->logits'] = 1.0: no edge" in row.reason
    assert "traceback" not in row.diagnostics


def test_failures_are_retried_when_asked(spec, user_method, tmp_path, logged):
    flag = tmp_path / "repaired"
    method = user_method(
        f"log('ran')\nif not os.path.exists({str(flag)!r}):\n    raise ValueError('no flag')\nreturn zeros(model)"
    )
    benchmark, store = spec(method=method, task="tracr/xproportion"), tmp_path / "store"
    first = run(benchmark, store, executor="serial")
    assert first.exit_status == 1 and len(first.failed) == 2 and "--retry-failed" in str(first)
    again = run(benchmark, store, executor="serial")
    assert again.exit_status == 1 and not again.ran and len(again.failed) == 2
    assert [planned.state for planned in plan(benchmark, store).jobs] == ["failed", "failed"]
    flag.touch()
    repaired = run(benchmark, store, executor="serial", retry_failed=True)
    assert repaired.exit_status == 0 and repaired.done == 2 and logged() == ["ran"] * 4
    assert len(list((store / "failed").iterdir())) == 2


def test_damaged_cells_are_reported_and_run_again_and_the_rest_is_kept(spec, tmp_path, contents, log):
    benchmark, path = spec(method=["exact", "truth"], task="tracr/xproportion"), tmp_path / "store"
    run(benchmark, path, executor="serial")
    before = contents(path)
    victim = sorted(before)[1]
    scores = path / "cells" / victim / "scores.safetensors"
    data = bytearray(scores.read_bytes())
    data[-3] ^= 4
    scores.write_bytes(data)
    assert [p.job.key for p in plan(benchmark, path).of("missing")] == [victim], "a plan changes nothing"
    summary = run(benchmark, path, executor="serial", on_event=log)
    assert [event.key for event in log.of(SetAside)] == [victim] == list(summary.damaged)
    assert [event.job.key for event in log.of(Finished)] == [victim]
    assert contents(path) == before and (path / "damaged" / victim).is_dir()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"executor": "spark"}, "no executor 'spark'. Known: local"),
        ({"workers": 0}, "--workers 0: give 1 or more"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"only": ["method=none"]}, "leaves no cell"),
    ],
)
def test_requests_that_cannot_be_met_leave_no_store(spec, tmp_path, options, says):
    with pytest.raises(SpecError, match=says):
        run(spec(), tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


def test_a_newer_store_is_not_touched(spec, tmp_path):
    Store(tmp_path / "store", create=True)
    (tmp_path / "store" / "store.json").write_text('{"format": 2, "version": "7"}')
    with pytest.raises(StoreError, match="format 2"):
        run(spec(), tmp_path / "store")
    assert not any((tmp_path / "store" / "cells").iterdir())


def test_a_file_that_changed_under_way_is_not_measured_under_the_old_name(spec, user_method):
    method = user_method("return zeros(model)")
    (job,) = expand(spec(method=method, task="tracr/xproportion", ablation="zero")).jobs
    record, _ = run_cell(job)
    assert record.status == "done" and record.key == job.key
    before = Cell(**dict(job.cell) | {"version": "0" * 16})
    record, tensors = run_cell(dataclasses.replace(job, cell=before))
    assert record.kind == "error" and "changed after the run was planned" in record.reason and not tensors


def test_only_runs_what_it_names(spec, tmp_path):
    benchmark = spec(method=["truth", "exact"], task="tracr/xproportion")
    run(benchmark, tmp_path / "store", executor="serial", only=["method=truth", "ablation=zero"])
    (record,) = Store(tmp_path / "store").records()
    assert (record.identity.method, record.identity.ablation) == ("truth", "zero")
    states = [planned.state for planned in plan(benchmark, tmp_path / "store").jobs]
    assert sorted(states) == ["done", "missing", "missing", "missing"]


def test_a_plan_forecasts_what_was_never_run(spec, tmp_path, monkeypatch):
    from circuitmeter.suite.plan import forecast

    asked = spec(method=["eap", "eap-ig"], objective="answer-difference", task="tracr/xproportion", ablation="patch")
    assert plan(asked, tmp_path / "store").seconds == 2 * forecast.CERTIFIED_SECONDS
    monkeypatch.setattr(forecast, "is_ground_truth", lambda name: False)  # as of any other model
    assert plan(asked, tmp_path / "store").seconds > 0
    monkeypatch.setattr(forecast.Speed, "seconds", lambda self, cost: cost.gradient)
    n = forecast.subject_of(expand(asked).jobs[0]).data.n
    assert plan(asked, tmp_path / "store").seconds == n * (1 + 5)
    monkeypatch.setattr(forecast, "job_seconds", lambda job: None)
    assert "time unknown: a method declares no cost" in str(plan(asked, tmp_path / "store"))


def test_a_plan_counts_explains_estimates_and_computes_nothing(spec, tmp_path, rows):
    benchmark = spec(method=["eap", "truth"], objective="l2", task="tracr/xproportion")
    before = plan(benchmark, tmp_path / "store")
    assert before.seconds == 2.0 and "about 2.0 s" in str(before) and not (tmp_path / "store").exists()
    assert "2 undefined" in str(before) and "gradient at the clean run" in str(before)
    run(benchmark, tmp_path / "store", executor="serial", only=["ablation=zero"])
    after = plan(benchmark, tmp_path / "store")
    counts = after.as_json()["counts"]
    assert counts == {"done": 1, "missing": 1, "unevaluated": 0, "undefined": 2, "failed": 0}
    assert after.seconds == pytest.approx(rows(tmp_path / "store", None)[0].cost.total_seconds)
    assert json.loads(json.dumps(after.as_json()))["cells"][0]["identity"]["task"] == "tracr/xproportion"


def test_progress_is_a_plain_line_a_cell(spec, user_method, tmp_path):
    stream = io.StringIO()
    bad = user_method("raise ValueError('no')")
    benchmark = spec(method=["truth", "eap", bad], task="tracr/xproportion", objective="l2", ablation="zero")
    with Progress(stream) as progress:
        run(benchmark, tmp_path / "store", executor="serial", workers=1, on_event=progress)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "small: 2 cells to run on 1 worker"
    assert re.fullmatch(
        r"1/2 truth · tracr/xproportion · zero  \d+\.\d s \| 1 undefined, 0 failed \| ETA \d+\.\d s", lines[1]
    )
    assert lines[2].startswith("2/2 mine.py:discover · tracr/xproportion · zero · l2  ")
    assert "| 1 undefined, 1 failed | ETA 0.0 s | error: ValueError: no" in lines[2]
    assert len(lines) == 3 and "\x1b" not in stream.getvalue()


def test_cells_that_would_be_called_alike_are_told_apart_by_what_differs(spec, tmp_path):
    methods = ["eap", *({"name": "eap-ig", "steps": steps} for steps in (2, 5))]
    asked = spec(method=methods, task="tracr/xproportion", objective="l2", ablation="patch")
    found = plan(asked, tmp_path / "none")
    same = " · tracr/xproportion · patch · l2"
    assert set(found.labels.values()) == {f"eap{same}", f"eap-ig{same} · steps=2", f"eap-ig{same} · steps=5"}
    stream = io.StringIO()
    progress = Progress(stream, part="yours")
    progress(Planned(found, found.to_run(), 1))
    for job in found.to_run():
        progress(Finished(job, Outcome(job.key, "done", None, None, 1.0, None)))
    counts = [line.partition(" eap-ig")[0] for line in stream.getvalue().splitlines()[1:]]
    assert counts == ["yours 1/2", "yours 2/2"]  # where another benchmark was counted before
    told = [line.split("  ")[0].split(" ", 2)[2] for line in stream.getvalue().splitlines()[1:]]
    assert sorted(told) == [f"eap-ig{same} · steps=2", f"eap-ig{same} · steps=5"]  # eap has no meaning here


def test_no_two_cells_have_one_label(spec):
    (job,) = expand(spec(method="eap", task="tracr/xproportion", objective="l2", ablation="patch")).jobs

    def other(**changes):
        return dataclasses.replace(job, cell=job.cell.model_copy(update=changes))

    assert list(labels([job, job]).values()) == [str(job)]
    named = set(labels([job, other(model="mini")]).values())
    assert named == {f"{job} · model={job.cell.model}", f"{job} · model=mini"}
    few = dataclasses.replace(other(data="0" * 16), sources=dataclasses.replace(job.sources, prompts=8))
    assert set(labels([job, few]).values()) == {f"{job} · prompts=all", f"{job} · prompts=8"}
    # What nothing in a label tells apart, such as other weights or long values, is told by its key.
    long = [other(parameters={"avoid": "x" * 90 + end}) for end in "ab"]
    for alike in ([job, other(weights="f" * 16)], long):
        assert set(labels(alike).values()) == {f"{job} · cell {one.key[:4]}" for one in alike}


def test_progress_in_a_terminal_says_the_same(spec, tmp_path):
    stream = io.StringIO()
    with Progress(stream, live=True) as progress:
        run(
            spec(method="truth", task="tracr/xproportion"),
            tmp_path / "store",
            executor="serial",
            workers=1,
            on_event=progress,
        )
    assert "2/2 truth · tracr/xproportion · zero" in stream.getvalue() and "\x1b" in stream.getvalue()


def test_the_remaining_time_is_that_of_the_methods_that_remain(spec, tmp_path):
    jobs = expand(spec(method=["truth", "exact"], task="tracr/xproportion", objective="l2")).jobs
    progress = Progress(io.StringIO())
    found = plan(spec(method=["truth", "exact"], task="tracr/xproportion", objective="l2"), tmp_path / "none")
    progress(Planned(found, jobs, 1))
    assert progress.eta_seconds is None
    by_method = {method: [job for job in jobs if job.cell.method == method] for method in ("truth", "exact")}
    progress(Finished(by_method["exact"][0], Outcome("key", "done", None, None, 100.0, None)))
    progress(Finished(by_method["truth"][0], Outcome("key", "done", None, None, 2.0, None)))
    assert progress.eta_seconds == pytest.approx(102.0)
    progress(Finished(by_method["exact"][1], Outcome("key", "done", None, None, 100.0, None)))
    assert progress.eta_seconds == pytest.approx(2.0)


def test_results_of_an_older_key_version_are_kept_and_it_is_said_why_they_are_not_reused(
    spec, tmp_path, monkeypatch, contents
):
    benchmark, store = spec(method="truth", task="tracr/hist"), tmp_path / "store"
    with monkeypatch.context() as older:
        older.setattr("circuitmeter.suite.plan.expand.KEY_VERSION", 1)
        run(benchmark, store, executor="serial")
    before = contents(store)
    found = plan(benchmark, store)
    assert len(found.of("missing")) == 2
    assert "not reused: 2 cells made under key version 1, and this is 3: a model's hash covers" in str(found)
    assert list(found.as_json()["not_reused"].values()) == [2]
    shown = io.StringIO()
    assert len(run(benchmark, store, executor="serial", on_event=Progress(shown)).ran) == 2
    assert "not reused: 2 cells made under key version 1" in shown.getvalue()
    after = contents(store)
    assert len(after) == 4 and before.items() <= after.items()
