"""Project pages and the project list: one fetch for all, whole or not at all, a hit from then on."""

from __future__ import annotations

import pytest

from pipcache.engine.forming import FORMED_HERE_BYTES
from pipcache.rules.errors import UpstreamTimeout, UpstreamUnavailable
from tests.fakes.cache import Cached, page

TARGET = "/simple/x/"
PAGE = page("/packages/x-1.tar.gz", "https://files.test/x-2.tar.gz")
NO_PAGE = b"<html><body>Please log in.</body></html>"


def test_a_page_is_fetched_rewritten_and_a_hit_from_then_on(cached: Cached) -> None:
    """With the same bytes and the same ETag; who answered is said both times."""
    miss = cached.get(TARGET)
    cached.client.answer_whole(PAGE, (("content-type", "text/html"), ("last-modified", "x"), ("etag", '"theirs"')))
    hit = cached.get(TARGET)
    assert cached.client.urls == ["https://alpha.test/simple/x/"]
    assert (miss.said, hit.said) == ("MISS", "HIT")
    assert miss.body == hit.body
    assert b"../../packages/x-1.tar.gz" in hit.body
    for visit in (miss, hit):
        assert visit.is_whole
        assert visit.field("etag") == miss.field("etag") != '"theirs"'
        assert visit.field("x-upstream") == "alpha"
        assert visit.field("content-type") == "text/html; charset=utf-8"
        assert visit.field("content-length") == str(len(hit.body))
        assert visit.field("last-modified") is None
    assert (miss.field("age"), hit.field("age")) == (None, "0")
    assert cached.events.of("fetched") == [(TARGET, "alpha", len(PAGE), 0.0)]


def test_the_project_list_is_a_page_too(cached: Cached) -> None:
    """Its links lead to projects, not to files."""
    visit = cached.get("/simple/")
    cached.client.answer_whole(page("/simple/Foo_Bar/"))
    assert b'href="foo-bar/"' in visit.body
    assert cached.get("/simple/").said == "HIT"


def test_one_fetch_serves_all_who_wait(cached: Cached) -> None:
    """Those who came later are told that they were collapsed."""
    visits = [cached.get(TARGET) for _ in range(5)]
    head = cached.head(TARGET)
    assert len(cached.client.sent) == 1
    cached.client.answer_whole(PAGE)
    assert {visit.body for visit in visits} == {visits[0].body}
    assert all(visit.said == "MISS" for visit in (*visits, head))
    assert ["collapsed" in (visit.field("cache-status") or "") for visit in visits] == [False, True, True, True, True]
    assert (head.body, head.field("content-length")) == (b"", str(len(visits[0].body)))


def test_a_page_is_not_sent_before_it_is_whole(cached: Cached) -> None:
    """It may turn out to be none."""
    visit = cached.get(TARGET)
    response = cached.client.answer(length=len(PAGE))
    response.give(PAGE[:-1])
    assert visit.is_waiting
    response.give(PAGE[-1:])
    assert visit.is_waiting
    response.end()
    assert visit.is_whole


@pytest.mark.parametrize("trouble", ["no page", "cut", "silent", "refused", "500", "404"])
def test_the_next_upstream_is_asked_when_one_gives_no_page(cached: Cached, trouble: str) -> None:
    """All who wait get the other one's; nothing of the first is left."""
    visits = [cached.get(TARGET), cached.get(TARGET)]
    match trouble:
        case "no page":
            cached.client.answer_whole(NO_PAGE)
        case "cut":
            response = cached.client.answer(length=len(PAGE))
            response.give(PAGE[:-1])
            response.end()
        case "silent":
            response = cached.client.answer()
            response.give(PAGE)
            response.fail(UpstreamTimeout("no byte in mid-body"))
        case "refused":
            cached.client.refuse(UpstreamUnavailable("down"))
        case status:
            cached.client.answer(int(status))
    assert cached.client.waiting == ["https://beta.test/pypi/simple/x/"]
    assert all(visit.is_waiting for visit in visits)
    cached.client.answer_whole(PAGE)
    assert [visit.field("x-upstream") for visit in visits] == ["beta", "beta"]
    assert cached.get(TARGET).field("x-upstream") == "beta"
    assert len(cached.events.of("upstream_failed")) == (0 if trouble == "404" else 1)


def test_all_who_wait_hear_that_nobody_has_it(cached: Cached) -> None:
    """It is not remembered for those who ask later."""
    visits = [cached.get(TARGET), cached.head(TARGET)]
    cached.client.answer(404)
    cached.client.answer(404)
    assert [visit.status for visit in visits] == [404, 404]
    again = cached.get(TARGET)
    cached.client.answer_whole(PAGE)
    assert again.is_whole


