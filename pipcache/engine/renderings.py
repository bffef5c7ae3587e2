"""Kept pages in a rendering that is not there yet: made of what upstream sent, once, and kept beside it.

A page that comes is rendered as whoever waits for it wants it; somebody who wants another dialect or coding comes here, and
so does everybody after the code that renders has changed.
"""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred

from pipcache.engine.forming import FORMED_HERE_BYTES, Formed, Rendering, read_page, rendered
from pipcache.engine.holdings import Holdings, Kept
from pipcache.engine.interfaces import Events, InThread
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import PipcacheError
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from pipcache.rules.routes import Route


class Renderings:
    """Reads and renders kept pages."""

    def __init__(self, holdings: Holdings, in_thread: InThread, events: Events) -> None:
        self._holdings = holdings
        self._in_thread = in_thread
        self._events = events
        self._making: dict[tuple[str, str, str], Waiters[bytes | None]] = {}

    async def made(self, route: Route, key: CacheKey, stored: StoredResponse, kind: str) -> bytes | None:
        """The rendering of a kept page; None where what is kept is no page, or is gone."""
        which = (key.digest, stored.etag, kind)
        making = self._making.get(which)
        if making is None:
            making = self._making[which] = Waiters()
            waiter = making.wait()
            Deferred.fromCoroutine(self._make(route, key, stored, kind, making))
            return await waiter
        return await making.wait()

    async def formed(self, route: Route, key: CacheKey, stored: StoredResponse) -> Formed | None:
        """A kept page, read; None where what is kept is no page, or is gone."""
        kept = self._holdings.opened(key, stored, self._holdings.store.open_body(key, stored))
        if kept is not None and kept.body.is_suspect:
            kept = await self._holdings.checked(key, kept)
        if kept is None:
            return None
        try:
            read = partial(_read, route, kept)
            return read() if kept.body.length <= FORMED_HERE_BYTES else await self._in_thread(read)
        except PipcacheError:
            return None
        finally:
            kept.body.close()

    async def _make(
        self, route: Route, key: CacheKey, stored: StoredResponse, kind: str, making: Waiters[bytes | None]
    ) -> None:
        """Render a kept page for all who want it, and keep that; never fails itself."""
        content = None
        try:
            formed = await self.formed(route, key, stored)
            if formed is not None:
                render = partial(rendered, formed, kind)
                is_small = stored.body_size <= FORMED_HERE_BYTES
                content = render() if is_small else await self._in_thread(render)
        except Exception:
            self._events.crashed(f"rendering {route.path}")
        making.fire(content)
        try:
            if content is not None:
                await self._holdings.add_variants(key, stored, [Rendering(kind, content)])
        except Exception:
            self._events.crashed(f"keeping a rendering of {route.path}")
        finally:
            del self._making[key.digest, stored.etag, kind]


def _read(route: Route, kept: Kept) -> Formed:
    return read_page(route, kept.stored, kept.body.read_at)
