"""The upstream client: silence and total time, on a clock that the test turns; pauses do not count."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from pipcache.edges.endpoints import PromptEndpoint
from pipcache.rules.errors import UpstreamError, UpstreamTimeout
from tests.edges.scene import ClockReactor, Receiver, Scene, bounded, turns

MEGABYTE = 1 << 20


async def begun(scene: Scene, path: str) -> tuple[object, Receiver]:
    """A response whose body is being taken; all that upstream sends for now has come."""
    response = await scene.send(path)
    receiver = Receiver()
    response.deliver(receiver)
    await turns()
    return response, receiver


@bounded
async def test_silence_before_the_head():
    """No answer within the silence is a timeout, and not before."""
    reactor = ClockReactor()
    async with Scene(silence=30, body=600, reactor=reactor) as scene:
        scene.upstream.add("/a", stall_before_head=True)
        asked = Deferred.fromCoroutine(scene.refused("/a"))
        await scene.upstream.wait_for_request("/a")
        reactor.clock.advance(29.9)
        await turns()
        assert not asked.called
        reactor.clock.advance(0.2)
        error = await asked
        assert (type(error), error.status) == (UpstreamTimeout, 504)
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
    assert reactor.clock.getDelayedCalls() == []


@bounded
async def test_silence_in_mid_body_counts_from_the_last_byte():
    """Bytes that come, however slowly, put the end off; then silence is a timeout and the connection is closed."""
    reactor = ClockReactor()
    async with Scene(silence=30, body=600, reactor=reactor) as scene:
        scene.upstream.add("/a", pieces=[b"x"], length=100)
        _, receiver = await begun(scene, "/a")
        for _ in range(5):
            reactor.clock.advance(29)
            scene.upstream.push("/a", b"x")
            await turns()
        assert not receiver.is_over
        reactor.clock.advance(29)
        await turns()
        assert not receiver.is_over
        reactor.clock.advance(2)
        await receiver.end()
        assert (type(receiver.error), receiver.error.status) == (UpstreamTimeout, 504)
        assert receiver.body == b"x" * 6
        await scene.upstream.until(lambda: scene.upstream.open_connections == 0)
    assert reactor.clock.getDelayedCalls() == []


@bounded
async def test_a_body_has_a_total_time():
    """A body that never falls silent ends in a timeout all the same; what comes after that is not handed on."""
    reactor = ClockReactor()
    async with Scene(silence=30, body=100, reactor=reactor) as scene:
        scene.upstream.add("/a", pieces=[b"x"], length=100)
        _, receiver = await begun(scene, "/a")
        for _ in range(9):
            reactor.clock.advance(11)
            scene.upstream.push("/a", b"x")
            await turns()
        assert not receiver.is_over
        reactor.clock.advance(2)
        await receiver.end()
        assert (type(receiver.error), receiver.body) == (UpstreamTimeout, b"x" * 10)
    assert reactor.clock.getDelayedCalls() == []


@bounded
async def test_no_byte_comes_while_paused():
    """A pause stops upstream; what was sent before it comes at most a read later, and all comes after the resume."""
    async with Scene() as scene:
        scene.upstream.add("/a", bytes(64 * MEGABYTE))
        response = await scene.send("/a")
        receiver = Receiver(lambda data: len(receiver.sizes) == 3 and response.pause())
        response.deliver(receiver)
        await receiver.until(lambda: len(receiver.sizes) == 3)
        await turns(100)
        assert len(receiver.sizes) == 3
        assert scene.upstream.bytes_sent < 32 * MEGABYTE
        response.pause()
        response.resume()
        response.resume()
        await receiver.end()
        assert (receiver.error, len(receiver.body)) == (None, 64 * MEGABYTE)


@pytest.mark.parametrize("is_encoded", [False, True])
@bounded
async def test_a_pause_before_the_delivery_holds(is_encoded):
    """A response may be paused before its body is taken: then at most what had come with its head comes."""
    async with Scene() as scene:
        scene.upstream.add("/a", bytes(4 * MEGABYTE), gzip=is_encoded)
        response = await scene.send("/a")
        response.pause()
        receiver = Receiver()
        response.deliver(receiver)
        await turns(100)
        assert len(receiver.sizes) <= 1
        response.resume()
        await receiver.end()
        assert (receiver.error, len(receiver.body)) == (None, 4 * MEGABYTE)


@bounded
async def test_a_pause_at_the_first_byte_holds():
    """The bytes that came with the head may be answered by a pause like any other."""
    async with Scene() as scene:
        scene.upstream.add("/a", bytes(4 * MEGABYTE))
        response = await scene.send("/a")
        await turns()
        receiver = Receiver(lambda data: response.pause())
        response.deliver(receiver)
        await receiver.until(lambda: len(receiver.sizes) == 1)
        await turns(100)
        assert len(receiver.sizes) == 1
        response.abandon()


@bounded
async def test_paused_time_is_not_silence():
    """Time that we paused upstream is not its fault; after the resume it has the whole silence again."""
    reactor = ClockReactor()
    async with Scene(silence=30, body=600, reactor=reactor) as scene:
        scene.upstream.add("/a", pieces=[b"x"], length=3)
        response, receiver = await begun(scene, "/a")
        reactor.clock.advance(20)
        response.pause()
        reactor.clock.advance(100_000)
        await turns()
        assert not receiver.is_over
        response.resume()
        reactor.clock.advance(29)
        await turns()
        assert not receiver.is_over
        scene.upstream.push("/a", b"yz")
        await receiver.end()
        assert (receiver.error, receiver.body) == (None, b"xyz")


@bounded
async def test_paused_time_does_not_count_as_total_time():
    """Only the time that upstream had counts: what was used before a pause is used."""
    reactor = ClockReactor()
    async with Scene(silence=1000, body=100, reactor=reactor) as scene:
        scene.upstream.add("/a", pieces=[b"x"], length=3)
        response, receiver = await begun(scene, "/a")
        for _ in range(3):
            reactor.clock.advance(30)
            response.pause()
            reactor.clock.advance(1000)
            response.resume()
            await turns()
        assert not receiver.is_over
        reactor.clock.advance(9)
        await turns()
        assert not receiver.is_over
        reactor.clock.advance(2)
        await receiver.end()
        assert type(receiver.error) is UpstreamTimeout


@bounded
async def test_a_pause_or_resume_after_the_end_does_nothing():
    """A follower that catches up after the end may say so; no timer begins again."""
    reactor = ClockReactor()
    async with Scene(reactor=reactor) as scene:
        scene.upstream.add("/a", b"all", no_length=True)
        receiver = Receiver(lambda data: response.pause())
        response = await scene.send("/a")
        response.deliver(receiver)
        await turns()
        response.resume()
        await receiver.end()
        response.pause()
        response.resume()
        response.abandon()
        assert reactor.clock.getDelayedCalls() == []
        assert receiver.body == b"all"


class Never:
    """An endpoint that never connects, and says what became of the attempt."""

    def __init__(self) -> None:
        self.cancelled = 0

    def connect(self, factory: Factory) -> Deferred[Protocol]:
        """Wait."""

        def cancel(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancel)


@pytest.mark.parametrize("seconds", [0.5, 5.0])
def test_connecting_takes_so_long_at_most(seconds):
    """An attempt to connect that goes on too long is cancelled, and is silence; no timer is left."""
    clock, endpoint, failures = Clock(), Never(), []
    PromptEndpoint(endpoint, clock, seconds).connect(Factory()).addErrback(failures.append)
    clock.advance(seconds - 0.1)
    assert failures == []
    clock.advance(0.2)
    assert failures[0].check(UpstreamTimeout)
    assert failures[0].value.status == 504
    assert endpoint.cancelled == 1
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(("silence", "longest"), [(30, 5), (2, 2)])
@bounded
async def test_an_upstream_that_cannot_be_reached_costs_the_connect_time(silence, longest):
    """A host that swallows everything is given up after min(timeout, 5 s), as silence."""
    reactor = ClockReactor()
    reactor.connectTCP = Connecting
    async with Scene(silence=silence, reactor=reactor) as scene:
        asked = Deferred.fromCoroutine(scene.refused("/a"))
        while not reactor.clock.getDelayedCalls():
            await turns(1)
        await turns()
        reactor.clock.advance(longest - 0.1)
        await turns()
        assert not asked.called
        reactor.clock.advance(0.2)
        error = await asked
        assert isinstance(error, UpstreamError)
        assert (type(error), error.status) == (UpstreamTimeout, 504)
    assert reactor.clock.getDelayedCalls() == []


class Connecting:
    """A connector that gets nowhere."""

    def __init__(self, host: str, port: int, factory: Any, *_: object, **__: object) -> None:
        factory.startedConnecting(self)

    def getDestination(self) -> IPv4Address:
        """Where it would have led."""
        return IPv4Address("TCP", "127.0.0.1", 1)

    def stopConnecting(self) -> None:
        """Nothing more will come of it."""
