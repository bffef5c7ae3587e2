"""Which entries there are, how big, and which were used least recently: a hint, and what to evict by it.

Must not know the disk or the clock, and removes nothing by itself: the directory is the truth, a plan is
carried out by the janitor. Not safe for use by several threads.

Entries are kept by folder, as they lie on disk, and the order of last use is kept within each folder: an entry moves to
the end when it is used, and entries learnt from a scan are put where their last use is by sorting their folder alone. A
plan merges the folders from their oldest ends, as far as it needs. So nothing here takes time that grows with all
entries: with a million of them a folder has 250.

A million entries take about 280 MB. Each is a tuple in a dictionary, which the garbage collector soon stops to follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

from attrs import define, field, frozen

from pipcache.rules.key import FOLDER_DIGITS

_Row = tuple[int, float]


class Entry(NamedTuple):
    """One stored response.

    Attributes:
        size_bytes: what it takes on disk.
        used_at: its last use, epoch seconds.
    """

    size_bytes: int
    used_at: float


@frozen
class Limits:
    """How much may be kept. Marks are ratios in (0, 1], low not over high."""

    max_bytes: int
    max_entries: int
    high: float
    low: float


@frozen
class EvictionPlan:
    """What to remove, in this order.

    Attributes:
        keys: least recently used first; none of them was pinned.
        freed_bytes: what removing all of them frees.
        short_bytes: how far the bytes stay over the low mark as the rest is pinned or reserved; usually 0, and so
            where the plan was cut short because more was not asked for.
        short_entries: the same for the number of entries.
    """

    keys: tuple[str, ...] = ()
    freed_bytes: int = 0
    short_bytes: int = 0
    short_entries: int = 0


@define
class Catalog:
    """Sizes and recency of the entries, pins on them, and space promised to bodies that are being received.

    Keys are digests as in ``CacheKey``. Invariant: ``total_bytes`` and ``reserved_bytes`` are the sums over the entries
    and the reservations, and each folder's entries stand in the order of last use. ``when_changed`` is told of each key
    of which something else may be stored from now on, or nothing.
    """

    when_changed: Callable[[str], None] | None = None

    total_bytes: int = field(default=0, init=False)
    reserved_bytes: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    _folders: dict[str, dict[str, _Row]] = field(factory=dict, init=False)
    _pins: Counter[str] = field(factory=Counter, init=False)
    _reservations: dict[str, int] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: str) -> bool:
        return key in self._folders.get(key[:FOLDER_DIGITS], ())

    def get(self, key: str) -> Entry | None:
        """What is known of a key; None where it is not known, which does not mean that it is not on disk."""
        row = self._folders.get(key[:FOLDER_DIGITS], {}).get(key)
        return None if row is None else Entry(*row)

    def folders(self) -> tuple[str, ...]:
        """The folders that have had entries, in no order."""
        return tuple(self._folders)

    def in_folder(self, folder: str) -> tuple[str, ...]:
        """The keys of the entries in a folder, least recently used first."""
        return tuple(self._folders.get(folder, ()))

    def by_use(self) -> Iterator[tuple[str, Entry]]:
        """All entries, least recently used first; the catalog must not change meanwhile."""
        ends = []  # the oldest of each folder, and the way on from it; ``heapq.merge`` takes four times as long to begin
        for folder in self._folders.values():
            rows = iter(folder.items())
            for key, (size_bytes, used_at) in rows:
                ends.append((used_at, key, size_bytes, rows))
                break
        heapify(ends)
        while ends:
            used_at, key, size_bytes, rows = ends[0]
            yield key, Entry(size_bytes, used_at)
            for key, (size_bytes, used_at) in rows:
                heapreplace(ends, (used_at, key, size_bytes, rows))
                break
            else:
                heappop(ends)

    def add(self, key: str, size_bytes: int, used_at: float) -> None:
        """Enter a key as the one used last, in place of what was known of it."""
        self.discard(key)
        self._folders.setdefault(key[:FOLDER_DIGITS], {})[key] = (size_bytes, used_at)
        self.total_bytes += size_bytes
        self._count += 1

    def touch(self, key: str, used_at: float) -> bool:
        """Make a key the one used last; False, and nothing changes, where it is not known."""
        folder = self._folders.get(key[:FOLDER_DIGITS], {})
        row = folder.pop(key, None)
        if row is None:
            return False
        folder[key] = (row[0], used_at)
        return True

    def discard(self, key: str) -> None:
        """Forget a key, if it is known; pins on it stay with those who hold them."""
        row = self._folders.get(key[:FOLDER_DIGITS], {}).pop(key, None)
        if row is not None:
            self.total_bytes -= row[0]
            self._count -= 1
            self.changed(key)

    def changed(self, key: str) -> None:
        """Say that what is known of a key elsewhere is to be forgotten."""
        if self.when_changed is not None:
            self.when_changed(key)

    def load(self, entries: Iterable[tuple[str, int, float]]) -> None:
        """Take in what a scan found, in any order and batches; each entry goes where its last use puts it.

        What is known already keeps its size, being newer than the scan, and the later of both uses.

        Args:
            entries: key, size in bytes, last use in epoch seconds (one in the future would keep it for ever).
        """
        changed: set[str] = set()
        for key, size_bytes, used_at in entries:
            name = key[:FOLDER_DIGITS]
            folder = self._folders.setdefault(name, {})
            known = folder.get(key)
            if known is None:
                self.total_bytes += size_bytes
                self._count += 1
            elif known[1] >= used_at:
                continue
            else:
                size_bytes = known[0]
            folder[key] = (size_bytes, used_at)
            changed.add(name)
        for name in changed:
            self._folders[name] = dict(sorted(self._folders[name].items(), key=_use))

    def forget_missing(self, folders: Iterable[str], found: Collection[str], since: float) -> None:
        """Forget what a scan of some folders did not find: somebody removed it under us.

        Args:
            folders: those that were looked through.
            found: the keys that were there.
            since: when the scan of these folders began, epoch seconds. What was used from then on may have come behind
                it, and what is pinned is about to; both stay.
        """
        for folder in folders:
            gone = [
                key
                for key, (_, used_at) in self._folders.get(folder, {}).items()
                if key not in found and used_at < since and key not in self._pins
            ]
            for key in gone:
                self.discard(key)

    def pin(self, key: str) -> None:
        """Keep a key out of every plan until as many ``unpin`` as ``pin``; it need not be known yet."""
        self._pins[key] += 1

    def unpin(self, key: str) -> None:
        """Take back one ``pin``.

        Raises:
            KeyError: there is none; the caller's bug.
        """
        if self._pins[key] > 1:
            self._pins[key] -= 1
        else:
            self._pins.pop(key)

    def is_pinned(self, key: str) -> bool:
        """Whether somebody holds a pin on a key."""
        return key in self._pins

    def reserve(self, key: str, size_bytes: int) -> None:
        """Promise space to a body that is being received, in place of what was promised to it before."""
        self.release(key)
        self._reservations[key] = size_bytes
        self.reserved_bytes += size_bytes

    def release(self, key: str) -> None:
        """Take back what was promised to a body, if anything: it is published, given up or only passed on."""
        self.reserved_bytes -= self._reservations.pop(key, 0)

    def is_over_high(self, limits: Limits) -> bool:
        """Whether bytes (with those promised) or entries are over their high mark."""
        return (
            self.total_bytes + self.reserved_bytes > limits.max_bytes * limits.high
            or self._count > limits.max_entries * limits.high
        )

    def plan_eviction(
        self,
        limits: Limits,
        *,
        force: bool = False,
        at_most: int | None = None,
        given_up: Collection[str] = (),
    ) -> EvictionPlan:
        """Choose what to evict, oldest use first, until bytes and entries are both at their low marks.

        Args:
            limits: the marks.
            force: plan down to the low marks though nothing is over a high one.
            at_most: how many keys are wanted now; None: all.
            given_up: keys that the disk would not remove. They are not planned again, and nothing goes in their place.

        Returns:
            An empty plan when under the high marks. A plan that cannot reach the low marks because of pins or
            reservations says so in ``short_bytes`` and ``short_entries``.
        """
        if not force and not self.is_over_high(limits):
            return EvictionPlan()
        excess_bytes = self.total_bytes + self.reserved_bytes - int(limits.max_bytes * limits.low)
        excess_entries = self._count - int(limits.max_entries * limits.low)
        keys: list[str] = []
        freed_bytes = 0
        for key, entry in self.by_use():
            if freed_bytes >= excess_bytes and len(keys) >= excess_entries:
                break
            if len(keys) == at_most:
                return EvictionPlan(tuple(keys), freed_bytes)
            if key in given_up:
                excess_bytes -= entry.size_bytes
                excess_entries -= 1
            elif key not in self._pins:
                keys.append(key)
                freed_bytes += entry.size_bytes
        return EvictionPlan(
            tuple(keys),
            freed_bytes,
            short_bytes=max(0, excess_bytes - freed_bytes),
            short_entries=max(0, excess_entries - len(keys)),
        )


def _use(item: tuple[str, _Row]) -> float:
    return item[1][1]
