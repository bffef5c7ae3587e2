"""A hundred clients on one cold file whose mirror dies at 60 %: nobody notices, and memory stays flat."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.index import Index
from tests.system.dying import DyingMirror
from tests.system.harness import Server

CLIENTS = 100
SIZE = 20_000_000
CHUNK = 1 << 18
MOST_GROWTH_KIB = 50 * 1024

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc"),
]


def peak_kib(pid: int) -> int:
    """The most memory that the process has had resident."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


class Client(threading.Thread):
    """Reads one file over a socket of its own; ``digest`` is of the body, when it came whole."""

    def __init__(self, port: int, path: str, has_begun: threading.Semaphore) -> None:
        super().__init__(daemon=True)
        self.digest: str | None = None
        self._port = port
        self._path = path
        self._has_begun = has_begun

    def run(self) -> None:
        """Ask, and read to the end."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            connection.sendall(f"GET {self._path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(1 << 16)
            head, _, body = received.partition(b"\r\n\r\n")
            self._has_begun.release()
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            digest, size = hashlib.sha256(body), len(body)
            while chunk := connection.recv(1 << 16):
                digest.update(chunk)
                size += len(chunk)
            if size == length:
                self.digest = digest.hexdigest()


def test_a_hundred_clients_do_not_notice_that_the_mirror_dies(start_server: Callable[..., Server]) -> None:
    """All get the right bytes from one transfer; the mirrors together send the file and at most a chunk more."""
    index = Index()
    wheel = index.add_wheel("leaf", "1.0", size_bytes=SIZE)
    with DyingMirror(index) as first, DyingMirror(index) as second:
        first.die_in(wheel.path, len(wheel.data) * 6 // 10)
        server = start_server(
            {
                "upstream": {
                    "primary": {"name": "first", "url": first.url},
                    "fallback": {"name": "second", "url": second.url},
                }
            }
        )
        assert server.get("/simple/leaf/")[0] == 200
        before = peak_kib(server.pid)
        has_begun = threading.Semaphore(0)
        clients = [Client(server.port, wheel.path, has_begun) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        for _ in clients:
            assert has_begun.acquire(timeout=60), "a client waits for its first byte"
        first.go_on.set()
        for client in clients:
            client.join(120)
        assert {client.digest for client in clients} == {wheel.sha256}
        assert next(wanted for path, wanted in first.asked if path == wheel.path) is None
        assert first.sent[wheel.path] + second.sent[wheel.path] <= len(wheel.data) + CHUNK
        assert peak_kib(server.pid) - before <= MOST_GROWTH_KIB
