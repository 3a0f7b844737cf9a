"""What the names in a benchmark stand for. Each function raises CircuitMeterError for a name that stands for nothing.

A user's own files may stand wherever a name may: ``my_method.py:discover`` for a method, a folder for a task;
``external:MODULE:ADAPTER``, an adapter to other people's code, for a method.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MethodError, SpecError, unknown
from ..reading import shown
from ..users_file import file_and_name, with_neighbours

if TYPE_CHECKING:
    from ..intervention.ablation import Ablation
    from ..intervention.objective import Objective
    from ..methods import Method
    from ..methods.source_code import SourceCode

EXTERNAL = "external:"
"""What stands before ``MODULE:ADAPTER`` where a method's name may stand."""
_WILD = frozenset("*?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def matches(value: str | None, pattern: str) -> bool:
    """Whether ``value`` is ``pattern``, or is matched by it as a glob.

    A glob without an ``@`` matches no variant: ``tracr/*`` does not match ``tracr/reverse@fixed``.
    """
    if value is None or value == pattern:
        return value == pattern
    return is_glob(pattern) and ("@" in pattern or "@" not in value) and fnmatchcase(value, pattern)


def matches_task(task: str, pattern: str) -> bool:
    """Whether a task, as cells name it, is what ``pattern`` stands for: a name, a glob, a folder or a prompt file."""
    return matches(task, pattern) or (not is_glob(pattern) and os.sep in pattern and task == label(tasks(pattern)[0]))


def is_glob(pattern: str) -> bool:
    """Whether a name has a ``*`` or a ``?``; brackets belong to the names of ablations."""
    return not _WILD.isdisjoint(pattern)


def tasks(pattern: str) -> list[str]:
    """The tasks that a name, a glob or a task's folder stands for: at least one."""
    from ... import tasks as registry

    known = registry.names()
    found = [name for name in known if matches(name, pattern)]
    folder, at, variant = pattern.partition("@")
    if not found and folder in registry.TEXT_FAMILIES:  # with options that are not listed, such as +bos
        return [registry.load(pattern).name]
    if not found and os.path.isdir(folder):  # False for what is too long for a path
        return [f"{Path(folder).resolve()}{at}{variant}"]
    if not found and registry.is_prompt_file(pattern):
        return [str(Path(pattern).resolve())]
    if not found:
        raise SpecError(
            unknown(
                "task",
                pattern,
                known,
                "A folder that `circuitmeter truth` wrote is a task too, and so is a prompt file.",
                registry.groups(),
            )
        )
    return found


def label(name: str) -> str:
    """What a task or model is called in an identity: its name; for a folder its last part, because folders move."""
    folder, at, variant = name.partition("@")
    return f"{Path(folder).name}{at}{variant}" if Path(folder).is_absolute() else name


def is_users(method: str) -> bool:
    """Whether a method is a user's own rather than registered: ``my_method.py:discover``, or an adapter to other
    people's code, ``external:my_adapter:Adapter``."""
    return ".py:" in method or _is_external(method)


def _is_external(method: str) -> bool:
    return Path(method).name.startswith(EXTERNAL)


def _loader(where: str) -> Callable[[str], Method]:
    """What loads a method of a user's, and executes their code."""
    from ..interchange.external import load_external

    return load_external if _is_external(where) else load_file


def load_file(where: str) -> Method:
    """The method ``FILE.py:FUNCTION``, with the version of all code that it takes from its own folder.

    Raises:
        MethodError: as ``load_user_method``.
    """
    from ..methods import load_user_method
    from ..methods.source_code import SourceCode

    path, _ = file_and_name(where, "method", MethodError)
    code = SourceCode(*with_neighbours(path))  # read before it runs
    return replace(load_user_method(where), code=code)


def method(name: str) -> Method:
    """A registered method, or what a user's file declares of its function, ``my_method.py:discover``: the file is read
    in a process of its own, and its function runs in another one (see suite/run/search.py)."""
    return _declared(source(name)) if is_users(name) else _registered(name)


def callable_method(name: str) -> Method:
    """A method that can be called in this process; a user's file is executed here."""
    return _named(_loader(name)(source(name))) if is_users(name) else _registered(name)


def _registered(name: str) -> Method:
    """A method by its name; another package's with the version of all code that it takes from that package, unless it
    says itself what its code is."""
    from ..methods import METHODS
    from ..methods.source_code import SourceCode

    found = METHODS.get(name)
    file = getattr(sys.modules.get(found.function.__module__), "__file__", None)
    if _is_ours(found) or not file or found.version != SourceCode(Path(file)).hash:
        return found
    return replace(found, code=_with_its_package(Path(file)))


@lru_cache
def _with_its_package(file: Path) -> SourceCode:
    """Read once a process, as the package is imported once."""
    from ..methods.source_code import SourceCode

    return SourceCode(*with_neighbours(file))


def is_built_in(name: str) -> bool:
    """Whether a method is one of this package's own, and not a user's file or another package's."""
    return not is_users(name) and _is_ours(method(name))


def _is_ours(found: Method) -> bool:
    return found.function.__module__.startswith(f"{__name__.partition('.')[0]}.")


def own_name(called: str) -> None:
    """Raises unless a method may be called this: a plain word that is no registered method's name."""
    from ..methods import METHODS

    if not _WORD.fullmatch(called):
        raise SpecError(
            f"a method cannot be called {shown(called)}: give letters, digits, '.', '_' and '-', up to 100 of them."
        )
    if called in METHODS:
        raise SpecError(f"{called!r} is the name of a registered method; call yours something else.")


def source(method_name: str) -> str:
    """What a process in any folder loads a method by."""
    if not is_users(method_name):
        return method_name
    if _is_external(method_name):  # its module may be a file of the folder in which it is asked for
        return str(Path(method_name).parent.resolve() / Path(method_name).name)
    file, _, function = method_name.rpartition(":")
    return f"{Path(file).resolve()}:{function}"


@lru_cache
def _declared(where: str) -> Method:
    """Read once a process, so that every cell of a run sees one version of the file."""
    from ..methods.declared import declared_by

    return _named(declared_by(where, _loader(where)))


def _named(loaded: Method) -> Method:
    """The method under the name that cells have: its file's, wherever the file is."""
    return replace(loaded, name=Path(loaded.name).name) if is_users(loaded.name) else loaded


def ablation(name: str) -> Ablation:
    """The ablation that a name stands for."""
    from ..intervention.ablation import Ablation

    return Ablation.parse(name)


def objective(name: str) -> Objective:
    """The objective that a name stands for."""
    from ..intervention.objective import OBJECTIVES

    return OBJECTIVES.get(name)


def method_pattern(pattern: str) -> None:
    """Raises unless a method is matched."""
    from ..methods import METHODS

    if not any(matches(name, pattern) for name in METHODS):
        method(pattern)


def ablation_pattern(pattern: str) -> None:
    """Raises unless an ablation is matched."""
    from ..intervention.ablation import ablation_names

    if not any(matches(name, pattern) for name in ablation_names()):
        ablation(pattern)


def objective_pattern(pattern: str) -> None:
    """Raises unless an objective is matched."""
    from ..intervention.objective import OBJECTIVES

    if not any(matches(name, pattern) for name in OBJECTIVES):
        objective(pattern)
