"""The project list on its way: converted while it comes, and sent while it is converted.

It is too large to be held, or to be waited for: PyPI's has 40 MB. So the list as upstream sends it streams to its file like
any body, and each rendering that somebody wants is a body of its own, which grows behind it: a chunk is read, converted in a
thread, appended, and offered to those who follow. What is in memory is a chunk. When all is there, the renderings are kept
beside the list as those of a page are; one that is wanted later is made in the same way, of what is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

from twisted.internet.defer import Deferred, DeferredList

from pipcache.engine.fetch import Expected, Fetch
from pipcache.engine.forming import GZIP_LEVEL, Rendering
from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import BodySource, Clock, Events, GrowingBody, InThread
from pipcache.engine.outcome import StoredSource
from pipcache.rules.errors import PipcacheError, StorageError, TruncatedBody, UpstreamError
from pipcache.rules.fields import Fields, get
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from pipcache.rules.negotiation import Dialect
from pipcache.rules.sites import BodyReceiver
from pipcache.simple.listing import ListConverter
from pipcache.simple.parse import charset_of

CHUNK_BYTES = 1 << 17
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class _Conversion:
    """The bytes of a rendering, made piece by piece; called in threads, one at a time."""

    def __init__(self, content_type: str | None, kind: str) -> None:
        target = Dialect(kind.removesuffix(".gz"))
        self._converter = ListConverter(None, charset_of(content_type), target)
        is_gzipped = kind.endswith(".gz")
        self._coder = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW) if is_gzipped else None

    def feed(self, data: bytes) -> bytes:
        converted = self._converter.feed(data)
        return converted if self._coder is None else self._coder.compress(converted)

    def close(self) -> bytes:
        converted = self._converter.close()
        return converted if self._coder is None else self._coder.compress(converted) + self._coder.flush()


class _Converted:
    """A rendering as a response that a ``Fetch`` takes: it follows the list, at the pace of whoever takes it."""

    def __init__(self, source: BodySource, conversion: _Conversion, in_thread: InThread) -> None:
        self.status = 200
        self.url = ""
        self.fields: Fields = ()
        self.length: int | None = None
        self.position = 0
        self._source = source
        self._conversion = conversion
        self._in_thread = in_thread
        self._receiver: BodyReceiver | None = None
        self._is_paused = False
        self._is_busy = False

    # -- for the fetch that takes it ---------------------------------------------------------------------------------

    def deliver(self, receiver: BodyReceiver) -> None:
        """Begin."""
        self._receiver = receiver
        self._source.follow(self)
        self.advanced()

    def pause(self) -> None:
        """Convert no more for now."""
        self._is_paused = True

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        self.advanced()

    def abandon(self) -> None:
        """Nobody wants it any more."""
        self._over()

    # -- for the list that it follows --------------------------------------------------------------------------------

    def offered(self, offset: int, data: bytes) -> None:
        """More has come, which is read in turn."""
        self.advanced()

    def advanced(self) -> None:
        """Convert the next chunk, where there is one and nothing else is being done."""
        if self._is_busy or self._is_paused or self._receiver is None:
            return
        count = min(self._source.available - self.position, CHUNK_BYTES)
        if count > 0:
            self._is_busy = True
            Deferred.fromCoroutine(self._convert(count))
        elif self._source.is_whole:
            self._is_busy = True
            Deferred.fromCoroutine(self._finish())

    def broken(self) -> None:
        """The list will never be whole."""
        receiver = self._over()
        if receiver is not None:
            receiver.failed(TruncatedBody("the list broke off"))

    async def _convert(self, count: int) -> None:
        converted = await self._made(count)
        if converted is None or self._receiver is None:
            return
        self._source.taken()
        if converted:
            self._receiver.received(converted)
        self._is_busy = False
        self.advanced()

    async def _finish(self) -> None:
        converted = await self._made(0)
        receiver = self._over() if converted is not None else None
        if receiver is not None:
            if converted:
                receiver.received(converted)
            receiver.ended(length_was_known=True)

    async def _made(self, count: int) -> bytes | None:
        """What the next bytes come to, or, for none, the end; None where it cannot be made, which is told."""
        try:
            if not count:
                return await self._in_thread(self._conversion.close)
            data = self._source.read_at(self.position, count)
            self.position += len(data)
            return await self._in_thread(lambda: self._conversion.feed(data))
        except PipcacheError as error:
            receiver = self._over()
            if receiver is not None:
                receiver.failed(error if isinstance(error, UpstreamError) else TruncatedBody(str(error)))
            return None

    def _over(self) -> BodyReceiver | None:
        """Stop; gives the receiver, once."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._source.leave(self)
        return receiver


