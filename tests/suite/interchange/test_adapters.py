"""The shipped adapters, where the tools that they run are not installed."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.errors import MethodError, SpecError, Undefined
from circuitmeter.suite.interchange import adapters
from circuitmeter.suite.interchange.external import load_external
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.subject import subject

BENCHMARK = """
[grid]
task = "gates/and"
method = ["eap", "random"]
ablation = "patch"
objective = "answer-difference"
"""


def scores(method, task, ablation, /, **parameters):
    on = subject(task, None)
    asked = {"ablation": names.ablation(ablation), "objective": names.objective("answer-difference")}
    return method.discover(on.model, on.data, **asked, **parameters).scores


@pytest.mark.parametrize("adapter", adapters.TOOLS)
def test_a_tool_that_is_not_installed_is_one_line_with_the_command_that_installs_it(adapter, monkeypatch):
    for package in ("eap", "auto_circuit", "gim", "transformer_lens"):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MethodError, match="cannot be imported .*; install it with `pip install ") as raised:
        scores(load_external(f"external:{adapter}"), "gates/and", "patch")
    assert "\n" not in str(raised.value)


def test_every_adapter_loads_without_its_tool():
    for adapter in adapters.TOOLS:
        method = load_external(f"external:{adapter}")
        assert "patch" in method.ablations and method.parameters is not None


def test_what_an_adapter_has_not_is_undefined_or_one_line(tmp_path, monkeypatch, capfd):
    eap_ig = load_external("external:eap-ig")
    with pytest.raises(Undefined, match="EAP-IG-inputs under patch alone"):
        scores(eap_ig, "gates/and", "zero")
    with pytest.raises(Undefined, match="no mean-counterfactual ablation"):
        scores(eap_ig, "gates/and", "mean-counterfactual", method="EAP")
    with pytest.raises(SpecError, match="no method 'eap'"):
        scores(eap_ig, "gates/and", "patch", method="eap")
    with pytest.raises(SpecError, match="no gradient_at 'clear'"):
        scores(load_external("external:transformer-lens"), "gates/and", "patch", gradient_at="clear")
    with pytest.raises(Undefined, match="looks ahead cannot be written as a Hugging Face GPT-2"):
        scores(load_external("external:transformer-lens"), "tracr/hist", "patch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(BENCHMARK)
    assert cli.main(["validate", "--external", "eap", "--against", "small.toml", "--yes"]) == 2
    err = capfd.readouterr().err
    assert "Did you mean 'eap-ig'?" in err and "write MODULE:ADAPTER" in err and err.count("\n") == 1


def test_another_version_of_a_tool_is_another_method(monkeypatch):
    found = []
    for version in ("0.1.4", "0.1.5"):
        monkeypatch.setattr(metadata, "version", lambda name, version=version: version)
        found.append(load_external("external:gim-explain").version)
    monkeypatch.setattr(metadata, "version", absent)
    assert len({*found, load_external("external:gim-explain").version}) == 3


def absent(name):
    raise metadata.PackageNotFoundError(name)
