"""What becomes of a stale page: validated, served meanwhile, served instead of an error; and what is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from pipcache.engine.absences import MAX_ABSENCES, Absences
from pipcache.rules.errors import NotServed, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.freshness import Grace, Ttls
from pipcache.rules.key import CacheKey
from pipcache.rules.routes import RouteKind
from tests.fakes.cache import ALPHA, BETA, Cached, page

TARGET = "/simple/x/"
PAGE = page("/packages/x-1.tar.gz")
OTHER_PAGE = page("/packages/x-2.tar.gz")
FIELDS = (("content-type", "text/html"), ("etag", 'W/"theirs"'), ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"))
VALIDATORS = (("if-none-match", 'W/"theirs"'), ("if-modified-since", "Mon, 01 Jan 2024 00:00:00 GMT"))
TTL = 300
DAY = 86_400


@pytest.fixture
def cached(tmp_path: Path) -> Iterator[Cached]:
    """A cache that may serve what is stale: 30 s while it validates, a week when all fail."""
    one = Cached(tmp_path / "cache", grace=Grace(30.0, 7.0 * DAY), negative_seconds=60.0)
    yield one
    one.check_books()


def keep(cached: Cached, content: bytes = PAGE, *, age: float) -> None:
    """Have the page from the first upstream, with validators, some seconds ago."""
    cached.get(TARGET)
    cached.client.answer_whole(content, FIELDS)
    cached.clock.advance(age)


def serial(number: int, *links: str) -> bytes:
    """A page that says its serial."""
    return page(*links) + f"<!--SERIAL {number}-->".encode()


# -- validation ------------------------------------------------------------------------------------------------------


def test_a_stale_page_is_validated_once_for_all(cached: Cached) -> None:
    """By the validators of the upstream that gave it; its 304 makes the page fresh anew, with nothing else written."""
    keep(cached, age=TTL + 31)
    visits = [cached.get(TARGET), cached.get(TARGET)]
    assert cached.client.waiting == ["https://alpha.test/simple/x/"]
    assert cached.client.sent[-1].request.validators == VALIDATORS
    cached.client.answer(304)
    assert [visit.said for visit in visits] == ["REVALIDATED", "REVALIDATED"]
    assert [visit.field("cache-status") for visit in visits] == [
        "pipcache; fwd=stale; fwd-status=304",
        "pipcache; fwd=stale; fwd-status=304; collapsed",
    ]
    assert all(visit.is_whole and visit.field("age") == "0" for visit in visits)
    cached.clock.advance(TTL - 1)
    hit = cached.get(TARGET)
    assert (hit.said, hit.body, hit.field("age")) == ("HIT", visits[0].body, str(TTL - 1))
    assert cached.events.of("validated") == [(TARGET, "alpha")]


def test_another_version_replaces_the_stale_one(cached: Cached) -> None:
    """The upstream says 200: a miss whose reason is that what was there is stale."""
    keep(cached, age=TTL + 31)
    visit = cached.get(TARGET)
    cached.client.answer_whole(OTHER_PAGE)
    assert (visit.said, visit.field("cache-status")) == ("MISS", "pipcache; fwd=stale")
    assert b"x-2" in cached.get(TARGET).body


def test_the_same_bytes_from_an_upstream_without_validators_keep_the_etag(cached: Cached) -> None:
    """Clients that have the page need not fetch it again."""
    first = cached.get(TARGET)
    cached.client.answer_whole(PAGE, (("content-type", "text/html"),))
    cached.clock.advance(TTL + 31)
    visit = cached.get(TARGET)
    assert cached.client.sent[-1].request.validators == ()
    cached.client.answer_whole(PAGE, (("content-type", "text/html"),))
    assert (visit.said, visit.field("etag")) == ("REVALIDATED", first.field("etag"))
    assert cached.get(TARGET).said == "HIT"


def test_validators_go_to_no_other_upstream(cached: Cached) -> None:
    """What one server calls a version says nothing about another's; a 304 that was not asked for is no answer."""
    keep(cached, age=TTL + 31)
    visit = cached.get(TARGET)
    cached.client.refuse(UpstreamUnavailable("down"))
    assert cached.client.waiting == ["https://beta.test/pypi/simple/x/"]
    assert cached.client.sent[-1].request.validators == ()
    cached.client.answer(304)
    assert visit.said == "STALE"


