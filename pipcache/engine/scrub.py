"""The scrub: every kept body is compared with its digest from time to time, a little at a time.

Disks flip bits, and what was touched by hand is found at its next hit only by what the file system says of it. The scrub
finds the rest. It is slow on purpose: it reads as fast as the interval asks, and never faster than ``MAX_BYTES_A_SECOND``.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from pipcache.engine.interfaces import Clock, Events, Store
from pipcache.rules.catalog import Catalog

MAX_BYTES_A_SECOND = 32 << 20
PAUSE_SECONDS = 0.05
"""Between two entries at least: a cache of many small files is not read in a rush either."""


class Scrub:
    """Reads through the whole cache once in ``interval_seconds``, as long as it runs."""

    def __init__(self, store: Store, catalog: Catalog, clock: Clock, events: Events, interval_seconds: float) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._events = events
        self._interval_seconds = interval_seconds
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin with the first round."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(lambda failure: failure.trap(CancelledError))

    def stop(self) -> None:
        """End where it is; the entry that is being read is read to its end."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        while True:
            began_at = self._clock.seconds()
            await self._round()
            rest = self._interval_seconds - (self._clock.seconds() - began_at)
            await self._wait(max(rest, PAUSE_SECONDS))

    async def _round(self) -> None:
        """Read every entry of the folders that are known now."""
        count = len(self._catalog)
        if not count:
            return
        seconds = self._interval_seconds / 2  # the other half is for what comes meanwhile
        rate = min(max(self._catalog.total_bytes / seconds, 1.0), MAX_BYTES_A_SECOND)
        pause = min(PAUSE_SECONDS, seconds / count)
        folders = sorted(self._catalog.folders())
        first = int(self._clock.seconds()) % len(folders)  # anywhere, so that restarts do not favour the same ones
        for folder in (*folders[first:], *folders[:first]):
            for digest in self._catalog.in_folder(folder):
                size = await self._entry(digest)
                await self._wait(max(pause, size / rate))

    async def _entry(self, digest: str) -> int:
        """Read one entry; how many bytes that was."""
        found = self._store.find(digest)
        if found is None:
            self._catalog.discard(digest)
            return 0
        key, stored = found
        try:
            if await self._store.verify(key, stored) is None:
                self._catalog.discard(digest)
                self._events.found_wrong(key.text)
        except CancelledError:
            raise
        except Exception:
            self._events.crashed(f"checking {key.text}")
        return stored.body_size

    def _wait(self, seconds: float) -> Deferred[None]:
        return deferLater(self._clock, seconds, lambda: None)  # type: ignore[arg-type]
