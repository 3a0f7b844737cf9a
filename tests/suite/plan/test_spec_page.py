"""The page on benchmark files is that of the models, and says of every key what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from circuitmeter.suite.plan.spec import Spec
from circuitmeter.suite.plan.spec_page import TABLES, spec_page

PAGE = Path(__file__).parents[3] / "docs" / "benchmark-files.md"


def test_the_page_is_that_of_the_models():
    command = "python -m circuitmeter.suite.plan.spec_page docs/benchmark-files.md"
    assert PAGE.read_text(encoding="utf-8") == spec_page(), f"{command} writes it again"


@pytest.mark.parametrize("heading", TABLES)
def test_every_key_has_a_row_with_a_meaning(heading):
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    fields = TABLES[heading][0].model_fields
    assert [row[0].strip("`") for row in rows] == [field.alias or name for name, field in fields.items()]
    assert all(len(row) == 4 and row[1] and row[3] for row in rows)


def test_every_model_of_a_benchmark_is_on_the_page():
    assert {model.__name__ for model, _ in TABLES.values()} == {"Spec", *Spec.model_json_schema()["$defs"]}


def test_required_and_defaults_are_those_that_are_enforced():
    text = PAGE.read_text(encoding="utf-8")
    required = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| required", text, re.MULTILINE))
    assert required == {"grid", "task", "method", "ablation", "name", "because"}
    assert re.search(r"^\| `task` \| one or more: text \| required \|", text, re.MULTILINE)
    assert re.search(r"^\| `selection` \| .* \| `\"top-n\"` \|", text, re.MULTILINE)
