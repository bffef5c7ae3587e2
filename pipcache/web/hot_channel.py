"""The short way: a plain request for something that is ready is answered before Twisted parses it.

It is taken only where Twisted's parser stands at the beginning of a request, no request is in progress and nothing is
buffered; for after a segment that ends behind a header line, the next one may begin with ``GET `` and be no request at all.
What is not plain, or not ready, goes to the parser as if nobody had looked.

Where the parser stands is said by attributes of Twisted's that are not public; ``can_tell`` says whether they are there,
and where they are not nobody goes this way.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.web.http import HTTPChannel

from pipcache.web.channel import Channel
from pipcache.web.hot import LOOK_SECONDS, HeldFile, HotResponse, HotResponses
from pipcache.web.hot_answers import HotAnswer, HotAnswers, Part
from pipcache.web.transport import PromptServer

RESET_SECONDS = 1.0
"""The idle timeout is put off at most this often, and so may come this much early."""


def can_tell() -> bool:
    """Whether this Twisted says where its parser stands."""
    channel = cast(Any, HTTPChannel())  # type: ignore[no-untyped-call]
    return (
        getattr(channel, "_HTTPChannel__first_line", None) == 1
        and getattr(channel, "_buffer", None) == b""
        and getattr(channel, "_dataBuffer", None) == []
        and channel.requests == []
        and bool(channel.persistent)
    )


class HotChannel(Channel):
    """One client's connection. ``answers`` is set on a subclass that the site makes channels of."""

    answers: HotAnswers

    def __init__(self) -> None:
        super().__init__()
        self._is_sending = False
        self._later = b""
        self._reset_at = 0.0
        self._client = ""

    def dataReceived(self, data: bytes) -> None:
        """Answer, or have the parser read."""
        if self._is_sending:
            self._later += data
            cast(Any, self.transport).pauseProducing()
            return
        answer = self.answers.to(data) if self._stands_at_request() else None
        if answer is not None and self._gave(answer):
            self._head_due_at = None
            self._has_sent = False
        else:
            super().dataReceived(data)
        if self.answers.responses.uses:
            self.answers.responses.count_uses()

    def _stands_at_request(self) -> bool:
        return not (
            self.requests
            or self._buffer
            or self._dataBuffer
            or self._HTTPChannel__first_line != 1  # type: ignore[attr-defined]
            or not self.persistent
            or self.is_refused
        )

    def _gave(self, answer: HotAnswer) -> bool:
        """Whether this could be given, and was."""
        response = answer.response
        if answer.part is Part.WHOLE:
            whole = response.whole
            if whole is None and response.file is None:
                whole = response.read()
            if whole is not None:
                self._say(whole)
            elif not self._sends_file(response):
                return False
        elif response.is_there():
            self._say(response.head if answer.part is Part.HEAD else response.not_modified)
        else:
            return False
        log = self.site.access_log
        if log is not None:
            if not self._client:  # behind HAProxy it is known no earlier than the first request
                self._client = getattr(cast(Any, self.transport).getPeer(), "host", "-")
            if not answer.line:
                answer.line = log.said(
                    answer.method, answer.target, "HTTP/1.1", answer.status, answer.sent, answer.agent, "HIT"
                )
            log.repeat(self._client, answer.line)
        return True

    def _say(self, content: bytes) -> None:
        """Send this, and put off the idle timeout."""
        self.writes += 1
        self.transport.write(content)  # type: ignore[union-attr]
        now = self.answers.responses.now()
        if not 0 <= now - self._reset_at < RESET_SECONDS:
            self._reset_at = now
            self.resetTimeout()  # type: ignore[no-untyped-call]

    def _sends_file(self, response: HotResponse) -> bool:
        """Send head and file; False where this connection sends none, or the file is gone."""
        transport = self.transport
        if not isinstance(transport, PromptServer):
            return False
        file = response.opened()
        if file is None:
            return False
        sending = _Sending(self, response, file)
        self.writes += 1
        now = self.answers.responses.now()
        held_until = response.length if 0 <= now - file.sent_at < LOOK_SECONDS else 0
        transport.send_file(response.head, file, 0, response.length, sending.done, held_until)
        if not sending.is_done:
            self._wait_for(sending)
        elif sending.is_sent and not held_until:
            file.sent_at = now
        return True

    def _wait_for(self, sending: _Sending) -> None:
        """Parse nothing until the file is sent."""
        self._is_sending = True
        sending.wait()

    def sent(self, error: Exception | None) -> None:
        """The file that was waited for is sent: read the next request, part of which may be there."""
        self._is_sending = False
        later, self._later = self._later, b""
        if error is None:
            self.resetTimeout()  # type: ignore[no-untyped-call]
        if later and error is None:
            cast(Any, self.transport).resumeProducing()
            self.dataReceived(later)

    def timeoutConnection(self) -> None:
        """Nothing was asked for long; but who is being sent a file is not idle."""
        if self._is_sending:
            self.setTimeout(self.timeOut)  # type: ignore[no-untyped-call]
        else:
            super().timeoutConnection()  # type: ignore[no-untyped-call]


class _Sending:
    """A file on its way to one client; while that is waited for, the entry is not evicted."""

    __slots__ = ("_channel", "_file", "_is_waited_for", "_repeat", "is_done", "is_sent")

    def __init__(self, channel: HotChannel, response: HotResponse, file: HeldFile) -> None:
        self.is_done = self.is_sent = False
        self._is_waited_for = False
        self._channel = channel
        self._repeat = response.repeat
        self._file = file

    def wait(self) -> None:
        """It takes longer than a moment."""
        self._is_waited_for = True
        self._repeat.pin()

    def done(self, error: Exception | None) -> None:
        """All was sent, or the client is gone."""
        self.is_done = True
        self.is_sent = error is None
        self._file.let_go()
        if self._is_waited_for:
            self._repeat.unpin()
            self._channel.sent(error)


def channel_of(hot: HotResponses) -> type[HotChannel]:
    """Channels that look into ``hot``."""
    return type("HotChannel", (HotChannel,), {"answers": HotAnswers(hot)})
