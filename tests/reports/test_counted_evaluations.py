"""Of several evaluations of a cell those count that a benchmark asks for, and of these the newest."""

import itertools

import numpy as np
import pytest
from synthetic import identity, record_of, setting, write_evaluation

from circuitmeter.reports.read.controls import control_table
from circuitmeter.reports.read.evaluations import area_table, evaluation_table, template_table, usual
from circuitmeter.reports.read.results import read_results, within
from circuitmeter.reports.read.selected import selected_table
from circuitmeter.reports.read.stability import stability_table
from circuitmeter.reports.reproduction.measured import Tables
from circuitmeter.suite.store.record import Benchmark
from circuitmeter.suite.store.store import Store


def at(second):
    """When an evaluation finished."""
    return {"provenance": {"finished": f"2026-01-01T00:00:{second:02}+00:00"}}


def stability(edges, jaccard):
    others = dict.fromkeys(("low", "high", "lowest", "chance", "with_whole", "rank", "always", "sometimes"), 0)
    return {"prompts": {"points": [{"size": edges, "jaccard": jaccard, **others}]}}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "s", create=True)


def write_cells(store, tasks="abcdefgh"):
    """Finished cells of a method; eight, so that an order by hash would tell."""
    cells = [identity(f"tracr/{task}", "eap", "patch") for task in tasks]
    for cell in cells:
        store.write(record_of(cell, status="done", kind=None, reason=None, n_edges=4), {"scores": np.ones((2, 2))})
    return [cell.key for cell in cells]


def rows(value):
    told = {"undefined": None, "full": 2.0, "nothing": 1.0, "values": [1 + value] * 2}
    told |= {"faithfulness": [value] * 2, "by_template": {"0": [value] * 2}}
    return [told | {"setting": setting("patch")}]


def write(store, key, value, data, **changes):
    """An evaluation with controls, stability and a circuit of a rule, whose numbers are all ``value``."""
    circuits = [{"size": "true", "n_edges": 1}, {"size": "null", "n_edges": round(4 * value)}]
    nulls = {"reset-weights": {"faithfulness": value}}
    given = {"controls": {"size": 1, "nulls": nulls}, "stability": stability(1, value), "circuits": circuits}
    asked = {"data": data * 16, **changes.pop("asked", {})}
    return write_evaluation(store, key, {}, asked=asked, sizes=("true", "null"), rows=rows(value), **given, **changes)


def told(results):
    """Every faithfulness that some table tells."""
    found = {
        "evaluated": results.evaluated["faithfulness"],
        "templates": Tables(results).templates["faithfulness"],
        "controls": results.controls.loc[results.controls["control"] == "null reset-weights", "value"],
        "stability": results.stability["jaccard"],
        "selected": results.selected["share"],
    }
    return {name: sorted(set(values.round(9))) for name, values in found.items()}


def all_are(value):
    return dict.fromkeys(("evaluated", "templates", "controls", "stability", "selected"), [value])


@pytest.mark.parametrize("other", [{"prompts": 100}, {"split": "train"}, {"asked": {"absolute": False}}])
def test_what_a_benchmark_asked_for_before_is_in_no_table(store, other):
    keys = write_cells(store)
    for key in keys:
        write(store, key, 0.25, "1", **{"prompts": 4, **other}, **at(9))  # even if it was copied later
    now = {key: write(store, key, 0.75, "2", prompts=4, **at(1)) for key in keys}
    store.write_benchmark("b", Benchmark(cells=keys, evaluations=now))
    results = read_results(store.path)
    assert told(results) == all_are(0.75)
    assert len(results.evaluated) == 2 * len(keys)
    store.write_benchmark("b", Benchmark(cells=keys))  # it now asks for none
    assert read_results(store.path).evaluated.empty


def test_each_benchmark_has_its_own_evaluations_and_all_together_the_newest(store):
    keys = write_cells(store)
    for second, (name, value) in enumerate({"few": 0.25, "many": 0.75}.items()):
        found = {key: write(store, key, value, str(second), **at(second)) for key in keys}
        store.write_benchmark(name, Benchmark(cells=keys, evaluations=found))
    results = read_results(store.path)
    assert told(results) == all_are(0.75)
    assert told(within(results, "few")) == all_are(0.25)
    assert told(within(results, "few", "many")) == all_are(0.75)


def test_cells_of_no_benchmark_keep_their_evaluations(store):
    key, other = write_cells(store, "ab")
    write(store, key, 0.5, "1")
    write(store, other, 0.5, "1")
    store.write_benchmark("b", Benchmark(cells=[other]))
    assert set(read_results(store.path).evaluated["key"]) == {key}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_keys_decides_nothing(store, order):
    """The newest counts; of one second, that of the newer version, then of more prompts."""
    (key,) = write_cells(store, "a")
    record = [store.record(key)]
    ways = [{"prompts": 9, "version": 2}, {"prompts": 8, "version": 2}, {"prompts": 99, "version": 1}]
    for data, way in zip("123", (ways[i] for i in order), strict=True):
        write(store, key, way["prompts"] / 100, data, **way, **at(1))
    for table in (evaluation_table, template_table):
        assert table(record, store.evaluations())["faithfulness"].tolist() == [0.09] * 2
    write(store, key, 0.5, "4", prompts=1, **at(2))
    evaluations = list(store.evaluations())
    assert evaluation_table(record, evaluations)["faithfulness"].tolist() == [0.5] * 2
    assert control_table(record, evaluations).query("control == 'null reset-weights'")["value"].tolist() == [0.5]
    assert selected_table(record, evaluations, usual(evaluation_table(record, evaluations)))["share"].tolist() == [0.5]


def test_a_curve_is_measured_in_one_way(store):
    """Sizes of an evaluation on other prompts do not go into the area of the newest one's; those on the same do."""
    (key,) = write_cells(store, "a")
    curve = [
        ("1", (0.1, 0.3, 1.0), [0.0, 0.0, 0.0], 1),
        ("2", (0.1, 0.2), [0.5, 0.5], 2),
        ("2", (0.1, 0.4), [0.5, 0.5], 3),
    ]
    for data, sizes, values, second in curve:
        write_evaluation(store, key, {"patch": values}, sizes=sizes, asked={"data": data * 16}, **at(second))
    table = evaluation_table([store.record(key)], store.evaluations())
    assert table["size"].tolist() == ["0.1", "0.2", "0.4"] and set(table["faithfulness"]) == {0.5}
    assert area_table(usual(table))["sizes"].tolist() == ["0.1 0.2 0.4"]


def test_stability_is_of_one_evaluation(store):
    """Two evaluations with other sizes are not one curve: each has a main size of its own."""
    (key,) = write_cells(store, "a")
    for second, (size, edges) in enumerate([("true", 1), (0.25, 1), (0.5, 2)]):
        given = {"circuits": [{"size": size, "n_edges": edges}], "stability": stability(edges, edges / 4)}
        write_evaluation(store, key, {}, sizes=(size,), asked={"data": str(second) * 16}, **given, **at(second))
    table = stability_table([store.record(key)], store.evaluations())
    assert table["size"].tolist() == ["0.5"] and table["main"].tolist() == [True]
