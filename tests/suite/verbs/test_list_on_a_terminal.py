"""``circuitmeter list`` on a terminal: no line is wider, no number is cut, and what is known of one is in its card."""

import sys

import pytest

from circuitmeter.suite import cli
from circuitmeter.suite.verbs import listing


def listed(capsys, *arguments):
    assert cli.main(["list", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture
def terminal(monkeypatch):
    def of(width):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)

    return of


@pytest.fixture
def of_tasks(monkeypatch):
    """A few tasks and a family in place of all, which take seconds to load."""
    asked = "who of two people is given the object; counterfactual: "
    own = {"ioi": "all three names replaced by others", "ioi@flip": "the second subject replaced (MIB)"}
    rows = [
        {"name": name, "model": "mini, gpt2, gpt2-medium, gpt2-xl", "truth": None, "description": asked + text}
        for name, text in own.items()
    ]
    rows += [{"name": f"other{n}", "model": "any", "truth": None, "description": "another one"} for n in range(12)]
    rows += [
        {"name": f"tracr/p{n}", "model": f"tracr/p{n}", "truth": f"tracr/p{n}", "description": ""} for n in range(20)
    ]
    monkeypatch.setitem(listing._ROWS, "tasks", lambda: rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(listing._ROWS))
def test_every_table_fits(kind, capsys, monkeypatch, terminal):
    rows = listing._ROWS[kind]()
    monkeypatch.setitem(listing._ROWS, kind, lambda: rows)
    whole = listed(capsys, kind).splitlines()
    for width in (80, 100):
        terminal(width)
        shown = listed(capsys, kind).splitlines()
        assert max(map(len, shown)) <= width, kind
        named = [line for line in shown if not line.startswith(" ")]
        assert [line.split()[0] for line in named] == [line.split()[0] for line in whole]  # no name is cut
        assert len(whole) - 1 <= listing._FEW or len(shown) == len(whole)  # a line each


def test_lines_of_variants_differ(capsys, terminal, of_tasks):
    terminal(80)
    heading, *lines = listed(capsys, "tasks").splitlines()
    assert heading.split() == ["name", "model", "description"] and max(map(len, lines)) <= 80
    assert "  who of two people" in lines[0] and "  ... the second subject" in lines[1]
    assert lines[-1].split()[:2] == ["tracr/*", "20:"]


def test_a_name_gives_all_that_is_known_of_it(capsys, terminal, of_tasks):
    terminal(60)
    card = listed(capsys, "tasks", "ioi@flip").splitlines()
    assert card[0] == "ioi@flip" and max(map(len, card)) <= 60 and not any("truth" in line for line in card)
    assert " ".join(" ".join(card).split()).endswith(
        "given the object; counterfactual: the second subject replaced (MIB)"
    )
    many = listed(capsys, "tasks", "tracr/*").splitlines()
    assert len(many) == 21 and max(map(len, many)) <= 60


def test_numbers_of_a_family_are_told_by_their_range(capsys, monkeypatch):
    rows = [{"name": f"gates/g{n}", "description": "", "n_edges": 10 + n, "inputs": 4} for n in range(12)]
    monkeypatch.setitem(listing._ROWS, "truths", lambda: rows)
    (_, line) = listed(capsys, "truths").splitlines()
    assert line.split()[:5] == ["gates/*", "10", "to", "21", "12:"]
