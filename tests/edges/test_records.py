"""All records of one read, in memory: against OpenSSL's own other end."""

from __future__ import annotations

from contextlib import suppress

import pytest
from OpenSSL import SSL

from pipcache.edges import records
from pipcache.edges.connection import READ_BYTES
from pipcache.edges.records import RECORD_BYTES, can_read_on, read_on
from tests.fakes.tls import self_signed

BODY = bytes(range(256)) * 400
"""Six records and a piece."""

RECORD_OVERHEAD = 256


class Ends:
    """A client's connection that reads on, and the server's, with what is between them held in memory."""

    def __init__(self, newest: int = SSL.TLS1_3_VERSION) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(newest)
        self.client = SSL.Connection(context)
        self.client.set_connect_state()
        read_on(self.client)
        self.server = SSL.Connection(self_signed().options.getContext())
        self.server.set_accept_state()
        for _ in range(4):
            for end in (self.client, self.server):
                with suppress(SSL.WantReadError):
                    end.do_handshake()
            self.carry(self.client, self.server)
            self.carry(self.server, self.client)

    def carry(self, source: SSL.Connection, target: SSL.Connection) -> None:
        """What one end has to send comes to the other."""
        sent = taken(source)
        if sent:
            target.bio_write(sent)

    def said(self, data: bytes) -> bytes:
        """What goes over the wire when the server says this."""
        for start in range(0, len(data), RECORD_BYTES):
            self.server.sendall(data[start : start + RECORD_BYTES])
        return taken(self.server)


def taken(end: SSL.Connection) -> bytes:
    """What an end has to send."""
    pieces = []
    while True:
        try:
            pieces.append(end.bio_read(1 << 16))
        except SSL.WantReadError:
            return b"".join(pieces)


def test_pyopenssl_is_as_it_is_known_here() -> None:
    """Where it is not any more, records come one by one, and large bodies over TLS cost an eighth more."""
    assert can_read_on()
    assert type(Ends().client) is not SSL.Connection


@pytest.mark.parametrize("newest", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_all_records_come_at_once(newest: int) -> None:
    """Then there is nothing more, until there is."""
    ends = Ends(newest)
    for body in (BODY, b"x", BODY):
        ends.client.bio_write(ends.said(body))
        assert ends.client.recv(1) == body
        with pytest.raises(SSL.WantReadError):
            ends.client.recv(1)


def test_no_more_than_there_is_room_for() -> None:
    """The rest comes with the next call, and nothing is lost or twice."""
    ends = Ends()
    body = BODY * 6
    assert READ_BYTES < len(body) < 3 * READ_BYTES
    ends.client.bio_write(ends.said(body))
    came = [ends.client.recv(1)]
    assert READ_BYTES - RECORD_BYTES < len(came[0]) <= READ_BYTES
    while sum(map(len, came)) < len(body):
        came.append(ends.client.recv(1))
    assert b"".join(came) == body
    assert len(came) <= 4


@pytest.mark.parametrize("cut", [1, RECORD_BYTES, RECORD_BYTES + RECORD_OVERHEAD, 3 * RECORD_BYTES])
def test_a_piece_of_a_record_waits_for_the_rest(cut: int) -> None:
    """Wherever a read ended."""
    ends = Ends()
    wire = ends.said(BODY)
    came = b""
    for piece in (wire[:cut], wire[cut:]):
        ends.client.bio_write(piece)
        try:
            came += ends.client.recv(1)
        except SSL.WantReadError:
            assert cut <= RECORD_BYTES
    assert came == BODY


def test_a_farewell_is_told_behind_what_was_said() -> None:
    """At each call from then on."""
    ends = Ends()
    wire = ends.said(BODY)
    ends.server.shutdown()
    ends.client.bio_write(wire + taken(ends.server))
    assert ends.client.recv(1) == BODY
    for _ in range(2):
        with pytest.raises(SSL.ZeroReturnError):
            ends.client.recv(1)


def test_a_forged_record_is_told_behind_those_that_were_right() -> None:
    """What stood before it is given, it is not, nor anything behind it."""
    ends = Ends()
    first, forged = ends.said(BODY), bytearray(ends.said(b"forged"))
    forged[-1] ^= 1
    ends.client.bio_write(first + bytes(forged) + ends.said(b"behind"))
    assert ends.client.recv(1) == BODY
    for _ in range(2):
        with pytest.raises(SSL.Error) as raised:
            ends.client.recv(1)
        assert not isinstance(raised.value, SSL.WantReadError)


@pytest.mark.parametrize("forbids", ["attribute", "function"])
def test_where_pyopenssl_is_another_the_connection_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, forbids: str
) -> None:
    """Records come one by one then, as pyOpenSSL has them."""
    if forbids == "attribute":
        monkeypatch.setattr(records, "_OPENSSL", None)
    else:
        monkeypatch.setattr(records, "can_read_on", lambda: False)
    ends = Ends()
    assert type(ends.client) is SSL.Connection
    ends.client.bio_write(ends.said(BODY))
    assert ends.client.recv(1 << 17) == BODY[:RECORD_BYTES]
