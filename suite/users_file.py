"""A user's Python file: what ``FILE.py:FUNCTION`` names, imported, and the files beside it that run with it."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from itertools import takewhile
from pathlib import Path
from types import ModuleType

from .errors import LONGEST_QUOTE, CircuitMeterError, one_line

_INSTALLED = frozenset({"site-packages", "dist-packages"})  # folders whose files are not each other's neighbours
_IMPORTERS = frozenset({"import_module", "__import__"})  # functions that import what their first argument names
_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES, *BYTECODE_SUFFIXES)  # of modules, in the order of Python's search
_Import = tuple[int, str, tuple[str, ...]]  # leading dots, the module, and names that may be modules in it


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


def with_neighbours(path: Path, look_in: Path | None = None) -> tuple[Path, ...]:
    """A user's file, and the files of its own folder or package that run with it: what it imports from there, at the
    top or within functions, and what those files import in turn; modules, packages and extensions.

    Found without running anything. Out of reach are imports of a name that is made while the file runs, folders that
    it adds to ``sys.path``, and files that it opens as data.

    Args:
        look_in: where absolute imports are looked for; the file's own folder where it is left out.

    Returns:
        Paths without links, the file first, each once.

    Raises:
        OSError: the file itself cannot be read.
    """
    waiting, found = [path.resolve()], dict[Path, None]()
    folder = look_in or path.resolve().parent
    while waiting:
        file = waiting.pop(0)
        if file in found:
            continue
        try:
            source = file.read_bytes()
        except OSError:
            if not found:
                raise
            continue  # whoever imports it will say why
        found[file] = None
        waiting += [each.resolve() for each in _imported_by(file, source, folder)]
    return tuple(found)


def _imported_by(file: Path, source: bytes, look_in: Path) -> Iterator[Path]:
    """The files that run when a file is imported: those beside it that it imports, and the ``__init__.py`` of
    the packages that they and it are in.

    Args:
        look_in: where absolute imports are looked for, beside the package that the file is in.
    """
    packages = list(takewhile(lambda folder: os.path.isfile(folder / "__init__.py"), file.parents))
    yield from (folder / "__init__.py" for folder in packages)
    for level, module, names in _imports(source):
        parts = tuple(filter(None, module.split(".")))
        if level:
            folders = file.parents[level - 1 : level]
        else:
            folders = [] if look_in.name in _INSTALLED else [look_in]
            folders += [packages[-1].parent] if packages and packages[-1].name == module.partition(".")[0] else []
        for folder in folders:
            yield from _found(folder, parts)
            inner = folder.joinpath(*parts)
            for name in names:
                if name == "*":  # takes the modules that the package names in __all__, if it is one
                    yield from sorted(inner.glob("*.py")) if os.path.isdir(inner) else ()
                else:
                    yield from _found(inner, (name,))


def _found(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The files that Python runs when it imports ``parts`` from a folder; none where they are not there."""
    for part in parts:
        files = (folder / part / "__init__.py", *(folder / f"{part}{suffix}" for suffix in _SUFFIXES))
        yield from [each for each in files if os.path.isfile(each)][:1]  # False for what is no path, or too long
        folder = folder / part


@lru_cache(maxsize=256)
def _imports(source: bytes) -> tuple[_Import, ...]:
    """What a file imports, wherever in it; nothing of what is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found: list[_Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, each.name, ()) for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(each.name for each in node.names)))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0].value
            if called in _IMPORTERS and isinstance(name, str):
                found.append((len(name) - len(name.lstrip(".")), name.lstrip("."), ()))
    return tuple(found)
