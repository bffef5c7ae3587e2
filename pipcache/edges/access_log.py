"""The access log: a line for each request that was answered, as operators' tools read it.

Lines are collected and written together, ``FLUSH_SECONDS`` after the first or when there are ``BATCH_LINES``; all of one
batch carry the time of its first.
The log is never in a client's way: it is written without waiting, a pipe whose reader has stopped or a disk that is full
costs lines, not answers, and what is held back is bounded. A line has neither query nor credentials: the target is cut at
its first ``?``.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pipcache.rules.errors import ConfigError

FLUSH_SECONDS = 0.2
BATCH_LINES = 1000

MAX_LEFT_BYTES = 1 << 22
"""Of lines that a pipe did not take; where there are more, the next batch is dropped, and counted."""

MAX_TARGET = 1024
MAX_AGENT = 200
MAX_WORD = 20
"""Of a method or a version; the usual ones are shorter."""

_PIPE_BYTES = 4096
"""POSIX: a pipe that is ready takes so many without waiting."""

_STDOUT = 1
_HARMLESS = re.compile(rb"[ !#-\[\]-~]*")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Clock(Protocol):
    """Timers."""

    def callLater(self, delay: float, function: Callable[..., Any], /, *args: Any) -> Any:
        """Call ``function`` after ``delay`` seconds."""
        ...


class AccessLog:
    """Lines on their way to standard output or a file.

    Args:
        form: ``combined`` or ``json``.
        path: the file; None: standard output.
        clock: timers.
        now: the wall clock, epoch seconds.
        trouble: told, once until it works again, why lines are lost.
    """

    def __init__(
        self, form: str, path: Path | None, clock: Clock, now: Callable[[], float], trouble: Callable[[str], None]
    ) -> None:
        self.lost = 0
        self._begin, self._said = (_begin_json, _said_json) if form == "json" else (_begin_combined, _said_combined)
        self._begins: dict[str, str] = {}
        self._path = path
        self._clock = clock
        self._now = now
        self._trouble = trouble
        self._descriptor: int | None = None
        self._lines: list[str] = []
        self._left = b""
        self._epoch = 0.0
        self._due: Any = None
        self._is_in_trouble = False

    def open(self) -> None:
        """Begin to write.

        Raises:
            ConfigError: the file cannot be opened.
        """
        try:
            self._descriptor = _STDOUT if self._path is None else _open(self._path)
        except OSError as error:
            raise ConfigError(
                f"log.access_file: {self._path} cannot be opened ({error.strerror}); allowed: a file that this user may "
                "write, or nothing for standard output"
            ) from None

    def note(
        self, client: str, method: str, target: bytes, version: str, status: int, sent: int, agent: bytes, cache: str
    ) -> None:
        """A request was answered.

        Args:
            client: its address.
            method: of the request.
            target: of the request, as it came.
            version: of the request, as in ``HTTP/1.1``.
            status: of the response.
            sent: bytes of the body.
            agent: the client's User-Agent; empty where it said none.
            cache: X-Cache-Status; empty where the cache had nothing to do with it.
        """
        self.repeat(client, self.said(method, target, version, status, sent, agent, cache))

    def said(self, method: str, target: bytes, version: str, status: int, sent: int, agent: bytes, cache: str) -> str:
        """What a line says beyond who asked and when; for ``repeat``, where the same is often asked and answered alike."""
        return self._said(method, target, version, status, sent, agent, cache)

    def repeat(self, client: str, said: str) -> None:
        """A request was answered, of which the line says this."""
        if self._descriptor is None:
            return
        lines = self._lines
        if not lines:
            self._epoch = self._now()
            self._begins.clear()
            if self._due is None:
                self._due = self._clock.callLater(FLUSH_SECONDS, self._flush_due)
        begin = self._begins.get(client)
        if begin is None:
            begin = self._begins[client] = self._begin(client, self._epoch)
        lines.append(begin + said)
        if len(lines) >= BATCH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what there is, as far as that can be done without waiting."""
        if self._descriptor is None:
            return
        if len(self._left) < MAX_LEFT_BYTES:
            self._left += "".join(self._lines).encode()
        else:
            self.lost += len(self._lines)
            self._lines.clear()
        try:
            self._left = _written(self._descriptor, self._left)
        except OSError as error:
            self._left = b""
            self.lost += len(self._lines)
            if not self._is_in_trouble:
                self._is_in_trouble = True
                self._trouble(f"the access log cannot be written ({error.strerror}); its lines are lost until it can")
            self._lines.clear()
            return
        self._is_in_trouble = False
        self._lines.clear()

    def reopen(self) -> None:
        """Open the file anew, for who has renamed it; the old one stays where that fails."""
        self.flush()
        if self._path is None or self._descriptor is None:
            return
        try:
            descriptor = _open(self._path)
        except OSError as error:
            self._trouble(f"the access log {self._path} cannot be opened anew ({error.strerror}); the old one stays")
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        """Write the last lines."""
        self.flush()
        if self._due is not None and self._due.active():
            self._due.cancel()
        self._due = None
        if self._path is not None and self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _flush_due(self) -> None:
        self._due = None
        self.flush()
        if self._left:
            self._due = self._clock.callLater(FLUSH_SECONDS, self._flush_due)


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


def _written(descriptor: int, data: bytes) -> bytes:
    """Write without waiting; returns what was not taken."""
    piece = len(data) if stat.S_ISREG(os.fstat(descriptor).st_mode) else _PIPE_BYTES
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    position = 0
    while position < len(data) and ready.poll(0):
        position += os.write(descriptor, data[position : position + piece])
    return data[position:]


def _path(target: bytes) -> bytes:
    """A target without its query, nor what may be credentials before a host."""
    path = target.partition(b"?")[0]
    return (path if path[:1] == b"/" else path.rpartition(b"@")[2])[:MAX_TARGET]


def _shown(text: bytes) -> str:
    """Text from a client, on one line and within its quotes."""
    if _HARMLESS.fullmatch(text):
        return text.decode("ascii")
    return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02x}" for c in text.decode("latin-1"))


def _begin_combined(client: str, epoch: float) -> str:
    at = datetime.fromtimestamp(epoch, UTC)
    return f"{client} - - [{at.day:02d}/{_MONTHS[at.month - 1]}/{at.year}:{at:%H:%M:%S} +0000] "


def _said_combined(method: str, target: bytes, version: str, status: int, sent: int, agent: bytes, cache: str) -> str:
    words = (method[:MAX_WORD].encode("latin-1"), _path(target), version[:MAX_WORD].encode("latin-1"))
    agent_shown = _shown(agent[:MAX_AGENT]) or "-"
    return f'"{_shown(b" ".join(words))}" {status} {sent} "-" "{agent_shown}" {cache or "-"}\n'


def _begin_json(client: str, epoch: float) -> str:
    moment = datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": moment, "client": client})[:-1]


def _said_json(method: str, target: bytes, version: str, status: int, sent: int, agent: bytes, cache: str) -> str:
    said = {
        "method": method[:MAX_WORD],
        "path": _shown(_path(target)),
        "version": version[:MAX_WORD],
        "status": status,
        "bytes": sent,
        "user_agent": _shown(agent[:MAX_AGENT]),
        "cache": cache or None,
    }
    return f", {json.dumps(said)[1:]}\n"
