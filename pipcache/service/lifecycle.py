"""The program's life: how it starts and how it stops, in phases.

Start. Read certificates and secrets, then listen: a start that cannot touches nothing, and ends in one line. Then
requests are answered at once, while the directory is counted and pip is asked for its index. A cache directory that
cannot be used is said in words, and everything is served from upstream.

Stop. No new connections; transfers in progress get ``server.drain_timeout``; last uses are written; pools and threads end.
"""

from __future__ import annotations

import os
import signal
from threading import Thread, current_thread, main_thread
from types import FrameType
from typing import Any

from attrs import evolve
from OpenSSL import SSL, crypto
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from pipcache.edges.logs import LoggedEvents, new_logger
from pipcache.edges.own_address import is_own
from pipcache.edges.pip_index import PipIndex, discover_pip_index, local_addresses
from pipcache.rules.errors import ConfigError, StorageError
from pipcache.rules.settings import Upstream
from pipcache.rules.sites import UpstreamSite
from pipcache.service.assemble import Program, assemble
from pipcache.service.configuration import Configuration, choose_cache_dir
from pipcache.service.descriptors import connections_with, descriptors_for, raised_descriptor_limit
from pipcache.service.reach import Reach
from pipcache.web.tls import SecureReactor
from pipcache.web.transport import make_prompt

SWEEP_SECONDS = 30.0
SCAN_SECONDS = 3600.0
PIP_SECONDS = 8.0
"""A pip that has not answered by then is asked on, while the other upstreams serve. Until then requests wait, as where those
cannot be reached pip's index is the one that can; installers wait for 15 s and more."""

BACKLOG = 1024


