"""Real installers resolve and install whichever dialect the index speaks, and see what both dialects can say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.index import Index
from tests.system.harness import Finished, IndexServer
from tests.system.installers import check, install_with
from tests.system.prefix import PrefixProxy

pytestmark = pytest.mark.system

NAMES = {"leaf": "1.1", "tree": "2.0", "source": "3.0"}
EARLY, LATE = "2024-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"
BEFORE = "2024-06-01T00:00:00Z"
Install = Callable[..., Finished]


@pytest.fixture
def index() -> Index:
    """One project that needs another, which has a newer, a yanked and an unfit release beside the one to take."""
    index = Index()
    index.add_wheel("leaf", "1.0", uploaded=EARLY)
    index.add_wheel("leaf", "1.1", uploaded=LATE, size_bytes=100_000)
    index.add_wheel("leaf", "1.2", uploaded=EARLY, yanked='it is "broken" & <gone>')
    index.add_wheel("leaf", "2.0", uploaded=EARLY, python_requires=">=4")
    index.add_wheel("tree", "2.0", requires=["leaf>=1"], python_requires=">=3.8", uploaded=EARLY)
    index.add_sdist("source", "3.0")
    return index


@pytest.fixture(params=["html", "json"])
def upstream(request: pytest.FixtureRequest, index: Index, serve_index: Callable[..., IndexServer]) -> IndexServer:
    """The index in one dialect, whatever it is asked for."""
    return serve_index(index, dialect=request.param)


@pytest.fixture
def install(request: pytest.FixtureRequest, interpreter_of: Callable[[str], Path]) -> Install:
    """Install with the parameter's installer: `install(index_url, folder, *requirements, options=...)`."""
    name: str = request.param
    python = interpreter_of(name)
    return lambda url, folder, *words, **more: install_with(name, python, url, folder, *words, **more)


def among(*names: str) -> pytest.MarkDecorator:
    """Run a test with each of these installers."""
    return pytest.mark.parametrize("install", names, indirect=True)


@among("pip", "newest pip", "uv", "poetry", "pdm")
def test_metadata_alone_decides_what_is_downloaded(index, upstream, install, start_server, tmp_path):
    """Each takes the newest release that is neither yanked nor for another Python, and downloads no other."""
    upstreams = {"primary": {"name": "only", "url": upstream.url}}
    server = start_server({"upstream": upstreams, "cache": {"prefetch_size": 0}})  # so only what it asks for is fetched
    check(install(server.index_url, tmp_path / "target", "tree", "source"), tmp_path / "target", NAMES)
    _, newer, yanked, unfit, tree, source = index.files
    taken = [newer.path, f"{newer.path}.metadata", tree.path, f"{tree.path}.metadata", source.path]
    taken += [f"/simple/{name}/" for name in NAMES]
    # Poetry and uv may read the metadata of a release for another Python to say why it is none for this one
    asked = [each for each in upstream.requests if each != f"GET {unfit.path}.metadata"]
    assert sorted(asked) == sorted(f"GET {path}" for path in taken)
    assert not upstream.count(yanked.path)
    assert "Traceback" not in server.log


@among("newest pip", "uv")
def test_what_is_fetched_ahead_is_fetched_once(serve_index, install, proxy, tmp_path):
    """The installer joins what is on its way, and all of it is what it would have asked for itself."""
    names = [f"link{number}" for number in range(8)]
    chain = Index()
    links = [
        chain.add_wheel(name, "1.0", requires=[needed] if needed else [])
        for name, needed in zip(names, [*names[1:], ""], strict=True)
    ]
    upstream = serve_index(chain, dialect="json")
    server = proxy(upstream.url)
    check(install(server.index_url, tmp_path / "target", "link0"), tmp_path / "target", dict.fromkeys(names, "1.0"))
    wanted = [f"/simple/{name}/" for name in names]
    wanted += [path for link in links for path in (link.path, f"{link.path}.metadata")]
    assert sorted(upstream.requests) == sorted(f"GET {path}" for path in wanted)
    assert "Traceback" not in server.log


@among("old pip")
def test_a_client_that_knows_only_html(index, upstream, install, proxy, tmp_path):
    """A pip from before PEP 691 installs the same, whichever dialect the index speaks."""
    server = proxy(upstream.url)
    check(install(server.index_url, tmp_path / "target", "tree", "source"), tmp_path / "target", NAMES)
    _, newer, _, _, tree, source = index.files
    files = {each for each in upstream.requests if "/packages/" in each}
    assert files == {f"GET {each.path}" for each in (newer, tree, source)}


@among("newest pip", "uv", "poetry")
def test_why_a_release_was_yanked_is_told(index, upstream, install, proxy, tmp_path):
    """Asked for by its version a yanked release is installed, and the installer tells the reason as it was given."""
    done = install(proxy(upstream.url).index_url, tmp_path / "target", "leaf==1.2")
    check(done, tmp_path / "target", {"leaf": "1.2"})
    assert 'it is "broken" & <gone>' in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("install", "options"),
    [("newest pip", ["--uploaded-prior-to", BEFORE]), ("uv", ["--exclude-newer", BEFORE])],
    indirect=["install"],
)
def test_a_date_excludes_newer_releases(upstream, install, proxy, tmp_path, options):
    """Upload times get through, from HTML too where it has them: a release after the date is not taken."""
    done = install(proxy(upstream.url).index_url, tmp_path / "target", "tree", options=options)
    check(done, tmp_path / "target", {"leaf": "1.0", "tree": "2.0"})


@among("poetry")
def test_poetry_leaves_too_young_releases(upstream, install, proxy, tmp_path):
    """What Poetry calls `min-release-age` finds its upload times as well."""
    more = {"environment": {"POETRY_SOLVER_MIN_RELEASE_AGE": "1"}}
    done = install(proxy(upstream.url).index_url, tmp_path / "target", "tree", **more)
    check(done, tmp_path / "target", {"leaf": "1.0", "tree": "2.0"})


@among("pip", "newest pip", "old pip", "uv", "poetry", "pdm")
def test_behind_a_reverse_proxy_with_a_prefix(serve_index, index, install, proxy, tmp_path):
    """Links in JSON and in HTML hold behind a prefix of which the program knows nothing."""
    server = proxy(serve_index(index, dialect="json").url)
    with PrefixProxy("/some/where", server.port) as front:
        done = install(f"{front.url}/simple/", tmp_path / "target", "tree", "source")
    check(done, tmp_path / "target", NAMES)
    assert front.refused == []