def test_a_disk_that_cannot_note_the_validation_costs_nothing_but_the_next_one(cached: Cached) -> None:
    """The page is as fresh as its upstream said."""
    keep(cached, age=TTL + 31)
    cached.files.broken.add("rename")
    for _ in range(2):
        visit = cached.get(TARGET)
        cached.client.answer(304)
        assert (visit.said, visit.is_whole) == ("REVALIDATED", True)
    cached.files.broken.clear()


# -- served as it is -------------------------------------------------------------------------------------------------


def test_just_after_its_time_a_page_is_served_at_once_and_validated_behind(cached: Cached) -> None:
    """Nobody waits; the next ones get what the validation came to."""
    keep(cached, age=TTL + 29)
    visits = [cached.get(TARGET), cached.get(TARGET)]
    assert [visit.said for visit in visits] == ["STALE", "STALE"]
    assert visits[0].field("age") == str(TTL + 29)
    assert visits[0].field("cache-status") == "pipcache; hit; ttl=-29"
    assert visits[0].field("cache-control") == "public, max-age=0"
    assert len(cached.client.waiting) == 1
    cached.client.answer_whole(OTHER_PAGE)
    after = cached.get(TARGET)
    assert (after.said, b"x-2" in after.body) == ("HIT", True)


@pytest.mark.parametrize(
    "answers",
    [
        ["down", "down"],
        ["silent", "500"],
        ["429", "403"],
        ["404", "500"],
        ["no page", "no page"],
        ["down", "404"],
    ],
)
def test_when_every_upstream_fails_the_stale_page_is_the_answer(cached: Cached, answers: list[str]) -> None:
    """With its age; and where the one that gave it does not answer, that another lacks it says nothing."""
    keep(cached, age=6 * DAY)
    visit = cached.get(TARGET)
    for answer in answers:
        match answer:
            case "down":
                cached.client.refuse(UpstreamUnavailable("down"))
            case "silent":
                cached.client.refuse(UpstreamTimeout("silent"))
            case "no page":
                cached.client.answer_whole(b"<html>Please log in.</html>")
            case status:
                cached.client.answer(int(status))
    assert (visit.said, visit.field("age"), visit.field("x-upstream")) == ("STALE", str(6 * DAY), "alpha")
    assert cached.get(TARGET).said == "STALE"
    assert cached.client.waiting == [], "asked again though it was in vain a moment ago"
    cached.clock.advance(10)
    again = cached.get(TARGET)
    cached.client.answer_whole(OTHER_PAGE, url=cached.client.waiting[0])
    assert again.said == "MISS"


def test_a_client_does_not_wait_for_ever_while_there_is_a_stale_page(cached: Cached) -> None:
    """Installers give up long before an upstream that hangs does; the validation goes on behind."""
    keep(cached, age=TTL + 31)
    visit = cached.get(TARGET)
    cached.clock.advance(7.9)
    assert visit.is_waiting
    cached.clock.advance(0.2)
    assert visit.said == "STALE"
    cached.client.answer_whole(OTHER_PAGE, url=cached.client.waiting[0])
    while cached.client.waiting:
        cached.client.refuse(UpstreamUnavailable("too late"))
    assert b"x-2" in cached.get(TARGET).body


def test_there_is_an_end_to_serving_what_is_stale(cached: Cached) -> None:
    """After its grace the client hears what the upstreams came to."""
    keep(cached, age=TTL + 7 * DAY)
    visit = cached.get(TARGET)
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.refuse(UpstreamUnavailable("down"))
    assert visit.status == 502


