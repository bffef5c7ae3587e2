"""Parts, conditions and HEAD, of files that are cold, growing and kept."""

from __future__ import annotations

import hashlib

import pytest

from pipcache.rules.errors import TruncatedBody, UpstreamUnavailable
from pipcache.rules.response import NEAR_BYTES
from tests.fakes.cache import Cached, page, promised

CHUNK = 1 << 16
BODY = bytes(range(251)) * (3 * NEAR_BYTES // 251)
PATH = "/packages/aa/x-1.tar.gz"
ETAG = f'"{hashlib.sha256(BODY).hexdigest()[:32]}"'
MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.fixture(autouse=True)
def with_page(cached: Cached) -> None:
    """The project's page is kept, and promises the file's digest."""
    cached.keep_page("x", page(promised(PATH, BODY)))


def test_a_range_of_a_cold_file_is_relayed_and_not_kept(cached: Cached) -> None:
    """As upstream answers it, without validators of its own or ours."""
    visit = cached.get(PATH, ("range", "bytes=10-19"), ("if-none-match", '"x"'), ("cookie", "c"))
    assert cached.client.sent[-1].request.byte_range == "bytes=10-19"
    fields = (("content-range", f"bytes 10-19/{len(BODY)}"), ("etag", '"theirs"'), ("last-modified", MODIFIED))
    response = cached.client.answer(206, 10, fields)
    response.give_all(BODY[10:20])
    assert (visit.status, visit.body, visit.is_whole) == (206, BODY[10:20], True)
    assert visit.field("content-range") == f"bytes 10-19/{len(BODY)}"
    assert (visit.field("etag"), visit.field("last-modified"), visit.said) == (None, None, "MISS")
    assert (visit.field("x-upstream"), visit.field("content-length")) == ("alpha", "10")
    assert cached.keep_file(PATH, BODY).said == "MISS"


def test_ranges_of_a_cold_file_are_not_collapsed(cached: Cached) -> None:
    """Each is another thing; nor does one poison what is fetched whole at the same time."""
    first = cached.get(PATH, ("range", "bytes=0-4"))
    second = cached.get(PATH, ("range", "bytes=5-9"))
    whole = cached.get(PATH)
    cached.client.answer(206, 5).give_all(BODY[:5])
    cached.client.answer(206, 5).give_all(BODY[5:10])
    cached.client.answer_whole(BODY)
    assert [visit.body for visit in (first, second, whole)] == [BODY[:5], BODY[5:10], BODY]
    assert cached.get(PATH, ("range", "bytes=0-4")).said == "HIT"


def test_an_upstream_that_knows_no_ranges_sends_the_whole_through(cached: Cached) -> None:
    """Held to the promised digest, like every whole body."""
    for content, end in ((BODY, "finished"), (BODY[:-1] + b"!", "aborted")):
        visit = cached.get(PATH, ("range", "bytes=0-4"))
        response = cached.client.answer(200, len(content))
        response.give_all(content, CHUNK)
        assert (visit.status, visit.end) == (200, end)
    assert len(cached.entries()) == 1


def test_an_upstream_that_sends_nothing_at_all_for_a_range_is_not_taken(cached: Cached) -> None:
    """An empty 200 would look complete; the next one is asked."""
    visit = cached.get(PATH, ("range", "bytes=0-4"))
    cached.client.answer(200, 0)
    cached.client.answer(206, 5).give_all(BODY[:5])
    assert (visit.status, visit.body, visit.field("x-upstream")) == (206, BODY[:5], "beta")


def test_a_range_that_no_upstream_can_satisfy_is_relayed_as_such(cached: Cached) -> None:
    """A 416 is an answer, and like every 4xx neither failure nor success."""
    cached.upstreams.failed("alpha", 0.0)
    visit = cached.get(PATH, ("range", "bytes=99999999-"))
    cached.client.answer(416, 0, (("content-range", f"bytes */{len(BODY)}"),)).end()
    assert (visit.status, visit.field("content-range"), visit.is_whole) == (416, f"bytes */{len(BODY)}", True)
    assert cached.upstreams.health["alpha"].consecutive_failures == 1


def test_a_relayed_range_that_is_cut_breaks_the_client_off(cached: Cached) -> None:
    """And counts against its upstream."""
    visit = cached.get(PATH, ("range", "bytes=0-9"))
    response = cached.client.answer(206, 10)
    response.give(BODY[:5])
    response.fail(TruncatedBody("cut"))
    assert visit.end == "aborted"
    assert cached.upstreams.health["alpha"].consecutive_failures == 1
    assert len(cached.events.of("fetch_broke")) == 1


@pytest.mark.parametrize("moment", ["before the head", "in mid-body"])
def test_a_client_that_leaves_a_relayed_range_is_nobody_s_failure(cached: Cached, moment: str) -> None:
    """Its connection is given back."""
    visit = cached.get(PATH, ("range", "bytes=0-9"))
    if moment == "before the head":
        visit.leave()
    response = cached.client.answer(206, 10)
    if moment == "in mid-body":
        response.give(BODY[:5])
        visit.leave()
    assert response.is_abandoned
    assert (cached.upstreams.health, cached.events.of("fetch_broke")) == ({}, [])


@pytest.mark.parametrize("if_range", ['"other"', ETAG, MODIFIED, 'W/"x"'])
def test_with_if_range_the_range_of_a_cold_file_is_ignored(cached: Cached, if_range: str) -> None:
    """Whether what the client has still fits is not known before the file is: it gets the whole, which is kept."""
    visit = cached.get(PATH, ("range", "bytes=10-19"), ("if-range", if_range))
    assert cached.client.sent[-1].request.byte_range is None
    cached.client.answer_whole(BODY, (("last-modified", MODIFIED),))
    assert (visit.status, visit.body) == (200, BODY)
    assert cached.get(PATH).said == "HIT"


@pytest.mark.parametrize(
    ("if_range", "status"), [(ETAG, 206), (MODIFIED, 206), ('"other"', 200), ("Tue, 02 Jan 2024 00:00:00 GMT", 200)]
)
def test_if_range_on_growing_and_kept_files(cached: Cached, if_range: str, status: int) -> None:
    """Both say the same: the part where it fits, the whole where it does not."""
    fields = ("range", "bytes=10-19"), ("if-range", if_range)
    first = cached.get(PATH)
    response = cached.client.answer(200, len(BODY), (("last-modified", MODIFIED),))
    growing = cached.get(PATH, *fields)
    response.give_all(BODY, CHUNK)
    kept = cached.get(PATH, *fields)
    assert first.is_whole
    assert [visit.status for visit in (growing, kept)] == [status, status]
    assert [visit.said for visit in (growing, kept)] == ["MISS", "HIT"]
    assert growing.body == kept.body == (BODY[10:20] if status == 206 else BODY)


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, len(BODY)),
        (f"bytes={NEAR_BYTES + CHUNK}-{NEAR_BYTES + CHUNK + 9}", NEAR_BYTES + CHUNK, NEAR_BYTES + CHUNK + 10),
        (f"bytes=-{len(BODY)}", 0, len(BODY)),
    ],
)
def test_a_range_near_what_has_come_is_served_from_the_growing_file(
    cached: Cached, wanted: str, start: int, stop: int
) -> None:
    """Up to one MiB ahead; no second transfer."""
    _, response = cached.begin_file(PATH, len(BODY))
    response.give(BODY[:CHUNK])
    visit = cached.get(PATH, ("range", wanted))
    assert cached.client.waiting == []
    response.give(BODY[CHUNK:])
    response.end()
    assert (visit.status, visit.body, visit.is_whole) == (206, BODY[start:stop], True)
    assert visit.field("content-range") == f"bytes {start}-{stop - 1}/{len(BODY)}"


