"""One measurement of one server: figures by their name in ``results.COLUMNS``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench.client import Address, Answer, Connection
from bench.figures import percentile
from bench.load import run_wrk
from bench.servers import Server
from bench.stage import Stage

Figures = dict[str, float]


@contextmanager
def cpu_of(server: Server) -> Iterator[Callable[[], float]]:
    """Gives a function that says how much processor time the server has used since."""
    before = server.process.cpu_seconds()
    yield lambda: server.process.cpu_seconds() - before


def load(
    stage: Stage,
    server: Server,
    path: str,
    connections: int,
    fields: Mapping[str, str] | None = None,
    paths: Path | None = None,
    address: Address | None = None,
) -> Figures:
    """Small answers, as many as it gives: rate, latency, and what a request and a GB cost it."""
    url = (address or server.address).url + path
    with cpu_of(server) as cpu:
        done = run_wrk(stage.peers, url, connections, stage.seconds, fields, paths)
        used = cpu()
    return {
        "rate": done.requests / done.seconds,
        "speed": done.received_bytes / done.seconds / 1e6,
        "cpu_request": used / done.requests * 1e6,
        "cpu_gb": used / done.received_bytes * 1e9,
        "p50": done.p50_ms,
        "p99": done.p99_ms,
        "memory": server.process.rss_bytes() / 1e6,
    }


def downloads(stage: Stage, server: Server, path: str, connections: int) -> Figures:
    """The same file again and again, for the seconds of a round and at least once, on each of so many connections."""

    def one(connection: Connection) -> list[Answer]:
        until = time.monotonic() + stage.seconds
        answers = [connection.get(path)]
        while time.monotonic() < until:
            answers.append(connection.get(path))
        return answers

    opened = [Connection(server.address) for _ in range(connections)]
    try:
        with cpu_of(server) as cpu, ThreadPoolExecutor(connections) as threads:
            began_at = time.monotonic()
            answers = [answer for each in threads.map(one, opened) for answer in each]
            seconds = time.monotonic() - began_at
            used = cpu()
    finally:
        for connection in opened:
            connection.socket.close()
    received = sum(answer.size for answer in answers)
    return {
        "rate": len(answers) / seconds,
        "speed": received / seconds / 1e6,
        "cpu_gb": used / received * 1e9,
        "first_byte": median(answer.first_byte_seconds for answer in answers) * 1e3,
        "memory": server.process.rss_bytes() / 1e6,
    }


def latencies(
    server: Server, path: str, is_over: Callable[[int], bool], fields: Mapping[str, str] | None = None
) -> list[float]:
    """The milliseconds of each of many requests, one after the other, until it is over.

    Args:
        server: whom to ask.
        path: what for.
        is_over: asked after each answer, with how many there were.
        fields: of the request.
    """
    taken: list[float] = []
    with Connection(server.address) as connection:
        while not is_over(len(taken)):
            taken.append(connection.get(path, fields).seconds * 1e3)
    return taken


def latency_figures(taken: list[float]) -> Figures:
    """The percentiles of some latencies in milliseconds."""
    return {"p50": percentile(taken, 50), "p99": percentile(taken, 99), "slowest": max(taken)}
