"""What the system tests share: environments with installers, and servers that end with the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.index import Index
from tests.system.harness import IndexServer, Server, make_venv
from tests.system.installers import Unavailable, provide


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with nothing but pip in it."""
    return make_venv(tmp_path_factory.mktemp("bare") / "venv")


@pytest.fixture(scope="session")
def interpreter_of(
    bare_python: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Where an installer lives: `interpreter_of("poetry")`; the test skips where it cannot be installed."""
    of_this_run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_this_run = of_this_run.parent
    kept = pytestconfig.cache.mkdir("installers")

    def find(name: str) -> Path:
        if name in {"pip", "uv"}:
            return bare_python
        try:
            return provide(name, bare_python, kept, of_this_run)
        except Unavailable as error:
            pytest.skip(str(error))

    return find


@pytest.fixture
def serve_index(tmp_path: Path) -> Iterator[Callable[..., IndexServer]]:
    """Serve an index from a process of its own: `serve_index(index, dialect=..., prefix=..., files_url=...)`."""
    with ExitStack() as running:
        count = iter(range(1000))

        def serve(index: Index, **options: Any) -> IndexServer:
            work = tmp_path / f"index-{next(count)}"
            index.write_to(work / "served", **options)
            return running.enter_context(IndexServer(work / "served", work))

        yield serve


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start the real program: `start_server(settings, ...)`, with the arguments of `Server`."""
    with ExitStack() as running:
        count = iter(range(1000))

        def start(settings: dict[str, dict[str, Any]], **options: Any) -> Server:
            return running.enter_context(Server(tmp_path / f"server-{next(count)}", settings, **options))

        yield start


@pytest.fixture
def proxy(start_server: Callable[..., Server]) -> Callable[[str], Server]:
    """Start the program in front of the index at an address, asking it alone."""
    return lambda url, **more: start_server({"upstream": {"primary": {"name": "only", "url": url, **more}}})
