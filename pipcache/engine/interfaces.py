"""What the engine needs of the edges and of the doors, as protocols. The engine imports neither.

Shapes that cross these lines (``StoredResponse``, ``UpstreamRequest``, ``BodyReceiver``) are values of ``rules``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from pipcache.rules.errors import PipcacheError, StorageError
from pipcache.rules.fields import Fields
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse, Variant
from pipcache.rules.sites import BodyReceiver, UpstreamRequest, UpstreamSite

T = TypeVar("T")


class InThread(Protocol):
    """Runs a blocking function in a thread and gives its result, or raises what it raised."""

    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]:
        """Run ``function``."""
        ...


class Clock(Protocol):
    """Monotonic seconds and timers; the reactor, or a ``task.Clock``."""

    def seconds(self) -> float:
        """Seconds since some moment."""
        ...

    def callLater(self, delay: float, function: Callable[..., Any], /, *args: Any) -> Any:
        """Call ``function`` after ``delay`` seconds; the result can be cancelled."""
        ...


class Follower(Protocol):
    """One that reads a body as it grows."""

    @property
    def position(self) -> int:
        """The offset of the next byte it has not taken."""
        ...

    def offered(self, offset: int, data: bytes) -> None:
        """These bytes have just come; whoever stands at their offset may take them without reading the file."""

    def advanced(self) -> None:
        """There may be more to read, or the body has ended."""

    def broken(self) -> None:
        """The body will never be whole."""


class BodySource(Protocol):
    """A body that a follower reads, stored or growing."""

    @property
    def available(self) -> int:
        """Bytes from 0 on that may be read now."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether ``available`` is all there is, and right."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``, at least one where there are any.

        Raises:
            StorageError: they cannot be had.
        """
        ...

    def follow(self, follower: Follower) -> None:
        """Tell this follower what happens from now on."""

    def unwanted(self) -> None:
        """Nobody will follow after all."""

    def leave(self, follower: Follower) -> None:
        """Tell it no more; the last one to leave lets the body be closed."""

    def taken(self) -> None:
        """A follower has moved on; what all are past need not be held."""


class BodySink(Protocol):
    """Where a follower writes: one client's response."""

    def write(self, data: bytes) -> None:
        """Send these bytes; may pause the follower before it returns."""

    def finish(self) -> None:
        """The response is complete."""

    def abort(self) -> None:
        """Break the connection, so that nobody takes what was sent for the whole."""


class StoredBody(Protocol):
    """A file that is whole; whoever has it closes it."""

    @property
    def length(self) -> int:
        """In bytes."""
        ...

    @property
    def is_suspect(self) -> bool:
        """Whether somebody touched the file since it was verified."""
        ...

    @property
    def descriptor(self) -> int | None:
        """Of the open file; None where it is in memory, or was given back."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """As in ``BodySource``."""
        ...

    def close(self) -> None:
        """Give it back; harmless when done already."""


class Seen(Protocol):
    """Files of an entry as they were at one moment."""

    def is_current(self) -> bool:
        """Whether they are still there, and nobody touched them."""
        ...

    def is_meta_current(self) -> bool:
        """The same of the meta alone."""
        ...

    def open(self) -> StoredBody | None:
        """The one that is no meta; None where it is gone, or somebody touched it."""
        ...


class GrowingBody(Protocol):
    """Bytes being appended; see ``pipcache.edges.body``."""

    size: int
    failure: StorageError | None

    @property
    def is_whole_on_disk(self) -> bool:
        """Whether every byte that came is in its file."""
        ...

    @property
    def window_bytes(self) -> int:
        """Bytes held in memory."""
        ...

    @property
    def first_readable(self) -> int:
        """The lowest offset from which all bytes can still be read."""
        ...

    @property
    def sha256(self) -> str:
        """Hex digits, of all bytes so far."""
        ...

    def append(self, data: bytes) -> None:
        """Take the next bytes; never fails."""

    def read_at(self, offset: int, count: int) -> bytes:
        """As in ``BodySource``."""
        ...

    def let_go(self, before: int) -> None:
        """Forget what is in memory below this offset."""

    def discard(self) -> None:
        """It will not be published."""

    def close(self) -> None:
        """Nobody reads any more."""


class NewVariant(Protocol):
    """A page's rendering, to be published beside its body."""

    @property
    def kind(self) -> str:
        """One of ``meta.VARIANT_KINDS``."""
        ...

    @property
    def content(self) -> Any:
        """The page as clients get it: bytes, or a body that is whole on disk."""
        ...

    @property
    def shape(self) -> str:
        """What formed it."""
        ...


class Scanned(Protocol):
    """An entry that a scan found."""

    @property
    def digest(self) -> str:
        """Of its key."""
        ...

    @property
    def size_bytes(self) -> int:
        """On disk."""
        ...

    @property
    def used_at(self) -> float:
        """Epoch seconds."""
        ...


