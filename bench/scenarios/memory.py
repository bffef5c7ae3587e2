"""What a server holds in memory: idle, with idle connections, and with downloads that nobody reads."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.client import Connection, check_same
from bench.measure import Figures
from bench.results import PIPCACHE, Work, limit_check, row
from bench.scenario import Scenario
from bench.servers import Server
from bench.stage import Stage

CONNECTIONS = 1000
_RECEIVE_BYTES = 1 << 16
_LOOK_SECONDS = 1.0
_MOST_LOOKS = 30
_STEADY_BYTES = 200_000


def idle_memory(stage: Stage) -> Work:
    """A server that has just started, and one page that it has served."""
    with stage.both() as servers:
        figures: dict[str, Figures] = {}
        for server in servers:
            with Connection(server.address) as connection:
                connection.get(server.page("hot12k"))
            figures[server.name] = {"memory": _settled(server) / 1e6}
    rows = tuple(row(name, (each,)) for name, each in figures.items())
    return Work("idle server", rows, (limit_check("RSS", figures[PIPCACHE]["memory"], 60, "MB"),))


def idle_connections(stage: Stage) -> Work:
    """Connections on which nothing is asked."""
    return _held(stage, f"{CONNECTIONS:,} idle connections", 5)


def stalled_downloads(stage: Stage) -> Work:
    """Downloads of a kept wheel whose clients read nothing."""
    path = stage.corpus.wheel_path("wheel50m")
    return _held(stage, f"{CONNECTIONS:,} stalled downloads of a 50 MB wheel", 20, path)


def _held(stage: Stage, name: str, most: float, asked: str | None = None) -> Work:
    """Opens the connections, and asks for a path on each where one is given."""
    path = stage.corpus.wheel_path("wheel50m")
    rows = []
    growth = 0.0
    with stage.both() as servers:
        for server in servers:
            check_same(server.address, path, stage.corpus.wheels["wheel50m"].file)
            before = _settled(server)
            with ExitStack() as opened:
                for _ in range(CONNECTIONS):
                    connection = opened.enter_context(Connection(server.address, _RECEIVE_BYTES))
                    if asked is not None:
                        connection.send(asked)
                with Connection(server.address) as another:
                    first_byte = another.get(server.page("hot12k")).first_byte_seconds * 1e3
                memory = _settled(server)
            growth = (memory - before) / 1e6
            rows.append(row(server.name, ({"memory": memory / 1e6, "growth": growth, "first_byte": first_byte},)))
    note = "first byte is that of a 12 KB page, asked for behind the last of them"
    return Work(name, tuple(rows), (limit_check("RSS grown", growth, most, "MB"),), (note,))


def _settled(server: Server) -> int:
    """What it holds, in bytes, once that has stopped to grow."""
    held = server.process.rss_bytes()
    for _ in range(_MOST_LOOKS):
        time.sleep(_LOOK_SECONDS)
        before, held = held, server.process.rss_bytes()
        if abs(held - before) < _STEADY_BYTES:
            break
    return held


SCENARIOS = (
    Scenario("idle-memory", idle_memory),
    Scenario("idle-connections", idle_connections),
    Scenario("stalled-downloads", stalled_downloads),
)
