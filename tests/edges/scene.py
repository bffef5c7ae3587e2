"""What the tests of the upstream client stand on: a client, upstreams to ask, receivers to fill, and a clock."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import directlyProvides, providedBy

from pipcache.edges.client import ReceivedResponse, UpstreamClient
from pipcache.edges.exchange import ClientTimeouts
from pipcache.rules.addresses import is_private
from pipcache.rules.errors import UpstreamError
from pipcache.rules.sites import UpstreamRequest, UpstreamSite
from tests.fakes.upstream import FakeUpstream

LONGEST_SECONDS = 20


def bounded(test: Callable[..., Awaitable[None]]) -> Any:
    """A coroutine test that is cancelled when it takes far too long, so that it fails instead of hanging."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        running: Deferred[None] = Deferred.fromCoroutine(test(*args, **kwargs))
        timer = reactor.callLater(LONGEST_SECONDS, running.cancel)
        try:
            await running
        finally:
            if timer.active():
                timer.cancel()

    return pytest_twisted.ensureDeferred(run)


class ClockReactor:
    """The real reactor for sockets, a `Clock` for time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.callLater = self.clock.callLater
        self.seconds = self.clock.seconds
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


def turn() -> Deferred[None]:
    """One turn of the reactor."""
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    return done


async def turns(count: int = 20) -> None:
    """Several turns: what can arrive over loopback has arrived."""
    for _ in range(count):
        await turn()


class Receiver:
    """A `BodyReceiver` that keeps everything and checks that it is told of one end."""

    def __init__(self, on_data: Callable[[bytes], None] | None = None) -> None:
        self.body = bytearray()
        self.sizes: list[int] = []
        self.length_was_known: bool | None = None
        self.error: UpstreamError | None = None
        self.is_over = False
        self._on_data = on_data
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def received(self, data: bytes) -> None:
        """Keep it."""
        assert not self.is_over
        assert data
        self.body += data
        self.sizes.append(len(data))
        if self._on_data is not None:
            self._on_data(data)
        self._changed()

    def ended(self, length_was_known: bool) -> None:
        """Keep how."""
        self.length_was_known = length_was_known
        self._over()

    def failed(self, error: UpstreamError) -> None:
        """Keep why."""
        self.error = error
        self._over()

    def _over(self) -> None:
        assert not self.is_over
        self.is_over = True
        self._changed()

    def _changed(self) -> None:
        for waiter in list(self._waiters):
            if waiter[0]() and not waiter[1].called:
                self._waiters.remove(waiter)
                waiter[1].callback(None)

    def until(self, is_so: Callable[[], bool]) -> Deferred[None]:
        """Wait until a condition holds; asked now and after each call."""
        done: Deferred[None] = Deferred()
        self._waiters.append((is_so, done))
        self._changed()
        return done

    def end(self) -> Deferred[None]:
        """Wait for the end, whichever."""
        return self.until(lambda: self.is_over)


class Scene:
    """A client and one upstream; `async with Scene() as scene`.

    Timeouts are in seconds of `reactor`: the real one, or a `ClockReactor`. `is_private` says which addresses are.
    """

    def __init__(
        self,
        silence: float = 10.0,
        body: float = 100.0,
        reactor: Any = reactor,
        is_private: Callable[[str], bool] = is_private,
    ) -> None:
        self.reactor = reactor
        self.client = UpstreamClient(reactor, ClientTimeouts(silence, body), "pipcache-0123", is_private=is_private)
        self.upstream = FakeUpstream()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Scene:
        await self._stack.enter_async_context(self.upstream)
        self.client.allow_pages_from((self.site,))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self._stack.aclose()
        await turns()  # until the client knows that its connections are gone

    async def another(self, upstream: Any = None) -> Any:
        """Start another server, stopped with the scene."""
        return await self._stack.enter_async_context(upstream or FakeUpstream())

    @property
    def site(self) -> UpstreamSite:
        """The upstream as a configured site without credentials."""
        return UpstreamSite.from_root("main", self.upstream.url)

    async def send(self, where: str, site: UpstreamSite | None = None, **options: Any) -> ReceivedResponse:
        """Send a request for a path of the upstream or for a URL."""
        url = where if "://" in where else self.upstream.url + where
        return await self.client.send(UpstreamRequest(url, site or self.site, **options))

    async def fetch(
        self, where: str, site: UpstreamSite | None = None, **options: Any
    ) -> tuple[ReceivedResponse, Receiver]:
        """Send a request and take its body to the end."""
        response = await self.send(where, site, **options)
        receiver = Receiver()
        response.deliver(receiver)
        await receiver.end()
        return response, receiver

    async def refused(self, where: str, site: UpstreamSite | None = None, **options: Any) -> UpstreamError:
        """Send a request that must fail before a response; returns exactly why."""
        with pytest.raises(UpstreamError) as caught:
            await self.send(where, site, **options)
        return caught.value

    async def send_or_error(self, where: str, site: UpstreamSite) -> UpstreamError | None:
        """Send a request and take its body; how it failed, whether before a response or in it. None: it did not."""
        try:
            _, received = await self.fetch(where, site)
        except UpstreamError as error:
            return error
        return received.error
