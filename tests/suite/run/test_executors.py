"""Whatever runs the cells, the store is the same; executors are entry points; shares are fixed, whole and disjoint."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.family import families, shard_of_jobs
from circuitmeter.suite.run.events import Finished
from circuitmeter.suite.run.executors import EXECUTORS
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

GRID = {"task": "tracr/xproportion", "ablation": "zero"}
EVALUATION = {"ablation": ["patch"], "size": ["true"]}


@pytest.fixture
def benchmark(spec, user_method):
    mine = [user_method("return zeros(model)", "zeros.py"), user_method("os._exit(3)", "ends.py")]
    return spec(method=[*mine, "eap", {"name": "random", "seed": [0, 1]}], evaluation=EVALUATION, **GRID)


@pytest.fixture
def whole(benchmark, tmp_path):
    """The store of the benchmark, filled by ``serial``."""
    run(benchmark, tmp_path / "whole", executor="serial")
    return tmp_path / "whole"


def measured(store):
    """What evaluations say, without what they cost."""
    return {record.key: (record.circuits, record.rows) for record in Store(store).evaluations()}


def check_same(store, whole, contents):
    assert contents(store) == contents(whole) and len(contents(store)) == 5
    assert measured(store) == measured(whole) and len(measured(store)) == 4


def test_shares_are_fixed_whole_and_disjoint_and_keep_families_together(spec):
    probing = {"name": "subnetwork-probing", "seed": [0, 1, 2], "steps": 2}
    jobs = expand(spec(method=["eap", "random", "exact", probing], seed=list(range(9)), objective="l2")).jobs
    shares = [shard_of_jobs(jobs, (number, 4)) for number in range(1, 5)]
    assert sorted(job.key for each in shares for job in each) == sorted(job.key for job in jobs)
    assert sum(len(each) > 0 for each in shares) >= 3
    assert {len(family) for each in shares for family in families(each)} == {len(f) for f in families(jobs)}
    assert shard_of_jobs(jobs[::-1], (2, 4))[::-1] == shares[1]


def test_shards_fill_one_store_side_by_side_and_nothing_is_done_twice(benchmark, whole, contents, tmp_path):
    ran = [run(benchmark, tmp_path / "store", executor="serial", shard=(number, 3)).ran for number in (1, 2, 3)]
    assert sum(map(len, ran)) == 5 and not run(benchmark, tmp_path / "store", executor="serial").ran
    check_same(tmp_path / "store", whole, contents)


def test_an_executor_of_another_package_is_an_entry_point(spec, tmp_path, monkeypatch):
    from importlib.metadata import EntryPoint

    from circuitmeter.suite import registry

    (tmp_path / "their_package.py").write_text(
        "from circuitmeter.suite.run.executors import serial\n"
        "def execute(families, **given):\n    print('theirs')\n    yield from serial.execute(families, **given)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("theirs", "their_package:execute", "circuitmeter.executors")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    monkeypatch.setattr(EXECUTORS, "_plugins_loaded", False)
    monkeypatch.setattr(EXECUTORS, "_items", dict(EXECUTORS._items))
    assert run(spec(method="truth", **GRID), tmp_path / "store", executor="theirs").done == 1


def test_an_unknown_executor_and_a_wrong_address_are_one_line(spec, tmp_path):
    with pytest.raises(SpecError, match="no executor 'rey'. Did you mean 'ray'"):
        run(spec(), tmp_path / "store", executor="rey")
    with pytest.raises(SpecError, match="--executor local runs on none"):
        run(spec(), tmp_path / "store", address="localhost:1")
    assert not (tmp_path / "store").exists()


def test_jobs_of_submitit_where_there_is_no_slurm(benchmark, whole, contents, tmp_path):
    pytest.importorskip("submitit")
    finished = []
    summary = run(
        *(benchmark, tmp_path / "store"),
        executor="slurm",
        workers=2,
        device="cpu",
        on_event=lambda event: finished.append(event.job.key) if isinstance(event, Finished) else None,
    )
    assert len(finished) == len(set(finished)) == 5 and summary.done == 4 and len(summary.failed) == 1
    check_same(tmp_path / "store", whole, contents)
    again = run(benchmark, tmp_path / "store", executor="slurm", workers=1, device="cpu", retry_failed=True)
    assert len(again.ran) == 1 and len(again.failed) == 1  # a new row of the same failure, not the old one's


SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
first, last = map(int, re.search(r"--array=(\\d+)-(\\d+)", script).groups())
for task in range(first, last + 1):
    environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(last - first + 1)}}
    print("task", task, "ended with", subprocess.run(["bash", sys.argv[-1]], env=environment).returncode)
"""


