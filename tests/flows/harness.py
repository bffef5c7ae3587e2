"""The assembled program in the test's reactor: start it over a directory, ask it, look at what it keeps.

It is put together by the service's own `assemble` and listens with its own site; what the service does around
that (options, signals, pip's index) is for the system tests.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater

from pipcache.edges.logs import LoggedEvents, new_logger
from pipcache.engine.upstreams import PATIENCE_SECONDS
from pipcache.rules.key import CacheKey
from pipcache.rules.routes import parse_target
from pipcache.rules.settings import CacheSettings, LogSettings, Settings, Upstream, UpstreamSettings
from pipcache.service.assemble import Program, assemble
from pipcache.service.reach import Reach
from pipcache.web.tls import SecureReactor
from pipcache.web.transport import make_prompt
from tests.fakes.client import Answer, Client
from tests.fakes.tls import self_signed
from tests.fakes.upstream import FakeUpstream

BOUND_SECONDS = 20.0
NAMES = ("one", "two", "three", "four")

PAGE_TYPE = "text/html; charset=utf-8"


def bounded(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
    """Run a coroutine test in the reactor, and give it up when it takes too long."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(BOUND_SECONDS, reactor)

    return pytest_twisted.ensureDeferred(run)


async def eventually(is_so: Callable[[], bool]) -> None:
    """Wait for what threads or the system do, of which nobody tells us; the test's own bound ends it."""
    while not is_so():
        await deferLater(reactor, 0.002, lambda: None)


def page(*links: str, head: str = "") -> bytes:
    """A project page with these links, each an `href`."""
    anchors = "".join(f'<a href="{link}">{link.rpartition("/")[2].partition("#")[0]}</a><br/>\n' for link in links)
    return f"<!DOCTYPE html><html><head>{head}</head><body>\n{anchors}</body></html>".encode()


def hashed(url: str, body: bytes) -> str:
    """A link with the digest of what it leads to."""
    return f"{url}#sha256={sha256(body).hexdigest()}"


