"""Files and pages that no cache has seen: fetched while the client waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from statistics import median

from bench import measure
from bench.client import Address, Answer, Connection, check_same, fetch
from bench.corpus import MANY
from bench.figures import percentile
from bench.measure import Figures
from bench.results import PIPCACHE, Check, Row, Work, limit_check, ratio_check
from bench.scenario import Scenario
from bench.servers import Server
from bench.stage import Stage

_ROOM = {"cache.max_size": "8GiB"}
_FIRST_COLD_PAGE = 1_000_000
_NOTE = "one connection; cache.max_size is 8GiB, so that nothing is evicted meanwhile"


def cold_wheel_50m_tls(stage: Stage) -> Work:
    """A large wheel from an upstream over TLS; pipcache compares it with its digest, nginx takes what comes."""
    rows = _cold_wheels(stage, "cold50m", 2 if stage.is_quick else 5, stage.upstream.tls)
    return Work("cold 50 MB wheel over TLS, verified", rows, (ratio_check(rows, "speed", 0.9),), (_NOTE,))


def cold_wheel_1m(stage: Stage) -> Work:
    """A usual wheel."""
    rows = _cold_wheels(stage, "cold1m", 20 if stage.is_quick else 60, stage.upstream.plain)
    return Work("cold 1 MB wheel", rows, (ratio_check(rows, "speed", 0.7),), (_NOTE,))


def cold_file_12k(stage: Stage) -> Work:
    """A small file."""
    rows = _cold_wheels(stage, "cold12k", 100 if stage.is_quick else 300, stage.upstream.plain)
    return Work("cold 12 KB file", rows, (ratio_check(rows, "rate", 0.12), _behind(rows)), (_NOTE,))


def cold_page_12k(stage: Stage) -> Work:
    """A page; pipcache parses it and writes it anew, nginx passes it on."""
    numbers = count(_FIRST_COLD_PAGE)
    with stage.both({**_ROOM, "cache.max_entries": 100_000}) as servers:
        rows = stage.interleaved(
            servers,
            partial(
                _misses,
                stage,
                lambda server: server.page(f"{MANY}-{next(numbers)}"),
                100 if stage.is_quick else 300,
            ),
        )
    return Work("cold 12 KB page", rows, (ratio_check(rows, "rate", 0.05), _behind(rows)), (_NOTE,))


def _behind(rows: tuple[Row, ...]) -> Check:
    ours = next(each for each in rows if each.server == PIPCACHE)
    return limit_check("first byte behind upstream's last, p99", ours.figures["behind"].median, 5, "ms")


def _cold_wheels(stage: Stage, project: str, downloads: int, upstream: Address) -> tuple[Row, ...]:
    numbers = count(1)
    with stage.both(_ROOM, upstream) as servers:
        for server in servers:
            fetch(server.address, server.page(project))  # as installers do; pipcache then knows the digests
            check_same(server.address, stage.corpus.cold_path(project, 0), stage.corpus.cold[project].file)
        return stage.interleaved(
            servers,
            partial(_misses, stage, lambda _: stage.corpus.cold_path(project, next(numbers)), downloads),
        )


def _misses(stage: Stage, new_path: Callable[[Server], str], downloads: int, server: Server, _: int) -> Figures:
    """So many paths that nobody asked for before, one after the other."""
    mark = stage.upstream.mark()
    answers: dict[str, Answer] = {}
    with Connection(server.address) as connection, measure.cpu_of(server) as cpu:
        for _ in range(downloads):
            path = new_path(server)
            answers[path] = connection.get(path)
        used = cpu()
    sent_at = stage.upstream.sent_at(mark, count=downloads)
    seconds = sum(answer.seconds for answer in answers.values())
    received = sum(answer.size for answer in answers.values())
    behind = [(answer.first_byte_at - sent_at[path][-1]) * 1e3 for path, answer in answers.items()]
    return {
        "rate": downloads / seconds,
        "speed": received / seconds / 1e6,
        "cpu_request": used / downloads * 1e6,
        "cpu_gb": used / received * 1e9,
        "p50": median(answer.seconds for answer in answers.values()) * 1e3,
        "p99": percentile([answer.seconds * 1e3 for answer in answers.values()], 99),
        "first_byte": median(answer.first_byte_seconds for answer in answers.values()) * 1e3,
        "behind": percentile(behind, 99),
        "memory": server.process.rss_bytes() / 1e6,
    }


SCENARIOS = (
    Scenario("cold-wheel-50m-tls", cold_wheel_50m_tls, needs_gb=8),
    Scenario("cold-wheel-1m", cold_wheel_1m),
    Scenario("cold-file-12k", cold_file_12k),
    Scenario("cold-page-12k", cold_page_12k),
)
