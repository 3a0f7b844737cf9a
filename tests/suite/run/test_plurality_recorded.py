"""A cell's record says which of the truth's minimal circuits was found, and which was to be avoided."""

from circuitmeter import ground_truth
from circuitmeter.suite.run.run import run
from circuitmeter.suite.store.store import Store

TASK = "gates/redundant"


def records(spec, tmp_path, method, task=TASK):
    made = spec(method=method, task=task, ablation=["patch"], objective=["l2"])
    run(made, tmp_path / "store", executor="serial")
    return list(Store(tmp_path / "store").records())


def test_scores_and_the_method_s_own_circuits_are_judged(spec, tmp_path):
    (record,) = records(spec, tmp_path, "acdc")
    minimal = ground_truth.load(TASK).reference("patch").minimal
    own = record.plurality["patch"]
    assert own.minimal_circuits == len(minimal) == 3 and own.avoided is None and own.n_edges <= 5
    assert set(record.plurality) == set(record.recovery)  # every ablation's circuits are listed
    for native in record.circuits:
        judged = native.plurality["patch"]
        assert judged.n_edges == native.n_edges and (judged.verdict in ("minimal", "superset")) == bool(judged.contains)
    assert any(native.plurality["patch"].contains for native in record.circuits)


def test_what_was_to_be_avoided_is_recorded(spec, tmp_path):
    minimal = ground_truth.load(TASK).reference("patch").minimal
    few = {"name": "subnetwork-probing", "steps": 2, "regularisations": [0.1]}
    given = [few, few | {"avoid": minimal[1].names}, few | {"avoid": ["m0->logits"]}]
    found = records(spec, tmp_path, given)
    avoided = {len(record.identity.parameters["avoid"]): record.plurality["patch"].avoided for record in found}
    assert avoided == {0: None, 5: 1, 1: None}


def test_without_a_list_nothing_is_said(spec, tmp_path):
    (record,) = records(spec, tmp_path, "magnitude", task="tracr/fraction_a")
    assert record.recovery and not record.plurality
