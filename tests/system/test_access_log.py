"""The access log of the real program: a file that is renamed, and the last lines at its end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.harness import Server

pytestmark = pytest.mark.system


def _wait(server: Server, is_so: Callable[[], bool]) -> None:
    for _ in range(200):
        if is_so():
            return
        server.get("/health")  # which takes a moment, and is a line of its own
    raise AssertionError(server.log)


def test_its_file_is_opened_anew_and_ended_whole(tmp_path: Path) -> None:
    """SIGUSR1 behind a rename begins a new file; what was answered before a stop is written."""
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    with Server(tmp_path / "server", {"log": {"access_file": str(path)}}) as server:
        server.get("/?token=secret")
        path.rename(old)
        server.process.send_signal(signal.SIGUSR1)
        _wait(server, path.exists)
        server.get("/favicon.ico")
        server.terminate()
        assert '"GET / HTTP/1.1" 200 ' in old.read_text()
        assert '"GET /favicon.ico HTTP/1.1" 204 0 ' in path.read_text()
        assert "secret" not in old.read_text() + path.read_text() + server.log


def test_it_goes_to_standard_output_unless_it_is_off(tmp_path: Path) -> None:
    """As operators of containers expect."""
    for form, count in (("combined", 1), ("off", 0)):
        with Server(tmp_path / form, {"log": {"access": form}}) as server:
            server.get("/favicon.ico")
            server.terminate()
            assert server.log.count('"GET /favicon.ico HTTP/1.1" 204 0 ') == count
