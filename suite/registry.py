"""One registry serves methods, tasks and ground truths: by decorator for yours, by entry point for other packages'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Generic, NamedTuple, TypeVar

from .errors import CircuitMeterError, SpecError, unknown
from .users_line import raised

T = TypeVar("T")

METHODS_GROUP = "circuitmeter.methods"
"""The entry-point group through which another package adds methods."""


def plug_ins(group: str) -> tuple[EntryPoint, ...]:
    """What other packages add to an entry-point group, not yet imported."""
    return tuple(entry_points(group=group))


class Unimportable(NamedTuple):
    """A plug-in whose import fails: the top-level package that it is from, and the error to give."""

    package: str
    error: SpecError


class Registry(Generic[T]):
    """Named things of one kind.

    Args:
        kind: what the things are, in the singular; it appears in error messages.
        group: the entry-point group through which other packages add to it (``METHODS_GROUP``), or ``None``.
        required: whether ``get``, ``in`` and iteration raise SpecError where another package's thing cannot be
            imported. Otherwise they go without it, and ``unimportable`` has it.
    """

    def __init__(self, kind: str, group: str | None = None, *, required: bool = True) -> None:
        self.kind = kind
        self._group = group
        self._required = required
        self._items: dict[str, T] = {}
        self._plugins_loaded = group is None
        self._unimportable: dict[str, Unimportable] = {}

    def add(self, name: str, item: T) -> T:
        """Registers ``item``. Raises SpecError when another thing already has the name."""
        if name in self._items and self._items[name] is not item:
            raise SpecError(f"two {self.kind}s are called {name!r}; rename one of them.")
        self._items[name] = item
        return item

    def get(self, name: str) -> T:
        """The thing called ``name``. Raises SpecError with the nearest name when nothing is called so."""
        self._load_plugins()
        if name not in self._items:
            raise SpecError(unknown(self.kind, name, self._items))
        return self._items[name]

    def __contains__(self, name: str) -> bool:
        self._load_plugins()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._items))

    @contextmanager
    def aside(self) -> Iterator[dict[str, T]]:
        """What is registered inside is taken out again, into the mapping yielded: a file that is read a second time, or
        another one with the same names, meets none of them."""
        self._load_plugins()
        before, added = dict(self._items), {}
        try:
            yield added
        finally:
            added.update({name: item for name, item in self._items.items() if name not in before})
            self._items = before

    def unimportable(self) -> dict[str, Unimportable]:
        """What other packages offer and cannot be imported, by the name of the entry point."""
        self._load_plugins()
        return dict(self._unimportable)

    def _load_plugins(self) -> None:
        if not self._plugins_loaded:
            self._plugins_loaded = True
            for point in plug_ins(self._group or ""):
                try:
                    self._load(point)
                except (Exception, SystemExit) as problem:  # another package's code may raise anything
                    package = point.value.partition(":")[0].partition(".")[0]
                    reason = str(problem) if isinstance(problem, CircuitMeterError) else f"{raised(problem)}."
                    error = SpecError(
                        f"the package {package!r} offers the {self.kind} {point.name!r}, which cannot be imported; "
                        f"mend the package or uninstall it: {reason}"
                    )
                    self._unimportable[point.name] = Unimportable(package, error)
        if self._required and self._unimportable:
            raise next(iter(self._unimportable.values())).error

    def _load(self, point: EntryPoint) -> None:
        known = len(self._items)
        loaded = point.load()  # it registers itself on import, under names of its own, or is the thing itself
        registered_itself = len(self._items) > known or isinstance(loaded, ModuleType)
        if point.name not in self._items and loaded is not None and not registered_itself:
            self.add(point.name, loaded)
