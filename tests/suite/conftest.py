"""Benchmarks of a few cells on the smallest models, and methods of a user's own that count, wait, fail or die."""

import json
import os
import textwrap

import pytest

from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.store.store import Store

TASKS = ["tracr/xproportion", "tracr/hist"]
BUILT_IN = ["eap", "exact", "truth", {"name": "random", "seed": [0, 1]}]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """What workers set for themselves, so that comparisons with this process are fair."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def spec():
    """Makes a benchmark: ``spec(method="eap", task=...)``."""

    def make(**changes):
        top = {key: changes.pop(key) for key in ("name", "except", "timeout_seconds", "evaluation") if key in changes}
        grid = {"task": TASKS, "method": BUILT_IN, "ablation": ["patch", "zero"]} | changes
        return Spec.of({"name": "small", "grid": grid} | top)

    return make


@pytest.fixture
def user_method(tmp_path):
    """Writes a method's file: ``user_method("body", name="mine.py")`` gives its ``FILE.py:FUNCTION``.

    The body sees the arguments of ``discover``, ``task`` (a number that tells tasks apart) and ``log(word)``, which
    appends a line to ``tmp_path / "log"``: what ran is counted there, whatever happens to the process.
    """

    def write(body, name="mine.py"):
        source = f"""
            import os, signal, time
            from pathlib import Path
            import torch
            from circuitmeter import EdgeScores

            def log(word):
                with open({str(tmp_path / "log")!r}, "a") as file:
                    file.write(f"{{word}}\\n")

            def zeros(model):
                return EdgeScores(model.graph, torch.zeros(model.graph.exists.shape))

            def discover(model, data, *, ablation, objective, seed):
                task = model.graph.n_edges
            """
        path = tmp_path / name
        path.write_text(textwrap.dedent(source) + textwrap.indent(textwrap.dedent(body), "    ") + "\n")
        return f"{path}:discover"

    return write


@pytest.fixture
def logged(tmp_path):
    """The words that methods have logged so far."""
    return lambda: (tmp_path / "log").read_text().split() if os.path.exists(tmp_path / "log") else []


@pytest.fixture
def rows():
    """``rows(store path, kind)``: the records of that kind; ``None`` is the kind of those that are done."""
    return lambda path, kind: [record for record in Store(path).records() if record.kind == kind]


@pytest.fixture
def contents():
    """``contents(store path)``: everything in it, by key, that must not depend on how it was made."""
    kept = ("identity", "status", "kind", "reason", "n_edges", "recovery", "circuits", "circuit_at_true_size")

    def read(path):
        store, found = Store(path), {}
        for record in store.records():
            tensors = store.tensors(record.key)
            found[record.key] = (
                json.dumps(record.model_dump(mode="json", include=set(kept)), sort_keys=True),
                (record.cost.forward, record.cost.backward),
                {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in tensors.items()},
            )
        assert not store.damaged
        return found

    return read


class Log(list):
    """A listener that keeps every event."""

    def __call__(self, event):
        self.append(event)

    def of(self, kind):
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def log():
    return Log()
