"""What a model does of a task is measured once a store before anything is searched; what is below a gate is not run."""

import pytest

from circuitmeter.reports.summary import summary_table
from circuitmeter.reports.write import write_report
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.gated import behind_gates
from circuitmeter.suite.plan.plan import plan
from circuitmeter.suite.plan.released import benchmark_hash
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.behaviours import measure_behaviours
from circuitmeter.suite.run.events import Measured
from circuitmeter.suite.run.progress import Progress
from circuitmeter.suite.run.run import run
from circuitmeter.suite.scoring import behaviour
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.merge import merge
from circuitmeter.suite.store.record import BehaviourRecord, Benchmark
from circuitmeter.suite.store.store import Store


def benchmark(gates=(), tasks=("ioi", "sva"), **changes):
    grid = {"task": tasks, "model": "mini", "method": ["random", "magnitude"], "ablation": "patch", "prompts": 6}
    contents = {"name": "small", "grid": grid, "gate": gates}
    contents["evaluation"] = {"ablation": "patch", "size": 0.1, "split": "validation"}
    return Spec.of(contents | changes)


GATES = [{"task": "*", "accuracy": 0.9}, {"task": "sva", "model": "mini", "logit_difference": 99}]


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gated") / "store"
    events = []
    return run(benchmark(GATES), folder, executor="serial", on_event=events.append), folder, events


def test_a_task_below_its_gate_is_not_run_and_the_reason_is_everywhere(gated):
    summary, folder, events = gated
    assert {job.cell.task for job in summary.ran} == {"ioi"} and len(summary.ran) == summary.done == 2
    assert "2 done, 0 undefined, 0 failed, 2 not run (mini (sva))" in str(summary) and summary.exit_status == 0
    (stored,) = Store(folder).benchmark("small").not_run
    assert (stored.model, stored.combinations) == ("mini (sva)", 2)
    assert stored.reason.startswith("accuracy 1.00, logit difference ")
    assert stored.reason.endswith(" on 6 prompts is below the benchmark's gate, logit difference 99")
    (line,) = [line for line in str(plan(benchmark(GATES), folder)).splitlines() if "not run" in line]
    assert line == f"  not run: {stored}"
    assert not plan(benchmark(GATES), folder).of("missing") and check(folder).whole
    page = write_report(folder, folder).read_text(encoding="utf-8")
    assert "2 not run on mini (sva)" in page and "below the benchmark&#39;s gate, logit difference 99" in page


def test_each_behaviour_is_measured_once_whatever_the_number_of_cells(gated, monkeypatch):
    _, folder, events = gated
    told = [event for event in events if isinstance(event, Measured)]
    assert [(event.task, event.model) for event in told] == [("ioi", "mini"), ("sva", "mini")]
    assert type(events[0]) is type(events[1]) is Measured  # before anything is planned or searched
    kept = list(Store(folder).behaviours())
    assert sorted((each.task, each.behaviour) for each in kept) == sorted((e.task, e.behaviour) for e in told)
    monkeypatch.setattr(behaviour, "behaviour", None)  # what is known is not measured again
    assert not run(benchmark(GATES), folder, executor="serial").ran


def test_it_is_measured_on_the_prompts_that_circuits_are_evaluated_on(gated):
    from circuitmeter.suite.plan.subject import limit_prompts, subject

    on = subject("ioi", "mini", prompts=6)
    held_out = limit_prompts(on.task.data("validation"), 6)
    (kept,) = [each for each in Store(gated[1]).behaviours() if each.task == "ioi"]
    assert kept.identity.data == held_out.hash and kept.identity.weights == on.model.weights_hash
    assert kept.behaviour == behaviour.behaviour(on.model, held_out)


def test_without_a_gate_that_is_missed_everything_runs(tmp_path):
    lenient = [{"task": "sva", "logit_difference": 99, "model": "gpt2"}, {"task": "ioi", "accuracy": 1.0}]
    assert len(run(benchmark(lenient), tmp_path / "s", executor="serial", only=["method=random"]).ran) == 2


