"""What the system tests share: a bare environment with pip, and servers that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.index import Index
from tests.system.harness import IndexServer, Server, make_venv


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with nothing but pip in it."""
    return make_venv(tmp_path_factory.mktemp("bare") / "venv")


@pytest.fixture
def serve_index(tmp_path: Path) -> Iterator[Callable[..., IndexServer]]:
    """Serve an index from a process of its own: `serve_index(index, prefix=..., files_url=...)`."""
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
