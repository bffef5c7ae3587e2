"""What a user sees: pip and uv install a set of 60 packages into a fresh environment, directly and through each cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.client import Address
from bench.corpus import INSTALLED, set_project
from bench.measure import Figures
from bench.peers import TOP
from bench.processes import Process, ServerError, free_port
from bench.results import NGINX, PIPCACHE, Row, Work, ratio_check, row
from bench.scenario import Scenario
from bench.servers import clean_environment
from bench.stage import Stage

DIRECT = "direct"
_DELAY_SECONDS = 0.1
_SCRIPTS = Path(sys.executable).parent
Install = Callable[[Path, str], Sequence[str]]


def pip_command(python: Path, index: str) -> Sequence[str]:
    """How pip is asked to install the set into another environment."""
    where = ["--python", str(python), "install", "--no-cache-dir", "--quiet", "--index-url", index]
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", *where, set_project(0)]


def uv_command(python: Path, index: str) -> Sequence[str]:
    """How uv is."""
    where = ["--python", str(python), "--no-cache", "--quiet", "--default-index", index]
    return [str(_SCRIPTS / "uv"), "pip", "install", *where, set_project(0)]


def from_hot_cache(name: str, command: Install, stage: Stage) -> Work:
    """Everything is kept already; the upstream is on the same machine."""
    rounds: dict[str, list[Figures]] = {DIRECT: [], NGINX: [], PIPCACHE: []}
    with stage.both() as servers:
        addresses = {DIRECT: stage.upstream.plain, **{server.name: server.address for server in servers}}
        for address in addresses.values():
            _install(stage, command, address)
        for number in range(_rounds(stage, command)):
            for each in _turned(list(addresses), number):
                rounds[each].append({"wall": _install(stage, command, addresses[each])})
    rows = _rows(rounds)
    return Work(
        f"{name} of {INSTALLED} packages from a hot cache", rows, (ratio_check(rows, "wall", 1.02, at_most=True),)
    )


def from_cold_cache(name: str, command: Install, stage: Stage) -> Work:
    """Nothing is kept; every answer of the upstream begins after 100 ms."""
    rounds: dict[str, list[Figures]] = {DIRECT: [], NGINX: [], PIPCACHE: []}
    with _far_upstream(stage) as upstream:
        for number in range(_rounds(stage, command, is_far=True)):
            for each in _turned(list(rounds), number):
                if each == DIRECT:
                    wall = _install(stage, command, upstream)
                elif each == NGINX:
                    with stage.nginx(upstream) as server:
                        wall = _install(stage, command, server.address)
                else:
                    with stage.pipcache(None, upstream) as server:
                        wall = _install(stage, command, server.address)
                rounds[each].append({"wall": wall})
    rows = _rows(rounds)
    checks = (
        ratio_check(rows, "wall", 1.0, at_most=True),
        ratio_check(rows, "wall", 1.05, at_most=True, other=DIRECT),
    )
    return Work(f"{name} of {INSTALLED} packages from a cold cache, upstream with 100 ms", rows, checks)


def _rounds(stage: Stage, command: Install, *, is_far: bool = False) -> int:
    """How often each is measured: more often than all else, as a tenth of the second or two that it takes is chance.

    Most often from a hot cache, where a fiftieth counts and waiting for us is a hundredth, and uv more often than pip, as it
    takes a third of the time. Seldom where pip waits for a far upstream: that takes it 20 seconds, and little of them is
    chance.
    """
    if stage.is_quick:
        return 1
    if command is pip_command:
        return min(3, stage.rounds) if is_far else 5 * stage.rounds
    return (3 if is_far else 10) * stage.rounds


def _turned(names: list[str], number: int) -> list[str]:
    """The same names, each round beginning with another one."""
    first = number % len(names)
    return names[first:] + names[:first]


def _rows(rounds: dict[str, list[Figures]]) -> tuple[Row, ...]:
    return tuple(row(name, each) for name, each in rounds.items())


def _install(stage: Stage, command: Install, address: Address) -> float:
    """Install into a fresh environment; the seconds that took.

    Raises:
        ServerError: the installer failed, or did not install all.
    """
    folder = stage.new_folder("environment")
    try:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
        environment = clean_environment(PIP_CONFIG_FILE=os.devnull, UV_NO_CONFIG="1")
        words = command(folder / "bin/python", f"{address.url}/simple/")
        began_at = time.monotonic()
        done = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        seconds = time.monotonic() - began_at
        installed = len(list(folder.glob("lib/python*/site-packages/benchset_*-2.0.0.dist-info")))
        if done.returncode or installed != INSTALLED:
            raise ServerError(f"{words[0]}: {installed} packages installed: {(done.stdout + done.stderr)[-1500:]}")
        return seconds
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _far_upstream(stage: Stage) -> Iterator[Address]:
    port = free_port()
    command = [sys.executable, "-m", "bench.delaying", "--root", str(stage.corpus.root), "--port", str(port)]
    command += ["--delay", str(_DELAY_SECONDS)]
    environment = clean_environment(PYTHONPATH=str(TOP))
    process = Process(command, stage.new_folder("far"), stage.client_core, environment)
    try:
        process.wait_for_port(port)
        yield Address(port)
    finally:
        process.stop()


SCENARIOS = (
    Scenario("pip-hot", partial(from_hot_cache, "pip install", pip_command), is_slow=True),
    Scenario("uv-hot", partial(from_hot_cache, "uv pip install", uv_command)),
    Scenario("pip-cold", partial(from_cold_cache, "pip install", pip_command), is_slow=True),
    Scenario("uv-cold", partial(from_cold_cache, "uv pip install", uv_command)),
)
