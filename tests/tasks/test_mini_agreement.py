"""The table of docs/mini-models.md is what is measured: some of its methods, again."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def agreement():
    spec = importlib.util.spec_from_file_location("mini_agreement", ROOT / "benchmarks" / "mini_agreement.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.agreement


@pytest.mark.parametrize(("task", "column"), [("ioi", 1), ("greater-than", 4)])
def test_methods_agree_with_exact_patching_as_documented(task, column, agreement):
    lines = (ROOT / "docs" / "mini-models.md").read_text(encoding="utf-8").splitlines()
    table = {
        row[0].strip("`"): row for line in lines if len(row := [c.strip() for c in line.strip("| ").split("|")]) == 7
    }
    found = list(agreement("mini", task, 50, ["eap", "eap-ig", "relp"]))
    assert [row["method"] for row in found] == ["eap", "eap-ig", "relp"]
    for row in found:
        documented = [float(number) for number in table[row["method"]][column : column + 3]]
        assert documented == pytest.approx([row["spearman"], row["at 10 %"], row["at 30 %"]], abs=0.011), row["method"]
