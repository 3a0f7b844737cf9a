"""The code of the documentation runs: page by page, in the order in which it is read, in a folder of its own.

A block that begins with ``# file: NAME`` is that file. Other Python blocks of a page share their names. Each line of
a shell block is a command of ``circuitmeter`` that must succeed; ``not-run`` marks what takes weights or minutes,
``needs MODULE`` what is run where that module is installed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pandas as pd
import pytest

import circuitmeter
from circuitmeter import ground_truth
from circuitmeter.reports.reproduction.manifest import Manifest
from circuitmeter.suite.cli import main
from circuitmeter.suite.interchange.files import load as load_circuit
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.scoring.ranking import auroc
from circuitmeter.tasks import TASKS

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, what is said after it, its text."""

    language: str
    marks: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(language, marks.strip(), text) for language, marks, text in BLOCK.findall(page.read_text())]


def written(block: Block, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(block.text)


def runs(block: Block) -> bool:
    """Whether a shell block's commands can be run here."""
    needs, _, module = block.marks.partition(" ")
    if needs != "needs":
        return block.marks != "not-run"
    return find_spec(module.partition(".")[0]) is not None and find_spec(module) is not None


def pages() -> list[str]:
    return sorted(page.name for page in DOCS.glob("*.md") if blocks(page))


@pytest.mark.parametrize("name", pages())
def test_the_code_of_a_page_runs(name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # Whether the other files of figures are written is looked at in tests/reports.
    monkeypatch.setattr("circuitmeter.reports.chapters.files.DRAWN_FORMATS", ("svg",))
    for registry in (METHODS, TASKS):  # what a page registers is gone when it ends
        monkeypatch.setattr(registry, "_items", dict(registry._items))
    names: dict[str, object] = {"__name__": "docs"}
    for block in blocks(DOCS / name):
        file = re.match(r"# file: (\S+)\n", block.text)
        if file:
            written(block, tmp_path / file.group(1))
        elif block.language == "python":
            exec(compile(block.text, name, "exec"), names)
        elif block.language == "sh" and runs(block):
            for line in block.text.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "circuitmeter" and main(arguments) == 0, (line, capfd.readouterr().err)


def test_the_package_of_the_recipes_is_whole(tmp_path, monkeypatch):
    """Each of its entry points is there, with what it imports, in files of the package alone; its figure is drawn."""
    for block in blocks(DOCS / "extending.md"):
        if file := re.match(r"# file: (pyproject.toml|my_package/\S+)\n", block.text):
            written(block, tmp_path / file.group(1))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(METHODS, "_items", dict(METHODS._items))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, name)
    METHODS._items.pop("weight-free", None)
    groups = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["entry-points"]
    made = {
        group.partition(".")[2]: EntryPoint(name, value, group).load()
        for group, points in groups.items()
        for name, value in points.items()
    }
    assert set(made) == {"methods", "tasks", "executors", "chapters"} and "weight-free" in METHODS
    assert made["tasks"]().data().n == 3 and callable(made["executors"])
    table = pd.DataFrame({"method": ["eap", "exact"], "auroc": [0.8, 1.0], "seconds": [1.0, 2.0]})
    chapter, results = made["chapters"](), SimpleNamespace(recovery=table, aggregate=table, records=[1, 2])
    assert [len(found.rows) for found in chapter.tables(results)] == [2]
    assert [len(plot.draw().axes) for plot in chapter.figures(results)] == [1]
    assert chapter.words(results) == ["2 cells were timed."]


def test_the_smallest_manifest_is_one():
    (text,) = (block.text for block in blocks(DOCS / "extending.md") if block.text.startswith("# file: nobody2026"))
    manifest = Manifest.model_validate(tomllib.loads(text) | {"name": "nobody2026"})
    assert [value.name for value in manifest.values] == ["hist: EAP"]


BLOCKED = "import runpy, sys; sys.modules['circuitmeter'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0])"


@pytest.mark.parametrize(
    ("truth", "ablation"), [("tracr/hist", "patch"), ("tracr/sort", "zero"), ("gates/or", "patch")]
)
def test_a_truth_is_read_and_scores_are_judged_without_this_package(truth, ablation, tmp_path):
    """Random scores, whose area is not 1 by any mistake in reading, have the area that the package computes."""
    scores, script = tmp_path / "scores.json", tmp_path / "read_truth.py"
    (text,) = (block.text for block in blocks(DOCS / "truth-files.md") if block.language == "python")
    script.write_text(text)
    assert len([line for line in text.splitlines()[1:] if line]) == 13  # as the page says
    asked = ("discover", "--task", truth, "--method", "random", "--ablation", ablation, "--out", str(scores))
    assert main(asked) == 0
    known = ground_truth.load(truth)
    command = (sys.executable, "-c", BLOCKED, script, known.directory, ablation, scores)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reference = known.reference(ablation)
    values = load_circuit(scores).scores.values.abs()
    counted = known.graph.exists & ~reference.optional
    area = auroc(reference.core[counted].numpy(), values[counted].numpy())
    assert float(printed.split()[-1]) == pytest.approx(area, abs=1e-12) and 0 < area < 1


def test_every_page_is_found_from_the_first():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text()))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert {"method-author.md", "extending.md"} <= set(pages())


def test_every_page_is_in_the_sites_menu():
    listed = re.findall(r"([\w-]+\.md)$", (DOCS.parent / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_api_page_has_every_public_name():
    """Beside them it has what these take and give."""
    lines = [line for line in (DOCS / "api.md").read_text().splitlines() if line.startswith(":::")]
    named = {line.rpartition(".")[2] for line in lines}
    renamed = {"load_task": "load"}
    assert {renamed.get(name, name) for name in circuitmeter.__all__} - {"__version__"} < named
    for line in lines:
        module, _, name = line.removeprefix("::: ").rpartition(".")
        assert hasattr(import_module(module), name), line


def test_every_test_that_a_page_names_is_there():
    """Of the threat model, and of every other page."""
    tests, named = Path(__file__).parent, 0
    for page in DOCS.glob("*.md"):
        for path, function in re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)(?:::(\w+))?`", page.read_text()):
            found = [file for file in tests.rglob(Path(path).name) if file.as_posix().endswith(f"/{path}")]
            assert found, f"{page.name} names {path}"
            assert not function or f"def {function}(" in found[0].read_text(), f"{page.name} names {path}::{function}"
            named += 1
    assert named > 10


def test_the_names_that_the_migration_page_gives_are_there():
    page = (DOCS / "migration.md").read_text()
    renamed = re.findall(r"^\| `([\w.]+)` \| `[^|]*` \| `(\w+)` \|$", page, re.MULTILINE)
    assert len(renamed) > 50
    for module, name in renamed:
        assert hasattr(import_module(f"circuitmeter.{module}"), name), (module, name)
    moved = {
        name
        for row in re.findall(r"^\| `\S+.* \| (.*) \|$", page, re.MULTILINE)
        for name in re.findall(r"`(suite\.[a-z_.]+)`", row)
    }
    for module in moved:
        assert find_spec(f"circuitmeter.{module}"), module
