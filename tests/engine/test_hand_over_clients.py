"""A hand-over and those who look on: many clients, windows, those who leave meanwhile; nothing is left of it anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipcache.engine import fetch as fetching
from pipcache.rules.catalog import Limits
from pipcache.rules.errors import TruncatedBody, UpstreamUnavailable
from tests.fakes.cache import Cached, page, promised
from tests.fakes.rest import BODY, CHUNK, CUT, DEATHS, ETAG, PATH, asked_since, cut_off, die, give_part, part


@pytest.fixture
def cached(cached: Cached) -> Cached:
    """A cache whose page promises the file's digest."""
    cached.keep_page("x", page(promised(PATH, BODY)))
    return cached


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cached:
    """A cache that keeps nothing over 4000 bytes and whose windows are of 1000; with the file's digest."""
    monkeypatch.setattr(fetching, "WINDOW_BYTES", CHUNK)
    one = Cached(tmp_path / "small", Limits(max_bytes=8000, max_entries=100, high=0.9, low=0.7))
    one.keep_page("x", page(promised(PATH, BODY)))
    return one


def health_of(cached: Cached) -> dict[str, int]:
    """How often each upstream failed in a row."""
    return {name: health.consecutive_failures for name, health in cached.upstreams.health.items()}


def test_all_who_follow_go_on_and_others_join_meanwhile(cached: Cached) -> None:
    """A quick one, a slow one, a part, one that comes while nobody sends, one that leaves then."""
    quick, slow, leaver = (cached.get(PATH) for _ in range(3))
    slow.sink.pause()
    cut_off(cached, "stall", etag=ETAG)
    late, near, head = cached.get(PATH), cached.get(PATH, ("range", "bytes=4000-4999")), cached.head(PATH)
    leaver.leave()
    assert [visit.end for visit in (quick, slow, late, near)] == [None] * 4
    assert (late.body, head.field("content-length")) == (BODY[:CUT], str(len(BODY)))
    give_part(cached, CUT)
    slow.sink.resume()
    assert [(visit.body, visit.is_whole) for visit in (quick, slow, late)] == [(BODY, True)] * 3
    assert (near.status, near.body) == (206, BODY[4000:5000])
    assert len(cached.client.sent) == 3


def test_all_who_follow_are_broken_off_when_nobody_has_the_rest(cached: Cached) -> None:
    """The slow one too, and the one that came last; the next request begins anew."""
    visits = [cached.get(PATH), cached.get(PATH)]
    visits[1].sink.pause()
    cut_off(cached, "reset")
    visits.append(cached.get(PATH))
    cached.client.refuse(UpstreamUnavailable("down"))
    assert [visit.end for visit in visits] == [None] * 3
    cached.client.answer(404)
    assert [visit.end for visit in visits] == ["aborted"] * 3
    assert cached.keep_file(PATH, BODY).is_whole


def test_when_all_leave_meanwhile_the_rest_is_still_kept(cached: Cached) -> None:
    """It is on disk, and worth as much as before."""
    visit = cached.get(PATH)
    cut_off(cached, "reset")
    visit.leave()
    give_part(cached, CUT)
    assert cached.get(PATH).said == "HIT"


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("is_whole", [True, False])
def test_a_window_is_handed_over_at_the_pace_of_its_slowest(small: Cached, how: str, is_whole: bool) -> None:
    """It was paused when its upstream died, so the next one is paused from its first byte; a whole one is skipped."""
    quick, slow = small.get(PATH), small.get(PATH)
    slow.sink.pause()
    cut_off(small, how, etag=ETAG)
    rest = small.client.answer(200, len(BODY)) if is_whole else part(small, CUT)
    assert (rest.is_paused, quick.end, slow.end) == (True, None, None)
    slow.sink.resume()
    small.clock.advance(0)
    assert not rest.is_paused
    for start in range(0 if is_whole else CUT, len(BODY), CHUNK):
        rest.give(BODY[start : start + CHUNK])
        small.clock.advance(0)
        assert not rest.is_paused
    rest.end()
    assert [(visit.body, visit.is_whole) for visit in (quick, slow)] == [(BODY, True)] * 2
    assert len(small.entries()) == 1
    small.check_books()


def test_a_window_that_broke_off_is_joined_by_nobody(small: Cached) -> None:
    """The bytes that were let go are held nowhere: one who comes meanwhile gets a transfer of its own."""
    visit = small.get(PATH)
    cut_off(small, "reset")
    late = small.get(PATH)
    give_part(small, CUT)
    small.client.answer_whole(BODY)
    assert [(each.body, each.is_whole) for each in (visit, late)] == [(BODY, True)] * 2
    small.check_books()


