"""The shipped adapters: our methods beside what released tools gave, and the tools themselves where they are here."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec

import pytest
import released_tools as tools
import torch
from released_tools import RUNS

from circuitmeter.suite import cli
from circuitmeter.suite.errors import MethodError, SpecError, Undefined
from circuitmeter.suite.interchange import adapters
from circuitmeter.suite.interchange.external import load_external
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.plan import names
from circuitmeter.suite.plan.subject import subject

EQUAL = 1e-5  # of the largest score: the tools compute in float32
DIFFER = {run.name: run for run in RUNS if run.differs}
KINKS = [run for run in RUNS if run.differs == tools.KINK]
BENCHMARK = """
[grid]
task = "gates/and"
method = ["eap", "random"]
ablation = "patch"
objective = "answer-difference"
"""


def scores(method, task, ablation, /, **parameters):
    on = subject(task, None)
    asked = {"ablation": names.ablation(ablation), "objective": names.objective(tools.OBJECTIVE)}
    return method.discover(on.model, on.data, **asked, **parameters).scores


# ---- beside what was recorded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [run for run in RUNS if not run.differs], ids=lambda run: run.name)
def test_our_methods_give_what_the_released_tools_gave(run):
    for task in run.tasks:
        theirs = tools.recorded(run, task)
        assert tools.difference(theirs, tools.by_us(run, task)) < EQUAL, task
        assert bool(theirs.any())


@pytest.mark.parametrize("run", DIFFER.values(), ids=lambda run: run.name)
def test_where_they_are_said_to_differ_they_do(run):
    assert max(tools.difference(tools.recorded(run, task), tools.by_us(run, task)) for task in run.tasks) > 100 * EQUAL


@pytest.mark.parametrize("task", DIFFER["eap-ig method=EAP mean"].tasks)
def test_the_mean_of_eap_ig_is_one_vector_for_all_writers(task):
    """Its mean (``compute_mean_activations`` without positions) takes each prompt's last token, divides by the prompt's
    length, and is then averaged over all nodes. So an edge's score is what it is under zero and a term of its reader's.
    """
    run = DIFFER["eap-ig method=EAP mean"]
    zero, graph = scores(METHODS.get("eap"), task, "zero"), subject(task, None).model.graph
    theirs = torch.full(graph.exists.shape, torch.nan, dtype=torch.float64)
    theirs[graph.exists] = tools.recorded(run, task)
    terms = (theirs - zero.values)[[i for i, writer in enumerate(graph.writers) if writer != "pos_embed"]]
    several = [column[~column.isnan()] for column in terms.T]
    spread = max(float(column.max() - column.min()) for column in several if len(column) > 1)
    largest = float(theirs.nan_to_num().abs().max())
    assert spread < 1e-5 * largest < 0.01 * max(float(column.abs().max()) for column in several)


@pytest.mark.parametrize("task", tools.CAUSAL)
def test_transformer_lens_takes_the_gradient_of_the_counterfactual_run(task):
    """Its scores are those of edge attribution patching with the prompts of each pair exchanged."""
    run, on = DIFFER["transformer-lens patch"], subject(task, None)
    exchanged = replace(on.data, clean=on.data.counterfactual, counterfactual=on.data.clean)
    ours = tools.by_us(run, task, replace(on, data=exchanged))
    assert tools.difference(tools.recorded(run, task), ours) < EQUAL


@pytest.mark.parametrize("run", KINKS, ids=lambda run: run.name)
def test_where_a_relu_gets_exactly_zero_the_tool_is_between_our_scores_on_either_side_of_it(run):
    """A unit of the MLP of gates/or gets 0 on some inputs, or at some step, and rounding decides which slope it has."""
    on, sides = subject("gates/or", None), []
    (block,) = on.model.blocks
    bias = block.b_in.detach().clone()
    for nudge in (-1e-5, 1e-5):
        with torch.no_grad():
            block.b_in.copy_(bias + nudge)
        sides.append(tools.by_us(run, "gates/or", on))
    with torch.no_grad():
        block.b_in.copy_(bias)
    low, high = torch.stack(sides).aminmax(dim=0)
    sums = -6 * on.data.n if run.adapter == "auto-circuit" else on.data.n  # its 5 + 1 steps, of what is gained
    theirs = tools.recorded(run, "gates/or") / sums
    assert bool((theirs >= low - 1e-3).all() and (theirs <= high + 1e-3).all())
    assert float((high - low).max()) > 0.01


# ---- the tools themselves --------------------------------------------------------------------------------------------

PACKAGE = {
    "eap-ig": "eap",
    "auto-circuit": "auto_circuit",
    "gim-explain": "gim",
    "transformer-lens": "transformer_lens",
}


def here(adapter):
    """Whether a tool is installed, with the TransformerLens that it needs."""
    if not find_spec(PACKAGE[adapter]) or not find_spec("transformer_lens"):
        return False
    return (int(metadata.version("transformer-lens").partition(".")[0]) >= 4) == (adapter == "transformer-lens")


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_tool_that_is_installed_gives_what_was_recorded(run):
    if not here(run.adapter):
        pytest.skip(f"the tool of {run.adapter} is not installed here")
    task = min(run.tasks, key=lambda task: subject(task, None).data.n)
    theirs = tools.by_tool(run, task)
    assert tools.difference(torch.tensor(theirs.flat()), tools.recorded(run, task)) < EQUAL


@pytest.mark.slow
def test_eap_ig_ends_in_an_error_on_layers_of_one_head(monkeypatch):
    """Why its adapter adds a head that writes nothing."""
    if not here("eap-ig"):
        pytest.skip("EAP-IG is not installed here")
    eap_ig = importlib.import_module(f"{adapters.__name__}.eap_ig")
    monkeypatch.setattr(eap_ig, "with_two_heads", lambda model: model)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        scores(load_external("external:eap-ig"), "tracr/xproportion", "patch")


# ---- without them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", adapters.TOOLS)
def test_a_tool_that_is_not_installed_is_one_line_with_the_command_that_installs_it(adapter, monkeypatch):
    for package in ("eap", "auto_circuit", "gim", "transformer_lens"):
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MethodError, match="cannot be imported .*; install it with `pip install ") as raised:
        scores(load_external(f"external:{adapter}"), "gates/and", "patch")
    assert "\n" not in str(raised.value)


def test_every_adapter_loads_without_its_tool_and_is_recorded():
    for adapter in adapters.TOOLS:
        method = load_external(f"external:{adapter}")
        assert "patch" in method.ablations and method.parameters is not None
        compared = {task for run in RUNS if run.adapter == adapter for task in run.tasks}
        assert len(compared) >= 6
    assert set(tools.read()["versions"]) == set(adapters.TOOLS)


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


def test_the_help_of_validate_names_them(capsys):
    with pytest.raises(SystemExit):
        cli.main(["validate", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    assert all(name in shown for name in adapters.TOOLS)
