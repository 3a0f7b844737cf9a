"""One registry serves methods, tasks and ground truths: by decorator for yours, by entry point for other packages'."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Generic, TypeVar

from .errors import SpecError, unknown

T = TypeVar("T")

METHODS_GROUP = "circuitmeter.methods"
"""The entry-point group through which another package adds methods."""


def plug_ins(group: str) -> tuple[EntryPoint, ...]:
    """What other packages add to an entry-point group, not yet imported."""
    return tuple(entry_points(group=group))


class Registry(Generic[T]):
    """Named things of one kind.

    Args:
        kind: what the things are, in the singular; it appears in error messages.
        group: the entry-point group through which other packages add to it (``METHODS_GROUP``), or ``None``.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self._group = group
        self._items: dict[str, T] = {}
        self._plugins_loaded = group is None

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

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for point in plug_ins(self._group or ""):
            known = len(self._items)
            loaded = point.load()  # it registers itself on import, under names of its own, or is the thing itself
            registered_itself = len(self._items) > known or isinstance(loaded, ModuleType)
            if point.name not in self._items and loaded is not None and not registered_itself:
                self.add(point.name, loaded)
