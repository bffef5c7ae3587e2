"""kill -9 in the middle of a body: what had come is gone on with after the restart."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from tests.fakes.index import Index
from tests.system.dying import DyingMirror
from tests.system.harness import Server

pytestmark = pytest.mark.system

SIZE = 3_000_000
STOP = 2_000_000


def test_what_a_killed_process_had_received_is_not_fetched_again(start_server: Callable[..., Server]) -> None:
    """The page on disk names the digest, so the part it left is asked for from where it ends, and the bytes are right."""
    index = Index()
    wheel = index.add_wheel("leaf", "1.0", size_bytes=SIZE)
    with DyingMirror(index) as mirror:
        mirror.die_in(wheel.path, STOP)
        server = start_server({"upstream": {"primary": {"name": "only", "url": mirror.url}}})
        assert server.get("/simple/leaf/")[0] == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
            client.sendall(f"GET {wheel.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = 0
            while received < STOP:
                received += len(client.recv(1 << 16))
            server.kill()
        mirror.deaths.clear()
        mirror.go_on.set()
        server.start()
        status, fields, body = server.get(wheel.path)
        assert (status, fields["x-cache-status"], body) == (200, "MISS", wheel.data)
        ranges = [wanted for path, wanted in mirror.asked if path == wheel.path]
        assert ranges[0] is None
        assert ranges[-1] is not None
        assert STOP // 2 < int(ranges[-1].removeprefix("bytes=").removesuffix("-")) <= STOP
        assert server.get(wheel.path)[1]["x-cache-status"] == "HIT"
