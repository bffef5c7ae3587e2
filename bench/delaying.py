"""An upstream that is far away: it serves the corpus, each answer after a delay.

``python -m bench.delaying --root FOLDER --port PORT --delay 0.1``
"""

from __future__ import annotations

import argparse
import shutil
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.corpus import JSON_ACCEPT


def file_of(root: Path, path: str, accept: str) -> tuple[Path, str] | None:
    """The file that a path stands for, and its content type; None where there is none."""
    words = path.strip("/").split("/")
    if ".." in words or not words[0]:
        return None
    if words[0] == "simple" and len(words) == 2:
        form, kind = ("json", JSON_ACCEPT) if JSON_ACCEPT in accept else ("html", "text/html")
        found = root / "simple" / words[1] / f"index.{form}"
    else:
        kind = "application/octet-stream"
        found = root.joinpath(*words)
        if not found.is_file():
            found = found.with_name("body")
    return (found, kind) if found.is_file() else None


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, over connections that are kept."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, root: Path, delay: float, *rest: Any) -> None:
        self._root = root
        self._delay = delay
        super().__init__(*rest)

    def do_HEAD(self) -> None:
        """The head alone."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Head and body."""
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
        """Nothing."""

    def _answer(self, *, with_body: bool) -> None:
        time.sleep(self._delay)
        found = file_of(self._root, self.path, self.headers.get("Accept", ""))
        if found is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, kind = found
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        if with_body:
            with path.open("rb") as body:
                shutil.copyfileobj(body, self.wfile, 1 << 18)


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, required=True)
    options = parser.parse_args()
    Server(("127.0.0.1", options.port), partial(Handler, options.root, options.delay)).serve_forever()


if __name__ == "__main__":
    main()
