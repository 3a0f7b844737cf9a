"""A cell's record says which of the truth's minimal circuits was found, and which was to be avoided."""

import json
import shutil

import pytest

from circuitmeter import ground_truth
from circuitmeter.ground_truth.sealed import seal
from circuitmeter.reports.read.results import read_results
from circuitmeter.reports.reproduction.measured import Tables
from circuitmeter.suite.plan.expand import expand
from circuitmeter.suite.plan.subject import forget_subjects
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


@pytest.fixture
def own(tmp_path):
    """A truth of the user's, whose certificate met one of two minimal circuits; and the list of both, not there yet."""
    folder = shutil.copytree(ground_truth.load("gates/backup").directory, tmp_path / "backup")
    (listed := folder / "minimal.json").rename(tmp_path / "minimal.json")
    (certificate := folder / "certificate.json").chmod(0o644)
    contents = json.loads(certificate.read_text())
    claim = contents["ablations"]["mean"]
    one = claim["circuits"][0]
    claim |= {"core": one, "optional": [], "circuits": [one], "sizes": [len(one)]}
    claim |= {"minimal_circuits": 1, "unique": True}
    certificate.write_text(json.dumps(contents, indent=1, sort_keys=True))
    seal(folder)
    return folder, lambda: (tmp_path / "minimal.json").rename(listed), one


def test_cells_are_run_again_when_all_minimal_circuits_are_listed(spec, tmp_path, own):
    """They record something else then; and what a report computes again is computed against the same truth."""
    folder, enumerate_all, one = own
    (before,) = records(spec, tmp_path, "magnitude", task=str(folder))
    enumerate_all()
    forget_subjects()
    records(spec, tmp_path, "magnitude", task=str(folder))
    results = read_results(tmp_path / "store")
    (after,) = results.records  # the other one is superseded
    assert not before.plurality and after.plurality["mean"].minimal_circuits == 2
    mean = ground_truth.load(folder).reference("mean")
    assert (before.recovery["mean"].true_size, after.recovery["mean"].true_size) == (len(one), int(mean.core.sum()))
    kept = results.store.truth(after.identity.truth).ablations["mean"]
    assert set(kept.core) == set(mean.graph.named(mean.core)) < set(one)
    assert set(kept.optional) == set(mean.graph.named(mean.optional))


def test_curves_and_counted_areas_are_of_the_truth_that_cells_were_scored_against(spec, tmp_path, own):
    folder, enumerate_all, one = own
    enumerate_all()
    run(spec(method="truth", task=str(folder), ablation=["mean"]), tmp_path / "store", executor="serial")
    results = read_results(tmp_path / "store")
    (record,) = results.records
    assert record.own_recovery.auroc == 1.0
    means = results.curves
    roc = means[means["kind"] == "roc"]
    assert set(roc.loc[roc["x"] > 0, "mean"]) == {1.0}
    assert set(Tables(results).counted.query("own and convention == 'acdc-edges'")["true_size"]) == {1}


def test_a_truth_without_a_list_and_one_that_ships_have_the_keys_that_they_had(spec, own):
    folder, enumerate_all, _ = own
    cells = [expand(spec(method="eap", task=task)).cells[0] for task in ("gates/backup", str(folder))]
    assert all("minimal" not in cell.as_json() for cell in cells)
    enumerate_all()
    forget_subjects()
    assert "minimal" in expand(spec(method="eap", task=str(folder))).cells[0].as_json()
