"""A connection to an upstream: a request at a time is sent, what comes is passed on, and its close waits for nobody.

Knows whose exchange is on it and nothing of HTTP; bytes that belong to nobody close it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure

READ_BYTES = 1 << 18
"""As much as is there is read at a time, up to this: each read is a chunk that is hashed, written and offered."""


class Reader(TypingProtocol):
    """Whose turn it is on a connection."""

    def received(self, data: bytes) -> None:
        """Bytes have come."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone."""


class Connection(Protocol):
    """A connection to an upstream, or to the proxy before it. Its close waits for nobody.

    TLS sends its farewell and then waits for the peer's, for ever where the peer hangs; and until then nobody learns that
    the connection is lost. Here the connection below is closed as soon as our own farewell is written.
    """

    def __init__(self, idle: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        """A connection that is to be made; ``idle`` is told when it may be used again, ``lost`` when it is gone."""
        self._idle = idle
        self._lost = lost
        self._reader: Reader | None = None
        self._is_reading = True
        self._is_gathering = False
        self._gathered: list[bytes] = []

    # -- for the pool and the reader ---------------------------------------------------------------------------------

    def send(self, request: bytes, reader: Reader) -> None:
        """Send a request; what comes from now on is for ``reader``.

        Twisted's transport keeps what is written until the reactor has asked whether there is room, which costs a turn and
        two system calls. There nearly always is, as all that was sent before is gone; so this tries at once.
        """
        self._reader = reader
        sent = 0
        if isinstance(self.transport, TCPConnection):
            with suppress(OSError):  # no room, or nobody there: which of them is for Twisted to find out
                sent = self.transport.getHandle().send(request)
        if sent < len(request):
            self._transport.write(request[sent:])

    def over(self, *, is_reusable: bool) -> None:
        """The reader has read all that it wanted."""
        self._reader = None
        if is_reusable:
            self.read(True)
            self._idle(self)
        else:
            self.close()

    def read(self, is_wanted: bool) -> None:
        """Let bytes come, or none for now."""
        if is_wanted is not self._is_reading:
            self._is_reading = is_wanted
            if is_wanted:
                self._transport.resumeProducing()
            else:
                self._transport.pauseProducing()

    def close(self) -> None:
        """Close, in both directions."""
        self._transport.loseConnection()
        self._transport.stopProducing()  # of TLS, that is the one of the connection below

    def abort(self) -> None:
        """Close at once; nobody wants to hear of it."""
        self._reader = None
        self._transport.abortConnection()

    def gather(self) -> None:
        """Hold back what comes, until ``hand_on``."""
        self._is_gathering = True

    def hand_on(self) -> None:
        """Pass on what was held back, in one piece."""
        self._is_gathering = False
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self.dataReceived(b"".join(gathered))

    # -- for Twisted -------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """There is a connection."""
        self._transport.bufferSize = READ_BYTES
        if ITCPTransport.providedBy(self.transport):
            self._transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come."""
        if self._is_gathering:
            self._gathered.append(data)
        elif self._reader is not None:
            self._reader.received(data)
        else:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self.hand_on()
        reader, self._reader = self._reader, None
        self._lost(self)
        if reader is not None:
            reader.lost(reason)

    @property
    def _transport(self) -> Any:
        return self.transport
