"""What the simulation found, each as the smallest test that shows it; the seeds that did so change with the code."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import field, mutable
from twisted.internet.defer import Deferred, succeed

from pipcache.edges.disk import DiskStore
from pipcache.engine.fetch import Expected, Fetch
from pipcache.rules.errors import MalformedResponse, TruncatedBody, UpstreamError
from pipcache.rules.fields import Fields
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from pipcache.rules.sites import BodyReceiver
from tests.fakes.memory_files import MemoryDisk, MemoryFiles

KEY = CacheKey("GET-/simple/flask/")


@mutable
class Response:
    """A response that says what a test lets it say."""

    status: int = 200
    length: int | None = None
    fields: Fields = ()
    url: str = "http://one.test/"
    receiver: BodyReceiver | None = None
    calls: list[str] = field(factory=list)

    def deliver(self, receiver: BodyReceiver) -> None:
        """To the test."""
        self.receiver = receiver

    def pause(self) -> None:
        """Noted."""
        self.calls.append("pause")

    def resume(self) -> None:
        """Noted."""
        self.calls.append("resume")

    def abandon(self) -> None:
        """Noted."""
        self.calls.append("abandon")


def in_thread(function: Callable[[], Any]) -> Deferred[Any]:
    """At once."""
    return succeed(function())


def store_on(disk: MemoryDisk) -> DiskStore:
    """A store, ready."""
    store = DiskStore(Path("/cache"), in_thread, 1000, MemoryFiles(disk))
    store.prepare()
    return store


@pytest.fixture
def disk() -> MemoryDisk:
    """An empty one."""
    return MemoryDisk(lambda: 1000.0)


def taking(fetch: Fetch, response: Response) -> Deferred[None]:
    """The fetch takes the response."""
    return Deferred.fromCoroutine(fetch.take(response))


def error_of(waiting: Deferred[Any]) -> Exception | None:
    """What it has failed with; None where it has not failed."""
    errors: list[Any] = []
    waiting.addErrback(errors.append)
    return errors[0].value if errors else None


def test_a_body_that_loses_its_disk_after_its_last_client_is_given_up(disk: MemoryDisk) -> None:
    """Nobody could read it: upstream is let go and the fetch ends, instead of pausing upstream for ever."""
    fetch, response = Fetch(store_on(disk).grow(), Expected()), Response()
    ended = taking(fetch, response)
    assert response.receiver
    response.receiver.received(b"a")
    fetch.offered_to_all()
    disk.trouble = lambda kind, count: errno.EIO if kind == "write" else None
    response.receiver.received(b"b" * 1_000_000)
    assert response.calls == ["abandon"]
    assert isinstance(error_of(ended), UpstreamError)


def test_a_response_that_goes_on_elsewhere_is_told_to_who_waits_for_the_first_byte(disk: MemoryDisk) -> None:
    """The one who takes it hears that it is no good; the next response shows its first byte to who waits for that."""
    body = store_on(disk).grow()
    body.append(b"12345")  # as where it was resumed
    fetch = Fetch(body, Expected())
    shown = fetch.shown.wait()
    wrong = Response(206, fields=(("content-range", "bytes 4-9/10"),))
    assert isinstance(error_of(taking(fetch, wrong)), MalformedResponse)
    right = Response(206, fields=(("content-range", "bytes 5-9/10"),))
    ended = taking(fetch, right)
    assert right.receiver
    right.receiver.received(b"678")
    assert shown.called
    assert error_of(shown) is None
    right.receiver.received(b"90")
    right.receiver.ended(length_was_known=True)
    assert error_of(ended) is None
    assert fetch.is_whole


def test_nothing_is_promised_to_a_body_that_was_given_up(disk: MemoryDisk) -> None:
    """A client that leaves while it is given a chunk may end the fetch; the catalog hears of no growth after that."""
    grown: list[int] = []
    fetch, response = Fetch(store_on(disk).window(), Expected(grown=grown.append)), Response()

    class Leaver:
        position = 0

        def offered(self, offset: int, data: bytes) -> None:
            fetch.leave(self)

        def advanced(self) -> None: ...

        def broken(self) -> None: ...

    ended = taking(fetch, response)
    ended.addErrback(lambda failure: fetch.give_up() or failure)  # as its owner does, at once
    fetch.follow(Leaver())
    fetch.offered_to_all()
    assert response.receiver
    response.receiver.received(b"a")
    assert isinstance(error_of(ended), UpstreamError)
    assert grown == []


def test_a_withheld_last_chunk_does_not_pause_upstream(disk: MemoryDisk) -> None:
    """Nobody may read it before the end, so waiting for room before the end would be waiting for ever."""
    size = 1_000_000
    fetch, response = Fetch(store_on(disk).window(), Expected(), length=size), Response(length=size)
    ended = taking(fetch, response)
    assert response.receiver
    response.receiver.received(b"a" * size)
    assert response.calls == []
    response.receiver.ended(length_was_known=True)
    assert error_of(ended) is None


def test_a_relayed_range_that_comes_short_is_broken_off(disk: MemoryDisk) -> None:
    """Its Content-Range says how long it is, where upstream closes the connection without having said a length."""
    response = Response(206, fields=(("content-range", "bytes 10-19/100"),))
    fetch = Fetch(store_on(disk).window(), Expected())
    ended = taking(fetch, response)
    assert response.receiver
    response.receiver.received(b"1234")
    response.receiver.ended(length_was_known=False)
    assert isinstance(error_of(ended), TruncatedBody)


def published(store: DiskStore, content: bytes) -> StoredResponse:
    """A page that is stored now."""
    body = store.grow()
    body.append(content)
    stored = StoredResponse(
        key=KEY.text,
        status_code=200,
        headers=(),
        cached_at=1000.0,
        expires_at=2000.0,
        body="",
        body_size=body.size,
        sha256=body.sha256,
        etag='"x"',
        upstream="one",
        url="http://one.test/simple/flask/",
    )
    result: list[StoredResponse] = []
    Deferred.fromCoroutine(store.publish(KEY, body, stored)).addCallback(result.append)
    body.close()
    return result[0]


def test_what_was_replaced_while_it_was_checked_is_not_wrong(disk: MemoryDisk) -> None:
    """The scrub that meets a page whose body was just replaced hears what is stored now, not that it was wrong."""
    store = store_on(disk)
    before = published(store, b"before")
    after = published(store, b"after")
    verified: list[StoredResponse | None] = []
    Deferred.fromCoroutine(store.verify(KEY, before)).addCallback(verified.append)
    assert verified == [after]
    assert store.read(KEY) == after


@pytest.mark.parametrize("kind", ["status", "lease"])
def test_a_call_that_fails_leaves_no_descriptor(disk: MemoryDisk, kind: str) -> None:
    """Where a file was opened and looking at it, or leasing it, fails, it is closed; a part's name is gone too."""
    files = MemoryFiles(disk)
    store = DiskStore(Path("/cache"), in_thread, 1000, files)
    store.prepare()
    stored = published(store, b"content")
    disk.trouble = lambda each, count: errno.EIO if each == kind else None
    assert kind == "lease" or store.open_body(KEY, stored) is None
    assert kind == "status" or store.grow().failure is not None
    assert not files.opened
    assert not disk.folders["/cache/tmp"]
