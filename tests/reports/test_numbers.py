"""One spelling of a number: tables, the card, the page and the terminal write it in the same way."""

import re
import sys
from pathlib import Path

import pytest

from circuitmeter.reports.card.words import faithfulness_text, variance_share
from circuitmeter.reports.page import markup, table
from circuitmeter.reports.page.standing import comparison_text
from circuitmeter.reports.page.table import MINUS, MISSING, Table, TableCell, number_cell
from circuitmeter.reports.read.standing import RivalComparison
from circuitmeter.suite.scoring.clustered import ClusteredTest
from circuitmeter.suite.scoring.sensitivity.card_model import FactorShare, SettingValue
from circuitmeter.suite.verbs import circuit_tests
from circuitmeter.suite.verbs.output import print_lines, print_table

ROOT = Path(table.__file__).parents[1]
HALF = f"{MINUS}0.50"


def test_a_negative_number_a_missing_one_and_nearly_all_look_the_same_everywhere(capsys):
    assert table.number(-0.5) == table.number_of_any_size(-0.5) == HALF
    assert (
        faithfulness_text(SettingValue(setting="s", levels={}, value=-0.5, low=-0.5, high=None))
        == f"{HALF} [{HALF}, {MISSING}]"
    )
    share = FactorShare(factor="ablation", levels=2, first=0.9999)
    assert variance_share(share, "first") == table.percent(0.9999) == ">99 %"
    print_table(["a", "b"], [[-0.5, None], [-0.5, float("nan")]])
    assert capsys.readouterr().out.splitlines()[1:] == [f"{HALF}  {MISSING}"] * 2
    cells = (number_cell(table.number(-0.5), -0.5), TableCell(MISSING))
    shown = Table("t", "T", "c", ("a", "b"), (True, True), (cells,))
    assert f"| {HALF} | {MISSING} |" in markup.markdown(shown)
    assert r"$-$0.50 & -- \\" in markup.latex(shown)


def test_sentences_on_the_terminal_have_the_numbers_of_tables(capsys):
    numbers = {"mean_difference": -0.25, "low": -0.5, "high": 0.0, "p_value": 0.01, "smallest_p": 0.01}
    said = comparison_text(
        RivalComparison("eap", ClusteredTest(n_pairs=3, n_clusters=8, n_different=8, **numbers), 0.01)
    )
    assert f"mean difference {MINUS}0.250 [{MINUS}0.500, 0.000] (8 programs, 3 pairs), p = 0.01: worse" in said
    found = {"removed": ["a"], "share": 0.9999}
    entry = {"setting": "s", "hypotheses": [], "minimality": found}
    circuit_tests.print_circuit_tests([entry | {"completeness": {"completeness": -0.5, "constant": False}}])
    text = capsys.readouterr().out
    assert f"completeness {HALF}:" in text and "(>99 %)" in text


def test_a_terminal_without_unicode_gets_what_it_can_print(monkeypatch, capsys):
    monkeypatch.setattr("circuitmeter.suite.verbs.output.unicode_terminal", lambda: False)
    print_table(["a", "b"], [[-0.5, None]])
    assert capsys.readouterr().out.splitlines()[1] == "-0.50  -"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123, "0.012"),
        (4.5678, "4.57"),
        (12345.6, "12,346"),
        (float("nan"), MISSING),
        (-1234, f"{MINUS}1,234"),
    ],
)
def test_amounts(value, text):
    assert table.amount(value) == text


def test_nothing_is_rounded_to_a_negative_zero_and_signs_are_kept_apart():
    assert table.number(-0.001) == "0.00" and table.number(0.25, 3, sign=True) == "+0.250"
    assert table.number(-0.25, 3, sign=True) == f"{MINUS}0.250" and table.number(0.0, sign=True) == "0.00"
    assert table.p_value(0.0001) == "<0.001" and table.p_value(1.0) == "1.000"


def test_a_value_and_its_interval_have_the_same_decimals():
    assert table.with_interval(0.575, 0.575, 0.864) == f"{table.number(0.575)} [{table.number(0.575)}, 0.86]"
    assert table.with_interval(0.25, -0.5, 0.5, 3, sign=True) == f"+0.250 [{MINUS}0.500, +0.500]"
    assert table.with_interval(0.25, None, None) == table.with_interval(0.25, float("nan"), None) == "0.25"


def test_what_is_neither_none_nor_all_is_not_called_so():
    texts = [table.percent(value) for value in (0.0, 0.004, 0.5, 0.996, 1.0, None, -0.25)]
    assert texts == ["0 %", "<1 %", "50 %", ">99 %", "100 %", MISSING, f"{MINUS}25 %"]


def test_no_other_file_rounds_a_number_into_text():
    """Coordinates and sizes of drawings apart, which nobody reads. Verbs may write p values and forecasts of cost."""
    drawn, forecast = {"page.py", "circuit_view.py", "viewer.py"}, {"costs.py"}
    reports = [
        path for path in ROOT.rglob("*.py") if path.name not in drawn | {"table.py"} and "read" not in path.parts
    ]
    verbs = [path for path in (ROOT.parent / "suite" / "verbs").rglob("*.py") if path.name not in forecast]
    for files, kinds in ((reports, "fg%"), (verbs, "f%")):
        rounding = re.compile(rf"\{{[^{{}}]*:[+,]*\.\d[{kinds}]\}}")
        assert [path.name for path in files if rounding.search(path.read_text(encoding="utf-8"))] == []


def test_numbers_and_their_intervals_have_the_same_decimals(capsys):
    columns = ["name", "full", "nothing", "share", "low", "high", "other"]
    rows = [["a", 12.154, 0.0123, 0.54, -0.049, 0.6, 0.049], ["b", 1.9e-08, 0.0123, 0.094, None, 1234.5, 0.5]]
    print_table(columns, rows, one_unit=("full", "nothing"))
    _, first, second = capsys.readouterr().out.replace("\N{MINUS SIGN}", "-").splitlines()
    assert first.split() == ["a", "12.15", "0.01", "0.54", "-0.05", "0.60", "0.049"]
    assert second.split() == ["b", "0.000", "0.012", "0.09", "\N{EN DASH}", "1,234", "0.50"]


def test_lines_are_wrapped_on_a_terminal_alone(capsys, monkeypatch):
    text = "short\n  undefined: " + "because of a reason " * 8 + "(3 cells)\n\nend"
    print_lines(text)
    assert capsys.readouterr().out == f"{text}\n"
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_lines(text)
    short, first, second, *_, blank, end = capsys.readouterr().out.splitlines()
    assert (short, blank, end) == ("short", "", "end") and 40 < len(first) <= 60
    assert first.startswith("  undefined: because") and second.startswith("      ") and second[6] != " "
