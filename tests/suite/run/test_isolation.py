"""A user's method changes no other cell's result, and not the scoring of its own."""

import os
import signal
from dataclasses import replace

import pytest

from circuitmeter.suite.errors import one_line
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan.subject import subject
from circuitmeter.suite.run import discovery
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

HONEST = ["eap", "truth", {"name": "random", "seed": [0]}]
POISONS = {
    "weights": "for w in model.parameters():\n    w.data.mul_(0.5)\nreturn zeros(model)",
    "data": "data.clean.fill_(1)\nreturn zeros(model)",
    "scorer": "import circuitmeter.suite.scoring.recovery as module\nmodule.recovery = lambda *given: {'auroc': 1.0}\n"
    "import circuitmeter.suite.run.search as search\nsearch._scored = None\nreturn zeros(model)",
    "engine": "type(model).run = lambda *given, **named: 1 / 0\nreturn zeros(model)",
    "folder": "os.chdir('/')\nreturn zeros(model)",
    "dtype": "torch.set_default_dtype(torch.float64)\nreturn zeros(model)",
    "gradients": "torch.set_grad_enabled(False)\nreturn zeros(model)",
    "threads": "torch.set_num_threads(7)\nreturn zeros(model)",
    "seed": "import random\nrandom.seed(1)\ntorch.manual_seed(1)\nreturn zeros(model)",
    "handlers": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.alarm(1)\nreturn zeros(model)",
    "fork": "os.fork()\nreturn zeros(model)",
    "fork that stays": "if not os.fork():\n    time.sleep(600)\nreturn zeros(model)",
    "fork that fails": "if not os.fork():\n    raise ValueError('in the copy')\ntime.sleep(0.5)\nreturn zeros(model)",
    "stdout": "print('{}')\nos.close(1)\nreturn zeros(model)",
}
ENDS = {
    "sys.exit": ("import sys; sys.exit(3)", "killed", "the method called sys.exit(3)"),
    "os._exit": ("os._exit(4)", "killed", "the process ended with status 4"),
    "signal": ("os.kill(os.getpid(), signal.SIGSEGV)", "killed", "ended by SIGSEGV"),
    "exec": ("os.execv('/bin/true', ['true'])", "killed", "the process ended with status 0"),
    "interrupt": ("raise KeyboardInterrupt", "error", "KeyboardInterrupt"),
    "words": ("raise ValueError('\\x1b[31m\\x00red\\n' + 9000 * 'x' + '\\ud800')", "error", "red xxx"),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What the built-in methods find when nobody else runs."""
    from circuitmeter.suite.plan.spec import Spec

    store = tmp_path_factory.mktemp("alone") / "store"
    grid = {"task": "tracr/xproportion", "method": HONEST, "ablation": "zero"}
    run(Spec.of({"name": "small", "grid": grid}), store, executor="serial")
    return store


@pytest.mark.parametrize("executor", ["local", "serial"])
def test_no_poison_reaches_another_cell_nor_its_own_scores(spec, user_method, contents, tmp_path, alone, executor):
    poisons = [user_method(body, f"poison{i}.py") for i, body in enumerate(POISONS.values())]
    benchmark = spec(task="tracr/xproportion", method=[*poisons, *HONEST], ablation="zero")
    before, folder = contents(alone), os.getcwd()
    summary = run(benchmark, tmp_path / "store", workers=1, device="cpu", executor=executor)
    assert len(summary.ran) == len(POISONS) + len(HONEST) and os.getcwd() == folder
    after = contents(tmp_path / "store")
    assert before.items() <= after.items()
    rows = {record.identity.method: record for record in Store(tmp_path / "store").records()}
    for i, name in enumerate(POISONS):
        record = rows[f"poison{i}.py:discover"]
        if name in ("weights", "data"):
            what = {"weights": "the model's weights", "data": "the prompts"}[name]
            assert record.status == "failed" and f"changed {what} while it searched" in record.reason
        else:
            assert record.status == "done", (name, record.reason)
            assert record.recovery["zero"].auroc == 0.5, name  # zeros rank nothing, whoever says otherwise


@pytest.mark.parametrize("executor", ["local", "serial"])
def test_however_a_method_ends_its_row_says_so_and_the_others_are_measured(
    spec, user_method, contents, tmp_path, alone, executor
):
    methods = [user_method(body, f"ends{i}.py") for i, (body, _, _) in enumerate(ENDS.values())]
    benchmark = spec(task="tracr/xproportion", method=[*methods, *HONEST], ablation="zero")
    run(benchmark, tmp_path / "store", workers=1, device="cpu", executor=executor)
    assert contents(alone).items() <= contents(tmp_path / "store").items()
    rows = {record.identity.method: record for record in Store(tmp_path / "store").records()}
    for i, (_, kind, reason) in enumerate(ENDS.values()):
        record = rows[f"ends{i}.py:discover"]
        assert record.kind == kind and reason in record.reason
        assert len(record.reason) < 700 and record.reason.isprintable()


def test_a_method_of_another_package_has_a_process_of_its_own(spec, tmp_path, monkeypatch, logged, user_method):
    """What it does to the scoring and to the weights stays there, as with a file that is named on the command line."""
    import sys

    home = tmp_path / "packages"
    about = home / "theirs-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[circuitmeter.methods]\ntheirs = their_methods\n")
    source = (tmp_path / user_method(f"log(os.getpid())\n{POISONS['scorer']}").rpartition(":")[0]).read_text()
    decorated = "from circuitmeter.suite.methods import method\n\n@method('theirs', paper='none')\ndef discover("
    (home / "their_methods.py").write_text(source.replace("def discover(", decorated))
    monkeypatch.syspath_prepend(home)
    monkeypatch.setattr(METHODS, "_items", dict(METHODS._items))
    monkeypatch.setattr(METHODS, "_plugins_loaded", False)
    try:
        run(spec(task="tracr/xproportion", method="theirs", ablation="zero"), tmp_path / "store", executor="serial")
    finally:
        sys.modules.pop("their_methods", None)
    (record,) = Store(tmp_path / "store").records()
    assert record.recovery["zero"].auroc == 0.5 and logged() and str(os.getpid()) not in logged()


def test_a_file_is_read_in_a_process_of_its_own_when_a_run_is_planned(spec, user_method, tmp_path, monkeypatch):
    path = user_method("return zeros(model)").rpartition(":")[0]
    with open(path, "a") as file:
        file.write("import circuitmeter.suite.plan.names as names\nnames.label = None\nos.chdir('/')\n")
    monkeypatch.chdir(tmp_path)
    summary = run(spec(task="tracr/xproportion", method="mine.py:discover", ablation="zero"), "store", workers=1)
    assert summary.exit_status == 0 and (tmp_path / "store" / "store.json").is_file()


@pytest.mark.parametrize("what", ["weights", "data"])
def test_a_built_in_method_that_changes_what_it_is_given_fails_and_poisons_nobody(
    spec, tmp_path, monkeypatch, contents, alone, what
):
    honest = METHODS.get("random")

    def poison(model, data, **given):
        (next(model.parameters()) if what == "weights" else data.clean).data.mul_(0)
        return honest.function(model, data, **given)

    poison.__module__ = honest.function.__module__
    monkeypatch.setitem(METHODS._items, "random", replace(honest, function=poison))
    benchmark = spec(task="tracr/xproportion", method=HONEST[::-1], ablation="zero")
    run(benchmark, tmp_path / "store", executor="serial")
    rows = {record.identity.method: record for record in Store(tmp_path / "store").records()}
    assert "while it searched" in rows["random"].reason
    after = contents(tmp_path / "store")
    assert {key: each for key, each in contents(alone).items() if key != rows["random"].key}.items() <= after.items()
    assert subject("tracr/xproportion", None).data.hash == rows["eap"].identity.data


def test_a_method_that_hangs_is_ended_with_all_that_it_started(spec, user_method, tmp_path, logged):
    hangs = user_method("log(os.getpid())\nif not os.fork():\n    log(os.getpid())\ntime.sleep(600)")
    benchmark = spec(task="tracr/xproportion", method=hangs, ablation="zero")
    run(benchmark, tmp_path / "store", executor="serial", time_limit=2)
    (record,) = Store(tmp_path / "store").records()
    assert (record.kind, record.reason) == ("timeout", "no result within 2 seconds")
    for pid in map(int, logged()):
        with pytest.raises(ProcessLookupError):
            for _ in range(100):
                os.kill(pid, 0)
                signal.sigtimedwait([], 0.02)


def test_memory_that_the_system_took_back_is_told_from_a_kill(monkeypatch):
    from circuitmeter.suite import process

    monkeypatch.setattr(process, "out_of_memory_kills", lambda: 3)
    assert process.cause_of_death(-signal.SIGKILL, 2)[0] == "memory"
    assert process.cause_of_death(-signal.SIGKILL, 3) == ("killed", "the process was ended by SIGKILL")
    assert process.cause_of_death(-signal.SIGTERM, 2)[0] == "killed"


def test_reasons_are_lines():
    assert one_line("a\tb\x1b[31mc\ud800 d").isprintable() and len(one_line("x" * 10**7)) <= 1000
    assert discovery.diagnosis(RuntimeError("[enforce fail] can't allocate memory"))[0] == "memory"
