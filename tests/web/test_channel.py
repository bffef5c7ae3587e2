"""One client's connection: how long it may take to ask, and to take what it asked for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pipcache.engine.outcome import Outcome, Request
from pipcache.rules.response import Shape
from pipcache.web.channel import Channel
from pipcache.web.hot import HotResponses
from pipcache.web.hot_channel import channel_of
from pipcache.web.refusals import NoRoom
from pipcache.web.site import HEAD_SECONDS, IDLE_SECONDS, LOOK_SECONDS, ConnectionLimits, PipcacheSite, Root
from tests.fakes.engine import RecordedEvents

STALL_SECONDS = 120.0
REQUEST = b"GET /pypi/x HTTP/1.1\r\nHost: x\r\n\r\n"


class Transport(StringTransport):
    """A transport that notes how it was left; ``handle`` is the socket whose unsent bytes count."""

    handle: socket.socket | None = None
    moves = 0
    is_aborted = False
    is_lost = False

    def getHandle(self) -> socket.socket | None:
        """The socket."""
        return self.handle

    def connectionLost(self, reason: Failure) -> None:
        """Note it."""
        self.is_lost = True

    def abortConnection(self) -> None:
        """Note it."""
        self.is_aborted = True
        self.disconnecting = True


@define
class Connected:
    """A site with one client, and a time that the test decides."""

    site: PipcacheSite
    clock: Clock
    channel: Channel
    transport: Transport
    asked: list[Deferred[Outcome]]

    def send(self, data: bytes) -> None:
        """Let these bytes come."""
        self.channel.dataReceived(data)

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass, and a second more in which all are looked at."""
        for _ in range(int(seconds + LOOK_SECONDS)):
            self.clock.advance(1)

    def answer(self) -> None:
        """Answer the request that waits, with nothing."""
        self.asked.pop(0).callback(Outcome(Shape(200, (("content-length", "0"),))))

    @property
    def status(self) -> int | None:
        """The status of the answer that came, None where there is none."""
        sent = self.transport.value()
        return int(sent.split(b" ")[1]) if sent else None


@pytest.fixture(params=["plain", "hot"])
def client(request: pytest.FixtureRequest) -> Iterator[Connected]:
    """One that has just connected, to a site of either kind of channel."""
    clock, asked = Clock(), []

    class Waiting:
        """A cache that answers when the test says."""

        async def respond(self, request: Request) -> Outcome:
            """Wait."""
            asked.append(Deferred())
            return await asked[-1]

    hot = HotResponses(0, clock.seconds)
    root = Root(Waiting(), hot, clock, RecordedEvents(), dict, "pipcache-0123")  # type: ignore[arg-type]
    site = PipcacheSite(root, ConnectionLimits(1, STALL_SECONDS), clock, RecordedEvents())
    if request.param == "hot":
        site.protocol = channel_of(hot)  # type: ignore[assignment]
    channel, transport = site.buildProtocol(None), Transport()
    assert isinstance(channel, Channel)
    channel.makeConnection(transport)
    yield Connected(site, clock, channel, transport, asked)
    with suppress(Exception):
        channel.connectionLost()
    assert clock.getDelayedCalls() == []


def test_a_head_that_trickles_is_answered_and_ended(client: Connected) -> None:
    """However often a byte comes, the time counts from the beginning."""
    for _ in range(int(HEAD_SECONDS)):
        assert client.status is None
        client.send(b"G")
        client.clock.advance(1)
    client.clock.advance(1)
    assert client.status == 408
    assert client.transport.disconnecting
    client.send(REQUEST)
    assert (client.transport.value().count(b"HTTP/1.1"), client.asked) == (1, [])


def test_who_never_asks_is_sent_away_without_a_word(client: Connected) -> None:
    """A browser that connects in advance would take a 408 for the answer to its next request."""
    client.pass_time(HEAD_SECONDS)
    assert (client.status, client.transport.disconnecting) == (None, True)


@pytest.mark.parametrize("beginning", [b"G", b"GET /pypi/x HTTP/1.1\r\n", REQUEST[:-2], b"\r\n"])
def test_a_later_head_has_its_time_from_its_first_byte(client: Connected, beginning: bytes) -> None:
    """Not from the connection's opening; and the idle time before it does not count."""
    client.send(REQUEST)
    client.answer()
    client.pass_time(HEAD_SECONDS + 20)
    client.transport.clear()
    client.send(beginning)
    client.pass_time(HEAD_SECONDS - 2)
    assert client.status is None
    client.pass_time(2)
    assert (client.status, client.transport.disconnecting) == (408, True)


def test_a_head_behind_another_request_has_its_time_too(client: Connected) -> None:
    """It begins to count when its turn has come and another byte does."""
    client.send(REQUEST + REQUEST[:10])
    client.pass_time(HEAD_SECONDS * 3)
    assert not client.transport.disconnecting
    client.answer()
    client.transport.clear()
    client.send(REQUEST[10:11])
    client.pass_time(HEAD_SECONDS)
    assert client.status == 408


