"""An index in the test's own process whose responses can be made to stop in mid-body until the test says go.

The process of `serve_index` answers at once or not at all; here a transfer is in progress for as long as a test
needs it. Threads and the standard library only, as system tests do not use the reactor.
"""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from attrs import frozen

from tests.fakes.index import Index


@frozen
class Stall:
    """Where a response stops, in bytes of its body, and whether it is sent without saying how long it is."""

    after: int
    chunked: bool = False


class StallingIndex:
    """Serves an index on a port of 127.0.0.1: `with StallingIndex(index) as it`. Leaving ends every response."""

    def __init__(self, index: Index) -> None:
        self.resources = {path: (kind, data) for path, kind, data in index.resources()}
        self.requests: list[str] = []
        self._stalls: dict[str, Stall] = {}
        self._go = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.index = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where it listens, without a final slash."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let everything go on, and end."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def stall(self, path: str, after: int, *, chunked: bool = False) -> None:
        """Stop the responses to a path after so many bytes of the body, until `release`."""
        self._stalls[path] = Stall(after, chunked)

    def release(self) -> None:
        """Let what has stopped go on, and stop nothing any more."""
        self._stalls.clear()
        self._go.set()


class _Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that broke its connection; most do, in these tests."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    """Answers one GET after the other on its connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send the resource, or as much of it as may go now."""
        index: StallingIndex = self.server.index  # type: ignore[attr-defined]
        index.requests.append(self.path)
        kind, data = index.resources.get(self.path, ("text/plain", b""))
        stall = index._stalls.get(self.path)
        self.send_response(200 if self.path in index.resources else 404)
        self.send_header("Content-Type", kind)
        if stall is not None and stall.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if stall is None:
            self._send(data)
            return
        for part in (data[: stall.after], data[stall.after :]):
            self._send(b"%x\r\n%b\r\n" % (len(part), part) if stall.chunked else part)
            index._go.wait(120)
        if stall.chunked:
            self._send(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        """Write; who has left does not get it, and is not heard any more."""
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: requests are noted already."""
