"""A mirror in the test's own process that honours Range, and whose connection breaks where a test wants it to."""

from __future__ import annotations

import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from tests.fakes.index import Index


class DyingMirror:
    """Serves an index on a port of 127.0.0.1: ``with DyingMirror(index) as mirror``.

    ``asked`` are the paths and Range fields of its requests in order, ``sent`` the bytes of bodies by path.
    """

    def __init__(self, index: Index) -> None:
        self.resources = {path: (kind, data) for path, kind, data in index.resources()}
        self.asked: list[tuple[str, str | None]] = []
        self.sent: dict[str, int] = {}
        self.deaths: dict[str, int] = {}
        self.is_dead = False
        self.go_on = threading.Event()
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.mirror = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every response, and listen no more."""
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def die_in(self, path: str, at: int) -> None:
        """Send so many bytes of a path, wait for ``go_on``, break the connection; from then on refuse that path."""
        self.deaths[path] = at


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that broke its connection."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        mirror: DyingMirror = self.server.mirror  # type: ignore[attr-defined]
        wanted = self.headers.get("Range")
        with mirror.lock:
            mirror.asked.append((self.path, wanted))
        if self.path not in mirror.resources or (mirror.is_dead and self.path in mirror.deaths):
            self.send_error(503 if mirror.is_dead else 404)
            return
        kind, data = mirror.resources[self.path]
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(match[1]) if match else 0
        self.send_response(206 if match else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) - start))
        if match:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        stop = mirror.deaths.get(self.path, len(data))
        self._send(mirror, data[start:stop])
        if stop < len(data):
            mirror.go_on.wait(30)
            mirror.is_dead = True
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _send(self, mirror: DyingMirror, data: bytes) -> None:
        for at in range(0, len(data), 1 << 16):
            chunk = data[at : at + (1 << 16)]
            self.wfile.write(chunk)
            with mirror.lock:
                mirror.sent[self.path] = mirror.sent.get(self.path, 0) + len(chunk)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the base class
        """Nothing on the terminal."""
