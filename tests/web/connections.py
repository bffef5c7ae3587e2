"""One connection over loopback: our side, of the kind under test, and a client that reads all that comes, or waits."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from pipcache.web.mapping import OpenFile
from pipcache.web.tls import SecureReactor, SecureServer
from pipcache.web.transport import PromptServer, make_prompt
from tests.fakes.tls import self_signed
from tests.flows.harness import eventually

Opened = Callable[[bytes], OpenFile]
"""Opens a file with this content."""

BIG = os.urandom(1 << 16) * 128


class Peer(Protocol):
    """One end of a connection: what came, and how it was closed."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        """Collect."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over."""
        self.lost = reason


class Peers(Factory):
    """Makes them, and keeps the last."""

    noisy = False
    peer: Peer | None = None

    def buildProtocol(self, addr: object) -> Peer:
        """One more."""
        self.peer = Peer()
        return self.peer


class Outcome:
    """What a transport said of a file, which it says once."""

    def __init__(self) -> None:
        self.said: list[Exception | None] = []

    def __call__(self, error: Exception | None) -> None:
        """It was said."""
        self.said.append(error)


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run it in one of the reactor's."""
    return await deferToThread(function)


def listen(peers: Factory, in_thread: Any = in_thread, *, is_secure: bool) -> Any:
    """A port whose connections are of our kinds."""
    if is_secure:
        options = PrivateCertificate.loadPEM(self_signed().identity).options()
        return SecureReactor(reactor, in_thread).listenSSL(0, peers, options, interface="127.0.0.1")
    port = reactor.listenTCP(0, peers, interface="127.0.0.1")  # type: ignore[attr-defined]
    assert make_prompt(port, in_thread)
    return port


async def connect(port: Any, *, is_secure: bool) -> Peer:
    """A client; with TLS it has begun, and may not have ended, its handshake."""
    endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    if is_secure:
        trusted = trustRootFromCertificates([Certificate.loadPEM(self_signed().pem)])
        endpoint = wrapClientTLS(optionsForClientTLS("127.0.0.1", trustRoot=trusted), endpoint)
    return await connectProtocol(endpoint, Peer())


@asynccontextmanager
async def connected(in_thread: Any = in_thread, *, is_secure: bool = False) -> AsyncIterator[tuple[PromptServer, Peer]]:
    """Our side of a new connection, and the client."""
    peers = Peers()
    port = listen(peers, in_thread, is_secure=is_secure)
    client = await connect(port, is_secure=is_secure)
    await eventually(lambda: peers.peer is not None and peers.peer.transport is not None)
    ours = peers.peer
    assert ours is not None
    try:
        yield ours.transport, client  # type: ignore[misc]
    finally:
        for each in (ours, client):
            if each.lost is None:
                each.transport.abortConnection()  # type: ignore[union-attr]
        await eventually(lambda: ours.lost is not None and client.lost is not None)
        await port.stopListening()


class Raw(Peer):
    """A client whose TLS does nothing by itself; ``received`` is what came over the wire."""

    def __init__(self, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        super().__init__()
        context = ssl.create_default_context(cadata=self_signed().pem.decode())
        context.set_alpn_protocols(["h2"])
        context.maximum_version = newest
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes, server_hostname="127.0.0.1")

    def dataReceived(self, data: bytes) -> None:
        """Have it for TLS to read."""
        super().dataReceived(data)
        self.came.write(data)

    def step(self) -> bool:
        """Go on with the handshake; whether it is over."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.transport.write(self.goes.read())  # type: ignore[union-attr]
        return True

    def sealed(self, data: bytes) -> bytes:
        """These bytes as records."""
        self.tls.write(data)
        return self.goes.read()

    def read(self) -> bytes:
        """What is there, decrypted; empty where there is nothing."""
        pieces = []
        with suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.tls.read(1 << 16):
                pieces.append(piece)
        return b"".join(pieces)


@asynccontextmanager
async def raw(client: Raw | None = None) -> AsyncIterator[tuple[SecureServer, Peer, Raw]]:
    """Our side of a connection, what it talks for, and a client that has not said a word."""
    peers = Peers()
    port = listen(peers, is_secure=True)
    client = client or Raw()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
    await eventually(lambda: peers.peer is not None and peers.peer.transport is not None)
    ours = peers.peer
    assert ours is not None
    try:
        yield ours.transport, ours, client  # type: ignore[misc]
    finally:
        for each in (ours, client):
            if each.lost is None:
                each.transport.abortConnection()  # type: ignore[union-attr]
        await eventually(lambda: ours.lost is not None and client.lost is not None)
        await port.stopListening()
