"""The upstream client: every way to fail has its error and its status, and gives its place back."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, gatherResults

from pipcache.edges.agent import OPEN_PER_ORIGIN
from pipcache.rules.errors import MalformedResponse, TruncatedBody, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.sites import UpstreamSite
from tests.edges.scene import Scene, bounded
from tests.fakes.upstream import Reply

BODY = bytes(range(256)) * 1000
ABSENT = UpstreamSite.from_root("main", "http://nowhere.invalid")


def raw(text: bytes) -> Reply:
    """A reply of exactly these bytes."""
    return Reply(raw=text)


IN_THE_BODY = {
    "cut": (Reply(body=BODY, cut_after=1000), TruncatedBody),
    "cut before the first byte": (Reply(body=BODY, cut_after=0), TruncatedBody),
    "cut chunks": (Reply(body=BODY, chunked=True, cut_after=1000), TruncatedBody),
    "cut before the last chunk": (Reply(body=BODY, chunked=True, cut_after=len(BODY)), TruncatedBody),
    "reset": (Reply(body=BODY, reset_after=1000), TruncatedBody),
    "reset without a length": (Reply(body=BODY, no_length=True, reset_after=100_000), TruncatedBody),
    "a bad chunk": (Reply(body=BODY, bad_chunk=True), TruncatedBody),
    "too short": (Reply(body=BODY, wrong_length=1), TruncatedBody),
    "silence": (Reply(body=BODY, stall_after=1000), UpstreamTimeout),
    "silence in chunks": (Reply(body=BODY, chunked=True, stall_after=1000), UpstreamTimeout),
    "silence behind the head": (Reply(body=BODY, stall_after=0), UpstreamTimeout),
    "silence in a coding": (Reply(body=BODY, gzip=True, stall_after=20), UpstreamTimeout),
}
BEFORE_THE_BODY = {
    "no HTTP": (raw(b"220 mail.example ESMTP\r\n"), MalformedResponse),
    "no words": (raw(b"\x00\x01\x02\xff" * 100), UpstreamUnavailable),
    "a long line of no HTTP": (raw(b"word " * 3000 + b"\r\n"), MalformedResponse),
    "nothing": (raw(b""), UpstreamUnavailable),
    "half a head": (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), UpstreamUnavailable),
    "a status that is none": (raw(b"HTTP/1.1 OK 200\r\n\r\n"), MalformedResponse),
    "a length that is none": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), MalformedResponse),
    "two lengths": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        MalformedResponse,
    ),
    "a transfer coding that nobody knows": (
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxx"),
        MalformedResponse,
    ),
    "an endless line": (raw(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000), MalformedResponse),
    "silence before the head": (Reply(stall_before_head=True), UpstreamTimeout),
    "a redirect to nowhere": (Reply(redirect_to="ftp://mirror.invalid/a"), MalformedResponse),
}


@pytest.mark.parametrize(("reply", "kind"), IN_THE_BODY.values(), ids=IN_THE_BODY.keys())
@bounded
async def test_a_body_that_breaks_off(reply, kind):
    """What came is handed on, then the failure is said; never an end."""
    async with Scene(silence=0.2) as scene:
        scene.upstream.add_sequence("/a", [reply])
        response, received = await scene.fetch("/a")
        assert response.status == 200
        assert type(received.error) is kind
        assert received.error.status == (504 if kind is UpstreamTimeout else 502)
        assert BODY.startswith(received.body)


@pytest.mark.parametrize(("reply", "kind"), BEFORE_THE_BODY.values(), ids=BEFORE_THE_BODY.keys())
@bounded
async def test_no_usable_answer(reply, kind):
    """What is no response is an error of its kind, with a message of a bearable length on one line."""
    async with Scene(silence=0.2) as scene:
        scene.upstream.add_sequence("/a", [reply])
        error = await scene.refused("/a")
        assert type(error) is kind
        assert error.status == (504 if kind is UpstreamTimeout else 502)
        assert str(error).isprintable()
        assert 5 < len(str(error)) < 250


@bounded
async def test_a_body_that_is_too_long_ends_where_it_was_promised_to():
    """Bytes behind the promised length are nobody's: not this body's, and not the next response's."""
    async with Scene() as scene:
        extra = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        scene.upstream.add("/a", raw=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright" + extra)
        scene.upstream.add("/b", BODY)
        scene.upstream.add("/c", BODY, wrong_length=-10)
        _, received = await scene.fetch("/a")
        assert (received.body, received.length_was_known) == (b"right", True)
        _, received = await scene.fetch("/b")
        assert received.body == BODY
        response, received = await scene.fetch("/c")
        assert (received.body, response.length) == (BODY[:-10], len(BODY) - 10)


@bounded
async def test_a_refused_connection():
    """A port where nobody listens is an upstream that is not there."""
    async with Scene() as scene:
        await scene.upstream.pause()
        error = await scene.refused("/a")
        assert type(error) is UpstreamUnavailable
        assert (error.status, "refused" in str(error)) == (502, True)
        await scene.upstream.resume()


@bounded
async def test_a_name_that_nobody_knows():
    """A host that cannot be resolved is an upstream that is not there."""
    async with Scene() as scene:
        error = await scene.refused("http://nowhere.invalid/a?secret=1", ABSENT)
        assert (type(error), error.status) == (UpstreamUnavailable, 502)
        assert str(error) == "its host name cannot be resolved"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://mirror.invalid/a",
        "http:///a",
        "http://mirror.invalid:port/a",
        "http://mirror.invalid:99999/a",
        "http://[::1/a",
        "http://mirror..invalid/a",
        "http://" + "x" * 300 + ".invalid/a",
        "http://mir ror.invalid/a",
        "http://mirror.invalid\\@evil.invalid/a",
    ],
)
@bounded
async def test_an_address_that_is_none(url):
    """An address that cannot be asked is an upstream's failure like any other, and nothing else is raised."""
    async with Scene() as scene:
        error = await scene.refused(url, ABSENT)
        assert error.status == 502


