"""What one read brought over TLS, decrypted in one go.

TLS comes in records of 16 KiB at most. Twisted asks for one at a time: each goes to a buffer of its own, is looked at for
errors and is copied twice, an eighth of the time that a large body takes. Here ``recv`` of the connection that Twisted asks
reads on until there is no more, into one buffer.

For that OpenSSL is called as pyOpenSSL calls it, and that is not public. Where it is not as it is known here
(``can_read_on``) the connection is left as it is, and records come one by one.
"""

from __future__ import annotations

from mmap import mmap
from typing import Any, Final

from OpenSSL import SSL

from pipcache.edges.connection import READ_BYTES

RECORD_BYTES = 1 << 14
"""RFC 8446 section 5.1: the length of a record MUST NOT exceed 2^14 bytes."""

_OPENSSL: Final[Any] = getattr(SSL, "_lib", None)
_CFFI: Final[Any] = getattr(SSL, "_ffi", None)
_ROOM: Final = memoryview(mmap(-1, READ_BYTES))
"""Where records are decrypted to: of every connection, as none is there beyond the call. Memory only once it is used."""


def can_read_on() -> bool:
    """Whether pyOpenSSL calls OpenSSL in the way that is known here."""
    return hasattr(_OPENSSL, "SSL_read") and hasattr(_CFFI, "from_buffer")


_START: Final[Any] = _CFFI.from_buffer(_ROOM) if can_read_on() else None


def read_on(connection: SSL.Connection) -> None:
    """Let this connection bring all that is there at each ``recv``, where that is possible."""
    if can_read_on() and type(connection) is SSL.Connection and hasattr(connection, "_ssl"):
        connection.__class__ = _ReadingOn


class _ReadingOn(SSL.Connection):
    """A connection whose ``recv`` brings all records that are there. One that breaks off says so behind them."""

    _failure: SSL.Error | None = None

    def recv(self, bufsiz: int, flags: int | None = None) -> bytes:
        """What is there, up to ``READ_BYTES``, whatever ``bufsiz`` says; raises as ``SSL.Connection.recv`` does."""
        if self._failure is not None:
            raise self._failure
        read, ssl = _OPENSSL.SSL_read, self._ssl
        count = 0
        while count <= READ_BYTES - RECORD_BYTES:
            result = read(ssl, _START + count, RECORD_BYTES)
            if result <= 0:
                self._note(result, has_some=count > 0)
                break
            count += result
        return bytes(_ROOM[:count])

    def _note(self, result: int, *, has_some: bool) -> None:
        """Raise what a call came to, or keep it for the next where there is something to return first."""
        try:
            self._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            if not has_some:
                raise
            if not isinstance(error, SSL.WantReadError | SSL.WantWriteError):
                self._failure = error