def test_an_array_job_as_the_documentation_has_it(whole, contents, tmp_path, user_method):
    """The script of docs/clusters.md, given to a stand-in for sbatch; a share that fails stops no other."""
    page = (Path(__file__).parents[3] / "docs" / "clusters.md").read_text()
    script = next(block for block in page.split("```")[1::2] if "#SBATCH --array" in block).partition("\n")[2]
    (tmp_path / "small.toml").write_text(
        '[grid]\ntask = "tracr/xproportion"\nablation = "zero"\n'
        'method = ["zeros.py:discover", "ends.py:discover", "eap", {name = "random", seed = [0, 1]}]\n'
        '[evaluation]\nablation = ["patch"]\nsize = ["true"]\n'
    )
    script = (
        script.replace("run known-circuits-1", "run small.toml")
        .replace("--array=1-4", "--array=1-2")
        .replace("/shared/", f"{tmp_path}/")
    )
    (tmp_path / "job.sh").write_text(script)
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(SBATCH.format(python=sys.executable))
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IEXEC)
    path = f"{sbatch.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sbatch", "job.sh"], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    ended = [int(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("task")]
    assert sorted(ended)[-2:] == [0, 1] and set(ended) == {0, 1}, done.stderr  # the share of ends.py, and no other
    (store,) = (path.parent for path in tmp_path.rglob("store.json") if path.parent != whole)
    check_same(store, whole, contents)


@pytest.mark.slow
def test_ray_on_a_cluster_that_is_started_here(benchmark, whole, contents, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    summary = run(benchmark, tmp_path / "store", executor="ray", workers=2, device="cpu")
    assert summary.done == 4 and len(summary.failed) == 1 and "status 3" in summary.failed[0][1]
    check_same(tmp_path / "store", whole, contents)
    assert not run(benchmark, tmp_path / "store", executor="ray", workers=2, device="cpu").ran


@pytest.mark.slow
def test_results_come_back_from_nodes_that_do_not_see_the_store(benchmark, whole, contents, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # The mark is what tells a node that it sees the folder; here it is never made.
    monkeypatch.setattr("pathlib.Path.touch", lambda *given, **named: None)
    run(benchmark, tmp_path / "store", executor="ray", workers=1, device="cpu", only=["method=eap"])
    run(benchmark, tmp_path / "store", executor="ray", workers=1, device="cpu")
    check_same(tmp_path / "store", whole, contents)


@pytest.mark.slow
def test_ray_survives_a_node_that_is_lost_and_uses_one_that_joins(spec, contents, tmp_path, user_method, monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    slow = user_method("time.sleep(1)\nreturn zeros(model)")
    benchmark = spec(method=[slow, "random"], task="tracr/xproportion", ablation=["zero", "patch"], seed=[0, 1, 2, 3])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    doomed, events = cluster.add_node(num_cpus=2), []

    def listen(event):
        events.append(event)
        if sum(isinstance(each, Finished) for each in events) == 2:
            cluster.add_node(num_cpus=1)
            cluster.remove_node(doomed, allow_graceful=False)

    try:
        store = tmp_path / "store"
        summary = run(benchmark, store, executor="ray", device="cpu", address=cluster.address, on_event=listen)
    finally:
        cluster.shutdown()
    assert summary.done == 10 and not summary.failed
    run(benchmark, tmp_path / "whole", executor="serial")
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
