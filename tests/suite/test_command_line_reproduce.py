"""``reproduce`` and ``report`` on the command line: verdicts as JSON, mistakes as one line."""

import json

from circuitmeter.suite.cli import main
from circuitmeter.suite.harness.store import Store


def test_a_paper_without_a_store_is_judged_by_what_needs_none(tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["reproduce", "bhaskar2024", "--from-store-only", "--store", str(tmp_path / "none"), "--out", str(out)]
    assert main([*asked, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["paper"] == "bhaskar2024" and {row["verdict"] for row in printed["values"]} == {"not run"}
    assert all(row["because"] for row in printed["values"])
    assert (out / "reproduction.html").is_file() and (out / "figures" / "beside.pdf").is_file()
    assert not (tmp_path / "none").exists()  # nothing was run


def test_a_paper_that_there_is_not(capsys):
    assert main(["reproduce", "conmy2032"]) == 2
    assert "conmy2023" in capsys.readouterr().err


def test_papers_are_listed(capsys):
    assert main(["list", "papers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["hanna2024"]["needs"] == ["gpt2"] and rows["conmy2023"]["values"] == 104


def test_several_stores_need_a_place_for_their_report(tmp_path, capsys):
    stores = [str(Store(tmp_path / name, create=True).path) for name in "ab"]
    assert main(["report", *stores]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["report", *stores, "--out", str(tmp_path / "both")]) == 0
    assert (tmp_path / "both" / "leaderboard.json").is_file()
    assert "2 stores" in (tmp_path / "both" / "report.html").read_text()
