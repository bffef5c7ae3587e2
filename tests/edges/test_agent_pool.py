"""Connections to upstreams: used again, limited per origin, given up where there are too many."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, gatherResults

from pipcache.edges.agent import IDLE_ORIGINS, IDLE_PER_ORIGIN, IDLE_SECONDS, OPEN_PER_ORIGIN, SURPLUS_SECONDS
from tests.edges.scene import ClockReactor, Receiver, Scene, bounded, turns
from tests.fakes.upstream import FakeUpstream

BODY = bytes(range(256)) * 100
LARGE = bytes(1 << 22)


@pytest.mark.parametrize(
    ("options", "connections"),
    [
        ({}, 1),
        ({"chunked": True}, 1),
        ({"gzip": True}, 1),
        ({"status": 404}, 1),
        ({"status": 503, "chunked": True}, 1),
        ({"redirect_to": "/end"}, 2),  # the next request does not wait for the rest of the redirect, if it has not come
    ],
)
@bounded
async def test_a_connection_is_used_again(options, connections):
    """Requests one after the other share a connection, after errors and redirects too."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY, **options)
        scene.upstream.add("/end", BODY)
        for _ in range(20):
            await scene.fetch("/a")
        assert scene.upstream.connections_made <= connections


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("options", [{}, {"chunked": True}, {"gzip": True}, {"status": 404}, {"status": 304}])
@bounded
async def test_a_short_body_that_nobody_wants_is_read_off(options, method):
    """A response that is given up before its body was taken leaves its connection to others, if little is left."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY, **options)
        for _ in range(5):
            response = await scene.send("/a", method=method)
            response.abandon()
            await turns()
        assert scene.upstream.connections_made == 1


@bounded
async def test_a_long_body_that_nobody_wants_is_closed():
    """What is too long to be read off ends with its connection, and gives its place back."""
    async with Scene() as scene:
        scene.upstream.add("/a", LARGE)
        for _ in range(OPEN_PER_ORIGIN + 2):
            (await scene.send("/a")).abandon()
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        assert scene.upstream.bytes_sent < len(LARGE) * (OPEN_PER_ORIGIN + 2)
        response = await scene.send("/a")
        response.abandon()


@pytest.mark.parametrize("is_paused", [False, True])
@bounded
async def test_a_body_that_is_given_up_half_way_is_closed(is_paused):
    """Giving up in mid-body says nothing more to the receiver, closes, and gives the place back."""
    async with Scene() as scene:
        scene.upstream.add("/a", LARGE, stall_after=1000)
        for _ in range(OPEN_PER_ORIGIN + 2):
            response = await scene.send("/a")
            receiver = Receiver()
            response.deliver(receiver)
            await receiver.until(lambda it=receiver: len(it.body) == 1000)
            if is_paused:
                response.pause()
            response.abandon()
            response.abandon()
            assert not receiver.is_over
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        assert not receiver.is_over


@bounded
async def test_giving_up_what_is_whole_changes_nothing():
    """After the end there is nothing to close: the connection may be another's by then."""
    async with Scene() as scene:
        scene.upstream.add("/a", BODY)
        scene.upstream.add("/b", BODY, stall_after=10)
        response, _ = await scene.fetch("/a")
        other = await scene.send("/b")
        receiver = Receiver()
        other.deliver(receiver)
        response.abandon()
        scene.upstream.release("/b")
        await receiver.end()
        assert (receiver.body, scene.upstream.connections_made) == (BODY, 1)


@bounded
async def test_so_many_are_open_at_most_and_the_others_wait():
    """Requests above the limit are not sent until others end; waiting is no failure however long it takes."""
    reactor = ClockReactor()
    async with Scene(silence=30, body=10_000, reactor=reactor) as scene:
        scene.upstream.add("/a", BODY, stall_after=10)
        asked = [Deferred.fromCoroutine(scene.fetch("/a")) for _ in range(OPEN_PER_ORIGIN + 10)]
        await scene.upstream.until(lambda: len(scene.upstream.requests) == OPEN_PER_ORIGIN)
        for _ in range(4):
            await turns(50)
            reactor.clock.advance(6)
        assert len(scene.upstream.requests) == OPEN_PER_ORIGIN
        assert scene.upstream.open_connections == OPEN_PER_ORIGIN
        scene.upstream.release("/a")
        for _, received in await gatherResults(asked):
            assert received.body == BODY
        assert scene.upstream.connections_made == OPEN_PER_ORIGIN


@bounded
async def test_a_burst_uses_the_connections_of_the_one_before():
    """Connections beyond those that are kept for long are kept for a moment; then the ones idle for longest are closed."""
    reactor = ClockReactor()
    async with Scene(reactor=reactor) as scene:
        scene.upstream.add("/a", BODY)
        for _ in range(3):
            await gatherResults([Deferred.fromCoroutine(scene.fetch("/a")) for _ in range(IDLE_PER_ORIGIN + 20)])
            reactor.clock.advance(SURPLUS_SECONDS - 1)
            await turns()
        made = scene.upstream.connections_made
        assert made == scene.upstream.open_connections
        assert IDLE_PER_ORIGIN < made <= IDLE_PER_ORIGIN + 20
        await scene.fetch("/a")
        reactor.clock.advance(1)
        await scene.upstream.until(lambda: scene.upstream.open_connections <= IDLE_PER_ORIGIN)
        assert scene.upstream.open_connections == IDLE_PER_ORIGIN
        await scene.fetch("/a")
        assert scene.upstream.connections_made == made
        reactor.clock.advance(IDLE_SECONDS)
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        assert reactor.clock.getDelayedCalls() == []


