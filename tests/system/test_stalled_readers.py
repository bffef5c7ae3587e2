"""Clients that ask for a large body and do not read it: what they cost, and that they are dropped."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.system.crowd import connected, eventually, is_closed_within, memory_kib, open_files, request

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc"),
]

READERS = 20
SIZE = 200_000_000
PATH = "/packages/aa/bb/cc/large-1.0.tar.gz"
CHUNK = bytes(1 << 20)
MOST_GROWTH_KIB = 64 * 1024
STALL_SECONDS = 4


class LargeFile(BaseHTTPRequestHandler):
    """Has one large file and nothing else."""

    protocol_version = "HTTP/1.1"
    has_sent = threading.Event()

    def do_GET(self) -> None:
        """Send it, or say that there is no such thing."""
        is_there = self.path == PATH
        self.send_response(200 if is_there else 404)
        self.send_header("Content-Length", str(SIZE if is_there else 0))
        self.end_headers()
        if is_there:
            for start in range(0, SIZE, len(CHUNK)):
                self.wfile.write(CHUNK[: SIZE - start])
            self.has_sent.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def upstream_url() -> Iterator[str]:
    """An index that has one large file."""
    LargeFile.has_sent.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), LargeFile) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_stalled_readers_cost_little_and_are_dropped(start_server, upstream_url):
    """On a miss and on a hit: 20 of them hold little memory, all are cut, and their descriptors come back."""
    server = start_server(
        {
            "upstream": {"primary": {"name": "large", "url": upstream_url}},
            "server": {"stall_timeout": STALL_SECONDS},
        }
    )
    descriptors, before = open_files(server.pid), memory_kib(server.pid, "VmHWM")
    for _ in ("miss", "hit"):
        with connected(server.port, READERS, receive_buffer_bytes=1 << 16) as clients:
            for client in clients:
                client.sendall(request(PATH))
            for client in clients:
                assert client.recv(9) == b"HTTP/1.1 "
            assert LargeFile.has_sent.wait(60)
            assert eventually(lambda: server.health()["connections"] <= 1, STALL_SECONDS * 3 + 20)
            assert memory_kib(server.pid, "VmHWM") - before <= MOST_GROWTH_KIB
            assert all(is_closed_within(client, 10) for client in clients)
        assert eventually(lambda: open_files(server.pid) <= descriptors + 4, 20)
    assert server.get(PATH, {"Range": f"bytes={SIZE - 5}-"})[2] == bytes(5)


def test_a_slow_reader_is_not_dropped(start_server, upstream_url):
    """One that reads a little now and then, and less than the system holds for it, gets on for as long as it likes."""
    server = start_server(
        {"upstream": {"primary": {"name": "large", "url": upstream_url}}, "server": {"stall_timeout": 2}}
    )
    pause = threading.Event()
    with connected(server.port, 1, receive_buffer_bytes=1 << 14) as (client,):
        client.sendall(request(PATH))
        for _ in range(30):
            assert client.recv(1 << 15)
            pause.wait(0.25)
        assert server.health()["connections"] == 2
