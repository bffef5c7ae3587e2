"""Which entries there are, how big, and which were used least recently: a hint, and what to evict by it.

Must not know the disk or the clock, and removes nothing by itself: the directory is the truth, a plan is
carried out by the janitor. Not safe for use by several threads.

The recency order is kept by moving an entry to the end when it is used, so a plan is a prefix of it and
touching is constant work. Entries learnt late, from a scan of the disk, would break the order; so ``load``
only marks it broken, and the next one who needs it sorts once, however many batches there were.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator

from attrs import define, field, frozen


@define
class Entry:
    """One stored response. Two words of memory and its numbers: there are as many as there are files.

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
        short_bytes: how far the bytes stay over the low mark as the rest is pinned or reserved; usually 0.
        short_entries: the same for the number of entries.
    """

    keys: tuple[str, ...] = ()
    freed_bytes: int = 0
    short_bytes: int = 0
    short_entries: int = 0


@define
class Catalog:
    """Sizes and recency of the entries, pins on them, and space promised to bodies that are being received.

    Invariant: ``total_bytes`` and ``reserved_bytes`` are the sums over the entries and the reservations.
    """

    total_bytes: int = field(default=0, init=False)
    reserved_bytes: int = field(default=0, init=False)
    _entries: OrderedDict[str, Entry] = field(factory=OrderedDict, init=False)
    _pins: Counter[str] = field(factory=Counter, init=False)
    _reservations: dict[str, int] = field(factory=dict, init=False)
    _is_ordered: bool = field(default=True, init=False)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def get(self, key: str) -> Entry | None:
        """What is known of a key; None where it is not known, which does not mean that it is not on disk."""
        return self._entries.get(key)

    def by_use(self) -> Iterator[tuple[str, Entry]]:
        """All entries, least recently used first; the catalog must not change meanwhile."""
        self._restore_order()
        return iter(self._entries.items())

    def add(self, key: str, size_bytes: int, used_at: float) -> None:
        """Enter a key as the one used last, in place of what was known of it."""
        self.discard(key)
        self._entries[key] = Entry(size_bytes, used_at)
        self.total_bytes += size_bytes

    def touch(self, key: str, used_at: float) -> bool:
        """Make a key the one used last; False, and nothing changes, where it is not known."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        entry.used_at = used_at
        self._entries.move_to_end(key)
        return True

    def discard(self, key: str) -> None:
        """Forget a key, if it is known; pins on it stay with those who hold them."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.total_bytes -= entry.size_bytes

    def load(self, entries: Iterable[tuple[str, int, float]]) -> None:
        """Take in what a scan found, in any order and batches; each entry goes where its last use puts it.

        What is known already keeps its size, being newer than the scan, and the later of both uses.

        Args:
            entries: key, size in bytes, last use in epoch seconds (one in the future would keep it for ever).
        """
        for key, size_bytes, used_at in entries:
            known = self._entries.get(key)
            if known is None:
                self._entries[key] = Entry(size_bytes, used_at)
                self.total_bytes += size_bytes
            else:
                known.used_at = max(known.used_at, used_at)
            self._is_ordered = False

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
            or len(self._entries) > limits.max_entries * limits.high
        )

    def plan_eviction(self, limits: Limits, *, force: bool = False) -> EvictionPlan:
        """Choose what to evict, oldest use first, until bytes and entries are both at their low marks.

        Args:
            limits: the marks.
            force: plan down to the low marks though nothing is over a high one.

        Returns:
            An empty plan when under the high marks. A plan that cannot reach the low marks because of pins or
            reservations says so in ``short_bytes`` and ``short_entries``.
        """
        if not force and not self.is_over_high(limits):
            return EvictionPlan()
        excess_bytes = self.total_bytes + self.reserved_bytes - int(limits.max_bytes * limits.low)
        excess_entries = len(self._entries) - int(limits.max_entries * limits.low)
        keys: list[str] = []
        freed_bytes = 0
        for key, entry in self.by_use():
            if freed_bytes >= excess_bytes and len(keys) >= excess_entries:
                break
            if key not in self._pins:
                keys.append(key)
                freed_bytes += entry.size_bytes
        return EvictionPlan(
            tuple(keys),
            freed_bytes,
            short_bytes=max(0, excess_bytes - freed_bytes),
            short_entries=max(0, excess_entries - len(keys)),
        )

    def _restore_order(self) -> None:
        """Sort by last use, once after a load; the sort is stable, so uses of one moment keep their order."""
        if not self._is_ordered:
            self._entries = OrderedDict(sorted(self._entries.items(), key=lambda item: item[1].used_at))
            self._is_ordered = True