class PipcacheService(Service):
    """The whole of pipcache as one service. ``port`` is where it listens, from ``privilegedStartService`` on."""

    name = "pipcache"

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        self._ports: list[IListeningPort] = []
        self._configuration = configuration
        self._settings = configuration.settings
        self._reactor = reactor
        self._log: Logger = new_logger(self._settings.log.level)
        self._cache_dir, self._cache_dir_reason = choose_cache_dir(self._settings.cache.dir)
        self._events = LoggedEvents(self._log, call_later=reactor.callLater)
        self._program: Program = assemble(self._settings, self._cache_dir, reactor, self._events)
        self._reach: Reach | None = None
        self._upstreams: tuple[Upstream, ...] = ()
        self._scanning: Deferred[None] | None = None
        self._next_scan: IDelayedCall | None = None
        self._sweeping = LoopingCall(self._program.janitor.nudge)
        self._sweeping.clock = reactor

    @property
    def port(self) -> IListeningPort | None:
        """The first that is listened on."""
        return self._ports[0] if self._ports else None

    def privilegedStartService(self) -> None:
        """Read keys and passwords, then listen, before privileges are given up.

        Raises:
            SystemExit: a file, variable or proxy is of no use, or the address cannot be listened on; the message is
                the one line that says so.
        """
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            self._reach = Reach(self._settings.upstream, os.environ, self._program.certificates)
        except ConfigError as error:
            raise SystemExit(f"pipcache: {error}") from None
        self._limit_connections()
        server = self._settings.server
        if server.endpoints:
            for endpoint in server.endpoints:
                self._listen(
                    endpoint, f"cannot listen on {endpoint}", "set server.endpoints to what can be listened on"
                )
        else:
            escaped = server.host.replace(":", "\\:")
            self._listen(
                f"tcp:{server.port}:interface={escaped}:backlog={BACKLOG}",
                f"cannot listen on {server.host} port {server.port}",
                "set server.host and server.port to an address that is free",
            )

    def _listen(self, endpoint: str, trouble: str, advice: str) -> None:
        """Listen on one endpoint.

        Raises:
            SystemExit: that cannot be; the message is the one line that says so.
        """
        failures: list[Failure] = []
        reactor = SecureReactor(self._reactor, self._program.in_thread)
        try:
            listening = serverFromString(reactor, endpoint).listen(self._program.site)
        except Exception:  # whatever its parser, or OpenSSL reading a certificate, makes of it
            failures.append(Failure())
        else:
            listening.addCallbacks(self._listening, failures.append)
        if failures:
            raise SystemExit(f"pipcache: {trouble}: {_said(failures[0].value)}; {advice}")

    def _limit_connections(self) -> None:
        """Let no more clients in than there are descriptors for."""
        wanted = self._settings.server.max_connections
        room = connections_with(raised_descriptor_limit(descriptors_for(wanted)))
        if room < wanted:
            site = self._program.site
            site.limits = evolve(site.limits, max_connections=room)
            self._log.warn(
                "at most {room} clients may be connected, not {wanted} (server.max_connections), as the system lets "
                "this process open too few files; its limit is set by ulimit -n or LimitNOFILE=, {needed} are enough",
                room=room,
                wanted=wanted,
                needed=descriptors_for(wanted),
            )

    def startService(self) -> None:
        """Begin to answer.

        Raises:
            SystemExit: the cache directory is of another program, or another version of this one; or every upstream
                is this very server.
        """
        super().startService()  # type: ignore[no-untyped-call]
        for warning in self._configuration.warnings:
            self._log.warn("{warning}", warning=warning)
        self._log.info("settings: {source}", source=self._configuration.source)
        self._log.info("{reason}", reason=self._cache_dir_reason)
        self._upstreams = self._others()
        self._program.in_thread.start()
        try:
            for warning in self._program.store.prepare():
                self._log.warn("{warning}", warning=warning)
        except StorageError as error:
            self._events.storage_failed(error)
        except ConfigError as error:
            raise SystemExit(f"pipcache: {error}") from None
        self._open_access_log()
        self._begin_scan()
        self._sweeping.start(SWEEP_SECONDS, now=False)
        self._program.lag.start()
        Deferred.fromCoroutine(self._find_upstreams())

    def _open_access_log(self) -> None:
        """Begin to write it, and open it anew at each SIGUSR1, where twistd may rotate its own log too."""
        log = self._program.site.access_log
        if log is None:
            return
        try:
            log.open()
        except ConfigError as error:
            raise SystemExit(f"pipcache: {error}") from None
        if current_thread() is main_thread():
            before = signal.getsignal(signal.SIGUSR1)

            def reopen(number: int, frame: FrameType | None) -> None:
                self._reactor.callFromThread(log.reopen)
                if callable(before):
                    before(number, frame)

            signal.signal(signal.SIGUSR1, reopen)

    def _others(self) -> tuple[Upstream, ...]:
        """The configured upstreams without those that are this server itself: they would ask us what we ask them."""
        assert self._reach is not None
        bound = [host for port in self._ports if isinstance(host := port.getHost(), IPv4Address | IPv6Address)]
        addresses = [(host.host, host.port) for host in bound]
        upstreams = self._settings.upstream.in_order
        own = [
            each
            for each in upstreams
            if not each.is_pip and any(is_own(self._reach.site(each).origin, address) for address in addresses)
        ]
        if len(own) == len(upstreams):
            names = ", ".join(upstream.name for upstream in own)
            raise SystemExit(
                f"pipcache: the address of every upstream ({names}) is that of this server itself; "
                "set upstream.primary.url to a mirror"
            )
        for upstream in own:
            self._log.warn("upstream {name} is left out: its address is that of this server itself", name=upstream.name)
        return tuple(each for each in upstreams if each not in own)

    def _begin_scan(self) -> None:
        self._scanning = Deferred.fromCoroutine(self._scan())

    async def _scan(self) -> None:
        """Learn what is there; again from time to time, for orphans that were too young and for what others removed."""
        is_first = not self._program.janitor.has_scanned
        await self._program.janitor.scan()
        if not self.running:
            return
        self._next_scan = self._reactor.callLater(SCAN_SECONDS, self._begin_scan)
        if is_first:
            self._program.scrub.start()

    def stopService(self) -> Deferred[None]:
        """Stop in phases; fires when all has ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        program = self._program
        for port in self._ports:
            await _as_deferred(port.stopListening())
        if self._sweeping.running:
            self._sweeping.stop()
        if self._next_scan is not None and self._next_scan.active():
            self._next_scan.cancel()
        program.lag.stop()
        program.janitor.stop()
        program.scrub.stop()
        program.cache.stop()
        await self._drained()
        program.hot.clear()
        if program.site.access_log is not None:
            program.site.access_log.close()
        if self._scanning is not None:
            await self._scanning
            await program.holdings.note_uses()
        await program.client.close()
        if program.in_thread.started:
            program.in_thread.stop()  # joins what is still syncing
        self._events.close()

    async def _drained(self) -> None:
        """Wait until no transfer is in progress and all is sent, but not for ever: then break what is left."""
        finishing = Deferred.fromCoroutine(self._finish_transfers())
        seconds = self._settings.server.drain_timeout_seconds
        timer = self._reactor.callLater(seconds, finishing.cancel)
        try:
            await finishing
        except CancelledError:
            self._log.warn("transfers still in progress after {seconds:g} s are cut", seconds=seconds)
            await self._program.site.abort()
        finally:
            if timer.active():
                timer.cancel()

    async def _finish_transfers(self) -> None:
        await self._program.root.when_idle()
        await self._program.site.close()

    def _listening(self, port: IListeningPort) -> None:
        self._ports.append(port)
        make_prompt(port, self._program.in_thread)
        host = port.getHost()
        if isinstance(host, IPv4Address | IPv6Address):
            self._log.info("listening on {host} port {port}", host=host.host, port=host.port)
        else:
            self._log.info("listening on {host}", host=host)

    async def _find_upstreams(self) -> None:
        """Say which upstreams there are; pip is asked for its index in a thread, as that takes a while."""
        assert self._reach is not None
        sites: list[UpstreamSite] = []
        pip_index: PipIndex | None = None
        upstreams = self._upstreams
        if any(upstream.is_pip for upstream in upstreams):
            others = tuple(self._reach.site(upstream) for upstream in upstreams if not upstream.is_pip)
            if others:
                timer = self._reactor.callLater(PIP_SECONDS, self._program.upstreams.now_known, others)
            try:
                pip_index = await self._asked_pip()
            except Exception:
                self._events.crashed("asking pip for its index")
            if others and timer.active():
                timer.cancel()
        for upstream in upstreams:
            site = self._site_of_pip(upstream, pip_index) if upstream.is_pip else self._reach.site(upstream)
            if site is not None:
                sites.append(site)
            elif pip_index is None:
                self._log.warn(
                    "upstream {name} is left out: there is no pip here that says which index it uses, "
                    "and neither PIP_INDEX_URL nor UV_DEFAULT_INDEX is set",
                    name=upstream.name,
                )
        self._log.info("upstreams, in order: {names}", names=", ".join(site.name for site in sites) or "none")
        self._program.upstreams.now_known(tuple(sites))

    def _site_of_pip(self, upstream: Upstream, found: PipIndex | None) -> UpstreamSite | None:
        assert self._reach is not None
        try:
            return None if found is None else self._reach.site_of_pip(upstream, found)
        except ConfigError as error:
            self._log.warn("upstream {name} is left out: {error}", name=upstream.name, error=str(error))
            return None

    def _asked_pip(self) -> Deferred[PipIndex | None]:
        """What pip says, asked in a thread of its own: nobody waits for it at a stop, however long pip takes."""
        asked: Deferred[PipIndex | None] = Deferred()

        def ask() -> None:
            try:
                found = self._ask_pip()
            except Exception:
                self._reactor.callFromThread(asked.errback, Failure())
            else:
                self._reactor.callFromThread(asked.callback, found)

        Thread(target=ask, name="pipcache-ask-pip", daemon=True).start()
        return asked

    def _ask_pip(self) -> PipIndex | None:
        own: set[tuple[str, int]] = set()
        for port in self._ports:
            host = port.getHost()
            if isinstance(host, IPv4Address | IPv6Address):
                own |= local_addresses(host.port, self._settings.server.host)
        return discover_pip_index(own, os.environ)


def _said(error: BaseException | None) -> str:
    """Why an endpoint cannot be listened on, in words for the one who wrote it."""
    reason = getattr(error, "socketError", error)
    if isinstance(reason, SSL.Error | crypto.Error):
        words = "; ".join(each[-1] for each in reason.args[0]) if reason.args else "no reason given"
        return f"OpenSSL finds no certificate with its key in the files of the endpoint ({words})"
    if isinstance(reason, OSError) and reason.strerror:
        return f"{reason.filename}: {reason.strerror}" if reason.filename else reason.strerror
    return str(reason) or type(reason).__name__


def _as_deferred(result: Any) -> Deferred[Any]:
    return maybeDeferred(lambda: result)
