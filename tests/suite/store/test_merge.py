"""Stores from several machines become one: each result once, contradictions said, nothing overwritten or invented."""

import json
import re
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from made import cell, done, evaluation, make_whole_store, scores

from circuitmeter.suite import cli
from circuitmeter.suite.store.check import check
from circuitmeter.suite.store.merge import merge, take
from circuitmeter.suite.store.record import Benchmark, failure
from circuitmeter.suite.store.store import Store


@pytest.fixture
def halves(tmp_path):
    """Two stores that share the cell of ``eap``."""
    return [
        make_whole_store(tmp_path / name, methods).path
        for name, methods in (("a", ("eap", "exact")), ("b", ("eap", "acdc")))
    ]


def test_two_halves_are_the_whole_whichever_comes_first(halves, tmp_path):
    found = [merge(paths, tmp_path / f"c{i}") for i, paths in enumerate((halves, halves[::-1]))]
    assert [(each.added, each.known, each.clean) for each in found] == [(7, 3, True)] * 2
    for i in range(2):
        store = Store(tmp_path / f"c{i}")
        assert {record.identity.method for record in store.records()} == {"eap", "exact", "acdc"}
        assert check(store.path).whole and check(store.path).coverage["small"]["done"] == 3
    again = merge(halves, tmp_path / "c0")
    assert (again.added, again.known) == (0, 10)


def test_a_result_without_its_environment_is_damaged_and_not_taken(halves, tmp_path):
    source, into = Store(halves[0]), Store(tmp_path / "into", create=True)
    for name in source.environment_keys():
        (source.path / "environments" / f"{name}.json").unlink()
    found = take([source.path], into, source.keys(), source.evaluation_keys())
    assert into.keys() == [] and {path.split("/")[-1] for path in found.damaged} == set(source.keys())


