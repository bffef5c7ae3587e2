"""A body that breaks off goes on where it ends: who is asked for the rest, and what its clients see of it (nothing)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from pipcache.rules.errors import UpstreamTimeout, UpstreamUnavailable
from tests.fakes.cache import ALPHA, Cached, page, promised
from tests.fakes.rest import BODY, CHUNK, CUT, DEATHS, ETAG, PATH, Asking, asked_since, cut_off, die, give_part, part

REST = f"bytes={CUT}-"
SAME, SAME_IF, OTHER = ("alpha", REST, None), ("alpha", REST, ETAG), ("beta", REST, None)


def with_page(cached: Cached, *, has_digest: bool) -> None:
    """The project's page is kept, and promises the file's digest or does not."""
    cached.keep_page("x", page(promised(PATH, BODY) if has_digest else PATH))


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize(
    ("has_digest", "etag", "upstreams", "asked"),
    [
        (True, ETAG, 2, [SAME_IF, OTHER]),
        (True, 'W/"weak"', 2, [SAME, OTHER]),
        (True, None, 2, [SAME, OTHER]),
        (True, ETAG, 1, [SAME_IF]),
        (True, None, 1, [SAME]),
        (False, ETAG, 2, [SAME_IF]),
        (False, ETAG, 1, [SAME_IF]),
        (False, 'W/"weak"', 2, []),
        (False, None, 2, []),
        (False, None, 1, []),
    ],
)
def test_the_rest_is_asked_for_where_it_is_sure_to_be_the_same_body(
    cached: Cached, how: str, has_digest: bool, etag: str | None, upstreams: int, asked: list[Asking]
) -> None:
    """The same upstream once more, others where a digest decides; when nobody has it the client is visibly broken off."""
    with_page(cached, has_digest=has_digest)
    if upstreams == 1:
        cached.upstreams.now_known((ALPHA,))
    visit = cached.get(PATH)
    cut_off(cached, how, etag=etag)
    for _ in asked:
        assert visit.end is None
        cached.client.refuse(UpstreamUnavailable("down"))
    assert (asked_since(cached, 2), visit.end, visit.body) == (asked, "aborted", BODY[:CUT])
    assert len(cached.entries()) == 1
    assert len(cached.events.of("fetch_broke")) == 1
    assert cached.keep_file(PATH, BODY).body == BODY


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("at", [1, CUT, len(BODY) - 1])
@pytest.mark.parametrize(
    ("has_digest", "etag", "giver"),
    [(True, ETAG, 0), (True, None, 0), (True, ETAG, 1), (True, None, 1), (False, ETAG, 0)],
)
def test_whoever_gives_the_rest_the_client_sees_one_body(
    cached: Cached, how: str, at: int, has_digest: bool, etag: str | None, giver: int
) -> None:
    """Wherever it broke. The upstreams send no byte twice, it is kept, and the one that gave the end is well."""
    with_page(cached, has_digest=has_digest)
    visit = cached.get(PATH)
    cut_off(cached, how, etag=etag, at=at)
    for _ in range(giver):
        cached.client.answer(503)
    give_part(cached, at)
    assert (visit.status, visit.field("content-length"), visit.is_whole) == (200, str(len(BODY)), True)
    assert hashlib.sha256(visit.body).digest() == hashlib.sha256(BODY).digest()
    hit = cached.get(PATH)
    assert (hit.said, hit.body, hit.field("etag")) == ("HIT", BODY, visit.field("etag"))
    assert set(cached.upstreams.health) == (set() if giver == 0 else {"alpha"})
    assert asked_since(cached, 2)[-1][:2] == (("alpha", "beta")[giver], f"bytes={at}-")
    assert cached.events.of("fetched")[-1][2] == len(BODY)


def _answer(status: int, length: int | None = None, content_range: str = "") -> Callable[[Cached], None]:
    fields = (("content-range", content_range),) if content_range else ()

    def answer(cached: Cached) -> None:
        response = cached.client.answer(status, length, fields)
        if status == 206 and not response.is_settled:
            response.give_all(BODY[CUT:], CHUNK)

    return answer


def _dies(cached: Cached) -> None:
    die(part(cached, CUT), "reset")


NO_REST = {
    "503": _answer(503),
    "404": _answer(404),
    "416": _answer(416),
    "silent": lambda cached: cached.client.refuse(UpstreamTimeout("no answer in time")),
    "from the start": _answer(206, CUT, f"bytes 0-{CUT - 1}/{len(BODY)}"),
    "one ahead": _answer(206, 10, f"bytes {CUT + 1}-{CUT + 10}/{len(BODY)}"),
    "one behind": _answer(206, 10, f"bytes {CUT - 1}-{CUT + 8}/{len(BODY)}"),
    "nowhere": _answer(206, len(BODY) - CUT),
    "of a longer one": _answer(206, len(BODY) - CUT + 1, f"bytes {CUT}-{len(BODY)}/{len(BODY) + 1}"),
    "a longer one": _answer(200, len(BODY) + 1),
    "dies at once": _dies,
}


@pytest.mark.parametrize("answer", NO_REST.values(), ids=NO_REST.keys())
def test_what_does_not_go_on_where_the_body_ends_is_not_taken(cached: Cached, answer: Callable[[Cached], None]) -> None:
    """It is given up and counted like any failure, and the next one is asked for the same bytes."""
    with_page(cached, has_digest=True)
    visit = cached.get(PATH)
    cut_off(cached, "reset", etag=ETAG)
    answer(cached)
    assert asked_since(cached, 2) == [SAME_IF, OTHER]
    assert visit.end is None
    give_part(cached, CUT)
    assert (visit.body, visit.is_whole, cached.get(PATH).said) == (BODY, True, "HIT")


@pytest.mark.parametrize("answer", [*NO_REST.values(), _answer(200, len(BODY))], ids=[*NO_REST, "the whole anew"])
def test_without_a_digest_one_bad_answer_is_the_end(cached: Cached, answer: Callable[[Cached], None]) -> None:
    """Another body could begin with the same bytes: a 200 says that the ETag is no longer that one."""
    with_page(cached, has_digest=False)
    visit = cached.get(PATH)
    cut_off(cached, "reset", etag=ETAG)
    answer(cached)
    assert (asked_since(cached, 2), visit.end, visit.body) == ([SAME_IF], "aborted", BODY[:CUT])
    assert len(cached.entries()) == 1


@pytest.mark.parametrize("chunk", [1, 999, CUT, CUT + 1, len(BODY)])
def test_where_range_is_not_offered_what_is_there_is_skipped(cached: Cached, chunk: int) -> None:
    """However the bytes come, none is written twice or left out."""
    with_page(cached, has_digest=True)
    visit = cached.get(PATH)
    cut_off(cached, "short")
    cached.client.answer(200, len(BODY)).give_all(BODY, chunk)
    assert (visit.body, visit.is_whole, cached.get(PATH).said) == (BODY, True, "HIT")


def test_a_rest_that_breaks_off_as_well_goes_on_where_that_ended(cached: Cached) -> None:
    """Also one that is cut while it is being skipped; each upstream is asked once more at most."""
    with_page(cached, has_digest=True)
    visit = cached.get(PATH)
    cut_off(cached, "stall", etag=ETAG)
    again = part(cached, CUT)
    again.give(BODY[CUT : CUT + CHUNK])
    die(again, "reset")
    assert visit.body == BODY[: CUT + CHUNK]
    assert visit.end is None
    skipped = cached.client.answer(200, len(BODY))
    skipped.give(BODY[:CHUNK])
    die(skipped, "short")
    assert asked_since(cached, 2) == [SAME_IF, ("beta", f"bytes={CUT + CHUNK}-", None)]
    assert (visit.end, visit.body) == ("aborted", BODY[: CUT + CHUNK])


def test_a_part_that_is_shorter_than_the_rest_is_gone_on_from(cached: Cached) -> None:
    """An upstream may send less than was asked for."""
    with_page(cached, has_digest=True)
    visit = cached.get(PATH)
    cut_off(cached, "reset")
    part(cached, CUT, stop=CUT + 100).give_all(BODY[CUT : CUT + 100])
    give_part(cached, CUT + 100)
    assert (visit.body, visit.is_whole) == (BODY, True)
    assert asked_since(cached, 2) == [SAME, ("beta", f"bytes={CUT + 100}-", None)]


@pytest.mark.parametrize("has_digest", [True, False])
def test_a_length_that_nobody_said_is_learned_from_the_rest(cached: Cached, has_digest: bool) -> None:
    """The first response was chunked; the part says how long the whole is."""
    with_page(cached, has_digest=has_digest)
    visit = cached.get(PATH)
    cut_off(cached, "reset", etag=ETAG, length=None)
    give_part(cached, CUT)
    assert (visit.field("content-length"), visit.body, visit.is_whole) == (None, BODY, True)
    assert cached.get(PATH).field("content-length") == str(len(BODY))


@pytest.mark.parametrize(("has_digest", "end"), [(True, "finished"), (False, "aborted")])
def test_a_rest_whose_end_nobody_knows_needs_a_digest(cached: Cached, has_digest: bool, end: str) -> None:
    """It may be all, or as much as that upstream cares to send at once."""
    with_page(cached, has_digest=has_digest)
    visit = cached.get(PATH)
    cut_off(cached, "reset", etag=ETAG, length=None)
    response = part(cached, CUT, total="*")
    if not response.is_settled:
        response.give_all(BODY[CUT:])
    assert visit.end == end


@pytest.mark.parametrize(("etag", "end"), [(ETAG, "finished"), ('"another"', "aborted")])
def test_without_a_digest_a_part_of_another_etag_is_not_taken(cached: Cached, etag: str, end: str) -> None:
    """RFC 9110 section 15.3.7.3: parts are combined only where they share a strong validator; If-Range may be unknown."""
    with_page(cached, has_digest=False)
    visit = cached.get(PATH)
    cut_off(cached, "reset", etag=ETAG)
    fields = (("content-range", f"bytes {CUT}-{len(BODY) - 1}/{len(BODY)}"), ("etag", etag))
    response = cached.client.answer(206, len(BODY) - CUT, fields)
    if not response.is_settled:
        response.give_all(BODY[CUT:])
    assert visit.end == end


def test_bytes_that_all_came_need_no_rest(cached: Cached) -> None:
    """The digest says that they did, though the terminator of the chunks got lost."""
    with_page(cached, has_digest=True)
    visit = cached.get(PATH)
    cut_off(cached, "reset", length=None, at=len(BODY))
    assert (visit.body, visit.is_whole, asked_since(cached, 2), cached.get(PATH).said) == (BODY, True, [], "HIT")


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("came", [0, len(BODY)])
@pytest.mark.parametrize("has_digest", [True, False])
def test_a_body_that_no_client_has_seen_is_replaced_by_the_next_one_s(
    cached: Cached, how: str, came: int, has_digest: bool
) -> None:
    """Nothing of it came, or all was withheld: nobody notices, whether or not a digest is known."""
    with_page(cached, has_digest=has_digest)
    visits = [cached.get(PATH), cached.head(PATH), cached.get(PATH, ("range", "bytes=0-9"), ("if-range", '"x"'))]
    response = cached.client.answer(200, len(BODY) + 1)
    if came:
        response.give(BODY + b"?" if how != "short" else BODY[:0])
    die(response, how)
    assert all(visit.is_waiting for visit in visits)
    assert asked_since(cached, 1) == [("alpha", None, None), ("beta", None, None)]
    cached.client.answer_whole(BODY)
    assert [(visit.status, visit.field("x-upstream")) for visit in visits] == [(200, "beta")] * 3
    assert (visits[0].body, visits[2].body, cached.get(PATH).said) == (BODY, BODY, "HIT")
    assert set(cached.upstreams.health) == {"alpha"}
    assert (len(cached.events.of("upstream_failed")), cached.events.of("fetch_broke")) == (1, [])
