"""Tidy tables hold what the store holds; aggregates and tests are what they say."""

import numpy as np
import pandas as pd
import pytest
from synthetic import identity, record_of

from circuitmeter.reports.chapters.recovery import runs
from circuitmeter.reports.read import tables


def scored(task, method, ablation, areas, **changes):
    """A done record with these areas by truth ablation."""
    cell = identity(task, method, ablation, **changes)
    found = {
        truth: {"auroc": area, "average_precision": area and area / 2, "exact": float(area == 1), "true_size": 3}
        for truth, area in areas.items()
    }
    return record_of(
        cell,
        status="done",
        reason=None,
        kind=None,
        n_edges=32,
        recovery=found,
        cost={"seconds": 2.0, "forward": 5, "backward": 3},
    )


def test_recovery_rows_cross_cells_and_truths(usual_store, usual_results):
    done = [record for record in usual_results.records if record.status == "done"]
    assert len(usual_results.recovery) == 2 * len(done)
    assert (
        usual_results.recovery["own"]
        == (usual_results.recovery["ablation"] == usual_results.recovery["truth_ablation"])
    ).all()
    row = usual_results.recovery.iloc[0]
    assert row["auroc"] == usual_store.record(row["key"]).recovery[row["truth_ablation"]].auroc


def test_undefined_metrics_stay_undefined():
    table = tables.recovery_table(
        [scored("a", "eap", "patch", {"patch": None} | {"zero": 0.5})][:0]
        + [
            record_of(
                identity("a", "eap", "patch"),
                status="done",
                kind=None,
                reason=None,
                n_edges=3,
                recovery={"patch": {"auroc": None}},
            )
        ]
    )
    assert np.isnan(table["auroc"].iloc[0]) and np.isnan(table["passes"].iloc[0])


def test_passes_add_forward_and_backward():
    assert tables.recovery_table([scored("a", "eap", "patch", {"patch": 0.5})])["passes"].iloc[0] == 8


def test_rows_do_not_depend_on_the_order_of_cells():
    records = [
        scored(t, m, a, {"patch": 0.5, "zero": 0.6}) for t in "ab" for m in ("eap", "acdc") for a in ("zero", "patch")
    ]
    pd.testing.assert_frame_equal(tables.recovery_table(records), tables.recovery_table(records[::-1]))


def test_aggregate_is_the_median_over_programs_and_counts_exact_recoveries():
    areas = {"a": 0.2, "b": 1.0, "c": 0.7}
    table = tables.aggregate_table(
        tables.recovery_table([scored(t, "eap", "patch", {"patch": area}) for t, area in areas.items()])
    )
    row = table.iloc[0]
    assert (row["auroc"], row["n_programs"], row["exact_cells"], row["exact_of"]) == (0.7, 3, 1, 3)
    assert row["auroc_low"] <= 0.7 <= row["auroc_high"] and row["mean_auroc"] == pytest.approx(1.9 / 3)


def test_variants_and_seeds_of_a_program_count_once():
    records = [scored("r", "eap", "patch", {"patch": 0.0}), scored("r@fixed", "eap", "patch", {"patch": 1.0})]
    records += [scored("s", "eap", "patch", {"patch": 1.0}, seed=seed) for seed in range(5)]
    row = tables.aggregate_table(tables.recovery_table(records)).iloc[0]
    assert row["n_programs"] == 2 and row["n_cells"] == 7 and row["auroc"] == pytest.approx(0.75)


def test_aggregate_puts_the_best_first_within_an_ablation():
    areas = {"eap": 0.6, "acdc": 0.9, "exact": 1.0}
    records = [
        scored("a", m, ablation, {ablation: area}) for m, area in areas.items() for ablation in ("zero", "patch")
    ]
    table = tables.aggregate_table(tables.recovery_table(records))
    assert list(table["ablation"]) == ["patch"] * 3 + ["zero"] * 3
    assert list(table["label"][:3]) == ["exact", "acdc", "eap"]


def test_pairwise_compares_on_common_programs_and_leaves_the_oracle_out():
    records = [scored(t, "acdc", "patch", {"patch": 0.9 + i / 100}) for i, t in enumerate("abcdefgh")]
    records += [scored(t, "eap", "patch", {"patch": 0.5}) for t in "abcdefg"]
    records += [scored(t, "truth", "patch", {"patch": 1.0}) for t in "abcdefgh"]
    table = tables.pairwise_table(tables.recovery_table(records))
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["first"], row["second"], row["n"], row["a12"]) == ("acdc", "eap", 7, 1.0)
    assert row["p_value"] == row["p_holm"] == pytest.approx(2 / 2**7)


def test_mismatch_has_every_truth():
    records = [scored(t, "acdc", "zero", {"patch": 0.4, "zero": 1.0}) for t in "abc"]
    table = tables.mismatch_table(tables.recovery_table(records)).set_index("truth_ablation")
    assert table.loc["patch", "average_precision"] == 0.2 and not table.loc["patch", "own"] and table.loc["zero", "own"]


def test_failures_keep_their_reasons(usual_results):
    assert sorted(usual_results.failures["kind"]) == ["memory", "undefined"]
    assert "out of memory after 3 s" in set(usual_results.failures["reason"])


def test_native_circuits_are_listed(usual_results):
    table = tables.circuit_table(usual_results.records)
    assert set(table["label"]) == {"acdc"} and set(table["circuit_label"]) == {"threshold=0.5", "threshold=1.0"}
    assert table["recall"].notna().all()


@pytest.mark.parametrize(
    "make",
    [tables.aggregate_table, tables.pairwise_table, tables.mismatch_table, tables.program_table, tables.run_table],
)
def test_an_empty_store_gives_empty_tables(make):
    assert make(tables.recovery_table([])).empty


def test_a_run_s_row_has_its_seeds_their_interval_and_what_one_cost():
    areas = {0: 0.8, 1: 0.9, 2: 1.0}
    records = [scored("b", "ugs", "zero", {"zero": area, "patch": 0.1}, seed=seed) for seed, area in areas.items()]
    records += [scored("b", "eap", "zero", {"zero": 0.7}), scored("a", "eap", "patch", {"patch": 1.0})]
    table = tables.run_table(tables.recovery_table(records))
    assert table[["task", "ablation", "label"]].values.tolist() == [
        ["a", "patch", "eap"],
        ["b", "zero", "eap"],
        ["b", "zero", "ugs"],
    ]
    row = table.iloc[2]
    assert row["n_seeds"] == 3 and row["auroc"] == pytest.approx(0.9)
    assert row["auroc_low"] == pytest.approx(0.9 - 4.302653 * 0.1 / 3**0.5)  # Student's t with two degrees of freedom
    assert row["auroc_high"] == 1  # it would be above
    assert (row["seconds"], row["passes"]) == (2.0, 8)
    assert np.isnan(table["auroc_low"].iloc[1]) and table["auroc"].iloc[1] == 0.7
    shown = runs(table)
    assert [cell.text for cell in shown.rows[2]][3:5] == ["3", "0.90 [0.65, 1.00]"]
    assert [cell.text for cell in shown.rows[1]][3:5] == ["1", "0.70"]
