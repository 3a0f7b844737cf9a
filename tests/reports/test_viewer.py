"""What the circuit viewer is given: the true edges, each method's edges in the order of circuits, within a budget."""

import json

import torch

from circuitmeter.reports.page import viewer
from circuitmeter.reports.page.table import MINUS
from circuitmeter.reports.page.viewer import circuits_of
from circuitmeter.suite.circuit import EdgeScores, top_n
from circuitmeter.suite.model.graph import Graph


def contents(results, **options):
    return json.loads(circuits_of(results.store, results.recovery, **options).json)


def graph_of(described):
    _, heads, *_ = described["rows"]
    return Graph(n_layers=len(described["rows"]) // 2 - 1, n_heads=len(heads), inputs="split")


def test_the_first_edges_are_the_circuit_of_that_size(usual_results):
    data = contents(usual_results)
    own = usual_results.recovery[usual_results.recovery["own"]]
    for view in data["views"][:3]:
        graph = graph_of(data["graphs"][view["graph"]])
        for method in view["methods"]:
            cells = own[(own["task"] == view["task"]) & (own["ablation"] == view["ablation"])]
            key = cells.loc[cells["label"] == method["label"], "key"].iloc[0]
            scores = torch.from_numpy(usual_results.store.scores(key)).nan_to_num()
            for n in (1, 5, len(method["edges"])):
                expected = top_n(EdgeScores(graph, scores), n).edges.flatten().nonzero().flatten().tolist()
                assert sorted(method["edges"][:n]) == expected


def test_true_and_optional_edges_are_those_of_the_certificate(usual_results):
    data = contents(usual_results)
    view = data["views"][1]
    record = next(r for r in usual_results.records if r.identity.task == view["task"])
    truth = usual_results.store.truth(record.identity.truth).ablations[view["ablation"]]
    described = data["graphs"][view["graph"]]
    width = len(described["readers"])

    def names(edges):
        return sorted(f"{described['writers'][edge // width]}->{described['readers'][edge % width]}" for edge in edges)

    assert names(view["core"]) == truth.core and names(view["optional"]) == truth.optional


def test_scores_have_the_text_that_tables_have(usual_results):
    methods = [method for view in contents(usual_results)["views"] for method in view["methods"]]
    assert (
        all(len(m["edges"]) == len(m["scores"]) == len(m["texts"]) for m in methods)
        and contents(usual_results)["missing"]
    )
    shown = {score: text for m in methods for score, text in zip(m["scores"], m["texts"], strict=True)}
    assert all((score < 0) == text.startswith(MINUS) for score, text in shown.items() if abs(score) >= 0.005)
    assert viewer._scores([-0.5, 0.0123, 0.0]) == {
        "scores": [-0.5, 0.012, 0.0],
        "texts": [f"{MINUS}0.50", "0.012", "0.00"],
    }


def test_what_is_over_the_budget_is_left_out_and_counted(usual_results):
    everything = circuits_of(usual_results.store, usual_results.recovery)
    few = circuits_of(usual_results.store, usual_results.recovery, budget=len(everything.json) // 2)
    assert everything.shown == everything.of == 8 and 0 < few.shown < 8 and few.of == 8
    assert len(few.json) < len(everything.json)


def test_no_name_ends_the_script_element(usual_results):
    renamed = usual_results.recovery.replace({"label": {"eap": "</script><script>alert(1)</script>"}})
    text = circuits_of(usual_results.store, renamed).json
    labels = [method["label"] for method in json.loads(text)["views"][0]["methods"]]
    assert "<" not in text and "</script><script>alert(1)</script>" in labels