@define(eq=False)
class Proxy:
    """One pipcache over one directory; may be stopped and started again."""

    settings: Settings
    cache_dir: Path
    sites: tuple[Upstream, ...]
    patience_seconds: float = PATIENCE_SECONDS
    program: Program = field(init=False)
    port: int = field(init=False, default=0)
    tls_port: int = field(init=False, default=0)
    _listening: Any = field(init=False, default=None)
    _listening_tls: Any = field(init=False, default=None)

    async def start(self, *, scan: bool = False) -> None:
        """Assemble, listen on a port that the system chooses, and answer."""
        events = LoggedEvents(new_logger("info"))
        self.program = assemble(self.settings, self.cache_dir, reactor, events, patience_seconds=self.patience_seconds)
        self.program.in_thread.start()
        self.program.store.prepare()
        self._listening = reactor.listenTCP(0, self.program.site, interface="127.0.0.1")  # type: ignore[attr-defined]
        assert make_prompt(self._listening, self.program.in_thread)
        self.port = self._listening.getHost().port
        reach = Reach(UpstreamSettings(None, None, self.sites), {}, self.program.certificates)
        self.program.upstreams.now_known(tuple(reach.site(upstream) for upstream in self.sites))
        if scan:
            await self.program.janitor.scan()

    def listen_with_tls(self) -> None:
        """Listen with TLS too, until it is stopped; the certificate is that of ``self_signed``."""
        options = PrivateCertificate.loadPEM(self_signed().identity).options()
        secure = SecureReactor(reactor, self.program.in_thread)
        self._listening_tls = secure.listenSSL(0, self.program.site, options, interface="127.0.0.1")
        self.tls_port = self._listening_tls.getHost().port

    async def stop(self) -> None:
        """Stop listening, drop every connection, write what is to be written, end the threads."""
        if self._listening is None:
            return
        await self._listening.stopListening()
        if self._listening_tls is not None:
            await self._listening_tls.stopListening()
        self._listening = self._listening_tls = None
        try:
            await self.program.site.abort()
            self.program.hot.clear()
            self.program.cache.stop()
            self.program.janitor.stop()
            await self.program.holdings.note_uses()
            await self.program.client.close()
        finally:
            self.program.in_thread.stop()  # or the threads would keep the test run from ending
        await deferLater(reactor, 0, lambda: None)  # what the threads sent back

    async def restart(self, *, scan: bool = False) -> None:
        """Stop, and start a new program over the same directory."""
        await self.stop()
        await self.start(scan=scan)

    # -- asking ------------------------------------------------------------------------------------------------------

    async def connect(self, receive_buffer_bytes: int | None = None) -> Client:
        """A connection of the test's own."""
        return await Client.to(self.port, receive_buffer_bytes)

    async def ask(self, target: str, *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> Answer:
        """Send a request on a new connection; the answer is still to come."""
        return (await self.connect()).ask(target, *fields, method=method, version=version)

    async def get(self, target: str, *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> Answer:
        """The whole answer to a request on a connection that closes behind it, or what came of it."""
        answer = await self.ask(target, "Connection: close", *fields, method=method, version=version)
        return await answer.ended()

    async def health(self) -> Any:
        """What `/health` says."""
        return json.loads((await self.get("/health")).body)

    # -- looking -----------------------------------------------------------------------------------------------------

    @property
    def kept(self) -> set[str]:
        """The keys of all entries on disk, without their `GET-`."""
        keys = set()
        for meta in self.cache_dir.glob("???/*.meta"):
            with suppress(FileNotFoundError):  # evicted meanwhile
                keys.add(json.loads(meta.read_bytes())["key"].removeprefix("GET-"))
        return keys

    @property
    def parts(self) -> list[Path]:
        """The bodies that are growing on disk."""
        return list(self.cache_dir.glob("tmp/*.part"))

    async def settled(self, *targets: str) -> None:
        """Wait until what is fetched for these targets is kept, or given up."""
        catalog = self.program.holdings.catalog
        digests = [CacheKey.of(parse_target(target.encode())).digest for target in targets]
        await eventually(lambda: not any(catalog.is_pinned(digest) for digest in digests))


@define(eq=False)
class Flow:
    """What one test runs; everything it started ends with it."""

    folder: Path
    upstreams: list[FakeUpstream] = field(factory=list)
    proxies: list[Proxy] = field(factory=list)

    async def upstream(self) -> FakeUpstream:
        """One more upstream, with nothing to give yet."""
        upstream = FakeUpstream()
        await upstream.start()
        self.upstreams.append(upstream)
        return upstream

    async def proxy(
        self,
        *upstreams: FakeUpstream | Upstream,
        timeout: float = 15.0,
        body_timeout: float = 600.0,
        scan: bool = False,
        selection: str = "ordered",
        patience: float = PATIENCE_SECONDS,
        **cache: Any,
    ) -> Proxy:
        """A program that asks these upstreams in this order; they are called one, two, three.

        It remembers no absence and serves nothing stale while it validates, unless it is told to (``cache``): what is
        absent now the test may offer next.
        """
        memory = {"negative_ttl_seconds": 0.0, "stale_while_revalidate_seconds": 0.0}
        sites = tuple(
            each if isinstance(each, Upstream) else Upstream(name, each.url)
            for name, each in zip(NAMES, upstreams, strict=False)
        )
        settings = Settings(
            cache=CacheSettings(dir=str(self.folder), **{**memory, **cache}),
            log=LogSettings(access="off"),
            upstream=UpstreamSettings(
                primary=sites[0],
                fallback=sites[1] if len(sites) > 1 else None,
                more=sites[2:],
                selection=selection,
                timeout_seconds=timeout,
                large_file_timeout_seconds=body_timeout,
            ),
        )
        proxy = Proxy(settings, self.folder / f"cache-{len(self.proxies)}", sites, patience)
        self.proxies.append(proxy)
        await proxy.start(scan=scan)
        return proxy

    async def end(self) -> None:
        """End all of it: the upstreams first, so that no fetch is left."""
        try:
            for upstream in self.upstreams:
                await upstream.stop()
        finally:
            for proxy in self.proxies:
                await proxy.stop()
