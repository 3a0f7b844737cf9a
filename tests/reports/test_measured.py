"""The tables that papers' values and figures are taken of."""

from typing import get_args

import numpy as np
import pytest
from synthetic import identity, make_store, record_of, write_evaluation

from circuitmeter.ground_truth import manual
from circuitmeter.reports.read.results import read_results, within
from circuitmeter.reports.reproduction.entries import FromTable, TableName
from circuitmeter.reports.reproduction.measured import MANUAL, OVERLAP_SHARES, Tables
from circuitmeter.suite.store.record import Benchmark
from circuitmeter.suite.store.store import Store


def done(store, scores, *, task="ioi", method="eap", n_edges=None, diagnostics=None, cost=None, **changes):
    """A finished cell of a language model: no truth, no recovery."""
    cell = identity(task, method, "patch", objective=changes.pop("objective", "logit-difference"), **changes)
    exists = ~np.isnan(scores)
    record = record_of(cell, status="done", reason=None, kind=None, n_edges=n_edges or int(exists.sum()))
    store.write(record.but(diagnostics=diagnostics or {}, cost=cost or {}), {"scores": scores})
    return record.key


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "s", create=True)


def scores_of(values, shape=(4, 5)):
    return np.array(values, dtype=np.float64).reshape(shape)


def test_every_table_can_be_made_of_a_store_with_and_without_cells(store, tmp_path):
    full = make_store(tmp_path / "full", programs=1, failures=False)  # one: made-up graphs share a hash
    for path in (store.path, full.path):
        tables = Tables(read_results(path))
        for name in get_args(TableName):
            assert len(tables.table(name).columns), name


def test_agreement_is_with_exact_patching_of_the_same_task(store):
    chance = np.random.default_rng(0)
    effect = chance.normal(size=(4, 5))
    done(store, effect, method="exact")
    done(store, 0.5 * effect + 1, method="eap")
    done(store, effect, method="exact", task="sva")
    table = Tables(read_results(store.path)).agreement
    (row,) = table.to_dict("records")
    sizes = np.corrcoef(np.abs(effect).ravel(), np.abs(0.5 * effect + 1).ravel())[0, 1]
    assert row["pearson_absolute"] == pytest.approx(sizes) and sizes < 0.9  # EAP-IG's paper compares sizes
    assert row["pearson"] == pytest.approx(1) and row["slope"] == pytest.approx(0.5) and row["r2"] == pytest.approx(1)
    edges = Tables(read_results(store.path)).against_exact
    assert len(edges) == 20 and np.allclose(edges["score"], 0.5 * edges["effect"] + 1)


def test_agreement_is_with_the_exact_effects_of_the_same_seed_prompts_and_weights(store):
    """Where the ablation draws, each seed has exact effects of its own; otherwise one run is that of all seeds."""
    chance = np.random.default_rng(1)
    own = {}
    for seed in (0, 1, 2):
        effect = chance.normal(size=(4, 5))
        own[done(store, effect, method="eap-path", seed=seed)] = done(store, effect, method="exact", seed=seed)
    alone = done(store, chance.normal(size=(4, 5)), method="eap-path", seed=3)  # no exact run of its seed
    once = done(store, chance.normal(size=(4, 5)), method="exact", task="sva")
    own |= {done(store, scores_of(range(20)), method="ugs", task="sva", seed=seed): once for seed in (0, 1)}
    for changes in ({"data": "1" * 16}, {"weights": "2" * 16}):
        other = identity("sva", "eap", "patch", objective="logit-difference").model_copy(update=changes)
        store.write(
            record_of(other, status="done", reason=None, kind=None, n_edges=20), {"scores": scores_of(range(20))}
        )
    tables = Tables(read_results(store.path))
    assert {cell.key: exact for cell, exact in tables._beside_exact()} == own
    assert alone not in set(tables.agreement["key"])
    assert tables.rows("agreement", {"method": "eap-path"})["pearson"].tolist() == pytest.approx([1, 1, 1])


def test_overlap_counts_edges_and_the_nodes_that_write_them(store):
    first, second = np.zeros((4, 5)), np.zeros((4, 5))
    first[0, :4], second[0, :2], second[1, :2] = 1, 1, 1
    done(store, first, method="edge-pruning", seed=0)
    done(store, second, method="edge-pruning", seed=1)
    tables = Tables(read_results(store.path))
    found = tables.rows("overlap", {"differ": "seed", "share": 0.2, "method": "edge-pruning"})
    assert 0.2 in OVERLAP_SHARES and len(found) == 4  # both orders
    assert set(found.loc[found["level"] == "edges", "iou"]) == {2 / 6}
    assert set(found.loc[found["level"] == "nodes", "iou"]) == {1 / 2}
    assert set(tables.rows("overlap", {"differ": "nothing"})["iou"]) == {1.0}


