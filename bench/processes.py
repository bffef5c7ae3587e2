"""One process that is started on a core of its own, watched, and ended by its id."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class ServerError(Exception):
    """A server did not start, ended, or gave a wrong answer."""


@frozen
class Stat:
    """What ``/proc/PID/stat`` says, in seconds and bytes; ``reaped_seconds`` is of children that have ended."""

    parent: int
    cpu_seconds: float
    reaped_seconds: float
    rss_bytes: int

    @classmethod
    def parse(cls, text: str) -> Stat:
        """Read the one line of that file; the name of the program in it may hold spaces and brackets."""
        fields = text.rpartition(")")[2].split()
        user, system, reaped_user, reaped_system = (int(each) for each in fields[11:15])
        return cls(
            parent=int(fields[1]),
            cpu_seconds=(user + system) / _TICKS,
            reaped_seconds=(reaped_user + reaped_system) / _TICKS,
            rss_bytes=int(fields[21]) * _PAGE,
        )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A process and its children."""

    def __init__(
        self, command: Sequence[str], folder: Path, core: int, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it; what it says goes to ``output`` in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / "output"
        self.started_at = time.monotonic()
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for_port(self, port: int, seconds: float = 60) -> None:
        """Return when something listens there.

        Raises:
            ServerError: nothing did in time, or the process ended; with the last of what it said.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 2).close()
            except OSError:
                time.sleep(0.005)
            else:
                return
        raise ServerError(f"nothing listens on port {port}: {self._output.read_text(errors='replace')[-2000:]}")

    def cpu_seconds(self) -> float:
        """Processor time that it and its children have used so far."""
        stats = self._tree()
        return sum(each.cpu_seconds + each.reaped_seconds for each in stats)

    def rss_bytes(self) -> int:
        """Memory that it and its children hold now; what they share is counted for each."""
        return sum(each.rss_bytes for each in self._tree())

    def stop(self) -> None:
        """Ask it to end; kill it when it does not within 20 seconds."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                children = [pid for pid in self._pids() if pid != self._process.pid]
                self._process.kill()
                self._process.wait(20)
                for pid in children:
                    _kill(pid)

    def _pids(self) -> dict[int, Stat]:
        """The stat of it and of all below it, by id."""
        stats = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    stats[int(name)] = Stat.parse(Path(f"/proc/{name}/stat").read_text())
                except OSError:
                    continue  # it has ended
        found = {self._process.pid}
        for _ in range(8):
            found |= {pid for pid, stat in stats.items() if stat.parent in found}
        return {pid: stats[pid] for pid in found if pid in stats}

    def _tree(self) -> list[Stat]:
        stats = list(self._pids().values())
        if not stats or self._process.poll() is not None:
            raise ServerError(f"a server has ended: {self._output.read_text(errors='replace')[-2000:]}")
        return stats


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
