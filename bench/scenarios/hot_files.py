"""Wheels that are kept, each size, on one connection and on eight."""

from __future__ import annotations

from functools import partial

from bench import measure
from bench.client import check_same
from bench.results import Work, ratio_check
from bench.scenario import Scenario
from bench.stage import Stage

_SIZES = {"wheel64k": "64 KB", "wheel1m": "1 MB", "wheel50m": "50 MB", "wheel500m": "500 MB"}
_BY_WRK = ("wheel64k", "wheel1m")
_MORE = 3
"""Large wheels are measured so many times as often as all else: the system's part is nearly all of it, for both servers, and
a tenth of that is chance. The smallest too: the client has as much to do as the servers, so a tenth is chance there."""

_NEARLY = 0.95
"""Of a ratio of 1.0 that is asked for, so much counts as reached."""


def hot_wheel(project: str, connections: int, aim: float, stage: Stage) -> Work:
    """One wheel, again and again."""
    path = stage.corpus.wheel_path(project)
    with stage.both() as servers:
        for server in servers:
            check_same(server.address, path, stage.corpus.wheels[project].file)
        of_one = measure.load if project in _BY_WRK else measure.downloads
        is_by_chance = project != "wheel1m" and not stage.is_quick
        rows = stage.interleaved(
            servers,
            lambda server, _: of_one(stage, server, path, connections),
            _MORE * stage.rounds if is_by_chance else stage.rounds,
        )
    plural = "connections" if connections > 1 else "connection"
    name = f"hot {_SIZES[project]} wheel, {connections} {plural}"
    return Work(name, rows, (ratio_check(rows, "speed", aim),))


SCENARIOS = (
    Scenario("hot-wheel-64k", partial(hot_wheel, "wheel64k", 8, 1.2)),
    *(
        Scenario(
            f"hot-{project.replace('wheel', 'wheel-')}-{connections}",
            partial(hot_wheel, project, connections, _NEARLY),
            is_slow=project == "wheel500m",
        )
        for project in ("wheel1m", "wheel50m", "wheel500m")
        for connections in (1, 8)
    ),
)