class Store(Protocol):
    """The cache directory; see ``pipcache.edges.disk`` for what each promises."""

    def read(self, key: CacheKey) -> StoredResponse | None:
        """What is stored under the key."""
        ...

    def open_body(self, key: CacheKey, stored: StoredResponse) -> StoredBody | None:
        """Its body."""
        ...

    def open_variant(self, key: CacheKey, variant: Variant) -> StoredBody | None:
        """A page's rendering."""
        ...

    def seen(self, digest: str, name: str) -> Seen | None:
        """An entry's meta and another of its files, as they are now; None where one is missing."""
        ...

    def touch(self, digest: str, at: float) -> None:
        """Note when it was used."""

    def grow(self, sha256: str | None = None) -> GrowingBody:
        """A body to append to."""
        ...

    def resume(self, sha256: str) -> Awaitable[GrowingBody | None]:
        """A body that was left half done."""
        ...

    def leave(self, body: Any) -> None:
        """Leave a body half done."""

    def reject(self, body: Any, note: Mapping[str, object]) -> Awaitable[None]:
        """Put a body that is wrong into quarantine."""
        ...

    def verify(self, key: CacheKey, stored: StoredResponse) -> Awaitable[StoredResponse | None]:
        """Compare a stored body with its digest."""
        ...

    def find(self, digest: str) -> tuple[CacheKey, StoredResponse] | None:
        """The entry whose key has this digest."""
        ...

    def window(self) -> GrowingBody:
        """A body that is never stored."""
        ...

    def publish(
        self, key: CacheKey, body: Any, stored: StoredResponse, variants: Any = ()
    ) -> Awaitable[StoredResponse]:
        """Make it visible."""
        ...

    def amend(
        self,
        key: CacheKey,
        of: StoredResponse,
        change: Callable[[StoredResponse], StoredResponse],
        variants: Any = (),
    ) -> Awaitable[StoredResponse | None]:
        """Change what its meta says, and give it further renderings."""
        ...

    def remove(self, digests: tuple[str, ...], before: float) -> Awaitable[tuple[str, ...]]:
        """Remove entries; gives those that are gone."""
        ...

    def scan(self, folders: tuple[str, ...], now: float) -> Awaitable[tuple[Scanned, ...]]:
        """What some folders hold."""
        ...

    def clear_parts(self, now: float, grace_seconds: float) -> Awaitable[int]:
        """Remove parts that nobody holds and nobody can resume."""
        ...

    def folders(self) -> Iterator[str]:
        """All that can be scanned."""
        ...


class UpstreamResponse(Protocol):
    """A response whose head is there and whose body is not yet taken."""

    status: int
    url: str
    fields: Fields
    length: int | None

    def deliver(self, receiver: BodyReceiver) -> None:
        """Hand the body over as it comes."""

    def pause(self) -> None:
        """No more for now."""

    def resume(self) -> None:
        """Go on."""

    def abandon(self) -> None:
        """Take no more of it."""


class Client(Protocol):
    """What sends requests upstream."""

    def send(self, request: UpstreamRequest) -> Awaitable[UpstreamResponse]:
        """The response to a request, redirects followed.

        Raises:
            UpstreamError: there was no usable answer.
        """
        ...

    def allow_pages_from(self, sites: tuple[UpstreamSite, ...]) -> None:
        """Where pages may be redirected to."""


class Events(Protocol):
    """What is told to those who watch: the log and, later, the metrics."""

    def fetched(self, path: str, upstream: str, size_bytes: int, seconds: float) -> None:
        """A body came whole."""

    def validated(self, path: str, upstream: str) -> None:
        """An upstream said that what is kept of it is still right."""

    def upstream_failed(self, upstream: str, path: str, error: PipcacheError) -> None:
        """An upstream did not give what it was asked for; another is asked, if there is one."""

    def fetch_broke(self, path: str, upstream: str, error: PipcacheError) -> None:
        """A body that clients were reading broke off."""

    def storage_failed(self, error: PipcacheError) -> None:
        """The disk did not do what it was asked; clients were served all the same."""

    def storage_works(self) -> None:
        """The disk did what it was asked."""

    def found_wrong(self, key: str) -> None:
        """A stored body was not what it was when it was verified; it is in quarantine and will be fetched again."""

    def evicted(self, entries: int, freed_bytes: int, short_bytes: int) -> None:
        """The janitor made room; ``short_bytes`` is what pins kept it from freeing."""

    def scanned(self, entries: int, size_bytes: int, seconds: float) -> None:
        """The scan at start is through."""

    def crowded(self, limit: int) -> None:
        """A client was sent away, as ``limit`` others are connected."""

    def crashed(self, doing: str) -> None:
        """A bug: log the exception being handled; what was being done goes on."""
