"""TLS towards clients, straight on the socket.

Twisted's own TLS stands between a transport and a protocol: each record goes through a buffer in memory and back, and every
call through wrappers. Here OpenSSL reads from the socket and writes to it, and what is written goes out at once, so a hit
costs one read and one write more than its encryption. Certificates, keys, versions and ciphers are those that Twisted makes
of the endpoint: ``SecureReactor`` stands in for the reactor where an endpoint listens, and takes the port over from there.

A record holds 16 KiB at most. Where the system takes no more, OpenSSL keeps the record that it has encrypted, and wants the
same bytes again; Twisted's buffer, or the file, still has them. So a client that takes nothing costs one record, and nothing
is encrypted that has no room. Files are read piece by piece: OpenSSL looks at their bytes, which kills a program where a
file that is mapped has become shorter.

Either side of TLS may have to wait for the other: who reads for room, who writes for what the client sends. OpenSSL then
does at the next call what was to be done first, the handshake too, which nobody asks for by name.

What listens in another way than by ``IReactorSSL`` keeps Twisted's TLS, and all of it is right there too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from functools import partial
from mmap import mmap
from typing import Any

from OpenSSL import SSL
from twisted.internet import main, tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLContextFactory,
    IProtocolFactory,
    IProtocolNegotiationFactory,
    ISSLTransport,
)
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from pipcache.edges.records import RECORD_BYTES
from pipcache.engine.interfaces import InThread
from pipcache.web.crowd import Crowd, new_crowd
from pipcache.web.transport import PromptServer, SentFile

PIECE_BYTES = 1 << 18
"""What is read of a file at a time."""

_MODE = 0x1 | 0x2
"""SSL_MODE_ENABLE_PARTIAL_WRITE and SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER: a record at a time, and what there was no room for
is offered again from another place. Newer pyOpenSSLs have set both already."""

_PIECE = memoryview(mmap(-1, PIECE_BYTES))
"""Where pieces of files are read to: of every client's, as none is kept beyond its turn. Memory only once it is used."""


class _Connection(SSL.Connection):
    """OpenSSL's connection; what went well is not looked at any further."""

    def _raise_ssl_error(self, ssl: Any, result: int) -> None:
        """Raise what a call came to; called by pyOpenSSL behind each, and a good part of what that takes.

        SSL_get_error(3): "SSL_ERROR_NONE [...] is returned if and only if ret > 0."
        """
        if result <= 0:
            super()._raise_ssl_error(ssl, result)  # type: ignore[no-untyped-call]


