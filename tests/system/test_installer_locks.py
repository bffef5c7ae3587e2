"""uv and Poetry install from their lock files into an empty cache: files are asked for before any page was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.index import Index
from tests.system.harness import Finished, IndexServer, Server
from tests.system.installers import check, run_poetry, run_uv_on, write_project

pytestmark = pytest.mark.system

NAMES = {"leaf": "1.1", "tree": "2.0", "source": "3.0"}


@pytest.fixture
def index() -> Index:
    """A project that needs another, and an sdist."""
    index = Index()
    index.add_wheel("leaf", "1.0")
    index.add_wheel("leaf", "1.1", size_bytes=100_000)
    index.add_wheel("tree", "2.0", requires=["leaf>=1"], python_requires=">=3.8")
    index.add_sdist("source", "3.0")
    return index


@pytest.fixture(params=["html", "json"])
def pages(request: pytest.FixtureRequest, index: Index, serve_index: Callable[..., IndexServer]) -> IndexServer:
    """The index in one dialect; its files are on another host, so that only the pages say where they are."""
    files = serve_index(index)
    pages = serve_index(index, files_url=files.url, dialect=request.param)
    shutil.rmtree(pages.served / "packages")
    return pages


@pytest.fixture
def poetry(interpreter_of: Callable[[str], Path]) -> Callable[..., Finished]:
    """Run Poetry on the project in a folder: `poetry(folder, *arguments)`."""
    python = interpreter_of("poetry")
    return lambda folder, *arguments: run_poetry(python, folder, *arguments)


def start_empty(server: Server) -> None:
    """Start the program again at the same address, with nothing kept and nothing in memory."""
    server.terminate()
    shutil.rmtree(server.cache)
    server.start()


def check_lock(lock: Path, index: Index) -> None:
    """Assert that a lock names every file by its digest, but for the release that nobody needs."""
    text = lock.read_text()
    assert [each.filename for each in index.files if each.sha256 in text] == [
        "leaf-1.1-py3-none-any.whl",
        "tree-2.0-py3-none-any.whl",
        "source-3.0.tar.gz",
    ]


def test_uv_syncs_from_a_lock(index, pages, proxy, tmp_path):
    """`uv sync --frozen` asks for files only; each is found by the page of its project, in either dialect."""
    server = proxy(pages.url)
    first = tmp_path / "first"
    write_project(first, "uv", server.index_url, ("tree", "source"))
    done = run_uv_on(first, "lock", "--default-index", server.index_url)
    assert done.returncode == 0, done.stderr
    check_lock(first / "uv.lock", index)
    start_empty(server)
    asked = len(pages.requests)
    check(run_uv_on(first, "sync", "--frozen"), first, NAMES)
    assert sorted(pages.requests[asked:]) == [f"GET /simple/{name}/" for name in sorted(NAMES)]


def test_a_lock_holds_at_another_address(index, serve_index, proxy, tmp_path):
    """Where files lie is the same behind every pipcache: only scheme, host and port of a lock are this one's."""
    upstream = serve_index(index, dialect="json")
    first, second = proxy(upstream.url), proxy(upstream.url)
    project = tmp_path / "project"
    write_project(project, "uv", first.index_url, ("tree", "source"))
    done = run_uv_on(project, "lock", "--default-index", first.index_url)
    assert done.returncode == 0, done.stderr
    first.kill()
    lock = project / "uv.lock"
    lock.write_text(lock.read_text().replace(first.url, second.url))
    check(run_uv_on(project, "sync", "--frozen"), project, NAMES)


def test_poetry_installs_from_a_lock(index, pages, proxy, poetry, tmp_path):
    """Poetry, with a cache of its own as empty, installs what the lock of an earlier day says."""
    server = proxy(pages.url)
    first, second = tmp_path / "first", tmp_path / "second"
    write_project(first, "poetry", server.index_url, ("tree", "source"))
    done = poetry(first, "lock")
    assert done.returncode == 0, done.stdout + done.stderr
    check_lock(first / "poetry.lock", index)
    start_empty(server)
    write_project(second, "poetry", server.index_url, ("tree", "source"))
    shutil.copy(first / "poetry.lock", second)
    check(poetry(second, "install"), second, NAMES)
    assert (second / "poetry.lock").read_bytes() == (first / "poetry.lock").read_bytes()
    assert "Traceback" not in server.log