def test_a_published_circuit_is_found_by_scores_that_are_it_and_only_on_its_graph(store):
    truth = manual.load("ioi/eap-ig")
    scores = truth.core.double().masked_fill(~truth.graph.exists, float("nan"))
    cell = identity("ioi@third-name", "eap", "patch").model_copy(update={"graph": truth.graph.hash})
    record = record_of(cell, status="done", reason=None, kind=None, n_edges=truth.graph.n_edges)
    store.write(record, {"scores": scores.numpy()})
    done(store, scores_of(range(20)), task="ioi")
    tables = Tables(read_results(store.path))
    assert set(tables.manual["key"]) == {record.key} and set(tables.manual_roc["auroc"]) == {1.0}
    first = tables.rows("manual", {"panel": "ioi, edge", "n": 1})
    assert first["precision"].tolist() == [1.0]
    nodes = tables.rows("manual", {"panel": "ioi, node", "n": 199})
    assert nodes["recall"].tolist() == [round(26 * nodes["recall"].item()) / 26]  # heads alone
    asked = FromTable(table="manual", where={"panel": "ioi, edge", "n": 199}, column="recall")
    assert 0.5 < tables.number(asked) <= 199 / int(truth.core.sum())


@pytest.mark.parametrize(("task", "known"), [("ioi", (26, 215)), ("greater-than", (19, 240))])
def test_manual_circuits_are_compared_as_eap_igs_paper_does(store, task, known):
    """The edges of largest score, not grown; of IOI without MLPs; nodes are both ends, but not the input and logits."""
    truth = manual.load(MANUAL[task])
    graph = truth.graph
    wrong = ["m4->m5", "input->a0.h2<q>", "a11.h0->logits", "a0.h1->a1.h1<k>"]
    assert not any(truth.core[graph.index(edge)] for edge in wrong)
    scores = truth.core.double().masked_fill(~graph.exists, float("nan"))
    for edge in wrong:
        scores[graph.index(edge)] = -2.0  # ranked first
    cell = identity(task, "eap", "patch").model_copy(update={"graph": graph.hash})
    record = record_of(cell, status="done", reason=None, kind=None, n_edges=graph.n_edges)
    store.write(record, {"scores": scores.numpy()})
    tables = Tables(read_results(store.path))

    def rates(level, n=4):
        (row,) = tables.rows("manual", {"panel": f"{task}, {level}", "n": n}).to_dict("records")
        return row["precision"], row["recall"]

    assert rates("edge") == (0.0, 0.0)
    # Of 100 edges four are wrong, one of which is not compared for IOI.
    kept = 99 if task == "ioi" else 100
    precision, recall = rates("edge", 100)
    assert precision == pytest.approx(recall * known[1] / kept)
    nodes = {"a0.h2", "a11.h0", "a0.h1", "a1.h1"} | ({"m4", "m5"} if task == "greater-than" else set())
    assert rates("node") == (1 / len(nodes), 1 / known[0])  # a0.h1 is of both circuits


def test_costs_are_multiples_of_eaps(store):
    graph = scores_of(range(20))
    done(store, graph, method="eap", cost={"seconds": 2.0, "forward": 20, "backward": 10})
    done(store, graph, method="eap-gp", cost={"seconds": 7.0, "forward": 60, "backward": 30}, parameters={"steps": 5})
    tables = Tables(read_results(store.path))
    (row,) = tables.rows("costs", {"steps": 5}).to_dict("records")
    assert (row["seconds_of_eap"], row["passes_of_eap"]) == (3.5, 3.0)
    assert len(tables.rows("costs", {"steps": [5, ""]})) == 2  # those without steps as well
    store.write_benchmark("b", Benchmark(cells=[row["key"]], spec={"grid": [{"prompts": 20}]}))
    assert Tables(read_results(store.path)).rows("costs", {"prompts": 20})["key"].tolist() == [row["key"]]


def test_a_method_that_went_by_the_divergence_is_told_apart(store):
    graph = scores_of(range(20))
    done(store, graph, method="eap-ig")
    done(store, graph, method="eap-ig", objective="kl")
    done(store, graph, method="acdc", objective="kl")
    tables = Tables(read_results(store.path))
    assert sorted(tables.column(tables.costs, "variant")) == ["acdc", "eap-ig", "eap-ig, KL"]


def test_what_a_method_reports_of_itself_is_a_row_a_part(store):
    report = {"weights": {"accuracy": 0.9, "kl": 0.1}, "edges": {"accuracy": 0.8, "kl": 0.2}}
    done(store, scores_of(range(20)), method="discogp", diagnostics={"report": report})
    tables = Tables(read_results(store.path))
    asked = FromTable(table="reports", where={"of": "edges"}, column="accuracy")
    assert tables.number(asked) == 0.8 and tables.number(asked.model_copy(update={"where": {"of": "both"}})) is None


def test_templates_are_rows(store):
    key = done(store, scores_of(range(20)))
    rows = {"by_template": {"0": [0.5], "3": [0.75]}, "undefined": None, "faithfulness": [0.6], "values": [1.0]}
    rows |= {"setting": "patch | logit-difference | ratio-of-means | cut-graph"}
    write_evaluation(store, key, {}, sizes=(0.2,), rows=[rows])
    table = Tables(read_results(store.path)).templates
    assert table[["template", "order", "faithfulness"]].values.tolist() == [[0, "ABBA", 0.5], [3, "BABA", 0.75]]


def test_results_of_one_benchmark_are_of_its_cells(tmp_path):
    made = make_store(tmp_path / "s", programs=2, methods=("eap", "exact"), failures=False)
    keys = [record.key for record in made.records() if record.identity.method == "eap"]
    made.write_benchmark("part", Benchmark(cells=keys))
    results = read_results(made.path)
    part = within(results, "part")
    assert set(part.recovery["method"]) == {"eap"} and set(results.recovery["method"]) == {"eap", "exact"}
