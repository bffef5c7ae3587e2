"""The access log: a line for each request that was answered, as operators' tools read it.

Lines are collected and written together, ``FLUSH_SECONDS`` after the first; all of one batch carry the time of its first.
The log is never in a client's way: it is written without waiting, a pipe whose reader has stopped or a disk that is full
costs lines, not answers, and what is held back is bounded. A line has neither query nor credentials: the target is cut at
its first ``?``.
"""

from __future__ import annotations

import json
import os
import select
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from pipcache.rules.errors import ConfigError

FLUSH_SECONDS = 0.2
MAX_HELD = 20_000
"""Lines that wait to be written; what comes beyond that is dropped, and counted."""

MAX_TARGET = 1024
MAX_AGENT = 200
MAX_WORD = 20
"""Of a method or a version; the usual ones are shorter."""

_PIPE_BYTES = 4096
"""POSIX: a pipe that is ready takes so many without waiting."""

_STDOUT = 1


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
        self._line = _as_json if form == "json" else _as_combined
        self._stamp = _json_time if form == "json" else _combined_time
        self._path = path
        self._clock = clock
        self._now = now
        self._trouble = trouble
        self._descriptor: int | None = None
        self._lines: list[str] = []
        self._left = b""
        self._moment = ""
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
        lines = self._lines
        if self._descriptor is None:
            return
        if not lines:
            self._moment = self._stamp(self._now())
            if self._due is None:
                self._due = self._clock.callLater(FLUSH_SECONDS, self._flush_due)
        elif len(lines) >= MAX_HELD:
            self.lost += 1
            return
        lines.append(self._line(client, self._moment, method, target, version, status, sent, agent, cache))

    def flush(self) -> None:
        """Write what there is, as far as that can be done without waiting."""
        if self._descriptor is None:
            return
        data = self._left + "".join(self._lines).encode()
        try:
            self._left = _written(self._descriptor, data)
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
    """Write without waiting; returns what was not taken, bounded."""
    piece = len(data) if stat.S_ISREG(os.fstat(descriptor).st_mode) else _PIPE_BYTES
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    position = 0
    while position < len(data) and ready.poll(0):
        position += os.write(descriptor, data[position : position + piece])
    rest = data[position:]
    return rest if len(rest) <= MAX_HELD * _PIPE_BYTES // 16 else b""


def _path(target: bytes) -> bytes:
    """A target without its query, nor what may be credentials before a host."""
    path = target.partition(b"?")[0]
    return (path if path[:1] == b"/" else path.rpartition(b"@")[2])[:MAX_TARGET]


def _shown(text: bytes) -> str:
    """Text from a client, on one line and within its quotes."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else f"\\x{ord(c):02x}" for c in text.decode("latin-1"))


@lru_cache(maxsize=4096)
def _said(method: str, path: bytes, version: str, status: int, sent: int, agent: bytes, cache: str) -> str:
    """What does not change from one line to the next, where the same is asked again and answered alike."""
    asked = _shown(b" ".join((method.encode("latin-1"), path, version.encode("latin-1"))))
    return f'"{asked}" {status} {sent} "-" "{_shown(agent) or "-"}" {cache or "-"}\n'


def _as_combined(
    client: str, moment: str, method: str, target: bytes, version: str, status: int, sent: int, agent: bytes, cache: str
) -> str:
    said = _said(method[:MAX_WORD], _path(target), version[:MAX_WORD], status, sent, agent[:MAX_AGENT], cache)
    return f"{client} - - [{moment}] {said}"


def _as_json(
    client: str, moment: str, method: str, target: bytes, version: str, status: int, sent: int, agent: bytes, cache: str
) -> str:
    line = {
        "time": moment,
        "client": client,
        "method": method[:MAX_WORD],
        "path": _shown(_path(target)),
        "version": version[:MAX_WORD],
        "status": status,
        "bytes": sent,
        "user_agent": _shown(agent[:MAX_AGENT]),
        "cache": cache or None,
    }
    return json.dumps(line) + "\n"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _combined_time(epoch: float) -> str:
    at = datetime.fromtimestamp(epoch, UTC)
    return f"{at.day:02d}/{_MONTHS[at.month - 1]}/{at.year}:{at:%H:%M:%S} +0000"


def _json_time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
