"""Every example in every docstring of the package runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

FOLDERS = ("suite", "tasks", "ground_truth", "reports")


def modules() -> list[str]:
    """Folder by folder: an editable installation has them in different places."""
    found = ["circuitmeter"]
    for folder in FOLDERS:
        package = importlib.import_module(f"circuitmeter.{folder}")
        found += [package.__name__]
        found += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in found if "._top" not in name]  # in a checkout only: it is circuitmeter itself


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("tracr", "jax", "haiku"):
            pytest.skip(f"{error.name} is in the tracr extra")
        raise
    assert doctest.testmod(module).failed == 0


def test_all_four_folders_are_walked():
    assert {name.split(".")[1] for name in modules() if "." in name} == set(FOLDERS)
    assert len(modules()) > 40
