"""``circuitmeter list methods``: a line each, without importing a method; a card each where a pattern asks."""

import json
import re
import subprocess
import sys

import pytest
from test_command_line import HEAVY

from circuitmeter.suite import cli
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.verbs.method_lines import method_lines

PLUG_IN = '''
from circuitmeter.suite.methods import method

@method("theirs", paper="their paper")
def discover(model, data, *, ablation, objective, seed):
    """What theirs does.

    And how.
    """
'''


def listed(capsys, *arguments):
    assert cli.main(["list", "methods", *arguments]) == 0
    return capsys.readouterr().out


def test_the_sources_say_what_the_registry_says():
    methods = [METHODS.get(name) for name in METHODS]
    assert method_lines() == [{"name": m.name, "paper": m.paper, "description": m.description} for m in methods]
    assert all(len(m.description) > 20 and m.description.endswith(".") for m in methods)


def test_the_table_imports_nothing_heavy_but_what_draws_it():
    heavy = tuple(name for name in HEAVY if name != "rich")
    code = (
        "import sys\nfrom circuitmeter.suite import cli\ncli.main(['list', 'methods'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *table, imported = found.stdout.splitlines()
    assert imported == "[]" and len(table) == 1 + len(set(METHODS))


@pytest.mark.parametrize("entry", ["theirs = of_theirs", "a-name = of_theirs", "a-name = of_theirs:discover"])
def test_methods_of_another_package_are_in_the_table(entry, capsys, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "of_theirs", raising=False)
    (tmp_path / "of_theirs.py").write_text(PLUG_IN)
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[circuitmeter.methods]\n{entry}\n")
    built_in = method_lines()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(METHODS, "_items", dict(METHODS._items))  # and without theirs again afterwards
    monkeypatch.setattr(METHODS, "_plugins_loaded", False)
    lines = method_lines()
    assert {"name": "theirs", "paper": "their paper", "description": "What theirs does."} in lines
    assert [line for line in lines if line["name"] != "theirs"] == built_in
    assert "\ntheirs  " in listed(capsys)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_terminal_a_method_is_one_line_of_it(width, capsys, monkeypatch):
    whole = listed(capsys).splitlines()  # what a program reads has no end cut off
    assert all(f"{line['paper']}  " in row and row.endswith(line["description"]) for row, line in _rows(whole))
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    cut = listed(capsys).splitlines()
    assert len(cut) == len(whole) and max(map(len, cut)) <= width
    for row, line in _rows(cut):
        name, paper, description = re.split("  +", row)
        assert name == line["name"]
        for shown, full in ((paper, line["paper"]), (description, line["description"])):
            assert shown == full or shown.endswith("…") and full.startswith(shown[:-1])


def _rows(table):
    return zip(table[1:], method_lines(), strict=True)


def test_a_pattern_or_json_gives_everything(capsys):
    card = listed(capsys, "edge-pruning").splitlines()
    assert card[0] == "edge-pruning" and all(line.startswith("  ") for line in card[1:])
    cards = listed(capsys, "eap*").split("\n\n")
    assert [card.splitlines()[0] for card in cards] == ["eap", "eap-gp", "eap-hvp", "eap-ig", "eap-path"]
    keys = ["paper", "description", "needs", "ablations", "objectives", "presets", "parameters", "cost"]
    for card in cards:
        assert [line.split(":")[0].strip() for line in card.splitlines() if line[2:3].strip()][1:] == keys
    rows = json.loads(listed(capsys, "--json"))
    assert [row["name"] for row in rows] == list(METHODS) and all(list(row) == ["name", *keys] for row in rows)
    (row,) = json.loads(listed(capsys, "eap-ig", "--json"))
    assert row["description"] == METHODS.get("eap-ig").description and row["parameters"]["steps"]
