"""A small HTTP client that hides nothing: bytes as they came, and whether the response was whole.

A library would retry, decode and wait for the end. Here the test sends what it likes, reads as slowly as it
likes or not at all, leaves without a word, and is told how each response ended: by its length, by the
terminator of its chunks, with its connection, or in the middle.
"""

from __future__ import annotations

import enum
import hashlib
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure


class End(enum.Enum):
    """How a response ended."""

    NO_BODY = "its head was all: HEAD, 204 or 304"
    LENGTH = "as many bytes came as Content-Length said"
    CHUNKS = "the chunk of no bytes came"
    CLOSE = "it said no length, and its connection was closed in an orderly way"
    BROKEN = "its connection went before it was whole"


class Answer:
    """One response as far as it came; `end` is None while it may go on."""

    def __init__(self, client: Client, method: str) -> None:
        self.method = method
        self.status: int | None = None
        self.version = ""
        self.fields: list[tuple[str, str]] = []
        self.body = bytearray()
        self.end: End | None = None
        self._client = client

    def __getitem__(self, name: str) -> str | None:
        """The values of a field, joined by a comma; None where it did not come."""
        values = [value for each, value in self.fields if each == name.lower()]
        return ", ".join(values) if values else None

    def __repr__(self) -> str:
        return (
            f"<{self.method}: {self.status} {self.fields} {len(self.body)} bytes {bytes(self.body[:200])!r} {self.end}>"
        )

    @property
    def is_whole(self) -> bool:
        """Whether its own framing says that nothing is missing."""
        return self.end in (End.NO_BODY, End.LENGTH, End.CHUNKS)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def sha256(self) -> str:
        """The body's SHA-256; for bodies too large to be shown where a test fails."""
        return hashlib.sha256(self.body).hexdigest()

    async def head(self) -> Answer:
        """Wait for status and fields."""
        await self._client.until(lambda: self.status is not None or self.end is not None)
        return self

    async def received(self, count: int) -> Answer:
        """Wait until so many bytes of the body are here, or the response has ended."""
        await self._client.until(lambda: len(self.body) >= count or self.end is not None)
        return self

    async def ended(self) -> Answer:
        """Wait until the response has ended, well or not."""
        await self._client.until(lambda: self.end is not None)
        return self


class Client(Protocol):
    """One connection to a server on 127.0.0.1; `await Client.to(port)`."""

    def __init__(self) -> None:
        self.is_closed = False
        self._answers: list[Answer] = []
        self._buffer = bytearray()
        self._left: int | None = None  # bytes of the body or chunk to come; None: no length, or the head is to come
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @classmethod
    async def to(cls, port: int, receive_buffer_bytes: int | None = None) -> Client:
        """Connect; a small receive buffer lets a client that does not read be felt soon."""
        client: Client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), cls())
        if receive_buffer_bytes is not None:
            client._transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        return client

    # -- what the test does ------------------------------------------------------------------------------------------

    def ask(self, target: str, *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> Answer:
        """Send a request; several may be on their way."""
        lines = [f"{method} {target} {version}", "Host: proxy.test:8080", *fields, "\r\n"]
        return self.send("\r\n".join(lines).encode(), method)

    def send(self, data: bytes, method: str = "GET") -> Answer:
        """Send bytes as they are; the answer is that to the request which they hold."""
        answer = Answer(self, method)
        self._answers.append(answer)
        self._transport.write(data)
        return answer

    def send_more(self, data: bytes) -> None:
        """Send bytes that belong to what was sent before."""
        self._transport.write(data)

    @property
    def unread(self) -> bytes:
        """What came and is no part of an answer that was awaited."""
        return bytes(self._buffer)

    def pause(self) -> None:
        """Read no more."""
        self._transport.pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self._transport.resumeProducing()

    def vanish(self) -> None:
        """Be gone: a reset, whatever is on its way."""
        self._transport.abortConnection()

    async def close(self) -> None:
        """Leave, and wait until that is done."""
        self._transport.abortConnection()
        await self.until(lambda: self.is_closed)

    def until(self, is_so: Callable[[], bool]) -> Deferred[None]:
        """Wait until a condition holds; it is asked now and whenever bytes came or the connection went."""
        done: Deferred[None] = Deferred(self._forget)
        self._waiters.append((is_so, done))
        self._changed()
        return done

    # -- what Twisted does -------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Sort the bytes into the answers that are awaited."""
        self._buffer += data
        while (answer := self._current) is not None and self._step(answer):
            pass
        self._changed()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """What is not whole now is broken, but for a body that is to end so."""
        self.is_closed = True
        for answer in self._answers:
            if answer.end is None:
                open_ended = answer.status is not None and self._length_of(answer) is None and not _is_chunked(answer)
                answer.end = End.CLOSE if open_ended and reason.check(ConnectionDone) else End.BROKEN
        self._changed()

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _transport(self) -> Any:
        return self.transport

    @property
    def _current(self) -> Answer | None:
        return next((answer for answer in self._answers if answer.end is None), None)

    def _step(self, answer: Answer) -> bool:
        """Take the next part of an answer from the buffer; False where it is not there yet."""
        if answer.status is None:
            return self._take_head(answer)
        if _is_chunked(answer) and self._left is None:
            return self._take_chunk_size(answer)
        count = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        answer.body += self._buffer[:count]
        del self._buffer[:count]
        if self._left is None:
            return False
        self._left -= count
        if self._left > 0:
            return False
        return self._end_part(answer)

    def _take_head(self, answer: Answer) -> bool:
        head, end, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not end:
            return False
        self._buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        answer.version, status, *_ = first.split(" ")
        for line in lines:
            name, _, value = line.partition(":")
            answer.fields.append((name.lower(), value.strip()))
        answer.status = int(status)
        if answer.method == "HEAD" or answer.status in (204, 304):
            answer.end = End.NO_BODY
            return True
        self._left = None if _is_chunked(answer) else self._length_of(answer)
        if self._left == 0:
            return self._end_part(answer)
        return True

    def _take_chunk_size(self, answer: Answer) -> bool:
        line, end, rest = bytes(self._buffer[:64]).partition(b"\r\n")
        if not end:
            return False
        size = int(line, 16)
        if size == 0:
            if len(rest) < 2:
                return False
            del self._buffer[: len(line) + 4]
            answer.end = End.CHUNKS
            return True
        if len(self._buffer) < len(line) + 2 + size + 2:
            return False  # a chunk is shown when it is whole
        start = len(line) + 2
        answer.body += self._buffer[start : start + size]
        del self._buffer[: start + size + 2]
        return True

    def _end_part(self, answer: Answer) -> bool:
        self._left = None
        answer.end = End.LENGTH
        return True

    @staticmethod
    def _length_of(answer: Answer) -> int | None:
        length = answer["content-length"]
        return None if length is None else int(length)

    def _forget(self, cancelled: Deferred[None]) -> None:
        self._waiters = [each for each in self._waiters if each[1] is not cancelled]

    def _changed(self) -> None:
        for is_so, done in list(self._waiters):
            if not done.called and is_so():
                self._forget(done)
                done.callback(None)


def _is_chunked(answer: Answer) -> bool:
    return "chunked" in (answer["transfer-encoding"] or "")