def test_a_request_in_progress_has_no_time(client: Connected) -> None:
    """How long an answer may take is for upstreams to say."""
    client.send(REQUEST)
    client.pass_time(3600)
    assert not client.transport.disconnecting
    client.answer()
    assert client.status == 200


def test_a_connection_that_is_kept_open_has_a_minute(client: Connected) -> None:
    """Then it is closed."""
    client.send(REQUEST)
    client.answer()
    client.pass_time(IDLE_SECONDS - 2)
    assert not client.transport.disconnecting
    client.pass_time(2)
    assert client.transport.disconnecting


def test_one_too_many_is_told_so_and_the_next_is_let_in(client: Connected) -> None:
    """503 and when to come again; the connection is closed before anything was asked. Room is room again."""
    refused, transport = client.site.buildProtocol(None), Transport()
    assert isinstance(refused, NoRoom)
    theirs, transport.handle = socket.socketpair()
    with theirs, transport.handle:
        theirs.sendall(REQUEST)
        refused.makeConnection(transport)
        transport.handle.close()
        response = theirs.recv(1 << 16).lower()
        assert theirs.recv(1) == b""
    assert response.startswith(b"http/1.1 503 service unavailable\r\n")
    assert b"\r\nretry-after: 5\r\n" in response
    assert b"\r\nconnection: close\r\n" in response
    assert transport.is_lost
    assert client.site._events.of("crowded") == [(1,)]
    client.channel.connectionLost()
    assert isinstance(client.site.buildProtocol(None), Channel)


# -- a client that takes nothing -------------------------------------------------------------------------------------


@pytest.fixture
def reader(client: Connected) -> Iterator[socket.socket]:
    """The client's end of a connection that is full: nothing more goes in until it reads."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        theirs.connect(server.getsockname())
        ours, _ = server.accept()
        with ours:
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
            with suppress(BlockingIOError):
                while True:
                    ours.send(bytes(1 << 14))
            client.transport.handle = ours
            client.send(REQUEST)
            yield theirs


def read_until(reader: socket.socket, is_so: Callable[[], bool]) -> None:
    """Read little by little until the system has noticed, which is not at once."""
    reader.settimeout(0.01)
    for _ in range(2000):
        if is_so():
            return
        with suppress(TimeoutError):
            reader.recv(1 << 12)
    raise AssertionError("the system does not notice")


@pytest.mark.parametrize("is_answered", [True, False])
def test_who_takes_nothing_is_dropped(client: Connected, reader: socket.socket, is_answered: bool) -> None:
    """By a reset, so it does not take what it has for the whole; also when the rest is with the system alone."""
    client.channel.write(b"x")
    if is_answered:
        client.answer()
    client.pass_time(STALL_SECONDS - 2)
    assert not client.transport.is_aborted
    client.pass_time(4)
    assert client.transport.is_aborted


def test_who_takes_little_is_not_dropped(client: Connected, reader: socket.socket) -> None:
    """The system has no room for more all the time, but some of what it holds has gone."""
    client.channel.write(b"x")
    client.answer()
    for _ in range(5):
        client.pass_time(STALL_SECONDS - 10)
        before = client.channel._unsent()
        read_until(reader, lambda before=before: client.channel._unsent() != before)
    assert not client.transport.disconnecting


def test_who_takes_what_the_system_sends_is_not_dropped(client: Connected, reader: socket.socket) -> None:
    """Of a file that the system sends it holds the same number of bytes all the time; its pieces are counted."""
    client.channel.write(b"x")
    for _ in range(5):
        client.pass_time(STALL_SECONDS - 10)
        client.transport.moves += 1
    assert not client.transport.is_aborted
    client.pass_time(STALL_SECONDS + 2)
    assert client.transport.is_aborted


def test_who_has_taken_all_may_wait_for_more(client: Connected, reader: socket.socket) -> None:
    """A body that does not come is not the client's fault."""
    client.channel.write(b"x")
    read_until(reader, lambda: client.channel._unsent() == 0)
    client.pass_time(STALL_SECONDS * 3)
    assert not client.transport.is_aborted


@pytest.mark.parametrize("is_full", [True, False])
def test_where_the_system_does_not_say_room_counts(client: Connected, is_full: bool) -> None:
    """A connection that had no room for so long is dropped; another is not."""
    client.send(REQUEST)
    client.channel.write(b"x")
    if is_full:
        client.channel.pauseProducing()
    client.pass_time(STALL_SECONDS + 2)
    assert client.transport.is_aborted is is_full


def test_room_that_is_made_counts_where_nothing_else_does(client: Connected) -> None:
    """Whoever is written to again has taken what there was."""
    client.send(REQUEST)
    for _ in range(5):
        client.channel.write(b"x")
        client.channel.pauseProducing()
        client.pass_time(STALL_SECONDS - 10)
        client.channel.resumeProducing()
    assert not client.transport.is_aborted
