"""The access log: what a line says, when it is written, and what happens where it cannot be."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from pipcache.edges import access_log
from pipcache.edges.access_log import BATCH_LINES, FLUSH_SECONDS, AccessLog
from pipcache.rules.errors import ConfigError

AT = 1_751_364_000.25
PIP = b"pip/24.0"


class Told:
    """A log over a file, and what was said of its troubles."""

    def __init__(self, path: Path, form: str = "combined") -> None:
        self.clock = Clock()
        self.troubles: list[str] = []
        self.path = path
        self.log = AccessLog(form, path, self.clock, lambda: AT, self.troubles.append)
        self.log.open()

    def note(self, target: bytes = b"/simple/demo/", agent: bytes = PIP, cache: str = "HIT") -> None:
        """A request."""
        self.log.note("192.0.2.1", "GET", target, "HTTP/1.1", 200, 1234, agent, cache)

    @property
    def lines(self) -> list[str]:
        """What is in the file."""
        return self.path.read_text().splitlines()


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """A log in the combined form."""
    return Told(tmp_path / "access.log")


def test_a_line_is_as_web_servers_write_it(told: Told) -> None:
    """And what the cache did stands behind."""
    told.note()
    told.note(b"/favicon.ico", b"", "")
    told.log.close()
    assert told.lines == [
        '192.0.2.1 - - [01/Jul/2025:10:00:00 +0000] "GET /simple/demo/ HTTP/1.1" 200 1234 "-" "pip/24.0" HIT',
        '192.0.2.1 - - [01/Jul/2025:10:00:00 +0000] "GET /favicon.ico HTTP/1.1" 200 1234 "-" "-" -',
    ]


def test_a_line_is_json(tmp_path: Path) -> None:
    """The same things under names."""
    told = Told(tmp_path / "access.log", "json")
    told.note()
    told.log.close()
    assert json.loads(told.lines[0]) == {
        "time": "2025-07-01T10:00:00.250Z",
        "client": "192.0.2.1",
        "method": "GET",
        "path": "/simple/demo/",
        "version": "HTTP/1.1",
        "status": 200,
        "bytes": 1234,
        "user_agent": "pip/24.0",
        "cache": "HIT",
    }


@pytest.mark.parametrize("form", ["combined", "json"])
def test_a_line_is_one_line_without_secrets(tmp_path: Path, form: str) -> None:
    """No query, no control characters, no quotes that would end its field, and nothing endless."""
    told = Told(tmp_path / "access.log", form)
    told.note(b"/simple/demo/?token=secret", b'evil" \r\n\x1b[2J\xff\\' + b"x" * 5000)
    told.log.close()
    (line,) = told.lines
    assert "secret" not in line
    assert "?" not in line
    assert line.isprintable()
    assert 'evil"' not in line
    assert len(line) < 1000


@pytest.mark.parametrize("form", ["combined", "json"])
def test_nothing_of_a_request_line_can_end_its_field(tmp_path: Path, form: str) -> None:
    """A method and a version are a client's words too; and the target of a proxy may carry a password."""
    told = Told(tmp_path / "access.log", form)
    told.log.note("-", 'G"\x1b', b"http://user:hidden@h/p", 'X"\x07' + "x" * 5000, 501, 0, b"", "")
    told.log.close()
    (line,) = told.lines
    assert line.isprintable()
    assert ('G"' in line, 'X"' in line, "hidden" in line) == (False, False, False)
    assert len(line) < 300


def test_lines_are_written_together(told: Told) -> None:
    """A while after the first; an idle log has no timer."""
    assert not told.clock.getDelayedCalls()
    for _ in range(3):
        told.note()
    assert told.lines == []
    told.clock.advance(FLUSH_SECONDS)
    assert len(told.lines) == 3
    assert not told.clock.getDelayedCalls()


def test_many_lines_are_not_waited_with(told: Told) -> None:
    """They are written as soon as there is a batch of them, and what comes behind is a batch of its own."""
    for _ in range(BATCH_LINES + 1):
        told.note()
    assert len(told.lines) == BATCH_LINES
    told.clock.advance(FLUSH_SECONDS)
    assert len(told.lines) == BATCH_LINES + 1


def test_the_last_lines_are_written_at_the_end(told: Told) -> None:
    """And nothing is left behind."""
    told.note()
    told.log.close()
    assert len(told.lines) == 1
    assert not told.clock.getDelayedCalls()
    told.log.close()


def test_a_file_that_was_renamed_is_left(told: Told, tmp_path: Path) -> None:
    """What came before goes to the old one, what comes after to a new one of the same name."""
    told.note(b"/one")
    old = tmp_path / "access.log.1"
    told.path.rename(old)
    told.log.reopen()
    told.note(b"/two")
    told.log.close()
    assert "/one" in old.read_text()
    assert ["/two" in line for line in told.lines] == [True]


def test_a_file_that_cannot_be_opened_anew_stays_the_old_one(told: Told, tmp_path: Path) -> None:
    """The operator is told, and no line is lost."""
    old = tmp_path / "access.log.1"
    told.path.rename(old)
    told.path.mkdir()
    told.log.reopen()
    told.note()
    told.log.close()
    assert len(told.troubles) == 1
    assert old.read_text().count("\n") == 1


def test_a_file_that_cannot_be_opened_is_said_at_the_start(tmp_path: Path) -> None:
    """In one line that names the setting."""
    with pytest.raises(ConfigError, match=r"^log\.access_file: .* cannot be opened"):
        Told(tmp_path / "missing" / "access.log")


def test_a_full_disk_costs_lines_and_nothing_else(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said once until lines can be written again."""
    write = os.write
    monkeypatch.setattr(access_log.os, "write", _full)
    for _ in range(3):
        told.note()
        told.log.flush()
    assert told.log.lost == 3
    assert len(told.troubles) == 1
    monkeypatch.setattr(access_log.os, "write", write)
    told.note()
    told.log.close()
    assert len(told.lines) == 1


def _full(*_: Any) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_pipe_that_nobody_reads_blocks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does not take is held within bounds, and written in whole lines when somebody reads again."""
    monkeypatch.setattr(access_log, "MAX_LEFT_BYTES", 100_000)
    told, reader = _piped(tmp_path)
    for _ in range(10 * BATCH_LINES):
        told.note()
    assert 0 < told.log.lost < 10 * BATCH_LINES
    received = b""
    while data := _read(reader):
        received += data
        told.log.flush()
    told.log.close()
    os.close(reader)
    assert set(received.decode().splitlines()) == {received.decode().splitlines()[0]}
    assert received.count(b"\n") == 10 * BATCH_LINES - told.log.lost


def _piped(tmp_path: Path) -> tuple[Told, int]:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return Told(path), reader


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 16)
    except BlockingIOError:
        return b""


def test_lines_without_a_log_are_no_lines(tmp_path: Path) -> None:
    """Nothing is written before it was opened, nor after it was closed."""
    clock: Clock = Clock()
    troubles: Callable[[str], None] = [].append
    log = AccessLog("combined", tmp_path / "access.log", clock, lambda: AT, troubles)
    log.note("192.0.2.1", "GET", b"/", "HTTP/1.1", 200, 0, PIP, "")
    log.flush()
    assert not clock.getDelayedCalls()
    assert not (tmp_path / "access.log").exists()
