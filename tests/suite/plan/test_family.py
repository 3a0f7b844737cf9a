"""Seeds that train together: which cells are a family, that each comes out as alone, what happens when one fails."""

import os
import textwrap
import time

import numpy as np
import pytest

from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.family import families
from circuitmeter.suite.run.events import Finished, Started
from circuitmeter.suite.run.run import run
from circuitmeter.suite.run.search import run_cell, run_family
from circuitmeter.suite.store.files import process_lives
from circuitmeter.suite.store.store import Store

PROBING = {"name": "subnetwork-probing", "steps": 20, "regularisations": [0.01], "seed": [0, 1, 2]}


@pytest.fixture
def together(tmp_path):
    """Writes a method that takes several seeds at once and logs them; the body makes ``found``, a list."""

    def write(body):
        source = f"""
            import os, signal, time
            from pathlib import Path
            import torch
            from circuitmeter import EdgeScores
            from circuitmeter.suite.methods import method

            @method({tmp_path.name!r}, paper="none", stochastic=True)
            def discover(model, data, *, ablation, objective, seeds):
                with open({str(tmp_path / "log")!r}, "a") as file:
                    file.write("+".join(map(str, seeds)) + "\\n")
                found = [EdgeScores(model.graph, torch.full(model.graph.exists.shape, float(seed))) for seed in seeds]
            """
        path = tmp_path / "mine.py"
        path.write_text(
            textwrap.dedent(source) + textwrap.indent(textwrap.dedent(body), "    ") + "\n    return found\n"
        )
        return {"name": f"{path}:discover", "seed": [0, 1, 2]}

    return write


def small(spec, method, **changes):
    return spec(**{"task": "tracr/hist", "ablation": "patch", "method": method, "objective": "l2"} | changes)


def test_seeds_of_one_cell_are_a_family_and_nothing_else_is(spec):
    jobs = expand(
        small(
            spec,
            [PROBING, {"name": "random", "seed": [0, 1]}, PROBING | {"steps": 30}],
            task=["tracr/hist", "tracr/hist@fixed"],
            ablation=["patch", "zero", "resample"],
        )
    ).jobs
    found = families(jobs)
    assert sorted(job.key for family in found for job in family) == sorted(job.key for job in jobs)
    for family in found:
        cells = [job.cell for job in family]
        together = cells[0].method == "subnetwork-probing" and cells[0].ablation != "resample"
        assert [cell.seed for cell in cells] == [0, 1, 2] if together else len(cells) == 1
        assert all(cell.as_json() | {"seed": 0} == cells[0].as_json() | {"seed": 0} for cell in cells)
    assert [family[0] for family in found] == sorted((family[0] for family in found), key=jobs.index)


def test_a_family_is_as_many_records_each_as_alone_with_its_share_of_the_cost(spec):
    jobs = families(expand(small(spec, PROBING)).jobs)[0]
    # Rounding of float32, which Adam blows up where a gradient is nearly zero.
    together, alone = list(run_family(jobs)), [run_cell(job) for job in jobs]
    for (record, tensors), (its, its_tensors) in zip(together, alone, strict=True):
        assert record.key == its.key and record.identity == its.identity
        np.testing.assert_allclose(tensors["scores"], its_tensors["scores"], rtol=0, atol=1e-4)
        assert record.recovery == its.recovery
        assert record.cost.shared_by == 3 and its.cost.shared_by is None
        assert record.cost.backward == its.cost.backward
        spared = its.cost.forward - record.cost.forward
        assert spared == pytest.approx(2 / 3 * 2 * 258)  # each prompt's clean and counterfactual run, made once for all


def test_a_family_runs_once_and_resumes_with_what_is_missing(spec, together, tmp_path, logged, log):
    method = together("")
    given = {"workers": 1, "device": "cpu", "executor": "serial"}
    run(small(spec, method | {"seed": [1]}), tmp_path / "store", **given)
    summary = run(small(spec, method), tmp_path / "store", on_event=log, **given)
    assert logged() == ["1", "0+2"] and summary.done == 3
    assert [[event.job.cell.seed for event in log.of(kind)] for kind in (Started, Finished)] == [[0, 2]] * 2
    store = Store(tmp_path / "store")
    found = {record.identity.seed: record for record in store.records()}
    assert {seed: np.nanmax(store.scores(found[seed].key)) for seed in found} == {0: 0.0, 1: 1.0, 2: 2.0}
    assert [found[seed].cost.shared_by for seed in (0, 1, 2)] == [2, None, 2]


def test_what_one_seed_does_wrong_is_no_other_s_failure(spec, together, tmp_path, logged, rows):
    method = together("if 1 in seeds: raise ValueError('one is wrong')")
    summary = run(small(spec, method), tmp_path / "store", executor="serial")
    assert logged() == ["0+1+2", "0", "1", "2"] and summary.exit_status == 1
    (failed,) = rows(tmp_path / "store", "error")
    assert failed.identity.seed == 1 and "one is wrong" in failed.reason
    assert "mine.py" in failed.reason and failed.diagnostics["traceback"]
    assert {record.identity.seed for record in rows(tmp_path / "store", None)} == {0, 2}


@pytest.mark.parametrize(
    ("body", "kind", "limit", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed", 60, "SIGKILL"),
        ("time.sleep(60)", "timeout", 0.5, "no result within 1.5 seconds"),
    ],
)
def test_a_family_whose_worker_is_lost_has_a_row_for_each_cell(
    spec, together, tmp_path, rows, body, kind, limit, reason
):
    benchmark = small(spec, together(body), timeout_seconds=limit)
    summary = run(benchmark, tmp_path / "store", workers=1, device="cpu")
    failed = rows(tmp_path / "store", kind)
    assert {record.identity.seed for record in failed} == {0, 1, 2} and len(summary.failed) == 3
    assert all(reason in record.reason for record in failed)


def test_a_process_that_nobody_waited_for_no_longer_lives():
    child = os.fork()
    if child == 0:
        os._exit(0)
    while process_lives(child):
        time.sleep(0.01)
    os.kill(child, 0)  # it is still in the table
    os.waitpid(child, 0)
