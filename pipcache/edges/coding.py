"""Content-coding (RFC 9110, section 8.4): bodies are handed on decoded, whatever was asked for.

A body that is encoded and ends too early is noticed here.
"""

from __future__ import annotations

import zlib
from typing import Any

from pipcache.edges.exchange import Exchange
from pipcache.rules.errors import MalformedResponse, TruncatedBody, UpstreamError
from pipcache.rules.sites import BodyReceiver

_DECODED_CHUNK_BYTES = 1 << 18
_DECODABLE = (("gzip",), ("x-gzip",), ("deflate",))


class Decoder:
    """Decodes what an exchange brings; a ``BodyReceiver`` before another one, and what that one pauses.

    A few encoded bytes may stand for very many. So a pause holds them back encoded, and the end behind them.
    """

    def __init__(self, exchange: Exchange, receiver: BodyReceiver, codings: tuple[str, ...]) -> None:
        self._exchange = exchange
        self._receiver: BodyReceiver | None = receiver
        self._codings = codings
        self._held = b""
        self._end: UpstreamError | bool | None = None
        self._is_paused = False
        self._is_decoding = False
        self._is_started = False
        self._stream = self._new_stream()

    def _new_stream(self) -> Any:
        # 47: gzip or zlib, told apart by the header; a `deflate` without one is not what RFC 9110 names so
        return zlib.decompressobj(47)

    # -- for whoever takes the body ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Let the body come."""
        if self._codings in _DECODABLE:
            self._exchange.deliver(self)
        else:
            self._fail(MalformedResponse("the body has a content-encoding that was not asked for"))

    def pause(self) -> None:
        """Hand on no more for now."""
        self._is_paused = True
        self._exchange.pause()

    def resume(self) -> None:
        """Go on."""
        self._is_paused = False
        self._go_on()
        if not self._is_paused:
            self._exchange.resume()

    def abandon(self) -> None:
        """Take no more of it."""
        self._receiver = None
        self._held = b""
        self._exchange.abandon()

    # -- for the exchange --------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """The next bytes, encoded."""
        self._held += data
        self._go_on()

    def ended(self, length_was_known: bool) -> None:
        """These were all."""
        self._end = length_was_known
        self._go_on()

    def failed(self, error: UpstreamError) -> None:
        """No more will come."""
        self._end = error
        self._go_on()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Hand on what may be handed on; a call from within ``received`` of who takes it changes nothing."""
        if self._is_decoding:
            return
        self._is_decoding = True
        while self._held and not self._is_paused:
            self._decode()
        self._is_decoding = False
        if self._end is not None and not self._held and self._receiver is not None:
            receiver, self._receiver = self._receiver, None
            if isinstance(self._end, UpstreamError):
                receiver.failed(self._end)
            elif self._is_started and not self._stream.eof:
                receiver.failed(TruncatedBody("the encoded body ended before it was whole"))
            else:
                receiver.ended(self._end)

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
        if decoded and self._receiver is not None:
            self._receiver.received(decoded)

    def _fail(self, error: UpstreamError) -> None:
        receiver = self._receiver
        self.abandon()
        if receiver is not None:
            receiver.failed(error)
