"""The fake upstream does to a client exactly the harm that it was told to do: it breaks off, lies, stalls and goes away."""

from __future__ import annotations

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.web.client import Agent, ResponseFailed

from tests.fakes.raw import BODY, connect, fetch


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
