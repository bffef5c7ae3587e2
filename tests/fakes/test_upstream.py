"""The fake upstream does to a client exactly what it was told to do."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed

from tests.fakes.upstream import ANYTHING_ELSE, FakeUpstream, Reply

BODY = bytes(range(256)) * 1000


class Raw(Protocol):
    """A client that keeps every byte it gets, and the reason why there were no more."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.reason: Failure | None = None
        self._waiters: list[tuple[Callable[[Raw], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self._changed()

    def connectionLost(self, reason: Failure) -> None:
        """Keep why."""
        self.reason = reason
        self._changed()

    def _changed(self) -> None:
        for waiter in list(self._waiters):
            if waiter[0](self):
                self._waiters.remove(waiter)
                waiter[1].callback(None)

    def until(self, is_so: Callable[[Raw], bool]) -> Deferred[None]:
        """Wait until a condition on what was received holds."""
        done: Deferred[None] = Deferred()
        self._waiters.append((is_so, done))
        self._changed()
        return done

    async def until_received(self, end: bytes) -> None:
        """Wait until the received bytes end so."""
        await self.until(lambda self: self.received.endswith(end))

    async def until_closed(self) -> tuple[bytes, bytes]:
        """Wait for the end of the connection; returns the head and what followed it."""
        await self.until(lambda self: self.reason is not None)
        head, _, body = self.received.partition(b"\r\n\r\n")
        return head, body

    def ask(self, path: str, *fields: str, method: str = "GET") -> None:
        """Send a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: upstream", *fields, "\r\n"]
        self.transport.write("\r\n".join(lines).encode())


@pytest_twisted.async_yield_fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A fake upstream, stopped after the test."""
    async with FakeUpstream() as it:
        yield it


async def connect(upstream: FakeUpstream) -> Raw:
    """Open a raw connection."""
    return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", upstream.port), Raw())


async def fetch(upstream: FakeUpstream, path: str, *fields: str, method: str = "GET") -> tuple[bytes, bytes, Raw]:
    """Ask once, on a connection that is to close behind the answer; returns head, body and the connection."""
    client = await connect(upstream)
    client.ask(path, "Connection: close", *fields, method=method)
    return *await client.until_closed(), client


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
    "options",
    [
        {"cut_after": 1000},
        {"cut_after": 1000, "chunked": True},
        {"cut_after": len(BODY), "chunked": True},
        {"reset_after": 1000},
        {"reset_after": 0, "chunked": True},
        {"bad_chunk": True},
        {"wrong_length": 1},
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_real_client_notices_what_is_broken(upstream, options):
    """An Agent fails to read a body that is cut, reset, badly framed or shorter than it says."""
    upstream.add("/a", BODY, **options)
    response = await Agent(reactor).request(b"GET", f"{upstream.url}/a".encode())
    with pytest.raises(ResponseFailed):
        await treq.content(response)


@pytest_twisted.ensureDeferred
async def test_a_cut_is_orderly_and_a_reset_is_not(upstream):
    """Both send exactly the bytes they were told; one ends with FIN, the other with RST."""
    upstream.add("/cut", BODY, cut_after=70_000)
    upstream.add("/reset", BODY, reset_after=70_000)
    _, cut_body, cut = await fetch(upstream, "/cut")
    _, reset_body, reset = await fetch(upstream, "/reset")
    assert cut_body == reset_body == BODY[:70_000]
    assert cut.reason.check(ConnectionDone)
    assert reset.reason.check(ConnectionLost)
    assert upstream.bytes_sent == 140_000


@pytest.mark.parametrize("difference", [-3, 3])
@pytest_twisted.ensureDeferred
async def test_a_wrong_length_is_announced_and_the_whole_body_sent(upstream, difference):
    """Content-Length is off by what was asked for, also for HEAD."""
    upstream.add("/a", b"0123456789", wrong_length=difference)
    head, body, _ = await fetch(upstream, "/a")
    assert b"Content-Length: %d" % (10 + difference) in head
    assert body == b"0123456789"
    assert b"Content-Length: %d" % (10 + difference) in (await fetch(upstream, "/a", method="HEAD"))[0]


@pytest_twisted.ensureDeferred
async def test_a_stall_lasts_until_it_is_released(upstream):
    """A stalled body stands at its byte, other requests go on, and a release completes it."""
    upstream.add("/a", BODY, stall_after=1000)
    client = await connect(upstream)
    client.ask("/a")
    await client.until_received(BODY[:1000])
    await fetch(upstream, "/other")
    assert client.received.endswith(b"\r\n\r\n" + BODY[:1000])
    upstream.release("/a")
    await client.until_received(b"\r\n\r\n" + BODY)
    assert (await fetch(upstream, "/a"))[1] == BODY


@pytest_twisted.ensureDeferred
async def test_a_stall_before_the_head_sends_nothing(upstream):
    """The request is recorded and nothing comes, until the release."""
    upstream.add("/a", b"late", stall_before_head=True)
    client = await connect(upstream)
    client.ask("/a")
    await upstream.wait_for_request("/a")
    await fetch(upstream, "/other")
    assert client.received == b""
    upstream.release("/a")
    await client.until_received(b"\r\n\r\nlate")


@pytest_twisted.ensureDeferred
async def test_a_stall_may_end_in_a_cut(upstream):
    """Stalling and cutting at the same byte holds first and breaks on release."""
    upstream.add("/a", BODY, stall_after=10, reset_after=10)
    client = await connect(upstream)
    client.ask("/a")
    await client.until_received(BODY[:10])
    upstream.release("/a")
    assert (await client.until_closed())[1] == BODY[:10]
    assert client.reason.check(ConnectionLost)


@pytest_twisted.ensureDeferred
async def test_pieces_are_sent_when_the_test_says(upstream):
    """Each pushed piece arrives before the next is pushed, and a late request gets those before it too."""
    upstream.add("/a", pieces=[b"one "])
    client = await connect(upstream)
    client.ask("/a")
    await client.until_received(b"4\r\none \r\n")
    upstream.push("/a", b"two ")
    await client.until_received(b"4\r\ntwo \r\n")
    late = await connect(upstream)
    late.ask("/a")
    await late.until_received(b"8\r\none two \r\n")
    upstream.finish("/a")
    await client.until_received(b"\r\n0\r\n\r\n")
    await late.until_received(b"\r\n0\r\n\r\n")


@pytest_twisted.ensureDeferred
async def test_pieces_may_have_a_length(upstream):
    """A controlled stream with a length is framed by it, and may be cut as well."""
    upstream.add("/a", pieces=[], length=10, cut_after=6)
    client = await connect(upstream)
    client.ask("/a")
    await client.until_received(b"Content-Length: 10\r\n\r\n")
    upstream.push("/a", b"01234567")
    _, body = await client.until_closed()
    assert body == b"012345"


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
async def test_a_client_that_stops_reading_stops_the_upstream(upstream):
    """Bytes wait with the upstream, not in its memory, while the client reads nothing."""
    upstream.add("/a", bytes(32 * 1024 * 1024))
    client = await connect(upstream)
    client.ask("/a")
    await upstream.wait_for_request("/a")
    client.transport.pauseProducing()
    await fetch(upstream, "/other")
    sent = upstream.bytes_sent
    assert sent < 16 * 1024 * 1024
    client.transport.resumeProducing()
    await client.until(lambda self: len(self.received) > 32 * 1024 * 1024)


@pytest_twisted.ensureDeferred
async def test_a_wait_counts_requests_from_the_start(upstream):
    """A wait for a request that came already is over at once; the second one is waited for."""
    await fetch(upstream, "/a", "X-Which: one")
    assert (await upstream.wait_for_request("/a")).headers["x-which"] == "one"
    second = Deferred.fromCoroutine(upstream.wait_for_request("/a", nth=2))
    assert not second.called
    await fetch(upstream, "/a", "X-Which: two")
    assert (await second).headers["x-which"] == "two"


@pytest_twisted.ensureDeferred
async def test_a_paused_upstream_refuses_and_comes_back_on_its_port(upstream):
    """A pause resets what is open and refuses what is new; afterwards the same address answers."""
    upstream.add("/a", BODY, stall_after=10)
    client = await connect(upstream)
    client.ask("/a")
    await client.until_received(BODY[:10])
    url = upstream.url
    await upstream.pause()
    await client.until_closed()
    assert client.reason.check(ConnectionLost)
    with pytest.raises(ConnectError):
        await connect(upstream)
    await upstream.resume()
    assert upstream.url == url
    assert (await fetch(upstream, "/b"))[0].startswith(b"HTTP/1.1 404 ")


@pytest_twisted.ensureDeferred
async def test_stopping_leaves_no_connection(upstream):
    """A stop ends stalled responses and idle connections, and may be repeated."""
    upstream.add("/a", BODY, stall_before_head=True)
    idle, stalled = await connect(upstream), await connect(upstream)
    stalled.ask("/a")
    await upstream.wait_for_request("/a")
    await upstream.until(lambda: upstream.open_connections == 2)
    await upstream.stop()
    assert upstream.open_connections == 0
    await idle.until_closed()
    await stalled.until_closed()
    await upstream.stop()


@pytest.mark.parametrize(
    "options", [{"http10": True, "chunked": True}, {"pieces": [], "gzip": True}, {"pieces": [], "body": b"x"}]
)
def test_what_cannot_be_sent_is_refused(options):
    """Options that contradict each other are an error of the test."""
    with pytest.raises(ValueError, match=r"HTTP/1\.0|pieces"):
        Reply(**options)
