"""ACDC's and MIB's areas: small cases from their definition, and the ACDC paper's own numbers."""

import json
import math
import os
from pathlib import Path

import pytest

from circuitmeter.suite.scoring.published import ACDC_SMALLEST_THRESHOLD, mib_auroc, pessimistic_auc

PUBLISHED = {  # (task, objective): area over edges, area over nodes; Table 2 of arXiv 2304.14997, ACDC
    ("ioi", "kl_div"): (0.869, 0.880),
    ("ioi", "logit_diff"): (0.589, 0.777),
    ("docstring", "kl_div"): (0.982, 0.950),
    ("docstring", "docstring_metric"): (0.972, 0.938),
    ("greaterthan", "kl_div"): (0.853, 0.890),
    ("tracr-reverse", "l2"): (0.200, 0.312),
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


def reported_folder() -> Path | None:
    given = os.environ.get("CIRCUITMETER_REPORTED")
    near = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "reported"
    folder = (Path(given) if given else near) / "conmy2023"
    return folder if folder.is_dir() else None


@pytest.mark.parametrize("task_and_objective", PUBLISHED, ids=" ".join)
def test_the_acdc_papers_areas_come_out_of_its_points(task_and_objective):
    folder = reported_folder()
    if folder is None:
        pytest.skip(
            "the ACDC paper's result files are not here; set CIRCUITMETER_REPORTED to the folder that holds conmy2023/"
        )
    points = json.loads((folder / "acdc-{}-{}-False-0.json".format(*task_and_objective)).read_text())
    while "edge_fpr" not in points:
        (points,) = points.values()
    shown = [
        i for i, threshold in enumerate(points["score"]) if not 0 < threshold < ACDC_SMALLEST_THRESHOLD * (1 - 1e-6)
    ]
    for level, published in zip(("edge", "node"), PUBLISHED[task_and_objective], strict=True):
        rates = [[points[f"{level}_{rate}"][i] for i in shown] for rate in ("fpr", "tpr")]
        assert round(pessimistic_auc(*rates), 3) == published
