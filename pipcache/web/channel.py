"""One client's connection: what it may send before it is answered, and how long it may take for that.

Twisted parses; this is what stands around its parser.

*Refusals.* No request here has a body, so one that announces any is answered when its head is there, and closed: no
chunk is ever parsed, nothing is held, and what follows cannot be taken for a request. The same end has a head that is
malformed, folded, too long or too late. Such a connection is closed in two steps, as RFC 9112 section 9.6 asks: our
side at once, the rest ``LINGER_SECONDS`` later, for what is unread when a socket closes makes the system reset it, and
the client may lose the answer.

*Time.* The site calls ``look`` every second; no timer is touched for a request or a chunk. A head has to be whole so
many seconds after the connection was opened or its first byte came, however its bytes trickle. A client to which bytes
are on their way has to take one in ``stall_seconds``. It has taken some when more was written, as its transport lets
us write only when it has room, or when the system took more of a file that it sends (``PromptServer.moves``), or when
it holds another number of bytes for the client: a slow one empties the system's megabytes for minutes before there is
room. While it takes nothing, we hold at most two chunks of a ``BodyFollower`` for it. Twisted's own timeout is for
connections without a request.

Whoever writes to the transport past ``write`` and its like (a faster path) counts in ``writes``.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers

from pipcache.web.refusals import FOLDED, MALFORMED, NOT_TO_READ, TOO_LATE, TOO_LONG, Refusal, refusal_of_method
from pipcache.web.tls import SecureServer
from pipcache.web.transport import PromptServer

if TYPE_CHECKING:
    from pipcache.web.site import PipcacheSite

LINGER_SECONDS = 2.0


class Channel(HTTPChannel):
    """One client's connection. Once ``is_refused`` nothing that it sends is looked at."""

    site: PipcacheSite

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_refused = False
        self.writes = 0
        self._heads = 0
        self._has_sent = False
        self._head_due_at: float | None = None
        self._leaves_at: float | None = None
        self._is_full = False
        self._seen: tuple[int, int] = (0, 0)
        self._seen_at = 0.0
        self._is_emptied = True

    # -- from the transport ------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """A client is there."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._expect_head()
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has left, or was sent away."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.site.closed(self)

    def dataReceived(self, data: bytes) -> None:
        """Parse; a head that has begun and is not whole has its time from now on."""
        if self.is_refused:
            return
        heads = self._heads
        self._has_sent = True
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._heads == heads and self.line_mode and self._head_due_at is None:
            self._expect_head()

    def pauseProducing(self) -> None:
        """The client takes less than there is."""
        self._is_full = True
        super().pauseProducing()  # type: ignore[no-untyped-call]

    def resumeProducing(self) -> None:
        """It has taken all that was written."""
        self._is_full = False
        super().resumeProducing()  # type: ignore[no-untyped-call]

    # -- from the parser ---------------------------------------------------------------------------------------------

    def lineReceived(self, line: bytes) -> None:
        """A line of a head.

        RFC 9112: obs-fold is rejected (section 5.2), and a CR that ends no line makes what it is in invalid (section 2.2),
        for not everybody reads them alike. Of the latter Twisted sees to itself from 26.10 on.
        """
        if self.is_refused:
            return
        if line[:1] in (b" ", b"\t"):
            self.refuse(FOLDED)
        elif b"\r" in line:
            self.refuse(MALFORMED)
        else:
            super().lineReceived(line)  # type: ignore[no-untyped-call]

    def headerReceived(self, line: bytes) -> bool:
        """A field of a head; False where it is none."""
        try:
            return bool(super().headerReceived(line))  # type: ignore[no-untyped-call]
        except ValueError:  # a length of more digits than Python reads
            self.refuse(MALFORMED)
            return False

    def allHeadersReceived(self) -> None:
        """A head is whole: go on with it, or refuse what comes with it before any of that is read."""
        self._heads += 1
        self._head_due_at = None
        self._has_sent = False
        fields = self.requests[-1].requestHeaders
        if self.length != 0 or self._path == b"*":  # which Twisted would answer itself
            self.refuse(refusal_of_method(self._command) or NOT_TO_READ)
        elif fields.hasHeader(b"transfer-encoding") or len(fields.getRawHeaders(b"host", [])) > 1:
            self.refuse(MALFORMED)
        else:
            super().allHeadersReceived()  # type: ignore[no-untyped-call]

    def allContentReceived(self) -> None:
        """A request is whole, which was not refused."""
        if not self.is_refused:
            super().allContentReceived()  # type: ignore[no-untyped-call]

    def rawDataReceived(self, data: bytes) -> None:
        """What follows a head: the next requests, to be parsed when this one is answered."""
        if not self.is_refused:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line without an end."""
        self.refuse(TOO_LONG)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """What Twisted does with what it cannot parse; its own answer has neither a length nor a word."""
        is_long = self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders
        self.refuse(TOO_LONG if is_long else MALFORMED)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with this, and take nothing more from this connection."""
        if self.is_refused:
            return
        self.is_refused = True
        self._head_due_at = None
        self.clearLineBuffer()  # type: ignore[no-untyped-call]
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self.writes += 1
        transport = cast(Any, self.transport)
        transport.write(refusal.response)
        if not self._closes_by_halves(transport):
            self.loseConnection()  # type: ignore[no-untyped-call]
            return
        transport.unregisterProducer()
        transport.loseWriteConnection()
        self._leaves_at = self.site.seconds() + LINGER_SECONDS

    def _closes_by_halves(self, transport: object) -> bool:
        """Whether our side alone can be closed; of Twisted's TLS it is the side of the connection below."""
        is_wrapped = self.isSecure() and not isinstance(transport, SecureServer)  # type: ignore[no-untyped-call]
        return not is_wrapped and hasattr(transport, "loseWriteConnection")

    # -- to the transport --------------------------------------------------------------------------------------------

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Send the head of a response."""
        self.writes += 1
        super().writeHeaders(version, code, reason, headers)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        """Send bytes of a response."""
        self.writes += 1
        super().write(data)  # type: ignore[no-untyped-call]

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Send bytes of a response."""
        self.writes += 1
        super().writeSequence(iovec)  # type: ignore[no-untyped-call]

    def write_both(self, head: bytes, data: bytes) -> None:
        """Send a head and the first bytes behind it; only where the transport is a ``PromptServer``."""
        self.writes += 1
        cast(PromptServer, self.transport).write_both(head, data)

    # -- time --------------------------------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """See whether the client has used up a time that it has."""
        if self._leaves_at is not None and now >= self._leaves_at:
            self.abort()
        elif self._head_due_at is not None and now >= self._head_due_at:
            self._head_is_late()
        elif self._moves() != self._seen[0]:
            self._note(now, self._unsent())
            self._is_emptied = False
        elif not self._is_emptied:
            self._look_whether_stalled(now)

    def timeoutConnection(self) -> None:
        """Nothing was asked for long; but a client that still takes the last response is not idle."""
        if self._unsent():
            self.setTimeout(self.timeOut)  # type: ignore[no-untyped-call]
        else:
            super().timeoutConnection()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        """Break the connection, so that nobody takes what was sent for the whole."""
        cast(Any, self.transport).abortConnection()

    def _look_whether_stalled(self, now: float) -> None:
        unsent = self._unsent()
        if unsent == 0:
            self._is_emptied = True
        elif unsent != self._seen[1]:
            self._note(now, unsent)
        elif now - self._seen_at >= self.site.limits.stall_seconds:
            self.abort()

    def _note(self, now: float, unsent: int) -> None:
        self._seen, self._seen_at = (self._moves(), unsent), now

    def _moves(self) -> int:
        """Grows with all that is given to the system for the client."""
        return self.writes + int(getattr(self.transport, "moves", 0))

    def _unsent(self) -> int:
        """Bytes that the system holds for the client; where it does not say, whether there are too many for it."""
        try:
            answer = fcntl.ioctl(cast(Any, self.transport).getHandle().fileno(), termios.TIOCOUTQ, bytes(4))
        except (AttributeError, OSError, ValueError):
            return int(self._is_full)
        return int(struct.unpack("i", answer)[0])

    def _expect_head(self) -> None:
        self._head_due_at = self.site.seconds() + self.site.limits.head_seconds

    def _head_is_late(self) -> None:
        if self._has_sent:
            self.refuse(TOO_LATE)
        else:  # it never asked for anything, so there is nothing to answer
            self._head_due_at = None
            self.loseConnection()  # type: ignore[no-untyped-call]