def test_a_page_that_is_gone_is_gone(cached: Cached) -> None:
    """Its own upstream says so, and the others too: it is not served any more, whatever fails later."""
    keep(cached, age=TTL + 31)
    visit = cached.get(TARGET)
    cached.client.answer(404)
    cached.client.answer(404)
    assert visit.status == 404
    assert cached.entries() == []
    cached.clock.advance(61)
    later = cached.get(TARGET)
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.refuse(UpstreamUnavailable("down"))
    assert later.status == 502


def test_a_page_is_not_lost_to_one_mirror_that_lacks_it(cached: Cached) -> None:
    """Another has it: that one's is the answer."""
    keep(cached, age=TTL + 31)
    visit = cached.get(TARGET)
    cached.client.answer(404)
    cached.client.answer_whole(OTHER_PAGE)
    assert (visit.said, visit.field("x-upstream")) == ("MISS", "beta")


# -- mirrors that lag ------------------------------------------------------------------------------------------------


def test_an_older_page_of_another_mirror_does_not_replace_a_newer_one(cached: Cached) -> None:
    """It lags; that is no failure of it, and better than nothing only when what is kept is too old for anything."""
    keep(cached, serial(17, "/packages/x-2.tar.gz"), age=TTL + 31)
    visit = cached.get(TARGET)
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.answer_whole(serial(16, "/packages/x-1.tar.gz"))
    assert (visit.said, b"x-2" in visit.body) == ("STALE", True)
    assert "beta" not in cached.upstreams.health
    cached.clock.advance(7 * DAY)
    later = cached.get(TARGET)
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.answer_whole(serial(16, "/packages/x-1.tar.gz"))
    assert (later.said, later.field("x-upstream")) == ("MISS", "beta")


@pytest.mark.parametrize("number", [17, 18])
def test_a_page_that_is_no_older_does(cached: Cached, number: int) -> None:
    """Serials are PyPI's, and mirrors share them."""
    keep(cached, serial(17, "/packages/x-1.tar.gz"), age=TTL + 31)
    visit = cached.get(TARGET)
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.answer_whole(serial(number, "/packages/x-2.tar.gz"))
    assert (visit.said, visit.field("x-upstream")) == ("MISS", "beta")


def test_an_upstream_may_take_its_own_page_back(cached: Cached) -> None:
    """A lower serial of the same one is its own affair."""
    keep(cached, serial(17, "/packages/x-2.tar.gz"), age=TTL + 31)
    visit = cached.get(TARGET)
    cached.client.answer_whole(serial(3, "/packages/x-1.tar.gz"))
    assert (visit.said, b"x-1" in visit.body) == ("MISS", True)


def test_the_page_of_one_that_is_not_trusted_any_more_is_not_served(cached: Cached) -> None:
    """The settings have changed since it was fetched."""
    keep(cached, age=0)
    cached.upstreams.now_known((evolve(ALPHA, is_trusted=False), BETA))
    visit = cached.get(TARGET)
    assert cached.client.waiting == ["https://beta.test/pypi/simple/x/"]
    cached.client.answer_whole(OTHER_PAGE)
    assert visit.field("x-upstream") == "beta"


# -- what clients ask of a cache -------------------------------------------------------------------------------------


def test_no_cache_has_a_page_validated_but_not_twice_in_a_moment(cached: Cached) -> None:
    """Uv says it for --refresh, with every request of a resolution."""
    keep(cached, age=10)
    refreshing = ("cache-control", "no-cache")
    visit = cached.get(TARGET, refreshing)
    cached.client.answer(304)
    assert (visit.said, visit.field("cache-status")) == ("REVALIDATED", "pipcache; fwd=request; fwd-status=304")
    cached.clock.advance(1.9)
    assert cached.get(TARGET, refreshing).said == "HIT"
    cached.clock.advance(0.2)
    again = cached.get(TARGET, refreshing)
    cached.client.answer(304)
    assert again.said == "REVALIDATED"


