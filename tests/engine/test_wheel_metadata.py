"""Core metadata that the page advertises and no upstream gives: made of the wheel, once for all, and kept."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from attrs import evolve

from pipcache.engine.outcome import Request
from pipcache.rules.catalog import Limits
from pipcache.rules.errors import TruncatedBody, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.routes import parse_target
from tests.fakes.cache import ALPHA, BETA, Cached, page, promised
from tests.fakes.engine import begin, result_of
from tests.fakes.index import build_wheel, metadata_of
from tests.fakes.rest import CHUNK

FILENAME, WHEEL = build_wheel("x", "1", size_bytes=5000)
METADATA = metadata_of("x", "1")
PATH = f"/packages/aa/{FILENAME}"
WANTED = f"{PATH}.metadata"
DIGEST = hashlib.sha256(METADATA).hexdigest()
HASHED = f' data-core-metadata="sha256={DIGEST}"'


def advertise(cached: Cached, attributes: str = HASHED, wheel: bytes = WHEEL, path: str = PATH) -> None:
    """The project's page is kept: it names the wheel with its digest, and says that there is core metadata."""
    cached.keep_page("x", page(promised(path, wheel), attributes=attributes))


def refuse(cached: Cached, *statuses: int) -> None:
    """Answer no as often."""
    for status in statuses:
        cached.client.answer(status)


@pytest.mark.parametrize("statuses", [(404, 404), (403, 410), (404, 403)])
@pytest.mark.parametrize("attributes", [HASHED, ' data-dist-info-metadata="true"'])
def test_it_is_made_of_the_wheel_and_kept_with_it(cached: Cached, statuses: tuple[int, int], attributes: str) -> None:
    """As upstream would have sent it; both are hits from then on. Whose wheel it is, is named."""
    advertise(cached, attributes)
    visit = cached.get(WANTED)
    refuse(cached, *statuses)
    assert cached.client.waiting == [f"https://alpha.test{PATH}"]
    cached.client.answer(404)
    cached.client.answer_whole(WHEEL)
    assert (visit.status, visit.body, visit.is_whole, visit.said) == (200, METADATA, True, "MISS")
    assert (visit.field("x-upstream"), visit.field("content-length")) == ("beta", str(len(METADATA)))
    again, wheel = cached.get(WANTED), cached.get(PATH)
    assert [(each.said, each.body, each.field("x-upstream")) for each in (again, wheel)] == [
        ("HIT", METADATA, "beta"),
        ("HIT", WHEEL, "beta"),
    ]
    assert again.field("etag") == visit.field("etag")


@pytest.mark.parametrize("wrong", [b"Name: y\n", METADATA * 3000, b""], ids=["short", "long", "empty"])
def test_other_bytes_are_as_bad_as_none(cached: Cached, wrong: bytes) -> None:
    """Nobody sees any of them, however many chunks they came in; whoever sent them is asked last."""
    advertise(cached)
    visits = [cached.get(WANTED), cached.get(WANTED)]
    cached.client.answer(length=len(wrong)).give_all(wrong, CHUNK)
    cached.client.answer(404)
    assert [visit.is_waiting for visit in visits] == [True, True]
    cached.client.answer_whole(WHEEL)
    assert [(visit.body, visit.is_whole, visit.field("x-upstream")) for visit in visits] == [
        (METADATA, True, "beta")
    ] * 2
    assert cached.upstreams.is_last("alpha")
    assert not cached.upstreams.is_last("beta")


def test_the_right_bytes_of_another_upstream_come_first(cached: Cached) -> None:
    """No wheel is fetched for what somebody has, though the first sent other bytes in many chunks."""
    advertise(cached)
    visit = cached.get(WANTED)
    cached.client.answer(length=5000).give_all(bytes(5000), CHUNK)
    cached.client.answer_whole(METADATA)
    assert (visit.body, visit.is_whole, visit.field("x-upstream")) == (METADATA, True, "beta")


def test_many_who_ask_are_one_making(cached: Cached) -> None:
    """And one fetch of the wheel, with those who want it too; one who leaves takes nothing away."""
    advertise(cached)
    visits = [cached.get(WANTED) for _ in range(5)]
    wheel = cached.get(PATH)
    visits[0].leave()
    refuse(cached, 404)
    response = cached.client.answer(length=len(WHEEL), url=f"https://alpha.test{PATH}")
    refuse(cached, 404)
    response.give(WHEEL[:CHUNK])
    late = cached.get(WANTED)
    response.give(WHEEL[CHUNK:])
    response.end()
    assert [visit.body for visit in (*visits[1:], late)] == [METADATA] * 5
    assert (wheel.body, wheel.is_whole) == (WHEEL, True)
    assert cached.client.urls.count(f"https://alpha.test{PATH}") == 1
    assert cached.threads.calls < 10


