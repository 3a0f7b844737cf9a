"""What pyproject.toml says about the packages, against the folders and what is installed."""

from __future__ import annotations

import ast
import importlib
import json
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "suite": "circuitmeter.suite",
    "tasks": "circuitmeter.tasks",
    "ground_truth": "circuitmeter.ground_truth",
    "reports": "circuitmeter.reports",
}


def setuptools_table() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_folder_of_modules_is_a_package():
    on_disk = {"circuitmeter"}
    for folder, package in FOLDERS.items():
        for module in (ROOT / folder).rglob("__init__.py"):
            parts = module.parent.relative_to(ROOT / folder).parts
            if "_top" not in parts:
                on_disk.add(".".join([package, *parts]))
    assert sorted(on_disk) == sorted(setuptools_table()["packages"])


def test_every_module_is_in_a_package():
    """A folder without an __init__.py would be left out of the wheel without a word."""
    for folder in FOLDERS:
        for module in (ROOT / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), module


@pytest.mark.parametrize("package", setuptools_table()["packages"])
def test_every_package_is_installed(package):
    assert importlib.import_module(package).__name__ == package


def test_data_files_are_installed():
    """Every file that belongs to a package and is no module is in the wheel."""
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            parts = path.relative_to(ROOT / folder).parts
            if path.is_file() and path.suffix not in (".py", ".pyc") and "_top" not in parts:
                assert files(package).joinpath(*parts).is_file(), path


def test_one_version():
    import circuitmeter

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert circuitmeter.__version__ == project["version"]
    assert f"version: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_lock_pins_every_direct_dependency_those_of_extras_too():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    wanted = [*project["dependencies"], *extras, "pytest"]
    pinned = [
        line for line in (ROOT / "requirements" / "lock.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert all(line.count("==") == 1 for line in pinned)
    names = {line.split("==")[0] for line in pinned}
    assert len(names) == len(pinned)
    for requirement in wanted:
        name = requirement.split(">")[0].split("=")[0]
        assert name in names, f"{name} is not in requirements/lock.txt"
    assert "torch==2.13.0" in pinned  # exactly: a range, or a local suffix, would take another build


def test_the_container_is_built_from_what_is_here():
    """Its Python is one of ours, what it copies is not left out, and its command is the package's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    said = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in lines if line and line[0].isupper()}
    python = said["FROM"].removeprefix("python:").removesuffix("-slim")
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    (entry,) = json.loads(said["ENTRYPOINT"])
    assert entry in project["scripts"]
    source, folder = said["COPY"].split()
    assert (
        source == "."
        and f"-c {folder}/requirements/lock.txt" in said["RUN"]
        and f'"{folder}${{EXTRAS}}"' in said["RUN"]
    )
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert not {"requirements", "pyproject.toml", "README.md", "LICENSE", *FOLDERS} & set(left_out)


def test_the_folders_are_never_imported_by_their_bare_names():
    """`import tasks` finds the checkout's folder when run from there, as a second copy of circuitmeter.tasks."""
    for folder in (*FOLDERS, "tests"):
        for module in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
                for name in names:
                    assert name.split(".")[0] not in FOLDERS, f"{module}: import circuitmeter.{name}"
