"""Connections that send at once, and files sent by the system."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from threading import Event

import pytest
from twisted.internet import reactor, tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from pipcache.web import mapping, transport
from pipcache.web.page_cache import read_at_hand
from pipcache.web.transport import PromptServer, make_prompt
from tests.flows.harness import bounded, eventually
from tests.web.connections import BIG, Opened, Outcome, connected, in_thread

CALL_BYTES = 1 << 19
AHEAD_BYTES = 1 << 21
KINDS = pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a file of a few megabytes takes several."""
    monkeypatch.setattr(transport, "CALL_BYTES", CALL_BYTES)
    monkeypatch.setattr(transport, "AHEAD_BYTES", AHEAD_BYTES)


# -- bytes -----------------------------------------------------------------------------------------------------------


@bounded
async def test_bytes_are_sent_before_write_returns() -> None:
    """The reactor is not asked whether there is room: this fails where Twisted changes what we build on."""
    async with connected() as (server, client):
        server.write(b"one ")
        server.writeSequence([b"two ", b"three"])
        server.write_both(b" four", b" five")
        assert server not in reactor.getWriters()  # type: ignore[attr-defined]
        await eventually(lambda: client.received == b"one two three four five")


@KINDS
@bounded
async def test_what_there_is_no_room_for_follows_in_order(is_secure: bool) -> None:
    """Megabytes to a client that does not read yet arrive whole, and then it is quiet."""
    async with connected(is_secure=is_secure) as (server, client):
        client.transport.pauseProducing()  # type: ignore[union-attr]
        for start in range(0, len(BIG), 100_000):
            server.write(BIG[start : start + 100_000])
        assert server in reactor.getWriters()  # type: ignore[attr-defined]
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await eventually(lambda: len(client.received) == len(BIG))
        assert client.received == BIG
        assert server not in reactor.getWriters()  # type: ignore[attr-defined]


@KINDS
@pytest.mark.parametrize("before", [b"", BIG, BIG * 2], ids=["idle", "busy", "full"])
@pytest.mark.parametrize("head", [b"head", BIG], ids=["short", "long"])
@bounded
async def test_two_are_sent_as_one(head: bytes, before: bytes, is_secure: bool) -> None:
    """Also where there is room for some of them only, of the first or of the second, or for none."""
    async with connected(is_secure=is_secure) as (server, client):
        client.transport.pauseProducing()  # type: ignore[union-attr]
        server.write(before)
        server.write_both(head, BIG)
        client.transport.resumeProducing()  # type: ignore[union-attr]
        expected = before + head + BIG
        await eventually(lambda: len(client.received) >= len(expected))
        assert client.received == expected


@bounded
async def test_two_come_behind_a_file(opened: Opened) -> None:
    """Which is on its way to a client that does not read yet."""
    async with connected() as (server, client):
        client.transport.pauseProducing()  # type: ignore[union-attr]
        server.send_file(b"", opened(BIG * 2), 0, 2 * len(BIG), Outcome())
        server.write_both(b"one", b"two")
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await eventually(lambda: len(client.received) >= 2 * len(BIG) + 6)
        assert client.received == BIG * 2 + b"onetwo"


@implementer(IPushProducer)
class Pushing:
    """Writes pieces until it is told to pause."""

    def __init__(self, server: PromptServer, pieces: int) -> None:
        self.server, self.pieces, self.is_paused, self.pauses = server, pieces, False, 0

    def pauseProducing(self) -> None:
        """Write no more."""
        self.is_paused = True
        self.pauses += 1

    def resumeProducing(self) -> None:
        """Write."""
        self.is_paused = False
        while self.pieces and not self.is_paused:
            self.pieces -= 1
            self.server.write(bytes(1 << 16))
        if not self.pieces:
            self.server.unregisterProducer()

    def stopProducing(self) -> None:
        """The client is gone."""
        self.pieces = 0


@implementer(IPullProducer)
class Pulled(Pushing):
    """Writes one piece when it is asked to."""

    def resumeProducing(self) -> None:
        """Write one piece."""
        self.pieces -= 1
        self.server.write(bytes(1 << 16))
        if not self.pieces:
            self.server.unregisterProducer()