def test_it_is_made_of_a_wheel_that_is_kept(cached: Cached) -> None:
    """Then nobody else need be asked; also where an upstream has trouble of its own."""
    advertise(cached)
    cached.keep_file(PATH, WHEEL)
    visit = cached.get(WANTED)
    cached.client.refuse(UpstreamUnavailable("down"))
    cached.client.answer(503)
    assert (visit.body, visit.field("x-upstream")) == (METADATA, "alpha")


@pytest.mark.parametrize("answers", [(503, 404), ("silence", "silence"), (500, 500)])
def test_trouble_that_will_pass_fetches_no_wheel(cached: Cached, answers: tuple[int | str, int | str]) -> None:
    """Whoever is in trouble may have it."""
    advertise(cached)
    visit = cached.get(WANTED)
    for answer in answers:
        if isinstance(answer, int):
            cached.client.answer(answer)
        else:
            cached.client.refuse(UpstreamTimeout(answer))
    assert (visit.status, cached.client.waiting) == (504 if "silence" in answers else 502, [])


@pytest.mark.parametrize(
    ("target", "attributes"),
    [
        ("/packages/aa/x-1.tar.gz", HASHED),
        (PATH, ""),
        (PATH, ' data-core-metadata="false"'),
    ],
    ids=["an sdist", "not offered", "offered not"],
)
def test_nothing_is_made_that_is_not_promised(cached: Cached, target: str, attributes: str) -> None:
    """Only a wheel has it inside, and only what the page offers is asked for by installers."""
    advertise(cached, attributes, path=target)
    visit = cached.get(f"{target}.metadata")
    refuse(cached, 404, 404)
    assert (visit.status, cached.client.waiting) == (404, [])


@pytest.mark.parametrize("first", [404, 200])
@pytest.mark.parametrize(
    "wheel",
    [build_wheel("y", "1")[1], b"no archive", b"", build_wheel("x", "1", requires=["z"])[1]],
    ids=["of another", "no archive", "empty", "other metadata"],
)
def test_a_wheel_that_does_not_have_it_leaves_the_first_error(cached: Cached, first: int, wheel: bytes) -> None:
    """What the page promises is in it nowhere: that is what upstream said of it."""
    advertise(cached, wheel=wheel)
    visit = cached.get(WANTED)
    for _ in range(2):
        cached.client.answer(first, length=3).give_all(b"bad") if first == 200 else cached.client.answer(first)
    cached.client.answer_whole(wheel)
    assert visit.status == (404 if first == 404 else 502)
    assert len(cached.entries()) == 2  # the page and the wheel, which is right


def test_an_absence_is_remembered_only_where_there_is_nothing_to_make_it_of(tmp_path: Path) -> None:
    """A wheel that no upstream could give just now may be had a moment later."""
    cached = Cached(tmp_path / "cache", negative_seconds=60)
    advertise(cached)
    for answer in (503, 404):
        visit = cached.get(WANTED)
        refuse(cached, 404, 404)
        refuse(cached, answer, answer)
        assert visit.status == (502 if answer == 503 else 404)
    remembered = cached.get(WANTED)
    assert (remembered.status, cached.client.waiting) == (404, [])
    cached.clock.advance(61)
    visit = cached.get(WANTED)
    refuse(cached, 404, 404)
    cached.client.answer_whole(WHEEL)
    assert visit.body == METADATA
    cached.check_books()


def test_a_wheel_that_breaks_off_is_an_error_that_is_not_remembered(cached: Cached) -> None:
    """The next request gets it."""
    advertise(cached)
    visit = cached.get(WANTED)
    refuse(cached, 404, 404)
    response = cached.client.answer(length=len(WHEEL))
    response.give(WHEEL[:CHUNK])
    response.fail(TruncatedBody("reset"))
    while cached.client.waiting:
        cached.client.refuse(UpstreamUnavailable("down"))
    assert visit.status == 502
    again = cached.get(WANTED)
    refuse(cached, 404, 404)
    cached.client.answer_whole(WHEEL)
    assert again.body == METADATA