@bounded
async def test_a_connection_that_was_closed_while_idle_is_no_failure():
    """Upstreams close idle connections whenever they like."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY)
        await scene.fetch("/a")
        await scene.upstream.pause()
        await scene.upstream.resume()
        _, received = await scene.fetch("/a")
        assert received.error is None
        assert scene.upstream.connections_made == 2


@pytest.mark.parametrize(
    "reply",
    [*(each[0] for each in IN_THE_BODY.values()), *(each[0] for each in BEFORE_THE_BODY.values())],
    ids=[*IN_THE_BODY, *BEFORE_THE_BODY],
)
@bounded
async def test_every_failure_gives_its_place_back(reply):
    """After more failures than may be open at once, the next request finds a place."""
    async with Scene(silence=0.3) as scene:
        scene.upstream.add_sequence("/bad", [reply])
        scene.upstream.add("/good", BODY)

        async def fail() -> bool:
            try:
                _, received = await scene.fetch("/bad")
            except UpstreamError:
                return True
            return received.error is not None

        failed = await gatherResults([Deferred.fromCoroutine(fail()) for _ in range(OPEN_PER_ORIGIN + 1)])
        assert all(failed)
        _, received = await scene.fetch("/good")
        assert received.body == BODY


@bounded
async def test_a_request_that_is_given_up_gives_its_place_back():
    """Whoever cancels a request, in progress or waiting, leaves its place to others."""
    async with Scene() as scene:
        scene.upstream.add("/bad", stall_before_head=True)
        scene.upstream.add("/good", BODY)
        asked = [Deferred.fromCoroutine(scene.send("/bad")) for _ in range(OPEN_PER_ORIGIN + 5)]
        await scene.upstream.until(lambda: scene.upstream.count("/bad") == OPEN_PER_ORIGIN)
        for each in reversed(asked):
            each.addErrback(lambda failure: None)
            each.cancel()
        _, received = await scene.fetch("/good")
        assert received.body == BODY
        await scene.upstream.until(lambda: scene.upstream.open_connections == 1)