@bounded
async def test_waiting_for_a_place_is_not_limited():
    """One that waits far longer than the silence is served when its turn comes."""
    reactor = ClockReactor()
    async with Scene(silence=30, body=10_000, reactor=reactor) as scene:
        scene.upstream.add("/a", pieces=[b"x"], length=3)
        scene.upstream.add("/b", BODY)
        asked = [Deferred.fromCoroutine(scene.fetch("/a")) for _ in range(OPEN_PER_ORIGIN)]
        await scene.upstream.until(lambda: len(scene.upstream.requests) == OPEN_PER_ORIGIN)
        waiting = Deferred.fromCoroutine(scene.fetch("/b"))
        await turns(50)
        reactor.clock.advance(25)
        scene.upstream.push("/a", b"x")
        await turns(50)
        reactor.clock.advance(25)
        assert (waiting.called, scene.upstream.count("/b")) == (False, 0)
        scene.upstream.push("/a", b"x")
        scene.upstream.finish("/a")
        await gatherResults(asked)
        _, received = await waiting
        assert received.body == BODY


@bounded
async def test_limits_are_per_origin():
    """One busy origin holds up no other."""
    async with Scene() as scene:
        other = await scene.another()
        other.add("/a", BODY)
        scene.upstream.add("/a", stall_before_head=True)
        asked = [Deferred.fromCoroutine(scene.send("/a")) for _ in range(OPEN_PER_ORIGIN + 1)]
        await scene.upstream.until(lambda: len(scene.upstream.requests) == OPEN_PER_ORIGIN)
        _, received = await scene.fetch(f"{other.url}/a")
        assert received.body == BODY
        for each in reversed(asked):
            each.addErrback(lambda failure: None)
            each.cancel()


@bounded
async def test_idle_connections_are_closed_in_time():
    """A connection that nobody uses is closed after a while, not before."""
    reactor = ClockReactor()
    async with Scene(reactor=reactor) as scene:
        scene.upstream.add("/a", BODY)
        await scene.fetch("/a")
        reactor.clock.advance(IDLE_SECONDS - 1)
        await turns()
        assert scene.upstream.open_connections == 1
        reactor.clock.advance(2)
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        assert reactor.clock.getDelayedCalls() == []


@bounded
async def test_few_origins_keep_idle_connections():
    """When there are too many origins, those used longest ago are given up."""
    async with Scene() as scene:
        others: list[FakeUpstream] = [await scene.another() for _ in range(IDLE_ORIGINS + 2)]
        for other in others:
            other.add("/a", BODY)
            await scene.fetch(f"{other.url}/a")
        await others[0].until(lambda: others[0].open_connections == 0)
        await others[1].until(lambda: others[1].open_connections == 0)
        assert [other.open_connections for other in others[2:]] == [1] * IDLE_ORIGINS
        await scene.fetch(f"{others[2].url}/a")
        await scene.fetch(f"{others[0].url}/a")
        await others[3].until(lambda: others[3].open_connections == 0)
        assert (others[2].open_connections, others[2].connections_made) == (1, 1)


@bounded
async def test_many_origins_at_once():
    """Origins in use are not given up; when their requests end, few keep idle connections all the same."""
    async with Scene() as scene:
        others = [await scene.another() for _ in range(IDLE_ORIGINS + 3)]
        asked = []
        for other in others:
            other.add("/a", BODY, stall_after=10)
            asked.append(Deferred.fromCoroutine(scene.fetch(f"{other.url}/a")))
            await other.wait_for_request("/a")
        for other in others:
            other.release("/a")
        for _, received in await gatherResults(asked):
            assert received.body == BODY
        await turns(50)
        assert sum(other.open_connections for other in others) == IDLE_ORIGINS


@bounded
async def test_the_limit_holds_with_many_origins():
    """An origin that is busy has one limit, however many other origins are used meanwhile."""
    async with Scene() as scene:
        others = [await scene.another() for _ in range(IDLE_ORIGINS + 1)]
        for other in others:
            other.add("/a", BODY, stall_after=10)
        held = [Deferred.fromCoroutine(scene.fetch(f"{other.url}/a")) for other in others]
        held += [Deferred.fromCoroutine(scene.fetch(f"{others[-1].url}/a")) for _ in range(OPEN_PER_ORIGIN + 5)]
        last = others[-1]
        await last.until(lambda: last.open_connections >= OPEN_PER_ORIGIN)
        await turns(100)
        assert last.open_connections == OPEN_PER_ORIGIN
        for other in others:
            other.release("/a")
        await gatherResults(held)


@bounded
async def test_close_leaves_no_connection():
    """After a close, what is idle is gone, and what is in use goes when its request is over."""
    reactor = ClockReactor()
    async with Scene(reactor=reactor) as scene:
        scene.upstream.add("/a", BODY)
        scene.upstream.add("/b", BODY, stall_after=10)
        busy = Deferred.fromCoroutine(scene.fetch("/b"))
        await scene.upstream.wait_for_request("/b")
        await scene.fetch("/a")
        assert scene.upstream.open_connections == 2
        await scene.client.close()
        await scene.upstream.until(lambda: scene.upstream.open_connections == 1)
        scene.upstream.release("/b")
        await busy
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
        assert reactor.clock.getDelayedCalls() == []