@implementer(ISSLTransport)
class SecureServer(PromptServer):
    """One client's connection, encrypted.

    Invariant: no byte goes to the socket but through ``_tls``, which is None from the end on: its descriptor may then be
    somebody else's.
    """

    def __init__(self, context: SSL.Context, in_thread: InThread, crowd: Crowd | None, *accepted: Any) -> None:
        super().__init__(in_thread, crowd, *accepted)
        self._tls: Any = _Connection(context, self.socket)
        self._tls.set_accept_state()
        self._is_broken = False
        self._writes_when_read = False
        self._reads_when_written = False
        self._says_farewell = False

    def getHandle(self) -> SSL.Connection:  # type: ignore[override]  # as Twisted's own TLS has it
        """What encrypts; whoever sends by it sends nothing in the clear."""
        return self._tls

    def getPeerCertificate(self) -> Any:
        """Clients are not asked for one."""
        return self._tls.get_peer_certificate()

    # -- bytes that come ---------------------------------------------------------------------------------------------

    def doRead(self) -> Any:
        """There is a record, or some of it; or what TLS has to say to TLS."""
        try:
            data = self._tls.recv(RECORD_BYTES)
        except SSL.WantReadError:
            data = b""
        except SSL.WantWriteError:
            self._reads_when_written = True
            tcp.Server.startWriting(self)
            return None
        except SSL.ZeroReturnError:
            return main.CONNECTION_DONE
        except SSL.Error:
            return main.CONNECTION_LOST
        if self._writes_when_read:
            self._writes_when_read = False
            tcp.Server.startWriting(self)
        if data and not self.disconnecting:
            self.protocol.dataReceived(data)
        return None

    # -- bytes that go -----------------------------------------------------------------------------------------------

    def doWrite(self) -> Any:
        """There is room."""
        if self._reads_when_written:
            self._reads_when_written = False
            if not self._holds and self._file is None:
                tcp.Server.stopWriting(self)
            why = self.doRead()
            if why is not None:
                return why
        return super().doWrite()

    def writeSomeData(self, data: bytes) -> Any:
        """How many of these bytes were sent; called by Twisted with what it held."""
        sent = self._send(memoryview(data)[: self.SEND_LIMIT])
        return main.CONNECTION_LOST if self._is_broken else sent

    def _send(self, data: bytes | memoryview) -> int:
        """How many of these bytes were encrypted and sent; ``_is_broken`` when no more ever will be."""
        sent, size = 0, len(data)
        try:
            while sent < size:
                sent += self._tls.send(memoryview(data)[sent:] if sent else data)
        except SSL.WantWriteError:
            pass
        except SSL.WantReadError:
            self._writes_when_read = True
            tcp.Server.stopWriting(self)
            self.startReading()  # also behind a close, which waits for what is to be sent
        except SSL.Error:
            self._is_broken = True
        return sent

    def _send_both(self, head: bytes, data: bytes) -> int:
        return self._send(head + data)

    def _announced(self, head: bytes) -> bytes:
        return head

    def _sent(self, file: SentFile, count: int) -> int:
        taken = 0
        while taken < count:
            piece = _PIECE[: min(count - taken, PIECE_BYTES)]
            read = os.preadv(file.source.descriptor, [piece], file.position + taken)
            sent = self._send(piece[:read])
            if self._is_broken:
                raise OSError(errno.EPIPE, "the client is gone")
            taken += sent
            if sent < len(piece):
                if read and not taken:
                    raise BlockingIOError
                break
        return taken

    # -- the end -----------------------------------------------------------------------------------------------------

    def loseWriteConnection(self) -> None:
        """Say farewell behind all that is still to be sent, and go on reading."""
        self._says_farewell = True
        super().loseWriteConnection()

    def stopWriting(self) -> None:
        """All that Twisted held is sent; called by Twisted."""
        super().stopWriting()
        if self._reads_when_written:
            tcp.Server.startWriting(self)
        if self._says_farewell:
            self._say_farewell()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone, or is sent away: then it is told that this is the end. Nobody waits for its reply."""
        if self._tls is not None and reason.check(ConnectionDone):
            self._say_farewell()
        self._says_farewell = False
        super().connectionLost(reason)
        self._tls = None

    def _say_farewell(self) -> None:
        self._says_farewell = False
        try:
            self._tls.shutdown()
        except SSL.Error:  # there was no handshake, or there is no client
            return


class SecureReactor:
    """A reactor that listens with our TLS, and is ``reactor`` in all else; for ``serverFromString``."""

    def __init__(self, reactor: Any, in_thread: InThread) -> None:
        self._reactor = reactor
        self._in_thread = in_thread
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        """Whatever it is not asked for here."""
        return getattr(self._reactor, name)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """Listen as the reactor would, with TLS of Twisted's where ours does not fit."""
        reactor = self._reactor
        context = _context_of(contextFactory, factory) if isinstance(reactor, PosixReactorBase) else None
        if context is None:
            return reactor.listenSSL(port, factory, contextFactory, backlog, interface)  # type: ignore[no-any-return]
        listening = reactor.listenTCP(port, factory, backlog, interface)
        listening.transport = partial(SecureServer, context, self._in_thread, new_crowd(reactor))
        return listening


def _context_of(options: Any, factory: IProtocolFactory) -> SSL.Context | None:
    """What connections are made with; None where that is another for each, or in use already and so not to be changed.

    Raises:
        SSL.Error: key and certificate are no pair, or of no use; the operator's fault.
    """
    if not IOpenSSLContextFactory.providedBy(options):
        return None
    context: SSL.Context = options.getContext()
    negotiated = IProtocolNegotiationFactory(factory, None)
    spoken = () if negotiated is None else tuple(negotiated.acceptableProtocols())
    try:
        context.set_mode(_MODE)
        context.set_alpn_select_callback(partial(_selected, spoken))
    except ValueError:
        return None
    return context


def _selected(spoken: Sequence[bytes], _: SSL.Connection, offered: Sequence[bytes]) -> Any:
    """Which of the protocols that a client offers is spoken; where that is none of them it may try what it finds."""
    return next((each for each in spoken if each in offered), SSL.NO_OVERLAPPING_PROTOCOLS)
