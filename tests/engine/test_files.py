"""Files as they stream: kept, collapsed, followed while they grow, and served whatever the disk does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipcache.rules.catalog import Limits
from pipcache.rules.errors import UpstreamTimeout, UpstreamUnavailable
from tests.fakes.cache import Cached, page, promised

BODY = bytes(range(256)) * 20
PATH = "/packages/aa/x-1.tar.gz"
CHUNK = 1000


@pytest.fixture(autouse=True)
def with_page(cached: Cached) -> None:
    """The project's page is kept, and promises the file's digest."""
    cached.keep_page("x", page(promised(PATH, BODY)))


@pytest.fixture
def small(tmp_path: Path) -> Cached:
    """A cache that keeps nothing over 4000 bytes."""
    one = Cached(tmp_path / "small", Limits(max_bytes=8000, max_entries=100, high=0.9, low=0.7))
    one.keep_page("x", page(PATH))
    return one


def test_a_file_streams_is_kept_and_is_a_hit(cached: Cached) -> None:
    """Each chunk goes on as it comes; MISS and HIT differ in what they say of themselves only."""
    miss, response = cached.begin_file(PATH, len(BODY))
    assert miss.is_waiting
    response.give(BODY[:CHUNK])
    assert (miss.status, miss.field("content-length"), miss.body) == (200, str(len(BODY)), BODY[:CHUNK])
    response.give(BODY[CHUNK:])
    response.end()
    hit = cached.get(PATH)
    assert [(visit.said, visit.body, visit.is_whole) for visit in (miss, hit)] == [
        ("MISS", BODY, True),
        ("HIT", BODY, True),
    ]
    digest = hashlib.sha256(BODY).hexdigest()
    for name, value in (("etag", f'"{digest[:32]}"'), ("x-upstream", "alpha"), ("accept-ranges", "bytes")):
        assert (miss.field(name), hit.field(name)) == (value, value)
    assert "immutable" in (hit.field("cache-control") or "")
    assert cached.events.of("fetched")[-1][:3] == (PATH, "alpha", len(BODY))


def test_the_etag_is_known_before_the_first_byte_also_where_no_digest_is(cached: Cached) -> None:
    """It is the same when the body is kept."""
    visit, response = cached.begin_file("/other/thing", 4)
    response.give(b"d")
    etag = visit.field("etag")
    assert etag
    response.give_all(b"ata")
    assert cached.get("/other/thing").field("etag") == etag


def test_all_who_want_it_share_one_transfer(cached: Cached) -> None:
    """Before its head, in mid-body and when it is whole."""
    first, second = cached.get(PATH), cached.get(PATH)
    head = cached.head(PATH)
    response = cached.client.answer(length=len(BODY))
    response.give(BODY[:CHUNK])
    third = cached.get(PATH)
    assert third.body == BODY[:CHUNK]
    response.give(BODY[CHUNK:])
    response.end()
    assert [visit.body for visit in (first, second, third)] == [BODY] * 3
    assert [visit.said for visit in (first, second, third, head)] == ["MISS"] * 4
    assert (head.body, head.field("content-length")) == (b"", str(len(BODY)))
    assert len(cached.client.sent) == 2


def test_while_the_disk_syncs_it_is_a_hit(cached: Cached) -> None:
    """For ranges, conditions and HEAD too; a slow client reads on after it was published."""
    cached.threads.is_held = True
    slow, response = cached.begin_file(PATH, len(BODY))
    slow.sink.pause()
    response.give_all(BODY, CHUNK)
    hit, part, head = cached.get(PATH), cached.get(PATH, ("range", "bytes=-5")), cached.head(PATH)
    same = cached.get(PATH, ("if-none-match", hit.field("etag") or ""))
    assert [visit.said for visit in (hit, part, head, same)] == ["HIT"] * 4
    assert (hit.body, part.body, part.status, same.status) == (BODY, BODY[-5:], 206, 304)
    cached.threads.let_go()
    slow.sink.resume()
    assert (slow.body, slow.is_whole, cached.get(PATH).body) == (BODY, True, BODY)


def test_a_client_that_leaves_does_not_end_the_fetch(cached: Cached) -> None:
    """Whether before the head came or after; it is kept."""
    early, late = cached.get(PATH), cached.get(PATH)
    early.leave()
    response = cached.client.answer(length=len(BODY))
    response.give(BODY[:CHUNK])
    late.leave()
    response.give(BODY[CHUNK:])
    response.end()
    assert cached.get(PATH).said == "HIT"


def test_all_who_wait_hear_that_it_cannot_be_had(cached: Cached) -> None:
    """With one status; nothing of it is left."""
    visits = [cached.get(PATH), cached.get(PATH)]
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.refuse(UpstreamTimeout("silence"))
    assert [visit.status for visit in visits] == [504, 504]


@pytest.mark.parametrize("trouble", ["cut", "silent", "wrong"])
def test_a_body_that_is_not_right_breaks_all_off_and_is_not_kept(cached: Cached, trouble: str) -> None:
    """Where nobody has the rest, either. The next request heals it; it counts against the upstream."""
    visits = [cached.get(PATH), cached.get(PATH)]
    response = cached.client.answer(length=len(BODY))
    response.give(BODY[:CHUNK])
    match trouble:
        case "cut":
            response.end()
        case "silent":
            response.fail(UpstreamTimeout("silence"))
        case "wrong":
            response.give(bytes(len(BODY) - CHUNK))
            response.end()
    if trouble != "wrong":
        assert [visit.end for visit in visits] == [None, None]
        cached.client.refuse(UpstreamUnavailable("down"))
        cached.client.answer(404)
    assert [visit.end for visit in visits] == ["aborted", "aborted"]
    assert len(cached.entries()) == 1
    assert cached.upstreams.health["alpha"].consecutive_failures == (1 if trouble == "wrong" else 2)
    assert len(cached.events.of("fetch_broke")) == 1
    assert cached.keep_file(PATH, BODY).field("x-upstream") == ("beta" if trouble == "wrong" else "alpha")


def test_what_is_too_big_to_keep_is_passed_on(small: Cached) -> None:
    """Upstream is as fast as its client; the next one fetches it anew."""
    for _ in range(2):
        visit, response = small.begin_file(PATH, len(BODY))
        response.give_all(BODY, CHUNK)
        assert (visit.body, visit.said, visit.is_whole) == (BODY, "MISS", True)
    assert len(small.entries()) == 1
    small.check_books()


def test_one_who_comes_too_late_for_a_window_gets_a_transfer_of_its_own(small: Cached) -> None:
    """The bytes that were let go are held nowhere."""
    first, response = small.begin_file(PATH, len(BODY))
    response.give(BODY[:CHUNK])
    late = small.get(PATH)
    small.client.answer(length=len(BODY)).give_all(BODY, CHUNK)
    assert (late.body, late.is_whole, late.field("content-length")) == (BODY, True, str(len(BODY)))
    response.give(BODY[CHUNK:])
    response.end()
    assert first.is_whole
    small.check_books()


@pytest.mark.parametrize("moment", ["before the head", "in mid-body"])
def test_when_nobody_wants_a_window_any_more_upstream_is_let_go(small: Cached, moment: str) -> None:
    """That is no failure of the upstream, and nothing that an operator should read of."""
    for _ in range(4):
        visit = small.get(PATH)
        if moment == "before the head":
            visit.leave()
        response = small.client.answer(length=len(BODY))
        response.give(BODY[:CHUNK])
        if moment == "in mid-body":
            visit.leave()
        assert response.is_abandoned
    assert small.upstreams.health == {}
    assert small.events.of("fetch_broke") == []
    small.check_books()


def test_a_condition_that_is_met_lets_a_window_go_too(small: Cached) -> None:
    """The client has what it wants; nobody reads the body."""
    link = promised("/packages/y-1.tar.gz", BODY)
    small.keep_page("y", page(link))
    visit = small.get("/packages/y-1.tar.gz", ("if-none-match", f'"{hashlib.sha256(BODY).hexdigest()[:32]}"'))
    response = small.client.answer(length=len(BODY))
    response.give(BODY[:CHUNK])
    assert (response.is_abandoned, visit.status) == (True, 304)
    small.check_books()


def test_a_body_of_unknown_length_that_outgrows_the_limit_is_streamed_and_not_kept(small: Cached) -> None:
    """It goes on in its part, where a late one still joins it; it reserves nothing."""
    visit, response = small.begin_file(PATH, None)
    assert small.catalog.reserved_bytes == 0
    response.give(BODY[:4500])
    assert (visit.field("content-length"), small.catalog.reserved_bytes) == (None, 0)
    late = small.get(PATH)
    response.give(BODY[4500:])
    response.end()
    assert [(each.body, each.is_whole) for each in (visit, late)] == [(BODY, True)] * 2
    assert len(small.entries()) == 1
    assert small.events.of("storage_failed") == []
    small.check_books()


def test_a_body_of_unknown_length_is_kept_when_it_is_whole(cached: Cached) -> None:
    """By the chunks' terminator, or by its digest where the connection was just closed."""
    _, response = cached.begin_file("/other/chunked", None)
    response.give_all(BODY)
    assert cached.get("/other/chunked").field("content-length") == str(len(BODY))
    for path, said in ((PATH, "HIT"), ("/other/closed", None)):
        visit, response = cached.begin_file(path, None)
        response.give(BODY)
        response.end(length_was_known=False)
        assert visit.is_whole
        again = cached.get(path)
        if said is None:
            cached.client.answer_whole(BODY)
        assert again.said == (said or "MISS")


