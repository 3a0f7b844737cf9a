"""A small store that holds a file of every kind, made without running anything."""

import made_up
import numpy as np

from circuitmeter.suite.json_model import File
from circuitmeter.suite.model.graph import Graph
from circuitmeter.suite.store.published import REPRODUCTION, publishing
from circuitmeter.suite.store.record import (
    BehaviourIdentity,
    BehaviourRecord,
    Benchmark,
    Cell,
    EvaluationIdentity,
    EvaluationRecord,
    Provenance,
    Record,
    RecordedCost,
    failure,
)
from circuitmeter.suite.store.store import Store


class OneCard(File):
    """Stands for a sensitivity card."""

    paragraph: str
    n: int


CERTIFICATE = made_up.certificate(Graph(n_layers=1, n_heads=1), {"patch": (["input->m0"], [])})


def cell(**changes):
    return Cell(
        **{
            "key_version": 3,
            "task": "tracr/reverse",
            "data": "d" * 16,
            "model": "tracr/reverse",
            "weights": "e" * 16,
            "graph": "f" * 16,
            "truth": CERTIFICATE.hash,
            "method": "eap",
            "version": "a" * 16,
            "parameters": {"steps": 5},
            "ablation": "patch",
            "objective": "l2",
            "seed": None,
            **changes,
        }
    )


def done(identity, auroc=1.0):
    return Record(
        key=identity.key,
        identity=identity,
        status="done",
        kind=None,
        reason=None,
        n_edges=5,
        recovery={"patch": {"auroc": auroc}},
        cost=RecordedCost(seconds=1.0, total_seconds=1.5),
        provenance=Provenance(environment=made_up.ENVIRONMENT.hash),
    )


def scores(shift=0.0):
    values = np.full((2, 3), np.nan)
    values.flat[:5] = np.arange(5) / 7 + shift
    return {"scores": values}


def evaluation(identity):
    what = EvaluationIdentity(
        evaluation_version=1, cell=identity.key, data="d" * 16, settings=("patch | l2",), sizes=(0.5,),
        selection="top-n", absolute=True,
    )  # fmt: skip
    rows = [
        {
            "setting": "patch | l2",
            "undefined": None,
            "full": 2.0,
            "nothing": 1.0,
            "values": [1.5],
            "faithfulness": [0.5],
        }
    ]
    return EvaluationRecord(
        key=what.key, identity=what, status="done", kind=None, reason=None, split="test",
        circuits=[{"size": 0.5, "n_edges": 2, "label": {}}], rows=rows,
    )  # fmt: skip


def what_the_model_does():
    asked = BehaviourIdentity(behaviour_version=1, data="d" * 16, weights="e" * 16, prompts=16)
    found = {"accuracy": 0.9375, "logit_difference": 3.25, "prompts": 16}
    return BehaviourRecord(key=asked.key, identity=asked, task="ioi", model="mini", behaviour=found)


def write_report_of(folder):
    with publishing(folder) as new:
        (new / "tables").mkdir()
        (new / "figures").mkdir()
        (new / "report.html").write_text("<html>a report</html>\n")
        (new / "leaderboard.json").write_text('{"eap": 1.0}\n')
        (new / "tables" / "recovery.csv").write_text("method,auroc\neap,1.0\n")
        (new / "figures" / "roc.svg").write_text("<svg/>\n")
        (new / "brief.html").write_text("<html>two pages</html>\n")


def write_reproduction_of(folder):
    with publishing(folder, REPRODUCTION) as new:
        (new / "paper-figures").mkdir()
        (new / "paper-figures" / "beside.pdf").write_bytes(b"%PDF-1.7 beside")
        (new / "verdicts.json").write_text('{"values": []}\n')
        (new / "verdicts.csv").write_text("value,ours\n")
        (new / "reproduction.html").write_text("<html>a paper again</html>\n")
    Store(folder).write_card("one", OneCard(format=1, paragraph="It hangs on the ablation.", n=12))


def make_whole_store(path, methods=("eap", "exact")):
    """Two cells with an evaluation each, a failure that was retried, and a report."""
    store = Store(path, create=True)
    cells = [cell(method=method) for method in methods]
    store.write(failure(cells[0], "error", "it broke"), {})
    for identity in cells:
        store.write(done(identity), scores())
        store.write_evaluation(evaluation(identity))
    store.write_truth(CERTIFICATE.hash, CERTIFICATE)
    store.write_environment(made_up.ENVIRONMENT)
    evaluations = {identity.key: evaluation(identity).key for identity in cells}
    store.write_behaviour(what_the_model_does())
    listed = {"evaluations": evaluations, "behaviours": [what_the_model_does().key]}
    store.write_benchmark("small", Benchmark(spec={"name": "small"}, cells=list(evaluations), **listed))
    write_report_of(store.path)
    write_reproduction_of(store.path)
    return store
