"""Whatever runs the cells, the store is the same; executors are entry points; shares are fixed, whole and disjoint."""

import os
import shutil
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from circuitmeter.reports import write
from circuitmeter.suite.cli import main
from circuitmeter.suite.errors import SpecError
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.family import families, shard_of_jobs
from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.run.events import Finished
from circuitmeter.suite.run.executors import EXECUTORS, serial, slurm
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

GRID = {"task": "tracr/xproportion", "ablation": "zero"}
EVALUATION = {"ablation": ["patch"], "size": ["true"]}


MINE = """
import os
import torch
from circuitmeter import EdgeScores

def discover(model, data, *, ablation, objective, seed):
    {}
    return EdgeScores(model.graph, torch.zeros(model.graph.exists.shape))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two methods of a user's own: ``zeros.py``, and ``ends.py``, which ends its process."""
    folder = tmp_path_factory.mktemp("executors")
    (folder / "zeros.py").write_text(MINE.format("pass"))
    (folder / "ends.py").write_text(MINE.format("os._exit(3)"))
    return folder


@pytest.fixture(scope="module")
def benchmark(folder):
    mine = [f"{folder / name}:discover" for name in ("zeros.py", "ends.py")]
    grid = {"method": [*mine, "eap", {"name": "random", "seed": [0, 1]}]} | GRID
    return Spec.of({"name": "small", "grid": grid, "evaluation": EVALUATION})


@pytest.fixture(scope="module")
def whole(benchmark, folder):
    """The store of the benchmark, filled by ``serial``. Read-only."""
    run(benchmark, folder / "whole", executor="serial")
    return folder / "whole"


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


def check_jobs(benchmark, whole, contents, store, jobs):
    """That so many jobs do what is missing, and what failed before anew."""
    failed = run(benchmark, store, executor="serial", only=["method=ends.py:discover"]).failed
    (before,) = Store(store).records()
    finished = []
    summary = run(
        *(benchmark, store),
        executor="slurm",
        workers=jobs,
        device="cpu",
        retry_failed=True,
        on_event=lambda event: finished.append(event.job.key) if isinstance(event, Finished) else None,
    )
    assert len(finished) == len(set(finished)) == 5 and summary.done == 4
    assert len(failed) == len(summary.failed) == 1
    check_same(store, whole, contents)
    # The row of the failure is a new one: the row that was there is kept.
    assert [path.name.startswith(before.key) for path in (store / "failed").iterdir()] == [True]


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_jobs_of_submitit_where_there_is_no_slurm(benchmark, whole, contents, tmp_path, jobs):
    """Each job is two new interpreters, its own and its workers' server, which take seconds to import torch."""
    pytest.importorskip("submitit")
    check_jobs(benchmark, whole, contents, tmp_path / "store", jobs)
    assert len(list((tmp_path / "store.slurm").glob("*_submitted.pkl"))) == jobs


def test_each_job_has_a_share_of_its_own(benchmark, whole, contents, tmp_path, monkeypatch):
    """Jobs that run here, at once, on no worker: what they are given and what comes of it is as with submitit."""
    submitted = []

    def submit(function, share, *given):
        submitted.append([job.key for family in share for job in family])
        function(share, *given)
        return SimpleNamespace(job_id=len(submitted), state="COMPLETED", done=lambda: True)

    monkeypatch.setattr(slurm, "_executor", lambda *given: SimpleNamespace(batch=nullcontext, submit=submit))
    monkeypatch.setattr(slurm.local, "execute", serial.execute)
    check_jobs(benchmark, whole, contents, tmp_path / "store", 2)
    assert len(submitted) == 2 and all(submitted) and not set(submitted[0]) & set(submitted[1])


SBATCH = """#!{python} -S
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
first, last = map(int, re.search(r"--array=(\\d+)-(\\d+)", script).groups())
for task in range(first, last + 1):
    environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(last - first + 1)}}
    subprocess.run(["bash", sys.argv[-1]], env=environment, check=True)
"""
# In place of the command: it writes down the words that it is given, which the test gives to ``main`` in this process.
COMMAND = "#!/bin/bash\nprintf '%s\\n' \"$@\" END >> words\n"


def executable(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def test_an_array_job_as_the_documentation_has_it(whole, folder, contents, tmp_path, monkeypatch, capsys):
    """The script of docs/clusters.md, given to a stand-in for sbatch; a share that fails stops no other."""
    page = (Path(__file__).parents[3] / "docs" / "clusters.md").read_text()
    script = next(block for block in page.split("```")[1::2] if "#SBATCH --array" in block).partition("\n")[2]
    (tmp_path / "small.toml").write_text(
        '[grid]\ntask = "tracr/xproportion"\nablation = "zero"\n'
        'method = ["zeros.py:discover", "ends.py:discover", "eap", {name = "random", seed = [0, 1]}]\n'
        '[evaluation]\nablation = ["patch"]\nsize = ["true"]\n'
    )
    for name in ("zeros.py", "ends.py"):
        shutil.copy(folder / name, tmp_path)
    script = (
        script.replace("run known-circuits-1", "run small.toml")
        .replace("--array=1-4", "--array=1-2")
        .replace("/shared/", f"{tmp_path}/")
    )
    (tmp_path / "job.sh").write_text(script)
    executable(tmp_path / "bin" / "sbatch", SBATCH.format(python=sys.executable))
    executable(tmp_path / "bin" / "circuitmeter", COMMAND)
    # A report that nobody looks at here takes longer than the cells.
    monkeypatch.setattr(write, "write_report", lambda _store, out, **_told: out / "report.html")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["sbatch", "job.sh"], check=True)
    commands = [words.splitlines() for words in Path("words").read_text().split("END\n")[:-1]]
    assert len(commands) == 2 and commands[0] != commands[1]
    ended = [main(words) for words in commands]
    assert sorted(ended) == [0, 1], capsys.readouterr().err  # the share of ends.py, and no other
    (store,) = (path.parent for path in tmp_path.rglob("store.json"))
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
