"""The raw client tells what came and how it ended, whole or not."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.fakes.client import Client, End
from tests.fakes.upstream import FakeUpstream

BODY = bytes(range(256)) * 1000


async def soon(coroutine):
    """What the coroutine comes to, within ten seconds."""
    return await Deferred.fromCoroutine(coroutine).addTimeout(10, reactor)


@pytest_twisted.async_yield_fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A server that the test decides."""
    async with FakeUpstream() as it:
        yield it


@pytest.mark.parametrize(
    ("options", "end", "size"),
    [
        ({}, End.LENGTH, len(BODY)),
        ({"chunked": True}, End.CHUNKS, len(BODY)),
        ({"no_length": True}, End.CLOSE, len(BODY)),
        ({"http10": True}, End.LENGTH, len(BODY)),
        ({"cut_after": 1000}, End.BROKEN, 1000),
        ({"reset_after": 1000}, End.BROKEN, 1000),
        ({"reset_after": 1000, "no_length": True}, End.BROKEN, 1000),
        ({"cut_after": 0}, End.BROKEN, 0),
        ({"cut_after": len(BODY), "chunked": True}, End.BROKEN, len(BODY)),
        ({"wrong_length": 1}, End.BROKEN, len(BODY)),
        ({"status": 304}, End.NO_BODY, 0),
        ({"raw": b""}, End.BROKEN, 0),
    ],
    ids=str,
)
@pytest_twisted.ensureDeferred
async def test_how_a_response_ends(upstream, options, end, size):
    """Each framing has its own end, and everything else is broken."""
    upstream.add("/a", BODY, **options)
    client = await soon(Client.to(upstream.port))
    answer = await soon(client.ask("/a").ended())
    assert (answer.end, len(answer.body)) == (end, size)
    assert answer.is_whole == (end in (End.LENGTH, End.CHUNKS, End.NO_BODY))
    assert BODY.startswith(bytes(answer.body))
    await soon(client.close())


@pytest_twisted.ensureDeferred
async def test_answers_on_one_connection_are_kept_apart(upstream):
    """Requests sent at once get their own answers in order: a HEAD has no body, a chunked one ends with its chunks."""
    upstream.add("/a", b"first", headers=[("X-Many", "1"), ("X-Many", "2")])
    upstream.add("/b", b"second", chunked=True)
    client = await soon(Client.to(upstream.port))
    answers = [client.ask("/a"), client.ask("/a", method="HEAD"), client.ask("/b"), client.ask("/a")]
    await soon(answers[-1].ended())
    assert [answer.text for answer in answers] == ["first", "", "second", "first"]
    assert answers[1]["content-length"] == "5"
    assert (answers[0]["x-many"], answers[0]["x-none"]) == ("1, 2", None)
    await soon(client.close())


@pytest_twisted.ensureDeferred
async def test_a_client_that_pauses_and_one_that_vanishes_are_felt(upstream):
    """The server cannot send all to one that does not read, and loses the one that is gone."""
    upstream.add("/a", bytes(32 << 20))
    client, other = await soon(Client.to(upstream.port, 1 << 16)), await soon(Client.to(upstream.port))
    answer = client.ask("/a")
    await soon(answer.received(1))
    client.pause()
    await soon(other.ask("/none").ended())
    assert answer.end is None
    client.resume()
    assert len((await soon(answer.ended())).body) == 32 << 20
    client.vanish()
    other.vanish()
    await soon(wait_until_left(upstream))


async def wait_until_left(upstream):
    """Return when no connection is open."""
    await upstream.until(lambda: upstream.open_connections == 0)