@pytest.mark.parametrize("order", [(2, 16), (16, 2)])
def test_a_gate_is_asked_on_the_prompts_of_each_grid_whichever_comes_first(order, tmp_path):
    """The model's logit difference on the first two prompts is another than on sixteen."""

    def asked(least):
        grids = [
            {"task": "sva", "model": "mini", "method": "magnitude", "ablation": "patch", "prompts": n} for n in order
        ]
        gate = {"task": "sva", "logit_difference": least}
        return Spec.of({"name": "small", "grid": grids, "gate": [gate]})

    store = Store(tmp_path / "s", create=True)
    list(measure_behaviours(expand(asked(0)).jobs, store))
    found = {job.sources.prompts: store.behaviour(job.behaviour.key).behaviour for job in expand(asked(0)).jobs}
    higher = max(found, key=lambda n: found[n].logit_difference)
    kept, closed = behind_gates(expand(asked(found[higher].logit_difference)).jobs, store)
    assert [job.sources.prompts for job in kept] == [higher] and [each.combinations for each in closed] == [1]
    summary = run(asked(99), store.path, executor="serial")
    assert "2 not run (mini (sva))" in str(summary), "one model that is below on both is named once"


def test_a_gate_that_leaves_nothing_is_no_error(tmp_path):
    hard = [{"task": "sva", "logit_difference": 99}]
    summary = run(benchmark(hard), tmp_path / "s", executor="serial", only=["task=sva"])
    assert not summary.ran and summary.exit_status == 0 and "2 not run (mini (sva))" in str(summary)
    assert len(Store(tmp_path / "s").benchmark("small").cells) == 2  # of ioi: nobody has measured it yet
    assert str(plan(benchmark(hard), tmp_path / "s", only=["task=sva"])).startswith("small: 0 cells")


def test_a_report_warns_on_every_table_about_circuits(gated, tmp_path, monkeypatch):
    folder = gated[1]
    monkeypatch.setattr(behaviour, "DOES", 1.01)
    warning = "mini hardly does ioi (accuracy 1.00, logit difference "
    page = write_report(folder, tmp_path / "r", brief=True).read_text(encoding="utf-8")
    tables = {path.stem: path.read_text(encoding="utf-8") for path in (tmp_path / "r" / "tables").glob("*.md")}
    assert {name for name, text in tables.items() if warning in text} == {"faithfulness"}
    assert {"behaviour", "benchmarks", "provenance"} <= set(tables)
    assert page.count(warning) == 2  # under the table, and in the summary
    assert warning in (tmp_path / "r" / "brief.html").read_text(encoding="utf-8")
    assert warning in summary_table(folder)
    assert "sva" not in tables["behaviour"]  # no cell of it is reported
    monkeypatch.undo()
    assert "hardly" not in write_report(folder, tmp_path / "done", brief=True).read_text(encoding="utf-8")


def test_a_store_without_behaviours_is_read_and_completed(gated, tmp_path, monkeypatch):
    monkeypatch.setattr(behaviour, "DOES", 1.01)
    run(benchmark(), tmp_path / "s", executor="serial", only=["task=ioi"])
    for path in (tmp_path / "s" / "behaviours").iterdir():
        path.unlink()
    (tmp_path / "s" / "behaviours").rmdir()
    store = Store(tmp_path / "s")
    older = {name: value for name, value in store.benchmark("small").as_json().items() if name != "behaviours"}
    store.write_benchmark("small", Benchmark(**older))
    assert not check(tmp_path / "s").faults
    assert "hardly" not in write_report(tmp_path / "s", tmp_path / "old").read_text(encoding="utf-8")
    again = run(benchmark(), tmp_path / "s", executor="serial", only=["task=ioi"])
    assert not again.ran and len(Store(tmp_path / "s").behaviour_keys()) == 1
    assert "hardly does ioi" in write_report(tmp_path / "s", tmp_path / "new").read_text(encoding="utf-8")