def test_contradictions_are_listed_and_what_was_there_stays(halves, tmp_path, capsys):
    other = Store(tmp_path / "other", create=True)
    other.write(done(cell()), scores(shift=1e-3))
    assert cli.main(["merge", str(halves[0]), str(other.path), "--into", str(tmp_path / "c"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["contradictions"]
    assert list(told) == [f"cells/{cell().key}"] and "the scores of eap on tracr/reverse" in told[f"cells/{cell().key}"]
    assert (Store(tmp_path / "c").scores(cell().key)[0, 0], check(tmp_path / "c").whole) == (0.0, True)


def judged(tmp_path, *stores):
    """What a merge says of stores whose one cell has these recoveries, shifts of scores, circuits and verdicts."""
    paths = []
    for i, found in enumerate(stores):
        store, record, tensors = (
            Store(tmp_path / f"{i}", create=True),
            done(cell()),
            scores(shift=found.get("shift", 0)),
        )
        circuits = [circuit for circuit in found.get("circuits", ()) for circuit in [np.array(circuit, dtype=np.uint8)]]
        tensors |= {f"circuit.{i}": circuit for i, circuit in enumerate(circuits)}
        native = [{"label": {}, "n_edges": int(circuit.sum()), "recovery": found.get("of", {})} for circuit in circuits]
        plurality = {name: PLURALITY | {"verdict": verdict} for name, verdict in found.get("plurality", {}).items()}
        store.write(record.but(recovery=found.get("recovery", {}), circuits=native, plurality=plurality), tensors)
        paths.append(store.path)
    return merge(paths, tmp_path / "c")


PLURALITY = {"minimal_circuits": 2, "contains": (), "n_edges": 3}
FIRST = [(i, j) for i, j in np.argwhere(~np.isnan(scores()["scores"]))[:4].tolist()]


def circuit_of(*places):
    edges = np.zeros(scores()["scores"].shape)
    for place in places:
        edges[FIRST[place]] = 1
    return edges


def patch(**numbers):
    return {"recovery": {"patch": numbers}}


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        (patch(auroc=0.7), patch(auroc=0.2), "auroc of eap on tracr/reverse under patch differs"),
        (patch(auroc=0.7, true_size=5), {**patch(auroc=0.2, true_size=5), "shift": 1e-9}, "auroc of eap"),
        (patch(auroc=0.7, true_size=5), patch(auroc=0.65, true_size=5), "auroc of eap"),  # the scores are the same
        (patch(auroc=0.7, true_size=5), {**patch(auroc=0.65, true_size=5), "shift": 1e-9}, None),
        (patch(f1=0.8, exact=1.0, true_size=5), {**patch(f1=0.6, exact=0.0, true_size=5), "shift": 1e-9}, None),
        (patch(true_size=5), {**patch(true_size=6), "shift": 1e-9}, "true_size of eap"),
        (patch(auroc=0.7), patch(auroc=0.7, mib_auroc=0.1), None),  # a newer version tells more
        (patch(auroc=0.7), {"recovery": {"zero": {"auroc": 0.7}}}, "scored against other truths"),
        ({"circuits": [circuit_of(0)]}, {"circuits": [circuit_of(1, 2)]}, "circuit 0 of .* differs in 3 of 3 edges"),
        ({"circuits": [circuit_of(0, 1)]}, {"circuits": [circuit_of(0, 1, 2)]}, None),
        (
            {"circuits": [circuit_of(0, 1)], "of": {"patch": {"recall": 1.0}}},
            {"circuits": [circuit_of(0, 1)], "of": {"patch": {"recall": 0.2}}},
            "recall of circuit 0 of",
        ),
        (
            {"plurality": {"patch": "minimal"}},
            {"plurality": {"patch": "chimera"}},
            "of the minimal circuits under patch",
        ),
        ({"plurality": {"patch": "minimal"}}, {"plurality": {"patch": "superset"}, "shift": 1e-9}, None),
        ({"plurality": {"patch": "minimal"}}, {}, "judged by the minimal circuits of other truths"),
        (patch(auroc=0.7), {**patch(auroc=0.69), "shift": 1e-9}, None),
        (patch(auroc=0.7), {**patch(auroc=0.68), "shift": 1e-9}, "auroc of eap"),
    ],
)
def test_circuits_and_recovery_contradict_too_beyond_an_edge_that_rounding_moves(tmp_path, ours, theirs, says):
    for order in ((ours, theirs), (theirs, ours)):
        found = judged(tmp_path / str(order[0] is ours), *order)
        assert found.clean == (says is None), found.contradictions
        assert says is None or re.search(says, *found.contradictions.values())


def test_rounding_is_no_contradiction(halves, tmp_path):
    other = Store(tmp_path / "other", create=True)
    other.write(done(cell()), scores(shift=1e-9))
    assert merge([halves[0], other.path], tmp_path / "c").clean


def test_stability_contradicts_too(tmp_path):
    def stable(jaccard):
        numbers = dict.fromkeys(("low", "high", "lowest", "chance", "with_whole", "rank"), 0.5)
        return {"prompts": {"points": [{"size": 2, "jaccard": jaccard, **numbers, "always": 1, "sometimes": 1}]}}

    record = evaluation(cell())
    ours, other = Store(tmp_path / "ours", create=True), Store(tmp_path / "other", create=True)
    for each in (ours, other):
        each.write(done(cell()), scores())
    ours.write_evaluation(record.but(stability=stable(0.5)))
    other.write_evaluation(record.but(stability=stable(0.6)))
    assert list(merge([ours.path, other.path], tmp_path / "c").contradictions) == [f"evaluations/{record.key}.json"]


def merged_with(tmp_path, ours, other):
    """What a merge says of two stores whose one evaluation has these."""
    record, paths = evaluation(cell()), []
    for name, changes in (("ours", ours), ("other", other)):
        store = Store(tmp_path / name, create=True)
        store.write(done(cell()), scores())
        store.write_evaluation(record.but(**changes))
        paths.append(store.path)
    return merge(paths, tmp_path / "c")


@pytest.mark.parametrize("much, clean", [(1e-6, True), (1e-2, False)])
@pytest.mark.parametrize("control", ["complement", "halves", "exact", "nulls"])
def test_controls_contradict_too(tmp_path, control, much, clean):
    def controls(number):
        found = {
            "complement": {"whole": number},
            "halves": {"random": number},
            "exact": {"edges": 3, "explained": number},
            "nulls": {"nonsense": {"faithfulness": number}},
        }
        return {"controls": {"size": 2, {"halves": "complement"}.get(control, control): found[control]}}

    assert merged_with(tmp_path, controls(0.5), controls(0.5 + much)).clean == clean


def test_a_control_that_only_one_has_is_a_contradiction(tmp_path):
    ours, other = ({"controls": {"size": 2, "complement": found}} for found in ({"whole": 0.5}, {"undefined": "no"}))
    assert not merged_with(tmp_path, ours, other).clean


def test_one_edge_more_or_less_is_no_contradiction_of_stability(tmp_path):
    numbers = dict.fromkeys(("low", "high", "lowest", "chance", "with_whole", "rank"), 0.5)
    point = {"size": 2, **numbers, "always": 1, "sometimes": 1}
    ours, other = ({"stability": {"prompts": {"points": [point | {"jaccard": j}]}}} for j in (0.5, 0.505))
    assert merged_with(tmp_path, ours, other).clean


def test_evaluations_contradict_each_other_too(halves, tmp_path):
    other = Store(tmp_path / "other", create=True)
    other.write(done(cell()), scores())
    record = evaluation(cell())
    other.write_evaluation(record.but(rows=[record.rows[0].model_copy(update={"values": (9.0,)})]))
    assert list(merge([halves[0], other.path], tmp_path / "c").contradictions) == [f"evaluations/{record.key}.json"]


def test_a_finished_cell_replaces_a_failed_one_in_either_order(tmp_path):
    bad, good = (Store(tmp_path / name, create=True) for name in ("bad", "good"))
    bad.write(failure(cell(), "memory", "out of memory"), {})
    good.write(done(cell()), scores())
    for i, paths in enumerate(([bad.path, good.path], [good.path, bad.path])):
        assert merge(paths, tmp_path / f"c{i}").clean
        assert Store(tmp_path / f"c{i}").record(cell().key).done


def test_damaged_cells_are_not_copied(halves, tmp_path, capsys):
    (halves[1] / "cells" / cell(method="acdc").key / "record.json").write_text("{}")
    assert cli.main(["merge", *map(str, halves), "--into", str(tmp_path / "c")]) == 1
    assert "damaged, not copied" in capsys.readouterr().out
    assert cell(method="acdc").key not in Store(tmp_path / "c")


def test_cells_of_one_benchmark_are_taken_together(tmp_path):
    for name, keys in (("a", ["1"]), ("b", ["2"])):
        Store(tmp_path / name, create=True).write_benchmark("small", Benchmark(cells=keys))
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c")
    assert Store(tmp_path / "c").benchmark("small").cells == ("1", "2")


def test_a_store_elsewhere_is_merged_and_what_is_no_store_is_one_line(halves, tmp_path, capsys):
    memory = fsspec.filesystem("memory")
    memory.put(str(halves[1]), "/lab/b", recursive=True)
    try:
        assert merge([halves[0], "memory://lab/b"], tmp_path / "c").added == 7
    finally:
        memory.rm("/lab", recursive=True)
    assert cli.main(["merge", str(tmp_path / "nothing"), "--into", str(tmp_path / "d")]) == 2
    assert "no store at" in capsys.readouterr().err and not (tmp_path / "d").exists()