@pytest.mark.parametrize("moment", ["before the answer", "paused", "in the rest"])
def test_a_window_that_all_leave_meanwhile_is_nobody_s_failure(small: Cached, moment: str) -> None:
    """The answer that still comes is given up, and no other upstream is asked; the one that broke off counts once."""
    visit = small.get(PATH)
    if moment == "paused":
        visit.sink.pause()
    cut_off(small, "stall")
    if moment == "before the answer":
        visit.leave()
    rest = part(small, CUT)
    if moment != "before the answer":
        visit.leave()
    assert (rest.is_abandoned, len(small.client.sent), health_of(small)) == (True, 3, {"alpha": 1})
    assert len(small.events.of("fetch_broke")) == 1
    small.check_books()


def test_a_window_whose_answer_is_none_is_asked_of_no_other_when_all_have_left(small: Cached) -> None:
    """Nobody is there to have it."""
    visit = small.get(PATH)
    cut_off(small, "reset")
    visit.leave()
    small.client.refuse(UpstreamUnavailable("down"))
    assert (small.client.waiting, len(small.client.sent)) == ([], 3)
    small.check_books()


@pytest.mark.parametrize("room_bytes", [0, 1, 2500, CUT, CUT + 500])
@pytest.mark.parametrize("is_slow", [True, False])
def test_a_disk_that_fails_and_an_upstream_that_dies(cached: Cached, room_bytes: int, is_slow: bool) -> None:
    """Both in one body: those who are there get all of it."""
    cached.files.room_bytes = room_bytes
    visits = [cached.get(PATH), cached.get(PATH)]
    if is_slow:
        visits[1].sink.pause()
    cut_off(cached, "reset", etag=ETAG)
    give_part(cached, CUT)
    if is_slow:
        visits[1].sink.resume()
    assert [(visit.body, visit.is_whole) for visit in visits] == [(BODY, True)] * 2
    assert len(cached.events.of("storage_failed")) == 1
    assert len(cached.entries()) == 1


@pytest.mark.parametrize("room_bytes", [0, 2500])
def test_a_full_disk_is_told_of_also_where_nobody_has_the_rest(cached: Cached, room_bytes: int) -> None:
    """And calls for room."""
    cached.files.room_bytes = room_bytes
    visit = cached.get(PATH)
    cut_off(cached, "reset")
    cached.client.answer(503)
    cached.client.answer(503)
    assert visit.end == "aborted"
    assert (len(cached.events.of("storage_failed")), cached.calls_for_room) == (1, 1)


def test_a_disk_that_fails_in_the_rest_with_nobody_there_ends_it(cached: Cached) -> None:
    """There is nobody to fetch for any more."""
    visit = cached.get(PATH)
    cut_off(cached, "reset")
    visit.leave()
    rest = part(cached, CUT)
    cached.files.room_bytes = 0
    rest.give(BODY[CUT : CUT + CHUNK])
    assert (rest.is_abandoned, len(cached.client.sent), health_of(cached)) == (True, 3, {"alpha": 1})


def test_an_error_of_ours_meanwhile_breaks_all_off_and_is_logged(cached: Cached) -> None:
    """Nobody waits for ever, and the next one may fare better."""
    visit = cached.get(PATH)
    cut_off(cached, "reset")
    cached.client.refuse(ZeroDivisionError("a bug"))
    assert (visit.end, cached.events.of("crashed")) == ("aborted", [(f"fetching {PATH}",)])
    cached.events.crashes.clear()
    assert cached.keep_file(PATH, BODY).is_whole
    for left in cached.parts():  # it is the next sweep's to clear
        left.unlink()


def test_one_that_leaves_inside_the_write_of_the_first_byte_of_the_rest(small: Cached) -> None:
    """The window is given up in the midst of offering it, once."""
    visit = small.get(PATH)
    cut_off(small, "reset")
    rest = part(small, CUT)
    visit.sink.on_write = lambda _: visit.leave()
    rest.give(BODY[CUT : CUT + CHUNK])
    small.clock.advance(0)
    assert (rest.is_abandoned, small.client.waiting) == (True, [])
    small.check_books()


def test_each_death_of_a_long_row_counts_and_the_last_giver_is_well(cached: Cached) -> None:
    """The first broke off twice, the second gave the end."""
    visit = cached.get(PATH)
    cut_off(cached, "stall")
    die(part(cached, CUT), "reset")
    assert health_of(cached) == {"alpha": 2}
    give_part(cached, CUT)
    assert (health_of(cached), visit.is_whole) == ({"alpha": 2}, True)
    assert [type(event[2]) for event in cached.events.of("upstream_failed")] == [TruncatedBody]
    assert asked_since(cached, 2)[1] == ("beta", f"bytes={CUT}-", None)
