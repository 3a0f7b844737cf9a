"""The scripts in ``benchmarks``: what they run in small, what they leave out, and what they import."""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from oracles import small_model

from circuitmeter.suite.interchange.adapters import TOOLS
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods.cost import edge_passes

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """A function that imports a script by its name."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_every_method_that_trains_or_sweeps_has_a_small_setting(script):
    small, graph = script("measuring").SMALL, small_model().graph
    for name in METHODS:
        method = METHODS.get(name)
        cost = method.cost_of(graph, 8, method.resolve({}))
        assert (name in small) == (cost is not None and cost.trained > 0 or name == "acdc"), name
        if name in small:
            assert method.cost_of(graph, 8, method.resolve(small[name])).passes < cost.passes


@pytest.mark.parametrize(("most", "left_out"), [(10, {"exact", "eap-hvp", "gate-aware"}), (5000, set())])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_edges_are_cut_one_by_one_on_small_shapes_alone(device, most, left_out, script, capsys, monkeypatch):
    gpu = script("gpu")
    monkeypatch.setattr(gpu, "MOST_CUTS", most)
    monkeypatch.setattr(gpu, "gpt2", lambda *_: None)
    monkeypatch.setattr(gpu, "from_huggingface", lambda _: small_model())
    monkeypatch.setattr(gpu, "measured", lambda work, device: gpu.Run(1.0, None, None))
    methods = [name for name in METHODS if name not in gpu.WITHOUT_SEARCH]
    gpu.costs(argparse.Namespace(shape="tiny", prompts=2, positions=4, methods=methods), torch.device(device))
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows] == ["method", *methods]
    assert {row[0] for row in rows if row[1].startswith("not run")} == left_out


def test_the_methods_left_out_are_those_that_declare_a_cut_for_every_edge(script):
    gpu, graph, found = script("gpu"), small_model().graph, []
    for name in METHODS:
        cost = METHODS.get(name).cost_of(graph, 1, METHODS.get(name).resolve(gpu.SMALL.get(name, {})))
        if name not in gpu.SMALL and cost is not None and cost.cut >= edge_passes(graph, at_once=1):
            found.append(name)
    assert tuple(found) == gpu.SINGLE_CUTS


def test_versions_are_those_of_an_adapter_s_packages(script):
    packages = script("conformance").packages
    assert packages("eap-ig") == ("eap", "transformer-lens") and all(packages(name) for name in TOOLS)


@pytest.mark.slow
def test_what_measures_peaks_does_not_import_transformers():
    asked = "import measuring, sys; measuring.random_model; print('transformers' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(FOLDER)}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_pieces_run_in_turn_and_their_ratios_are_of_one_turn(script, capsys):
    measuring, ran = script("measuring"), []
    found = measuring.in_turn({"plain": lambda: ran.append("plain"), "eap": lambda: ran.append("eap")}, 2)
    assert ran == ["plain", "eap"] * 3
    assert {len(row.cpu) for row in found.values()} == {2} and {len(row.extra) for row in found.values()} == {3}
    unit, row = measuring.Measured([1.0, 4.0, 2.0], [2.0] * 3, [0] * 3, [0] * 3), measuring.Measured()
    row.cpu, row.wall, row.faults, row.extra = [3.0, 8.0, 2.0], [4.0] * 3, [7, 9, 8], [1, 5, 2]
    assert row.ratio(unit) == 2.0 and row.ratio(unit, 4, "wall") == 0.5
    measuring.table({"plain": unit, "eap": row}, "plain", {"eap": 4})
    assert capsys.readouterr().out.splitlines()[-1] == "| eap | 3.000 | 4.000 | 0.50 plain | 0.50 | 8 | 5 |"


def test_every_curve_has_its_points(script):
    scaling = script("scaling")
    table = pd.read_csv(FOLDER / "scaling.csv")
    assert set(table["curve"]) == set(scaling.CURVES) and (table["cpu_s"] > 0).all()
    assert not table.duplicated(["curve", "x", "work"]).any()
    assert all(title in (FOLDER / "scaling.svg").read_text() for title in scaling.CURVES.values())
