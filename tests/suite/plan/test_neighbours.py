"""The version of a user's method follows all that its file takes from its own folder, and nothing else."""

from pathlib import Path

import pytest

from circuitmeter.suite.interchange.external import load_external
from circuitmeter.suite.methods import METHODS
from circuitmeter.suite.methods.registry import Method
from circuitmeter.suite.methods.source_code import SourceCode
from circuitmeter.suite.plan import names
from circuitmeter.suite.users_file import with_neighbours

FUNCTION = "def discover(model, data, *, ablation, objective, seed):\n    return {}\n"
CLASS = "class Adapter:\n    def edge_scores(self, model, prompts, *, ablation, objective):\n        return {}\n"
# What the method's file has, and other files, of which the last one is edited.
TAKEN = {
    "from a module": ("from helper import f", ["helper.py"]),
    "a module": ("import helper as h", ["helper.py"]),
    "in a function": ("def g():\n    if g:\n        import helper", ["helper.py"]),
    "by a text": ("from importlib import import_module\nhelper = import_module('helper')", ["helper.py"]),
    "a module of a package": ("import pack.sub.deep", ["pack/__init__.py", "pack/sub/__init__.py", "pack/sub/deep.py"]),
    "the package of a module": ("import pack.deep", ["pack/deep.py", "pack/__init__.py"]),
    "a name that is a module": ("from pack import deep", ["pack/__init__.py", "pack/deep.py"]),
    "a folder without __init__.py": ("import loose.deep", ["loose/deep.py"]),
    "all names of a package": ("from pack import *", ["pack/deep.py", "pack/__init__.py:__all__ = ['deep']"]),
    "what a module imports": ("import helper", ["helper.py:import other", "other.py"]),
    "what a package imports": ("import pack", ["pack/__init__.py:from . import deep", "pack/deep.py"]),
    "with two dots": ("import pack.a.b", ["pack/__init__.py", "pack/a/__init__.py", "pack/a/b.py:from ..c import x",
                                          "pack/c.py:x = 0"]),
    "from a circle": ("import helper", ["helper.py:import other", "other.py:import helper, mine"]),
}  # fmt: skip
NOT_TAKEN = {
    "nobody's": ("import torch", ["helper.py"]),
    "a neighbour of a package": ("import pack.deep", ["pack/deep.py", "pack/__init__.py", "deep.py"]),
    "a comment": ("# import helper", ["helper.py"]),
    "no path": (f"import_module('a\\0b')\nimport {'x' * 300}\nfrom {'y' * 300} import *", ["helper.py"]),
}


def written(folder: Path, files: list[str]) -> Path:
    """Writes the files, each stated as ``PATH`` or ``PATH:TEXT``; returns the last one."""
    for each in files:
        path, _, text = each.partition(":")
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder / path


def versions(folder: Path, text: str, files: list[str]) -> list[str]:
    """Of a method before and after an edit of the last file, and after one of its words."""
    (folder / "mine.py").write_text(f"{text}\n{FUNCTION}")
    edited, found = written(folder, files), []
    for more in ("", "\ny = 1\n", "\n# why\ny = 1\n"):
        edited.write_text(files[-1].partition(":")[2] + more)
        found.append(SourceCode(*with_neighbours(folder / "mine.py")).hash)
    return found


@pytest.mark.parametrize(("text", "files"), TAKEN.values(), ids=TAKEN)
def test_an_edit_of_what_is_imported_from_the_own_folder_makes_another_version(tmp_path, text, files):
    before, after, with_words = versions(tmp_path, text, files)
    assert before != after == with_words


@pytest.mark.parametrize(("text", "files"), NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_files_that_are_not_imported_do_not_count(tmp_path, text, files):
    assert len(set(versions(tmp_path, text, files))) == 1


def test_a_file_alone_has_the_version_of_its_code(tmp_path):
    file = written(tmp_path, [f"mine.py:{FUNCTION}"])
    assert names.load_file(f"{file}:discover").version == SourceCode(file).hash


def test_a_method_that_is_loaded_by_its_name_has_another_version_after_the_edit(tmp_path):
    (tmp_path / "mine.py").write_text(f"import helper_of_a_version\n{FUNCTION}")
    found = []
    for text in ("x = 1\n", "x = 22\n"):
        (tmp_path / "helper_of_a_version.py").write_text(text)
        found.append(names.callable_method(f"{tmp_path / 'mine.py'}:discover").version)
    assert found[0] != found[1]


@pytest.mark.parametrize("module", ["adapter_of_a_version", "pack_of_a_version.adapter"])
def test_adapters_to_other_peoples_code_have_the_same_rule(tmp_path, module):
    file = written(tmp_path, [f"{module.replace('.', '/')}.py:import near_of_a_version\n{CLASS}"])
    found = []
    for text in ("x = 1\n", "x = 22\n"):
        (tmp_path / "near_of_a_version.py").write_text(text)
        found.append(load_external(f"{tmp_path}/external:{module}:Adapter").version)
    assert found[0] != found[1] and SourceCode(file).hash not in found


def test_methods_of_other_packages_have_the_version_of_what_they_take_from_their_package(tmp_path, monkeypatch):
    text = f"from .deep import x\nfrom pack_of_a_method import wide\n{FUNCTION}"
    package = tmp_path / "site-packages" / "pack_of_a_method"
    written(package, ["__init__.py", f"theirs.py:{text}", "deep.py:x = 1", "wide.py", "apart.py", "../torch.py"])
    monkeypatch.syspath_prepend(str(package.parent))
    from pack_of_a_method.theirs import discover

    code = SourceCode(package / "theirs.py")
    monkeypatch.setitem(METHODS._items, "theirs", Method("theirs", discover, "a paper", code=code))
    its = SourceCode(*(package / f"{each}.py" for each in ("theirs", "__init__", "deep", "wide")))
    assert names.method("theirs").version == its.hash != code.hash
    monkeypatch.setitem(METHODS._items, "theirs", Method("theirs", discover, "a paper", code="its own"))
    assert names.method("theirs").version == "its own"


def test_shipped_methods_have_the_version_of_their_files():
    assert all(names.method(name).version == METHODS.get(name).version for name in METHODS)
