"""The released benchmarks ask what they asked when they were released."""

import json

import pytest

from circuitmeter.suite.errors import ModelAbsent, SpecError
from circuitmeter.suite.plan import released as released_module
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.released import benchmark_hash, main, released, standing
from circuitmeter.suite.plan.spec import Spec, benchmarks

FIXED = ("ablations-1", "diagnostics-1", "features-1", "known-circuits-1", "quick", "real-lm-1", "stability-1")


def test_the_benchmarks_that_are_fixed():
    assert set(released()) == set(FIXED) <= set(benchmarks())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "real-lm-1" else name for name in FIXED]
)
def test_a_released_benchmark_asks_what_it_asked(name):
    try:
        expanded = expand(Spec.load(name))
    except ModelAbsent as error:
        pytest.skip(str(error))
    assert benchmark_hash(expanded) == released()[name].hash


def _asking(tmp_path, **changes):
    """The hash of a small benchmark; each change is a line of its file."""
    lines = {
        "task": 'task = "tracr/hist"',
        "method": 'method = ["eap", "random"]',
        "ablation": 'ablation = ["patch", "zero"]',
        "prompts": "",
        "except": "",
        "evaluation": "[evaluation]\nablation = 'patch'\nsize = [0.1]",
    } | changes
    top = "\n".join(lines[key] for key in ("task", "method", "ablation", "prompts"))
    path = tmp_path / "asked.toml"
    path.write_text(f"[grid]\n{top}\n{lines['except']}\n{lines['evaluation']}\n")
    return benchmark_hash(expand(Spec.load(path)))


def test_the_hash_is_of_all_that_is_asked(tmp_path):
    changes = [
        {},
        {"task": 'task = "tracr/sort"'},
        {"task": 'task = "tracr-rotated/hist"'},
        {"method": 'method = ["eap", "magnitude"]'},
        {"method": 'method = ["eap", { name = "random", seed = [0, 1] }]'},
        {"method": 'method = [{ name = "eap-ig", steps = 5 }, "random"]'},
        {"method": 'method = [{ name = "eap-ig", steps = 6 }, "random"]'},
        {"ablation": 'ablation = ["patch"]'},
        {"prompts": "prompts = 20"},
        {"prompts": 'objective = "l2"'},
        {"except": '[[except]]\nmethod = "eap"\nbecause = "it is left out"'},
        {"evaluation": "[evaluation]\nablation = 'patch'\nsize = [0.2]"},
        {"evaluation": "[evaluation]\nablation = 'patch'\nsize = [0.1]\nprompts = 20"},
        {"evaluation": ""},
    ]
    hashes = [_asking(tmp_path, **change) for change in changes]
    assert len(set(hashes)) == len(changes)
    # The order of cells is no question.
    assert _asking(tmp_path, ablation='ablation = ["zero", "patch"]', method='method = ["random", "eap"]') == hashes[0]


def test_the_code_of_a_method_is_no_question(tmp_path, monkeypatch):
    from dataclasses import replace

    from circuitmeter.suite.plan import names

    before, method = _asking(tmp_path), names.method
    monkeypatch.setattr(names, "method", lambda name: replace(method(name), code="f" * 16))
    assert _asking(tmp_path) == before


def test_a_release_refuses_what_asks_something_else(tmp_path, monkeypatch):
    where = tmp_path / "released.json"
    where.write_text('{"format": 1, "benchmarks": {"quick": {"release": "1.0.0", "hash": "0000000000000000"}}}')
    monkeypatch.setattr(released_module, "_FILE", where)
    released.cache_clear()
    try:
        assert standing("quick", "0" * 16) == "as released with 1.0.0"
        assert standing("quick", "1" * 16) == "differs from quick of 1.0.0"
        assert standing("mine", "1" * 16) == ""
        with pytest.raises(SpecError, match="differs from quick of 1.0.0"):
            main("1.1.0", "quick")
        main("1.1.0", "ablations-1")
        kept = json.loads(where.read_text())["benchmarks"]
        assert kept["quick"] == {"release": "1.0.0", "hash": "0" * 16}
        assert kept["ablations-1"]["release"] == "1.1.0"
    finally:
        released.cache_clear()
