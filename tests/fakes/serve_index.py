"""Serve an index that `Index.write_to` wrote: `python -m tests.fakes.serve_index FOLDER`.

For system tests, where the test's own process blocks while the proxy and an installer work. The first line on
standard output is the port. Each request is one line `METHOD TARGET`, written before it is answered, on
standard output or into the file of `--log`. Only the standard library, so that it starts at once.
"""

from __future__ import annotations

import argparse
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote

from tests.fakes.ranges import byte_range

_PAGE_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/vnd.pypi.simple.v1+json"}


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with the files below the server's folder, and ranges of them; Accept is not looked at."""

    disable_nagle_algorithm = True  # the head and the body are two writes
    protocol_version = "HTTP/1.1"
    server: IndexServer

    def do_GET(self) -> None:
        """Answer with a file, a page, or 404."""
        self.server.note(f"{self.command} {self.path}")
        path = unquote(self.path.partition("?")[0])
        target = self.server.folder / path.lstrip("/")
        if ".." in path.split("/"):
            self._answer(400, b"", "text/plain")
        elif path.endswith("/") and (page := next(target.glob("index.*"), None)) is not None:
            self._answer(200, page.read_bytes(), _PAGE_TYPES[page.suffix])
        elif target.is_file():
            self._send_file(target.read_bytes())
        else:
            self._answer(404, b"no such path\n", "text/plain")

    do_HEAD = do_GET

    def _send_file(self, data: bytes) -> None:
        span = byte_range(self.headers["Range"] if self.headers["If-Range"] is None else None, len(data))
        if span is None:
            self._answer(200, data, "application/octet-stream")
        elif span[0] == span[1]:
            self._answer(416, b"", "application/octet-stream", f"bytes */{len(data)}")
        else:
            where = f"bytes {span[0]}-{span[1] - 1}/{len(data)}"
            self._answer(206, data[slice(*span)], "application/octet-stream", where)

    def _answer(self, status: int, body: bytes, content_type: str, content_range: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing: requests are noted already."""


class IndexServer(ThreadingHTTPServer):
    """The server of one folder; `note` writes a line for each request."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int, log: TextIO) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.folder = folder
        self._log = log

    def note(self, line: str) -> None:
        """Write one whole line at once."""
        self._log.write(f"{line}\n")
        self._log.flush()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="Serve a package index from a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0, help="0: one that is free")
    parser.add_argument("--log", type=Path, help="the file that request lines are appended to")
    options = parser.parse_args()
    log = sys.stdout if options.log is None else options.log.open("a")
    server = IndexServer(options.folder, options.port, log)
    print(server.server_port, flush=True)  # noqa: T201 - the port is the first line of output
    server.serve_forever()


if __name__ == "__main__":
    main()
