"""What is fetched before it is asked for, what is not, and that nobody is the worse for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipcache.engine.ahead import REST_SECONDS
from pipcache.rules.errors import UpstreamUnavailable
from tests.fakes.cache import ALPHA, BETA, Cached
from tests.fakes.index import build_wheel, metadata_of

ROOM = 7000
"""The largest wheel that is fetched ahead."""


class Release:
    """A release of a project: its wheel, its core metadata, and the page that names it."""

    def __init__(self, name: str, requires: tuple[str, ...] = (), size: int = 5000) -> None:
        filename, self.wheel = build_wheel(name, "1", requires, size_bytes=size)
        self.metadata = metadata_of(name, "1", requires)
        self.page_path = f"/simple/{name}/"
        self.wheel_path = f"/packages/aa/{filename}"
        self.metadata_path = f"{self.wheel_path}.metadata"
        file = (
            f'{{"filename": "{filename}", "url": "{self.wheel_path}", "size": {len(self.wheel)},'
            f' "hashes": {{"sha256": "{_sha256(self.wheel)}"}},'
            f' "core-metadata": {{"sha256": "{_sha256(self.metadata)}"}}}}'
        )
        meta = '"meta": {"api-version": "1.1"}'
        self.page = f'{{{meta}, "name": "{name}", "versions": ["1"], "files": [{file}]}}'.encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


A = Release("a", ("b>=1", "c", 'd; extra == "test"'))
B, C = Release("b", ("e",)), Release("c", size=10_000)
E = Release("e")


@pytest.fixture
def ahead(tmp_path: Path) -> Iterator[Cached]:
    """A cache that fetches ahead, of one upstream; its books are checked at the end."""
    cached = Cached(tmp_path / "cache", sites=(ALPHA,), negative_seconds=60.0, ahead_bytes=ROOM)
    yield cached
    cached.check_books()


def give(cached: Cached, path: str, body: bytes) -> None:
    """The upstream answers this."""
    kind = (("content-type", "application/vnd.pypi.simple.v1+json"),) if path.startswith("/simple/") else ()
    cached.client.answer_whole(body, kind, f"https://alpha.test{path}")
    cached.clock.advance(0)


def wanted(cached: Cached) -> set[str]:
    """What the upstream was asked for, and has not answered."""
    return {url.removeprefix("https://alpha.test") for url in cached.client.waiting}


def begin(cached: Cached) -> None:
    """A client has the page of ``A`` and asks for its core metadata, which comes."""
    cached.get(A.page_path)
    give(cached, A.page_path, A.page)
    assert wanted(cached) == set()
    cached.get(A.metadata_path)
    give(cached, A.metadata_path, A.metadata)


def test_what_core_metadata_leads_to_comes_before_it_is_asked_for(ahead: Cached) -> None:
    """Pages, the core metadata of the newest releases, and so on; what is kept is a hit, and nobody is asked twice."""
    begin(ahead)
    assert wanted(ahead) == {A.wheel_path, B.page_path, C.page_path}
    give(ahead, A.wheel_path, A.wheel)
    give(ahead, B.page_path, B.page)
    give(ahead, C.page_path, C.page)
    assert wanted(ahead) == {B.metadata_path, C.metadata_path}
    give(ahead, C.metadata_path, C.metadata)
    give(ahead, B.metadata_path, B.metadata)
    assert wanted(ahead) == {E.page_path}
    give(ahead, E.page_path, E.page)
    give(ahead, E.metadata_path, E.metadata)
    assert wanted(ahead) == set()
    visits = [ahead.get(path) for path in (A.wheel_path, B.page_path, B.metadata_path, E.page_path, E.metadata_path)]
    assert [visit.said for visit in visits] == ["HIT"] * 5
    assert (visits[0].body, visits[2].body, visits[4].body) == (A.wheel, B.metadata, E.metadata)
    ahead.clock.advance(0)
    assert wanted(ahead) == {B.wheel_path, E.wheel_path}
    give(ahead, B.wheel_path, B.wheel)
    give(ahead, E.wheel_path, E.wheel)
    assert len(ahead.client.urls) == len(set(ahead.client.urls))


def test_whoever_asks_meanwhile_joins(ahead: Cached) -> None:
    """There is one transfer for what is fetched ahead and the client that wants it."""
    begin(ahead)
    page, wheel = ahead.get(B.page_path), ahead.get(A.wheel_path)
    for path, body in ((B.page_path, B.page), (A.wheel_path, A.wheel), (C.page_path, C.page)):
        give(ahead, path, body)
    assert (page.is_whole, wheel.body) == (True, A.wheel)
    metadata = ahead.get(B.metadata_path)
    give(ahead, B.metadata_path, B.metadata)
    assert (metadata.body, metadata.said) == (B.metadata, "MISS")
    ahead.clock.advance(0)
    for path, body in ((B.wheel_path, B.wheel), (C.metadata_path, C.metadata), (E.page_path, E.page)):
        give(ahead, path, body)
    give(ahead, E.metadata_path, E.metadata)
    assert len(ahead.client.urls) == len(set(ahead.client.urls))


def test_a_large_wheel_is_left_to_who_asks_for_it(ahead: Cached) -> None:
    """Also one of which the page does not say how large it is."""
    for release, page in ((C, C.page), (E, E.page.replace(b'"size"', b'"other"'))):
        ahead.get(release.page_path)
        give(ahead, release.page_path, page)
        ahead.get(release.metadata_path)
        give(ahead, release.metadata_path, release.metadata)
        assert wanted(ahead) == set()


def test_of_releases_that_are_tried_one_wheel_comes(ahead: Cached) -> None:
    """A resolver that goes back looks at many releases of a project; after a while it may be another resolver."""
    older = Release("e", ("c>1",))  # another wheel under the same name
    ahead.get(E.page_path)
    page = E.page.replace(b'"files": [', b'"files": [' + older.page.partition(b'"files": [')[2][:-2] + b", ")
    page = page.replace(b"/aa/e-1-", b"/bb/e-0-", 1).replace(b'"e-1-', b'"e-0-', 1)
    give(ahead, E.page_path, page)
    older_path = E.metadata_path.replace("/aa/e-1-", "/bb/e-0-")
    ahead.get(E.metadata_path)
    ahead.clock.advance(0)
    assert wanted(ahead) == {E.metadata_path, E.wheel_path}
    give(ahead, E.metadata_path, E.metadata)
    give(ahead, E.wheel_path, E.wheel)
    for seconds, more in ((REST_SECONDS - 1, set()), (1, {older_path.removesuffix(".metadata")})):
        ahead.clock.advance(seconds)
        ahead.get(older_path)
        ahead.clock.advance(0)
        assert wanted(ahead) - {older_path, C.page_path} == more
        if not more:
            give(ahead, older_path, older.metadata)
            give(ahead, C.page_path, C.page)
            give(ahead, C.metadata_path, C.metadata)
    give(ahead, older_path.removesuffix(".metadata"), older.wheel)


def test_who_wants_nobody_asked_or_no_body_has_nothing_fetched(ahead: Cached) -> None:
    """``only-if-cached``, and HEAD, say nothing of a wheel that will be wanted."""
    ahead.get(A.page_path)
    give(ahead, A.page_path, A.page)
    refused = ahead.get(A.metadata_path, ("cache-control", "only-if-cached"))
    ahead.clock.advance(0)
    assert (refused.status, wanted(ahead)) == (504, set())
    ahead.head(A.metadata_path)
    ahead.clock.advance(0)
    assert wanted(ahead) == {A.metadata_path}
    give(ahead, A.metadata_path, A.metadata)
    assert wanted(ahead) == {B.page_path, C.page_path}
    for path, body in ((B.page_path, B.page), (C.page_path, C.page), (C.metadata_path, C.metadata)):
        give(ahead, path, body)
    give(ahead, B.metadata_path, B.metadata)
    give(ahead, E.page_path, E.page)
    give(ahead, E.metadata_path, E.metadata)


def test_what_fails_is_told_to_nobody_who_did_not_ask(ahead: Cached) -> None:
    """Who asks gets the upstream's answer; that something is absent is remembered, that there was trouble is not."""
    begin(ahead)
    give(ahead, A.wheel_path, A.wheel)
    ahead.client.refuse(UpstreamUnavailable("down"), f"https://alpha.test{B.page_path}")
    ahead.client.answer(404, url=f"https://alpha.test{C.page_path}")
    assert wanted(ahead) == set()
    assert ahead.get(C.page_path).status == 404
    assert wanted(ahead) == set()
    visit = ahead.get(B.page_path)
    give(ahead, B.page_path, B.page)
    assert visit.is_whole
    assert wanted(ahead) == set()  # whoever asked for the page will ask for what it wants of it


