"""``reproduce`` and ``report`` on the command line: verdicts as JSON, mistakes as one line."""

import json
import re

import pytest

from circuitmeter.reports.reproduction import manifest as manifests
from circuitmeter.reports.reproduction.manifest import Manifest
from circuitmeter.suite.cli import main
from circuitmeter.suite.store.store import Store
from circuitmeter.suite.verbs import output


@pytest.fixture(autouse=True)
def svg_only(monkeypatch):
    """Figures as pages have them: whether the other files are written is looked at in tests/reports."""
    monkeypatch.setattr("circuitmeter.reports.chapters.files.DRAWN_FORMATS", ("svg",))


def test_a_paper_without_a_store_is_judged_by_what_needs_none(tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["reproduce", "bhaskar2024", "--from-store-only", "--store", str(tmp_path / "none"), "--out", str(out)]
    assert main([*asked, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["paper"] == "bhaskar2024" and {row["verdict"] for row in printed["values"]} == {"not run"}
    assert all(row["because"] for row in printed["values"])
    assert (out / "reproduction.html").is_file() and (out / "paper-figures" / "beside.svg").is_file()
    assert not (tmp_path / "none").exists()  # nothing was run


def test_a_paper_that_there_is_not(capsys):
    assert main(["reproduce", "conmy2032"]) == 2
    assert "conmy2023" in capsys.readouterr().err


def test_papers_are_listed(capsys):
    assert main(["list", "papers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["hanna2024"]["needs"] == ["gpt2"] and rows["conmy2023"]["values"] == 104
    for name, row in rows.items():
        found = manifests.load(name)
        assert len(row["parts"]) == len(found.part) and row["draws"] and row["judges"] and row["run"]
        assert sum(int(text.rpartition(": ")[2]) for text in row["reports"]) == row["values"]
        for part, said in zip(found.part, row["parts"], strict=True):
            assert said.startswith(f"{part.name}: ") and (part.model or "on models that come with the package") in said
            assert ("on one worker" in said) == (part.model is None), said
    assert "language: 48 cells on gpt2, or 36 on another model" in rows["hanna2024"]["parts"][0]
    assert rows["conmy2023"]["parts"] == [
        "tracr: 8 cells on models that come with the package, about 8.0 s on one worker; 8 values"
    ]


def test_a_list_of_papers_says_what_reproduce_does_and_a_paper_its_parts(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["list", "papers"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "arcuschin2024" in line and "judges no value, draws 3 figures" in line]
    assert main(["list", "papers", "conmy2023"]) == 0
    card = capsys.readouterr().out
    assert "reports:     Table 2: 4\n               Table 3: 4\n               Tables 2 and 3: 96\n" in card
    assert "8 measured in the part tracr\n               96 taken again from points published with the paper" in card
    assert "circuitmeter reproduce conmy2023: runs tracr into results/conmy2023" in card


def test_several_stores_need_a_place_for_their_report(tmp_path, capsys):
    stores = [str(Store(tmp_path / name, create=True).path) for name in "ab"]
    assert main(["report", *stores]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["report", *stores, "--out", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both" / "leaderboard.json").is_file()
    assert "2 stores" in (tmp_path / "both" / "report.html").read_text()


CUT_DOWN = {
    "name": "small2024",
    "title": "A small paper",
    "citation": "Nobody 2024",
    "about": "One program and one language model.",
    "part": [
        {"name": "tracr", "benchmark": {"grid": [{"task": "tracr/hist", "method": ["truth"], "ablation": ["patch"]}]}},
        {
            "name": "language",
            "model": "gpt2",
            "benchmark": {"grid": [{"task": ["hypernymy"], "method": ["eap"], "ablation": ["patch"]}]},
            "elsewhere": {
                "grid": [{"task": ["sva"], "method": ["eap"], "ablation": ["patch"], "prompts": 8}],
                "evaluation": {"ablation": ["patch"], "size": [0.1, 0.5], "prompts": 8},
            },
        },
    ],
    "value": [
        {
            "name": "hist: truth",
            "reported": 1.0,
            "part": "tracr",
            "measured": {"table": "recovery", "where": {"task": "tracr/hist", "own": True}, "column": "auroc"},
        },
        {
            "name": "sva: eap",
            "reported": 2.0,
            "part": "language",
            "measured": {"table": "evaluated", "where": {"task": "sva", "asked": 0.5}, "column": "faithfulness"},
        },
        {"name": "hypernymy", "reported": 3.0, "part": "language"},
    ],
    "comparison": [
        {"values": "hypernymy", "quantity": "faithfulness", "unit": "fraction", "on": "GPT-2"},
        {"values": "*", "quantity": "a measure", "unit": "fraction", "on": "some model", "ours": "the same"},
    ],
    "figure": [
        {
            "name": "faithfulness",
            "draw": "lines",
            "title": "Faithfulness",
            "caption": "c",
            "table": "evaluated",
            "panel": "task",
            "x": "asked",
            "y": "faithfulness",
            "labels": ["Share of the edges", "Faithfulness"],
            "part": "language",
        }
    ],
    "gallery": [{"part": "tracr", "figures": ["roc"]}],
    "card": [
        {
            "name": "card",
            "title": "A card",
            "caption": "c",
            "task": "tracr/hist@fixed",
            "circuits": {"true": "patch"},
            "ablation": ["patch", "zero"],
            "prompts": 10,
            "random": 0,
        }
    ],
}


@pytest.fixture
def small_paper(monkeypatch):
    made = Manifest.model_validate(CUT_DOWN)
    monkeypatch.setattr(manifests, "load", lambda _name: made)


def test_a_small_paper_is_run_drawn_and_judged(small_paper, tmp_path, capsys):
    asked = ["reproduce", "small2024", "--store", str(tmp_path / "s"), "--workers", "1", "--json"]
    assert main([*asked, "--model", "mini"]) == 0
    verdicts = {row["name"]: row for row in json.loads(capsys.readouterr().out)["values"]}
    assert [row["verdict"] for row in verdicts.values()] == ["reproduced", "other model", "not run"]
    assert 0 < verdicts["sva: eap"]["ours"] <= 1.5 and "gpt2" in verdicts["hypernymy"]["because"]
    figures = tmp_path / "s" / "paper-figures"
    assert {path.stem for path in figures.glob("*.svg")} == {"beside", "faithfulness", "roc", "card"}
    # The model stands in the figures that hold numbers of it, and in no other.
    for name, named in (("beside", True), ("faithfulness", True), ("roc", False), ("card", False)):
        assert (b"run on mini, not on gpt2" in (figures / f"{name}.svg").read_bytes()) == named, name
    before = {path: path.read_bytes() for path in (tmp_path / "s").rglob("*.*") if path.is_file()}
    assert main([*asked, "--model", "mini"]) == 0  # nothing is run again, and everything drawn again is the same
    capsys.readouterr()
    for path, content in before.items():
        assert path.read_bytes() == content, path


def test_without_a_model_the_rest_is_run(small_paper, tmp_path, capsys):
    assert main(["reproduce", "small2024", "--store", str(tmp_path / "s"), "--workers", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["values"]
    assert [row["verdict"] for row in rows] == ["reproduced", "not run", "not run"]
    assert "--model" in rows[1]["because"]


def test_mistakes_are_one_line(tmp_path, capsys):
    wrong = [
        ["reproduce", "miller2024", "--store", str(tmp_path / "s"), "--model", "no-such-model"],
        ["reproduce", "conmy2023", "--from-store-only", "--store", str(tmp_path / "t"), "--out", "/dev/null/x"],
    ]
    for asked in wrong:
        assert main(asked) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and lines[0].endswith("."), lines


def test_the_terminal_says_verdict_tolerance_and_reason_of_each_value(tmp_path, capsys):
    asked = ["reproduce", "mueller2025", "--from-store-only", "--store", str(tmp_path / "none"), "--out"]
    assert main([*asked, str(tmp_path)]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split() == ["value", "reported", "ours", "tolerance", "verdict", "why"]

    def row(name):
        return next(line for line in lines if line.startswith(name)).removeprefix(name).split()

    # What was computed from points that somebody published is no reproduction, and says so in a word of its own.
    assert row("CPR as its authors print it: eap-ig") == ["1.834", "1.834", "0.0005", "recomputed"]
    reported, ours, tolerance, *verdict, why = row("CPR of the published curve: eap-ig")
    assert (reported, ours, tolerance, verdict) == ("1.850", "1.834", "0.0050", ["not", "comparable"])
    assert any(line.startswith(f"{why} the curve is of another project's circuits") for line in lines)
    assert "2 recomputed from published points, 2 not comparable, 33 not run." in printed.out
    assert " reproduced" not in lines[-1].split("Figures")[0]
    # What was not run is told by its reason and its number; each has a line where that is asked for.
    assert not any("not run" in line for line in lines[1:5])
    assert sum(int(n) for n in re.findall(r"^\(\d+\) (\d+) not run: ", printed.out, re.MULTILINE)) == 33
    assert main([*asked, str(tmp_path), "--all"]) == 0
    assert sum("not run" in line for line in capsys.readouterr().out.splitlines() if "(" in line) >= 33
    assert "1 drawings done" not in printed.out and "drawings done" in printed.err


def test_drawing_is_told_until_the_last_figure(capsys, monkeypatch):
    clock = iter([0.0, *(10.0 * done for done in range(1, 100))])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    with output.drawing() as progress:
        for done in range(1, 8):
            progress(done, 7)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("drawing ") and told[0].endswith(" of 7") and len(told) > 2
    assert told[-1] == "7 drawings done"
    monkeypatch.setattr(output.sys.stderr, "isatty", lambda: True, raising=False)
    with output.drawing() as progress:
        for done in range(1, 4):
            progress(done, 3)
    told = capsys.readouterr().err
    assert all(f"\rdrawing {done} of 3 " in told for done in (1, 2, 3))
