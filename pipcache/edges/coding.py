"""Content-coding (RFC 9110, section 8.4): which one is asked for, and bodies that come decoded.

The agent here is the innermost one that treq talks through, as treq would always add gzip. It decodes what comes back,
whatever was asked for, and notices an encoded body that ends too early.
"""

from __future__ import annotations

import zlib
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from pipcache.rules.errors import MalformedResponse, TruncatedBody

_DECODED_CHUNK_BYTES = 1 << 18


@implementer(IAgent)
class EncodingAgent:
    """Asks for files as they are and for pages in gzip, and hands on bodies decoded.

    The first of a caller's Accept-Encoding values goes up alone: treq adds its own behind it.
    """

    def __init__(self, agent: IAgent, proxy_authorization: bytes | None = None) -> None:
        self._agent = agent
        self._proxy_authorization = proxy_authorization

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send; the response's body, length and fields are those of the decoded content."""
        headers = headers.copy() if headers else Headers()
        wanted = headers.getRawHeaders(b"accept-encoding", [b"identity"])[0]
        headers.setRawHeaders(b"accept-encoding", [wanted])
        if self._proxy_authorization:
            headers.setRawHeaders(b"proxy-authorization", [self._proxy_authorization])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(_decoded)


def _decoded(response: IResponse) -> IResponse:
    codings = [
        coding.strip().lower()
        for value in response.headers.getRawHeaders(b"content-encoding", [])
        for coding in value.split(b",")
        if coding.strip().lower() not in (b"", b"identity")
    ]
    response.headers.removeHeader(b"content-encoding")
    if not codings or response.code in (204, 304):
        return response
    response.headers.removeHeader(b"content-length")  # of HEAD; it is that of the encoded body
    response.headers.removeHeader(b"content-range")  # which counts encoded bytes
    return DecodedResponse(response, codings)


class DecodedResponse(proxyForInterface(IResponse)):  # type: ignore[misc]
    """A response whose body is decoded on the way; its length is not known beforehand."""

    def __init__(self, original: IResponse, codings: list[bytes]) -> None:
        super().__init__(original)
        self._codings = codings
        self.length = UNKNOWN_LENGTH

    def deliverBody(self, protocol: IProtocol) -> None:
        """Hand the decoded bytes to ``protocol``; its connection is lost for ``TruncatedBody`` on half a stream."""
        self.original.deliverBody(_Decoder(protocol, self._codings))


@implementer(IPushProducer)
class _Decoder(Protocol):
    """Decodes what upstream's connection brings; is itself the transport of the body's protocol.

    A few encoded bytes may stand for very many. So a pause holds them back encoded, and the end behind them.
    """

    def __init__(self, inner: IProtocol, codings: list[bytes]) -> None:
        self._inner = inner
        self._codings = codings
        self._error: Exception | None = None
        self._held = b""
        self._reason: Failure | None = None
        self._is_paused = False
        self._is_decoding = False
        self._is_over = False
        self._is_started = False
        self._stream = self._new_stream()

    def _new_stream(self) -> Any:
        # 47: gzip or zlib, told apart by the header; a `deflate` without one is not what RFC 9110 names so
        return zlib.decompressobj(47)

    def connectionMade(self) -> None:
        self._inner.makeConnection(cast(ITransport, self))
        if self._codings not in ([b"gzip"], [b"x-gzip"], [b"deflate"]):
            self._fail(MalformedResponse("the body has a content-encoding that was not asked for"))

    def dataReceived(self, data: bytes) -> None:
        if self._error is None:
            self._held += data
            self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._reason = reason
        self._go_on()

    def pauseProducing(self) -> None:
        self._is_paused = True
        self._upstream.pauseProducing()

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._go_on()
        if not self._is_paused:
            self._upstream.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self._held = b""
        self._upstream.loseConnection()
        self._go_on()

    @property
    def _upstream(self) -> Any:
        return self.transport

    def _go_on(self) -> None:
        """Hand on what may be handed on; a call from within ``dataReceived`` of the inner protocol changes nothing."""
        if self._is_decoding:
            return
        self._is_decoding = True
        while self._held and not self._is_paused:
            self._decode()
        self._is_decoding = False
        if self._reason is not None and not self._held and not self._is_over:
            self._is_over = True
            if self._error is None and self._is_started and not self._stream.eof:
                self._error = TruncatedBody("the encoded body ended before it was whole")
            self._inner.connectionLost(Failure(self._error) if self._error else self._reason)

    def _decode(self) -> None:
        if self._stream.eof:  # a gzip file may have several members
            self._stream = self._new_stream()
        self._is_started = True
        try:
            decoded = self._stream.decompress(self._held, _DECODED_CHUNK_BYTES)
        except zlib.error:
            self._fail(MalformedResponse("the body is not in the content-encoding that it says"))
            return
        self._held = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        if decoded:
            self._inner.dataReceived(decoded)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.loseConnection()
