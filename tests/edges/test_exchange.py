"""One request and its response: what is handed on when, whatever becomes of the connection meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from pipcache.edges.connection import Connection
from pipcache.edges.exchange import ClientTimeouts, Exchange
from pipcache.rules.errors import TruncatedBody, UpstreamUnavailable
from tests.edges.scene import Receiver

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"


class Wire:
    """A connection in memory with one exchange on it; `taken` is called with its answer."""

    def __init__(self, taken: Callable[[Exchange], None] = lambda exchange: None) -> None:
        self.clock = Clock()
        self.idle: list[Connection] = []
        self.lost: list[Connection] = []
        self.overs = 0
        self.connection = Connection(self.idle.append, self.lost.append)
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)
        self.exchange = Exchange(self.connection, self.clock, ClientTimeouts(10, 100), 10.0, is_head_request=False)
        self.exchange.on_over = self._over
        self.connection.send(b"GET / HTTP/1.1\r\n\r\n", self.exchange)
        self.failures: list[Failure] = []
        self.exchange.answered.addCallback(taken)
        self.exchange.answered.addErrback(self.failures.append)

    def _over(self) -> None:
        self.overs += 1

    def lose(self, error: Exception) -> None:
        """The connection goes."""
        self.connection.connectionLost(Failure(error))

    @property
    def is_reading(self) -> bool:
        """Whether bytes may come."""
        return self.transport.producerState == "producing"


@pytest.mark.parametrize("response", [SIZED + b"right", CHUNKS + b"5\r\nright\r\n0\r\n\r\n"], ids=["sized", "chunks"])
@pytest.mark.parametrize("is_lost", [False, True])
def test_nothing_is_read_until_somebody_takes_it(response, is_lost):
    """What came with the head is kept, and is handed on when the body is taken, though the connection be gone by then."""
    wire, receiver = Wire(), Receiver()
    wire.connection.dataReceived(response[:-2])
    assert not wire.is_reading
    wire.connection.dataReceived(response[-2:])  # TLS may have decrypted more than it was asked for
    assert (wire.idle, wire.overs) == ([], 0)
    if is_lost:
        wire.lose(ConnectionLost())
    wire.exchange.deliver(receiver)
    assert (receiver.body, receiver.length_was_known, receiver.error) == (b"right", True, None)
    assert (len(wire.idle), wire.overs) == (0 if is_lost else 1, 1)
    assert wire.is_reading is not is_lost
    assert wire.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("response", "error", "is_whole"),
    [
        (OPEN + b"right", ConnectionDone(), True),
        (OPEN + b"right", ConnectionLost(), False),
        (SIZED + b"righ", ConnectionDone(), False),
        (CHUNKS + b"5\r\nright\r\n", ConnectionDone(), False),
    ],
)
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_connection_that_goes_before_the_body_is_taken(response, error, is_whole, is_paused):
    """Whoever takes the body, and goes on with it, gets what came, and then hears how it ended."""
    wire, receiver = Wire(), Receiver()
    wire.connection.dataReceived(response)
    if is_paused:
        wire.exchange.pause()
    wire.lose(error)
    assert wire.overs == 1
    wire.exchange.deliver(receiver)
    wire.exchange.resume()
    assert bytes(receiver.body) == response.rpartition(b"\n\r\n")[2].removeprefix(b"5\r\n").rstrip()
    assert receiver.length_was_known is (False if is_whole else None)
    assert (receiver.error is None) is is_whole
    assert is_whole or isinstance(receiver.error, TruncatedBody)


def test_bytes_that_come_in_a_pause_are_handed_on_behind_it():
    """In one piece, and the loss of the connection behind them."""
    wire, receiver = Wire(), Receiver()
    wire.connection.dataReceived(SIZED)
    wire.exchange.deliver(receiver)
    wire.exchange.pause()
    wire.connection.dataReceived(b"ri")
    wire.connection.dataReceived(b"gh")
    wire.lose(ConnectionLost())
    assert (receiver.body, receiver.is_over) == (b"", False)
    wire.exchange.resume()
    assert (receiver.sizes, type(receiver.error)) == ([4], TruncatedBody)


def test_a_loss_in_a_pause_is_told_at_once_where_nothing_is_kept_back():
    """There is nothing to wait for."""
    wire, receiver = Wire(), Receiver()
    wire.connection.dataReceived(SIZED + b"ri")
    wire.exchange.deliver(receiver)
    wire.exchange.pause()
    wire.lose(ConnectionLost())
    assert (receiver.body, type(receiver.error)) == (b"ri", TruncatedBody)
    wire.exchange.resume()


@pytest.mark.parametrize(
    ("response", "is_whole"),
    [(SIZED + b"right", True), (CHUNKS + b"5\r\nright\r\n0\r\n\r\n", False), (OPEN + b"right", False)],
)
def test_what_is_whole_in_one_read(response, is_whole):
    """A body of a known length is whole as soon as it is taken; one whose end nobody knows ends after its taker began."""
    receiver = Receiver()
    seen: list[tuple[bytes, bool]] = []

    def take(exchange: Exchange) -> None:
        exchange.deliver(receiver)
        seen.append((bytes(receiver.body), receiver.is_over))

    wire = Wire(take)
    wire.connection.dataReceived(response)
    assert seen == [(b"right", True) if is_whole else (b"", False)]
    assert receiver.body == b"right"


@pytest.mark.parametrize("spare", [b"", b"!"])
def test_a_connection_with_spare_bytes_is_closed(spare):
    """It is free for another exchange when nothing came behind the body."""
    wire, receiver = Wire(), Receiver()
    wire.connection.dataReceived(SIZED + b"right" + spare)
    wire.exchange.deliver(receiver)
    assert receiver.body == b"right"
    assert (len(wire.idle), wire.transport.disconnecting) == ((0, True) if spare else (1, False))


def test_bytes_on_an_idle_connection_close_it():
    """Nobody asked for them."""
    wire = Wire(lambda exchange: exchange.deliver(Receiver()))
    wire.connection.dataReceived(SIZED + b"right")
    assert len(wire.idle) == 1
    wire.connection.dataReceived(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.transport.disconnecting


def test_a_pause_at_the_last_byte_is_no_pause_of_the_connection():
    """It is another's by then, and reads."""
    wire = Wire()
    receiver = Receiver(lambda data: wire.exchange.pause())
    wire.connection.dataReceived(SIZED + b"right")
    wire.exchange.deliver(receiver)
    assert (receiver.length_was_known, wire.is_reading, len(wire.idle)) == (True, True, 1)
    wire.exchange.resume()
    wire.exchange.pause()
    assert wire.is_reading