def test_a_damaged_behaviour_is_named_and_measured_again(tmp_path):
    run(benchmark(), tmp_path / "s", executor="serial", only=["task=ioi", "method=random"])
    (path,) = (tmp_path / "s" / "behaviours").iterdir()
    written = path.read_text(encoding="utf-8")
    path.write_text(written.replace('"accuracy": 1.0', '"accuracy": 0.0'), encoding="utf-8")
    assert check(tmp_path / "s").faults == {
        f"behaviours/{path.name}": f"behaviours/{path.name} is not what was written: its checksum differs"
    }
    run(benchmark(), tmp_path / "s", executor="serial", only=["task=ioi", "method=random"])
    assert path.read_text(encoding="utf-8") == written and not check(tmp_path / "s").faults


def test_a_model_that_cannot_be_asked_ends_no_run(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("it broke")

    monkeypatch.setattr(behaviour, "behaviour", broken)
    only = ["task=ioi", "method=random"]
    assert len(run(benchmark(), tmp_path / "s", executor="serial", only=only, on_event=Progress()).ran) == 1
    assert "what mini does on ioi could not be measured: RuntimeError: it broke" in capsys.readouterr().err


def test_behaviours_are_merged_and_contradictions_told(gated, tmp_path):
    folder, other = gated[1], Store(tmp_path / "other", create=True)
    kept = next(iter(Store(folder).behaviours()))
    changed = {"accuracy": 0.5, "logit_difference": 1.0, "prompts": kept.behaviour.prompts}
    same = kept.behaviour.as_json() | {"logit_difference": kept.behaviour.logit_difference + 1e-5}
    other.write_behaviour(BehaviourRecord(**kept.as_json() | {"behaviour": same}))
    assert merge([folder, other.path], tmp_path / "close").clean
    worse = Store(tmp_path / "worse", create=True)
    worse.write_behaviour(BehaviourRecord(**kept.as_json() | {"behaviour": changed}))
    assert list(merge([folder, worse.path], tmp_path / "m").contradictions) == [f"behaviours/{kept.key}.json"]


def test_the_hash_of_a_benchmark_is_of_its_gates_too():
    of = {name: benchmark_hash(expand(benchmark(gates))) for name, gates in {"none": (), "some": GATES}.items()}
    stricter = benchmark_hash(expand(benchmark([{"task": "*", "accuracy": 0.95}, GATES[1]])))
    assert len({*of.values(), stricter}) == 3
    assert benchmark_hash(expand(benchmark([{"task": "greater-than", "accuracy": 0.9}]))) == of["none"]


@pytest.mark.parametrize(
    "gates, sentence",
    [
        ([{"task": "sva"}], "give accuracy, logit_difference or both"),
        ([{"accuracy": 0.5}], "[gate] lacks 'task'"),
        ([{"task": "sva", "accuracy": 1.5}], "[gate] accuracy is 1.5: "),
        ([{"task": "sva", "logit_difference": float("nan")}], "[gate] logit_difference is nan: "),
        ([{"task": "sva", "acuracy": 0.5}], "[gate] has no key 'acuracy'"),
        ([{"task": "svaa", "accuracy": 0.5}], "no task 'svaa'"),
    ],
)
def test_gates_that_ask_nothing_are_refused(gates, sentence):
    with pytest.raises(SpecError) as error:
        benchmark(gates)
    assert sentence in str(error.value)


def test_a_gate_on_a_task_without_answers_is_refused_before_anything_is_computed(tmp_path):
    asked = Spec.of(
        {
            "name": "small",
            "grid": {"task": "tracr/xproportion", "method": "eap", "ablation": "patch"},
            "gate": {"task": "tracr/*", "accuracy": 0.5},
        }
    )
    with pytest.raises(SpecError, match="the gate on tracr/xproportion cannot be measured: accuracy needs right and"):
        plan(asked, tmp_path / "s")
