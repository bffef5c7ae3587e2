"""Real pip and real uv install through the program: cold, hot with nobody behind it, from lock files, all at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.index import Index
from tests.system.harness import Finished, IndexServer, pip_install, uv_install
from tests.system.installers import check

pytestmark = pytest.mark.system

NAMES = {"leaf": "1.0", "tree": "2.0", "source": "3.0"}
Install = Callable[..., Finished]


@pytest.fixture
def index() -> Index:
    """Two wheels, one needing the other, and an sdist that builds without a build dependency."""
    index = Index()
    index.add_wheel("leaf", "1.0", size_bytes=1_000_000)
    index.add_wheel("tree", "2.0", requires=["leaf>=1"], python_requires=">=3.8")
    index.add_sdist("source", "3.0")
    return index


@pytest.fixture(params=["pip", "uv"])
def install(request: pytest.FixtureRequest) -> Install:
    """Install into a folder with one of the two; call it with `(index_url, target, *arguments)`."""
    if request.param == "uv":
        return uv_install
    python: Path = request.getfixturevalue("bare_python")
    return lambda url, target, *arguments: pip_install(python, url, target, *arguments)


def test_cold_then_hot_with_the_index_gone(index, serve_index, proxy, install, tmp_path):
    """Wheels, their dependencies and an sdist install; the second time nobody upstream is needed."""
    upstream: IndexServer = serve_index(index)
    server = proxy(upstream.url)
    check(install(server.index_url, tmp_path / "cold", "tree", "source"), tmp_path / "cold", NAMES)
    asked = upstream.requests
    tree = index.files[1]
    assert f"GET {tree.path}.metadata" in asked, "the core metadata was not used"
    assert len(asked) == len(set(asked)), "something was fetched twice"
    upstream.kill()
    check(install(server.index_url, tmp_path / "hot", "tree", "source"), tmp_path / "hot", NAMES)
    assert "Traceback" not in server.log


def test_a_lock_of_hashes_installs_into_an_empty_cache(index, serve_index, proxy, install, tmp_path):
    """`--require-hashes` agrees with what comes through the program, and pages are not rewritten on the way."""
    upstream: IndexServer = serve_index(index)
    lock = tmp_path / "requirements.txt"
    lock.write_text(index.requirements())
    done = install(proxy(upstream.url).index_url, tmp_path / "target", "--require-hashes", "-r", lock)
    check(done, tmp_path / "target", NAMES)


def test_a_lock_of_addresses_installs_into_an_empty_cache(index, serve_index, proxy, install, tmp_path):
    """A lock names files, and no page is asked for; the program finds them on the host that the page links to."""
    files: IndexServer = serve_index(index)
    pages: IndexServer = serve_index(index, files_url=files.url)
    for each in index.files:
        (pages.served / each.path.lstrip("/")).unlink()
    server = proxy(pages.url)
    lock = tmp_path / "requirements.txt"
    pins = [f"{each.project} @ {server.url}{each.path} --hash=sha256:{each.sha256}\n" for each in index.files]
    lock.write_text("".join(pins))
    done = install(server.index_url, tmp_path / "target", "--no-deps", "--require-hashes", "-r", lock)
    check(done, tmp_path / "target", NAMES)
    assert sorted(pages.requests) == [f"GET /simple/{name}/" for name in sorted(NAMES)]
    assert {request.split(" ")[1] for request in files.requests} == {each.path for each in index.files}


@pytest.mark.parametrize("is_split", [False, True])
def test_an_index_under_a_prefix_and_files_elsewhere(index, serve_index, proxy, install, tmp_path, is_split):
    """Pages under `/pypi`, with links into it or absolute links to a second port: everything comes through us."""
    files: IndexServer = serve_index(index)
    options = {"files_url": files.url} if is_split else {}
    pages: IndexServer = serve_index(index, prefix="/pypi", **options)
    server = proxy(pages.url, path_prefix="/pypi")
    check(install(server.index_url, tmp_path / "target", "tree", "source"), tmp_path / "target", NAMES)
    assert pages.count("/pypi/simple/leaf/") == 1
    for each in index.files:
        where = files.count(each.path) if is_split else pages.count(f"/pypi{each.path}")
        assert where == 1
        status, fields, body = server.get(each.path)
        assert (status, fields["x-cache-status"], fields["x-upstream"], body) == (200, "HIT", "only", each.data)


def test_uv_reads_a_wheel_without_metadata_in_part(serve_index, proxy, tmp_path):
    """Where no core metadata lies beside a wheel, uv asks for its end; that is relayed, and then the file is kept."""
    index = Index()
    wheel = index.add_wheel("leaf", "1.0", size_bytes=3_000_000, has_metadata=False)
    upstream: IndexServer = serve_index(index)
    server = proxy(upstream.url)
    check(uv_install(server.index_url, tmp_path / "target", "leaf"), tmp_path / "target", {"leaf": "1.0"})
    assert upstream.count(wheel.path, "HEAD") == 1
    assert upstream.count(wheel.path) >= 2, "no range was asked for"
    assert server.get(wheel.path)[1]["x-cache-status"] == "HIT"
    asked = upstream.requests
    check(uv_install(server.index_url, tmp_path / "again", "leaf"), tmp_path / "again", {"leaf": "1.0"})
    assert upstream.requests == asked


def test_eight_clients_at_once_are_one_fetch(index, serve_index, proxy, tmp_path):
    """Eight uv install the same from cold, together: each thing is asked of upstream once, and all are right."""
    upstream: IndexServer = serve_index(index)
    server = proxy(upstream.url)
    targets = [tmp_path / f"target-{number}" for number in range(8)]
    with ThreadPoolExecutor(len(targets)) as pool:
        done = list(pool.map(lambda target: uv_install(server.index_url, target, "tree", "source"), targets))
    for finished, target in zip(done, targets, strict=True):
        check(finished, target, NAMES)
    assert len(upstream.requests) == len(set(upstream.requests))
    assert "Traceback" not in server.log


def test_what_is_not_there_is_said_to_the_installer(index, serve_index, proxy, install, tmp_path):
    """A project that no upstream has ends the installer with its own message, not with a broken answer."""
    server = proxy(serve_index(index).url)
    done = install(server.index_url, tmp_path / "target", "no-such-project")
    assert done.returncode != 0
    assert "no-such-project" in done.stderr
    assert "Traceback" not in done.stderr + server.log
    assert server.get("/simple/no-such-project/")[0] == 404
