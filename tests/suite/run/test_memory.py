"""Memory that runs out: the batch is halved and the line says so; what one prompt at a time does not help is a row."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from second_device import second_device

from circuitmeter.suite.cli import main
from circuitmeter.suite.interchange.files import load
from circuitmeter.suite.intervention import plain_runs
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.run import search
from circuitmeter.suite.run.family_work import complete, let_go
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

EVALUATION = {"ablation": ["patch", "zero"], "size": ["true"]}


def small_machine(monkeypatch, largest):
    """A machine on which the runs of more than ``largest`` prompts at a time do not fit."""
    plain = plain_runs.Runs.__init__

    def fits(runs, model, batch, *given, **named):
        if len(batch.rows) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        plain(runs, model, batch, *given, **named)

    monkeypatch.setattr(plain_runs.Runs, "__init__", fits)
    search._evaluator.cache_clear()  # which keeps runs


def test_a_search_its_scoring_and_its_evaluation_take_fewer_prompts_at_a_time(spec, monkeypatch, tmp_path, capfd):
    benchmark = spec(method="eap", task="tracr/xproportion", ablation="zero", evaluation=EVALUATION)
    run(benchmark, tmp_path / "whole", executor="serial")
    small_machine(monkeypatch, 64)
    summary = run(benchmark, tmp_path / "store", executor="serial")
    assert summary.done == 1 and not summary.failed
    (record,), (whole,) = (list(Store(tmp_path / name).records()) for name in ("store", "whole"))
    assert 32 < record.cost.parameters["batch_size"] <= 64 and whole.cost.parameters["batch_size"] == 0
    assert record.cost.forward == whole.cost.forward and record.recovery["zero"].auroc == whole.recovery["zero"].auroc
    tensors = [Store(tmp_path / name).tensors(record.key)["scores"] for name in ("store", "whole")]
    assert np.allclose(*tensors, atol=1e-6, equal_nan=True)
    (rows,), (expected,) = (list(Store(tmp_path / name).evaluations()) for name in ("store", "whole"))
    assert rows.done and rows.rows[0].faithfulness == pytest.approx(expected.rows[0].faithfulness, abs=1e-5)
    said = capfd.readouterr().err
    at_a_time = f"out of memory; done again with {record.cost.parameters['batch_size']} prompts at a time"
    assert f"eap · tracr/xproportion · zero · answer-difference: {at_a_time}" in said
    assert f"scoring eap · tracr/xproportion · zero · answer-difference: {at_a_time}" in said
    assert f"evaluating eap · tracr/xproportion · zero · answer-difference: {at_a_time}" in said


def test_on_a_second_device_a_search_and_its_evaluation_take_fewer_prompts_at_a_time(
    spec, monkeypatch, tmp_path, capfd
):
    benchmark = spec(method="eap", task="tracr/xproportion", ablation="zero", evaluation=EVALUATION)
    (job,) = expand(benchmark).jobs
    run(benchmark, tmp_path / "whole", executor="serial")
    small_machine(monkeypatch, 64)
    store, freed = Store(tmp_path / "store", create=True), []
    with second_device() as far:
        monkeypatch.setattr(torch.get_device_module(far), "empty_cache", lambda: freed.append(far))
        (outcome,) = complete((job,), store, str(far))
        let_go(str(far))
    assert outcome.status == "done", outcome.reason
    found, expected = (Store(tmp_path / name) for name in ("store", "whole"))
    scores = [each.tensors(job.key)["scores"] for each in (found, expected)]
    assert np.allclose(*scores, atol=1e-6, equal_nan=True)
    (rows,), (whole,) = (list(each.evaluations()) for each in (found, expected))
    assert rows.rows[0].faithfulness == pytest.approx(whole.rows[0].faithfulness, abs=1e-5)
    said = capfd.readouterr().err
    for what in ("", "scoring ", "evaluating "):
        assert f"\n{what}eap · tracr/xproportion · zero · answer-difference: out of memory; done again" in f"\n{said}"
    assert len(freed) > said.count("done again"), "memory that torch kept is given back each time, and at the end"


def test_stability_and_controls_take_fewer_prompts_at_a_time(spec, monkeypatch, tmp_path, capfd):
    """They run the search again, which needed less at a time: without that, the whole evaluation would be lost."""
    structure = {
        "controls": {"nulls": ["reset-weights"], "subsets": 2, "edges": 2},
        "stability": {"over": ["prompts"], "resamples": 4},
    }
    benchmark = spec(method="eap", task="tracr/xproportion", ablation="zero", evaluation=EVALUATION | structure)
    run(benchmark, tmp_path / "whole", executor="serial")
    small_machine(monkeypatch, 64)
    assert not run(benchmark, tmp_path / "store", executor="serial").failed
    (found,), (expected,) = (list(Store(tmp_path / name).evaluations()) for name in ("store", "whole"))
    assert found.done and found.controls.complement.whole == pytest.approx(expected.controls.complement.whole, abs=1e-5)
    mine, whole = (each.stability["prompts"].points[0].jaccard for each in (found, expected))
    assert mine == pytest.approx(whole, abs=0.1)  # of four resamples, in which rounding may part equal scores
    assert "out of memory; done again with" in capfd.readouterr().err


def test_what_does_not_fit_one_prompt_at_a_time_is_a_row_and_the_rest_is_measured(spec, monkeypatch, tmp_path, capfd):
    tried, here = [], search.discover_here

    def discover(family, *given):
        if family[0].cell.method == "eap":
            tried.append(family[0].cost_only["batch_size"])
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory")
        return here(family, *given)

    monkeypatch.setattr(search, "discover_here", discover)
    benchmark = spec(method=["eap", "random"], task="tracr/xproportion", ablation="zero")
    summary = run(benchmark, tmp_path / "store", executor="serial")
    assert summary.done == 1 and [reason.partition(":")[0] for _, reason in summary.failed] == ["memory"]
    assert tried[0] == 0 and tried[-1] == 1 and all(b == a // 2 for a, b in zip(tried[1:], tried[2:], strict=False))
    assert "done again with one prompt at a time" in capfd.readouterr().err


@pytest.mark.parametrize("method", ["edge-pruning", "subnetwork-probing"])
def test_a_batch_that_changes_numbers_is_not_halved(spec, monkeypatch, tmp_path, method):
    tried = []

    def discover(family, *given):
        tried.append(family)
        raise MemoryError

    monkeypatch.setattr(search, "discover_here", discover)
    grid = {"task": "tracr/xproportion", "ablation": "zero", "objective": "l2"}
    run(spec(method=method, **grid), tmp_path / "store", executor="serial")
    (record,) = Store(tmp_path / "store").records()
    assert len(tried) == 1 and record.kind == "memory"


def test_memory_on_several_gpus_is_counted_together(monkeypatch):
    from types import SimpleNamespace

    from circuitmeter.suite.run.cost import Spent, measure_cost

    reset = []
    cuda = SimpleNamespace(
        device_count=lambda: 2,
        reset_peak_memory_stats=reset.append,
        synchronize=lambda device: None,
        max_memory_allocated=lambda device: 10 ** (device.index + 1),
    )
    monkeypatch.setattr(torch, "get_device_module", lambda device: cuda)
    for device, peak in {"cuda": 110, "cuda:1": 100}.items():
        spent = Spent()
        with measure_cost(device, spent):
            pass
        assert spent.peak_memory_bytes == peak
    assert [str(each) for each in reset] == ["cuda:0", "cuda:1", "cuda:1"]


def test_discover_and_evaluate_take_fewer_prompts_at_a_time(monkeypatch, tmp_path, capfd):
    asked = "--task tracr/xproportion --ablation zero".split()

    def found(name):
        path = tmp_path / name
        assert main(["discover", *asked, "--method", "eap", "--top", "6", "--out", str(path)]) == 0
        capfd.readouterr()
        assert main(["evaluate", str(path), *asked, "--json"]) == 0
        return load(path).scores.flat(), json.loads(capfd.readouterr().out)["rows"]

    scores, rows = found("whole.json")
    small_machine(monkeypatch, 64)
    assert main(["discover", *asked, "--method", "eap", "--top", "6", "--out", str(tmp_path / "less.json")]) == 0
    assert "eap: out of memory; done again with" in capfd.readouterr().err
    assert np.allclose(load(tmp_path / "less.json").scores.flat(), scores, atol=1e-6)
    assert main(["evaluate", str(tmp_path / "less.json"), *asked, "--json"]) == 0
    printed = capfd.readouterr()
    assert "evaluate: out of memory; done again with" in printed.err
    less = json.loads(printed.out)["rows"]
    assert [row["faithfulness"] for row in less] == pytest.approx([row["faithfulness"] for row in rows], abs=1e-5)
    assert not list(tmp_path.glob("*.partial"))


def test_sensitivity_and_stability_take_fewer_prompts_at_a_time(monkeypatch, tmp_path, capfd):
    asked, circuit = "--task tracr/xproportion --seed 0".split(), str(tmp_path / "found.json")
    search = ["--task", "tracr/xproportion", "--ablation", "zero", "--method", "eap"]
    assert main(["discover", *search, "--top", "6", "--out", circuit]) == 0
    capfd.readouterr()

    def cards(name):
        card = ["sensitivity", circuit, *asked, "--random", "2", "--prompts", "100", "--out", str(tmp_path / name)]
        assert main([*card, "--ablation", "patch", "zero"]) == 0
        told = capfd.readouterr().err
        resampled = ["stability", *search, "--top", "6", "--resamples", "5", "--out", str(tmp_path / f"{name}-s")]
        assert main(resampled) == 0
        told += capfd.readouterr().err
        settings = pd.read_csv(tmp_path / name / "settings.csv")["value"]
        (method,) = json.loads((tmp_path / f"{name}-s" / "card.json").read_text())["methods"]
        return settings, method["prompt_by_prompt"]["faithfulness"], told

    settings, one_by_one, told = cards("whole")
    assert "out of memory" not in told
    small_machine(monkeypatch, 64)
    less = cards("less")
    assert np.allclose(settings, less[0], atol=1e-5, equal_nan=True) and one_by_one == pytest.approx(less[1], abs=1e-5)
    assert "sensitivity: out of memory; done again with" in less[2]
    assert "stability of eap: out of memory; done again with" in less[2]