@pytest.mark.parametrize("wanted", [f"bytes={NEAR_BYTES + CHUNK + 1}-", "bytes=-5"])
def test_a_range_far_from_what_has_come_is_relayed(cached: Cached, wanted: str) -> None:
    """Its client would wait long; what grows is not disturbed."""
    first, response = cached.begin_file(PATH, len(BODY))
    response.give(BODY[:CHUNK])
    visit = cached.get(PATH, ("range", wanted))
    assert cached.client.sent[-1].request.byte_range == wanted
    cached.client.answer(206, 5).give_all(BODY[-5:])
    assert (visit.status, visit.body, visit.field("etag")) == (206, BODY[-5:], None)
    response.give(BODY[CHUNK:])
    response.end()
    assert first.is_whole


def test_collapsed_requests_get_each_what_they_asked_for(cached: Cached) -> None:
    """They waited for one head, and want different parts of its body."""
    whole = cached.get(PATH)
    near = cached.get(PATH, ("range", "bytes=5-9"))
    far = cached.get(PATH, ("range", "bytes=-7"))
    none = cached.get(PATH, ("range", f"bytes={len(BODY)}-"))
    same = cached.get(PATH, ("if-none-match", ETAG))
    other = cached.get(PATH, ("if-match", '"other"'))
    response = cached.client.answer(200, len(BODY))
    response.give(BODY[:CHUNK])
    cached.client.answer(206, 7).give_all(BODY[-7:])
    response.give_all(BODY[CHUNK:], CHUNK)
    assert [visit.status for visit in (whole, near, far, none, same, other)] == [200, 206, 206, 416, 304, 412]
    assert [visit.body for visit in (whole, near, far)] == [BODY, BODY[5:10], BODY[-7:]]
    assert len(cached.client.sent) == 3


