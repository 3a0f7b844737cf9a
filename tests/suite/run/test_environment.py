"""What a result was computed in is kept beside it, whole, and says nothing about who ran it."""

import getpass
import json
import os
import platform
import signal
import socket
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from circuitmeter.suite.run import environment as module
from circuitmeter.suite.run.environment import deterministic, environment, provenance, undisturbed
from circuitmeter.suite.run.events import Started
from circuitmeter.suite.run.installed import installed_versions
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.merge import merge
from circuitmeter.suite.store.store import Store

SMALL = {"task": "tracr/xproportion", "method": "eap", "ablation": "patch"}


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_every_result_names_an_environment_that_is_in_the_store(spec, tmp_path, executor):
    run(spec(**SMALL, evaluation={"ablation": "patch"}), tmp_path / "store", executor=executor)
    store = Store(tmp_path / "store")
    named = {outcome.provenance.environment for outcome in (*store.records(), *store.evaluations())}
    assert named == set(store.environment_keys()) and len(named) == 1 and check(store.path).whole
    found = store.environment(*named)
    assert found.torch.threads == 1 and found.torch.version == torch.__version__
    assert found.python.version == platform.python_version()
    assert found.packages["safetensors"] == version("safetensors")
    assert found.processor.name and found.torch.kernels == torch.backends.cpu.get_cpu_capability()


def test_a_worker_that_was_killed_leaves_a_row_whose_environment_is_there(spec, tmp_path, user_method, rows):
    def listen(event):
        if isinstance(event, Started):
            os.kill(event.process, signal.SIGKILL)

    waiting = spec(**SMALL | {"method": user_method("time.sleep(60)")})
    run(waiting, tmp_path / "store", workers=1, device="cpu", on_event=listen)
    [row] = rows(tmp_path / "store", "killed")
    assert row.provenance.environment in Store(tmp_path / "store").environment_keys()
    assert not check(tmp_path / "store").faults


def test_an_environment_goes_where_its_cells_go_and_is_missed_where_only_an_evaluation_names_it(spec, tmp_path):
    run(spec(**SMALL, evaluation={"ablation": "patch"}), tmp_path / "store", executor="serial")
    merge([tmp_path / "store"], tmp_path / "all")
    assert check(tmp_path / "all").whole
    for path in (tmp_path / "all" / "environments").iterdir():
        path.unlink()
    for record in Store(tmp_path / "all").records():
        assert record.done
        Store(tmp_path / "all").set_aside(record.key, "so that only the evaluation is left")
    faults = check(tmp_path / "all").faults
    assert [path for path in faults if path.startswith("environments/")]


def test_its_own_version_is_that_of_the_code_and_not_of_its_installation():
    from circuitmeter import __version__

    assert environment().packages["circuitmeter"] == __version__
    assert provenance("cpu").versions["circuitmeter"] == __version__


def test_who_ran_it_where_is_not_in_it():
    text = json.dumps(environment().as_json())
    for secret in (
        getpass.getuser(),
        socket.gethostname(),
        str(Path.home()),
        os.getcwd(),
        str(Path(__file__).parents[3]),
    ):
        assert len(secret) < 5 or secret not in text
    assert "/" not in text.replace(platform.platform(), "")


def test_packages_are_those_that_the_project_needs_and_what_these_need():
    found = installed_versions()
    direct = {"torch", "transformers", "datasets", "safetensors", "numpy", "scipy", "pandas", "pydantic", "matplotlib"}
    behind = {"huggingface-hub", "sympy", "pydantic-core", "tokenizers"}
    assert direct | behind | {"circuitmeter", "jinja2", "rich"} <= found.keys() and "ruff" not in found
    assert all(found[name] == version(name) for name in found)
    assert installed_versions("a-package-that-is-not-there") == {}


@pytest.mark.parametrize("found", ["highest", "high", "medium"])
def test_cells_never_compute_in_tf32_and_leave_the_process_as_it_was(found):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(found)
        with deterministic():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cuda.matmul.allow_tf32
            assert environment().torch.float32_matmul_precision == "highest"
            with undisturbed():  # a user's method
                torch.set_float32_matmul_precision("medium")
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == found
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("written", "commit"),
    [
        ({"url": "https://example.org/it.git", "vcs_info": {"vcs": "git", "commit_id": "c" * 40}}, "c" * 40),
        ({"url": "file:///a/folder", "dir_info": {}}, None),
        (None, None),
        ([], None),
    ],
)
def test_an_installed_copy_knows_the_commit_that_pip_wrote_down(written, commit, monkeypatch):
    text = None if written is None else json.dumps(written)
    installed = SimpleNamespace(read_text=lambda name: text if name == "direct_url.json" else None)
    monkeypatch.setattr(module, "distribution", lambda name: installed)
    assert module._installed_commit() == commit
