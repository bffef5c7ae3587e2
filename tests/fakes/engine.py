"""Stand-ins for what surrounds the engine: upstreams, clients, the clock, and those who watch.

Nothing here opens a socket or waits. An upstream's response is steered byte by byte by the test; a client's sink can
pause, resume and vanish, also inside its own `write`. What must hold at every moment is asserted on the spot: nothing is
written to a sink that is paused or over, nothing is asked of a response that is through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pipcache.engine.follower import BodyFollower
from pipcache.engine.interfaces import BodySource, Clock
from pipcache.rules.errors import PipcacheError, UpstreamError
from pipcache.rules.fields import Fields
from pipcache.rules.sites import BodyReceiver, UpstreamRequest, UpstreamSite

T = TypeVar("T")


def begin(coming: Awaitable[T]) -> Deferred[T]:
    """A coroutine, begun."""

    async def run() -> T:
        return await coming

    return Deferred.fromCoroutine(run())


def result_of(deferred: Deferred[T]) -> T:
    """The result that is there; raises the error that is there, or fails the test when there is none yet."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    assert outcome, "it is still waiting"
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    return outcome[0]  # type: ignore[no-any-return]


def is_waiting(deferred: Deferred[Any]) -> bool:
    """Whether there is neither a result nor an error yet."""
    return not deferred.called


class Turns(task.Clock):
    """A clock that can take one turn of the reactor: what is due now, without what that makes due."""

    def turn(self) -> None:
        """Run what is due."""
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class FakeResponse:
    """An upstream's response; the test gives its bytes and its end."""

    def __init__(self, status: int = 200, length: int | None = None, fields: Fields = (), url: str = "") -> None:
        self.status = status
        self.length = length
        self.fields = fields
        self.url = url
        self.receiver: BodyReceiver | None = None
        self.is_paused = False
        self.is_abandoned = False
        self.is_over = False
        self.pauses = 0
        self.on_resume: Callable[[], None] | None = None

    def deliver(self, receiver: BodyReceiver) -> None:
        """Who takes the body."""
        assert self.receiver is None, "delivered twice"
        assert not self.is_abandoned, "delivered after it was abandoned"
        self.receiver = receiver

    def pause(self) -> None:
        """As a connection; told once until it is resumed."""
        assert not self.is_over, "paused after its end"
        assert not self.is_paused, "paused twice"
        self.is_paused = True
        self.pauses += 1

    def resume(self) -> None:
        """As a connection."""
        assert not self.is_over, "resumed after its end"
        assert self.is_paused, "resumed though it was not paused"
        self.is_paused = False
        if self.on_resume is not None:
            self.on_resume()

    def abandon(self) -> None:
        """As a client that gives it up."""
        assert not self.is_over, "abandoned after its end"
        assert not self.is_abandoned, "abandoned twice"
        self.is_abandoned = True

    @property
    def is_settled(self) -> bool:
        """Whether its connection is free again: it was read to its end, or given up."""
        return self.is_over or self.is_abandoned

    def give(self, data: bytes) -> None:
        """Send these bytes; like a connection, it can have some under way when it is paused."""
        assert self.receiver is not None, "nobody takes the body"
        if not self.is_abandoned:
            self.receiver.received(data)

    def end(self, *, length_was_known: bool = True) -> None:
        """Say that this was all."""
        assert self.receiver is not None, "nobody takes the body"
        if not self.is_settled:
            self.is_over = True
            self.receiver.ended(length_was_known)

    def fail(self, error: UpstreamError) -> None:
        """Break off."""
        assert self.receiver is not None, "nobody takes the body"
        if not self.is_settled:
            self.is_over = True
            self.receiver.failed(error)

    def give_all(self, body: bytes, chunk_bytes: int = 1 << 16) -> None:
        """Send a whole body in chunks, and its end."""
        for start in range(0, len(body), chunk_bytes):
            self.give(body[start : start + chunk_bytes])
        self.end()


@define
class Sent:
    """A request that the engine sent, and its answer to come."""

    request: UpstreamRequest
    answer: Deferred[Any]


class FakeClient:
    """Holds every request until the test answers it."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.responses: list[FakeResponse] = []
        self.page_sites: tuple[UpstreamSite, ...] = ()

    def send(self, request: UpstreamRequest) -> Deferred[Any]:
        """Note the request; the answer is the test's."""
        self.sent.append(Sent(request, Deferred()))
        return self.sent[-1].answer

    def allow_pages_from(self, sites: tuple[UpstreamSite, ...]) -> None:
        """Note them."""
        self.page_sites = sites

    @property
    def urls(self) -> list[str]:
        """What was asked for, in order."""
        return [sent.request.url for sent in self.sent]

    @property
    def waiting(self) -> list[str]:
        """What was asked for and has no answer yet."""
        return [sent.request.url for sent in self.sent if not sent.answer.called]

    def answer(self, status: int = 200, length: int | None = None, fields: Fields = (), url: str = "") -> FakeResponse:
        """Answer the oldest request that waits, or the one for this URL; the body is the test's to send."""
        sent = self._next(url)
        response = FakeResponse(status, length, fields, sent.request.url)
        self.responses.append(response)
        sent.answer.callback(response)
        return response

    def answer_whole(self, body: bytes, fields: Fields = (), url: str = "") -> FakeResponse:
        """Answer with 200 and the whole body."""
        response = self.answer(200, len(body), fields, url)
        response.give_all(body)
        return response

    def refuse(self, error: Exception, url: str = "") -> None:
        """Let a request come to nothing."""
        self._next(url).answer.errback(error)

    def _next(self, url: str) -> Sent:
        found = [sent for sent in self.sent if not sent.answer.called and url in ("", sent.request.url)]
        assert found, f"no request waits for an answer {url}"
        return found[0]