@pytest.mark.parametrize("call", ["create", "write", "sync", "rename", "make_folders"])
def test_a_disk_that_fails_costs_no_client_a_byte(cached: Cached, call: str) -> None:
    """It is told; storing goes on when the disk does."""
    cached.files.broken.add(call)
    fast, response = cached.begin_file(PATH, len(BODY))
    slow = cached.get(PATH)
    slow.sink.pause()
    response.give(BODY[:CHUNK])
    response.give(BODY[CHUNK:])
    response.end()
    slow.sink.resume()
    assert [(visit.body, visit.is_whole) for visit in (fast, slow)] == [(BODY, True)] * 2
    assert cached.events.of("storage_failed")
    assert len(cached.entries()) == 1
    cached.files.broken.clear()
    cached.keep_file(PATH, BODY)
    assert cached.get(PATH).said == "HIT"
    assert cached.events.all[-1] == ("storage_works",)


@pytest.mark.parametrize("room_bytes", [0, 1, 2500, len(BODY) - 1])
def test_a_disk_that_fills_up_in_mid_body_costs_no_client_a_byte(cached: Cached, room_bytes: int) -> None:
    """Those who are there get all of it, whatever they have read; it is told, also when they leave."""
    cached.files.room_bytes = room_bytes
    fast, response = cached.begin_file(PATH, len(BODY))
    slow = cached.get(PATH)
    slow.sink.pause()
    response.give_all(BODY, CHUNK)
    slow.sink.resume()
    assert [(visit.body, visit.is_whole) for visit in (fast, slow)] == [(BODY, True)] * 2
    assert len(cached.events.of("storage_failed")) == 1


