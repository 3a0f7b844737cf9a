"""Which family a GPU takes next, so that what its workers' cells need together stays below a share of its memory.

Why: a cell of a small model leaves most of a GPU idle, so that several workers share one. Were families given to
whoever asks, those that happen to be in hand together would run out of memory now and then. What they need is known
before they start, but only about, so that the rest of the memory is left for what estimates miss, and a family that
is alone on a device always may run: where memory runs out then, it takes fewer prompts at a time.

A large family does not wait for ever behind small ones: while the first of those that wait finds no room, one device
takes nothing new until it has room for it. Devices are told by name and families by what they need; nothing here knows
of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Generic, TypeVar

SHARE = 0.8  # of a device's memory that estimates may add up to
_AHEAD = 20  # families behind the first that are looked at: estimating takes time
Family = TypeVar("Family", bound=Hashable)


class Sharing(Generic[Family]):
    """Decides for the workers of one machine.

    Args:
        memory: of each device, in bytes; 0 where it is not known: such a device takes one family at a time.
        need: bytes that a family is estimated to need on its device.
    """

    def __init__(self, memory: Mapping[str, int], need: Callable[[Family], int]) -> None:
        self.memory, self._need = dict(memory), need
        self._known: dict[Family, int] = {}
        self._kept: tuple[Family, str] | None = None  # the first family, and the device that is kept for it

    def need(self, family: Family) -> int:
        """What a family needs; estimated once."""
        if family not in self._known:
            self._known[family] = self._need(family)
        return self._known[family]

    def choose(
        self, waiting: Sequence[Family], in_hand: Iterable[tuple[str, Family]], free: Collection[str]
    ) -> tuple[int, str] | None:
        """The place among ``waiting`` of the family that is to start now, and its device; ``None``: none for now.

        Args:
            in_hand: device and family of every worker that has one.
            free: the devices of workers that have none.
        """
        if not waiting or not free:
            return None
        held: dict[str, list[int]] = {device: [] for device in self.memory}
        for where, family in in_hand:
            held[where].append(self.need(family))
        first = waiting[0]
        if device := self._with_room(self.need(first), held, free):
            self._kept = None
            return 0, device
        if self._kept is None or self._kept[0] is not first:
            self._kept = first, max(self.memory, key=lambda device: self._room(device, held))
        others = [device for device in free if device != self._kept[1]]
        for place, family in enumerate(islice(waiting, 1, 1 + _AHEAD), 1):
            if others and (device := self._with_room(self.need(family), held, others)):
                return place, device
        return None

    def _room(self, device: str, held: Mapping[str, list[int]]) -> float:
        return SHARE * self.memory[device] - sum(held[device])

    def _with_room(self, need: int, held: Mapping[str, list[int]], free: Collection[str]) -> str | None:
        """Of the free devices with room for so many bytes the one with the most room; the first where all is equal."""
        fit = [device for device in self.memory if device in free]
        fit = [device for device in fit if not held[device] or need <= self._room(device, held)]
        return max(fit, key=lambda device: self._room(device, held), default=None)