@pytest.mark.parametrize("value", ["max-age=0", "max-age=0, no-store", "no-store", "max-stale=9"])
def test_other_wishes_do_not_void_the_cache(cached: Cached, value: str) -> None:
    """Pip says max-age=0 with every page."""
    keep(cached, age=10)
    assert cached.get(TARGET, ("cache-control", value)).said == "HIT"


def test_files_are_not_validated(cached: Cached) -> None:
    """They never change."""
    cached.keep_page("x", PAGE)
    cached.keep_file("/packages/x-1.tar.gz", b"file")
    assert cached.get("/packages/x-1.tar.gz", ("cache-control", "no-cache")).said == "HIT"


@pytest.mark.parametrize("target", [TARGET, "/packages/x-1.tar.gz"])
def test_only_if_cached_asks_nobody(cached: Cached, target: str) -> None:
    """504 where there is nothing that is fresh."""
    wish = ("cache-control", "only-if-cached")
    assert cached.get(target, wish).status == 504
    assert cached.client.sent == []
    cached.keep_page("x", PAGE)
    cached.keep_file("/packages/x-1.tar.gz", b"file")
    assert cached.get(target, wish).status == 200


# -- what nobody has -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/simple/y/", "/packages/y-1.tar.gz", "/other"])
@pytest.mark.parametrize("second", ["404", "410", "down"])
def test_what_nobody_has_is_remembered_for_a_while(cached: Cached, target: str, second: str) -> None:
    """Whoever did not answer at all does not change that. Clients are told that nobody was asked."""
    visit = cached.get(target)
    while cached.client.waiting:
        if "beta" in cached.client.waiting[0] and second != "404":
            if second == "down":
                cached.client.refuse(UpstreamUnavailable("down"))
            else:
                cached.client.answer(int(second))
        else:
            cached.client.answer(404)
    assert visit.status == 404
    asked = len(cached.client.sent)
    for _ in range(3):
        again = cached.get(target)
        assert again.status == 404
        assert isinstance(again.error, NotServed)
        assert again.error.is_remembered
    assert len(cached.client.sent) == asked
    cached.clock.advance(61)
    later = cached.get(target)
    assert later.is_waiting
    while cached.client.waiting:
        cached.client.answer(404)


@pytest.mark.parametrize("second", ["403", "500", "no page"])
def test_trouble_is_not_remembered_as_absence(cached: Cached, second: str) -> None:
    """The next client asks again, whatever this one heard."""
    cached.get(TARGET)
    cached.client.answer(404)
    if second == "no page":
        cached.client.answer_whole(b"<html>Please log in.</html>")
    else:
        cached.client.answer(int(second))
    again = cached.get(TARGET)
    cached.client.answer_whole(PAGE, url=cached.client.waiting[0])
    assert again.status == 200


def test_no_cache_asks_again_for_what_was_absent(cached: Cached) -> None:
    """A package that was uploaded a moment ago: and once it is there, it is there for all."""
    cached.get(TARGET)
    cached.client.answer(404)
    cached.client.answer(404)
    cached.clock.advance(3)
    visit = cached.get(TARGET, ("cache-control", "no-cache"))
    cached.client.answer_whole(PAGE)
    assert visit.status == 200
    assert cached.get(TARGET).said == "HIT"


def test_absences_are_bounded_and_shorter_than_the_ttl() -> None:
    """The oldest goes first; a class whose answers live shorter has shorter absences."""
    now = [0.0]
    absences = Absences(lambda: now[0], Ttls(5.0, 100.0, 100.0), 60.0)
    error = NotServed(404, "No upstream has this.", is_absence=True)
    for number in range(MAX_ABSENCES + 5):
        absences.note(CacheKey(f"GET-/packages/{number}"), RouteKind.FILE, error)
    assert len(absences) == MAX_ABSENCES
    absences.check(CacheKey("GET-/packages/4"))
    with pytest.raises(NotServed):
        absences.check(CacheKey("GET-/packages/5"))
    absences.note(CacheKey("GET-/simple/x/"), RouteKind.PROJECT_PAGE, error)
    now[0] = 5.0
    absences.check(CacheKey("GET-/simple/x/"))
