"""From an outcome, or an error, to a response on the wire. Everything a client reads is encoded here.

Twisted's ``render`` methods may not return a Deferred, so one function starts the coroutine that answers and sees to every
end it can have: an outcome, one of our errors, a bug, a client that left meanwhile.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import lru_cache
from time import time
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.web.http import RESPONSES, datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.server import NOT_DONE_YET, Request

from pipcache.engine.follower import BodyFollower
from pipcache.engine.interfaces import Clock, Events
from pipcache.engine.outcome import Outcome, StoredSource
from pipcache.rules.errors import NotServed, PipcacheError
from pipcache.rules.fields import Fields
from pipcache.rules.response import Shape
from pipcache.web.channel import Channel
from pipcache.web.mapping import OpenFile
from pipcache.web.refusals import NO_SNIFFING, SERVER
from pipcache.web.transport import PromptServer


def answer(request: Request, outcome: Coroutine[Any, Any, Outcome], clock: Clock, events: Events) -> int:
    """Answer with what the coroutine comes to; for a resource's ``render_GET`` and ``render_HEAD`` to return."""
    presence = _Presence(request)
    Deferred.fromCoroutine(_answer(request, outcome, clock, events, presence))
    return NOT_DONE_YET


async def _answer(
    request: Request, coming: Coroutine[Any, Any, Outcome], clock: Clock, events: Events, presence: _Presence
) -> None:
    try:
        outcome = await coming
    except PipcacheError as error:
        if presence.is_there:
            send_text(request, error.status, str(error), _about(error))
        return
    except Exception:
        events.crashed("answering a request")
        if presence.is_there:
            send_text(request, 500, "An error of this proxy; its log says more.")
        return
    if not presence.is_there:
        outcome.drop()
        return
    send_outcome(request, outcome, clock, presence)


def _about(error: PipcacheError) -> Fields:
    """What the cache had to do with an error: nothing, mostly; and when to ask again."""
    status = "HIT" if isinstance(error, NotServed) and error.is_remembered else "MISS"
    fields = (("x-cache-status", status), ("via", "1.1 pipcache"))
    seconds = error.retry_after_seconds if isinstance(error, NotServed) else None
    return fields if seconds is None else (*fields, ("retry-after", str(seconds)))


def send_outcome(request: Request, outcome: Outcome, clock: Clock, presence: _Presence) -> None:
    """Send status and fields, then the body at the client's pace."""
    shape, source = outcome.shape, outcome.source
    if source is None:
        set_head(request, shape.status, shape.fields)
        request.finish()
        return
    head = _begun(request, shape)
    transport = _transport_of(request)
    if isinstance(source, StoredSource) and source.descriptor is not None and isinstance(transport, PromptServer):
        _send_file(request, head, source, source.descriptor, shape, transport)
        return
    sink = RequestSink(request, head)
    follower = BodyFollower(source, sink, clock, shape.start, shape.stop)
    presence.follower = follower
    request.registerProducer(follower, True)  # type: ignore[no-untyped-call]
    if presence.is_there:
        follower.begin()
        sink.begin()


def _begun(request: Request, shape: Shape) -> bytes:
    """Begin a response that has a body: the head, to be sent with the first of it; empty where Twisted has sent it.

    Twisted's own way of writing a head takes a tenth of what a small file takes in all. It is left those that say
    something of the connection or of the framing.
    """
    if not _is_usual(request, shape):
        set_head(request, shape.status, shape.fields)
        request.write(b"")  # at once: a client that waits for the first byte of a slow body sees that it is coming
        return b""
    request.setResponseCode(shape.status)
    request.startedWriting = 1
    said = [value.encode("latin-1") for name, value in shape.fields if name == "x-cache-status"]
    request.responseHeaders.setRawHeaders(b"x-cache-status", said)  # for the access log
    return written_head(shape.status, shape.fields, time())


def _is_usual(request: Request, shape: Shape) -> bool:
    """Whether the head is no more than the shape says: for a GET of HTTP/1.1 that leaves the connection open."""
    channel = request.channel
    return (
        isinstance(channel, Channel)
        and isinstance(channel.transport, PromptServer)
        and bool(channel.persistent)
        and request.clientproto == b"HTTP/1.1"
        and request.method == b"GET"
        and any(name == "content-length" for name, _ in shape.fields)
    )


