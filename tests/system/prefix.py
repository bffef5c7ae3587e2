"""A reverse proxy that puts a path before everything, as nginx does with `location /prefix/ { proxy_pass http://x/; }`.

It tells the server behind it nothing of the prefix, and passes bodies on untouched.
"""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class _Handler(BaseHTTPRequestHandler):
    """Asks the server behind for the path without the prefix; 404 for a path that has none."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the head and the body are two writes
    server: _Server

    def do_GET(self) -> None:
        """Pass a request on, and its answer back."""
        if not self.path.startswith(f"{self.server.prefix}/"):
            self.server.refused.append(self.path)
            self.send_error(404)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port_behind, timeout=30)
        try:
            path = self.path.removeprefix(self.server.prefix)
            connection.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            self._pass_on(response, response.read())
        finally:
            connection.close()

    do_HEAD = do_GET

    def _pass_on(self, response: http.client.HTTPResponse, body: bytes) -> None:
        length = response.headers["Content-Length"] if self.command == "HEAD" else len(body)
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, prefix: str, port_behind: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.prefix = prefix
        self.port_behind = port_behind
        self.refused: list[str] = []


class PrefixProxy:
    """The proxy in a thread of this process, for the time of a `with`."""

    def __init__(self, prefix: str, port_behind: int) -> None:
        self._server = _Server(prefix, port_behind)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        """Listen already."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where the server behind appears, without a final slash."""
        return f"http://127.0.0.1:{self._server.server_port}{self._server.prefix}"

    @property
    def refused(self) -> list[str]:
        """The paths that were asked for outside the prefix."""
        return self._server.refused
