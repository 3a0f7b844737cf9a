"""Every example in every docstring of the package runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import circuitmeter


def modules() -> list[str]:
    found = pkgutil.walk_packages(circuitmeter.__path__, "circuitmeter.")
    # __main__ runs the command; the compiler of RASP programs needs the tracr extra.
    return [module.name for module in found if not module.name.endswith(".__main__")]


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
    assert {name.split(".")[1] for name in modules()} == {"suite", "tasks", "ground_truth", "reports"}