@KINDS
@pytest.mark.parametrize(("kind", "is_streaming"), [(Pushing, True), (Pulled, False)])
@bounded
async def test_producers_write_all(kind: type[Pushing], is_streaming: bool, is_secure: bool) -> None:
    """One that pushes is paused while there is no room, one that is pulled is asked again; all arrives."""
    async with connected(is_secure=is_secure) as (server, client):
        client.transport.pauseProducing()  # type: ignore[union-attr]
        producer = kind(server, 200)
        server.registerProducer(producer, is_streaming)
        if is_streaming:
            producer.resumeProducing()
            assert producer.pauses
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await eventually(lambda: len(client.received) == 200 << 16)


@KINDS
@bounded
async def test_a_close_waits_for_what_was_written(is_secure: bool) -> None:
    """All bytes arrive before the end, which is an orderly one."""
    async with connected(is_secure=is_secure) as (server, client):
        server.write(BIG)
        server.loseConnection()
        await eventually(lambda: client.lost is not None)
        assert client.received == BIG
        assert client.lost is not None
        assert client.lost.check(ConnectionDone)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CALL_BYTES, 3 * CALL_BYTES + 1])
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("before", [b"", BIG], ids=["idle", "busy"])
@pytest.mark.parametrize("way", ["sendfile", "copied", "mapped", "cold"])
@bounded
async def test_a_file_stands_between_what_was_written_before_and_after(
    way: str, before: bytes, start: int, size: int, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever there is room for, where there is no sendfile, and where the file must be read from the disk first."""
    content = BIG[: start + size]
    if way == "copied":
        monkeypatch.setattr(os, "sendfile", _refused)
    if way == "mapped":
        monkeypatch.setattr(mapping, "LEAST_BYTES", 1)
        monkeypatch.setattr(transport, "FAST_BYTES_PER_SECOND", 0)
        monkeypatch.setattr(mapping, "WINDOW_BYTES", mmap.ALLOCATIONGRANULARITY)
    if way == "cold":
        monkeypatch.setattr(transport, "is_in_memory", lambda *_: False)

    async with connected() as (server, client):
        done = Outcome()
        server.write(before)
        server.send_file(b"head", opened(content), start, size, done)
        server.write(b"tail")
        expected = before + b"head" + content[start:] + b"tail"
        await eventually(lambda: len(client.received) >= len(expected))
        assert client.received == expected
        assert done.said == [None]
        await eventually(lambda: server not in reactor.getWriters())  # type: ignore[attr-defined]


def _refused(*_: object) -> int:
    raise OSError(errno.EINVAL, "not here")


@KINDS
@bounded
async def test_a_close_waits_for_the_file(opened: Opened, is_secure: bool) -> None:
    """Also where it is asked for while the file is on its way."""
    async with connected(is_secure=is_secure) as (server, client):
        client.transport.pauseProducing()  # type: ignore[union-attr]
        server.send_file(b"head", opened(BIG), 0, len(BIG), Outcome())
        server.loseConnection()
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await eventually(lambda: client.lost is not None)
        assert client.received == b"head" + BIG
        assert client.lost is not None
        assert client.lost.check(ConnectionDone)


@bounded
async def test_no_turn_takes_more_than_its_share(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast client gets a piece a turn, so that others get theirs."""
    counts: list[int] = []
    sendfile = os.sendfile

    def counted(out: int, source: int, offset: int, count: int) -> int:
        counts.append(count)
        return sendfile(out, source, offset, count)

    monkeypatch.setattr(os, "sendfile", counted)

    async with connected() as (server, client):
        server.send_file(b"", opened(BIG), 0, len(BIG), Outcome())
        assert len(counts) == 1
        await eventually(lambda: len(client.received) == len(BIG))
        assert max(counts) == CALL_BYTES


@KINDS
@bounded
async def test_a_file_that_is_too_short_breaks_the_connection(opened: Opened, is_secure: bool) -> None:
    """The client cannot take what it got for the whole, and the file's owner is told."""
    async with connected(is_secure=is_secure) as (server, client):
        done = Outcome()
        server.send_file(b"head", opened(b"short"), 0, 10, done)
        await eventually(lambda: client.lost is not None)
        assert not client.lost.check(ConnectionDone)  # type: ignore[union-attr]
        assert [type(each) for each in done.said] == [OSError]


@KINDS
@bounded
async def test_a_client_that_leaves_ends_its_file(opened: Opened, is_secure: bool) -> None:
    """The owner is told once, and may close it."""
    async with connected(is_secure=is_secure) as (server, client):
        done = Outcome()
        client.transport.pauseProducing()  # type: ignore[union-attr]
        server.send_file(b"head", opened(BIG * 2), 0, 2 * len(BIG), done)
        assert not done.said
        client.transport.abortConnection()  # type: ignore[union-attr]
        await eventually(lambda: bool(done.said))
        assert isinstance(done.said[0], Exception)


@bounded
async def test_a_file_after_the_end_is_refused(opened: Opened) -> None:
    """A client that is gone gets none, and the owner is told at once."""
    async with connected() as (server, client):
        server.abortConnection()
        await eventually(lambda: client.lost is not None)
        done = Outcome()
        server.send_file(b"head", opened(BIG), 0, len(BIG), done)
        assert len(done.said) == 1
        assert done.said[0] is not None


@bounded
async def test_a_descriptor_is_not_given_back_while_a_thread_reads_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client leaves while its file is read ahead: the owner hears of it when the thread is through."""
    monkeypatch.setattr(transport, "is_in_memory", lambda *_: False)
    go_on = Event()

    async def slowly(function: Callable[[], None]) -> None:
        await deferToThread(lambda: (go_on.wait(10), function()))

    async with connected(slowly) as (server, client):
        done = Outcome()
        server.send_file(b"head", opened(BIG), 0, len(BIG), done)
        assert server not in reactor.getWriters()  # type: ignore[attr-defined]
        server.abortConnection()
        await eventually(lambda: client.lost is not None)
        said_before = list(done.said)
        go_on.set()
        await eventually(lambda: bool(done.said))
        assert said_before == []
        assert len(done.said) == 1
        assert done.said[0] is not None


@pytest.mark.parametrize("where", ["memory", "disk", "nobody knows"])
def test_a_small_file_is_read_where_that_takes_no_time(
    where: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not in memory is left to a thread; one that is shorter than was promised is not read."""
    preadv = os.preadv

    def answer(descriptor: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        if flags and where != "memory":
            raise BlockingIOError if where == "disk" else OSError(errno.EOPNOTSUPP, "not here")
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(os, "preadv", answer)
    descriptor = opened(b"content").descriptor
    assert read_at_hand(descriptor, 7) == (None if where == "disk" else b"content")
    assert read_at_hand(descriptor, 8) is None


@bounded
async def test_who_has_just_seen_a_file_in_memory_is_believed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system is not asked again for what is sent at once, and is asked for what lies behind."""
    asked: list[int] = []
    monkeypatch.setattr(transport, "is_in_memory", lambda _, first, last: not asked.append(first))
    async with connected() as (server, client):
        done = Outcome()
        server.send_file(b"head", opened(BIG), 0, 100, done, 100)
        assert done.said == [None]
        assert asked == []
        server.send_file(b"head", opened(BIG), 0, len(BIG), done, 100)
        await eventually(lambda: len(done.said) == 2)
        assert asked[:1] == [0]
        await eventually(lambda: len(client.received) == 8 + 100 + len(BIG))


@bounded
async def test_what_the_disk_does_not_give_breaks_the_connection(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that cannot read a file ends it visibly."""
    monkeypatch.setattr(transport, "is_in_memory", lambda *_: False)

    async def failing(function: Callable[[], None]) -> None:
        raise OSError(errno.EIO, "broken")

    async with connected(failing) as (server, client):
        done = Outcome()
        server.send_file(b"head", opened(BIG), 0, len(BIG), done)
        await eventually(lambda: client.lost is not None and bool(done.said))
        assert isinstance(done.said[0], OSError)
        assert client.received in (b"", b"head")


@bounded
async def test_a_file_that_is_not_in_memory_is_read_in_a_thread(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of it at a time; what is there already is sent without a thread."""
    threads: list[int] = []

    async def counted(function: Callable[[], None]) -> None:
        threads.append(1)
        await deferToThread(function)

    for is_cold, expected in ((False, 0), (True, -(-len(BIG) // AHEAD_BYTES))):
        threads.clear()
        if is_cold:
            monkeypatch.setattr(transport, "is_in_memory", lambda *_: False)
        async with connected(counted) as (server, client):
            server.send_file(b"", opened(BIG), 0, len(BIG), Outcome())
            await eventually(lambda: len(client.received) == len(BIG))
            assert expected <= len(threads) <= 2 * expected  # who takes a piece in parts has the next read sooner


def test_only_ports_of_the_known_kind_are_changed() -> None:
    """What is no TCP port, or makes transports of its own, is left to Twisted."""

    class Other(tcp.Port):
        transport = PromptServer  # type: ignore[assignment]

    assert not make_prompt(object(), in_thread)
    assert not make_prompt(Other(0, Factory()), in_thread)
    assert make_prompt(tcp.Port(0, Factory()), in_thread)
