"""A benchmark on several models, of which one is not on this machine: the others run, and the reason is reported."""

import json
import shutil

import pytest

from circuitmeter.reports.read.results import read_results, within
from circuitmeter.reports.write import write_report
from circuitmeter.suite import cli
from circuitmeter.suite.errors import DataError, ModelAbsent, SpecError, TaskUnaskable
from circuitmeter.suite.plan.expand import expand, size
from circuitmeter.suite.plan.plan import plan
from circuitmeter.suite.plan.spec import Spec, benchmarks
from circuitmeter.suite.run import run
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.store import Store

REDUCED = ("eap", "random")


@pytest.fixture
def asked(monkeypatch):
    """The repositories that the hub was asked for, where it cannot be reached and nothing is in the cache."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    names = []

    def metadata(url, **options):
        assert options["timeout"] <= 5
        raise ConnectionError("no route to host")

    def snapshot(name, **options):
        assert options["local_files_only"], "the client tries for half a minute where there is no connection"
        names.append(name)
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return names


def small(**changes):
    grid = {"task": ["country-capital"], "model": ["gpt2", "mini"], "method": REDUCED, "ablation": ["patch", "zero"]}
    return Spec.of({"name": "small", "grid": grid | {"prompts": 6} | changes})


def test_cells_on_a_model_that_is_not_here_are_not_run_and_the_others_are(asked, tmp_path):
    summary = run.run(small(), tmp_path / "s", executor="serial")
    assert {job.cell.model for job in summary.ran} == {"mini"} and len(summary.ran) == 4 and not summary.failed
    assert "4 done, 0 undefined, 0 failed, 4 not run (gpt2)" in str(summary) and summary.exit_status == 0
    assert asked == ["gpt2"]  # once, not once a cell
    (line,) = [line for line in str(plan(small(), tmp_path / "s")).splitlines() if "not run" in line]
    assert line.startswith("  not run: 4 cells on gpt2: no model 'gpt2' on this machine")
    assert "`hf download gpt2 --revision 607a30d7" in line and "--model PATH" in line
    (stored,) = Store(tmp_path / "s").benchmark("small").not_run
    assert stored.model == "gpt2" and stored.combinations == 4
    checked = check(tmp_path / "s")
    assert checked.whole and "small: not run: 4 cells on gpt2: no model 'gpt2'" in str(checked)
    page = write_report(tmp_path / "s", tmp_path / "s").read_text(encoding="utf-8")
    assert "4 not run on gpt2" in page and "small was not run on gpt2 (4 cells): no model" in page


def test_a_model_that_only_leaves_out_is_not_looked_for(asked, tmp_path):
    found = plan(small(), tmp_path / "none", only=["model=mini*"])
    assert len(found.jobs) == 4 and not found.not_run and not asked
    with pytest.raises(SpecError, match="--only model=pythia leaves no cell; there model is gpt2, mini"):
        plan(small(), tmp_path / "none", only=["model=pythia"])


def recorded(path):
    return Store(path).benchmark("small")


def on_two(**changes):
    return small(model=["mini", "mini-seed1"], method=["magnitude"], ablation=["patch"], **{"prompts": 2, **changes})


def test_only_one_model_takes_nothing_from_what_is_recorded_of_the_others(tmp_path):
    path = tmp_path / "s"
    run.run(on_two(), path, executor="serial")
    before = recorded(path)
    assert before.hash and set(before.models) == {"mini", "mini-seed1"}
    for only in ("model=mini", "method=magnitude"):
        run.run(on_two(), path, executor="serial", only=[only])
        assert recorded(path) == before and check(path).whole
    Store(path).write_benchmark("small", before.but(models={}))  # as an older version wrote it
    run.run(on_two(), path, executor="serial", only=["model=mini"])
    assert recorded(path) == before
    shutil.rmtree(path / "cells" / before.models["mini-seed1"][0])
    run.run(on_two(), path, executor="serial", only=["model=mini"])
    assert check(path).coverage["small"]["missing"] == 1 and not check(path).whole


def test_one_model_after_the_other_is_the_whole_benchmark_and_another_benchmark_keeps_nothing(tmp_path):
    path = tmp_path / "s"
    for model in ("mini", "mini-seed1"):
        run.run(on_two(), path, executor="serial", only=[f"model={model}"])
        assert recorded(path).hash is None
        assert [each.model for each in recorded(path).not_run] == ["mini-seed1"] * (model == "mini")
    assert len(recorded(path).cells) == 2 == len(within(read_results(path), "small").records)
    run.run(on_two(prompts=3), path, executor="serial", only=["model=mini"])
    assert len(recorded(path).cells) == 1 and recorded(path).not_run[0].model == "mini-seed1"


def test_without_any_of_its_models_a_benchmark_is_refused(asked, tmp_path, capsys):
    with pytest.raises(ModelAbsent, match="no model 'gpt2' on this machine"):
        expand(small(model="gpt2"))
    with pytest.raises(ModelAbsent):
        run.run(small(), tmp_path / "s", only=["model=gpt2"])
    assert not (tmp_path / "s").exists()
    file = tmp_path / "s.toml"
    file.write_text('[grid]\ntask = "ioi"\nmodel = "gpt2"\nmethod = "eap"\nablation = "patch"\n')
    assert cli.main(["run", str(file), "--store", str(tmp_path / "s")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_data_set_of_the_hub_is_asked_for_once(asked, monkeypatch):
    from circuitmeter.tasks import hub

    monkeypatch.delenv(hub.FOLDER, raising=False)
    with pytest.raises(
        DataError, match=r"the Hugging Face hub cannot be reached. Run `hf download --repo-type"
    ) as error:
        next(hub.rows("blimp", "nyu-mll/blimp", None, "train", ["sentence_good"]))
    assert hub.FOLDER in str(error.value) and "\n" not in str(error.value) and asked == ["nyu-mll/blimp"]


def test_fewer_prompts_are_another_measurement_and_workers_use_them(tmp_path):
    all_of_them, few = expand(small(model="mini", prompts=None)).jobs, expand(small(model="mini")).jobs
    assert len({job.cell.data for job in (*all_of_them, *few)}) == 2
    counted = run.run_cell(few[0])[0].cost.forward
    assert counted < run.run_cell(all_of_them[0])[0].cost.forward / 10
    with pytest.raises(SpecError, match="prompts"):
        small(prompts=0)


def test_the_size_of_a_benchmark_is_counted_without_its_models(asked):
    assert size(small()) == 8 and not asked
    assert size(small(seed=[0, 1], ablation=["patch", "resample"])) == 2 * (2 + 1 + 2 + 2) and not asked
    quick = Spec.load("quick")
    assert size(quick) == len(expand(quick).cells)
    assert "gpt2-1" in benchmarks()


def test_a_plan_in_json_says_what_is_not_run(asked, tmp_path, capsys):
    file = tmp_path / "s.toml"
    file.write_text('[grid]\ntask = "ioi"\nmodel = ["gpt2", "mini"]\nmethod = "eap"\nablation = "patch"\n')
    assert cli.main(["plan", str(file), "--json"]) == 0
    ((entry),) = json.loads(capsys.readouterr().out)["not_run"]
    assert (entry["model"], entry["combinations"]) == ("gpt2", 1) and "cannot be reached" in entry["reason"]


def test_a_task_that_a_model_has_no_words_for_is_not_run_and_the_others_are(tmp_path):
    spec = small(task=["country-capital", "hypernymy"], model=["mini"])
    summary = run.run(spec, tmp_path / "s", executor="serial")
    assert {job.cell.task for job in summary.ran} == {"country-capital"} and summary.exit_status == 0
    assert "4 not run (mini (hypernymy))" in str(summary)
    (line,) = [line for line in str(plan(spec, tmp_path / "s")).splitlines() if "not run" in line]
    assert line.startswith("  not run: 4 cells on mini (hypernymy): this model's tokenizer has no ")
    with pytest.raises(TaskUnaskable, match="choose another model"):
        run.run(small(task=["hypernymy"], model=["mini"]), tmp_path / "none", executor="serial")


def test_a_task_with_too_few_words_on_a_model_is_not_run_and_the_others_are():
    expansion = expand(small(task=["acronyms", "country-capital"], model=["mini"]))
    assert {cell.task for cell in expansion.cells} == {"country-capital"}
    [left] = expansion.not_run
    assert left.model == "mini (acronyms)" and "0 are single tokens of this model" in left.reason
