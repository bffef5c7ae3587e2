"""A hundred clients that want one wheel at the same moment, and nobody has it yet."""

from __future__ import annotations

from itertools import count

from bench.client import Address, crowd, fetch
from bench.measure import Figures, cpu_of
from bench.results import PIPCACHE, Check, Row, Work, ratio_check
from bench.scenario import Scenario
from bench.servers import Server
from bench.stage import Stage

CLIENTS = 100
_ROOM = {"cache.max_size": "8GiB"}


def crowd_50m(stage: Stage) -> Work:
    """From an upstream as fast as the machine."""
    rows, _ = _crowds(stage, stage.upstream.plain)
    checks = (_transfers(rows), ratio_check(rows, "wall", 1.0, at_most=True))
    return Work(f"{CLIENTS} clients, one cold 50 MB wheel", rows, checks)


def crowd_50m_slow(stage: Stage) -> Work:
    """From an upstream that sends 25 MiB/s, so that it shows who has to wait for the whole file."""
    rows, waited = _crowds(stage, stage.upstream.slow)
    early = CLIENTS - max(waited[PIPCACHE])
    before = Check("first bytes before upstream's last", f"{early} of {CLIENTS}", f"{CLIENTS}", early == CLIENTS)
    checks = (before, _transfers(rows), ratio_check(rows, "wall", 1.0, at_most=True))
    note = "; ".join(
        f"with {name} at most {max(each)} clients waited for the whole file" for name, each in waited.items()
    )
    return Work(f"{CLIENTS} clients, one cold 50 MB wheel, upstream at 25 MiB/s", rows, checks, (note,))


def _transfers(rows: tuple[Row, ...]) -> Check:
    ours = next(each for each in rows if each.server == PIPCACHE)
    most = round(max(ours.figures["transfers"].values))
    return Check("upstream transfers", str(most), "1", most == 1)


def _crowds(stage: Stage, upstream: Address) -> tuple[tuple[Row, ...], dict[str, list[int]]]:
    """The rows, and for each server how many clients of each round got nothing before the upstream had sent all."""
    numbers = count(1)
    waited: dict[str, list[int]] = {}

    def measure(server: Server, _: int) -> Figures:
        path = stage.corpus.cold_path("cold50m", next(numbers))
        mark = stage.upstream.mark()
        with cpu_of(server) as cpu:
            answers = crowd(server.address, [path] * CLIENTS)
            used = cpu()
        sent_at = stage.upstream.sent_at(mark, path)[path]
        waited.setdefault(server.name, []).append(sum(each.first_byte_at > max(sent_at) for each in answers))
        wall = max(each.done_at for each in answers) - min(each.asked_at for each in answers)
        received = sum(each.size for each in answers)
        return {
            "wall": wall,
            "speed": received / wall / 1e6,
            "cpu_gb": used / received * 1e9,
            "transfers": len(sent_at),
            "first_byte": max(each.first_byte_seconds for each in answers) * 1e3,
            "memory": server.process.rss_bytes() / 1e6,
        }

    with stage.both(_ROOM, upstream) as servers:
        for server in servers:
            fetch(server.address, server.page("cold50m"))
        return stage.interleaved(servers, measure, 1 if stage.is_quick else 3), waited


SCENARIOS = (
    Scenario("crowd-50m", crowd_50m),
    Scenario("crowd-50m-slow", crowd_50m_slow, is_slow=True),
)
