"""The renderings of a page: which one a client gets, each made once a page version, kept, and made again when they must."""

from __future__ import annotations

import gzip
import json

import pytest

from pipcache.rules.key import CacheKey
from pipcache.rules.meta import VARIANT_KINDS
from tests.fakes.cache import Cached, Visit, page

TARGET = "/simple/x/"
PAGE = page("/packages/x-1.tar.gz", "https://files.test/x-2.tar.gz")
NO_PAGE = b"<html><body>Please log in.</body></html>"
JSON = "application/vnd.pypi.simple.v1+json"
ASKING = {
    "html": (("accept", "text/html"),),
    "html.gz": (("accept", "text/html"), ("accept-encoding", "gzip, deflate")),
    "json": (("accept", JSON),),
    "json.gz": (("accept", JSON), ("accept-encoding", "gzip, deflate")),
}


def kinds_on_disk(cached: Cached) -> list[str]:
    """The renderings that the page's meta names."""
    stored = cached.holdings.find(CacheKey("GET-" + TARGET))
    return [variant.kind for variant in stored.variants] if stored else []


def text_of(visit: Visit) -> bytes:
    """The body without its content-coding."""
    return gzip.decompress(visit.body) if visit.field("content-encoding") == "gzip" else visit.body


@pytest.fixture(autouse=True)
def shape(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What a test patches to stand for code that renders otherwise."""
    return monkeypatch


def render_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the code is of another shape."""
    monkeypatch.setattr("pipcache.engine.pages.SHAPE", "next")
    monkeypatch.setattr("pipcache.engine.forming.SHAPE", "next")
    monkeypatch.setattr("pipcache.engine.forming.Rendering.__init__.__defaults__", ("next",))


@pytest.mark.parametrize("first", VARIANT_KINDS)
def test_one_fetch_gives_every_rendering(cached: Cached, first: str) -> None:
    """In whatever order they are asked for; each says what it is, under an ETag of its own, and is kept."""
    order = [first, *(kind for kind in VARIANT_KINDS if kind != first)]
    visits = {}
    for kind in order:
        visits[kind] = cached.get(TARGET, *ASKING[kind])
        if kind == first:
            cached.client.answer_whole(PAGE, (("content-type", "text/html"),))
    assert len(cached.client.sent) == 1
    assert [visits[kind].said for kind in order] == ["MISS", "HIT", "HIT", "HIT"]
    assert len({visit.field("etag") for visit in visits.values()}) == 4
    for kind, visit in visits.items():
        assert visit.is_whole
        assert visit.field("vary") == "Accept, Accept-Encoding"
        assert visit.field("content-type") == (JSON if "json" in kind else "text/html; charset=utf-8")
        assert visit.field("content-encoding") == ("gzip" if ".gz" in kind else None)
        assert visit.field("content-length") == str(len(visit.body))
    assert text_of(visits["html"]) == text_of(visits["html.gz"])
    assert text_of(visits["json"]) == text_of(visits["json.gz"])
    assert len(json.loads(text_of(visits["json"]))["files"]) == 2
    assert sorted(kinds_on_disk(cached)) == sorted(VARIANT_KINDS)


@pytest.mark.parametrize("kind", VARIANT_KINDS)
def test_a_hit_neither_reads_nor_renders(cached: Cached, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Once a page version and rendering, also after a restart: the files on disk are all that is needed."""
    miss = cached.get(TARGET, *ASKING[kind])
    cached.client.answer_whole(PAGE)
    monkeypatch.setattr("pipcache.engine.forming.form_page", lambda *_: 1 // 0)
    again = Cached(cached.store.root)
    for where in (cached, again):
        hit = where.get(TARGET, *ASKING[kind])
        assert (hit.said, hit.body, hit.field("etag")) == ("HIT", miss.body, miss.field("etag"))
    again.check_books()


def test_those_who_wait_together_get_each_his_own(cached: Cached) -> None:
    """One asks for HTML, the others for JSON and with a coding: one fetch, and all is kept."""
    visits = [cached.get(TARGET, *ASKING[kind]) for kind in VARIANT_KINDS]
    cached.client.answer_whole(PAGE)
    assert [visit.said for visit in visits] == ["MISS"] * 4
    assert [visit.field("content-encoding") for visit in visits] == [None, "gzip", None, "gzip"]
    assert sorted(kinds_on_disk(cached)) == sorted(VARIANT_KINDS)


def test_what_is_asked_for_while_the_disk_syncs_is_kept_too(cached: Cached) -> None:
    """The page is in memory until then; nothing is rendered twice."""
    cached.threads.is_held = True
    miss = cached.get(TARGET, *ASKING["html"])
    cached.client.answer_whole(PAGE)
    hit = cached.get(TARGET, *ASKING["json.gz"])
    assert (miss.said, hit.said) == ("MISS", "HIT")
    cached.threads.let_go()
    assert kinds_on_disk(cached) == ["html", "json.gz"]


def test_many_who_want_a_new_rendering_make_it_once(cached: Cached) -> None:
    """They come at the same time: one is made, and no trouble with the disk is told."""
    cached.keep_page("x", PAGE)
    cached.threads.is_held = True
    visits = [cached.get(TARGET, *ASKING["json"]) for _ in range(3)]
    assert cached.threads.calls == 2  # the page's own publication, and that of the rendering
    cached.threads.let_go()
    assert {visit.said for visit in visits} == {"HIT"}
    assert {visit.body for visit in visits} == {visits[0].body}
    assert cached.events.of("storage_failed") == []


def test_a_page_of_an_older_shape_is_formed_again(cached: Cached, shape: pytest.MonkeyPatch) -> None:
    """From what upstream sent, without asking; under another ETag, as its bytes may be others."""
    old = cached.keep_page("x", PAGE)
    render_otherwise(shape)
    fresh, again = cached.get(TARGET), cached.get(TARGET)
    assert (fresh.said, again.said, len(cached.client.sent)) == ("HIT", "HIT", 1)
    assert fresh.field("etag") == again.field("etag") != old.field("etag")
    assert fresh.body == again.body == old.body
    stored = cached.holdings.find(CacheKey("GET-" + TARGET))
    assert stored is not None
    assert [(variant.kind, variant.shape) for variant in stored.variants] == [("html", "next")]


@pytest.mark.parametrize("call", ["create", "rename"])
def test_a_rendering_that_cannot_be_kept_is_served(cached: Cached, call: str) -> None:
    """The disk's trouble is told, and is not the client's."""
    cached.keep_page("x", PAGE)
    cached.files.broken.add(call)
    assert cached.get(TARGET, *ASKING["json"]).is_whole
    assert len(cached.events.of("storage_failed")) == 1


def test_a_page_that_is_replaced_while_it_is_rendered_is_no_trouble(cached: Cached) -> None:
    """What is stored then is another one, and stays as it is."""
    cached.keep_page("x", PAGE)
    cached.threads.is_held = True
    visit = cached.get(TARGET, *ASKING["json"])
    for path in cached.store.root.glob("???/*"):
        path.unlink()
    cached.threads.let_go()
    assert visit.is_whole
    assert cached.events.of("storage_failed") == []
    assert cached.entries() == []


def test_a_stored_body_that_is_no_page_any_more_is_fetched_anew(cached: Cached) -> None:
    """Somebody wrote over it; what its upstream would say of the old one is not asked."""
    cached.keep_page("x", PAGE)
    (body,) = cached.store.root.glob("???/*.body")
    body.write_bytes(NO_PAGE.ljust(len(PAGE)))
    visit = cached.get(TARGET, *ASKING["json"])
    cached.client.answer_whole(PAGE)
    assert visit.said == "MISS"
    assert cached.client.sent[-1].request.validators == ()


@pytest.mark.parametrize(
    ("fields", "status"), [((("accept", "image/png"),), 406), ((("accept", "text/html;q=0"),), 406), ((), 200)]
)
def test_a_client_that_takes_no_dialect_is_told_so(
    cached: Cached, fields: tuple[tuple[str, str], ...], status: int
) -> None:
    """Without asking anybody; one that says nothing gets HTML."""
    cached.keep_page("x", PAGE)
    assert cached.get(TARGET, *fields).status == status
    assert cached.get(f"{TARGET}?format=image/png").status == 406
    assert cached.get(f"{TARGET}?format={JSON.replace('+', '%2B')}").field("content-type") == JSON
    assert len(cached.client.sent) == 1


def test_a_condition_is_compared_with_the_rendering_that_it_is_about(cached: Cached) -> None:
    """304 for the one that the client has, the whole for the one that it lacks."""
    html = cached.keep_page("x", PAGE)
    condition = ("if-none-match", html.field("etag") or "")
    assert cached.get(TARGET, condition).status == 304
    assert cached.get(TARGET, condition, *ASKING["json"]).status == 200
