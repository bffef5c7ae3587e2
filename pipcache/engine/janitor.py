"""The janitor: learns at start what the directory holds, and makes room when it is crowded.

It decides nothing about what goes: the catalog's plan does. It carries the plan out in batches, so that other disk work
gets its turn, and it never dies: what goes wrong is told and tried again later. Nothing in it goes over all entries at once:
what is scanned, planned and forgotten is a few folders or a thousand entries at a time, with requests in between.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from attrs import evolve
from twisted.internet.defer import Deferred

from pipcache.engine.interfaces import Clock, Events, Store
from pipcache.rules.catalog import Catalog, Limits

FOLDERS_A_BATCH = 16
"""The entries of so many folders are entered at once: 2 ms where there are a million in all."""

ENTRIES_A_PLAN = 1000
"""So many are planned at once: 5 to 8 ms, of which half are for the look at every folder's oldest."""

REMOVALS_A_BATCH = 100
PART_GRACE_SECONDS = 60.0


class Janitor:
    """Keeps the directory within its limits; ``has_scanned`` says whether the catalog knows all of it."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        limits: Limits,
        clock: Clock,
        now: Callable[[], float],
        events: Events,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._limits = limits
        self._clock = clock
        self._now = now
        self._events = events
        self._is_sweeping = False
        self._is_wanted = False
        self._is_full = False
        self._is_stopped = False
        self._gone: set[str] = set()  # since the scan began with the folders that it is at
        self.has_scanned = False

    async def scan(self) -> None:
        """Learn what the directory holds, and clear what nobody owns. Never fails."""
        began_at = self._clock.seconds()
        entries = size = 0
        try:
            await self._store.clear_parts(self._now(), 0.0)
            folders = self._store.folders()
            while not self._is_stopped and (batch := tuple(islice(folders, FOLDERS_A_BATCH))):
                now = self._now()
                self._gone.clear()
                found = [entry for entry in await self._store.scan(batch, now) if entry.digest not in self._gone]
                # a use in the future would never be evicted
                self._catalog.load((entry.digest, entry.size_bytes, min(entry.used_at, now)) for entry in found)
                self._catalog.forget_missing(batch, {entry.digest for entry in found}, now)
                entries += len(found)
                size += sum(entry.size_bytes for entry in found)
        except Exception:
            self._events.crashed("scanning the cache directory")
            self.has_scanned = True
            return
        if not self._is_stopped:
            self.has_scanned = True
            self._events.scanned(entries, size, self._clock.seconds() - began_at)

    def stop(self) -> None:
        """Begin no more batches."""
        self._is_stopped = True

    def nudge(self, *, is_full: bool = False) -> None:
        """Make room now, where it is wanted; once more after the sweep in progress, if there is one.

        Args:
            is_full: the disk itself has no room, whatever the limits say: go down to the low marks of what is kept.
        """
        self._is_wanted = True
        self._is_full |= is_full
        if not self._is_sweeping:
            Deferred.fromCoroutine(self._sweep_while_wanted())

    async def _sweep_while_wanted(self) -> None:
        self._is_sweeping = True
        try:
            while self._is_wanted:
                self._is_wanted = False
                await self._store.clear_parts(self._now(), PART_GRACE_SECONDS)
                await self._sweep()
        except Exception:
            self._events.crashed("evicting from the cache directory")
        finally:
            self._is_sweeping = False

    async def _sweep(self) -> None:
        """Bring the directory under its low marks where it is over a high one."""
        limits = self._limits_now()
        given_up: set[str] = set()
        plan = self._catalog.plan_eviction(limits, at_most=ENTRIES_A_PLAN)
        while plan.keys and not self._is_stopped:
            planned_at = self._now()
            for start in range(0, len(plan.keys), REMOVALS_A_BATCH):
                if self._is_stopped:
                    return
                await self._remove(plan.keys[start : start + REMOVALS_A_BATCH], planned_at, plan.short_bytes)
            given_up.update(key for key in plan.keys if key in self._catalog)
            plan = self._catalog.plan_eviction(limits, force=True, at_most=ENTRIES_A_PLAN, given_up=given_up)

    async def _remove(self, keys: tuple[str, ...], planned_at: float, short_bytes: int) -> None:
        """Remove some entries that were planned, but for those that are pinned by now."""
        uses = {
            key: entry
            for key in keys
            if (entry := self._catalog.get(key)) is not None and not self._catalog.is_pinned(key)
        }
        gone = await self._store.remove(tuple(uses), planned_at)
        self._gone.update(gone)
        for key in gone:
            # one that was used meanwhile may have been published anew
            if self._catalog.get(key) == uses[key]:
                self._catalog.discard(key)
        self._events.evicted(len(gone), sum(uses[key].size_bytes for key in gone), short_bytes)

    def _limits_now(self) -> Limits:
        """The limits; on a full disk, what is kept now is all that there is room for."""
        if not self._is_full:
            return self._limits
        self._is_full = False
        kept = self._catalog.total_bytes
        return evolve(self._limits, max_bytes=min(self._limits.max_bytes, kept), high=min(self._limits.high, 0.99))