def test_a_client_that_leaves_takes_nothing_from_the_others(cached: Cached) -> None:
    """And the page is kept, whoever is there when it comes."""
    first, second = cached.get(TARGET), cached.get(TARGET)
    first.leave()
    cached.client.answer_whole(PAGE)
    assert second.is_whole
    third = cached.get(TARGET)
    assert third.said == "HIT"


def test_it_is_a_hit_while_the_disk_is_still_syncing_it(cached: Cached) -> None:
    """Nobody waits for the disk, and nobody asks upstream again."""
    cached.threads.is_held = True
    miss = cached.get(TARGET)
    cached.client.answer_whole(PAGE)
    assert miss.is_whole
    assert cached.entries() == []
    hit = cached.get(TARGET)
    assert (hit.said, hit.body, hit.field("etag")) == ("HIT", miss.body, miss.field("etag"))
    cached.threads.let_go()
    kept = cached.get(TARGET)
    assert (kept.said, kept.body, kept.field("etag")) == ("HIT", miss.body, miss.field("etag"))


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename", "make_folders"])
def test_a_disk_that_fails_costs_no_client_a_page(cached: Cached, call: str) -> None:
    """It is told; the page is fetched again the next time."""
    cached.files.broken.add(call)
    for _ in range(2):
        visit = cached.get(TARGET)
        cached.client.answer_whole(PAGE)
        assert visit.is_whole
    assert cached.events.of("storage_failed")
    assert cached.entries() == []
    cached.files.broken.clear()
    visit = cached.get(TARGET)
    cached.client.answer_whole(PAGE)
    assert cached.get(TARGET).said == "HIT"
    assert cached.events.of("storage_works")
    for part in cached.parts():  # what a disk that is gone could not remove is the next start's to clear
        part.unlink()


def test_an_expired_page_is_fetched_again_and_replaces_the_old(cached: Cached) -> None:
    """It is fresh for as long as the setting says."""
    cached.keep_page("x", PAGE)
    cached.clock.advance(299)
    assert cached.get(TARGET).said == "HIT"
    cached.clock.advance(1)
    visit = cached.get(TARGET)
    cached.client.answer_whole(page("/packages/x-3.tar.gz"))
    assert visit.said == "MISS"
    assert b"x-3" in cached.get(TARGET).body
    assert len(cached.entries()) == 1


@pytest.mark.parametrize(("is_large", "threads"), [(False, 0), (True, 1)])
def test_a_large_page_is_parsed_in_a_thread(cached: Cached, is_large: bool, threads: int) -> None:
    """It would hold up everybody; a small one would gain nothing."""
    links = [f"/packages/x-{number}.tar.gz" for number in range(FORMED_HERE_BYTES // 50 if is_large else 3)]
    content = page(*links)
    assert (len(content) > FORMED_HERE_BYTES) is is_large
    cached.threads.is_held = True
    visit = cached.get(TARGET)
    cached.client.answer_whole(content)
    assert (visit.is_waiting, cached.threads.calls) == (is_large, threads if is_large else 1)
    cached.threads.let_go()
    assert visit.body.count(b"<a ") == len(links)


def test_an_error_of_ours_reaches_all_who_wait_and_the_log(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, nothing is left, and the next one may fare better."""
    with monkeypatch.context() as patched:
        patched.setattr("pipcache.engine.forming.form_page", lambda *_: 1 // 0)
        visits = [cached.get(TARGET), cached.get(TARGET)]
        cached.client.answer_whole(PAGE)
    assert [visit.status for visit in visits] == [500, 500]
    assert cached.events.of("crashed") == [(f"fetching {TARGET}",)]
    cached.events.crashes.clear()
    visit = cached.get(TARGET)
    cached.client.answer_whole(PAGE)
    assert visit.is_whole


def test_what_upstream_says_in_fields_that_break_a_response_is_not_kept(cached: Cached) -> None:
    """And does not make the page one that can never be a hit."""
    visit = cached.get(TARGET)
    cached.client.answer_whole(PAGE, (("etag", '"a\x01b"'), ("x-odd", "a\rb"), ("x-fine", "yes")))
    assert visit.field("x-fine") == "yes"
    hit = cached.get(TARGET)
    assert (hit.said, hit.field("x-odd"), hit.field("x-fine")) == ("HIT", None, "yes")


def test_a_page_without_a_length_is_sent_and_not_kept(cached: Cached) -> None:
    """Closed without one, it may have been cut; nothing says that it was not."""
    for _ in range(2):
        visit = cached.get(TARGET)
        response = cached.client.answer(length=None)
        response.give(PAGE)
        response.end(length_was_known=False)
        assert (visit.is_whole, visit.said) == (True, "MISS")
