"""What a connection is told that gets no ordinary response: whole responses, made without a request.

They are sent before a request was parsed, or where it must not be, so nothing here looks at what a client sent. None
holds a word of it either, and browsers are told to take the text for text.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Any

from attrs import frozen
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from pipcache import __version__
from pipcache.rules.fields import Fields

_READ_BYTES = 1 << 16
RETRY_SECONDS = 5
"""What a client is told to wait that found no room."""

NO_SNIFFING: Fields = (("x-content-type-options", "nosniff"),)
SERVER = f"pipcache/{__version__}"

_KNOWN_METHODS = frozenset({b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT"})


@frozen
class Refusal:
    """A status, what a person is told, and more fields."""

    status: int
    text: str
    fields: Fields = ()

    @property
    def response(self) -> bytes:
        """The bytes of the whole response; the connection ends behind it."""
        reason = HTTPStatus(self.status).phrase
        body = f"{self.status} {reason}: {self.text}\n"
        fields: Fields = (
            ("server", SERVER),
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            *NO_SNIFFING,
            *self.fields,
            ("connection", "close"),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        return f"HTTP/1.1 {self.status} {reason}\r\n{lines}\r\n{body}".encode("latin-1")


MALFORMED = Refusal(400, "This is no request as HTTP/1.1 has them.")
FOLDED = Refusal(400, "A field that goes on in a second line has several readings.")
TOO_LONG = Refusal(431, "The head of the request is too long.")
TOO_LATE = Refusal(408, "The head of the request did not come in time.")
NOT_TO_READ = Refusal(400, "A request to read names a path and has no body.")
CROWDED = Refusal(
    503, "As many clients as this proxy has room for are connected.", (("retry-after", str(RETRY_SECONDS)),)
)

_READ_ONLY = Refusal(
    405,
    "This index is read-only; it answers GET and HEAD. To publish a package, upload it to the index itself.",
    (("allow", "GET, HEAD"),),
)
_UNKNOWN = Refusal(501, "No such method is known here.")


def refusal_of_method(method: bytes) -> Refusal | None:
    """What a request with this method is told; None where it may be answered."""
    if method in (b"GET", b"HEAD"):
        return None
    return _READ_ONLY if method in _KNOWN_METHODS else _UNKNOWN


class NoRoom(Protocol):
    """A connection over the limit: told so and closed on the spot, whatever it came for.

    The reactor accepts a hundred connections and more before it comes to write to any, so an orderly way would need a
    descriptor for each of them at once.
    """

    def connectionMade(self) -> None:
        """Answer before anything was asked. What was asked already is read, or closing would reset the connection.

        Over TLS nothing can be said before the handshake, which takes the client's time.
        """
        transport: Any = self.transport
        if not ISSLTransport.providedBy(transport):
            with suppress(OSError):
                transport.getHandle().send(CROWDED.response)
                transport.getHandle().recv(_READ_BYTES)
        transport.connectionLost(Failure(ConnectionDone()))
