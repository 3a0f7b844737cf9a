"""Tables in plain text: aligned, whole where nobody asks for less, and without codes of a terminal."""

import pytest

from circuitmeter.reports.page.plain_text import text_table

LONG = "a text of many words " * 20


def test_columns_are_aligned_with_two_blanks_between_them_and_none_at_the_end():
    rows = [["  led", "1.00", ""], ["日本", "12,345.00", "x\ty"], ["", "", ""]]
    assert text_table(["name", "value", "why"], rows, [False, True, False]).split("\n") == [
        "name       value  why",
        "  led       1.00",
        "日本   12,345.00  x       y",
        "",
    ]
    assert text_table(["name", "value"], [], [False, True]) == "name  value"


def test_nothing_is_wrapped_or_cut_read_as_markup_or_coloured(monkeypatch):
    for name, value in (("COLUMNS", "20"), ("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1")):
        monkeypatch.setenv(name, value)
    texts = [f"[red]{LONG}[/red]", ":smile:", "https://example.org", LONG.strip()]
    head, line = text_table(["a", "b", "c", "d"], [texts], [False] * 4).splitlines()
    assert [part for part in line.split("  ") if part] == [texts[0], *texts[1:]]
    assert "\x1b" not in head + line


@pytest.mark.parametrize("dots", [True, False])
def test_rows_are_cut_to_a_width_and_the_first_column_is_whole(dots):
    rows = [["a-method", LONG, LONG], ["b", "short", "text"]]
    lines = text_table(["name", "paper", "what"], rows, [False] * 3, width=60, dots=dots).splitlines()
    assert max(map(len, lines)) == 60 and len(lines) == 3
    assert lines[1].startswith("a-method  a text of many") and lines[1].endswith("…") == dots
    assert lines[2].split() == ["b", "short", "text"] and lines[1].isascii() != dots


def test_a_column_leaves_what_it_needs_not_to_others_and_numbers_are_whole():
    rows = [["a-method", "123,456,789,012", "short", LONG, LONG]]
    (_, line) = text_table(
        ["name", "n", "of", "paper", "what"], rows, [False, True, *[False] * 3], width=80
    ).splitlines()
    name, number, short, paper, what = line.split("  ")
    assert (name, number, short) == ("a-method", "123,456,789,012", "short") and len(line) == 80
    assert len(paper) == (80 - len(name) - len(number) - 8) // 3 - len(short) and len(what) > len(paper)


def test_the_last_column_wraps_where_it_may():
    lines = text_table(["name", "what"], [["a", LONG], ["b", "x"]], [False] * 2, width=40, wrap="last").splitlines()
    assert max(map(len, lines)) <= 40 and " ".join(" ".join(lines[1:-1]).split()) == f"a {LONG.strip()}"
    assert all(line.startswith("      ") for line in lines[2:-1]) and lines[-1] == "b     x"


def test_the_first_column_may_wrap_and_no_other_is_cut():
    rows = [["a name of a value that has many words", "1.834", "not run", "(12)"]]
    table = text_table(["value", "ours", "verdict", "why"], rows, [False, True, False, False], width=40, wrap="first")
    first, *others = table.splitlines()[1:]
    assert max(map(len, table.splitlines())) <= 40 and first.split()[-4:] == ["1.834", "not", "run", "(12)"]
    assert " ".join([*first.split()[:-4], *" ".join(others).split()]) == rows[0][0]