class ListVersion:
    """One version of the project list, on its way or kept: its renderings grow while they are sent.

    Args:
        stored: its meta, as far as it is known.
        source: opens the list as upstream sent it, for one who follows it from the start.
        grow: makes a body for a rendering.
        in_thread: where it is converted.
        max_kept_bytes: a rendering that is longer is sent and not kept.
        clock: for what is done in the next turn.
        events: who is told of bugs.
    """

    def __init__(
        self,
        stored: StoredResponse,
        source: Callable[[], BodySource],
        grow: Callable[[], GrowingBody],
        in_thread: InThread,
        max_kept_bytes: int,
        clock: Clock,
        events: Events,
    ) -> None:
        self.stored = stored
        self._source = source
        self._grow = grow
        self._in_thread = in_thread
        self._max_kept_bytes = max_kept_bytes
        self._clock = clock
        self._events = events
        self._growing: dict[str, Fetch] = {}
        self._all: list[Fetch] = []
        self._given: set[str] = set()
        self._taking: list[Deferred[None]] = []

    async def rendering(self, kind: str) -> Fetch:
        """A rendering to follow, once its first bytes are there.

        Raises:
            PipcacheError: the list is none, or is gone.
        """
        fetch = self._growing.get(kind)
        if fetch is None or not fetch.is_joinable:
            fetch = Fetch(self._grow(), Expected(max_kept_bytes=self._max_kept_bytes))
            self._growing[kind] = fetch
            self._all.append(fetch)
            self._taking.append(Deferred.fromCoroutine(self._take(kind, fetch)))
        await fetch.shown.wait()
        return fetch

    @property
    def is_growing(self) -> bool:
        """Whether a rendering has been begun whose end nobody has waited for."""
        return bool(self._taking)

    async def finished(self) -> list[Rendering]:
        """Those renderings that came to their end since the last time and are whole on disk; ``release`` comes last."""
        taking, self._taking = self._taking, []
        await DeferredList(taking)
        whole = [(kind, fetch) for kind, fetch in self._growing.items() if fetch.is_whole and fetch.may_be_kept]
        new = [(kind, fetch) for kind, fetch in whole if kind not in self._given]
        self._given.update(kind for kind, _ in new)
        return [Rendering(kind, fetch.body) for kind, fetch in new]

    def release(self, *, is_kept: bool) -> None:
        """All renderings have ended, and have got their names, or nobody will give them any."""
        for fetch in self._all:
            if not is_kept or not fetch.is_whole:
                fetch.body.discard()
            fetch.release()

    async def _take(self, kind: str, fetch: Fetch) -> None:
        try:
            conversion = _Conversion(get(self.stored.headers, "content-type"), kind)
            converted = _Converted(self._source(), conversion, self._in_thread)
            # those who wait for the first bytes follow in the turn in which these come
            fetch.shown.wait().addCallbacks(lambda _: self._clock.callLater(0, fetch.offered_to_all), lambda _: None)
            await fetch.take(converted)
        except PipcacheError as error:
            self._gave_up(fetch, error)
        except Exception:
            self._events.crashed("converting the project list")
            self._gave_up(fetch, PipcacheError("An error of this proxy; its log says more."))

    def _gave_up(self, fetch: Fetch, error: PipcacheError) -> None:
        fetch.give_up()
        if not fetch.shown.is_decided:
            fetch.shown.fail(error)


class KeptLists:
    """Lists that are kept, in renderings that are not."""

    def __init__(self, holdings: Holdings, in_thread: InThread, clock: Clock, events: Events) -> None:
        self._holdings = holdings
        self._in_thread = in_thread
        self._clock = clock
        self._events = events
        self._converting: dict[tuple[str, str], ListVersion] = {}

    async def rendering(self, key: CacheKey, stored: StoredResponse, kind: str) -> Fetch | None:
        """A rendering of a kept list, to be followed while it is made; None where what is kept is no list, or is gone."""
        which = (key.digest, stored.etag)
        version = self._converting.get(which)
        is_new = version is None
        if version is None:
            kept = self._holdings.opened(key, stored, self._holdings.store.open_body(key, stored))
            if kept is not None and kept.body.is_suspect:
                kept = await self._holdings.checked(key, kept)
            if kept is None:
                return None
            kept.body.close()
            version = self._converting[which] = new_list_version(
                stored,
                partial(self._opened, key, kept.stored),
                self._holdings,
                self._in_thread,
                self._clock,
                self._events,
            )
        coming = Deferred.fromCoroutine(version.rendering(kind))
        if is_new:
            Deferred.fromCoroutine(self._keep(key, version))
        try:
            return await coming
        except PipcacheError:
            return None

    def _opened(self, key: CacheKey, stored: StoredResponse) -> BodySource:
        kept = self._holdings.opened(key, stored, self._holdings.store.open_body(key, stored))
        if kept is None:
            raise StorageError("the list that was kept is gone")
        return StoredSource(kept.body)

    async def _keep(self, key: CacheKey, version: ListVersion) -> None:
        try:
            while version.is_growing:
                made = await version.finished()
                if made:
                    await self._holdings.add_variants(key, version.stored, made)
        except Exception:
            self._events.crashed("keeping the project list")
        finally:
            del self._converting[key.digest, version.stored.etag]
            version.release(is_kept=True)


def new_list_version(
    stored: StoredResponse,
    source: Callable[[], BodySource],
    holdings: Holdings,
    in_thread: InThread,
    clock: Clock,
    events: Events,
) -> ListVersion:
    """A version of the list whose renderings are bodies of the store."""
    return ListVersion(stored, source, holdings.store.grow, in_thread, holdings.max_kept_bytes, clock, events)