@pytest.mark.parametrize("length", [len(WHEEL), None])
def test_a_wheel_that_is_too_big_to_keep_is_fetched_for_nobody(tmp_path: Path, length: int | None) -> None:
    """It is given up as soon as that is known, and the first error stands."""
    cached = Cached(tmp_path / "cache", Limits(max_bytes=6000, max_entries=100, high=0.9, low=0.7))
    advertise(cached)
    visit = cached.get(WANTED)
    refuse(cached, 404, 404)
    response = cached.client.answer(length=length)
    for start in range(0, len(WHEEL), CHUNK):
        response.give(WHEEL[start : start + CHUNK])
    response.end()
    assert visit.status == 404
    assert response.is_abandoned == (length is not None)
    cached.check_books()


def test_a_full_disk_costs_nothing_but_the_keeping(cached: Cached) -> None:
    """What is made is sent from memory, also a part of it."""
    advertise(cached)
    cached.keep_file(PATH, WHEEL)
    cached.files.room_bytes = 0
    visits = [cached.get(WANTED), cached.get(WANTED, ("range", "bytes=2-5"))]
    refuse(cached, 404, 404)
    assert [(visit.status, visit.body) for visit in visits] == [(200, METADATA), (206, METADATA[2:6])]
    assert cached.events.of("storage_failed")


def test_a_disk_that_fails_while_the_wheel_is_read_is_told(cached: Cached) -> None:
    """It is no absence."""
    advertise(cached)
    visit = cached.get(WANTED)
    refuse(cached, 404, 404)
    response = cached.client.answer(length=len(WHEEL))
    response.give(WHEEL[:CHUNK])
    cached.files.broken.add("read_at")
    response.give(WHEEL[CHUNK:])
    response.end()
    cached.files.broken.clear()
    assert visit.status == 500


def test_of_one_who_is_not_trusted_only_a_wheel_that_is_proved_right(cached: Cached) -> None:
    """Without a digest on the page nobody but the trusted is asked, for the metadata or for the wheel."""
    cached.upstreams.now_known((evolve(ALPHA, is_trusted=False), BETA))
    visit = cached.get("/simple/x/")
    cached.client.answer_whole(page(f"../..{PATH}", attributes=' data-core-metadata="true"'))
    assert visit.is_whole
    asked = cached.get(WANTED)
    assert cached.client.waiting == [f"https://beta.test/pypi{WANTED}"]
    refuse(cached, 404)
    assert cached.client.waiting == [f"https://beta.test/pypi{PATH}"]
    cached.client.answer_whole(WHEEL)
    assert (asked.body, asked.field("x-upstream")) == (METADATA, "beta")


@pytest.mark.parametrize("is_made", [True, False])
def test_its_head_and_parts_are_those_of_the_whole(cached: Cached, is_made: bool) -> None:
    """It is small: whatever is asked of it, it is fetched or made whole, and then is a hit."""
    advertise(cached)
    head = cached.head(WANTED)
    if is_made:
        refuse(cached, 404, 404)
        cached.client.answer_whole(WHEEL)
    else:
        cached.client.answer_whole(METADATA)
    assert (head.status, head.field("content-length"), head.body) == (200, str(len(METADATA)), b"")
    part = cached.get(WANTED, ("range", "bytes=-4"))
    assert (part.status, part.body, part.said) == (206, METADATA[-4:], "HIT")
    assert [sent.request.method for sent in cached.client.sent] == ["GET"] * len(cached.client.sent)


def test_what_the_request_came_through_goes_on_to_the_wheel(cached: Cached) -> None:
    """So that a loop is found wherever it closes."""
    advertise(cached)
    coming = begin(cached.cache.respond(Request(parse_target(WANTED.encode()), via=("1.1 other",))))
    refuse(cached, 404, 404)
    assert [sent.request.via for sent in cached.client.sent[1:]] == [("1.1 other",)] * 3
    cached.client.answer_whole(WHEEL)
    result_of(coming).drop()


def test_who_wants_nobody_asked_has_nothing_made(cached: Cached) -> None:
    """Also where the wheel is kept: only what is kept as it is counts."""
    advertise(cached)
    cached.keep_file(PATH, WHEEL)
    assert cached.get(WANTED, ("cache-control", "only-if-cached")).status == 504