def _send_file(
    request: Request, head: bytes, source: StoredSource, descriptor: int, shape: Shape, transport: PromptServer
) -> None:
    """Have the system send a file that is whole; it is given back when that is done, or the client has left."""
    stop = source.available if shape.stop is None else shape.stop
    file = OpenFile(descriptor)

    def done(error: Exception | None) -> None:
        file.unmap()
        source.unwanted()
        if error is None:
            request.sentLength += stop - shape.start
            request.finish()

    if head:
        cast(Channel, request.channel).writes += 1
    transport.send_file(head, file, shape.start, stop - shape.start, done)


def _transport_of(request: Request) -> object:
    return None if request.channel is None else request.channel.transport


def send_text(request: Request, status: int, text: str, fields: Fields = ()) -> None:
    """A whole response of one plain sentence."""
    reason = RESPONSES.get(status, b"").decode()
    send_bytes(request, status, f"{status} {reason}: {text}\n".encode(), "text/plain; charset=utf-8", fields)


def send_bytes(request: Request, status: int, body: bytes, content_type: str, fields: Fields = ()) -> None:
    """A whole response of our own, not to be kept by anybody."""
    own = (
        ("content-type", content_type),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        *NO_SNIFFING,
    )
    set_head(request, status, (*own, *fields))
    if request.method != b"HEAD":
        request.write(body)
    request.finish()


def set_head(request: Request, status: int, fields: Fields) -> None:
    """Set the status and the fields; a name that repeats is sent as often."""
    request.setResponseCode(status)
    headers = request.responseHeaders
    headers.removeHeader(b"content-type")
    request.defaultContentType = None  # type: ignore[assignment]  # what upstream did not say we do not make up
    headers.setRawHeaders(b"server", [SERVER.encode()])
    for name, value in fields:
        headers.addRawHeader(name.encode("latin-1"), value.encode("latin-1"))


def written_head(status: int, fields: Fields, now: float) -> bytes:
    """A head as it is sent where no ``Request`` sends it; equal to what ``set_head`` and Twisted come to."""
    return b"".join((written_start(status, int(now)), written_fields(fields), b"\r\n"))


@lru_cache(maxsize=16)
def written_start(status: int, second: int) -> bytes:
    """The beginning of such a head; ``second`` is the time of the answer, epoch seconds."""
    server = written_fields((("server", SERVER),))
    return b"HTTP/1.1 %d %s\r\n%sDate: %s\r\n" % (status, RESPONSES[status], server, datetimeToString(second))


def written_fields(fields: Fields) -> bytes:
    """Fields as Twisted sends them, each on one line."""
    return b"".join([b"%s: %s\r\n" % (wire_name(name), _shown_value(value)) for name, value in fields])


def _shown_value(value: str) -> bytes:
    shown = value.encode("latin-1")
    return b" ".join(shown.splitlines()) if b"\n" in shown or b"\r" in shown else shown


@lru_cache(maxsize=256)
def wire_name(name: str) -> bytes:
    """A field's name as Twisted writes it."""
    [(shown, _)] = Headers({name.encode("latin-1"): [b""]}).getAllRawHeaders()
    return bytes(shown)


class RequestSink:
    """A ``BodySink`` that is one client's response; a ``head`` that Twisted has not sent goes out with the first bytes."""

    def __init__(self, request: Request, head: bytes) -> None:
        self._request = request
        self._channel = cast(Channel, request.channel) if head else None
        self._head = head

    def begin(self) -> None:
        """Send the head at once, where no bytes have come: a client that waits for them sees that they are coming."""
        if self._head:
            self.write(b"")

    def write(self, data: bytes) -> None:
        """Send these bytes."""
        if self._channel is None:
            self._request.write(data)
            return
        self._request.sentLength += len(data)
        if self._head:
            head, self._head = self._head, b""
            self._channel.write_both(head, data)
        else:
            self._channel.write(data)

    def finish(self) -> None:
        """The response is complete."""
        self.begin()
        self._request.unregisterProducer()  # type: ignore[no-untyped-call]
        self._request.finish()

    def abort(self) -> None:
        """Break the connection at once: no terminator, no orderly end that HTTP/1.0 could take for one."""
        self._head = b""
        self._request.unregisterProducer()  # type: ignore[no-untyped-call]
        channel = self._request.channel
        if channel is not None:
            cast(Any, cast(ITransport, channel.transport)).abortConnection()


class _Presence:
    """Whether the client is still there; when it leaves, its follower is told."""

    def __init__(self, request: Request) -> None:
        self.is_there = True
        self.follower: BodyFollower | None = None
        request.notifyFinish().addBoth(self._over)

    def _over(self, _: object) -> None:
        self.is_there = False
        if self.follower is not None:
            self.follower.stopProducing()
