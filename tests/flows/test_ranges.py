"""Parts, conditions and HEAD: of what is kept, and of what is not."""

from __future__ import annotations

import pytest

from tests.fakes.client import End
from tests.flows.harness import PAGE_TYPE, bounded, hashed, page

FILE = "/packages/aa/bb/cc/demo-1.0-py3-none-any.whl"
PAGE = "/simple/demo/"
BODY = bytes(range(200)) * 50
MODIFIED = "Tue, 01 Jul 2025 10:00:00 GMT"


@pytest.fixture
def offered(upstream):
    """An upstream with a page and a file that it gives in parts too."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY, etag='"theirs"', last_modified=MODIFIED, ranges=True)
    return upstream


@pytest.mark.parametrize(
    ("value", "status", "start", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=100-199", 206, 100, 200),
        ("bytes=9000-", 206, 9000, 10000),
        ("bytes=9000-99999", 206, 9000, 10000),
        ("bytes=-100", 206, 9900, 10000),
        ("bytes=-99999", 206, 0, 10000),
        ("bytes=0-9999", 206, 0, 10000),
        ("bytes=0-9,10-19", 206, 0, 20),
        ("bytes=0-9,100-109", 200, 0, 10000),
        ("bytes=5-4", 200, 0, 10000),
        ("lines=0-9", 200, 0, 10000),
        ("bytes=x", 200, 0, 10000),
        ("bytes=10000-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ],
)
@bounded
async def test_ranges_of_a_hit(proxy, offered, value, status, start, stop):
    """One range is a 206 with its Content-Range; none of the bytes is a 416; all else is the whole."""
    await proxy.get(FILE)
    client = await proxy.connect()
    answer = await client.ask(FILE, f"Range: {value}").ended()
    assert (answer.status, answer["x-cache-status"]) == (status, "HIT")
    assert bytes(answer.body) == BODY[start:stop]
    assert answer.is_whole
    if status == 206:
        assert answer["content-range"] == f"bytes {start}-{stop - 1}/10000"
    elif status == 416:
        assert answer["content-range"] == "bytes */10000"
    else:
        assert answer["content-range"] is None
    assert (await client.ask(FILE).ended()).body == BODY  # the connection is where it should be
    assert offered.count(FILE) == 1


@bounded
async def test_if_range_of_a_hit(proxy, offered):
    """With our ETag, or the date we sent, the range counts; with anything else the whole is sent."""
    etag = (await proxy.get(FILE))["etag"]
    for validator, status in [(etag, 206), (MODIFIED, 206), ('"theirs"', 200), (f"W/{etag}", 200), ("yesterday", 200)]:
        answer = await proxy.get(FILE, "Range: bytes=1-2", f"If-Range: {validator}")
        assert (answer.status, validator) == (status, validator)
        assert bytes(answer.body) == (BODY[1:3] if status == 206 else BODY)


@bounded
async def test_conditions_of_a_hit(proxy, offered):
    """A client that holds what we have gets a 304 without a body; one that does not gets the body."""
    etag = (await proxy.get(FILE))["etag"]
    page_etag = (await proxy.get(PAGE))["etag"]
    later = "Wed, 02 Jul 2025 10:00:00 GMT"
    earlier = "Mon, 30 Jun 2025 10:00:00 GMT"
    client = await proxy.connect()
    for target, field, status in [
        (FILE, f"If-None-Match: {etag}", 304),
        (FILE, f'If-None-Match: "other", W/{etag}', 304),
        (FILE, "If-None-Match: *", 304),
        (FILE, 'If-None-Match: "theirs"', 200),
        (FILE, f"If-Modified-Since: {MODIFIED}", 304),
        (FILE, f"If-Modified-Since: {later}", 304),
        (FILE, f"If-Modified-Since: {earlier}", 200),
        (FILE, f'If-Match: "other", {etag}', 200),
        (FILE, 'If-Match: "other"', 412),
        (PAGE, f"If-None-Match: {page_etag}", 304),
        (PAGE, f"If-None-Match: {etag}", 200),
    ]:
        answer = await client.ask(target, field).ended()
        assert (field, answer.status) == (field, status)
        assert answer.is_whole
        assert bool(answer.body) == (status == 200)
        if status == 304:
            assert answer["etag"] == (page_etag if target == PAGE else etag)
    assert len(offered.requests) == 2


@pytest.mark.parametrize("value", ["bytes=100-199", "bytes=-50", "bytes=9990-99999"])
@bounded
async def test_a_range_of_a_cold_file_is_relayed(proxy, offered, value):
    """Upstream sees the Range; its part is passed on without validators, and nothing is kept of it."""
    answer = await proxy.get(FILE, f"Range: {value}", 'If-None-Match: "x"')
    assert (answer.status, answer["x-cache-status"], answer["x-upstream"]) == (206, "MISS", "one")
    start, _, rest = answer["content-range"].removeprefix("bytes ").partition("-")
    assert bytes(answer.body) == BODY[int(start) : int(rest.partition("/")[0]) + 1]
    assert answer.is_whole
    assert (answer["etag"], answer["last-modified"]) == (None, None)
    assert offered.requests[-1].headers["range"] == value
    assert "if-none-match" not in offered.requests[-1].headers
    await proxy.settled(FILE, PAGE)
    assert proxy.kept == {PAGE}
    assert (await proxy.get(FILE)).body == BODY


@bounded
async def test_a_cold_range_beyond_the_end(proxy, offered):
    """Upstream's 416 is the answer, not a reason to ask elsewhere."""
    answer = await proxy.get(FILE, "Range: bytes=99999-")
    assert (answer.status, answer["content-range"]) == (416, "bytes */10000")
    assert answer.is_whole


