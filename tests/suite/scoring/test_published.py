"""ACDC's and MIB's areas: small cases from their definition, and the papers' own numbers."""

import json
import math
from importlib.resources import files

import pytest

from circuitmeter.suite.scoring.published import (
    ACDC_SMALLEST_THRESHOLD,
    MIB_FRACTIONS,
    cmd,
    cpr,
    mib_auroc,
    pessimistic_auc,
)

ACDC = json.loads(files("circuitmeter.reports.reproduction").joinpath("papers", "conmy2023", "roc.json").read_text())[
    "curves"
]

# GPT-2 small on IOI, MIB's counterfactuals, greedy selection, as an independent rerun published them. CPR is of the
# signed ranking, CMD of the absolute one, whose value at .002 was not published.
SIGNED = {
    "eap": (0.0, 0.234, 0.655, 0.858, 0.995, 1.166, 1.213, 1.309, 1.309, 1.0),
    "eap-ig": (0.259, 0.611, 1.600, 1.897, 2.018, 2.050, 2.122, 2.141, 2.130, 1.0),
}
ABSOLUTE = {
    "eap": (0.0, 0.357, 0.567, 0.794, 0.880, 0.896, 0.967, 0.997, 1.0),
    "eap-ig": (0.014, 0.552, 0.706, 1.002, 0.896, 0.929, 0.952, 0.984, 1.0),
}


@pytest.mark.parametrize(
    ("x", "y", "area"),
    [
        ([], [], 0.0),
        ([0.0], [1.0], 1.0),
        ([0.5], [0.5], 0.25),
        ([0.25, 0.5], [0.25, 0.5], 5 / 16),
        ([0.25, 0.75], [0.25, 0.5], 4 / 16),
        ([0.2, 0.4], [0.8, 0.6], 0.8 * 0.8),  # the second point has a better one to its left
        ([0.2, 0.2], [0.8, 0.6], 0.8 * 0.8),
    ],
)
def test_pessimistic_auc_steps_below_the_best_points(x, y, area):
    assert pessimistic_auc(x, y) == pytest.approx(area, abs=1e-12)
    assert pessimistic_auc(x[::-1], y[::-1]) == pytest.approx(area, abs=1e-12)


def test_pessimistic_auc_of_undefined_rates_is_undefined():
    assert math.isnan(pessimistic_auc([0.0, math.nan], [0.0, 1.0]))


def test_mib_auroc_has_no_origin():
    # Ten circuits of a perfect ranking: the first already has a false edge, and the area left of it is lost.
    assert mib_auroc([0.1, 0.5, 1.0], [1.0, 1.0, 1.0]) == pytest.approx(0.9)
    assert mib_auroc([0.0, 0.25, 0.5], [0.0, 1.0, 1.0]) == pytest.approx(0.75)
    assert math.isnan(mib_auroc([0.0, 0.0], [0.5, 1.0]))


@pytest.mark.parametrize("curve", ACDC, ids=lambda curve: f"{curve['task']} {curve['objective']}")
def test_the_acdc_papers_areas_come_out_of_its_points(curve):
    shown = [point for point in curve["points"] if point[0] is None or point[0] >= ACDC_SMALLEST_THRESHOLD * (1 - 1e-6)]
    edge_fpr, edge_tpr, node_fpr, node_tpr = zip(*(point[1:] for point in shown), strict=True)
    assert round(pessimistic_auc(edge_fpr, edge_tpr), 3) == curve["area_edges"]
    assert round(pessimistic_auc(node_fpr, node_tpr), 3) == curve["area_nodes"]


def test_the_acdc_papers_areas_are_those_of_its_table():
    areas = {(curve["task"], curve["objective"]): (curve["area_edges"], curve["area_nodes"]) for curve in ACDC}
    assert areas[("ioi", "kl_div")] == (0.869, 0.880)
    assert areas[("docstring", "kl_div")] == (0.982, 0.950)


def test_published_cpr_and_cmd_come_out_of_the_published_curves():
    assert round(cpr(MIB_FRACTIONS, SIGNED["eap-ig"]), 3) == 1.834
    assert round(cpr(MIB_FRACTIONS, SIGNED["eap"]), 3) == 1.202
    published = [fraction for fraction in MIB_FRACTIONS if fraction != 0.002]
    assert round(cmd(published, ABSOLUTE["eap-ig"]), 3) == 0.032
    assert round(cmd(published, ABSOLUTE["eap"]), 3) == 0.033


def test_a_circuit_as_good_as_the_model_at_every_size():
    ones = [1.0] * 10
    assert cpr(MIB_FRACTIONS, ones) == pytest.approx(0.999, abs=1e-12)  # the integral starts at .001
    assert cmd(MIB_FRACTIONS, ones) == 0
    assert cpr(MIB_FRACTIONS, ones, log=True) == pytest.approx(1, abs=1e-12)
    assert cmd(MIB_FRACTIONS, ones, log=True) == 0
    assert math.isnan(cpr(MIB_FRACTIONS, [math.nan] * 10))


def test_better_than_the_model_counts_for_cpr_and_against_cmd():
    assert cpr([0.5, 1.0], [1.5, 1.5]) == pytest.approx(0.75)
    assert cmd([0.5, 1.0], [1.5, 1.5]) == pytest.approx(0.25)


def test_log_sizes_weigh_every_doubling_alike():
    # A step at 10 %: linear size sees nine tenths of the area above it, log size one third of the three decades.
    late = [0.0] * 6 + [1.0] * 4
    assert cpr(MIB_FRACTIONS, late) == pytest.approx(0.9 + 0.05 / 2, abs=1e-12)
    assert cpr(MIB_FRACTIONS, late, log=True) == pytest.approx((1 + math.log10(2) / 2) / 3, abs=1e-12)
    assert cmd(MIB_FRACTIONS, late, log=True) == pytest.approx(1 - cpr(MIB_FRACTIONS, late, log=True), abs=1e-12)


@pytest.mark.parametrize("fractions", [[0.5, 0.1], [0.0, 1.0], [1.0], [0.1, 0.5, 1.0]])
def test_areas_need_growing_sizes(fractions):
    with pytest.raises(ValueError, match="sizes"):
        cpr(fractions, [1.0, 1.0])
