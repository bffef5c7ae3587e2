"""Bodies that swell or never end, sent by an upstream to the real program: refused, in bounded memory.

A few compressed octets stand for hundreds of megabytes. What is measured is the most memory that the process ever had
resident (`VmHWM`), compared with before.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from tests.system.harness import Server

MEGABYTE = 1 << 20
BOMB_BYTES = 300_000_000
PAGE_TYPE = "text/html; charset=utf-8"
PAGE = b'<!DOCTYPE html><a href="/packages/leaf-1.0.tar.gz">leaf-1.0.tar.gz</a>'

MOST_MEGABYTES = 120
"""How much the resident memory of the process may grow over a bomb."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")


def packed(piece: bytes, size: int, wbits: int = 31) -> bytes:
    """So many bytes of a repeated piece, encoded: 31 is gzip, 15 is deflate."""
    packer = zlib.compressobj(wbits=wbits)
    block = piece * (MEGABYTE // len(piece))
    return b"".join([*(packer.compress(block) for _ in range(-(-size // len(block)))), packer.flush()])


@frozen
class Sent:
    """What a path answers: an encoded body, or, where it is endless, the body again and again in chunks."""

    body: bytes
    coding: str | None = None
    is_endless: bool = False


class _Handler(BaseHTTPRequestHandler):
    """Answers one GET after the other on its connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send what the test put there; who breaks the connection has had enough."""
        sent: Sent | None = self.server.sent.get(self.path)  # type: ignore[attr-defined]
        with suppress(OSError):
            if sent is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", PAGE_TYPE)
            if sent.coding is not None:
                self.send_header("Content-Encoding", sent.coding)
            if sent.is_endless:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                while True:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(sent.body), sent.body))
            self.send_header("Content-Length", str(len(sent.body)))
            self.end_headers()
            self.wfile.write(sent.body)
            return
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def upstream() -> Iterator[Any]:
    """A server on 127.0.0.1; what it answers is put into its `sent`, by path."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.sent = {"/simple/leaf/": Sent(PAGE)}
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def started(start_server: Callable[..., Server], upstream: Any) -> Server:
    """The program in front of the upstream, warm: it has served a page."""
    url = f"http://127.0.0.1:{upstream.server_port}"
    server = start_server({"upstream": {"primary": {"name": "only", "url": url}}})
    assert server.get("/simple/leaf/")[0] == 200
    return server


def most_resident_bytes(server: Server) -> int:
    """The most that was ever resident of the process."""
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


BOMBS: dict[str, Callable[[], Sent]] = {
    "gzip": lambda: Sent(packed(b"\0", BOMB_BYTES), "gzip"),
    "gzip of links": lambda: Sent(packed(b'<a href="a-1.zip">a-1.zip</a>\n', BOMB_BYTES), "gzip"),
    "deflate": lambda: Sent(packed(b"\0", BOMB_BYTES, 15), "deflate"),
    "gzip of gzip": lambda: Sent(gzip.compress(packed(b"\0", BOMB_BYTES)), "gzip, gzip"),
    "endless": lambda: Sent(b" " * MEGABYTE, is_endless=True),
    "endless gzip": lambda: Sent(packed(b"\0", MEGABYTE), "gzip", is_endless=True),
    "announced": lambda: Sent(b" " * BOMB_BYTES),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_page_that_swells_beyond_the_limit_is_refused(start_server, upstream, kind):
    """502, and nothing of it is left; the next page is served as ever."""
    server = started(start_server, upstream)
    upstream.sent["/simple/bomb/"] = BOMBS[kind]()
    upstream.sent["/simple/root/"] = Sent(PAGE)
    before = most_resident_bytes(server)
    status, _, body = server.get("/simple/bomb/")
    grown = most_resident_bytes(server) - before
    assert status == 502, body
    assert grown < MOST_MEGABYTES * MEGABYTE
    assert server.get("/simple/root/")[0] == 200
    server.terminate()
    assert sum(path.stat().st_size for path in server.cache.rglob("*") if path.is_file()) < MEGABYTE
    assert "Traceback" not in server.log


def test_a_file_that_swells_is_passed_on_in_bounded_memory(start_server, upstream):
    """A file has no such limit: it is decoded where it was encoded, and goes to the disk and the client as it comes."""
    digest = hashlib.sha256()
    for _ in range(300):
        digest.update(bytes(MEGABYTE))
    link = f"/packages/big-1.0.tar.gz#sha256={digest.hexdigest()}"
    upstream.sent["/simple/big/"] = Sent(f'<!DOCTYPE html><a href="{link}">big-1.0.tar.gz</a>'.encode())
    upstream.sent["/packages/big-1.0.tar.gz"] = Sent(packed(b"\0", 300 * MEGABYTE), "gzip")
    server = started(start_server, upstream)
    before = most_resident_bytes(server)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/packages/big-1.0.tar.gz")
    response = connection.getresponse()
    got = hashlib.sha256()
    size = 0
    while chunk := response.read(MEGABYTE):
        got.update(chunk)
        size += len(chunk)
    connection.close()
    grown = most_resident_bytes(server) - before
    assert (response.status, size, got.hexdigest()) == (200, 300 * MEGABYTE, digest.hexdigest())
    assert grown < MOST_MEGABYTES * MEGABYTE
