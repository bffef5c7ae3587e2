"""What is kept: the store with its books. Finds stored responses, promises space, publishes, notes uses.

The catalog is a hint. What it does not know is looked for on disk, what the disk lacks is forgotten, so a start needs no
scan before the first hit and a directory that was emptied under us is a cold cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import frozen

from pipcache.engine.appending import Appending
from pipcache.engine.fetch import Fetch
from pipcache.engine.interfaces import Events, GrowingBody, InThread, NewVariant, Store, StoredBody
from pipcache.engine.upstreams import Asked
from pipcache.rules.catalog import Catalog, Limits
from pipcache.rules.errors import StorageError
from pipcache.rules.fields import get, is_valid_field, storable
from pipcache.rules.freshness import (
    Directives,
    Freshness,
    Grace,
    Ttls,
    age_seconds,
    decide,
    may_serve_on_error,
    ttl_for,
)
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from pipcache.rules.response import CacheStatus, Representation
from pipcache.rules.routes import RouteKind
from pipcache.simple.digests import Digest

NOTE_USE_SECONDS = 3600.0
"""A last use is written to disk at most this often an entry, and at a clean stop; the mtime of its meta."""

_SPARE_NOTES = 1000
_IMMUTABLE = (RouteKind.FILE, RouteKind.LINKED_FILE)


@frozen
class Kept:
    """A stored response that was found, and its body, open: whoever has it closes that."""

    stored: StoredResponse
    body: StoredBody


class WhenCrowded(Protocol):
    """Makes room; see ``Janitor.nudge``."""

    def __call__(self, *, is_full: bool = False) -> None:
        """Make room."""


class _InUse:
    """A stored body that is being read, and so is not evicted, until it is closed."""

    def __init__(self, body: StoredBody, catalog: Catalog, digest: str) -> None:
        self.length = body.length
        self.is_suspect = body.is_suspect
        self.read_at = body.read_at
        self._body = body
        self._catalog = catalog
        self._digest: str | None = digest
        catalog.pin(digest)

    @property
    def descriptor(self) -> int | None:
        """Of the open file."""
        return self._body.descriptor

    def close(self) -> None:
        """Give it back; harmless when done already."""
        if self._digest is not None:
            self._catalog.unpin(self._digest)
            self._digest = None
            self._body.close()


class Holdings:
    """Stored responses and what is known of them.

    Args:
        store: the cache directory.
        catalog: sizes and uses, in memory.
        limits: how much may be kept.
        ttls: how long what is fresh, by class.
        grace: how long a page that is not may still be served.
        now: the wall clock, epoch seconds.
        events: who is told of trouble.
        when_crowded: called when a publication crossed a high mark, or the disk had no room.
        in_thread: where what may block is run.
        appending: how bodies that are to be kept are appended; None: always in the reactor.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        limits: Limits,
        ttls: Ttls,
        grace: Grace,
        now: Callable[[], float],
        events: Events,
        when_crowded: WhenCrowded,
        in_thread: InThread,
        appending: Appending | None = None,
    ) -> None:
        self.store = store
        self.appending = appending
        self.catalog = catalog
        self.now = now
        self._limits = limits
        self._ttls = ttls
        self._grace = grace
        self._events = events
        self._when_crowded = when_crowded
        self._in_thread = in_thread
        self._noted_at: dict[str, float] = {}

    @property
    def max_kept_bytes(self) -> int:
        """What is larger than half of the cache is passed through, not kept."""
        return self._limits.max_bytes // 2

    # -- what is there -----------------------------------------------------------------------------------------------

    def find(self, key: CacheKey) -> StoredResponse | None:
        """What is stored under the key, fresh or not; what the disk lacks is forgotten."""
        stored = self.store.read(key)
        if stored is None:
            self.catalog.discard(key.digest)
        return stored

    def freshness(self, stored: StoredResponse, directives: Directives) -> Freshness:
        """What may be done with a stored page before anybody is asked."""
        behind = self._grace.while_revalidate_seconds
        is_no_cache = directives.is_no_cache
        return decide(stored.cached_at, stored.expires_at, self.now(), behind, is_no_cache=is_no_cache)

    def may_serve_on_error(self, stored: StoredResponse) -> bool:
        """Whether a stored page is better than the error that all upstreams came to."""
        return may_serve_on_error(stored.cached_at, stored.expires_at, self.now(), self._grace.if_error_seconds)

    def find_fresh(self, key: CacheKey) -> Kept | None:
        """What is stored under the key and fresh, as upstream sent it."""
        stored = self.find(key)
        if stored is None or decide(stored.cached_at, stored.expires_at, self.now()) is not Freshness.FRESH:
            return None
        return self.opened(key, stored, self.store.open_body(key, stored))

    def open_variant(self, key: CacheKey, stored: StoredResponse, kind: str, shape: str) -> Kept | None:
        """A stored page's rendering; None where there is none of this kind and shape."""
        variant = stored.variant(kind, shape)
        return None if variant is None else self.opened(key, stored, self.store.open_variant(key, variant))

    def opened(self, key: CacheKey, stored: StoredResponse, body: StoredBody | None) -> Kept | None:
        """Note the use of what was opened; forget what could not be."""
        if body is None:
            self.catalog.discard(key.digest)
            return None
        self.used(key, stored)
        return Kept(stored, _InUse(body, self.catalog, key.digest))

    def used(self, key: CacheKey, stored: StoredResponse) -> None:
        """Note a use, in memory; on disk from time to time."""
        now = self.now()
        if not self.catalog.touch(key.digest, now):
            self.catalog.add(key.digest, stored.size_on_disk, now)
        if now - self._noted_at.get(key.digest, 0.0) >= NOTE_USE_SECONDS:
            self._noted_at[key.digest] = now
            self.store.touch(key.digest, now)

    async def note_uses(self) -> None:
        """Write to disk every last use that is newer than what stands there; for a clean stop."""
        newer = [
            (digest, entry.used_at)
            for digest, noted_at in self._noted_at.items()
            if (entry := self.catalog.get(digest)) is not None and entry.used_at > noted_at
        ]

        def touch_all() -> None:
            for digest, used_at in newer:
                self.store.touch(digest, used_at)

        await self._in_thread(touch_all)

    async def checked(self, key: CacheKey, kept: Kept) -> Kept | None:
        """A kept body that somebody touched since it was verified: read whole; None where it is wrong, and no more."""
        try:
            stored = await self.store.verify(key, kept.stored)
        finally:
            kept.body.close()  # until then it is not evicted
        if stored is None:
            self.catalog.discard(key.digest)
            self._events.found_wrong(key.text)
            return None
        return self.opened(key, stored, self.store.open_body(key, stored))

    def as_stored(
        self, stored: StoredResponse, kind: RouteKind, length: int, status: CacheStatus = CacheStatus.HIT
    ) -> Representation:
        """How a stored response is shown to a client."""
        now = self.now()
        return Representation(
            fields=stored.headers,
            length=length,
            etag=stored.etag,
            cache_status=status,
            upstream=stored.upstream,
            age_seconds=age_seconds(stored.cached_at, now),
            fresh_seconds=stored.expires_at - now,
            is_immutable=kind in _IMMUTABLE,
        )

    # -- what is coming ----------------------------------------------------------------------------------------------

    async def resume(self, key: CacheKey, digest: Digest | None) -> GrowingBody | None:
        """What somebody who was killed left of a body with this digest, or None; ``received`` ends it."""
        if digest is None or digest.name != "sha256":
            return None
        body = await self.store.resume(digest.hex)
        if body is not None:
            self.catalog.pin(key.digest)
            self.catalog.reserve(key.digest, body.size)
        return body

    async def reject(self, key: CacheKey, body: GrowingBody, upstream: str) -> None:
        """Put a body that is not what the index promised into quarantine."""
        note = {"key": key.text, "upstream": upstream, "found_sha256": body.sha256, "found": "on its way"}
        await self.store.reject(body, note)

    def leave(self, body: GrowingBody) -> None:
        """Give up a body that broke off: whoever asks next may go on where it ends."""
        self.store.leave(body)

    def receive(
        self, key: CacheKey, length: int | None, digest: Digest | None = None, *, in_memory: bool = False
    ) -> GrowingBody:
        """A body for the key; a window where it is known to be too big to keep. ``received`` ends it.

        Args:
            key: whose it will be; it is not evicted meanwhile.
            length: in bytes, None while it is not known.
            digest: what it must come to, None where nobody knows.
            in_memory: that it is a window in any case, as the disk is not to be relied on.
        """
        self.catalog.pin(key.digest)
        self.catalog.changed(key.digest)
        if in_memory or (length is not None and length > self.max_kept_bytes):
            return self.store.window()
        self.catalog.reserve(key.digest, length or 0)
        if self.catalog.is_over_high(self._limits):
            self._when_crowded()
        body = self.store.grow(digest.hex if digest is not None and digest.name == "sha256" else None)
        if body.failure is not None:
            self.trouble(body.failure)
        return body

    def trouble(self, error: StorageError) -> None:
        """The disk did not do what it was asked: tell it, and make room where that may help."""
        self._events.storage_failed(error)
        if error.is_full:
            self._when_crowded(is_full=True)

    def grown(self, key: CacheKey, size_bytes: int) -> None:
        """A body of unknown length has become so long: promise it that much, or nothing once it is too big to keep."""
        self.catalog.reserve(key.digest, size_bytes if size_bytes <= self.max_kept_bytes else 0)
        if self.catalog.is_over_high(self._limits):
            self._when_crowded()

    def received(self, key: CacheKey) -> None:
        """The body of ``receive`` is published, or given up."""
        self.catalog.release(key.digest)
        self.catalog.unpin(key.digest)

    def ttl(self, kind: RouteKind) -> float:
        """How many seconds a response to such a path is fresh."""
        return ttl_for(kind, self._ttls)

    def describe(self, key: CacheKey, kind: RouteKind, fetch: Fetch, asked: Asked, etag: str) -> StoredResponse:
        """The meta of a body that is whole; its file names are the store's to fill in."""
        now = self.now()
        upstream_etag = get(asked.response.fields, "etag")
        return StoredResponse(
            key=key.text,
            status_code=200,
            headers=storable(asked.response.fields),
            cached_at=now,
            expires_at=now + self.ttl(kind),
            body="",
            body_size=fetch.body.size,
            sha256=fetch.body.sha256,
            etag=etag,
            upstream=asked.candidate.site.name,
            url=asked.response.url,
            upstream_root=asked.candidate.site.root,
            upstream_etag=upstream_etag if upstream_etag and is_valid_field("etag", upstream_etag) else None,
        )

    async def publish(
        self, key: CacheKey, fetch: Fetch, stored: StoredResponse, variants: Sequence[NewVariant] = ()
    ) -> StoredResponse | None:
        """Keep the body where it is right, on disk, and not too big; else let it go, and give None. Never fails."""
        if not fetch.may_be_kept or not fetch.is_verified:
            self.drop(fetch)
            return None
        try:
            stored = await self.store.publish(key, fetch.body, stored, variants)
        except StorageError as error:
            fetch.body.discard()
            self.trouble(error)
            return None
        self._events.storage_works()
        self.catalog.release(key.digest)  # what was promised is an entry now, and would count twice
        self._published(key, stored)
        if self.catalog.is_over_high(self._limits):
            self._when_crowded()
        return stored

    def drop(self, fetch: Fetch) -> None:
        """Let a body go that will not be kept; where it is the disk that failed, that is told."""
        if fetch.body.failure is not None:
            self.trouble(fetch.body.failure)
        fetch.body.discard()

    async def add_variants(self, key: CacheKey, stored: StoredResponse, variants: Sequence[NewVariant]) -> None:
        """Keep further renderings of a stored page, where that is still what is stored. Never fails."""
        await self._amended(key, stored, lambda current: current, variants)

    async def freshen(self, key: CacheKey, stored: StoredResponse, kind: RouteKind) -> StoredResponse:
        """A stored response whose upstream has just said that it is still right. Never fails: it is so, kept or not."""
        now = self.now()
        until = now + self.ttl(kind)
        changed = await self._amended(key, stored, lambda current: current.freshened(now, until))
        return changed or stored.freshened(now, until)

    async def forget(self, key: CacheKey) -> None:
        """Remove an entry: no upstream has it any more."""
        gone = await self.store.remove((key.digest,), self.now())
        for digest in gone:
            self.catalog.discard(digest)

    async def _amended(
        self,
        key: CacheKey,
        stored: StoredResponse,
        change: Callable[[StoredResponse], StoredResponse],
        variants: Sequence[NewVariant] = (),
    ) -> StoredResponse | None:
        try:
            changed = await self.store.amend(key, stored, change, variants)
        except StorageError as error:
            self.trouble(error)
            return None
        if changed is not None:
            self._published(key, changed)
        return changed

    def _published(self, key: CacheKey, stored: StoredResponse) -> None:
        now = self.now()
        self.catalog.add(key.digest, stored.size_on_disk, now)
        self._noted_at[key.digest] = now  # the meta's own time
        if len(self._noted_at) > 2 * len(self.catalog) + _SPARE_NOTES:
            self._noted_at = {digest: at for digest, at in self._noted_at.items() if digest in self.catalog}
