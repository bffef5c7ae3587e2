"""Caches of many entries: how soon one answers after its start, and whether hits stay fast while it scans and evicts."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial

from bench.client import Connection, fetch
from bench.entries import body_of, fill, path_of
from bench.figures import number
from bench.measure import Figures, latencies, latency_figures
from bench.processes import ServerError
from bench.results import PIPCACHE, Work, limit_check, row
from bench.scenario import Scenario
from bench.servers import Server
from bench.stage import Stage

_ASK_HEALTH_EVERY = 0.2
_EVICTED = 30_000


def start(count: int, stage: Stage) -> Work:
    """Starts on a cache that is there: the first hit, and the hits until all is scanned."""
    folder = stage.new_folder(f"start-{count}")
    rounds: list[Figures] = []
    try:
        fill(folder / "cache", count)
        for _ in range(1 if stage.is_quick else 3):
            with stage.pipcache(_room_for(count), folder=folder, wait=False) as server:
                first = _first_hit(server, count - 1)
                scanned = partial(_has_entries, server, lambda entries: entries >= count)
                until = _Until(scanned, 60 + count / 2000)
                taken = latencies(server, path_of(count - 1), until)
                rounds.append({"wall": first, **latency_figures(taken), "memory": server.process.rss_bytes() / 1e6})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = row(PIPCACHE, rounds)
    checks = (
        limit_check("first hit after process start", found.figures["wall"].median, 1, "s"),
        limit_check("p99 of hits during the scan", found.figures["p99"].median, 20, "ms"),
    )
    note = "wall is from the start of the process to the first hit; latencies are of hits, one after the other"
    return Work(f"start with {count:,} entries", (found,), checks, (note,))


def eviction(stage: Stage) -> Work:
    """One entry more than a full cache of 100,000 may have, and hits while 30,000 go."""
    count = 100_000
    folder = stage.new_folder("eviction")
    more = {**_room_for(count), "cache.max_entries": count, "cache.watermark.high": 1.0, "cache.watermark.low": 0.7}
    try:
        fill(folder / "cache", count)
        with stage.pipcache(more, folder=folder) as server:
            _first_hit(server, count - 1)
            _wait(_Until(partial(_has_entries, server, lambda entries: entries >= count), 120))
            if fetch(server.address, server.page("hot12k")).status != 200:
                raise ServerError("the page that makes the cache too full was not served")
            began_at = time.monotonic()
            evicted = partial(_has_entries, server, lambda entries: entries <= count - _EVICTED + 1)
            taken = latencies(server, path_of(count - 1), _Until(evicted, 120))
            seconds = time.monotonic() - began_at
            figures = {"wall": seconds, **latency_figures(taken), "memory": server.process.rss_bytes() / 1e6}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = row(PIPCACHE, (figures,))
    note = f"wall is the time until all are gone; {len(taken):,} hits meanwhile, one after the other"
    return Work(
        f"eviction of {_EVICTED:,} at {count:,} entries",
        (found,),
        (limit_check("slowest hit meanwhile", figures["slowest"], 50, "ms"),),
        (note,),
    )


class _Until:
    """Says that it is over when a condition holds, which is looked at now and then, as looking costs the server."""

    def __init__(self, holds: Callable[[], bool], limit_seconds: float) -> None:
        self._holds = holds
        self._limit_seconds = limit_seconds
        self._until = time.monotonic() + limit_seconds
        self._next = 0.0

    def __call__(self, answers: int) -> bool:
        now = time.monotonic()
        if now > self._until:
            raise ServerError(f"not over after {number(self._limit_seconds)} s and {answers} answers")
        if answers == 0 or now < self._next:
            return False
        is_over = self._holds()
        self._next = time.monotonic() + _ASK_HEALTH_EVERY
        return is_over


def _wait(until: _Until) -> None:
    while not until(1):
        time.sleep(_ASK_HEALTH_EVERY)


def _room_for(count: int) -> dict[str, object]:
    return {"cache.max_entries": 2 * count, "cache.max_size": "64GiB"}


def _has_entries(server: Server, is_right: Callable[[int], bool]) -> bool:
    return is_right(int(server.health()["entries"]))


def _first_hit(server: Server, entry: int) -> float:
    """The seconds from the start of the process to the first whole answer from the cache."""
    path = path_of(entry)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with Connection(server.address) as connection:
                answer = connection.get(path)
        except OSError:
            time.sleep(0.005)
            continue
        took = time.monotonic() - server.process.started_at
        if answer.fields.get("x-cache-status") != "HIT" or fetch(server.address, path).body != body_of(entry):
            raise ServerError("what was put into the cache is not served from it")
        return took
    raise ServerError("no answer within a minute of the start")


SCENARIOS = (
    Scenario("start-100k", partial(start, 100_000), is_slow=True),
    Scenario("start-1m", partial(start, 1_000_000), is_slow=True, needs_gb=12),
    Scenario("eviction", eviction, is_slow=True),
)