class RecordedEvents:
    """`Events` as a list of names with what was told; exceptions that were bugs are kept too."""

    def __init__(self) -> None:
        self.all: list[tuple[Any, ...]] = []
        self.crashes: list[Failure] = []

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """What was told under this name, without the name."""
        return [event[1:] for event in self.all if event[0] == name]

    def fetched(self, path: str, upstream: str, size_bytes: int, seconds: float) -> None:
        """Record it."""
        self.all.append(("fetched", path, upstream, size_bytes, seconds))

    def validated(self, path: str, upstream: str) -> None:
        """Record it."""
        self.all.append(("validated", path, upstream))

    def upstream_failed(self, upstream: str, path: str, error: PipcacheError) -> None:
        """Record it."""
        self.all.append(("upstream_failed", upstream, path, error))

    def fetch_broke(self, path: str, upstream: str, error: PipcacheError) -> None:
        """Record it."""
        self.all.append(("fetch_broke", path, upstream, error))

    def storage_failed(self, error: PipcacheError) -> None:
        """Record it."""
        self.all.append(("storage_failed", error))

    def storage_works(self) -> None:
        """Record it."""
        self.all.append(("storage_works",))

    def found_wrong(self, key: str) -> None:
        """Record it."""
        self.all.append(("found_wrong", key))

    def evicted(self, entries: int, freed_bytes: int, short_bytes: int) -> None:
        """Record it."""
        self.all.append(("evicted", entries, freed_bytes, short_bytes))

    def scanned(self, entries: int, size_bytes: int, seconds: float) -> None:
        """Record it."""
        self.all.append(("scanned", entries, size_bytes, seconds))

    def crowded(self, limit: int) -> None:
        """Record it."""
        self.all.append(("crowded", limit))

    def crashed(self, doing: str) -> None:
        """Record it."""
        self.all.append(("crashed", doing))
        self.crashes.append(Failure())


class Sink:
    """One client's response; `on_write` runs inside each write, with the number of writes so far."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.writes: list[bytes] = []
        self.end: str | None = None
        self.is_paused = False
        self.is_gone = False
        self.follower: BodyFollower | None = None
        self.on_write: Callable[[int], None] | None = None

    def follow(self, source: BodySource, clock: Clock, start: int = 0, stop: int | None = None) -> BodyFollower:
        """Be written to from this source from now on."""
        self.follower = BodyFollower(source, self, clock, start, stop)
        if self.is_paused:
            self.follower.pauseProducing()
        self.follower.begin()
        return self.follower

    def write(self, data: bytes) -> None:
        """Take them, if that is allowed now."""
        assert data, "an empty write"
        assert not self.is_paused, "written to while paused"
        assert not self.is_gone, "written to after it left"
        assert self.end is None, "written to after its end"
        self.data += data
        self.writes.append(data)
        if self.on_write is not None:
            self.on_write(len(self.writes))

    def finish(self) -> None:
        """Note it."""
        self._over("finished")

    def abort(self) -> None:
        """Note it."""
        self._over("aborted")

    def pause(self) -> None:
        """Have no more room, or none from the start."""
        self.is_paused = True
        if self.follower is not None:
            self.follower.pauseProducing()

    def resume(self) -> None:
        """Have room again."""
        assert self.follower is not None
        self.is_paused = False
        self.follower.resumeProducing()

    def vanish(self) -> None:
        """Be gone."""
        assert self.follower is not None
        self.is_gone = True
        self.follower.stopProducing()

    def _over(self, how: str) -> None:
        assert not self.is_gone, f"{how} after it left"
        assert self.end is None, f"{how} after it was {self.end}"
        self.end = how


@define
class Source:
    """A body for a follower alone: what it may read, and what it did."""

    content: bytes = b""
    is_whole: bool = False
    error: Exception | None = None
    followers: list[Any] = field(factory=list)
    reads: list[tuple[int, int]] = field(factory=list)
    leaves: int = 0
    takes: int = 0

    @property
    def available(self) -> int:
        """All of it."""
        return len(self.content)

    def read_at(self, offset: int, count: int) -> bytes:
        """Note what is read, and give it."""
        self.reads.append((offset, count))
        if self.error is not None:
            raise self.error
        return self.content[offset : offset + count]

    def follow(self, follower: Any) -> None:
        """Note who follows."""
        self.followers.append(follower)

    def unwanted(self) -> None:
        """It is followed, so this is wrong."""
        raise AssertionError("it is followed")

    def leave(self, follower: Any) -> None:
        """Note it."""
        self.leaves += 1
        self.followers.remove(follower)

    def taken(self) -> None:
        """Note it."""
        self.takes += 1

    def give(self, data: bytes) -> None:
        """As a fetch does: more is there, then it is offered."""
        offset = len(self.content)
        self.content += data
        for follower in tuple(self.followers):
            follower.offered(offset, data)

    def finish(self) -> None:
        """It is whole."""
        self.is_whole = True
        for follower in tuple(self.followers):
            follower.advanced()

    def breaks(self) -> None:
        """It will never be."""
        for follower in tuple(self.followers):
            follower.broken()