def test_a_range_of_a_growing_file_of_unknown_length_is_relayed(cached: Cached) -> None:
    """Nothing sure could be said of it."""
    _, response = cached.begin_file(PATH, None)
    response.give(BODY[:CHUNK])
    visit = cached.get(PATH, ("range", "bytes=0-9"))
    cached.client.answer(206, 10).give_all(BODY[:10])
    assert (visit.status, visit.body) == (206, BODY[:10])
    response.give(BODY[CHUNK:])
    response.end()


def test_head_of_a_cold_file_asks_upstream_s_head(cached: Cached) -> None:
    """And downloads nothing; uv takes the length from it. A Range with it means nothing."""
    visit = cached.head(PATH, ("range", "bytes=0-1"))
    sent = cached.client.sent[-1].request
    assert (sent.method, sent.byte_range) == ("HEAD", None)
    fields = (("content-length", "123"), ("accept-ranges", "bytes"), ("etag", '"theirs"'), ("last-modified", MODIFIED))
    response = cached.client.answer(200, 0, fields)
    assert response.is_abandoned
    assert (visit.status, visit.body, visit.field("content-length")) == (200, b"", "123")
    assert (visit.field("accept-ranges"), visit.field("etag"), visit.field("last-modified")) == ("bytes", None, None)
    assert len(cached.entries()) == 1


def test_head_of_a_growing_and_of_a_kept_file_asks_nobody(cached: Cached) -> None:
    """Both say what GET says."""
    _, response = cached.begin_file(PATH, len(BODY))
    growing = cached.head(PATH)
    response.give_all(BODY, CHUNK)
    kept = cached.head(PATH)
    for visit, said in ((growing, "MISS"), (kept, "HIT")):
        assert (visit.status, visit.body, visit.said, visit.field("etag")) == (200, b"", said, ETAG)
        assert visit.field("content-length") == str(len(BODY))
    assert len(cached.client.sent) == 2


def test_head_of_what_nobody_has_says_so(cached: Cached) -> None:
    """After all were asked."""
    visit = cached.head(PATH)
    cached.client.answer(404)
    cached.client.refuse(UpstreamUnavailable("down"))
    assert (visit.status, {sent.request.method for sent in cached.client.sent[1:]}) == (404, {"HEAD"})


@pytest.mark.parametrize(
    ("fields", "status", "body"),
    [
        ((("range", "bytes=0-0"),), 206, BODY[:1]),
        ((("range", f"bytes=-{10 * len(BODY)}"),), 206, BODY),
        ((("range", "bytes=0-4,8-9"),), 200, BODY),
        ((("range", f"bytes={len(BODY)}-"),), 416, b""),
        ((("if-none-match", f'"other", {ETAG}'),), 304, b""),
        ((("if-match", '"other"'),), 412, b""),
    ],
)
def test_parts_and_conditions_of_a_kept_file(
    cached: Cached, fields: tuple[tuple[str, str], ...], status: int, body: bytes
) -> None:
    """As RFC 9110 has them; without asking anybody."""
    cached.keep_file(PATH, BODY)
    visit = cached.get(PATH, *fields)
    assert (visit.status, visit.body, visit.said) == (status, body, "HIT")
    assert len(cached.client.sent) == 2