def test_a_full_disk_is_told_of_also_when_the_fetch_is_given_up(cached: Cached) -> None:
    """The operator should know, whether or not anybody stayed."""
    cached.files.room_bytes = 500
    visit, response = cached.begin_file(PATH, len(BODY))
    response.give(BODY[:CHUNK])
    visit.leave()
    assert response.is_abandoned
    assert len(cached.events.of("storage_failed")) == 1


def test_an_error_of_ours_reaches_all_who_wait_and_the_log(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever, and nothing is left."""
    with monkeypatch.context() as patched:
        patched.setattr(cached.cache.files._planning, "_where_linked", lambda *_: 1 // 0)
        path = "/packages/y-1.tar.gz"
        visits = [cached.get(path), cached.get(path)]
        cached.client.answer_whole(page(path))
    assert [visit.status for visit in visits] == [500, 500]
    assert cached.events.of("crashed") == [(f"asking for {path}",)]
    cached.events.crashes.clear()
    assert cached.keep_file(path, BODY).is_whole


def test_an_error_of_ours_while_it_is_kept_is_no_client_s(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was served; the log says what happened."""
    with monkeypatch.context() as patched:
        patched.setattr(cached.holdings, "describe", lambda *_: 1 // 0)
        assert cached.keep_file(PATH, BODY).body == BODY
    assert cached.events.of("crashed") == [(f"fetching {PATH}",)]
    cached.events.crashes.clear()
    for part in cached.parts():  # it is the next start's to clear
        part.unlink()