@pytest.mark.parametrize(("data", "has_begun"), [(b"", False), (b"HTTP/1.1 2", True)])
def test_a_loss_before_an_answer(data, has_begun):
    """It fails, and says whether a byte had come: if not, the request may be sent again."""
    wire = Wire()
    if data:
        wire.connection.dataReceived(data)
    wire.lose(ConnectionDone())
    assert wire.failures[0].check(UpstreamUnavailable)
    assert (wire.exchange.has_begun, wire.overs, len(wire.lost)) == (has_begun, 1, 1)
    assert wire.clock.getDelayedCalls() == []


RESPONSES = [
    SIZED + b"right",
    SIZED + b"righ",
    SIZED + b"right!",
    CHUNKS + b"2\r\nri\r\n3\r\nght\r\n0\r\nA: b\r\n\r\n",
    CHUNKS + b"2\r\nri\r\n3\r\nght\r\n",
    CHUNKS + b"5\r\nright\r\nno-size\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OPEN + b"right",
    b"HTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.1 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b",
]


def outcome(pieces: list[bytes], pauses: set[int]) -> tuple[object, ...]:
    """What becomes of a response in these pieces, whose receiver pauses at some of what it is given."""
    wire: Wire
    receiver = Receiver(lambda data: wire.exchange.pause() if len(receiver.sizes) in pauses else None)
    wire = Wire(lambda exchange: exchange.deliver(receiver))
    for piece in pieces:
        if piece and not wire.transport.disconnecting and not wire.failures:
            wire.connection.dataReceived(piece)
        wire.exchange.resume()
    is_free = bool(wire.idle) and not wire.transport.disconnecting
    if not is_free:
        wire.lose(ConnectionDone())
    wire.exchange.resume()
    assert wire.overs == 1
    assert wire.clock.getDelayedCalls() == []
    failed = type(wire.failures[0].value) if wire.failures else None
    return bytes(receiver.body), receiver.length_was_known, type(receiver.error), failed, is_free


@given(
    response=st.sampled_from(RESPONSES),
    cuts=st.lists(st.integers(0, 120), max_size=8),
    pauses=st.sets(st.integers(1, 5)),
)
def test_how_a_response_is_cut_does_not_matter(response, cuts, pauses):
    """The same bytes have the same end, wherever reads begin and whoever pauses meanwhile."""
    places = [0, *sorted(min(cut, len(response)) for cut in cuts), len(response)]
    pieces = [response[start:end] for start, end in pairwise(places)]
    assert outcome(pieces, pauses) == outcome([response], set())
