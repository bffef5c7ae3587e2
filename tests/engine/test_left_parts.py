"""Bodies that were left half done, by a kill or by a fetch that nobody could finish: whoever asks next goes on there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pipcache.edges.parts import RESUMABLE_SECONDS, WORTH_BYTES
from pipcache.engine.janitor import Janitor
from pipcache.rules.errors import TruncatedBody, UpstreamTimeout, UpstreamUnavailable
from tests.fakes.cache import EPOCH, Cached, page, promised
from tests.fakes.engine import begin, result_of
from tests.fakes.rest import ETAG, PATH, asked_since, give_part, notes, part, quarantined

BODY = bytes(number * 7 % 251 for number in range(5 * WORTH_BYTES))
CHUNK = WORTH_BYTES
CUT = 2 * WORTH_BYTES + 5
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def with_page(cached: Cached) -> None:
    """The project's page is kept, and promises the file's digest."""
    cached.keep_page("x", page(promised(PATH, BODY)))


def scan(cached: Cached) -> None:
    """What the start does with the directory."""
    janitor = Janitor(cached.store, cached.catalog, cached.limits, cached.clock, cached.now, cached.events)
    result_of(begin(janitor.scan()))


def leave(cached: Cached, content: bytes = BODY[:CUT], sha256: str | None = SHA256, age: float = 0.0) -> Path:
    """A part as a process leaves it that was killed; and a start that finds it."""
    name = f"{'a' * 32}.{sha256}.part" if sha256 else f"{'a' * 32}.part"
    left = cached.store.root / "tmp" / name
    left.write_bytes(content)
    os.utime(left, (EPOCH - age, EPOCH - age))
    scan(cached)
    return left


def is_whole_and_kept(cached: Cached, *visits: object) -> bool:
    """Whether all got the whole body, and the next one a hit; nothing of the part is left."""
    got = [(getattr(visit, "body", b""), getattr(visit, "is_whole", False)) for visit in visits]
    hit = cached.get(PATH)
    return got == [(BODY, True)] * len(visits) and (hit.said, hit.body, cached.parts()) == ("HIT", BODY, [])


def test_a_part_that_was_left_by_a_kill_is_gone_on_with(cached: Cached) -> None:
    """From where it ends; its clients get the whole body, and hear of it with the first byte that comes."""
    leave(cached)
    visits = [cached.get(PATH), cached.get(PATH)]
    assert asked_since(cached, 1) == [("alpha", f"bytes={CUT}-", None)]
    response = part(cached, CUT, BODY)
    assert all(visit.is_waiting for visit in visits)
    response.give(BODY[CUT : CUT + CHUNK])
    assert [visit.field("content-length") for visit in visits] == [str(len(BODY))] * 2
    assert visits[0].body == BODY[: CUT + CHUNK]
    assert cached.catalog.reserved_bytes == len(BODY)
    response.give_all(BODY[CUT + CHUNK :], CHUNK)
    assert is_whole_and_kept(cached, *visits)


def test_a_part_that_a_fetch_had_to_leave_is_gone_on_with(cached: Cached) -> None:
    """By the next request, without a start between; the upstreams send no byte twice."""
    visit = cached.get(PATH)
    first = cached.client.answer(200, len(BODY), (("etag", ETAG),))
    first.give(BODY[:CUT])
    first.fail(UpstreamTimeout("silence"))
    for _ in range(2):
        cached.client.refuse(UpstreamUnavailable("down"))
    assert visit.end == "aborted"
    assert [path.name.split(".")[1] for path in cached.parts()] == [SHA256]
    again = cached.get(PATH)
    assert asked_since(cached, 4)[0][1:] == (f"bytes={CUT}-", None)
    give_part(cached, CUT, BODY)
    assert is_whole_and_kept(cached, again)


@pytest.mark.parametrize(("sha256", "size"), [(None, CUT), (SHA256, WORTH_BYTES - 1)])
def test_what_cannot_be_gone_on_with_or_is_too_short_is_not_left(cached: Cached, sha256: str | None, size: int) -> None:
    """Its next request begins anew."""
    path = PATH if sha256 else "/other/thing"
    visit = cached.get(path)
    response = cached.client.answer(200, len(BODY))
    response.give(BODY[:size])
    response.fail(TruncatedBody("cut"))
    while cached.client.waiting:
        cached.client.answer(503)
    assert (visit.end, cached.parts()) == ("aborted", [])


@pytest.mark.parametrize(("age", "stays"), [(RESUMABLE_SECONDS - 1, True), (RESUMABLE_SECONDS, False), (-1e6, False)])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_part_is_kept_for_an_hour_where_its_name_says_its_digest(
    cached: Cached, age: float, stays: bool, sha256: str | None
) -> None:
    """Others go at the start, and so does one from a future that the clock was set back from."""
    left = leave(cached, sha256=sha256, age=age)
    assert left.exists() is (stays and sha256 is not None)
    visit = cached.get(PATH)
    assert asked_since(cached, 1)[0][1] == (f"bytes={CUT}-" if left.exists() else None)
    if left.exists():
        give_part(cached, CUT, BODY)
    else:
        cached.client.answer_whole(BODY)
    assert is_whole_and_kept(cached, visit)


@pytest.mark.parametrize("how", ["wrong offset", "another length", "dies at once", "503", "silent", "no bytes"])
def test_who_does_not_go_on_where_the_part_ends_is_passed_over(cached: Cached, how: str) -> None:
    """Nobody has seen a byte yet: the next upstream goes on with the same part."""
    leave(cached)
    visit = cached.get(PATH)
    match how:
        case "wrong offset":
            part(cached, CUT + 1, BODY)
        case "another length":
            cached.client.answer(200, 10)
        case "dies at once":
            part(cached, CUT, BODY).fail(TruncatedBody("cut"))
        case "no bytes":
            part(cached, CUT, BODY).end()
        case "503":
            cached.client.answer(503)
        case _:
            cached.client.refuse(UpstreamTimeout("silence"))
    assert visit.is_waiting
    assert asked_since(cached, 1) == [(name, f"bytes={CUT}-", None) for name in ("alpha", "beta")]
    give_part(cached, CUT, BODY)
    assert is_whole_and_kept(cached, visit)


def test_who_offers_no_ranges_sends_the_whole_and_the_part_is_skipped(cached: Cached) -> None:
    """Its bytes are the same ones, or the digest says so."""
    leave(cached)
    visit = cached.get(PATH)
    cached.client.answer_whole(BODY)
    assert is_whole_and_kept(cached, visit)


def test_a_resumed_body_that_breaks_off_is_handed_over(cached: Cached) -> None:
    """Like any other, once clients have seen some of it."""
    leave(cached)
    visit = cached.get(PATH)
    response = part(cached, CUT, BODY)
    response.give(BODY[CUT : CUT + CHUNK])
    response.fail(TruncatedBody("cut"))
    assert asked_since(cached, 2) == [("alpha", f"bytes={CUT + CHUNK}-", None)]
    give_part(cached, CUT + CHUNK, BODY)
    assert is_whole_and_kept(cached, visit)


@pytest.mark.parametrize("content", [BODY, BODY + b"more"])
def test_a_part_that_has_no_rest_is_fetched_from_the_start(cached: Cached, content: bytes) -> None:
    """Upstreams know of no bytes after the end; the part goes."""
    leave(cached, content)
    visit = cached.get(PATH)
    for _ in range(2):
        cached.client.answer(416)
    assert asked_since(cached, 3) == [("alpha", None, None)]
    cached.client.answer_whole(BODY)
    assert is_whole_and_kept(cached, visit)


def test_a_part_that_nobody_can_go_on_with_is_asked_for_from_the_start(cached: Cached) -> None:
    """Then its status is that of the last answers; nothing is left."""
    leave(cached)
    visit = cached.get(PATH)
    for _ in range(4):
        assert visit.is_waiting
        cached.client.answer(404)
    assert (visit.status, cached.parts()) == (404, [])


def test_a_wrong_part_that_nobody_has_seen_is_fetched_from_the_start(cached: Cached) -> None:
    """The rest came in one piece: nobody notices, the part is in quarantine, and the upstream is not blamed for it."""
    leave(cached, b"?" + BODY[1:CUT])
    visit = cached.get(PATH)
    part(cached, CUT, BODY).give_all(BODY[CUT:], len(BODY))
    assert (cached.upstreams.health, len(notes(cached)), len(quarantined(cached))) == ({}, 1, 1)
    assert asked_since(cached, 2) == [("alpha", None, None)]
    cached.client.answer_whole(BODY)
    assert is_whole_and_kept(cached, visit)


def test_a_wrong_part_that_clients_have_seen_breaks_them_off_once(cached: Cached) -> None:
    """The next request begins anew."""
    leave(cached, b"?" + BODY[1:CUT])
    visit = cached.get(PATH)
    give_part(cached, CUT, BODY)
    assert (visit.end, len(quarantined(cached)), cached.parts()) == ("aborted", 1, [])
    again = cached.get(PATH)
    assert asked_since(cached, 2)[0][1] is None
    cached.client.answer_whole(BODY)
    assert is_whole_and_kept(cached, again)


def test_a_part_that_cannot_be_read_is_fetched_from_the_start(cached: Cached) -> None:
    """The disk's trouble is not the client's."""
    left = leave(cached)
    cached.files.broken.add("read_at")
    visit = cached.get(PATH)
    cached.files.broken.clear()
    assert asked_since(cached, 1) == [("alpha", None, None)]
    cached.client.answer_whole(BODY)
    left.unlink()  # the sweep's to clear, when it is old enough
    assert is_whole_and_kept(cached, visit)


def test_a_disk_that_fails_in_the_rest_of_a_part_costs_no_client_a_byte(cached: Cached) -> None:
    """What the part has is read from it, what comes then from the window."""
    leave(cached)
    visits = [cached.get(PATH), cached.get(PATH)]
    visits[1].sink.pause()
    cached.files.room_bytes = 100
    response = part(cached, CUT, BODY)
    for start in range(CUT, len(BODY), CHUNK):
        response.give(BODY[start : start + CHUNK])
        cached.clock.advance(0)
    response.end()
    visits[1].sink.resume()
    assert [(visit.body, visit.is_whole) for visit in visits] == [(BODY, True)] * 2
    assert (len(cached.events.of("storage_failed")), len(cached.entries())) == (1, 1)


def test_an_error_of_ours_while_a_part_is_gone_on_with_leaves_nothing(cached: Cached) -> None:
    """All who wait hear of it."""
    leave(cached)
    visits = [cached.get(PATH), cached.get(PATH)]
    cached.client.refuse(ZeroDivisionError("a bug"))
    assert [visit.status for visit in visits] == [500, 500]
    assert cached.events.of("crashed") == [(f"asking for {PATH}",)]
    cached.events.crashes.clear()
    assert cached.keep_file(PATH, BODY).is_whole


def test_a_part_that_is_being_written_is_nobody_else_s(cached: Cached) -> None:
    """Its writer holds its lease, however often the folder is swept."""
    visit, response = cached.begin_file(PATH, len(BODY))
    response.give(BODY[:CUT])
    (own,) = cached.parts()
    os.utime(own, (EPOCH, EPOCH))
    scan(cached)
    assert not cached.store._parts.is_resumable(SHA256)
    response.give_all(BODY[CUT:], CHUNK)
    assert is_whole_and_kept(cached, visit)
