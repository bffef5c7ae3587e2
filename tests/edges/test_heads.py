"""What an upstream may send before a body, and what behind it."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.edges.heads import MAX_FIELDS, MAX_INTERIM, MAX_LINE_BYTES, Head, HeadReader
from pipcache.rules.errors import MalformedResponse
from tests.edges.scene import Scene, bounded

OK = b"HTTP/1.1 200 OK\r\n"
LINE = b"X-A: " + b"a" * (MAX_LINE_BYTES - 20) + b"\r\n"
FEW = b"A: b\r\n"


def read(*pieces: bytes, is_head_request: bool = False) -> tuple[Head, bytes] | None:
    """The head in these pieces, and what came behind it."""
    reader = HeadReader(is_head_request=is_head_request)
    found = None
    for number, piece in enumerate(pieces):
        found = reader.take(piece)
        if found is not None:
            return found[0], found[1] + b"".join(pieces[number + 1 :])
    return None


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
        read(*pieces)


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
    """What is under the limits passes, in whatever pieces it comes, and what is behind it is left as it is."""
    for size in (1 << 21, 5000, 100):
        found = read(*[response[start : start + size] for start in range(0, len(response), size)])
        assert found is not None
        assert found[0].status == 200
        assert response.endswith(found[1])


@pytest.mark.parametrize(
    ("head", "length", "is_chunked", "stays_open"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5", 5, False, True),
        (b"HTTP/1.1 200\r\nCONTENT-LENGTH:5 ", 5, False, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\ncontent-length: 5", 5, False, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close", 5, False, False),
        (b"HTTP/1.0 200 OK\nContent-Length: 5", 5, False, False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5", 5, False, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 5", None, True, True),
        (b"HTTP/1.1 200 OK\r\nA: b", None, False, True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5", 0, False, True),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked", 0, False, True),
    ],
)
def test_how_a_body_is_framed(head, length, is_chunked, stays_open) -> None:
    """A length, chunks before a length, or neither; and whether there may be another response behind it."""
    found = read(head + b"\r\n\r\nrest")
    assert found is not None
    assert (found[0].length, found[0].is_chunked, found[0].stays_open) == (length, is_chunked, stays_open)
    assert found[1] == b"rest"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 6",
        b"Content-Length: -5",
        b"Content-Length: +5",
        b"Content-Length: ",
        b"Content-Length: 5_0",
        b"Content-Length: \xb2",
        b"Content-Length: " + b"9" * 5000,
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
        b"no colon",
        b": no name",
        b"a name: x",
        b"name : x",
    ],
)
def test_a_head_that_cannot_be_understood(fields) -> None:
    """A framing that two may read in two ways, and lines that are no fields, are refused."""
    with pytest.raises(MalformedResponse):
        read(OK + fields + b"\r\n\r\n")


@pytest.mark.parametrize(
    "start",
    [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 OK 200\r\n\r\n", b"HTTP/1.1 99 x\r\n\r\n", b"ICY 200 OK\r\n", b"\r\n"],
)
def test_what_is_no_response_is_seen_at_its_first_line(start) -> None:
    """Nobody waits for the rest of what is no HTTP."""
    with pytest.raises(MalformedResponse):
        read(start)


def test_fields_come_as_they_are() -> None:
    """In their order, folded lines joined, without those that are about the connection."""
    lines = b"X-One:  1 \r\nConnection: x-private, close\r\nx-two: a\r\n b\xe9\r\nX-Private: 1\r\nKeep-Alive: 1\r\n"
    found = read(OK + lines + b"x-ONE: a\rb\r\nContent-Encoding: GZIP, identity\r\n\r\n")
    assert found is not None
    assert found[0].fields == (("x-one", "1"), ("x-two", "a b\xe9"), ("x-one", "a b"))
    assert found[0].codings == ("gzip",)


def test_of_head_the_length_is_a_field() -> None:
    """It has no body, and the length of what it would have is what was asked for."""
    found = read(OK + b"Content-Length: 5\r\n\r\n", is_head_request=True)
    assert found is not None
    assert (found[0].length, found[0].fields) == (0, (("content-length", "5"),))


@given(st.lists(st.binary(max_size=200)))
def test_whatever_comes_is_refused_or_not(pieces: list[bytes]) -> None:
    """No bytes make it fail in another way."""
    with suppress(MalformedResponse):
        read(*pieces)


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
        bomb = {"body": bytes(50 << 20) + Random(1).randbytes(10 << 20), "gzip": True}
        scene.upstream.add("/a", redirect_to="/b", **bomb)
        scene.upstream.add("/b", status=404, **bomb)
        response = await scene.send("/a", for_page=True)
        assert response.status == 404
        response.abandon()
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        assert scene.upstream.bytes_sent < 20 << 20


@bounded
async def test_an_error_that_trickles_is_given_up():
    """The rest of an answer that nobody wants may take as long as silence may, however it trickles."""
    async with Scene(silence=0.3) as scene:
        scene.upstream.add("/a", status=404, pieces=[b"x"], length=100)
        response = await scene.send("/a")
        response.abandon()
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
