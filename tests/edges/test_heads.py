"""What an upstream may send before a body, and what behind it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.edges.heads import MAX_FIELDS, MAX_INTERIM, MAX_LINE_BYTES, HeadWatch
from pipcache.rules.errors import MalformedResponse
from tests.edges.scene import Scene, bounded

OK = b"HTTP/1.1 200 OK\r\n"
LINE = b"X-A: " + b"a" * (MAX_LINE_BYTES - 20) + b"\r\n"
FEW = b"A: b\r\n"


def watched(*pieces: bytes, request: bytes = b"GET / HTTP/1.1\r\n") -> HeadWatch:
    """What is seen of a response in these pieces."""
    watch = HeadWatch()
    watch.asked(request)
    for piece in pieces:
        watch.received(piece)
    return watch


@pytest.mark.parametrize(
    "response",
    [
        OK + LINE * 5,
        OK + b"A" * (MAX_LINE_BYTES + 1),
        OK + FEW * (MAX_FIELDS + 1),
        OK + b"A: b\r\n" + b" folded\r\n" * MAX_FIELDS,
        b"HTTP/1.1 103 Early\r\n\r\n" * (MAX_INTERIM + 1),
        (b"HTTP/1.1 103 Early\r\n" + FEW * 100 + b"\r\n") * 6,
    ],
    ids=["bytes", "a line", "fields", "folded", "interim", "fields of interim"],
)
@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_a_head_without_end_is_refused(response: bytes, size: int) -> None:
    """Too many bytes, too long a line, too many fields, too many 1xx: in whatever pieces they come."""
    pieces = [response[start : start + size] for start in range(0, len(response), size)]
    with pytest.raises(MalformedResponse):
        watched(*pieces)


@pytest.mark.parametrize(
    "response",
    [
        OK + LINE * 4 + b"\r\n",
        OK + FEW * MAX_FIELDS + b"\r\n" + bytes(1 << 20),
        b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INTERIM + OK + b"Content-Length: 3\n\nabc",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_a_large_head_is_taken(response: bytes) -> None:
    """What is under the limits passes, and bodies are not looked at."""
    assert not watched(response).has_spare


@pytest.mark.parametrize(
    ("request_line", "head", "body", "has_spare"),
    [
        (b"GET", b"200 OK\r\nContent-Length: 5", b"right", False),
        (b"GET", b"200 OK\r\nContent-Length: 5", b"right!", True),
        (b"GET", b"200 OK\r\nCONTENT-LENGTH:5 ", b"right\r\n", True),
        (b"GET", b"200 OK\r\nContent-Length: 0", b"x", True),
        (b"GET", b"204 No Content\r\nA: b", b"x", True),
        (b"GET", b"304 Not Modified\r\nContent-Length: 5", b"right", True),
        (b"HEAD", b"200 OK\r\nContent-Length: 5", b"", False),
        (b"HEAD", b"200 OK\r\nContent-Length: 5", b"right", True),
        (b"GET", b"200 OK\r\nA: b", b"until it closes", False),
    ],
)
def test_bytes_that_belong_to_no_response_are_seen(request_line, head, body, has_spare) -> None:
    """More than the promised length, or anything behind what has no body; cut wherever."""
    response = b"HTTP/1.1 " + head + b"\r\n\r\n" + body
    for cut in range(len(response)):
        assert watched(response[:cut], response[cut:], request=request_line + b" / HTTP/1.1").has_spare is has_spare


def test_each_request_counts_anew() -> None:
    """A connection may be used for any number of responses."""
    watch = HeadWatch()
    for _ in range(20):
        watch.asked(b"GET / HTTP/1.1\r\n")
        watch.received(OK + FEW * (MAX_FIELDS - 1) + b"Content-Length: 2\r\n\r\nab")
    assert not watch.has_spare


@given(st.lists(st.binary(max_size=200)))
def test_whatever_comes_is_refused_or_not(pieces: list[bytes]) -> None:
    """No bytes make it fail in another way."""
    with suppress(MalformedResponse):
        watched(*pieces)


@pytest.mark.parametrize("piece", [FEW, b"B" * 1000, b"HTTP/1.1 100 Continue\r\n\r\n", b" folded\r\n"], ids=repr)
@bounded
async def test_an_endless_head_ends_in_an_error_soon(piece):
    """Upstream may send as much as it likes: it is refused, little of it is read, and its connection is gone."""
    async with Scene() as scene:
        start = b"" if piece.startswith(b"HTTP") else OK + b"A: b\r\n"
        scene.upstream.add("/a", raw=start + piece * ((20 << 20) // len(piece)))
        error = await scene.refused("/a")
        assert type(error) is MalformedResponse
        assert "header" in str(error) or "interim" in str(error)
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)


@bounded
async def test_a_connection_with_spare_bytes_is_not_used_again():
    """Who sends more than was promised gets no second request on that connection; what was promised is taken."""
    async with Scene() as scene:
        spare = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        scene.upstream.add("/a", pieces=[b"right" + spare], length=5)
        scene.upstream.add("/b", b"b")
        scene.upstream.finish("/a")
        for path, body in [("/a", b"right"), ("/b", b"b")] * 3:
            _, received = await scene.fetch(path)
            assert (received.body, received.error) == (body, None)
        assert scene.upstream.connections_made >= 4


@bounded
async def test_a_bomb_in_an_answer_that_nobody_wants_is_not_decoded():
    """Of a redirect's or an error's body only a little is read, also where it would be very much when decoded."""
    async with Scene() as scene:
        bomb = {"body": bytes(50 << 20), "gzip": True}
        scene.upstream.add("/a", redirect_to="/b", **bomb)
        scene.upstream.add("/b", status=404, **bomb)
        response = await scene.send("/a", for_page=True)
        assert response.status == 404
        response.abandon()
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)


@bounded
async def test_an_error_that_trickles_is_given_up():
    """The rest of an answer that nobody wants may take as long as silence may, however it trickles."""
    async with Scene(silence=0.3) as scene:
        scene.upstream.add("/a", status=404, pieces=[b"x"], length=100)
        response = await scene.send("/a")
        response.abandon()
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
