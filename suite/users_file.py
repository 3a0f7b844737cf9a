"""A user's Python file: what ``FILE.py:FUNCTION`` names, imported."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .errors import LONGEST_QUOTE, CircuitMeterError, one_line


def file_and_name(where: str, what: str, error: type[CircuitMeterError]) -> tuple[Path, str]:
    """The file and the name in ``FILE.py:FUNCTION``.

    Args:
        what: it is to be, such as ``method``.

    Raises:
        CircuitMeterError: of the kind ``error``, for what is not written so, and for a file that is not there.
    """
    file, _, name = where.rpartition(":")
    if not file.endswith(".py") or not name:
        raise error(f"{where!r} does not name a {what}; write FILE.py:FUNCTION.")
    if not Path(file).is_file():
        raise error(f"no file {file}; write FILE.py:FUNCTION with the path of your {what}'s file.")
    return Path(file), name


def imported(path: Path, called: str, error: type[CircuitMeterError]) -> ModuleType:
    """The file as a module; it may import its neighbours.

    Args:
        called: what the module is called; not left behind in ``sys.modules`` where the import fails.

    Raises:
        CircuitMeterError: of the kind ``error``, when it cannot be imported, with the reason.
    """
    spec = importlib.util.spec_from_file_location(called, path)
    if spec is None or spec.loader is None:
        raise error(f"{path} is no Python file that can be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[called] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as problem:  # whatever a user's file raises is the answer to give
        sys.modules.pop(called)
        raise error(
            f"{path} cannot be imported: {type(problem).__name__}: {one_line(problem, LONGEST_QUOTE)}."
        ) from problem
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