def test_what_is_kept_and_fresh_is_not_fetched_again(ahead: Cached) -> None:
    """A page that may be served leads no further either."""
    ahead.get(B.page_path)
    give(ahead, B.page_path, B.page)
    begin(ahead)
    assert wanted(ahead) == {A.wheel_path, C.page_path}
    give(ahead, A.wheel_path, A.wheel)
    give(ahead, C.page_path, C.page)
    give(ahead, C.metadata_path, C.metadata)


def test_so_many_pages_are_fetched_ahead_a_minute(ahead: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that need each other without end are left to those who want them, until the next minute."""
    monkeypatch.setattr("pipcache.engine.ahead.PAGES_A_MINUTE", 1)
    begin(ahead)
    assert wanted(ahead) == {A.wheel_path, B.page_path}
    for path, body in ((A.wheel_path, A.wheel), (B.page_path, B.page), (B.metadata_path, B.metadata)):
        give(ahead, path, body)
    assert wanted(ahead) == set()
    ahead.clock.advance(60)
    other = Release("f", ("e", "c"))
    ahead.get(other.page_path)
    give(ahead, other.page_path, other.page)
    ahead.get(other.metadata_path)
    give(ahead, other.metadata_path, other.metadata)
    assert wanted(ahead) == {other.wheel_path, E.page_path}
    for path, body in ((other.wheel_path, other.wheel), (E.page_path, E.page), (E.metadata_path, E.metadata)):
        give(ahead, path, body)


def test_after_a_stop_nothing_is_fetched_ahead(ahead: Cached) -> None:
    """What is on its way may end."""
    ahead.get(A.page_path)
    give(ahead, A.page_path, A.page)
    visit = ahead.get(A.metadata_path)
    ahead.cache.stop()
    give(ahead, A.metadata_path, A.metadata)
    assert (visit.body, wanted(ahead)) == (A.metadata, set())


def test_metadata_that_turns_out_wrong_leads_nowhere(tmp_path: Path) -> None:
    """Only what the page promised is looked at."""
    cached = Cached(tmp_path / "cache", sites=(ALPHA, BETA), ahead_bytes=ROOM)
    cached.get(A.page_path)
    give(cached, A.page_path, A.page)
    visit = cached.get(A.metadata_path)
    cached.clock.advance(0)
    give(cached, A.wheel_path, A.wheel)
    cached.client.answer_whole(metadata_of("a", "1", ("evil",)), url=f"https://alpha.test{A.metadata_path}")
    cached.clock.advance(0)
    assert cached.client.waiting == [f"https://beta.test/pypi{A.metadata_path}"]
    cached.client.answer(404)
    assert visit.body == A.metadata  # made of the wheel, which is right
    assert {url.rpartition("/simple/")[2] for url in cached.client.waiting} == {"b/", "c/"}
    while cached.client.waiting:
        cached.client.answer(404)
    cached.check_books()


def test_nothing_is_fetched_ahead_where_nobody_wants_it(tmp_path: Path) -> None:
    """``cache.prefetch_size`` 0."""
    cached = Cached(tmp_path / "cache", sites=(ALPHA,))
    begin(cached)
    cached.clock.advance(0)
    assert wanted(cached) == set()
    cached.check_books()