@bounded
async def test_an_upstream_without_ranges_sends_the_whole(proxy, upstream):
    """It may answer a Range with a 200; the client gets that, held to the digest."""
    upstream.add(PAGE, page(hashed(FILE, BODY)), content_type=PAGE_TYPE)
    upstream.add(FILE, BODY)
    answer = await proxy.get(FILE, "Range: bytes=0-9")
    assert (answer.status, bytes(answer.body)) == (200, BODY)
    upstream.add(FILE, b"!" + BODY[1:])
    assert (await proxy.get(FILE, "Range: bytes=0-9")).end is End.BROKEN
    assert proxy.kept <= {PAGE}


@pytest.mark.parametrize("options", [{"cut_after": 20}, {"reset_after": 20}, {"cut_after": 20, "chunked": True}])
@bounded
async def test_a_relayed_part_that_breaks_is_broken(proxy, upstream, options):
    """Half a part never looks whole."""
    upstream.add(FILE, BODY, ranges=True, **options)
    assert (await proxy.get(FILE, "Range: bytes=100-199")).end is End.BROKEN


@bounded
async def test_a_relayed_range_falls_back(flow):
    """The next upstream is asked for the part when the first fails."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(FILE, status=500)
    second.add(FILE, BODY, ranges=True)
    proxy = await flow.proxy(first, second)
    answer = await proxy.get(FILE, "Range: bytes=0-9")
    assert (answer.status, bytes(answer.body), answer["x-upstream"]) == (206, BODY[:10], "two")


@bounded
async def test_if_range_on_a_cold_file_gets_the_whole(proxy, offered):
    """No validator can match what is not here: the Range is ignored, the file is sent whole and kept."""
    answer = await proxy.get(FILE, "Range: bytes=0-9", 'If-Range: "theirs"')
    assert (answer.status, bytes(answer.body)) == (200, BODY)
    assert "range" not in offered.requests[-1].headers
    assert (await proxy.get(FILE))["x-cache-status"] == "HIT"


@bounded
async def test_head_of_a_hit(proxy, offered):
    """HEAD has the fields of GET and no body; a Range does not change it."""
    client = await proxy.connect()
    whole = await client.ask(FILE).ended()
    for fields in ([], ["Range: bytes=0-9"]):
        head = await client.ask(FILE, *fields, method="HEAD").ended()
        assert (head.status, head["x-cache-status"]) == (200, "HIT")
        for name in ("content-length", "content-type", "etag", "last-modified", "accept-ranges"):
            assert head[name] == whole[name]
    assert (await client.ask(FILE, f"If-None-Match: {whole['etag']}", method="HEAD").ended()).status == 304
    assert head["accept-ranges"] == "bytes"


@bounded
async def test_head_of_a_cold_page_fetches_the_page(proxy, offered):
    """It has the length of the page as clients get it, and the page is a HIT then."""
    head = await proxy.get(PAGE, method="HEAD")
    answer = await proxy.get(PAGE)
    assert (head.status, head["content-length"]) == (200, str(len(answer.body)))
    assert (head["etag"], answer["x-cache-status"]) == (answer["etag"], "HIT")
    assert [each.method for each in offered.requests] == ["GET"]


@bounded
async def test_head_of_a_cold_file_asks_for_the_head(proxy, offered):
    """Upstream's HEAD tells length and type; nothing is downloaded or kept, and no validator is passed on."""
    head = await proxy.get(FILE, method="HEAD")
    assert (head.status, head["content-length"], head["x-upstream"]) == (200, str(len(BODY)), "one")
    assert (head["etag"], head["last-modified"]) == (None, None)
    assert head["accept-ranges"] == "bytes"
    assert offered.count(FILE, "HEAD") == 1
    assert offered.count(FILE, "GET") == 0
    await proxy.settled(PAGE, FILE)
    assert proxy.kept == {PAGE}
    answer = await proxy.get(FILE)
    assert (answer["x-cache-status"], answer.body) == ("MISS", BODY)


@bounded
async def test_head_falls_back_and_is_refused(flow):
    """HEAD of a cold file is asked of the next upstream, and comes to 404 where all lack it."""
    first, second = await flow.upstream(), await flow.upstream()
    first.add(FILE, status=404)
    second.add(FILE, BODY)
    proxy = await flow.proxy(first, second)
    head = await proxy.get(FILE, method="HEAD")
    assert (head.status, head["content-length"], head["x-upstream"]) == (200, "10000", "two")
    assert (await proxy.get(f"{FILE}.metadata", method="HEAD")).status == 404
