"""One request and its response on a connection (HTTP/1.1, RFC 9112), with the time that it may take.

A request is written whole, as ours have no bodies. Its response's head is awaited, then its body is handed over in plain
calls as it comes; until somebody takes it nothing more is read. The connection is free for another exchange as soon as
the body has come.

A timeout means silence: before the head, or between two reads (time that we paused upstream ourselves does not count).
The total time of a body has a limit of its own. One timer watches over them all: it looks when the first of them could
have run out, and again later when bytes have come since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from pipcache.edges.connection import Connection
from pipcache.edges.framing import Chunked, Framing, OpenEnded, Sized
from pipcache.edges.heads import Head, HeadReader
from pipcache.rules.errors import MalformedResponse, TruncatedBody, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.sites import BodyReceiver

_DISCARD_BYTES = 1 << 16
_SAID_CHARACTERS = 200


@define
class ClientTimeouts:
    """Seconds; ``silence`` without a byte, ``body`` for a whole body."""

    silence_seconds: float
    body_seconds: float


class Exchange:
    """A request and its response. Whoever has it delivers or abandons it, once it is answered.

    ``answered`` fires with it when the head is there, or fails; it may be cancelled. ``has_begun`` as soon as a byte of
    an answer came. ``on_over``, where somebody sets it, is called once, when the connection is needed no more.
    """

    head: Head

    def __init__(
        self, connection: Connection, clock: Any, timeouts: ClientTimeouts, due: float, *, is_head_request: bool
    ) -> None:
        """An exchange to be sent; its head must be there at ``due``."""
        self.answered: Deferred[Exchange] = Deferred(self._cancelled)
        self.has_begun = False
        self.on_over: Callable[[], None] | None = None
        self._connection = connection
        self._clock = clock
        self._timeouts = timeouts
        self._reader = HeadReader(is_head_request=is_head_request)
        self._framing: Framing | None = None
        self._receiver: BodyReceiver | None = None
        self._held = b""
        self._discarded_bytes = 0
        self._error: UpstreamError | None = None
        self._loss: Failure | None = None
        self._left_seconds = timeouts.body_seconds
        self._resumed_at = self._last_at = 0.0
        self._is_taken = False
        self._is_early = False
        self._is_paused = False
        self._is_closing = False
        self._is_over = False
        self._is_told = False
        self._timer: IDelayedCall | None = clock.callLater(max(0.0, due - clock.seconds()), self._look)

    # -- for whoever asked -------------------------------------------------------------------------------------------

    def deliver(self, receiver: BodyReceiver) -> None:
        """Hand the body over as it comes."""
        self._receiver = receiver
        self._take()

    def abandon(self) -> None:
        """Take no more of it: a short rest is read, so the connection can be used again; else it is closed."""
        self._receiver = None
        if self._is_over:
            return
        if self._is_taken:
            self._close()
        else:
            self._is_paused = False
            self._left_seconds = min(self._left_seconds, self._timeouts.silence_seconds)
            self._take()

    def pause(self) -> None:
        """Let no more bytes come for now; the timeouts stand still."""
        if self._is_paused or self._is_over:
            return
        self._is_paused = True
        if self._is_taken:
            self._left_seconds -= self._clock.seconds() - self._resumed_at
            self._connection.read(False)

    def resume(self) -> None:
        """Let bytes come again."""
        if self._is_paused:
            self._is_paused = False
            if self._is_taken and not self._is_told and not self._is_early:
                self._go_on()

    # -- for the connection ------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._is_closing:
            return
        if self._framing is None:
            self._read_head(data)
        elif self._is_paused or not self._is_taken:
            self._held += data
        else:
            self._last_at = self._clock.seconds()
            self._hand_on(data)

    def lost(self, reason: Failure) -> None:
        """The connection is gone; of what came before that nothing is lost."""
        self._loss = reason
        self._over()
        if self._framing is None:
            self.answered.errback(_before_an_answer(reason))
        elif self._is_taken and (self._is_closing or not (self._is_paused and self._held)):
            self._tell_loss()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        self.has_begun = True
        try:
            found = self._reader.take(data)
        except MalformedResponse as error:
            self._refuse(error)
            return
        if found is None:
            return
        self.head, self._held = found
        length = self.head.length
        self._framing = Chunked() if self.head.is_chunked else OpenEnded() if length is None else Sized(length)
        # Where nobody knows the length of the content, whoever takes it answers before it has ended. So it is one turn
        # later here too, however the bytes fell into reads; else it may as well be whole at once.
        self._is_early = length is None or bool(self.head.codings)
        self.answered.callback(self)
        is_early, self._is_early = self._is_early, False
        if not self._is_taken:
            self._connection.read(False)
        elif is_early and not self._is_paused and not self._is_closing:
            self._go_on()

    def _take(self) -> None:
        self._is_taken = True
        self._resumed_at = self._last_at = self._clock.seconds()
        if not self._is_paused and not self._is_early:
            self._go_on()

    def _go_on(self) -> None:
        """Let time run, hand on what is there already, and let more come."""
        self._resumed_at = self._last_at = self._clock.seconds()
        held, self._held = self._held, b""
        self._hand_on(held)
        if self._is_told or self._is_paused:
            return
        if self._loss is not None:
            self._tell_loss()
        elif not self._is_closing:
            self._watch()
            self._connection.read(True)

    def _hand_on(self, data: bytes) -> None:
        assert self._framing is not None
        content, rest = self._framing.take(data)
        if self._receiver is None:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _DISCARD_BYTES:
                self._close()
        elif content:
            self._receiver.received(content)
        if self._framing.error is not None and not self._is_closing:
            self._break_off(self._framing.error)
        if rest is None or self._is_closing:
            return
        if not self._is_over:
            self._connection.over(is_reusable=self.head.stays_open and not rest)
            self._over()
        self._tell(None)

    def _tell(self, error: UpstreamError | None, *, length_was_known: bool = True) -> None:
        self._is_told = True
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if error is None:
            receiver.ended(length_was_known)
        else:
            receiver.failed(error)

    def _tell_loss(self) -> None:
        assert self._framing is not None
        assert self._loss is not None
        if self._error is None and self._framing.is_open_ended and self._loss.check(ConnectionDone):
            self._tell(None, length_was_known=False)
        else:
            self._tell(self._error or TruncatedBody("the connection broke before the body was whole"))

    def _over(self) -> None:
        """The connection is needed no more."""
        if self._is_over:
            return
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.on_over is not None:
            self.on_over()

    def _refuse(self, error: UpstreamError) -> None:
        """There will be no answer."""
        self._cancelled(self.answered)
        self.answered.errback(error)

    def _cancelled(self, _: Deferred[Exchange]) -> None:
        self._is_closing = True
        self._connection.abort()
        self._over()

    def _break_off(self, error: UpstreamError) -> None:
        self._error = error
        self._close()

    def _close(self) -> None:
        self._is_closing = True
        self._connection.close()

    def _watch(self) -> None:
        """See to it that the timer goes off no later than the first limit; when it does, it looks again."""
        now = self._clock.seconds()
        due = min(self._last_at + self._timeouts.silence_seconds, self._resumed_at + self._left_seconds)
        if self._timer is None:
            self._timer = self._clock.callLater(max(0.0, due - now), self._look)
        elif due < self._timer.getTime():
            self._timer.reset(max(0.0, due - now))

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        if self._framing is None:
            self._refuse(UpstreamTimeout("no answer in time"))
        elif not self._is_taken or self._is_paused or self._is_closing:
            return  # nobody counts now; the timer is set again when somebody does
        elif now >= self._resumed_at + self._left_seconds:
            self._break_off(UpstreamTimeout(f"the body took longer than {self._timeouts.body_seconds:g} s"))
        elif now >= self._last_at + self._timeouts.silence_seconds:
            self._break_off(UpstreamTimeout(f"no byte for {self._timeouts.silence_seconds:g} s in mid-body"))
        else:
            self._watch()


def _before_an_answer(reason: Failure) -> UpstreamUnavailable:
    """What the loss of a connection is called before there was an answer."""
    if reason.check(ConnectionClosed):
        return UpstreamUnavailable("the connection was closed before an answer")
    said = str(reason.value) or type(reason.value).__name__
    return UpstreamUnavailable(f"no answer: {said[:_SAID_CHARACTERS]}")  # TLS, mostly
