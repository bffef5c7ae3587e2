"""The wiring: from settings to objects. The only place that knows every room."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from pipcache import __version__
from pipcache.edges.access_log import AccessLog
from pipcache.edges.certificates import Certificates
from pipcache.edges.client import UpstreamClient
from pipcache.edges.disk import DiskStore
from pipcache.edges.exchange import ClientTimeouts
from pipcache.edges.files import Files
from pipcache.edges.logs import LoggedEvents
from pipcache.edges.threads import Threads
from pipcache.edges.tokens import Tokens
from pipcache.engine.absences import Absences
from pipcache.engine.appending import Appending
from pipcache.engine.cache import Cache
from pipcache.engine.holdings import Holdings
from pipcache.engine.janitor import Janitor
from pipcache.engine.lag import LoopLag
from pipcache.engine.scrub import Scrub
from pipcache.engine.upstreams import PATIENCE_SECONDS, Upstreams
from pipcache.rules.catalog import Catalog, Limits
from pipcache.rules.freshness import Grace, Ttls
from pipcache.rules.pace import Lateness, Pace
from pipcache.rules.selection import Health, Selection
from pipcache.rules.settings import Settings, Upstream
from pipcache.rules.sites import UpstreamSite
from pipcache.rules.speed import Speed
from pipcache.rules.via import process_name
from pipcache.web.hot import HotResponses
from pipcache.web.hot_channel import can_tell, channel_of
from pipcache.web.site import ConnectionLimits, PipcacheSite, Root
from twisted import __version__ as twisted_version

DISK_THREADS = 4
QUARANTINE_SHARE = 100
"""One part in so many of ``cache.max_size`` keeps what was wrong."""


@frozen
class Program:
    """Everything that runs, put together; ``lifecycle`` starts and stops it."""

    in_thread: Threads
    store: DiskStore
    holdings: Holdings
    janitor: Janitor
    scrub: Scrub
    upstreams: Upstreams
    cache: Cache
    certificates: Certificates
    client: UpstreamClient
    root: Root
    site: PipcacheSite
    hot: HotResponses
    lag: LoopLag


def assemble(
    settings: Settings,
    cache_dir: Path,
    reactor: Any,
    events: LoggedEvents,
    files: Files | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Program:
    """Build the program; nothing is opened, started or listened on here.

    ``files``: how the disk is reached. ``patience_seconds``: see ``upstreams``.
    """
    in_thread = Threads(reactor, DISK_THREADS, "pipcache-disk")
    limits = Limits(
        settings.cache.max_size_bytes,
        settings.cache.max_entries,
        settings.cache.watermark.high_ratio,
        settings.cache.watermark.low_ratio,
    )
    ttls = Ttls(
        settings.cache.simple_ttl_seconds, settings.cache.packages_ttl_seconds, settings.cache.default_ttl_seconds
    )
    grace = Grace(settings.cache.stale_while_revalidate_seconds, settings.cache.stale_if_error_seconds)
    catalog = Catalog()
    quarantine_bytes = settings.cache.max_size_bytes // QUARANTINE_SHARE
    tokens = Tokens()
    store = DiskStore(cache_dir, in_thread, quarantine_bytes, files, tokens, in_thread_together=in_thread.together)
    janitor = Janitor(store, catalog, limits, reactor, time.time, events)
    pace = Pace()
    appending = Appending(pace, in_thread, time.perf_counter)
    holdings = Holdings(store, catalog, limits, ttls, grace, time.time, events, janitor.nudge, in_thread, appending)
    timeouts = ClientTimeouts(settings.upstream.timeout_seconds, settings.upstream.large_file_timeout_seconds)
    certificates = Certificates()
    name = process_name(tokens(8))
    client = UpstreamClient(reactor, timeouts, name, certificates)
    selection = Selection(settings.upstream.selection)
    upstreams = Upstreams(
        client, reactor, events, selection, patience_seconds=patience_seconds, epoch_seconds=time.time
    )
    absences = Absences(reactor.seconds, ttls, settings.cache.negative_ttl_seconds)
    ahead = settings.cache.prefetch_size_bytes
    cache = Cache.of(holdings, upstreams, absences, reactor, in_thread, tokens, events, ahead)
    lag = LoopLag(reactor)
    report = _Report(catalog, upstreams, settings, reactor, events, lambda: site.connections, pace, lag.lateness)
    hot = HotResponses(settings.cache.hot_memory_bytes, time.time)
    catalog.when_changed = hot.drop
    root = Root(cache, hot, reactor, events, report.now, name)
    scrub = Scrub(store, catalog, reactor, events, settings.cache.scrub_interval_seconds)
    connections = ConnectionLimits(settings.server.max_connections, settings.server.stall_timeout_seconds)
    site = PipcacheSite(root, connections, reactor, events)
    if settings.log.access != "off":
        path = None if settings.log.access_file is None else Path(settings.log.access_file).expanduser()
        site.access_log = AccessLog(settings.log.access, path, reactor, time.time, events.access_log_failed)
    if can_tell():
        site.protocol = channel_of(hot)  # type: ignore[assignment]
    return Program(
        in_thread, store, holdings, janitor, scrub, upstreams, cache, certificates, client, root, site, hot, lag
    )


def site_of(upstream: Upstream) -> UpstreamSite:
    """Where a configured upstream's things lie; not for one that stands for pip's index."""
    if upstream.index_url is not None:
        site = UpstreamSite.from_index(upstream.name, upstream.index_url)
    else:
        site = UpstreamSite.from_root(upstream.name, upstream.url or "", upstream.path_prefix)
    return as_set_up(site, upstream)


def as_set_up(site: UpstreamSite, upstream: Upstream) -> UpstreamSite:
    """``site`` with what the settings say of it beside its address."""
    return evolve(site, is_trusted=upstream.trusted, redirect_hosts=upstream.redirect_hosts)


class _Report:
    """What ``/health`` says."""

    def __init__(
        self,
        catalog: Catalog,
        upstreams: Upstreams,
        settings: Settings,
        reactor: Any,
        events: LoggedEvents,
        connections: Callable[[], int],
        pace: Pace,
        lateness: Lateness,
    ) -> None:
        self._catalog = catalog
        self._upstreams = upstreams
        self._settings = settings
        self._reactor = reactor
        self._events = events
        self._connections = connections
        self._pace = pace
        self._lateness = lateness
        self._began_at = reactor.seconds()

    def now(self) -> dict[str, Any]:
        """The report of this moment; sizes in bytes.

        ``loop``: how late the reactor was at the looks of the last minute. ``appending``: how long a chunk of a body takes
        to be digested and appended, on average, and whether that is done in a thread for being slow.
        """
        known = {site.name for site in self._upstreams.sites}
        return {
            "status": "healthy" if self._events.trouble is None else "degraded",
            **({} if self._events.trouble is None else {"reason": self._events.trouble}),
            "cache_size": self._catalog.total_bytes,
            "cache_max_size": self._settings.cache.max_size_bytes,
            "entries": len(self._catalog),
            "max_entries": self._settings.cache.max_entries,
            "connections": self._connections(),
            "loop": {
                "lag_seconds": round(self._lateness.average_seconds, 6),
                "worst_lag_seconds": round(self._lateness.worst_seconds, 6),
            },
            "appending": {
                "seconds_per_chunk": round(self._pace.average_seconds, 6),
                "is_in_thread": self._pace.is_slow,
            },
            "uptime_seconds": round(self._reactor.seconds() - self._began_at, 1),
            "version": __version__,
            "python": sys.version.split()[0],
            "twisted": twisted_version,
            "upstreams": [
                self._upstream(upstream.name) if upstream.name in known else {"name": upstream.name, "state": "unknown"}
                for upstream in self._settings.upstream.in_order
            ],
        }

    def _upstream(self, name: str) -> dict[str, Any]:
        health = self._upstreams.health.get(name, Health())
        speed = self._upstreams.speeds.get(name, Speed())
        failures = health.consecutive_failures
        return {
            "name": name,
            "state": "last" if self._upstreams.is_last(name) else "failing" if failures else "ok",
            "consecutive_failures": failures,
            "time_to_first_byte_seconds": None if speed.first_byte is None else round(speed.first_byte.value, 4),
            "throughput_bytes_per_second": None if speed.throughput is None else round(speed.throughput.value),
        }
