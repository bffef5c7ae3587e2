"""Many small requests: wrk, one thread, on the client's core."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from bench.peers import Peers
from bench.processes import ServerError

_SCRIPT: Final = Path(__file__).with_name("load.lua")


@frozen
class Load:
    """What came of it. ``received_bytes`` has the heads in it."""

    requests: int
    seconds: float
    received_bytes: int
    p50_ms: float
    p99_ms: float
    slowest_ms: float

    @classmethod
    def parse(cls, output: str) -> Load:
        """Read what ``load.lua`` wrote.

        Raises:
            ServerError: there is no such line, nothing was answered, or there were errors.
        """
        lines = [line.split()[1:] for line in output.splitlines() if line.startswith("bench ")]
        if not lines:
            raise ServerError(f"wrk said nothing: {output[-500:]}")
        requests, duration, received, p50, p99, slowest, errors = (int(word) for word in lines[-1])
        if errors or not requests:
            raise ServerError(f"wrk had {requests} answers and {errors} errors")
        return cls(requests, duration / 1e6, received, p50 / 1e3, p99 / 1e3, slowest / 1e3)


def run_wrk(
    peers: Peers,
    url: str,
    connections: int,
    seconds: float,
    fields: Mapping[str, str] | None = None,
    paths: Path | None = None,
) -> Load:
    """Ask as often as the server answers, on so many connections.

    Args:
        peers: where wrk is.
        url: what to ask for.
        connections: how many.
        seconds: for how long; wrk knows whole seconds only, and at least one.
        fields: of the request.
        paths: a file with one path a line, to be asked for in turn instead.
    """
    command = [peers.wrk, "--threads", "1", "--connections", str(connections), "--latency"]
    command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", "30s", "--script", str(_SCRIPT)]
    for name, value in (fields or {}).items():
        command += ["--header", f"{name}: {value}"]
    command += [url] if paths is None else [url, "--", str(paths)]
    done = subprocess.run(
        command, env=peers.environment, capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    return Load.parse(done.stdout + done.stderr)
