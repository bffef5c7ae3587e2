"""The fake upstream serves as a good one does: bodies, ranges and conditions, one request after the other."""

from __future__ import annotations

import gzip

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.web.client import HTTPConnectionPool

from tests.fakes.raw import BODY, connect, fetch
from tests.fakes.upstream import ANYTHING_ELSE, Reply


@pytest_twisted.ensureDeferred
async def test_an_ordinary_body_has_its_length_and_its_type(upstream):
    """A body without options is a whole 200 with length, type, validators and the fields given."""
    upstream.add("/a", BODY, content_type="text/x", etag='"e"', last_modified="then", headers=[("X-A", "b")])
    head, body, client = await fetch(upstream, "/a")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"Content-Type: text/x",
        b"X-A: b",
        b'ETag: "e"',
        b"Last-Modified: then",
        b"Content-Length: 256000",
    ]
    assert body == BODY
    assert upstream.bytes_sent == len(BODY)
    assert client.reason.check(ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_requests_are_recorded(upstream):
    """What was asked is kept with its fields in lower case, and counted by target and method."""
    upstream.add("/a", b"x")
    await fetch(upstream, "/a?q=1", "X-One: 1", "x-one: 2")
    await fetch(upstream, "/a?q=1", method="HEAD")
    recorded = upstream.requests[0]
    assert (recorded.method, recorded.target) == ("GET", "/a?q=1")
    assert recorded.headers["x-one"] == "1, 2"
    assert 0 < recorded.at <= upstream.requests[1].at
    assert upstream.count("/a?q=1") == 2
    assert upstream.count("/a?q=1", method="HEAD") == 1
    assert upstream.count("/a") == 0


@pytest_twisted.ensureDeferred
async def test_a_connection_serves_requests_one_after_the_other(upstream):
    """Keep-alive holds, pipelined requests are answered in order, and connections are counted."""
    upstream.add("/a", b"first")
    upstream.add("/b", b"second", chunked=True)
    client = await connect(upstream)
    client.ask("/a")
    client.ask("/b")
    await client.until_received(b"6\r\nsecond\r\n0\r\n\r\n")
    client.ask("/a")
    await client.until_received(b"\r\n\r\nfirst")
    assert (upstream.connections_made, upstream.open_connections) == (1, 1)
    client.transport.loseConnection()
    await upstream.until(lambda: upstream.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_a_request_may_arrive_in_pieces(upstream):
    """A head that is split over several segments is one request."""
    upstream.add("/a", b"whole")
    client = await connect(upstream)
    client.transport.write(b"GET /a HT")
    await upstream.until(lambda: upstream.open_connections == 1)
    client.transport.write(b"TP/1.1\r\nHost: x\r\n\r\n")
    await client.until_received(b"whole")
    assert len(upstream.requests) == 1


@pytest_twisted.ensureDeferred
async def test_head_is_answered_without_a_body(upstream):
    """HEAD has the length of what GET would send, and nothing behind the head."""
    upstream.add("/a", BODY)
    head, body, _ = await fetch(upstream, "/a", method="HEAD")
    assert b"Content-Length: 256000" in head
    assert body == b""
    assert upstream.bytes_sent == 0


@pytest_twisted.ensureDeferred
async def test_an_unknown_path_is_404_unless_something_answers_all_of_them(upstream):
    """What is not registered is absent; one reply may stand for every other path."""
    assert (await fetch(upstream, "/a"))[0].startswith(b"HTTP/1.1 404 ")
    upstream.add(ANYTHING_ELSE, status=503)
    assert (await fetch(upstream, "/a"))[0].startswith(b"HTTP/1.1 503 ")


@pytest_twisted.ensureDeferred
async def test_a_sequence_answers_in_order_and_ends_with_its_last(upstream):
    """The n-th request gets the n-th reply; the last one holds for ever."""
    upstream.add_sequence("/a", [Reply(status=500), Reply(body=b"x")])
    statuses = [(await fetch(upstream, "/a"))[0].split()[1] for _ in range(3)]
    assert statuses == [b"500", b"200", b"200"]


@pytest_twisted.ensureDeferred
async def test_a_redirect_names_its_target(upstream):
    """A redirect is a 302, or the status that was asked for."""
    upstream.add("/a", redirect_to="/b")
    upstream.add("/b", redirect_to="/c", status=308)
    first, second = (await fetch(upstream, "/a"))[0], (await fetch(upstream, "/b"))[0]
    assert first.startswith(b"HTTP/1.1 302 ")
    assert b"Location: /b" in first
    assert second.startswith(b"HTTP/1.1 308 ")


@pytest.mark.parametrize("options", [{"no_length": True}, {"http10": True, "no_length": True}])
@pytest_twisted.ensureDeferred
async def test_a_body_may_end_with_its_connection(upstream, options):
    """Without a length the upstream closes behind the body, though the client did not ask for it."""
    upstream.add("/a", BODY, **options)
    client = await connect(upstream)
    client.ask("/a")
    head, body = await client.until_closed()
    assert b"Content-Length" not in head
    assert head.startswith(b"HTTP/1.0 " if "http10" in options else b"HTTP/1.1 ")
    assert body == BODY


@pytest_twisted.ensureDeferred
async def test_http10_has_a_length_and_closes(upstream):
    """HTTP/1.0 keeps its length where nothing else is said."""
    upstream.add("/a", b"old", http10=True)
    client = await connect(upstream)
    client.ask("/a")
    head, body = await client.until_closed()
    assert b"Content-Length: 3" in head
    assert body == b"old"


@pytest_twisted.ensureDeferred
async def test_gzip_is_sent_whatever_the_client_accepts(upstream):
    """The body is compressed and labelled so, its length is that of what is sent."""
    upstream.add("/a", BODY, gzip=True)
    head, body, _ = await fetch(upstream, "/a", "Accept-Encoding: identity")
    assert b"Content-Encoding: gzip" in head
    assert b"Content-Length: %d" % len(body) in head
    assert gzip.decompress(body) == BODY


@pytest.mark.parametrize("options", [{}, {"chunked": True}, {"no_length": True}, {"gzip": True}])
@pytest_twisted.ensureDeferred
async def test_treq_reads_what_is_well_formed(upstream, options):
    """A real client gets the whole body however it is framed."""
    upstream.add("/a", BODY, **options)
    pool = HTTPConnectionPool(reactor, persistent=False)
    response = await treq.get(f"{upstream.url}/a", pool=pool)
    assert await treq.content(response) == BODY


@pytest.mark.parametrize(
    ("fields", "status", "content_range", "expected"),
    [
        (["Range: bytes=2-4"], b"206", b"bytes 2-4/10", b"234"),
        (["Range: bytes=7-"], b"206", b"bytes 7-9/10", b"789"),
        (["Range: bytes=7-99"], b"206", b"bytes 7-9/10", b"789"),
        (["Range: bytes=-3"], b"206", b"bytes 7-9/10", b"789"),
        (["Range: bytes=-99"], b"206", b"bytes 0-9/10", b"0123456789"),
        (["Range: bytes=10-"], b"416", b"bytes */10", b""),
        (["Range: bytes=-0"], b"416", b"bytes */10", b""),
        (["Range: bytes=4-2"], b"200", None, b"0123456789"),
        (["Range: bytes=0-1,4-5"], b"200", None, b"0123456789"),
        (["Range: bytes=2-4", 'If-Range: "e"'], b"206", b"bytes 2-4/10", b"234"),
        (["Range: bytes=2-4", 'If-Range: "other"'], b"200", None, b"0123456789"),
        (['If-None-Match: "x", "e"'], b"304", None, b""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_ranges_and_conditions_are_honoured(upstream, fields, status, content_range, expected):
    """One range of bytes is answered as RFC 9110 says, under If-Range too; everything else by the whole."""
    upstream.add("/a", b"0123456789", ranges=True, etag='"e"')
    head, body, _ = await fetch(upstream, "/a", *fields)
    assert head.split()[1] == status
    assert body == expected
    assert (b"Content-Range" in head) == (content_range is not None)
    assert content_range is None or b"Content-Range: " + content_range in head


@pytest_twisted.ensureDeferred
async def test_a_range_without_leave_is_the_whole(upstream):
    """Where ranges are not switched on the whole body comes, and Accept-Ranges does not."""
    upstream.add("/a", b"0123456789")
    head, body, _ = await fetch(upstream, "/a", "Range: bytes=2-4")
    assert body == b"0123456789"
    assert b"Accept-Ranges" not in head


@pytest_twisted.ensureDeferred
async def test_raw_bytes_replace_a_response(upstream):
    """What is no HTTP can be sent as well."""
    upstream.add("/a", raw=b"SSH-2.0-surprise\r\n")
    client = await connect(upstream)
    client.ask("/a")
    await client.until_closed()
    assert client.received == b"SSH-2.0-surprise\r\n"


@pytest_twisted.ensureDeferred
async def test_a_wait_counts_requests_from_the_start(upstream):
    """A wait for a request that came already is over at once; the second one is waited for."""
    await fetch(upstream, "/a", "X-Which: one")
    assert (await upstream.wait_for_request("/a")).headers["x-which"] == "one"
    second = Deferred.fromCoroutine(upstream.wait_for_request("/a", nth=2))
    assert not second.called
    await fetch(upstream, "/a", "X-Which: two")
    assert (await second).headers["x-which"] == "two"


@pytest.mark.parametrize(
    "options", [{"http10": True, "chunked": True}, {"pieces": [], "gzip": True}, {"pieces": [], "body": b"x"}]
)
def test_what_cannot_be_sent_is_refused(options):
    """Options that contradict each other are an error of the test."""
    with pytest.raises(ValueError, match=r"HTTP/1\.0|pieces"):
        Reply(**options)
